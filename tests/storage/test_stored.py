"""stored: the encoded state, the walk to its velocity, and the direction computed from it."""

import pickle
import re
from functools import cache, partial

import chex
import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax import storage, stored
from momentax._core.codecs import unpack
from momentax.storage import bytes_per_parameter
from tests.compilation import fully_optimized
from tests.storage.cases import RANDOM, STORAGES, wrap
from tests.storage.pipelines import INNER, STEPS, runs, tree

every_storage = pytest.mark.parametrize("kind", STORAGES)


def encoded_velocity(state):
    """The velocity in the state of a stored bare method, its large leaves encoded."""
    return unpack(state.inner_state.velocity)


class Repeated(eqx.Module):
    """A module with numbers of Python's among its leaves."""

    w: jax.Array
    repeats: int = 3
    squares: bool = True
    factor: float = 0.5
    phase: complex = 1j

    def __call__(self):
        return sum(self.factor * jnp.sum(self.w**2) for _ in range(self.repeats))


@pytest.mark.parametrize("inner", [momentax.sgd(0.1), optax.sgd(0.1, momentum=0.9)])
def test_the_numbers_in_a_module_are_returned_as_the_wrapped_transformation_returns_them(inner):
    module, tx = Repeated(jnp.ones(3)), stored(inner, storage.bfloat16(), min_size=1)
    arrays = eqx.filter(module, eqx.is_inexact_array)
    gradient = eqx.filter_grad(lambda module: module())
    numbers = []
    for each in (inner, tx):
        state, moved = each.init(arrays), module
        for _ in range(2):
            u, state = each.update(gradient(moved), state, moved)
            moved = eqx.apply_updates(moved, u)
        numbers.append([(type(x), x) for x in jax.tree.leaves(u)[1:] + jax.tree.leaves(moved)[1:]])
        assert (moved.repeats, moved.squares, moved.phase) == (3, True, 1j)
        assert [type(leaf) for leaf in jax.tree.leaves(moved)[1:]] == [int, bool, float, complex]
        eqx.filter_jit(gradient)(moved)
    assert numbers[0] == numbers[1]


# The stored state.


@every_storage
def test_a_large_velocity_takes_the_bytes_of_its_storage_and_a_small_one_is_not_encoded(kind):
    case = STORAGES[kind]
    params = {"large": jnp.zeros((1024, 1024)), "small": jnp.zeros(4095)}
    v = encoded_velocity(wrap(kind, momentax.heavy_ball(0.9)).init(params))
    assert v["small"].dtype == jnp.float32
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(v["large"])) == 2**20 * case.bytes
    large = wrap(kind, momentax.heavy_ball(0.9)).init(params["large"])
    assert case.bytes <= bytes_per_parameter(large) < case.bytes + 1e-4
    assert bytes_per_parameter(large) == bytes_per_parameter(large, params=params["large"])
    adam = jax.eval_shape(wrap(kind, optax.adam(1e-3)).init, params)
    assert bytes_per_parameter(adam) < 4 + case.bytes + 0.02


@every_storage
def test_the_state_is_that_of_the_wrapped_transformation_with_a_count_and_a_seed(kind):
    case = STORAGES[kind]
    assert isinstance(case.make(), storage.Storage)
    state = runs("sgd")[kind].state
    assert isinstance(state, momentax.states.StoredState)
    assert (state.wrapper_count, state.wrapper_count.dtype) == (STEPS, jnp.int32)
    assert (state.seed is not None) == case.is_random
    plain = momentax.sgd(0.1, momentax.heavy_ball(0.9)).init(tree())
    part = state.inner_state[1].velocity
    # Rules that shard by path find the arrays where the velocity has its leaves.
    chex.assert_trees_all_equal_structs(part.values, plain[1].velocity)
    chex.assert_trees_all_equal_structs(
        state.inner_state[1]._replace(velocity=part.values), plain[1]
    )


