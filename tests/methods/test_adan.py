"""Adan: constant gradients in closed form, and the difference of optax.adan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import adan
from momentax.states import AdanState
from tests.methods.runs import draw, follow, follow_peer


@pytest.mark.usefixtures("x64")
def test_the_direction_of_equal_gradients_is_their_sign_under_any_schedule():
    g = np.tile([3.0, -0.25, 1e-3], (30, 1))
    shares = (draw(3, 30, seed=1) % 1.0) * 0.999
    schedules = [lambda t, row=row: jnp.asarray(row)[t] for row in shares]
    d, state = follow(adan(*schedules), g)
    assert isinstance(state, AdanState)
    np.testing.assert_allclose(d, g / (np.abs(g) + 1e-8), rtol=1e-12)
    assert not np.any(state.difference)


@pytest.mark.usefixtures("x64")
def test_gradients_that_grow_linearly_are_extrapolated_by_their_slope():
    """For a slope c and equal β, the mean lags by cβ/(1 - β) in the long run; βc is added to it."""
    β, c = 0.5, 0.25
    g = c * np.arange(200.0)[:, None]
    _, state = follow(adan(β, β, 0.0), g)
    mean, trend = state.velocity / state.weight, state.difference / state.difference_weight
    np.testing.assert_allclose(mean, g[-1] - c * β / (1 - β), rtol=1e-12)
    np.testing.assert_allclose(trend, c, rtol=1e-12)
    np.testing.assert_allclose(state.squares, (g[-1] + β * c) ** 2, rtol=1e-12)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.usefixtures("x64")
def test_optax_adan_is_adan_where_beta2_is_one_half(dtype):
    """It weighs the differences by 1 - β2 where the paper and its code have β2."""
    g = draw(300, 4, dtype=dtype)
    ours, _ = follow(adan(0.98, 0.5, 0.99), g)
    theirs, _ = follow_peer(optax.scale_by_adan(0.98, 0.5, 0.99), g)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_optax_adan_differs_at_the_published_betas():
    """By more than a hundredth of the way within 100 steps."""
    hessian = np.diag([1.0, 10.0, 100.0])

    def path(tx):
        def step(carry, _):
            θ, state = carry
            u, state = tx.update(hessian @ θ, state, θ)
            θ = optax.apply_updates(θ, u)
            return (θ, state), θ

        start = jnp.ones(3)
        return np.asarray(jax.lax.scan(step, (start, tx.init(start)), length=100)[1])

    ours = path(momentax.sgd(0.05, adan()))
    with jax.numpy_dtype_promotion("standard"):
        theirs = path(optax.adan(0.05))
    gap = np.abs(ours - theirs).max()
    assert 1e-2 < gap < 1


@pytest.mark.usefixtures("x64")
def test_reset_restarts_only_the_debiasing_of_the_velocity():
    tx, g = adan(), draw(50, 3)
    _, state = follow(tx, g)
    reset = momentax.reset_velocity(state)
    untouched = {"difference", "squares", "gradient", "difference_weight", "squares_weight"}
    for field in untouched:
        np.testing.assert_array_equal(getattr(reset, field), getattr(state, field))
    _, after = tx.update(g[0], reset)
    np.testing.assert_allclose(after.velocity / after.weight, g[0], rtol=1e-12)
