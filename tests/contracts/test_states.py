"""States: named tuples of arrays whose types never change, under every transformation of JAX."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from tests.cases import TRANSFORMATIONS
from tests.contracts.harness import (
    build,
    every_dtype,
    every_method,
    every_transformation,
    tree,
    types,
)

UPCAST = {"bfloat16": "float32", "float16": "float32"}


@every_transformation
@every_dtype
def test_state_and_direction_keep_their_types(name, dtype):
    tx, params = build(name), tree(dtype)
    state = tx.init(params)
    first = types(state)
    velocity = momentax.velocity(state)
    chex.assert_trees_all_equal_structs(velocity, params)
    axes = TRANSFORMATIONS[name].axes
    for leaf, v in zip(jax.tree.leaves(params), jax.tree.leaves(velocity), strict=True):
        assert v.shape[axes:] == leaf.shape
        assert v.ndim == leaf.ndim + axes
        assert v.dtype == UPCAST.get(leaf.dtype.name, leaf.dtype)
    for _ in range(2):  # Steps that are not traced follow in test_scan_cond_and_donation.
        updates, state = jax.eval_shape(tx.update, params, state, params)
        assert types(state) == first
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


@every_method
def test_the_state_of_a_method_is_a_named_tuple_of_arrays(name):
    state = build(name).init(tree())
    assert state._fields[:2] == ("count", "velocity")
    assert type(state).__module__.startswith("momentax.")
    assert state.count.dtype == jnp.int32
    assert state.count.shape == ()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("method", "state"),
    [
        (momentax.heavy_ball(), momentax.states.LinearState),
        (momentax.nesterov(), momentax.states.ShiftedState),
        (momentax.linear(1.0, 1.0, 0.9, shift=0.5), momentax.states.ShiftedState),
        (momentax.average(), momentax.states.AverageState),
        (momentax.lion(), momentax.states.LionState),
        (momentax.accelerated(), momentax.states.AcceleratedState),
    ],
)
def test_states_have_the_public_classes(method, state):
    assert type(method.init(tree())) is state


def test_lion_and_heavy_ball_refuse_the_state_of_each_other():
    lion, heavy_ball, params = momentax.lion(), momentax.heavy_ball(), tree()
    for tx, state in ((lion, heavy_ball.init(params)), (heavy_ball, lion.init(params))):
        with pytest.raises(TypeError, match="state must be"):
            tx.update(params, state, params)


@every_transformation
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128], ids=lambda dtype: dtype.__name__)
@pytest.mark.usefixtures("x64")
def test_64_bits_are_kept(name, dtype):
    tx, params = build(name), tree(dtype)
    updates, state = tx.update(params, tx.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_dtypes(momentax.velocity(state), params)


@every_transformation
@pytest.mark.usefixtures("x64")
def test_float32_parameters_have_a_float32_velocity_when_x64_is_enabled(name):
    tx, params = build(name), tree(jnp.float32)
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    assert types(after) == types(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


@every_transformation
def test_gradients_of_lower_precision_do_not_change_the_types_of_the_state(name):
    tx, params = build(name), tree(jnp.float32)
    state = tx.init(params)
    grads = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    updates, after = tx.update(grads, state, params)
    assert types(after) == types(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)


@every_transformation
def test_a_thousand_steps_are_traced_once(name):
    tx, params = build(name), tree()
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(1000):
        params, state = step(params, state)


@every_transformation
@every_dtype
def test_scan_cond_and_donation(name, dtype):
    tx, params = build(name), tree(dtype)

    def step(carry, _=None):
        params, state = carry
        updates, state = tx.update(params, state, params)
        return (optax.apply_updates(params, updates), state), None

    def once(carry):
        return step(carry)[0]

    carry = params, tx.init(params)
    updates, state = tx.update(params, carry[1], params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    looped = first = optax.apply_updates(params, updates), state
    for _ in range(3):
        assert types(looped[1]) == types(carry[1])
        looped = once(looped)
    # One program for all three, as each compilation takes longer than its run.
    program = jax.jit(
        lambda carry, taken: (
            jax.lax.scan(step, carry, length=4)[0],
            jax.lax.cond(taken, once, lambda c: c, carry),
            once(carry),
        ),
        donate_argnums=0,
        keep_unused=True,
    )
    donated = jax.tree.map(jnp.copy, carry)
    scanned, kept, stepped = program(donated, False)
    chex.assert_trees_all_close(
        scanned, looped, rtol=1e-2 if dtype in (jnp.bfloat16, jnp.float16) else 1e-5
    )
    chex.assert_trees_all_equal(kept, carry)
    chex.assert_trees_all_close(stepped, first, rtol=1e-2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(donated) if leaf.size)


@every_transformation
def test_eval_shape_of_init(name):
    tx, params = build(name), tree()
    shapes = jax.eval_shape(tx.init, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, tx.init(params))


@every_transformation
def test_parameters_without_values_have_a_state(name):
    tx, params = build(name), tree()
    without_values = jax.eval_shape(lambda: params)
    expected = jax.eval_shape(tx.init, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(tx.init(without_values), expected)


@every_transformation
def test_sharding_follows_the_parameters(name):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    axes = TRANSFORMATIONS[name].axes
    rows, kept = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[None] * leading, "rows"))
        for leading in (0, axes)
    )
    params = jax.device_put(jnp.ones((4, 3)), rows)
    tx = build(name)
    state = tx.init(params)
    assert momentax.velocity(state).sharding.is_equivalent_to(kept, 2 + axes)
    updates, state = jax.jit(tx.update)(params, state, params)
    assert momentax.velocity(state).sharding.is_equivalent_to(kept, 2 + axes)
    assert updates.sharding.is_equivalent_to(rows, 2)


@every_method
def test_the_velocity_can_be_read_measured_replaced_and_reset(name):
    tx, params = build(name), tree()
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    v = momentax.velocity(state)
    for leaf, kept in zip(jax.tree.leaves(v), jax.tree.leaves(state.velocity), strict=True):
        assert leaf is kept
    norms = [np.linalg.norm(leaf) for leaf in jax.tree.leaves(v)]
    np.testing.assert_allclose(list(momentax.velocity_norms(state).values()), norms, rtol=1e-6)
    zeros = jax.tree.map(jnp.zeros_like, v)
    reset = momentax.reset_velocity(state)
    chex.assert_trees_all_equal(reset.velocity, zeros)
    assert types(reset) == types(state)
    chex.assert_trees_all_equal(momentax.replace_velocity(state, zeros).velocity, zeros)