@every_storage
def test_where_selects_parameters_and_float64_and_complex_velocities_are_not_encoded(kind):
    params = {"a": {"b": jnp.ones(5000), "c": jnp.ones(5000)}, "d": jnp.ones(5000, jnp.complex64)}
    for where in (
        {"a": {"b": True, "c": False}, "d": True},
        lambda params: {"a": {"b": True, "c": False}, "d": False},
    ):
        v = encoded_velocity(wrap(kind, momentax.heavy_ball(0.9), where=where).init(params))
        assert not isinstance(v["a"]["b"], jax.Array)
        assert isinstance(v["a"]["c"], jax.Array)
        assert v["d"].dtype == jnp.complex64
    v = encoded_velocity(wrap(kind, momentax.heavy_ball(0.9), where=False).init(params))
    chex.assert_trees_all_equal_structs(v, params)


# Where the velocity is found, and what the direction is computed from.


@every_storage
@pytest.mark.parametrize("inner", INNER)
def test_the_direction_is_computed_from_the_velocity_as_it_is_kept(kind, inner):
    _, updates, state = runs(inner)[kind]
    _, exact_updates, exact = runs(inner)[None]
    u, v = np.asarray(updates["large"]), np.asarray(momentax.velocity(state)["large"])
    assert v.dtype == np.float32
    factor = np.sum(np.asarray(exact_updates["large"])) / np.sum(
        np.asarray(momentax.velocity(exact)["large"], np.float32)
    )
    # These round or select the new velocity once more before it enters the state.
    later = inner in ("optax.trace in bfloat16", "MultiSteps")
    np.testing.assert_allclose(u, factor * v, atol=(0.05 if later else 1e-5) * np.abs(u).max())
    difference = np.abs(u - np.asarray(exact_updates["large"])).max()
    assert 0 < difference < 0.1 * np.abs(u).max() or later
    if isinstance(updates["small"], jax.Array) and not later:
        chex.assert_trees_all_close(updates["small"], exact_updates["small"], rtol=1e-6)


@every_storage
def test_the_first_moment_of_adam_is_encoded_and_the_second_is_not(kind):
    state, exact_state = runs("adam")[kind].state, runs("adam")[None].state
    moments, exact = state.inner_state[0], exact_state[0]
    chex.assert_trees_all_close(moments.nu, exact.nu, rtol=1e-6)
    assert not isinstance(unpack(moments.mu)["large"], jax.Array)
    chex.assert_trees_all_close(
        momentax.velocity(state),
        momentax.velocity(exact_state),
        atol=0.05 * float(jnp.max(exact.mu["large"])),
    )


def test_updates_are_those_of_float32_to_the_bit_below_the_least_size():
    params = tree()
    tx = momentax.sgd(0.1, momentax.nesterov(0.9))
    txs = [tx, *(wrap(kind, tx, min_size=5001) for kind in STORAGES)]

    @jax.jit
    def step(states, g):
        return [tx.update(g, s, params) for tx, s in zip(txs, states, strict=True)]

    pairs = [(None, tx.init(params)) for tx in txs]
    for seed in range(STEPS):
        pairs = step([state for _, state in pairs], tree(seed + 1))
    for updates, _ in pairs[1:]:
        chex.assert_trees_all_equal(updates, pairs[0][0])


@every_storage
@pytest.mark.parametrize("velocity", ["the gradient", "the parameters", "a constant"])
def test_a_velocity_that_is_an_input_or_a_constant_is_also_encoded(kind, velocity):
    expected = {
        "the gradient": tree(STEPS),
        "the parameters": tree(),
        "a constant": jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), tree()),
    }[velocity]
    found = momentax.velocity(runs(velocity)[kind].state)
    chex.assert_trees_all_close(found, expected, rtol=1e-2, atol=0.03)


# The contracts on leaves that are encoded; tests/test_contracts.py has the others.


@every_storage
def test_a_leaf_without_a_gradient_keeps_its_velocity_to_the_bit(kind):
    tx, _, state = runs("nesterov")[kind]
    params = tree()
    after = jax.jit(tx.update)({"large": None, "small": params["small"]}, state, params)[1]
    before, after = encoded_velocity(state), encoded_velocity(after)
    chex.assert_trees_all_equal(after["large"], before["large"])


