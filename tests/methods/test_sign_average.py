"""Signum: when its direction reverses, tiny gradients, and Optax's version."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sign_average
from momentax.states import LinearState
from tests.methods.runs import draw, follow, follow_peer


@pytest.mark.parametrize("β", [0.0, 0.5, 0.9, 0.99])
def test_the_direction_reverses_when_new_gradients_outweigh_the_old_ones(β):
    """After n gradients of 1 and k of -1 the average is (2 - βⁿ) βᵏ - 1."""
    n, k = 7, np.arange(1, 40)
    g = np.concatenate([np.ones(n), -np.ones(len(k))])[:, None].astype(np.float32)
    d, state = follow(sign_average(β), g)
    assert isinstance(state, LinearState)
    np.testing.assert_array_equal(d[:n], 1)
    np.testing.assert_array_equal(d[n:, 0], np.sign((2 - β**n) * β**k - 1))


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.usefixtures("x64")
def test_directions_are_those_of_optax_signum(dtype):
    g = draw(1000, 20, dtype=dtype)
    ours, _ = follow(sign_average(0.9), g)
    theirs, _ = follow_peer(optax.signum(1.0, 0.9), g)
    np.testing.assert_allclose(ours, -theirs, rtol=1e-12)
    np.testing.assert_allclose(np.abs(ours), 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_sign_is_taken_before_the_velocity_is_rounded(dtype):
    """The average of the smallest float16 gradient is 0 in float16."""
    g = jnp.finfo(dtype).smallest_subnormal * jnp.ones((1, 3), dtype)
    g = jnp.maximum(g, jnp.asarray(1e-36, dtype))  # XLA flushes subnormal float32 to 0.
    d, _ = follow(sign_average(0.9), g)
    np.testing.assert_array_equal(np.asarray(d, np.float32), 1)


def test_zero_has_the_sign_zero():
    tx = sign_average()
    d, state = tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)))
    np.testing.assert_array_equal(d, 0)
    d, _ = tx.update(jnp.array([1.0, 0.0]), state)
    np.testing.assert_array_equal(d, [1, 0])


def test_a_step_is_the_learning_rate_along_every_coordinate():
    tx, params = momentax.sgd(0.25, sign_average()), jnp.array([1.0, -2.0, 3.0])
    u, _ = tx.update(jnp.array([1e-6, -3.0, 1e6]), tx.init(params), params)
    np.testing.assert_array_equal(u, [-0.25, 0.25, -0.25])
