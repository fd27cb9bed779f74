"""Checks of `shard_velocity` on 8 devices, each of them a function."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import momentax
from momentax import shard_velocity, storage
from tests.collectives import count_collectives

# Two matrices, a vector, and what is not divisible by the number of devices.
SHAPES = {"w": (16, 256), "u": (6, 8), "b": (2048,), "odd": (3, 5), "scale": ()}
SPLIT = {"w": P("data"), "u": P(None, "data"), "b": P("data"), "odd": P(), "scale": P()}
DIVISIBLE = [key for key, spec in SPLIT.items() if any(spec)]
UPDATES = 3


def results_of_products(program):
    """Return the shapes of the results of all products of matrices in a program."""
    found = re.findall(r" = \w+\[([\d,]*)\]\S* (?:dot|custom-call)\(", program.as_text())
    return {tuple(map(int, dims.split(","))) for dims in found if dims}


def stored(tx):
    return momentax.stored(tx, storage.int8(64), min_size=1000)


DESCENT = momentax.sgd(0.1, momentax.nesterov(0.9), weight_decay=0.01)
TRANSFORMATIONS = {
    "sgd": lambda shard: shard(DESCENT),
    "adamw": lambda shard: shard(optax.adamw(1e-2)),
    "aggregated": lambda shard: shard(momentax.sgd(0.1, momentax.aggregated((0.5, 0.9)))),
    "int8": lambda shard: shard(stored(DESCENT)),
    "guard": lambda shard: shard(momentax.guard(DESCENT)),
    "monitor": lambda shard: shard(momentax.monitor(DESCENT)),
    "injected": lambda shard: shard(optax.inject_hyperparams(optax.sgd)(1e-2, momentum=0.9)),
    "multi_steps": lambda shard: shard(optax.MultiSteps(DESCENT, 2).gradient_transformation()),
    "clipped": lambda shard: optax.chain(optax.clip_by_global_norm(1.0), shard(DESCENT)),
    "inject": lambda shard: optax.inject_hyperparams(lambda rate: shard(momentax.sgd(rate)))(0.1),
}
# On explicit axes the types are the same for all that is elementwise.
EXPLICIT = ("sgd", "adamw", "aggregated", "int8", "clipped")


def tree(seed):
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.normal(size=shape), np.float32) for key, shape in SHAPES.items()}


def put(tree, mesh, specs=None):
    specs = specs or dict.fromkeys(tree, P())
    return {key: jax.device_put(x, NamedSharding(mesh, specs[key])) for key, x in tree.items()}


def bytes_a_device(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def places(array, mesh, spec):
    return array.sharding.is_equivalent_to(NamedSharding(mesh, spec), array.ndim)


def updates_of(transformations):
    """Return a function that makes one update with each of several transformations."""

    def update(gradients, states, params):
        updates, after = {}, {}
        for name, tx in transformations.items():
            updates[name], after[name] = tx.update(gradients, states[name], params)
        return updates, after

    return update


def on_automatic_axes_all_is_as_without_it_but_the_bytes():
    with jax.numpy_dtype_promotion("standard"):  # For Optax.
        check_all(AxisType.Auto, TRANSFORMATIONS)


def on_explicit_axes_all_is_as_without_it_but_the_bytes():
    with jax.numpy_dtype_promotion("standard"):
        check_all(AxisType.Explicit, EXPLICIT)


def check_all(kind, names):
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    plain = {name: TRANSFORMATIONS[name](lambda tx: tx) for name in names}
    sharded = {
        name: TRANSFORMATIONS[name](lambda tx: shard_velocity(tx, mesh, "data")) for name in names
    }
    params = put(tree(0), mesh)
    states = jax.jit(lambda params: {name: sharded[name].init(params) for name in names})(params)
    whole = {name: tx.init(tree(0)) for name, tx in plain.items()}
    update = jax.jit(updates_of(sharded)).lower(params, states, params).compile()
    sent = count_collectives(update, least=40)  # The monitor sends a few numbers.
    assert sent["all-gather"] == len(names) * len(DIVISIBLE), sent
    assert not sent.keys() - {"all-gather", "all-reduce"}, sent
    update_whole = jax.jit(updates_of(plain))
    for seed in range(UPDATES):
        expected, whole = update_whole(tree(seed), whole, tree(0))
        updates, states = update(put(tree(seed), mesh), states, params)
        for name in names:
            for key in SHAPES:
                assert places(updates[name][key], mesh, P()), (name, key)
                np.testing.assert_allclose(
                    updates[name][key], expected[name][key], rtol=2e-5, atol=1e-6, err_msg=name
                )
    for name in {*names} - {"aggregated"}:
        v = momentax.velocity(states[name])
        for key, spec in SPLIT.items():
            assert places(v[key], mesh, spec), (name, key, v[key].sharding)
    # The state of what is divisible takes an eighth of the bytes on each device.
    odd, scale = 3 * 5 * 4, 4
    for name, rest in {"sgd": odd, "adamw": 2 * odd, "aggregated": 2 * (odd + scale)}.items():
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(whole[name]) if leaf.ndim)
        assert bytes_a_device(states[name]) == (total - rest) / 8 + rest, name
    # 1 byte an entry and 4 for each block of 64; `u` is small and stays in float32.
    entries = 16 * 256 + 2048
    coded = entries * (1 + 4 / 64) / 8 + 6 * 8 * 4 / 8 + odd
    assert bytes_a_device(states["int8"]) == coded


def a_dimension_that_another_axis_splits_stays_split():
    specs = {"w": P(None, "model"), "u": P(), "b": P("model"), "odd": P(), "scale": P()}
    expected = {
        "w": P("data", "model"), "u": P(None, "data"), "b": P(("model", "data")),
        "odd": P(), "scale": P(),
    }  # fmt: skip
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
        tx = shard_velocity(DESCENT, mesh, "data")
        params, g = put(tree(0), mesh, specs), put(tree(1), mesh, specs)
        state = tx.init(params)
        update = jax.jit(tx.update).lower(g, state, params).compile()
        sent = count_collectives(update)
        assert sent == {"all-gather": len(DIVISIBLE)}, sent
        updates, state = update(g, state, params)
        plain, _ = DESCENT.update(tree(1), DESCENT.init(tree(0)), tree(0))
        for key in SHAPES:
            assert places(momentax.velocity(state)[key], mesh, expected[key]), key
            assert places(updates[key], mesh, specs[key]), key
            np.testing.assert_allclose(updates[key], plain[key], rtol=1e-5, atol=1e-7)
        # Several axes of the mesh together.
        both = shard_velocity(DESCENT, mesh, ("data", "model"))
        v = momentax.velocity(jax.jit(both.init)(put(tree(0), mesh)))
        assert places(v["w"], mesh, P(("data", "model"))), v["w"].sharding
        assert v["u"].addressable_shards[0].data.shape == (6, 1)


def a_training_run_keeps_the_parameters_whole_and_donates():
    """The compiler would split the parameters in a loop, if it were not told."""
    x = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)

    def loss(params, x):
        return jnp.mean((jnp.tanh(x @ params["w"] + params["b"][None, :256]) @ params["w"].T) ** 2)

    whole, _, _ = momentax.train_step(loss, DESCENT, steps_per_call=3)(
        *(start := tree(0), DESCENT.init(start)), *[np.stack([x] * 3)]
    )
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    tx = shard_velocity(DESCENT, mesh, "data")
    params = put(tree(0), mesh)
    state = tx.init(params)
    before = jax.tree.leaves((params, state))
    batch = jax.device_put(np.stack([x] * 3), NamedSharding(mesh, P(None, "data")))
    params, state, _ = momentax.train_step(loss, tx, steps_per_call=3)(params, state, batch)
    assert all(leaf.is_deleted() for leaf in before)
    for key, spec in SPLIT.items():
        assert places(params[key], mesh, P()), (key, params[key].sharding)
        assert places(momentax.velocity(state)[key], mesh, spec), key
        np.testing.assert_allclose(params[key], whole[key], rtol=1e-4, atol=1e-5)


def updated(tx, params):
    return tx.update(params, tx.init(params), params)


def outside_of_jit_and_under_vmap_the_numbers_are_the_same():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("data",), (kind,))
        tx = shard_velocity(DESCENT, mesh, "data")
        plain, _ = DESCENT.update(tree(1), DESCENT.init(tree(0)), tree(0))
        for params, g in ((put(tree(0), mesh), put(tree(1), mesh)), (tree(0), tree(1))):
            updates, state = tx.update(g, tx.init(params), params)
            for key, spec in SPLIT.items():
                assert places(momentax.velocity(state)[key], mesh, spec), key
                np.testing.assert_allclose(updates[key], plain[key], rtol=1e-5, atol=1e-7)
        # A batch of parameters: every member is split in the same way.
        run = jax.vmap(partial(updated, tx))
        two = put({key: np.stack([x, 2 * x]) for key, x in tree(0).items()}, mesh)
        updates, state = jax.jit(run)(two)
        plain, _ = DESCENT.update(tree(0), DESCENT.init(tree(0)), tree(0))
        for key, spec in SPLIT.items():
            np.testing.assert_allclose(updates[key][0], plain[key], rtol=1e-5, atol=1e-7)
            v = momentax.velocity(state)[key]
            assert places(v, mesh, P(None, *spec)), (key, v.sharding)
        shapes = jax.eval_shape(tx.init, tree(0))
        assert jax.tree.structure(shapes) == jax.tree.structure(DESCENT.init(tree(0)))


def each_device_iterates_its_own_matrices():
    """Six single matrices are divided over eight devices, and so is a stack of eight."""
    rng = np.random.default_rng(0)

    def matrices(scale):
        single = {f"dense_{i}": {"kernel": rng.normal(size=(16, 32))} for i in range(6)}
        stack = {"experts": {"kernel": rng.normal(size=(8, 8, 24))}}
        return jax.tree.map(lambda x: np.asarray(scale * x, np.float32), single | stack)

    params, g = matrices(1), matrices(0.1)
    hidden = {"*": "hidden", "experts/kernel": "hidden bio"}
    for kind, after in ((AxisType.Auto, None), (AxisType.Explicit, "normuon")):
        tx = momentax.muon(0.02, roles=hidden, after=after)
        whole = jax.jit(tx.update).lower(g, tx.init(params), params).compile()
        expected, _ = whole(g, tx.init(params), params)
        mesh = jax.make_mesh((8,), ("data",), (kind,))
        sharded = shard_velocity(tx, mesh, "data")
        on_mesh, gradients = (
            jax.device_put(each, NamedSharding(mesh, P())) for each in (params, g)
        )
        state = sharded.init(on_mesh)
        program = jax.jit(sharded.update).lower(gradients, state, on_mesh).compile()
        updates, _ = program(gradients, state, on_mesh)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
            *map(jax.device_get, (updates, expected)),
        )
        # There and back for the six, and one gather of each update.
        sent = count_collectives(program, least=50)
        assert sent == {"all-to-all": 2, "all-gather": 7}, (kind, after, sent)
        assert {shape[0] for shape in results_of_products(program) if len(shape) == 3} <= {1}
        share = program.cost_analysis()["flops"] / whole.cost_analysis()["flops"]
        assert share < 0.2, share


def devices_along_other_axes_iterate_the_same_matrices():
    """The work of a device and its bytes, on a mesh for data and model parallel training."""
    rng = np.random.default_rng(0)
    params = {f"dense_{i}": {"kernel": rng.normal(size=(32, 64))} for i in range(8)}
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    tx = momentax.muon(0.02, roles={"*": "hidden"})
    state = tx.init(params)
    program = jax.jit(tx.update).lower(params, state, params).compile()
    work, kept = program.cost_analysis()["flops"], bytes_a_device(state)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
        on_mesh = {
            spec: jax.device_put(params, NamedSharding(mesh, spec)) for spec in (P(), P("model"))
        }
        shared = partial(shard_velocity, tx, mesh)
        found = {}
        for name, each, spec in (
            ("alone", tx, P()),
            ("data", shared("data"), P("model")),
            ("both", shared(("data", "model")), P("model")),
        ):
            state = each.init(on_mesh[spec])
            update = jax.jit(each.update).lower(on_mesh[spec], state, on_mesh[spec]).compile()
            found[name] = (update.cost_analysis()["flops"] / work, bytes_a_device(state) / kept)
        expected = {"alone": (1, 1), "data": (1 / 4, 1 / 8), "both": (1 / 8, 1 / 2)}
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=0.1, err_msg=name)


def an_optimizer_of_nnx_keeps_what_is_split():
    """`nnx.Optimizer` places each Variable of the state as its metadata says."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))

        class Model(nnx.Module):
            def __init__(self):
                w = np.linspace(-1, 1, 16 * 32, dtype=np.float32).reshape(16, 32)
                self.w = nnx.Param(jnp.asarray(w), out_sharding=(None, "model"))
                self.b = nnx.Param(jnp.zeros(16), out_sharding=(None,))

        def loss(model):
            return jnp.sum(jnp.square(model.w[...])) + jnp.sum(jnp.square(model.b[...] - 1))

        @nnx.jit
        def step(model, optimizer):
            optimizer.update(model, nnx.grad(loss)(model))

        with jax.set_mesh(mesh):
            model = Model()
            tx = shard_velocity(DESCENT, mesh, "data")
            optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
            for _ in range(2):
                v = nnx.to_pure_dict(nnx.state(momentax.velocity(optimizer.opt_state)))
                assert places(v["w"], mesh, P("data", "model")), v["w"].sharding
                assert places(v["b"], mesh, P("data")), v["b"].sharding
                step(model, optimizer)
            assert places(model.w[...], mesh, P(None, "model"))
            # The functional form, where gradients and state hold Variables.
            params = nnx.state(Model(), nnx.Param)
            state = tx.init(params)
            for _ in range(2):
                updates, state = tx.update(jax.tree.map(lambda x: 2 * x, params), state, params)
            assert places(updates["w"].get_value(), mesh, P(None, "model"))
            plain = {"w": np.asarray(Model().w[...]), "b": np.zeros(16, np.float32)}
        state = DESCENT.init(plain)
        for _ in range(2):
            g = {"w": 2 * plain["w"], "b": 2 * (plain["b"] - 1)}
            updates, state = DESCENT.update(g, state, plain)
            plain = optax.apply_updates(plain, updates)
        np.testing.assert_allclose(model.w[...], plain["w"], rtol=1e-5)
        np.testing.assert_allclose(model.b[...], plain["b"], rtol=1e-5)