@every_storage
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_skipped_step_keeps_the_velocity_to_the_bit(kind, place):
    """The velocity passes through a conditional, which decodes and encodes it."""
    tx, _, state = runs(f"skipping {place}")[kind]
    held, update = momentax.velocity(state), jax.jit(tx.update)
    for _ in range(3):
        _, state = update(jax.tree.map(lambda leaf: leaf * jnp.nan, tree()), state, tree())
    chex.assert_trees_all_equal(momentax.velocity(state), held)


@every_storage
def test_one_trace_scan_donation_and_eval_shape(kind):
    tx, params = wrap(kind, momentax.sgd(0.1)), tree()
    state = tx.init(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(tx.init, params), state)

    chex.clear_trace_counter()

    @partial(jax.jit, donate_argnums=(0, 1))
    @chex.assert_max_traces(n=1)
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    looped, given = (jax.tree.map(jnp.copy, params), tx.init(params)), jax.tree.leaves(state)
    gradients = [tree(seed) for seed in range(5)]
    for g in gradients:
        looped = step(*looped, g)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)

    def body(carry, g):
        updates, after = tx.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), after), None

    scanned, _ = jax.lax.scan(body, (params, state), stacked)
    chex.assert_trees_all_close(scanned[0], looped[0], rtol=1e-5, atol=1e-6)
    step(params, state, gradients[0])
    assert all(leaf.is_deleted() for leaf in given)


@every_storage
def test_sharding_follows_the_parameters_and_changes_no_bit(kind):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    tx = wrap(kind, momentax.nesterov(0.9))
    shapes = [(8, 1024), (16384,), (8192, 3)]
    rng = np.random.default_rng(0)
    gradients = [[jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes] for _ in range(3)]

    def run_on(place):
        params = place([jnp.ones(shape) for shape in shapes])
        state = tx.init(params)
        compiled = fully_optimized(jax.jit(tx.update).lower(place(gradients[0]), state, params))
        start = state
        for g in gradients:
            direction, state = compiled(place(g), state, params)
        return direction, state, start, compiled.as_text()

    d, state, start, text = run_on(partial(jax.device_put, device=rows))
    for leaf in jax.tree.leaves((d, state.inner_state.velocity, start.inner_state.velocity)):
        assert leaf.sharding.is_equivalent_to(rows, leaf.ndim)
    assert not re.findall(r"all-gather|all-reduce|all-to-all|collective-permute", text)
    on_one_device = run_on(lambda x: x)[:2]
    chex.assert_trees_all_equal(jax.device_get((d, state)), jax.device_get(on_one_device))


# Shapes and the axes over which they are sharded, and whether shards hold whole blocks of 256.
SHARDED = {
    "rows": ((8, 1024), ("rows",), True),
    "columns": ((8, 1024), (None, "rows"), True),
    "flat": ((16384,), ("rows",), True),
    "leading part of a block": ((128, 64), ("rows",), True),
    "trailing part of a block": ((128, 64), (None, "rows"), False),
    "a shorter last block": ((6000,), ("rows",), False),
    "half a block each": ((32, 128), (None, "rows"), False),
    "replicated": ((6000,), (), True),
}


@pytest.mark.parametrize("case", SHARDED)
@every_storage
def test_on_explicit_axes_init_says_which_leaf_has_shards_without_whole_blocks(kind, case):
    shape, spec, fits = SHARDED[case]
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    tx = wrap(kind, momentax.heavy_ball(0.9))
    with jax.set_mesh(mesh):
        leaf = jax.device_put(jnp.ones(shape), jax.sharding.PartitionSpec(*spec))
        params = {"dense": {"kernel": leaf}}
        if kind == "int8" and not fits:
            message = r"velocity at \['dense'\]\['kernel'\] has the shape .* whole blocks of this"
            for init in (tx.init, jax.jit(tx.init)):
                with pytest.raises(ValueError, match=message):
                    init(params)
            wrap(kind, momentax.heavy_ball(0.9), where=False).init(params)
            return
        state = tx.init(params)
        after = jax.jit(tx.update)(params, state, params)[1]
        types = [jax.tree.map(jax.typeof, each) for each in (state, after)]
        assert types[0] == types[1]
        np.testing.assert_allclose(momentax.velocity(after)["dense"]["kernel"], 1.0)


