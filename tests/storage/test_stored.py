"""What is kept, where it is found, and that the direction is made from it."""

import pickle
import re
from functools import cache, partial

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax import storage, stored
from momentax._core.codecs import unpacked
from momentax.storage import bytes_per_parameter

STORAGES = {
    "bfloat16": (storage.bfloat16(), 2.0),
    "stochastic bfloat16": (storage.bfloat16(stochastic=True), 2.0),
    "int8": (storage.int8(), 1 + 4 / 256),
}
every_storage = pytest.mark.parametrize("kind", STORAGES)

INNER = {
    "heavy_ball": lambda: momentax.heavy_ball(0.9),
    "sgd": lambda: momentax.sgd(0.1, momentax.heavy_ball(0.9)),
    "parameter units": lambda: momentax.sgd(0.1, velocity_units="parameter"),
    "optax.sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "optax.trace in bfloat16": lambda: optax.trace(0.9, accumulator_dtype=jnp.bfloat16),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9)),
    "named_chain": lambda: optax.named_chain(("momentum", optax.trace(0.9))),
    "masked": lambda: optax.masked(optax.trace(0.9), {"large": True, "small": False}),
    "partition": lambda: optax.partition(
        {"momentum": optax.trace(0.9), "none": optax.identity()},
        {"large": "momentum", "small": "none"},
    ),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3),
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.1, 0.9), 1).gradient_transformation(),
    "jitted": lambda: optax.GradientTransformation(
        optax.trace(0.9).init, jax.jit(optax.trace(0.9).update)
    ),
}


def tree(seed=0, size=5000, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        "large": jnp.asarray(rng.normal(size=(2, size // 2)), dtype),
        "small": jnp.asarray(rng.normal(size=7), dtype),
    }


def run(tx, steps=4):
    """The last update, and the state, after some gradients."""
    params = tree()

    @jax.jit
    def step(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides a float by an int.
        state = tx.init(params)
        for seed in range(steps):
            state, updates = step(state, tree(seed + 1))
    return updates, state


def kept(state):
    """The velocity as a bare method keeps it, its leaves encoded."""
    return unpacked(state.inner_state.velocity)


@cache
def plain(inner):
    return run(INNER[inner]())


# What is kept.


@every_storage
def test_a_large_velocity_takes_its_bytes_and_a_small_one_stays(kind):
    how, expected = STORAGES[kind]
    params = {"large": jnp.zeros((1024, 1024)), "small": jnp.zeros(4095)}
    state = stored(momentax.heavy_ball(0.9), how).init(params)
    assert kept(state)["small"].dtype == jnp.float32
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(kept(state)["large"])) == (2**20 * expected)
    large = stored(momentax.heavy_ball(0.9), how).init(params["large"])
    assert expected <= bytes_per_parameter(large) < expected + 1e-4
    assert bytes_per_parameter(large) == bytes_per_parameter(large, params["large"])
    assert bytes_per_parameter(jax.eval_shape(stored(optax.adam(1e-3), how).init, params)) < (
        4 + expected + 0.02
    )


def test_bytes_per_parameter_of_other_states():
    params = tree()
    assert bytes_per_parameter(optax.adam(0.1).init(params), params) == pytest.approx(8, abs=0.01)
    aggregated = momentax.aggregated().init(params)
    assert bytes_per_parameter(aggregated) == pytest.approx(4, abs=0.01)
    assert bytes_per_parameter(aggregated, params) == pytest.approx(12, abs=0.01)
    assert bytes_per_parameter(optax.sgd(0.1).init(params), params) == 0
    for state, given in ((optax.sgd(0.1).init(params), None), (aggregated, {})):
        with pytest.raises(ValueError, match="give params, the parameters"):
            bytes_per_parameter(state, given)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((5000,), (20,)),
        ((8, 512), (8, 2)),
        ((3, 3, 64, 64), (3, 3, 16)),
        ((512, 1000), (2000,)),
        ((67, 67), (18,)),
        ((3,), (1,)),
        ((257,), (2,)),
        ((4, 0), None),
    ],
)
def test_blocks_run_over_the_fewest_last_axes(shape, scales):
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.normal(size=shape), jnp.float32)
    tx = stored(momentax.heavy_ball(0.9), storage.int8(), min_size=0)
    v = kept(jax.jit(tx.update)(g, tx.init(g))[1])
    if scales is None:
        assert v.dtype == jnp.float32
        return
    assert (v.codes.shape, v.codes.dtype) == (shape, jnp.int8)
    assert (v.scales.shape, v.scales.dtype) == (scales, jnp.float32)
    flat, v = (np.asarray(x).ravel() for x in (g, v.decode()))
    for start in range(0, flat.size, 256):
        x, y = flat[start : start + 256], v[start : start + 256]
        largest = np.abs(x).max()
        assert np.array_equal(y[np.abs(x).argmax()], x[np.abs(x).argmax()])
        # Two codes lie apart by (2 q + 1) / 127² of the largest.
        distance = largest * (2 * 127 * np.sqrt(np.abs(x) / largest) + 1) / 127**2
        assert np.all(np.abs(x - y) <= 1.01 * distance)
        assert np.abs(x - y).max() > 0 or x.size < 5


