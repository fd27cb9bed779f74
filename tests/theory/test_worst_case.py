"""Triple and robust momentum: the published numbers, and the rate seen on functions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import theory
from momentax.theory import WorstCaseTuning


@pytest.mark.parametrize(
    ("kappa", "published"),
    [
        (10, (1.683772, 0.355215, 0.210964)),
        (100, (1.9, 0.736364, 0.387560)),
        (1000, (1.968377, 0.909009, 0.461806)),
        (10000, (1.99, 0.970396, 0.487636)),
    ],
)
def test_triple_momentum_is_the_published_table(kappa, published):
    tuning = theory.triple_momentum(1 / kappa, 1.0)
    np.testing.assert_allclose(tuning[:3], published, rtol=0, atol=5.1e-7)
    np.testing.assert_allclose(tuning.rate, 1 - 1 / np.sqrt(kappa), rtol=1e-15)
    np.testing.assert_allclose(tuning.delta, tuning.rate**2 / (1 - tuning.rate**2), rtol=1e-14)


@given(log_kappa=st.floats(0.01, 6), log_L=st.floats(-3, 3))
def test_robust_momentum_starts_at_triple_momentum(log_kappa, log_L):
    L, kappa = 10.0**log_L, 10.0**log_kappa
    triple = theory.triple_momentum(L / kappa, L)
    robust = theory.robust_momentum(L / kappa, L, rate=triple.rate)
    np.testing.assert_allclose(robust[:3], triple[:3], rtol=1e-9)
    assert robust.delta == 0


@given(log_kappa=st.floats(0.1, 4), share=st.floats(0, 1))
def test_on_quadratics_the_rate_is_reached_and_not_exceeded(log_kappa, share):
    kappa = 10.0**log_kappa
    slowest, fastest = 1 - 1 / kappa, 1 - 1 / np.sqrt(kappa)
    tuning = theory.robust_momentum(1.0, kappa, rate=fastest + share * (slowest - fastest))
    α, b1, b2, _, ρ = tuning
    curvatures = np.geomspace(1.0, kappa, 500)
    worst = theory.spectral_radius(
        α, curvatures, b1, gradient_weight=b2 / b1, velocity_weight=1 + b2 - b2 / b1
    ).max()
    np.testing.assert_allclose(worst, ρ, rtol=1e-6)


def test_arguments_broadcast():
    tuning = theory.robust_momentum(1.0, [[10.0], [20.0]], rate=[0.8, 0.85])
    assert isinstance(tuning, WorstCaseTuning)
    assert all(field.shape == (2, 2) for field in tuning)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: theory.triple_momentum(2.0, 1.0), "mu must not exceed L"),
        (lambda: theory.triple_momentum(0.0, 1.0), "mu must be in (0, inf), got 0.0"),
        (lambda: theory.triple_momentum(1.0, 1.0), "mu must be below L, got mu=1.0 and L=1.0"),
        (lambda: theory.robust_momentum(1.0, 1.0, 0.0), "mu must be below L"),
        (
            lambda: theory.robust_momentum(1.0, 100.0, rate=0.5),
            "rate must be in [1 - 1/√κ, 1 - 1/κ] = [0.9, 0.99] at κ = 100.0, got 0.5",
        ),
        (lambda: theory.robust_momentum(1.0, 100.0, rate=1.0), "rate must be in [0, 1), got 1.0"),
    ],
)
def test_errors_of_bad_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        call()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kappa", [20.0, 400.0])
def test_errors_shrink_at_the_certified_rate_where_heavy_ball_cycles(kappa):
    """A smooth strongly convex function that is no quadratic: one side steep, the other flat."""
    triple = theory.triple_momentum(1.0, kappa)
    robust = theory.robust_momentum(1.0, kappa, rate=(triple.rate + 1 - 1 / kappa) / 2)

    def gradient(x):
        return jnp.where(x < 0, kappa * x, x)

    for tuning in (triple, robust):
        method = momentax.synthesized_nesterov(tuning.beta1, tuning.beta2, delta=tuning.delta)
        tx = momentax.sgd(float(tuning.learning_rate), method)

        def step(carry, _, tx=tx):
            x, state = carry
            u, state = tx.update(gradient(x), state, x)
            return (x + u, state), x + u

        steps = int(np.ceil(np.log(1e-9) / np.log(tuning.rate)))
        start = jnp.linspace(-2.0, 2.0, 8)
        _, path = jax.lax.scan(step, (start, tx.init(start)), length=steps)
        bound = 100 * kappa * tuning.rate ** np.arange(1, steps + 1)
        assert np.all(np.abs(path).max(axis=1) <= bound)


def test_robust_momentum_needs_a_rate():
    with pytest.raises(TypeError, match=r"^rate is missing: give a factor per step in"):
        theory.robust_momentum(1.0, 100.0)