@every_storage
def test_checkpoints_restore_the_state(kind):
    tx, _, state = runs("sgd")[kind]
    chex.assert_trees_all_equal(pickle.loads(pickle.dumps(state)), state)
    read = flax.serialization.from_bytes(tx.init(tree()), flax.serialization.to_bytes(state))
    chex.assert_trees_all_equal(read, state)
    chex.assert_trees_all_equal_structs(read, state)


@every_storage
def test_hyperparameters_may_be_injected_and_mapped_over(kind):
    def make(learning_rate, beta):
        return wrap(kind, momentax.sgd(learning_rate, momentax.heavy_ball(beta)))

    tx, params = optax.inject_hyperparams(make)(0.1, beta=0.9), tree(dtype=jnp.bfloat16)
    state = tx.init(params)
    after, _ = jax.lax.scan(lambda s, _: (tx.update(params, s, params)[1], None), state, length=3)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    chex.assert_trees_all_equal_structs(after, state)

    gradients = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(tree, range(3)))

    def last(beta):
        tx, params = make(0.1, beta), tree()

        def step(state, g):
            return tx.update(g, state, params)[::-1]

        return jax.tree.map(
            lambda leaf: leaf[-1], jax.lax.scan(step, tx.init(params), gradients)[1]
        )

    β = jnp.array([0.0, 0.5, 0.9])
    swept, single = jax.jit(jax.vmap(last))(β), jax.jit(last)
    for i, each in enumerate(β):
        row = jax.tree.map(lambda x, i=i: x[i], swept)
        chex.assert_trees_all_close(row, single(each), rtol=1e-2, atol=1e-2)


@cache
def trained_by_flax(kind):
    """The kernel of a small layer after three steps of nnx.Optimizer."""
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, wrap(kind, momentax.sgd(0.1)), wrt=nnx.Param)
    x = jnp.ones((4, 64))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda m: jnp.mean(jnp.square(m(x) - 1)))(model)
        optimizer.update(model, grads)

    for _ in range(3):
        step(model, optimizer)
    return model.kernel[...]


@every_storage
def test_the_optimizer_of_flax_nnx_holds_the_state(kind):
    kernel, exact = trained_by_flax(kind), trained_by_flax(None)
    np.testing.assert_allclose(kernel, exact, atol=2e-3)
    assert not jnp.array_equal(kernel, exact)


@every_storage
def test_parameters_of_16_bits_get_updates_of_16_bits(kind):
    params = tree(dtype=jnp.bfloat16)
    txs = [
        wrap(kind, optax.sgd(0.1, momentum=0.9)),
        wrap(kind, optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3)),
        optax.apply_if_finite(wrap(kind, optax.sgd(0.1, momentum=0.9)), 3),
        wrap(kind, optax.adam(1e-3)),
    ]
    states = [tx.init(params) for tx in txs]

    @jax.jit
    def step(states):
        return [tx.update(params, s, params) for tx, s in zip(txs, states, strict=True)]

    with jax.numpy_dtype_promotion("standard"):  # Adam takes a power of its count.
        pairs = step(states)
    for state, (updates, after) in zip(states, pairs, strict=True):
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert float(jnp.max(jnp.abs(updates["large"]))) > 0


@every_storage
def test_complex_parameters_beside_real_ones(kind):
    params = {"c": jnp.ones(9000, jnp.complex64), "r": jnp.ones(5000)}
    tx = wrap(kind, momentax.heavy_ball(0.9))
    _, state = jax.jit(tx.update)(params, tx.init(params))
    chex.assert_trees_all_equal(momentax.velocity(state), params)