@every_storage
def test_the_state_is_that_of_what_is_wrapped_and_a_count_and_a_seed(kind):
    how, _ = STORAGES[kind]
    assert isinstance(how, storage.Storage)
    _, state = run(stored(momentax.sgd(0.1), how), steps=3)
    assert isinstance(state, momentax.states.StoredState)
    assert (state.count, state.count.dtype) == (3, jnp.int32)
    assert (state.seed is None) == (kind == "bfloat16")
    plain = momentax.sgd(0.1).init(tree())
    part = state.inner_state[1].velocity
    chex.assert_trees_all_equal_structs(part.values, plain[1].velocity)  # For shardings by path.
    chex.assert_trees_all_equal_structs(
        state.inner_state[1]._replace(velocity=part.values), plain[1]
    )


@every_storage
def test_where_chooses_and_float64_and_complex_stay(kind):
    how, _ = STORAGES[kind]
    params = {"a": {"b": jnp.ones(5000), "c": jnp.ones(5000)}, "d": jnp.ones(5000, jnp.complex64)}
    for where in (
        {"a": {"b": True, "c": False}, "d": True},
        lambda params: {"a": {"b": True, "c": False}, "d": False},
    ):
        v = kept(stored(momentax.heavy_ball(0.9), how, where=where).init(params))
        assert not isinstance(v["a"]["b"], jax.Array)
        assert isinstance(v["a"]["c"], jax.Array)
        assert v["d"].dtype == jnp.complex64
    v = kept(stored(momentax.heavy_ball(0.9), how, where=False).init(params))
    chex.assert_trees_all_equal_structs(v, params)


# Where it is found, and what the direction is made from.


@every_storage
@pytest.mark.parametrize("inner", INNER)
def test_the_direction_is_made_from_the_velocity_as_it_is_kept(kind, inner):
    how, _ = STORAGES[kind]
    updates, state = run(stored(INNER[inner](), how))
    exactly, exact = plain(inner)
    u, v = np.asarray(updates["large"]), np.asarray(momentax.velocity(state)["large"])
    assert v.dtype == np.float32
    factor = np.sum(np.asarray(exactly["large"])) / np.sum(
        np.asarray(momentax.velocity(exact)["large"], np.float32)
    )
    # These round, or choose, the new velocity once more before it enters the state.
    later = inner in ("optax.trace in bfloat16", "MultiSteps")
    np.testing.assert_allclose(u, factor * v, atol=(0.05 if later else 1e-5) * np.abs(u).max())
    assert 0 < np.abs(u - np.asarray(exactly["large"])).max() < 0.1 * np.abs(u).max() or later
    if isinstance(updates["small"], jax.Array) and not later:
        chex.assert_trees_all_close(updates["small"], exactly["small"], rtol=1e-6)


@every_storage
def test_the_first_moment_of_adam_is_kept_and_the_second_is_adams_own(kind):
    how, _ = STORAGES[kind]
    _, state = run(stored(optax.adam(1e-3), how))
    _, exactly = run(optax.adam(1e-3))
    moments, exact = state.inner_state[0], exactly[0]
    chex.assert_trees_all_close(moments.nu, exact.nu, rtol=1e-6)
    assert not isinstance(unpacked(moments.mu)["large"], jax.Array)
    chex.assert_trees_all_close(
        momentax.velocity(state),
        momentax.velocity(exactly),
        atol=0.05 * float(jnp.max(exact.mu["large"])),
    )


