"""A run handed over in the middle: state and parameters from PyTorch and Keras, and back."""

import re
import sys
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import conventions
from momentax.conventions import (
    Counterpart,
    export_keras_state,
    export_params,
    export_torch_state,
    from_keras,
    from_torch,
    import_keras_state,
    import_params,
    import_torch_state,
    rescale_velocity,
)
from tests.conventions import trajectories
from tests.conventions.trajectories import HANDOVER, MAPPING, NAMES, SGD, STEPS, scheduled

TORCH = trajectories.read("torch.json")
KERAS = trajectories.read("keras.json")


def same(array):
    """What stands in for torch.from_numpy: the export hands over arrays of its own."""
    assert array.flags.writeable
    assert array.flags.c_contiguous
    return array


def state_dict(buffers, **group):
    """What optimizer.state_dict() returns, of buffers by number; None has had no gradient."""
    held = {i: {"momentum_buffer": b} for i, b in enumerate(buffers) if b is not None}
    numbers = list(range(len(buffers)))
    return {"state": held, "param_groups": [{"momentum": 0.9, **group, "params": numbers}]}


def recorded(count):
    """The model's checkpoint: its parameters, and the state dict of its optimizer."""
    point = TORCH["model"][str(count)]
    return point["params"], state_dict([point["buffers"][name] for name in NAMES], **SGD)


def agree(left, right, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), left, right)


# The run itself.


def rate(count):
    return jnp.asarray([trajectories.schedule_of(t) for t in range(80)])[count]


@pytest.mark.parametrize("first", [20, 40])
def test_a_pytorch_run_goes_on_in_jax_and_back(x64, first):
    arrays, checkpoint = recorded(first)
    params = import_params(arrays, trajectories.twin_params(), MAPPING)
    tx = from_torch(**checkpoint["param_groups"][0] | {"lr": rate})
    state = import_torch_state(
        checkpoint, params, MAPPING, state=tx.init(params), names=NAMES, count=first
    )
    params, state = trajectories.train(params, state, tx)

    expected, expected_state = recorded(first + HANDOVER)
    agree(export_params(params, MAPPING), expected)
    exported = export_torch_state(state, checkpoint, MAPPING, tensor=same, names=NAMES)
    assert exported["param_groups"] == expected_state["param_groups"]
    agree(exported["state"], expected_state["state"])


def test_the_state_goes_there_and_back_to_the_last_bit(x64):
    arrays, checkpoint = recorded(20)
    params = import_params(arrays, trajectories.twin_params(), MAPPING)
    chex.assert_trees_all_equal(export_params(params, MAPPING), arrays)
    state = import_torch_state(checkpoint, params, MAPPING, names=NAMES)
    exported = export_torch_state(state, checkpoint, MAPPING, tensor=same, names=NAMES)
    chex.assert_trees_all_equal(exported, checkpoint)


def test_flax_nnx_takes_the_same_run(x64):
    class Net(nnx.Module):
        def __init__(self, rngs):
            double = trajectories.DOUBLE
            self.conv = nnx.Conv(2, 3, (3, 3), padding="VALID", rngs=rngs, **double)
            self.out = nnx.Linear(27, 4, rngs=rngs, **double)

        def __call__(self, images):
            return self.out(jnp.tanh(self.conv(images)).reshape(len(images), -1))

    arrays, checkpoint = recorded(20)
    model = Net(nnx.Rngs(0))
    nnx.update(model, import_params(arrays, nnx.state(model, nnx.Param), MAPPING))
    tx = from_torch(**checkpoint["param_groups"][0] | {"lr": rate})
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.opt_state = import_torch_state(
        checkpoint,
        nnx.state(model, nnx.Param),
        MAPPING,
        state=optimizer.opt_state,
        names=NAMES,
        count=20,
    )
    images = jnp.asarray(trajectories.IMAGES.transpose(0, 2, 3, 1))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(images) - trajectories.LABELS) ** 2))(model)
        optimizer.update(model, grads)

    for _ in range(HANDOVER):
        step(model, optimizer)
    expected, expected_state = recorded(40)
    agree(export_params(nnx.state(model, nnx.Param), MAPPING), expected)
    exported = export_torch_state(
        optimizer.opt_state, checkpoint, MAPPING, tensor=same, names=NAMES
    )
    agree(exported["state"], expected_state["state"])