@every_storage
def test_lookahead_inside_keeps_its_own_tree_of_parameters(kind):
    pair = optax.LookaheadParams.init_synced({"w": jnp.ones(5000)})
    tx = wrap(kind, optax.lookahead(optax.sgd(0.1, momentum=0.9), 5, 0.5))
    assert bytes_per_parameter(tx.init(pair), params=pair.fast) < 4


# Reading and changing an encoded state.


@every_storage
def test_the_velocity_is_replaced_reset_and_measured(kind):
    state = runs("average")[kind].state
    v = momentax.velocity(state)
    chex.assert_trees_all_equal(momentax.velocity(momentax.replace_velocity(state, v)), v)
    norms = momentax.velocity_norms(state)
    np.testing.assert_allclose(norms["large"], np.linalg.norm(v["large"]), rtol=1e-5)
    other = jax.tree.map(lambda leaf: -2 * leaf, v)
    replaced = momentax.replace_velocity(state, other)
    chex.assert_trees_all_equal_shapes_and_dtypes(replaced, state)
    chex.assert_trees_all_close(momentax.velocity(replaced), other, rtol=1e-6)
    reset = momentax.reset_velocity(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(reset, state)
    chex.assert_trees_all_equal(momentax.velocity(reset), jax.tree.map(jnp.zeros_like, v))
    assert reset.inner_state[1].weight == 0


@every_storage
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_restarts_work_inside_and_outside(kind, place):
    state, plain = runs(f"restart {place}")[kind].state, runs(f"restart {place}")[None].state
    expected = momentax.velocity(plain)["large"]
    saved = 4 - STORAGES[kind].bytes
    assert bytes_per_parameter(state) < bytes_per_parameter(plain) - 0.95 * saved
    v = momentax.velocity(state)["large"]
    np.testing.assert_allclose(v, expected, atol=0.05 * float(jnp.max(jnp.abs(expected))))


def test_rows_of_a_lazy_method_catch_up():
    params = jnp.ones((100, 64))
    g = jnp.zeros_like(params).at[:50].set(1.0)
    tx = momentax.sgd(0.1, stored(momentax.lazy(momentax.heavy_ball(0.5)), storage.bfloat16()))
    exact = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.5)))
    ends = []
    for each in (tx, exact):
        _, state = each.update(g, each.init(params), params)
        _, state = each.update(jnp.roll(g, 50, axis=0), state, params)
        ends.append(momentax.catch_up(params, state, learning_rate=0.1))
    # bfloat16 holds powers of a half exactly.
    chex.assert_trees_all_equal(ends[0][0], ends[1][0])
    chex.assert_trees_all_equal(momentax.velocity(ends[0][1]), momentax.velocity(ends[1][1]))
    assert jax.tree.structure(ends[0][1]) == jax.tree.structure(tx.init(params))


