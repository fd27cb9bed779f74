"""Positive-negative momentum: its filter in closed form, and the noise of its direction."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import positive_negative
from momentax.states import PositiveNegativeState
from tests.methods.runs import draw, follow


@pytest.mark.usefixtures("x64")
def test_the_velocity_is_an_average_of_every_other_gradient():
    g, β = draw(31, 3), 0.9
    _, state = follow(positive_negative(β), g)
    assert isinstance(state, PositiveNegativeState)
    weights = (1 - β**2) * β ** (2 * np.arange(16))
    np.testing.assert_allclose(state.velocity, weights @ g[::-2], rtol=1e-13)
    before = weights[:15] @ g[-2::-2]
    np.testing.assert_allclose(state.velocity - state.change, before, rtol=1e-13)


@pytest.mark.parametrize("β0", [0.0, 1.0, 3.0])
@pytest.mark.usefixtures("x64")
def test_the_direction_has_the_noise_of_one_average_and_a_smaller_mean(β0):
    β, impulse = 0.9, np.zeros(400)
    impulse[0] = 1
    weights, _ = follow(positive_negative(β, β0), impulse)
    np.testing.assert_allclose(np.sum(weights**2), (1 - β**2) / (1 + β**2), rtol=1e-13)
    np.testing.assert_allclose(np.sum(weights), 1 / np.sqrt((1 + β0) ** 2 + β0**2), rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_without_beta0_each_direction_depends_on_every_other_gradient():
    g, β = draw(40, 3), 0.8
    d, _ = follow(positive_negative(β, 0.0), g)
    even, _ = follow(momentax.average(β**2, debias=False), g[::2])
    odd, _ = follow(momentax.average(β**2, debias=False), g[1::2])
    np.testing.assert_allclose(d[::2], even, rtol=1e-12)
    np.testing.assert_allclose(d[1::2], odd, rtol=1e-12)


def test_reset_restarts_both_averages():
    tx, g = positive_negative(0.9), draw(20, 3).astype(np.float32)
    _, state = follow(tx, g)
    reset = momentax.reset_velocity(state)
    chex.assert_trees_all_equal(reset._replace(count=jnp.int32(0)), tx.init(g[0]))
    assert int(reset.count) == 20