def test_a_keras_run_goes_on_in_jax_and_back(x64):
    options = {key: scheduled(value) for key, value in trajectories.KERAS["schedule, all"].items()}
    tx, half = from_keras(**options), STEPS // 2
    whole = trajectories.run(tx)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[half]), whole)
    mapping = {"w": Counterpart("dense/w", (0, 1)), "b": "dense/b"}  # A square kernel says how.
    variables = keras_variables("halfway")
    state = import_keras_state(variables, params, mapping, state=tx.init(params))
    agree(export_keras_state(state, variables, mapping), [v.value for v in variables], atol=0)

    step = jax.jit(tx.update)
    for _ in range(half, STEPS):
        updates, state = step(trajectories.gradient(**params, xp=jnp), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    agree(params, {key: path[-1] for key, path in KERAS["cases"]["schedule, all"].items()})
    agree(export_keras_state(state, variables, mapping), [v.value for v in keras_variables("end")])


class Variable(SimpleNamespace):
    """As much of a Keras variable as counts here."""

    def assign(self, value):
        self.value = value


def keras_variables(when):
    return [
        Variable(path=path, name=path.partition("/")[2], value=np.asarray(value))
        for path, value in KERAS[when].items()
    ]


# Into any pipeline.

PARAMS = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
BIAS = np.array([7, 8, 9], np.float32)
NAMED = {"kernel": Counterpart(0, (1, 0)), "bias": 1}
FULL = state_dict([KERNEL, BIAS])

PIPELINES = {
    "momentax.heavy_ball": momentax.heavy_ball(0.9),
    "momentax.sgd": momentax.sgd(0.1, momentax.nesterov(0.9)),
    "from_torch": from_torch(0.1, 0.9, 0.5),
    "optax.trace": optax.trace(0.9),
    "optax.sgd": optax.sgd(optax.linear_schedule(0.1, 0.0, 10), momentum=0.9),
    "chain": optax.chain(optax.clip(1.0), optax.chain(momentax.sgd(0.1)), optax.scale(1.0)),
    "inject_hyperparams": optax.inject_hyperparams(optax.sgd)(
        optax.linear_schedule(0.1, 0.0, 10), momentum=0.9
    ),
    "MultiSteps": optax.MultiSteps(momentax.sgd(0.1), 2).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(momentax.sgd(0.1), 3),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_fills_any_pipeline_that_sums_gradients(name):
    tx = PIPELINES[name]
    empty = tx.init(PARAMS)
    state = import_torch_state(FULL, PARAMS, NAMED, state=empty, count=5)
    expected = {"kernel": KERNEL.T, "bias": BIAS}
    chex.assert_trees_all_equal(momentax.velocity(state), jax.tree.map(jnp.asarray, expected))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, empty)
    counts = [
        int(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jax.tree_util.keystr(path).endswith(".count")
    ]
    assert set(counts) <= {5}
    assert counts or name == "optax.trace"
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides by a count.
        jax.jit(tx.update)(PARAMS, state, PARAMS)
    back = export_torch_state(state, FULL, NAMED, tensor=same)
    chex.assert_trees_all_equal(back, FULL)


def test_without_a_count_every_count_stays():
    tx = momentax.sgd(0.1)
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    state = import_torch_state(FULL, PARAMS, NAMED, state=state)
    assert conventions._state._counts(state) == [1]


def test_the_velocity_keeps_its_sharding():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = {"kernel": jax.device_put(PARAMS["kernel"], split), "bias": PARAMS["bias"]}
    state = import_torch_state(FULL, params, NAMED)
    velocity = momentax.velocity(state)
    assert velocity["kernel"].sharding == split
    assert not velocity["bias"].committed  # So that jit may still place it.


def test_a_partition_is_filled_at_once_or_branch_by_branch():
    tx = optax.partition(
        {"fast": from_torch(0.1, 0.9), "slow": from_torch(0.01, 0.9, 0.5)},
        {"kernel": "fast", "bias": "slow"},
    )
    groups = [{"params": [0]}, {"params": [1]}]
    checkpoint = {"state": FULL["state"], "param_groups": groups}
    with pytest.raises(ValueError, match="the state dict has 2 param groups: give each its "):
        import_torch_state(checkpoint, PARAMS, NAMED)
    state = tx.init(PARAMS)
    places = [f".inner_states['{name}'].inner_state[1].velocity" for name in ("fast", "slow")]
    for path in places:
        state = import_torch_state(checkpoint, PARAMS, NAMED, state=state, path=path)
    kernel, bias = (momentax.velocity(state, path=path) for path in places)
    np.testing.assert_array_equal(kernel["kernel"], KERNEL.T)
    np.testing.assert_array_equal(bias["bias"], BIAS)
    halves = [
        export_torch_state(state, checkpoint, NAMED, tensor=same, path=path) for path in places
    ]
    chex.assert_trees_all_equal(halves[0]["state"] | halves[1]["state"], FULL["state"])
    at_once = import_torch_state(checkpoint, PARAMS, NAMED, state=tx.init(PARAMS))
    chex.assert_trees_all_equal(at_once, state)
    chex.assert_trees_all_equal(
        export_torch_state(at_once, checkpoint, NAMED, tensor=same), checkpoint
    )


def test_frozen_parameters_need_no_place_in_the_optimizer():
    """They are in the model and in the mapping, but neither optimizer updates them."""
    tx = optax.partition(
        {"trained": from_torch(0.1, 0.9), "frozen": optax.set_to_zero()},
        {"kernel": "trained", "bias": "frozen"},
    )
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    checkpoint = state_dict([KERNEL], param_names=["w"])
    state = import_torch_state(checkpoint, PARAMS, mapping, state=tx.init(PARAMS))
    np.testing.assert_array_equal(momentax.velocity(state)["kernel"], KERNEL.T)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, mapping, tensor=same), checkpoint
    )