def test_a_run_moves_to_pytorch_and_back():
    params = tree()
    tx, _, state = runs("sgd")["bfloat16"]
    mapping = {"large": "large", "small": "small"}
    theirs = {
        "state": {},
        "param_groups": [{"params": [0, 1], "param_names": ["large", "small"]}],
    }
    exported = momentax.conventions.export_torch_state(state, theirs, mapping, tensor=np.asarray)
    buffer = exported["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(buffer, momentax.velocity(state)["large"])
    back = momentax.conventions.import_torch_state(exported, params, mapping, state=tx.init(params))
    chex.assert_trees_all_equal(momentax.velocity(back), momentax.velocity(state))


def test_the_base_iterate_is_computed_from_the_velocity_as_it_is_kept():
    params = tree()
    state, exact = (runs("shifted")[kind].state for kind in ("bfloat16", None))
    point, plain = (momentax.eval_params(params, s, learning_rate=0.1) for s in (state, exact))
    chex.assert_trees_all_close(point, plain, atol=1e-2)


def test_the_theory_reads_a_stored_transformation_of_small_parameters():
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    kept = stored(tx, storage.int8())
    assert momentax.theory.rate(kept, 1.0, 10.0) == momentax.theory.rate(tx, 1.0, 10.0)


# Derivatives.

CURVATURES = np.geomspace(0.01, 1, 512).astype(np.float32)


def unrolled(kind, steps, loop):
    """The loss after some steps on a quadratic, as a function of β."""

    def loss(beta):
        tx = momentax.sgd(0.05, wrap(kind, momentax.heavy_ball(beta), min_size=1))

        def step(carry, _):
            θ, state = carry
            updates, state = tx.update(CURVATURES * θ, state, θ)
            return (θ + updates, state), None

        carry = jnp.ones(512), tx.init(jnp.ones(512))
        if loop == "scan":
            carry, _ = jax.lax.scan(step, carry, length=steps)
        else:
            for _ in range(steps):
                carry, _ = step(carry, None)
        return jnp.sum(CURVATURES * carry[0] ** 2) / 2

    return loss


@pytest.mark.parametrize("loop", ["scan", "unrolled"])
@every_storage
def test_a_derivative_through_updates_is_right_or_refused(kind, loop):
    """It must not be 0 in silence."""
    steps = 60 if loop == "scan" else 4
    β = jnp.float32(0.9)
    stored_loss, plain = unrolled(kind, steps, loop), unrolled(None, steps, loop)
    for derive in (jax.grad, jax.jacfwd, lambda f: jax.grad(jax.checkpoint(f))):
        if kind == "int8":
            with pytest.raises(TypeError, match="stored as Int8Array cannot be differentiated"):
                jax.jit(derive(stored_loss))(β)
        else:
            exact = jax.jit(derive(plain))(β)
            np.testing.assert_allclose(jax.jit(derive(stored_loss))(β), exact, rtol=0.01)
    if kind != "int8" and loop == "scan":
        value, _ = jax.jit(jax.value_and_grad(stored_loss))(β)
        np.testing.assert_allclose(value, jax.jit(stored_loss)(β), rtol=1e-6)
        swept = jax.jit(jax.vmap(jax.grad(stored_loss)))(jnp.array([0.5, 0.9]))
        exact = jax.jit(jax.vmap(jax.grad(plain)))(jnp.array([0.5, 0.9]))
        np.testing.assert_allclose(swept, exact, rtol=0.01)


@every_storage
def test_a_derivative_through_a_replaced_velocity_is_right_or_refused(kind):
    start = wrap(kind, momentax.heavy_ball(0.9)).init(jnp.zeros(5000))

    def loss(scale):
        state = momentax.replace_velocity(start, jnp.full(5000, scale))
        return jnp.sum(momentax.velocity(state))

    if kind == "int8":
        with pytest.raises(TypeError, match="stored as Int8Array cannot be differentiated"):
            jax.grad(loss)(1.0)
    else:
        assert jax.grad(loss)(1.0) == 5000


@every_storage
def test_a_derivative_on_which_no_velocity_depends_is_exact(kind):
    """The learning rate multiplies a velocity of fixed gradients afterwards."""
    g = jnp.linspace(-1, 1, 512)

    def moved(learning_rate):
        tx = momentax.sgd(learning_rate, wrap(kind, momentax.heavy_ball(0.9), min_size=1))

        def step(carry, _):
            updates, state = tx.update(g, carry[1], g)
            return (carry[0] + updates, state), None

        carry, _ = jax.lax.scan(step, (jnp.zeros(512), tx.init(g)), length=5)
        return jnp.sum(carry[0] * g)

    for derive in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derive(moved)(0.1), moved(1.0), rtol=1e-5)


# Extreme values. The shapes agree, so that each storage compiles one program.


@cache
def first_update(kind):
    tx = wrap(kind, optax.trace(0.9))
    start = tx.init(jnp.zeros((32, 256)))
    update = jax.jit(tx.update)
    return lambda g: update(g, start)