def test_bits_are_those_of_float32_below_the_least_size():
    for how, _ in STORAGES.values():
        tx = stored(momentax.sgd(0.1, momentax.nesterov(0.9)), how, min_size=5001)
        chex.assert_trees_all_equal(run(tx)[0], run(momentax.sgd(0.1, momentax.nesterov(0.9)))[0])


@every_storage
@pytest.mark.parametrize(
    "inner",
    {
        "the gradient": lambda: momentax.heavy_ball(0.0),
        "the parameters": lambda: optax.GradientTransformation(
            optax.trace(0.9).init, lambda g, state, params: (g, state._replace(trace=params))
        ),
        "a constant": lambda: optax.GradientTransformation(
            optax.trace(0.9).init,
            lambda g, state, params: (
                g,
                state._replace(trace=jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), g)),
            ),
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_velocity_that_nothing_computes_is_kept_too(kind, inner):
    what, make = inner
    _, state = run(stored(make(), STORAGES[kind][0]), steps=3)
    expected = {
        "the gradient": tree(3),
        "the parameters": tree(),
        "a constant": jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), tree()),
    }[what]
    chex.assert_trees_all_close(momentax.velocity(state), expected, rtol=1e-2, atol=0.03)


# The contracts, on leaves that are encoded (tests/test_contracts.py has the rest).


@every_storage
def test_no_gradient_keeps_the_velocity_to_the_bit(kind):
    tx, params = stored(momentax.nesterov(0.9), STORAGES[kind][0]), tree()
    _, state = run(tx)
    after = jax.jit(tx.update)({"large": None, "small": params["small"]}, state, params)[1]
    chex.assert_trees_all_equal(kept(after)["large"], kept(state)["large"])


@every_storage
def test_a_step_that_is_skipped_keeps_the_velocity_to_the_bit(kind):
    # Each goes through a conditional, which decodes and encodes.
    for tx in (
        stored(optax.apply_if_finite(optax.trace(0.9), 5), STORAGES[kind][0]),
        optax.apply_if_finite(stored(optax.trace(0.9), STORAGES[kind][0]), 5),
    ):
        _, state = run(tx)
        held, update = momentax.velocity(state), jax.jit(tx.update)
        for _ in range(3):
            _, state = update(jax.tree.map(lambda leaf: leaf * jnp.nan, tree()), state, tree())
        chex.assert_trees_all_equal(momentax.velocity(state), held)


@every_storage
def test_what_lies_on_a_code_is_never_moved(kind):
    how = STORAGES[kind][0]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(40, 256)) * np.exp(rng.normal(size=(40, 1)) * 20), jnp.float32)
    codes = np.resize(np.arange(-127, 128), (40, 256)).astype(np.float32)
    grid = jnp.asarray(codes * np.abs(codes) / 127**2) * jnp.max(jnp.abs(x), 1, keepdims=True)
    tx = stored(optax.trace(1.0), how)
    for start in (x, grid):
        state = tx.init(start)
        _, state = jax.jit(tx.update)(start, state)
        held = momentax.velocity(state)
        step = jax.jit(lambda s: tx.update(jnp.zeros_like(x), s)[1])
        for _ in range(50):
            state = step(state)
        np.testing.assert_array_equal(momentax.velocity(state), held)


@every_storage
def test_one_trace_scan_donation_and_eval_shape(kind):
    tx, params = stored(momentax.sgd(0.1), STORAGES[kind][0]), tree()
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
@pytest.mark.parametrize("shape", [(8, 1024), (16384,), (8192, 3)])
def test_sharding_follows_the_parameters_and_changes_no_bit(kind, shape):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    tx = stored(momentax.nesterov(0.9), STORAGES[kind][0])
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3)]

    def run_on(place):
        params = place(jnp.ones(shape))
        state = jax.tree.map(lambda leaf: leaf, tx.init(params))
        update = jax.jit(tx.update)
        for g in gradients:
            direction, state = update(place(g), state, params)
        return params, direction, state, update.lower(params, state, params).compile().as_text()

    _, d, state, text = run_on(partial(jax.device_put, device=rows))
    for leaf in (d, *jax.tree.leaves(state.inner_state.velocity)):
        assert leaf.sharding.is_equivalent_to(rows, leaf.ndim)
    for leaf in jax.tree.leaves(
        tx.init(jax.device_put(jnp.ones(shape), rows)).inner_state.velocity
    ):
        assert leaf.sharding.is_equivalent_to(rows, leaf.ndim)
    assert not re.findall(r"all-gather|all-reduce|all-to-all|collective-permute", text)
    _, alone, plain, _ = run_on(lambda x: x)
    chex.assert_trees_all_equal(jax.device_get((d, state)), jax.device_get((alone, plain)))