def test_a_buffer_that_the_state_has_no_velocity_for_is_not_dropped():
    tx = optax.masked(optax.trace(0.9), {"kernel": True, "bias": False})
    with pytest.raises(
        ValueError, match=r"1 belongs to no leaf: .* or the state keeps no velocity"
    ):
        import_torch_state(FULL, PARAMS, NAMED, state=tx.init(PARAMS))


def test_two_velocities_of_the_same_parameters_are_not_confused():
    state = optax.chain(optax.trace(0.9), optax.trace(0.5)).init(PARAMS)
    with pytest.raises(ValueError, match=re.escape("holds 2 velocities, at [0].trace, [1].trace")):
        import_torch_state(FULL, PARAMS, NAMED, state=state)
    state = import_torch_state(FULL, PARAMS, NAMED, state=state, path="[1].trace")
    assert not state[0].trace["bias"].any()
    np.testing.assert_array_equal(state[1].trace["bias"], BIAS)


def test_masked_parameters_stay_masked():
    tx = optax.masked(optax.trace(0.9), {"kernel": True, "bias": False})
    checkpoint = state_dict([KERNEL, None])
    state = import_torch_state(checkpoint, PARAMS, NAMED, state=tx.init(PARAMS))
    assert isinstance(momentax.velocity(state)["bias"], optax.MaskedNode)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, NAMED, tensor=same), checkpoint
    )


def test_a_missing_buffer_means_that_the_next_step_is_the_first():
    dampened = {"dampening": 0.5, "lr": 0.1}
    checkpoint = state_dict([KERNEL, None], **dampened)
    state = import_torch_state(checkpoint, PARAMS, NAMED)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, NAMED, tensor=same), checkpoint
    )
    tx = from_torch(**checkpoint["param_groups"][0])
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    _, state = tx.update(grads, state, PARAMS)
    np.testing.assert_allclose(momentax.velocity(state)["bias"], 1.0)  # Not dampened.
    np.testing.assert_allclose(momentax.velocity(state)["kernel"], 0.9 * KERNEL.T + 0.5, rtol=1e-6)
    held = dict(checkpoint["state"][0]) | {"momentum_buffer": None}
    fresh = import_torch_state(checkpoint | {"state": {0: held}}, PARAMS, NAMED)
    assert export_torch_state(fresh, checkpoint, NAMED, tensor=same)["state"] == {}
    assert not momentax.velocity(fresh)["kernel"].any()