@every_storage
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_entries_that_are_not_finite_are_kept_and_change_no_other_block(kind, bad):
    u, state = first_update(kind)(jnp.ones((32, 256)).at[3, 5].set(bad))
    v = momentax.velocity(state)
    assert not jnp.isfinite(v[3, 5])
    assert not jnp.isfinite(u[3, 5])
    others = np.delete(np.asarray(v), 3 * 256 + 5)
    np.testing.assert_array_equal(others, 1.0)
    if kind != "int8":  # In int8 it becomes NaN.
        assert jnp.array_equal(v[3, 5], jnp.float32(bad), equal_nan=True)
    after = momentax.velocity(momentax.replace_velocity(state, v))
    np.testing.assert_array_equal(after, v)


@every_storage
def test_a_block_without_finite_entries_and_one_beside_it(kind):
    bad = np.resize(np.float32([np.nan, np.inf, -np.inf]), 256)
    u, state = first_update(kind)(jnp.ones((32, 256)).at[7].set(bad))
    v = np.asarray(momentax.velocity(state))
    assert not np.isfinite(v[7]).any()
    assert not np.isfinite(u[7]).any()
    np.testing.assert_array_equal(np.delete(v, 7, axis=0), 1.0)


@every_storage
def test_the_largest_finite_velocities_stay_finite_for_all_random_bits(kind):
    largest = float(np.finfo(np.float32).max)
    x = np.linspace(-1, 1, 4096, dtype=np.float32) * np.float32(largest)
    encode = STORAGES[kind].make().encode
    bits = np.random.default_rng(0).integers(0, 2**32, 4096, np.uint32)
    bits[::5], bits[1::5] = 2**32 - 1, 0
    for random in (None, bits):
        found = np.asarray(encode(jnp.asarray(x), random).decode(), np.float64)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, x, rtol=0, atol=0.02 * largest)
    special = np.resize(np.float32([np.nan, np.inf, -np.inf, 1.0]), 4096)
    found = np.asarray(encode(jnp.asarray(special), bits).decode())
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(special))
    if kind != "int8":
        np.testing.assert_array_equal(found, special)


@every_storage
@pytest.mark.parametrize("scale", [0.0, 1e-33, 1e-30, 1e30, 3e38])
def test_the_smallest_and_the_largest_velocities(kind, scale):
    g = jnp.linspace(-1, 1, 8192).reshape(32, 256) * scale
    v = np.asarray(momentax.velocity(first_update(kind)(g)[1]), np.float64)
    assert np.all(np.isfinite(v))
    np.testing.assert_allclose(v, g, atol=max(0.02 * scale, 1e-34))


# Warnings and errors.


@every_storage
def test_a_beta_too_large_for_the_storage_warns_once(kind):
    case, params = STORAGES[kind], tree()
    how = case.make()
    makers = (
        momentax.heavy_ball,
        lambda beta: optax.sgd(0.1, momentum=beta),
        lambda beta: momentax.sgd(0.1, momentax.nesterov(momentax.schedules.warmup(0.0, beta, 99))),
        lambda beta: optax.chain(
            optax.clip(1.0), optax.masked(optax.trace(beta), {"large": True, "small": False})
        ),
    )
    for make in makers:
        for beta in case.warned:
            tx = stored(make(beta), how)
            with pytest.warns(UserWarning, match=rf"beta = {beta} .*{case.advice}") as caught:
                tx.init(params)
            assert len(caught) == 1
            assert caught[0].filename == __file__
        for beta in case.accepted:
            stored(make(beta), how).init(params)
            stored(make(beta), how).init({"large": jnp.ones(9), "small": jnp.ones(9)})
    for beta in case.warned[:1]:
        labels = {"large": "large", "small": "small"}
        mixed = {"large": optax.trace(beta), "small": optax.trace(0.9)}
        with pytest.warns(UserWarning, match=f"beta = {beta} "):
            stored(optax.partition(mixed, labels), how, min_size=1).init(params)
        only_small = {"large": False, "small": True}
        stored(optax.partition(mixed, labels), how, min_size=1, where=only_small).init(params)
    for beta in case.warned:  # Small leaves are not encoded, and a traced β is unknown.
        stored(momentax.heavy_ball(beta), how).init(jnp.ones(9))
        jax.vmap(lambda b: stored(momentax.heavy_ball(b), how).init(params))(jnp.array([beta]))