@every_storage
def test_checkpoints_hold_it(kind):
    tx = stored(momentax.sgd(0.1), STORAGES[kind][0])
    _, state = run(tx)
    chex.assert_trees_all_equal(pickle.loads(pickle.dumps(state)), state)
    read = flax.serialization.from_bytes(tx.init(tree()), flax.serialization.to_bytes(state))
    chex.assert_trees_all_equal(read, state)
    chex.assert_trees_all_equal_structs(read, state)


@every_storage
def test_hyperparameters_may_be_injected_and_swept(kind):
    how = STORAGES[kind][0]

    def make(learning_rate, beta):
        return stored(momentax.sgd(learning_rate, momentax.heavy_ball(beta)), how)

    tx, params = optax.inject_hyperparams(make)(0.1, beta=0.9), tree(dtype=jnp.bfloat16)
    state = tx.init(params)
    after, _ = jax.lax.scan(lambda s, _: (tx.update(params, s, params)[1], None), state, length=3)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    chex.assert_trees_all_equal_structs(after, state)

    def last(beta):
        tx, params = make(0.1, beta), tree()
        state = tx.init(params)
        for seed in range(3):
            updates, state = tx.update(tree(seed), state, params)
        return updates

    β = jnp.array([0.0, 0.5, 0.9])
    swept = jax.jit(jax.vmap(last))(β)
    for i, each in enumerate(β):
        one = jax.jit(last)(each)
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, i=i: x[i], swept), one, rtol=1e-2, atol=1e-2
        )