def test_the_scale_is_the_velocitys_unit(x64):
    """A run whose rate changes no more goes on in other units, and undampened."""
    params = {"w": jnp.asarray(trajectories.START["w"]), "b": jnp.asarray(trajectories.START["b"])}
    mapping, rate = {"w": Counterpart(0, (0, 1)), "b": 1}, 0.02

    def go(tx, params, state, steps=HANDOVER):
        update = jax.jit(tx.update)
        for _ in range(steps):
            updates, state = update(trajectories.gradient(**params, xp=jnp), state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return params, state

    dampened = from_torch(rate, 0.9, 0.5)
    middle, state = go(dampened, params, dampened.init(params))
    end, final = go(dampened, middle, state)
    checkpoint = export_torch_state(state, state_dict([None, None]), mapping, tensor=same)
    for tx, scale in (
        (momentax.sgd(rate * 0.5, momentax.heavy_ball(0.9)), 2.0),
        (from_keras(rate * 0.5, 0.9), -rate),
        (momentax.sgd(rate, momentax.heavy_ball(0.9, dampening=0.5)), 1.0),
        (optax.sgd(rate * 0.5, momentum=0.9), 2.0),
    ):
        filled = import_torch_state(checkpoint, middle, mapping, state=tx.init(middle), scale=scale)
        there, filled = go(tx, middle, filled)
        agree(there, end)
        back = export_torch_state(filled, checkpoint, mapping, tensor=same, scale=scale)
        expected = export_torch_state(final, checkpoint, mapping, tensor=same)
        agree(back["state"], expected["state"])


def test_the_base_iterate_is_known_as_soon_as_the_run_is_here():
    """Of PyTorch's Nesterov it is θ = φ + α μ b."""
    checkpoint = state_dict([KERNEL, BIAS], nesterov=True, lr=0.1)
    state = import_torch_state(checkpoint, PARAMS, NAMED)
    base = momentax.eval_params(PARAMS, state, learning_rate=0.1)
    expected = {"kernel": 0.09 * KERNEL.T, "bias": 0.09 * BIAS}
    chex.assert_trees_all_close(base, jax.tree.map(jnp.asarray, expected), rtol=1e-6)


@pytest.mark.parametrize("conjugate", [False, True])
def test_complex_parameters_go_on_in_either_convention(x64, conjugate):
    matrix, target, _ = map(jnp.asarray, trajectories.complex_problem())
    first, second = (
        {key: jnp.asarray(part[0] + 1j * part[1]) for key, part in TORCH["complex"][at].items()}
        for at in ("20", "40")
    )
    checkpoint = state_dict([first["b"]], lr=0.02)
    conj = optax.stateless(lambda updates, _: jax.tree.map(jnp.conj, updates))
    last = optax.chain(conj, optax.scale(-0.02))
    tx = (
        optax.chain(optax.trace(0.9), last)
        if conjugate
        else optax.chain(conj, from_torch(0.02, 0.9))
    )
    params = first["z"]
    with pytest.raises(ValueError, match="the root is complex, and JAX's gradients are the conj"):
        import_torch_state(checkpoint, params, 0, state=tx.init(params))
    state = import_torch_state(checkpoint, params, 0, state=tx.init(params), conjugate=conjugate)
    grad = jax.jit(jax.grad(lambda z: jnp.sum(jnp.abs(jnp.dot(matrix, z) - target) ** 2)))
    for _ in range(HANDOVER):
        updates, state = tx.update(grad(params), state, params)
        params = params + updates
    agree(params, second["z"])
    back = export_torch_state(state, checkpoint, 0, tensor=same, conjugate=conjugate)
    agree(back["state"][0]["momentum_buffer"], second["b"])


# Names and axes.


@given(st.data())
def test_axes_are_undone_by_the_export(data):
    parts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    axes = tuple(data.draw(st.permutations(range(len(parts)))))
    cut = data.draw(st.integers(0, len(parts) - 1))
    shape = (*parts[:cut], tuple(parts[cut:]))  # The last axes there are one.
    there = np.random.default_rng(0).normal(size=[int(np.prod(size)) for size in shape])
    there = there.astype(np.float32)
    leaf = there.reshape(parts).transpose(axes).reshape(-1, parts[axes[-1]])
    mapping = Counterpart("w", axes, shape)
    params = import_params({"w": there}, jnp.zeros(leaf.shape), mapping)
    np.testing.assert_array_equal(params, leaf)
    np.testing.assert_array_equal(export_params(params, mapping)["w"], there)


def test_names_come_from_the_mapping_the_state_dict_or_the_caller():
    by_name = {"kernel": Counterpart("fc.weight", (1, 0)), "bias": "fc.bias"}
    by_path = {"['kernel']": Counterpart("fc.weight", (1, 0)), "['bias']": "fc.bias"}
    named = state_dict([KERNEL, BIAS], param_names=["fc.weight", "fc.bias"])
    keyed = {
        "state": {"fc.weight": FULL["state"][0], "fc.bias": FULL["state"][1]},
        "param_groups": [{"momentum": 0.9, "params": ["fc.weight", "fc.bias"]}],
    }
    expected = import_torch_state(FULL, PARAMS, NAMED)
    for mapping in (by_name, by_path):
        for checkpoint in (named, keyed):
            state = import_torch_state(checkpoint, PARAMS, mapping)
            chex.assert_trees_all_equal(state, expected)
            back = export_torch_state(state, checkpoint, mapping, tensor=same)
            chex.assert_trees_all_equal(back, checkpoint)
        state = import_torch_state(FULL, PARAMS, mapping, names=["fc.weight", "fc.bias"])
        chex.assert_trees_all_equal(state, expected)


def test_import_params_leaves_what_is_not_named_alone():
    arrays = {"w": KERNEL, "b": BIAS, "bn.num_batches_tracked": np.int64(3)}
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    params = import_params(arrays, PARAMS, mapping)
    np.testing.assert_array_equal(params["kernel"], KERNEL.T)
    with pytest.raises(
        ValueError, match=re.escape("'b' for the parameter at ['bias'] is missing; there are 'w'")
    ):
        import_params({"w": KERNEL}, PARAMS, mapping)


SQUARE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("checkpoint", "mapping", "kind", "message"),
    [
        (
            FULL,
            {"kernel": Counterpart(0, (1, 0))},
            ValueError,
            "mapping has no counterpart for the parameter at ['bias']; it names ['kernel']",
        ),
        (
            FULL,
            {**NAMED, "scale": 2},
            ValueError,
            "mapping names ['scale'] as 2, and the parameters have no such leaf; they have ",
        ),
        (FULL, {**NAMED, "bias": 0}, ValueError, "mapping gives 0 to both ['bias'] and ['kernel']"),
        (
            FULL,
            {**NAMED, "bias": 1.0},
            TypeError,
            "mapping at ['bias'] must be a name, a number or",
        ),
        (FULL, {**NAMED, "bias": True}, TypeError, "a counterpart's name must be a str or an int"),
        (
            FULL,
            {**NAMED, "bias": 2},
            ValueError,
            "the velocity of 2 for the parameter at ['bias'] is not in the optimizer, which has 0",
        ),
        (
            FULL,
            {**NAMED, "bias": "fc.bias"},
            ValueError,
            "the velocity of 'fc.bias' for the parameter at ['bias'] is not to be found: the "
            "state dict numbers its parameters; pass names, in the order",
        ),
        (
            state_dict([KERNEL, BIAS, BIAS]),
            NAMED,
            ValueError,
            "the velocity of 2 belongs to no leaf: the mapping omits it",
        ),
        (
            FULL,
            {**NAMED, "kernel": 0},
            ValueError,
            "the velocity of 0 for the parameter at ['kernel'] has shape (3, 2) where (2, 3) "
            "belongs; axes=(1, 0) would fit",
        ),
        (
            FULL,
            {**NAMED, "kernel": Counterpart(0, (0, 1))},
            ValueError,
            "has shape (3, 2) where (2, 3) belongs; axes=(1, 0) would fit",
        ),
        (
            state_dict([KERNEL, BIAS[:2]]),
            NAMED,
            ValueError,
            "the velocity of 1 for the parameter at ['bias'] has shape (2,) where (3,) belongs",
        ),
        (
            state_dict([KERNEL.astype(np.float64), BIAS]),
            NAMED,
            TypeError,
            "the velocity of 0 for the parameter at ['kernel'] has dtype float64, which float32 "
            "does not hold",
        ),
        (
            state_dict([KERNEL.astype(np.int32), BIAS]),
            NAMED,
            TypeError,
            "for the parameter at ['kernel'] has dtype int32 where float32 belongs",
        ),
        (
            state_dict([KERNEL * np.complex64(1), BIAS]),
            NAMED,
            TypeError,
            "for the parameter at ['kernel'] has dtype complex64, which float32 does not hold",
        ),
        (
            {**FULL, "state": {0: {"step": 3, "exp_avg": KERNEL}}},
            NAMED,
            TypeError,
            "the state dict holds 'exp_avg': it is not of torch.optim.SGD",
        ),
        (
            {**FULL, "state": {"0": FULL["state"][0]}},
            NAMED,
            ValueError,
            "the state dict holds a buffer for '0', which is in no group",
        ),
        (
            {"conv.weight": KERNEL},
            NAMED,
            TypeError,
            "state_dict must be what optimizer.state_dict()",
        ),
    ],
)
def test_a_misfit_names_the_leaf_and_its_counterpart(checkpoint, mapping, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        import_torch_state(checkpoint, PARAMS, mapping)


def test_a_square_kernel_needs_its_axes():
    """Its shape would not show that the transposition was forgotten."""
    params, checkpoint = {"w": jnp.zeros((3, 3))}, state_dict([SQUARE])
    with pytest.raises(ValueError, match=re.escape("say which: axes=(0, 1) or axes=(1, 0)")):
        import_torch_state(checkpoint, params, {"w": 0})
    state = import_torch_state(checkpoint, params, {"w": Counterpart(0, (0, 1))})
    with pytest.raises(ValueError, match="say which"):
        export_torch_state(state, checkpoint, {"w": 0}, tensor=same)
    column = {"w": jnp.zeros((3, 1, 1))}  # Axes of size 1 can go anywhere.
    import_torch_state(state_dict([BIAS.reshape(3, 1, 1)]), column, {"w": 0})


def test_a_counterpart_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match=re.escape("must order the numbers 0 to 1, got (0, 2)")):
        Counterpart("w", (0, 2))
    with pytest.raises(ValueError, match=re.escape("must order the numbers 0 to 3, got (1, 0)")):
        Counterpart("w", (1, 0), shape=(10, (2, 3, 3)))
    with pytest.raises(ValueError, match="'w' has a shape and needs axes too"):
        Counterpart("w", shape=(10, 4))
    leaf = {"w": jnp.zeros((18, 10))}
    flat = Counterpart("w", (2, 3, 1, 0), shape=(10, (2, 3, 3)))
    with pytest.raises(ValueError, match=re.escape("has shape (10, 16), and its counterpart says")):
        import_params({"w": np.zeros((10, 16), np.float32)}, leaf, {"w": flat})
    with pytest.raises(
        ValueError, match=re.escape("has shape (18, 10), and its axes are (1, 0, 2")
    ):
        import_params(
            {"w": np.zeros((18, 10), np.float32)}, leaf, {"w": Counterpart("w", (1, 0, 2))}
        )
    with pytest.raises(ValueError, match="and the leaf"):
        export_params({"w": jnp.zeros((16, 10))}, {"w": flat})
    with pytest.raises(ValueError, match="and the leaf"):
        export_params({"w": jnp.zeros(10)}, {"w": Counterpart("w", (1, 0))})


