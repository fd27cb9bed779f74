"""Rates and tunings against the published table and against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentax import theory

# κ, plain descent at 1/L and at 2/(L+μ), heavy ball (rate, α L, β), Nesterov's rate at 1/L and its
# β, Nesterov tuned for quadratics (rate, α L, β), the certified √(1 - 1/√κ).
TABLE = [
    (10, 0.900000, 0.818182, (0.519494, 2.308862, 0.269874), (0.683772, 0.519494),
     (0.640789, 1.290323, 0.471442), 0.826905),
    (100, 0.990000, 0.980198, (0.818182, 3.305785, 0.669421), (0.900000, 0.818182),
     (0.884722, 1.328904, 0.793275), 0.948683),
    (1000, 0.999000, 0.998002, (0.938693, 3.758531, 0.881145), (0.968377, 0.938693),
     (0.963491, 1.332889, 0.929554), 0.984062),
    (10000, 0.999900, 0.999800, (0.980198, 3.921184, 0.960788), (0.990000, 0.980198),
     (0.988453, 1.333289, 0.977170), 0.994987),
]  # fmt: skip


def worst(tuning, a, b, mu, L):
    """The worst spectral radius over the curvatures of an interval, by brute force."""
    curvatures = np.geomspace(mu, L, 400)
    return theory.spectral_radius(
        tuning.learning_rate, curvatures, tuning.beta, gradient_weight=a, velocity_weight=b
    ).max()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"κ={row[0]}")
def test_the_published_table_to_six_digits(row):
    κ, at_1_L, descent, heavy_ball, standard, tuned, certified = row

    def same(value, published):
        np.testing.assert_allclose(value, published, rtol=0, atol=5.1e-7)

    same(
        theory.spectral_radius(
            1.0, [1 / κ, 1.0], 0.0, gradient_weight=1.0, velocity_weight=0.0
        ).max(),
        at_1_L,
    )
    same(theory.gradient_descent_rate(κ), descent)
    same(theory.heavy_ball_rate(κ), heavy_ball[0])
    same(theory.nesterov_rate(κ), standard[0])
    same(theory.nesterov_rate(κ, quadratic=True), tuned[0])
    same(np.sqrt(theory.nesterov_rate(κ)), certified)
    ball = theory.optimal_heavy_ball(1 / κ, 1.0)
    same((ball.rate, ball.learning_rate, ball.beta), heavy_ball)
    nesterov = theory.optimal_nesterov(1 / κ, 1.0)
    same((nesterov.rate, nesterov.learning_rate, nesterov.beta), (standard[0], 1.0, standard[1]))
    nesterov = theory.optimal_nesterov(1 / κ, 1.0, quadratic=True)
    same((nesterov.rate, nesterov.learning_rate, nesterov.beta), tuned)


@given(log_κ=st.floats(0.05, 5), log_L=st.floats(-3, 3))
def test_each_tuning_reaches_its_rate_and_no_more(log_κ, log_L):
    L = 10.0**log_L
    mu = L / 10.0**log_κ
    descent = theory.optimal_gradient_descent(mu, L)
    ball = theory.optimal_heavy_ball(mu, L)
    standard = theory.optimal_nesterov(mu, L)
    tuned = theory.optimal_nesterov(mu, L, quadratic=True)
    for tuning, a, b in (
        (descent, 1.0, 0.0),
        (ball, 0.0, 1.0),
        (standard, 1.0, standard.beta),
        (tuned, 1.0, tuned.beta),
    ):
        # At critical damping half of the digits of a root are left.
        np.testing.assert_allclose(worst(tuning, a, b, mu, L), tuning.rate, rtol=1e-6)


@pytest.mark.parametrize("κ", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("method", ["descent", "heavy ball", "nesterov"])
def test_no_other_hyperparameters_do_better(method, κ):
    make = {
        "descent": (theory.optimal_gradient_descent, lambda β: (1.0, 0.0)),
        "heavy ball": (theory.optimal_heavy_ball, lambda β: (0.0, 1.0)),
        "nesterov": (
            lambda mu, L: theory.optimal_nesterov(mu, L, quadratic=True),
            lambda β: (1.0, β),
        ),
    }
    tune, weights = make[method]
    best = tune(1 / κ, 1.0)
    for factor in np.linspace(0.9, 1.1, 21):
        for β in np.clip(best.beta + np.linspace(-0.1, 0.1, 21), 0, 0.999):
            other = best._replace(learning_rate=factor * best.learning_rate, beta=β)
            if method == "descent":
                other = other._replace(beta=0.0)
            assert worst(other, *weights(other.beta), 1 / κ, 1.0) >= best.rate - 1e-7


def test_where_beta_0_9_is_optimal():
    assert round(float(theory.optimal_heavy_ball(1, 100).beta), 3) == 0.669
    κ = ((1 + np.sqrt(0.9)) / (1 - np.sqrt(0.9))) ** 2
    np.testing.assert_allclose(κ, 1442, atol=1)
    np.testing.assert_allclose(theory.optimal_heavy_ball(1, κ).beta, 0.9, rtol=1e-12)


def test_everything_broadcasts():
    mu, L = np.array([[1.0], [0.1]]), np.array([2.0, 20.0, 200.0])
    for tune in (
        theory.optimal_gradient_descent,
        theory.optimal_heavy_ball,
        theory.optimal_nesterov,
        lambda mu, L: theory.optimal_nesterov(mu, L, quadratic=True),
    ):
        tuning = tune(mu, L)
        assert isinstance(tuning, theory.Tuning)
        for i, j in np.ndindex(2, 3):
            single = tune(mu[i, 0], L[j])
            for field in theory.Tuning._fields:
                assert np.shape(getattr(tuning, field)) == (2, 3)
                assert getattr(tuning, field)[i, j] == getattr(single, field)


@pytest.mark.parametrize(
    "rate", [theory.gradient_descent_rate, theory.heavy_ball_rate, theory.nesterov_rate]
)
def test_a_condition_number_below_one_raises(rate):
    assert rate(1.0) == 0
    for κ in (0.5, -1.0, np.nan, np.inf, [2.0, 0.9]):
        with pytest.raises(ValueError, match=r"kappa must be in \[1, inf\), got"):
            rate(κ)
    for κ in ("10", None, True, 2 + 1j):
        with pytest.raises(TypeError, match="kappa must be real numbers"):
            rate(κ)


@pytest.mark.parametrize(
    "tune",
    [theory.optimal_gradient_descent, theory.optimal_heavy_ball, theory.optimal_nesterov],
)
def test_bad_curvatures_raise(tune):
    with pytest.raises(ValueError, match=r"mu must not exceed L, got mu=2.0 and L=1.0; .*swapped"):
        tune(2, 1)
    with pytest.raises(ValueError, match="mu must not exceed L"):
        tune([1.0, 3.0], 2.0)
    for mu in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"mu must be in \(0, inf\), got"):
            tune(mu, 1)