@every_storage
def test_flaxs_own_optimizer_keeps_it(kind):
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    x, plain = jnp.ones((4, 64)), nnx.clone(model)
    ends = []
    for each, tx in (
        (plain, momentax.sgd(0.1)),
        (model, stored(momentax.sgd(0.1), STORAGES[kind][0])),
    ):
        optimizer = nnx.Optimizer(each, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            grads = nnx.grad(lambda m: jnp.mean(jnp.square(m(x) - 1)))(model)
            optimizer.update(model, grads)

        for _ in range(3):
            step(each, optimizer)
        ends.append(each.kernel[...])
    np.testing.assert_allclose(*ends, atol=2e-3)
    assert not jnp.array_equal(*ends)


@every_storage
def test_parameters_of_16_bits_get_updates_of_16_bits(kind):
    how, params = STORAGES[kind][0], tree(dtype=jnp.bfloat16)
    for tx in (
        stored(optax.sgd(0.1, momentum=0.9), how),
        stored(optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3), how),
        optax.apply_if_finite(stored(optax.sgd(0.1, momentum=0.9), how), 3),
        stored(optax.adam(1e-3), how),
    ):
        state = tx.init(params)
        with jax.numpy_dtype_promotion("standard"):  # Adam takes a power of its count.
            updates, after = jax.jit(tx.update)(params, state, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert float(jnp.max(jnp.abs(updates["large"]))) > 0


@every_storage
def test_complex_parameters_beside_real_ones(kind):
    params = {"c": jnp.ones(9000, jnp.complex64), "r": jnp.ones(5000)}
    tx = stored(momentax.heavy_ball(0.9), STORAGES[kind][0])
    _, state = jax.jit(tx.update)(params, tx.init(params))
    chex.assert_trees_all_equal(momentax.velocity(state), params)


@every_storage
def test_lookahead_inside_keeps_its_own_tree_of_parameters(kind):
    pair = optax.LookaheadParams.init_synced({"w": jnp.ones(5000)})
    tx = stored(optax.lookahead(optax.sgd(0.1, momentum=0.9), 5, 0.5), STORAGES[kind][0])
    state = tx.init(pair)
    assert bytes_per_parameter(state, pair.fast) < 4


# The tools on a state that is encoded.


@every_storage
def test_the_velocity_is_replaced_reset_and_measured(kind):
    _, state = run(stored(momentax.sgd(0.1, momentax.average(0.9)), STORAGES[kind][0]))
    v = momentax.velocity(state)
    chex.assert_trees_all_equal(momentax.velocity(momentax.replace_velocity(state, v)), v)
    norms = momentax.velocity_norms(state)
    np.testing.assert_allclose(norms["['large']"], np.linalg.norm(v["large"]), rtol=1e-5)
    other = jax.tree.map(lambda leaf: -2 * leaf, v)
    replaced = momentax.replace_velocity(state, other)
    chex.assert_trees_all_equal_shapes_and_dtypes(replaced, state)
    chex.assert_trees_all_close(momentax.velocity(replaced), other, rtol=1e-6)
    reset = momentax.reset_velocity(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(reset, state)
    chex.assert_trees_all_equal(momentax.velocity(reset), jax.tree.map(jnp.zeros_like, v))
    assert reset.inner_state[1].weight == 0


@every_storage
def test_restarts_work_inside_and_outside(kind):
    how = STORAGES[kind][0]
    inside = run(stored(momentax.restart(momentax.heavy_ball(0.9), 2), how))[1]
    outside = run(momentax.restart(stored(momentax.heavy_ball(0.9), how), 2))[1]
    plain = run(momentax.restart(momentax.heavy_ball(0.9), 2))[1]
    expected = momentax.velocity(plain)["large"]
    for state in (inside, outside):
        assert bytes_per_parameter(state) < bytes_per_parameter(plain) - 1.9
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
    # Powers of a half are the same in bfloat16.
    chex.assert_trees_all_equal(ends[0][0], ends[1][0])
    chex.assert_trees_all_equal(momentax.velocity(ends[0][1]), momentax.velocity(ends[1][1]))
    assert jax.tree.structure(ends[0][1]) == jax.tree.structure(tx.init(params))


def test_a_run_moves_to_pytorch_and_back():
    params = tree()
    tx = stored(momentax.sgd(0.1), storage.bfloat16())
    _, state = run(tx)
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


def test_the_base_iterate_is_read_from_the_velocity_as_it_is_kept():
    params = tree()
    method = momentax.synthesized_nesterov(0.9, 0.5, delta=0.3)
    _, state = run(stored(momentax.sgd(0.1, method), storage.bfloat16()))
    _, exact = run(momentax.sgd(0.1, method))
    point, plain = (momentax.eval_params(params, s, learning_rate=0.1) for s in (state, exact))
    chex.assert_trees_all_close(point, plain, atol=1e-2)


def test_the_theory_reads_small_parameters_as_before():
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    kept = stored(tx, storage.int8())
    assert momentax.theory.rate(kept, 1.0, 10.0) == momentax.theory.rate(tx, 1.0, 10.0)


# Randomness.


@pytest.mark.parametrize("make", [partial(storage.bfloat16, stochastic=True), storage.int8])
def test_bits_follow_the_seed_the_step_and_the_leaf(make):
    def velocities(seed, steps=1):
        tx = stored(optax.trace(0.0), make(seed=seed))
        params = {"a": jnp.ones(8192), "b": jnp.ones(8192)}
        x = jnp.linspace(-1, 1, 8192)
        state, update = tx.init(params), jax.jit(tx.update)
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
    state = stored(optax.trace(0.9), make(seed=seed)).init(jnp.ones(5000))
    jax.jit(lambda s: s, donate_argnums=0)(state)
    assert not seed.is_deleted()
    swept = jax.vmap(velocities)(jnp.arange(3, dtype=jnp.uint32))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1], swept), first)


@every_storage
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_is_not_turned_into_numbers(kind, bad):
    tx = stored(optax.trace(0.9), STORAGES[kind][0])
    g = jnp.ones((32, 256)).at[3, 5].set(bad)
    u, state = jax.jit(tx.update)(g, tx.init(g))
    v = momentax.velocity(state)
    assert not jnp.isfinite(v[3, 5])
    assert not jnp.isfinite(u[3, 5])
    others = np.delete(np.asarray(v), 3, axis=0)
    np.testing.assert_array_equal(others, 1.0)
    if kind != "int8":  # There a block shares its scale.
        np.testing.assert_array_equal(np.delete(np.asarray(v[3]), 5), 1.0)
        assert jnp.array_equal(v[3, 5], jnp.float32(bad), equal_nan=True)


@every_storage
@pytest.mark.parametrize("scale", [0.0, 1e-33, 1e-30, 1e30, 3e38])
def test_the_smallest_and_the_largest_velocities(kind, scale):
    tx = stored(optax.trace(0.0), STORAGES[kind][0])
    g = jnp.linspace(-1, 1, 8192) * scale
    _, state = jax.jit(tx.update)(g, tx.init(g))
    v = np.asarray(momentax.velocity(state), np.float64)
    assert np.all(np.isfinite(v))
    np.testing.assert_allclose(v, g, atol=max(0.02 * scale, 1e-34))