@pytest.mark.parametrize(
    "tx", [momentax.average(0.9), optax.ema(0.9), optax.adam(0.1), optax.lion(0.1)]
)
def test_what_is_no_sum_of_gradients_is_refused(tx):
    with pytest.raises(ValueError, match="which is not the sum of gradients that SGD keeps"):
        import_torch_state(FULL, PARAMS, NAMED, state=tx.init(PARAMS))
    with pytest.raises(ValueError, match="which is not the sum of gradients that SGD keeps"):
        export_torch_state(tx.init(PARAMS), FULL, NAMED, tensor=same)


def test_tensors_are_made_by_torch_unless_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=Tensor))
    state = import_torch_state(FULL, PARAMS, NAMED)
    exported = export_torch_state(state, FULL, NAMED)
    np.testing.assert_array_equal(exported["state"][0]["momentum_buffer"].array, KERNEL)


def test_names_may_come_one_by_one():
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    state = import_torch_state(FULL, PARAMS, mapping, names=iter("wb"))
    np.testing.assert_array_equal(momentax.velocity(state)["bias"], BIAS)


def test_the_other_arguments_are_checked():
    with pytest.raises(ValueError, match="scale must not be 0"):
        import_torch_state(FULL, PARAMS, NAMED, scale=0.0)
    with pytest.raises(ValueError, match="count must be a whole number, at least 0, got -1"):
        import_torch_state(FULL, PARAMS, NAMED, count=-1)
    with pytest.raises(ValueError, match="names has 1 names, and the optimizer 2 parameters"):
        import_torch_state(FULL, PARAMS, NAMED, names=["w"])
    other = momentax.sgd(0.1).init({"kernel": PARAMS["kernel"], "scale": jnp.ones(3)})
    with pytest.raises(ValueError, match=re.escape("['scale'] belongs to none of the params")):
        import_torch_state(FULL, PARAMS, NAMED, state=other)


