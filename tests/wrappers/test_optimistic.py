"""Optimism: equal to Optax for plain descent and to the paper for Adam; a game that converges."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import heavy_ball, nesterov, optimistic, sgd
from momentax.states import OptimisticState


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing mixes dtypes.
        yield


def updates(tx, gradients):
    def step(state, g):
        u, state = tx.update(g, state)
        return state, u

    return jax.jit(lambda: jax.lax.scan(step, tx.init(gradients[0]), gradients))()


G = np.random.default_rng(0).normal(size=(30, 4))


@pytest.mark.usefixtures("x64")
def test_plain_descent_is_optaxs_optimistic_gradient_descent():
    peer = updates(optax.optimistic_gradient_descent(0.1), G)[1]
    for tx in (
        optimistic(sgd(0.1, heavy_ball(0.0))),
        optimistic(optax.sgd(0.1)),
        sgd(0.1, optimistic(heavy_ball(0.0))),
    ):
        np.testing.assert_allclose(updates(tx, G)[1], peer, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_adam_is_optaxs_optimistic_adam_which_extrapolates_the_updates():
    peer = updates(optax.optimistic_adam_v2(0.1, nesterov=False), G)[1]
    np.testing.assert_allclose(updates(optimistic(optax.adam(0.1)), G)[1], peer, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_update_is_twice_the_update_minus_the_previous_one():
    plain = np.asarray(updates(nesterov(0.9), G)[1])
    state, d = updates(optimistic(nesterov(0.9)), G)
    np.testing.assert_allclose(d[1:], 2 * plain[1:] - plain[:-1], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(d[0], plain[0])
    assert isinstance(state, OptimisticState)
    assert int(state.wrapper_count) == len(G)
    np.testing.assert_allclose(state.previous, plain[-1], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_bilinear_game_converges_where_plain_descent_diverges():
    # min over x, max over y of x y: the field is (y, -x).
    def play(tx, steps=400):
        def step(carry, _):
            z, state = carry
            u, state = tx.update(jnp.stack([z[1], -z[0]]), state)
            z = z + u
            return (z, state), z

        start = jnp.array([1.0, 1.0])
        _, path = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=steps))()
        return np.linalg.norm(path, axis=1) / np.sqrt(2)

    α = 0.3
    # With z = x + i y, plain descent multiplies z by 1 - i α, whose modulus is √(1 + α²).
    np.testing.assert_allclose(play(optax.sgd(α)), (1 + α**2) ** (np.arange(1, 401) / 2))
    # With optimism the modes are the roots of r² = r (1 + 2 i α) - i α.
    rate = np.abs(np.roots([1, -(1 + 2j * α), 1j * α])).max()
    distance = play(optimistic(optax.sgd(α)))
    assert rate < 1
    np.testing.assert_allclose(distance[399] / distance[199], rate**200, rtol=1e-6)


def test_a_leaf_without_a_gradient_keeps_its_last_update():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    for tx, still in ((sgd(0.1), jnp.zeros(3)), (heavy_ball(0.9), None)):
        wrapped = optimistic(tx)
        state = wrapped.init(params)
        _, state = wrapped.update(params, state, params)
        u, after = wrapped.update({"a": params["a"], "b": None}, state, params)
        chex.assert_trees_all_equal(u["b"], still)
        chex.assert_trees_all_equal(after.previous["b"], state.previous["b"])
        last, _ = tx.update({"a": None, "b": params["b"]}, after.inner_state, params)
        u, _ = wrapped.update(params, after, params)
        chex.assert_trees_all_close(u["b"], 2 * last["b"] - state.previous["b"], rtol=1e-6)


def test_the_last_update_is_kept_in_float32():
    tx = optimistic(heavy_ball(0.999))
    params = jnp.ones(2, jnp.bfloat16)
    state = tx.init(params)
    assert state.previous.dtype == jnp.float32
    u, state = tx.update(params, state, params)
    assert u.dtype == jnp.bfloat16
    assert state.previous.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(momentax.velocity(state), state.previous)


def test_errors_of_bad_arguments():
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        optimistic(heavy_ball)