# Warnings and errors.


@pytest.mark.parametrize(
    ("how", "betas", "quiet", "text"),
    [
        (storage.bfloat16(), (0.9961, 0.997, 0.999), (0.9, 0.996), "stochastic=True"),
        (storage.int8(), (0.991, 0.995, 0.9999), (0.9, 0.99), "bfloat16"),
        (storage.bfloat16(stochastic=True), (), (0.999, 0.9999), ""),
    ],
)
def test_a_beta_too_large_for_the_storage_warns_once(how, betas, quiet, text):
    params = tree()
    makers = (
        momentax.heavy_ball,
        lambda beta: optax.sgd(0.1, momentum=beta),
        lambda beta: momentax.sgd(0.1, momentax.nesterov(momentax.schedules.warmup(0.0, beta, 99))),
        lambda beta: optax.chain(
            optax.clip(1.0), optax.masked(optax.trace(beta), {"large": True, "small": False})
        ),
    )
    for make in makers:
        for beta in betas:
            tx = stored(make(beta), how)
            with pytest.warns(UserWarning, match=rf"beta = {beta} .*{text}") as caught:
                tx.init(params)
            assert len(caught) == 1
            assert caught[0].filename == __file__
        for beta in quiet:
            stored(make(beta), how).init(params)
            stored(make(beta), how).init({"large": jnp.ones(9), "small": jnp.ones(9)})
    if betas:
        labels = {"large": "large", "small": "small"}
        mixed = {"large": optax.trace(betas[0]), "small": optax.trace(0.9)}
        with pytest.warns(UserWarning, match=f"beta = {betas[0]} "):
            stored(optax.partition(mixed, labels), how, min_size=1).init(params)
        only = {"large": False, "small": True}
        stored(optax.partition(mixed, labels), how, min_size=1, where=only).init(params)
    for beta in betas:  # What is small is not encoded, and what is traced is not known.
        stored(momentax.heavy_ball(beta), how).init(jnp.ones(9))
        jax.vmap(lambda b: stored(momentax.heavy_ball(b), how).init(params))(jnp.array([beta]))


def test_bad_arguments_are_refused_in_sentences():
    tx, params = momentax.heavy_ball(0.9), tree()
    for build, error, text in (
        (lambda: stored(0.1, storage.int8()), TypeError, "tx must be"),
        (lambda: stored(tx, "int8"), TypeError, "storage must be what momentax.storage"),
        (lambda: stored(tx, storage.int8), TypeError, r"what .* returns, got <function int8"),
        (lambda: stored(tx, storage.int8(), min_size=-1), ValueError, "min_size must be"),
        (lambda: stored(tx, storage.int8(), min_size=1.5), TypeError, "min_size must be"),
        (lambda: storage.int8(1), ValueError, "block_size must be"),
        (lambda: storage.int8(100), ValueError, "block_size must be a power of two, such as 256"),
        (lambda: storage.int8(seed=-1), ValueError, "seed must be"),
        (lambda: storage.int8(seed=2**32), ValueError, "seed must be"),
        (lambda: storage.int8(seed=0.5), TypeError, "seed must be"),
        (lambda: storage.int8(seed=jnp.int32(-1)), ValueError, "seed must be"),
        (
            lambda: stored(stored(tx, storage.int8()), storage.int8()).init(params),
            ValueError,
            "once",
        ),
        (lambda: storage.int8(seed=jax.random.key(0)), TypeError, "seed must be"),
        (lambda: storage.bfloat16(True, seed=jnp.ones(2, jnp.uint32)), TypeError, "seed must be"),
        (lambda: storage.bfloat16("yes"), TypeError, "stochastic must be"),
        (lambda: stored(optax.sgd(0.1), storage.int8()).init(params), ValueError, "no velocity"),
        (
            lambda: stored(tx, storage.int8(), where={"large": 1, "small": True}).init(params),
            TypeError,
            "each leaf of where must be",
        ),
        (
            lambda: stored(tx, storage.int8(), where={"other": True}).init(params),
            ValueError,
            "where must be a tree of bools",
        ),
    ):
        with pytest.raises(error, match=text):
            build()