class Tensor:
    """As much of a torch tensor as counts here, in torch's bfloat16 if it is narrow."""

    def __init__(self, array, narrow=False):
        self.array, self.dtype = array, "torch.bfloat16" if narrow else "torch.float32"

    def detach(self):
        raise AssertionError("numpy(force=True) detaches")

    def float(self):
        return Tensor(self.array)

    def numpy(self, force):
        assert force
        assert self.dtype == "torch.float32"
        return self.array


def test_tensors_are_read_wherever_they_live_bfloat16_too():
    checkpoint = state_dict([Tensor(KERNEL, narrow=True), Tensor(BIAS)])
    chex.assert_trees_all_equal(
        import_torch_state(checkpoint, PARAMS, NAMED), import_torch_state(FULL, PARAMS, NAMED)
    )
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    narrow = optax.trace(0.9, accumulator_dtype=jnp.bfloat16)
    checkpoint = state_dict([Tensor(KERNEL, narrow=True), Tensor(BIAS, narrow=True)])
    state = import_torch_state(checkpoint, params, NAMED, state=narrow.init(params))
    np.testing.assert_array_equal(state.trace["bias"].astype(jnp.float32), BIAS)


class Sparse(Tensor):
    """A sparse tensor, which torch makes no NumPy array of."""

    is_sparse = True

    def to_dense(self):
        return Tensor(self.array)

    def numpy(self, force):
        raise AssertionError("dense first")