TX = momentax.heavy_ball(0.9)
BAD = {
    "tx": (lambda: stored(0.1, storage.int8()), TypeError, "tx must be"),
    "storage": (lambda: stored(TX, "int8"), TypeError, "storage must be what momentax.storage"),
    "storage not called": (
        lambda: stored(TX, storage.int8),
        TypeError,
        r"what .* returns, got the function int8",
    ),
    "min_size": (lambda: stored(TX, storage.int8(), min_size=-1), ValueError, "min_size must be"),
    "min_size 1.5": (
        lambda: stored(TX, storage.int8(), min_size=1.5),
        TypeError,
        "min_size must be",
    ),
    "stored twice": (
        lambda: stored(stored(TX, storage.int8()), storage.int8()).init(tree()),
        ValueError,
        "once",
    ),
    "no velocity": (
        lambda: stored(optax.sgd(0.1), storage.int8()).init(tree()),
        ValueError,
        "no velocity",
    ),
    "where does not return a bool": (
        lambda: stored(TX, storage.int8(), where={"large": 1, "small": True}).init(tree()),
        TypeError,
        "where must be a tree of bools",
    ),
    "where does not fit": (
        lambda: stored(TX, storage.int8(), where={"other": True}).init(tree()),
        ValueError,
        "where must be a tree of bools",
    ),
    "seed": (lambda: storage.int8(seed=-1), ValueError, "seed must be"),
    "seed too large": (lambda: storage.int8(seed=2**32), ValueError, "seed must be"),
    "seed 0.5": (lambda: storage.int8(seed=0.5), TypeError, "seed must be"),
    "seed in an array": (lambda: storage.int8(seed=jnp.int32(-1)), ValueError, "seed must be"),
    "seed is a key": (lambda: storage.int8(seed=jax.random.key(0)), TypeError, "seed must be"),
    "two seeds": (
        lambda: storage.bfloat16(seed=jnp.ones(2, jnp.uint32)),
        TypeError,
        "seed must be",
    ),
    "block_size 1": (lambda: storage.int8(1), ValueError, "block_size must be"),
    "block_size 100": (
        lambda: storage.int8(100),
        ValueError,
        "block_size must be a power of two, such as 256",
    ),
    "seed without random bits": (
        lambda: storage.bfloat16(False, seed=-1),
        ValueError,
        "seed must be",
    ),
    "stochastic": (lambda: storage.bfloat16("yes"), TypeError, "stochastic must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    build, error, text = BAD[case]
    with pytest.raises(error, match=text):
        build()


# Randomness.


@pytest.mark.parametrize("kind", RANDOM)
def test_random_bits_depend_on_the_seed_the_step_and_the_leaf(kind):
    x = jnp.linspace(-1, 1, 8192)
    params = {"a": jnp.ones(8192), "b": jnp.ones(8192)}

    def store(seed):
        return stored(optax.trace(0.0), STORAGES[kind].make(seed=seed))

    update = jax.jit(store(0).update)  # The seed is part of the state.

    def velocities(seed, steps=1):
        state = store(seed).init(params)
        for _ in range(steps):
            _, state = update({"a": x, "b": x}, state)
        return momentax.velocity(state)

    first = velocities(1)
    chex.assert_trees_all_equal(velocities(1), first)
    for other in (velocities(2)["a"], velocities(1, steps=2)["a"], first["b"]):
        share = float(jnp.mean(other != first["a"]))
        assert 0.1 < share < 0.9
    seed = jnp.uint32(1)
    chex.assert_trees_all_equal(velocities(seed), first)
    jax.jit(lambda s: s, donate_argnums=0)(store(seed).init(jnp.ones(5000)))
    assert not seed.is_deleted()
    swept = jax.vmap(velocities)(jnp.arange(3, dtype=jnp.uint32))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1], swept), first)