def the_bytes_in_the_guide_are_those_of_the_state():
    blocks = {
        f"block_{i}": {
            "up": {"kernel": np.zeros((256, 1024), np.float32), "bias": np.zeros(1024, np.float32)},
            "down": {
                "kernel": np.zeros((1024, 256), np.float32),
                "bias": np.zeros(256, np.float32),
            },
        }
        for i in range(4)
    }
    params = blocks | {"embedding": np.zeros((1000, 256), np.float32)}
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    page = (Path(__file__).parents[2] / "docs/guides/devices.md").read_text()
    rows = re.findall(r"^\| `(.*)` \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for code, whole, split in rows:
        tx = eval(code, {"momentax": momentax, "optax": optax})
        for each, documented in ((tx, whole), (shard_velocity(tx, mesh, "data"), split)):
            assert f"{bytes_a_device(each.init(params)):,}" == documented, code
    assert f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters" in page


CHECKS = [
    on_automatic_axes_all_is_as_without_it_but_the_bytes,
    on_explicit_axes_all_is_as_without_it_but_the_bytes,
    a_dimension_that_another_axis_splits_stays_split,
    a_training_run_keeps_the_parameters_whole_and_donates,
    outside_of_jit_and_under_vmap_the_numbers_are_the_same,
    each_device_iterates_its_own_matrices,
    devices_along_other_axes_iterate_the_same_matrices,
    an_optimizer_of_nnx_keeps_what_is_split,
    the_bytes_in_the_guide_are_those_of_the_state,
]