def test_a_sparse_buffer_becomes_a_dense_velocity():
    checkpoint = state_dict([Sparse(KERNEL), BIAS])
    chex.assert_trees_all_equal(
        import_torch_state(checkpoint, PARAMS, NAMED), import_torch_state(FULL, PARAMS, NAMED)
    )


# Keras.


def made(*names, iteration=3):
    shapes = {"dense_kernel_momentum": KERNEL.T, "dense_bias_momentum": BIAS}
    values = {"iteration": iteration, "learning_rate": 0.5} | shapes
    return [
        Variable(path=f"sgd/{name}", name=name, value=np.asarray(values.get(name, BIAS)))
        for name in ("iteration", "learning_rate", *names)
    ]


KERAS_NAMES = {"kernel": "dense/kernel", "bias": "dense/bias"}
BOTH = made("dense_kernel_momentum", "dense_bias_momentum")


def test_keras_velocities_are_found_by_path_or_number():
    tx = from_keras(0.5, 0.9)
    for mapping in (KERAS_NAMES, {"kernel": 0, "bias": 1}):
        state = import_keras_state(BOTH, PARAMS, mapping, state=tx.init(PARAMS))
        np.testing.assert_array_equal(momentax.velocity(state)["kernel"], KERNEL.T)
        np.testing.assert_array_equal(momentax.velocity(state)["bias"], BIAS)
        assert conventions._state._counts(state) == [3]
        agree(export_keras_state(state, BOTH, mapping), [v.value for v in BOTH], atol=0)


def test_keras_velocities_in_gradient_units():
    tx = optax.sgd(0.5, momentum=0.9)
    state = import_keras_state(BOTH, PARAMS, KERAS_NAMES, state=tx.init(PARAMS), scale=-1 / 0.5)
    np.testing.assert_array_equal(momentax.velocity(state)["bias"], -2 * BIAS)
    with pytest.raises(ValueError, match=re.escape("the state holds the counts []: pass count=")):
        export_keras_state(state, BOTH, KERAS_NAMES, scale=-1 / 0.5)
    values = export_keras_state(state, BOTH, KERAS_NAMES, scale=-1 / 0.5, count=3)
    agree(values, [v.value for v in BOTH], atol=0)


def test_keras_without_momentum_keeps_no_velocity():
    tx, variables = from_keras(0.5), made()
    state = import_keras_state(variables, PARAMS, KERAS_NAMES, state=tx.init(PARAMS))
    assert not momentax.velocity(state)["bias"].any()
    agree(export_keras_state(state, variables, KERAS_NAMES), [3, 0.5], atol=0)


@pytest.mark.parametrize(
    ("variables", "kind", "message"),
    [
        (
            made("dense_kernel_momentum"),
            ValueError,
            "the velocity of 'dense/bias' for the parameter at ['bias'], for Keras "
            "'dense_bias_momentum', is not there; it has 'dense_kernel_momentum', numbered from 0",
        ),
        (
            made("dense_kernel_momentum", "dense_bias_momentum", "dense_bias_momentum"),
            ValueError,
            "for Keras 'dense_bias_momentum', is there several times; it has",
        ),
        (
            made("dense_kernel_momentum", "dense_bias_momentum", "head_bias_momentum"),
            ValueError,
            "belongs to no leaf: the mapping omits it",
        ),
        (made("dense_kernel_velocity"), TypeError, "the variables hold 'dense_kernel_velocity'"),
    ],
)
def test_a_misfit_with_keras_is_a_sentence(variables, kind, message):
    state = from_keras(0.5, 0.9).init(PARAMS)
    with pytest.raises(kind, match=re.escape(message)):
        import_keras_state(variables, PARAMS, KERAS_NAMES, state=state)


@pytest.mark.parametrize("variables", [3, "sgd", [np.zeros(3)], SimpleNamespace(variables=BOTH)])
def test_what_are_no_variables_is_a_sentence(variables):
    state = from_keras(0.5, 0.9).init(PARAMS)
    message = "variables must be optimizer.variables of a keras.optimizers.SGD, got "
    with pytest.raises(TypeError, match=message):
        import_keras_state(variables, PARAMS, KERAS_NAMES, state=state)
    with pytest.raises(TypeError, match=message):
        export_keras_state(state, variables, KERAS_NAMES)


