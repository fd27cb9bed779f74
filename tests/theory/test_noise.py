"""Stationary variance and noise floor against closed forms, sums and a compiled run."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

import momentax
from momentax import theory
from tests.theory.systems import linear, lookahead_steps, read


def heavy_ball_variance(α, β, λ):
    return α * (1 + β) / (λ * (1 - β) * (2 * (1 + β) - α * λ))


@pytest.mark.parametrize(
    ("α", "β", "λ", "published"),
    [(0.1, 0.9, 1.0, 0.513514), (0.5, 0.5, 0.3, 1.754386), (0.05, 0.99, 2.0, 1.282216)],
)
def test_the_published_numbers(α, β, λ, published):
    variance = theory.stationary_variance(linear(α, 0.0, 1.0, β), λ, 1.0)
    np.testing.assert_allclose(variance, published, rtol=0, atol=5.1e-7)


@given(log_α=st.floats(-9, 6), β=st.floats(0, 0.999), share=st.floats(1e-4, 0.999))
def test_heavy_ball_is_the_closed_form(log_α, β, share):
    α = 10.0**log_α
    λ = share * 2 * (1 + β) / α
    variance = theory.stationary_variance(linear(α, 0.0, 1.0, β), λ, 3.0)
    np.testing.assert_allclose(variance, 3 * heavy_ball_variance(α, β, λ), rtol=1e-9)


@given(β=st.floats(0, 0.95), a=st.floats(0, 2), b=st.floats(0.1, 2), share=st.floats(0.05, 0.95))
def test_the_variance_is_the_sum_over_all_past_noise(β, a, b, share):
    λ = float(share * theory.stability_edge(β, gradient_weight=a, velocity_weight=b))
    A, B, C = system = linear(1.0, a, b, β)
    total, z = 0.0, B
    for _ in range(2000):
        total, z = total + (C @ z) ** 2, A @ z + λ * B * (C @ z)
    np.testing.assert_allclose(theory.stationary_variance(system, λ, 1.0), total, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [momentax.heavy_ball(0.9), momentax.nesterov(0.8)])
def test_a_compiled_run_has_the_variance(method):
    tx = momentax.sgd(0.1, method)
    λ = jnp.repeat(jnp.array([0.5, 2.0]), 2000)

    def step(carry, key):
        θ, state = carry
        u, state = tx.update(λ * θ + 2 * jax.random.normal(key, θ.shape), state, θ)
        return (optax.apply_updates(θ, u), state), jnp.mean(θ.reshape(2, -1) ** 2, axis=1)

    θ = jnp.zeros(λ.size)
    _, seen = jax.lax.scan(step, (θ, tx.init(θ)), jax.random.split(jax.random.key(0), 700))
    expected = theory.stationary_variance(tx, [0.5, 2.0], 4.0)
    np.testing.assert_allclose(np.mean(seen[200:], axis=0), expected, rtol=0.02)


@pytest.mark.parametrize("λ", [1e-15, 1e-8, 1.0])
def test_the_variance_keeps_all_digits_of_slow_modes(λ):
    for β in (0.0, 0.9, 0.9999):
        variance = theory.stationary_variance(linear(1.0, 0.0, 1.0, β), λ, 1.0)
        np.testing.assert_allclose(variance, heavy_ball_variance(1.0, β, λ), rtol=1e-10)
    floor = theory.noise_floor(optax.sgd(1e-3), [1e-14, 1.0], 1.0)
    np.testing.assert_allclose(floor, 0.5 * (1e-3 / 2 + 1e-3 / (2 - 1e-3)), rtol=1e-9)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
def test_the_sum_solves_the_lyapunov_equation(seed, n):
    rng = np.random.default_rng(seed)
    A, B, C = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=n)
    A *= rng.uniform(0.1, 0.95) / np.abs(np.linalg.eigvals(A)).max()
    λ = 0.02 / np.linalg.norm(B) / np.linalg.norm(C)
    M = A + λ * np.outer(B, C)
    if np.abs(np.linalg.eigvals(M)).max() < 0.98:
        Σ = solve_discrete_lyapunov(M, np.outer(B, B))
        variance = theory.stationary_variance(theory.StateSpace(A, B, C), λ, 1.0)
        np.testing.assert_allclose(variance, C @ Σ @ C, rtol=1e-9)


def test_an_oscillation_that_never_decays_has_no_variance():
    assert np.isinf(theory.stationary_variance(linear(0.01, 0.0, 1.0, 1.0), [1.0, 10.0], 1.0)).all()


def test_an_unstable_system_has_no_variance():
    system = linear(0.1, 0.0, 1.0, 0.9)
    variance = theory.stationary_variance(system, [-1.0, 0.0, 1.0, 38.0, 100.0], [[1.0], [0.0]])
    assert np.isinf(variance[:, [0, 1, 3, 4]]).all()
    np.testing.assert_allclose(variance[:, 2], [heavy_ball_variance(0.1, 0.9, 1.0), 0], rtol=1e-12)


def test_arguments_broadcast():
    system = linear(0.1, 0.0, 1.0, 0.9)
    assert theory.stationary_variance(system, 1.0, 1.0).shape == ()
    assert theory.stationary_variance(system, np.ones((3, 1)), np.ones(2)).shape == (3, 2)
    assert theory.noise_floor(system, 1.0, 1.0).shape == ()
    assert theory.noise_floor(system, np.ones((3, 4)), 1.0).shape == (3,)
    assert theory.noise_floor(system, np.ones(4), np.ones((2, 1))).shape == (2,)


def test_the_noise_floor_is_half_the_curvatures_times_the_variances():
    α, β, λ, σ2 = 0.05, 0.8, np.array([0.1, 1.0, 30.0]), np.array([1.0, 2.0, 0.5])
    expected = np.sum(λ * σ2 * heavy_ball_variance(α, β, λ)) / 2
    system = linear(α, 0.0, 1.0, β)
    np.testing.assert_allclose(theory.noise_floor(system, λ, σ2), expected, rtol=1e-11)
    # A flat direction adds nothing, and one that diverges makes the floor infinite.
    floor = theory.noise_floor(system, [[0.0, *λ], [*λ, 80.0]], [*σ2, 1.0])
    np.testing.assert_allclose(
        floor[0], np.sum(λ * [2.0, 0.5, 1.0] * heavy_ball_variance(α, β, λ)) / 2, rtol=1e-11
    )
    assert floor[1] == np.inf


def test_for_small_steps_the_floor_is_that_of_descent_at_the_effective_learning_rate():
    ball = theory.noise_floor(linear(1e-5, 0.0, 1.0, 0.9), [1.0, 2.0], 1.0)
    descent = theory.noise_floor(linear(1e-4, 1.0, 0.0, 0.0), [1.0, 2.0], 1.0)
    np.testing.assert_allclose(ball, descent, rtol=1e-3)


LOOKAHEAD = {period: optax.lookahead(optax.sgd(0.1, 0.8), period, 0.4) for period in (2, 5, 12)}


@pytest.mark.parametrize("period", LOOKAHEAD)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_over_a_period_it_is_the_mean_of_the_variances_of_its_steps(period, share):
    α, β, slow = 0.1, 0.8, 0.4
    system = read(LOOKAHEAD[period])
    λ = share * theory.sharpness_limit(system)
    Σ, seen = np.zeros((3, 3)), []
    for t in range(4000):
        A, B = lookahead_steps(α, β, period, slow)[t % period]
        seen.append(Σ[0, 0])
        A = A + λ * np.outer(B, [1, 0, 0])
        Σ = A @ Σ @ A.T + np.outer(B, B)
    expected = np.mean(seen[-period:])
    np.testing.assert_allclose(theory.stationary_variance(system, λ, 3.0), 3 * expected, rtol=1e-10)
    np.testing.assert_allclose(
        theory.noise_floor(system, [0.0, λ], [1.0, 2.0]), λ * expected, rtol=1e-10
    )
    # The variances of the steps differ, so that the mean is tested.
    assert np.ptp(seen[-period:]) > 0.01 * expected
    unstable = theory.stationary_variance(system, [-1.0, 0.0, λ / share * 1.01], 1.0)
    assert np.isinf(unstable).all()


@pytest.mark.parametrize("every", [1, 2, 5])
def test_accumulating_divides_the_variance_by_the_number_of_gradients(every):
    α, β, λ = 0.1, 0.7, np.array([0.2, 3.0, 20.0])
    tx = optax.MultiSteps(optax.sgd(α, β), every)  # Its means are float32 whatever the precision.
    variance = theory.stationary_variance(tx, λ, 1.0)
    np.testing.assert_allclose(variance, heavy_ball_variance(α, β, λ) / every, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_compiled_run_with_a_period_has_the_variance():
    tx, λ = optax.lookahead(optax.sgd(0.1, 0.8), 4, 0.5), 2.0

    def step(carry, key):
        params, state = carry
        θ = params.fast
        u, state = tx.update(λ * θ + 2 * jax.random.normal(key, θ.shape), state, params)
        return (optax.apply_updates(params, u), state), jnp.mean(θ**2)

    params = optax.LookaheadParams.init_synced(jnp.zeros(2000))
    with jax.numpy_dtype_promotion("standard"):  # It scales the slow parameters in float32.
        keys = jax.random.split(jax.random.key(0), 600)
        _, seen = jax.lax.scan(step, (params, tx.init(params)), keys)
    expected = theory.stationary_variance(tx, λ, 4.0)
    np.testing.assert_allclose(np.mean(seen[200:]), expected, rtol=0.02)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda tx: theory.noise_floor(tx, -1.0, 1.0), "curvatures must be in [0, inf), got -1.0"),
        (
            lambda tx: theory.stationary_variance(tx, 1.0, -1.0),
            "gradient_variance must be in [0, inf), got -1.0",
        ),
        (
            lambda tx: theory.stationary_variance(tx, np.nan, 1.0),
            "curvature must be in (-inf, inf)",
        ),
    ],
)
def test_errors_of_bad_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        call(linear(0.1, 0.0, 1.0, 0.9))
