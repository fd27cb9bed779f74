"""Amplified gradients: the start of the average, and chains with other optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import amplified
from tests.methods.runs import draw, follow


@pytest.mark.usefixtures("x64")
def test_the_average_starts_at_the_first_gradient():
    g, β, λ = draw(300, 3), 0.98, 2.0
    d, state = follow(amplified(β, λ), g)
    slow, expected = g[0], []
    for each in g:
        slow = β * slow + (1 - β) * each
        expected.append(each + λ * slow)
    np.testing.assert_allclose(d, expected, rtol=1e-12)
    np.testing.assert_allclose(state.velocity, slow, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_equal_gradients_are_amplified_equally_from_the_first_step():
    g = np.ones((50, 2))
    np.testing.assert_allclose(follow(amplified(0.98, 2.0), g)[0], 3 * g, rtol=1e-14)


def test_a_leaf_whose_first_gradient_is_late_starts_at_zero():
    tx, g = amplified(0.9, 1.0), jnp.ones(2)
    state = tx.init({"a": g})
    _, state = tx.update({"a": None}, state)
    d, _ = tx.update({"a": g}, state)
    np.testing.assert_allclose(d["a"], 1.1, rtol=1e-6)


def test_it_can_be_chained_before_any_optimizer():
    params = {"w": jnp.ones(3)}
    tx = optax.chain(amplified(0.9, 2.0), optax.adam(0.1))
    state = tx.init(params)
    grads = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    with jax.numpy_dtype_promotion("standard"):  # optax.adam mixes dtypes.
        _, state = tx.update(grads, state, params)
    np.testing.assert_allclose(state[1][0].mu["w"], 0.1 * 3 * 0.5, rtol=1e-6)
    assert momentax.velocity(state, path="[0].velocity")["w"][0] == 0.5