def test_keras_holds_its_learning_rate_in_a_variable():
    rate = Variable(path="sgd/learning_rate", name="learning_rate", value=np.float32(0.5))
    tx, expected = from_keras(rate, 0.9), from_keras(0.5, 0.9)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    chex.assert_trees_all_equal(
        tx.update(grads, tx.init(PARAMS)), expected.update(grads, expected.init(PARAMS))
    )


def test_a_velocity_that_keras_has_no_room_for_is_refused():
    state = from_keras(0.5, 0.9).init({"kernel": jnp.zeros((3, 2)), "bias": PARAMS["bias"]})
    with pytest.raises(ValueError, match=re.escape("has shape (3, 2), Keras's (2, 3)")):
        export_keras_state(state, BOTH, KERAS_NAMES)


# The momentum correction.


@pytest.mark.parametrize("nesterov", [False, True])
def test_one_change_of_the_rate_corrected_makes_either_unit_the_other(x64, nesterov):
    old, new = 0.02, 0.005

    def rate(count):
        return jnp.where(count < HANDOVER, old, new)

    method = momentax.nesterov(0.9) if nesterov else momentax.heavy_ball(0.9)

    def run(units, correct):
        tx = momentax.sgd(rate, method, velocity_units=units)
        update = jax.jit(tx.update)
        params = jax.tree.map(jnp.asarray, trajectories.START)
        state, path = tx.init(params), []
        for t in range(2 * HANDOVER):
            if correct and t == HANDOVER:
                state = rescale_velocity(state, old, new, velocity_units=units)
            updates, state = update(trajectories.gradient(**params, xp=jnp), state, params)
            params = jax.tree.map(jnp.add, params, updates)
            path.append(params["w"])
        return np.stack(path)

    gradient, parameter = run("gradient", correct=False), run("parameter", correct=False)
    np.testing.assert_allclose(run("parameter", correct=True), gradient, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run("gradient", correct=True), parameter, rtol=0, atol=1e-12)
    assert abs(gradient - parameter).max() > 1e-3


@pytest.mark.parametrize("name", PIPELINES)
def test_rescales_the_velocity_of_any_pipeline_and_nothing_else(name):
    tx = PIPELINES[name]
    state = import_torch_state(FULL, PARAMS, NAMED, state=tx.init(PARAMS))
    doubled = jax.jit(rescale_velocity)(state, 0.1, 0.2)
    expected = jax.tree.map(lambda leaf: 2 * leaf, momentax.velocity(state))
    chex.assert_trees_all_close(momentax.velocity(doubled), expected)
    chex.assert_trees_all_close(momentax.replace_velocity(doubled, momentax.velocity(state)), state)
    back = rescale_velocity(doubled, 0.1, 0.2, velocity_units="gradient")
    chex.assert_trees_all_close(back, state)


def test_traced_rates_pass_and_a_new_rate_of_zero_stops_a_velocity_of_steps():
    state = (
        momentax.heavy_ball().init(PARAMS)._replace(velocity=jax.tree.map(jnp.ones_like, PARAMS))
    )
    rates = jnp.array([0.0, 0.1, 0.4])
    many = jax.vmap(lambda new: rescale_velocity(state, 0.2, new).velocity["bias"])(rates)
    np.testing.assert_allclose(many[:, 0], [0.0, 0.5, 2.0], rtol=1e-6)
    assert not rescale_velocity(state, 0.2, 0.0).velocity["bias"].any()


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), jnp.zeros(())], ids=repr)
def test_a_rate_of_zero_has_no_correction(zero):
    state = momentax.heavy_ball().init(PARAMS)
    for units in ("parameter", "gradient"):
        with pytest.raises(
            ValueError, match=re.escape("old_learning_rate must be in (0, inf), got")
        ):
            rescale_velocity(state, zero, 0.1, velocity_units=units)
    with pytest.raises(ValueError, match=re.escape("new_learning_rate must be in (0, inf), got")):
        rescale_velocity(state, 0.1, zero, velocity_units="gradient")


def test_a_wrong_rate_is_a_sentence():
    state = momentax.heavy_ball().init(PARAMS)
    with pytest.raises(TypeError, match="old_learning_rate must be a number or a 0-d array"):
        rescale_velocity(state, lambda _: 0.1, 0.1)
    with pytest.raises(
        ValueError, match=re.escape("new_learning_rate must be in [0, inf), got -1")
    ):
        rescale_velocity(state, 0.1, -1)
    with pytest.raises(ValueError, match="velocity_units must be one of 'parameter', 'gradient'"):
        rescale_velocity(state, 0.1, 0.1, velocity_units="steps")
