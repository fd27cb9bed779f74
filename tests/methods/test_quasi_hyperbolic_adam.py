"""Quasi-hyperbolic Adam: Adam as its special case, and debiasing that is exact."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import quasi_hyperbolic_adam
from momentax.states import QuasiHyperbolicAdamState
from tests.methods.runs import draw, follow, follow_peer


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.usefixtures("x64")
def test_without_mixing_it_is_adam(dtype):
    g = draw(300, 4, dtype=dtype)
    ours, state = follow(quasi_hyperbolic_adam(0.9, 0.999, 1.0, 1.0), g)
    peer, adam = follow_peer(optax.scale_by_adam(0.9, 0.999, 1e-8), g)
    assert isinstance(state, QuasiHyperbolicAdamState)
    np.testing.assert_allclose(ours, peer, rtol=1e-12)
    np.testing.assert_allclose(state.velocity, adam.mu, rtol=1e-12)
    assert state.squares.dtype == float


@pytest.mark.usefixtures("x64")
def test_nu1_mixes_adam_with_the_gradient_over_the_same_root():
    g = draw(40, 4)
    ours, state = follow(quasi_hyperbolic_adam(0.9, 0.99, 0.6, 1.0), g)
    adam, _ = follow_peer(optax.scale_by_adam(0.9, 0.99, 1e-8), g)
    root = np.sqrt(state.squares / state.squares_weight) + 1e-8
    np.testing.assert_allclose(ours[-1], 0.4 * g[-1] / root + 0.6 * adam[-1], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_direction_of_equal_gradients_is_their_sign_under_any_schedule():
    g = np.tile([3.0, -0.25, 1e-3], (30, 1))
    shares = (draw(4, 30, seed=1) % 1.0) * 0.999
    schedules = [lambda t, row=row: jnp.asarray(row)[t] for row in shares]
    d, _ = follow(quasi_hyperbolic_adam(*schedules), g)
    np.testing.assert_allclose(d, g / (np.abs(g) + 1e-8), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_reset_restarts_the_debiasing_of_the_velocity_but_not_of_the_squares():
    tx, g = quasi_hyperbolic_adam(0.99, 0.9, 1.0), draw(50, 3)
    _, state = follow(tx, g)
    d, after = tx.update(g[0], momentax.reset_velocity(state))
    np.testing.assert_allclose(after.velocity / after.weight, g[0], rtol=1e-12)
    squares = 0.9 * state.squares + 0.1 * g[0] ** 2
    np.testing.assert_allclose(after.squares, squares, rtol=1e-12)
    np.testing.assert_allclose(after.squares_weight, 1 - 0.9**51, rtol=1e-12)
    root = np.sqrt(squares / (1 - 0.9**51)) + 1e-8
    np.testing.assert_allclose(d, g[0] / root, rtol=1e-12)
