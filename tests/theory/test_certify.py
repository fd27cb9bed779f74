"""Certificates: the published rates, systems without one, and each proof checked by hand."""

import re
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import momentax
from momentax import theory
from momentax.theory import Certificate, StateSpace
from tests.theory.systems import linear

CYCLE = np.array([-2208, 792, 2592]) / 1225


def triple_momentum(mu, L):
    α, β1, β2, _, _ = theory.triple_momentum(mu, L)
    return linear(α, β2 / β1, 1 + β2 - β2 / β1, β1)


def heavy_ball(mu, L):
    α, β, _ = theory.optimal_heavy_ball(mu, L)
    return linear(α, 0.0, 1.0, β)


def nesterov(mu, L):
    α, β, _ = theory.optimal_nesterov(mu, L)
    return linear(α, 1.0, β, β)


def descent(α):
    return StateSpace(np.eye(1), np.array([-α]), np.ones(1))


def slowest(system, mu, L):
    """The rate on quadratics."""
    A, B, C = system
    curvatures = np.linspace(mu, L, 1001)
    loops = A + curvatures[:, None, None] * np.outer(B, C)
    return np.abs(np.linalg.eigvals(loops)).max()


@pytest.mark.parametrize("kappa", [2.0, 10.0, 100.0, 1e3, 1e4])
def test_triple_momentum_reaches_its_rate(kappa):
    certificate = theory.certify(triple_momentum(1.0, kappa), 1.0, kappa)
    assert isinstance(certificate, Certificate)
    exact = 1 - 1 / np.sqrt(kappa)
    assert exact < certificate.rate < exact + 2e-4


def test_nesterov_at_the_published_condition_number():
    certificate = theory.certify(nesterov(1.0, 13.7), 1.0, 13.7)
    np.testing.assert_allclose(certificate.rate, 0.7914, rtol=0, atol=5e-5)


@pytest.mark.parametrize("kappa", [10.0, 100.0, 1e4])
def test_nesterov_is_proved_faster_than_by_estimate_sequences(kappa):
    rate = theory.certify(nesterov(1.0, kappa), 1.0, kappa).rate
    assert theory.nesterov_rate(kappa) < rate < np.sqrt(theory.nesterov_rate(kappa))


@settings(max_examples=10)
@given(log_kappa=st.floats(0.05, 4), share=st.floats(0.05, 0.98))
def test_descent_is_certified_at_its_rate_on_quadratics(log_kappa, share):
    L = 10.0**log_kappa
    α = share * 2 / L
    certificate = theory.certify(descent(α), 1.0, L)
    exact = max(abs(1 - α), abs(1 - α * L))
    assert exact < certificate.rate <= exact + 1e-5 * (1 - exact)


def test_heavy_ball_tuned_for_quadratics_has_no_certificate_but_at_small_condition_numbers():
    for kappa in (19.0, 30.0, 100.0):
        assert theory.certify(heavy_ball(1.0, kappa), 1.0, kappa) is None
    assert theory.optimal_heavy_ball(1.0, 100.0).rate < 0.8182
    certificate = theory.certify(heavy_ball(1.0, 10.0), 1.0, 10.0)
    assert theory.heavy_ball_rate(10.0) < certificate.rate < 0.861


@pytest.mark.usefixtures("x64")
def test_heavy_ball_without_certificate_cycles_for_ever():
    """The function of Lessard, Recht and Packard: curvatures 1 and 25, tuned for the two."""
    tx = momentax.sgd(1 / 9, momentax.heavy_ball(4 / 9))
    np.testing.assert_allclose(theory.optimal_heavy_ball(1.0, 25.0)[:2], (1 / 9, 4 / 9))

    def loss(x):
        middle, steep = x**2 / 2 + 24 * x - 12, 12.5 * x**2 - 24 * x + 36
        return jnp.where(x < 1, 12.5 * x**2, jnp.where(x < 2, middle, steep))

    path = momentax.rollout(loss, jnp.array(3.3), tx, 303, record="params").history["params"]
    np.testing.assert_allclose(np.sort(path[-3:]), CYCLE, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.sort(path[-6:-3]), CYCLE, rtol=0, atol=1e-14)
    assert theory.certify(tx, 1.0, 25.0) is None


@settings(max_examples=10)
@given(
    a=st.floats(0, 2),
    b=st.floats(0.05, 2),
    β=st.floats(0, 0.95),
    log_kappa=st.floats(0.1, 2),
    share=st.floats(0.05, 0.95),
)
def test_no_rate_is_below_the_one_on_quadratics(a, b, β, log_kappa, share):
    L = 10.0**log_kappa
    system = linear(
        float(share * theory.stability_edge(β, gradient_weight=a, velocity_weight=b) / L), a, b, β
    )
    certificate = theory.certify(system, 1.0, L)
    if certificate is not None:
        assert slowest(system, 1.0, L) <= certificate.rate < 1


def positive_definite(matrix):
    """Elimination, in the arithmetic of the entries."""
    matrix = matrix.copy()
    for i, row in enumerate(matrix):
        if row[i] <= 0:
            return False
        for other in matrix[i + 1 :]:
            other -= row * (other[i] / row[i])
    return True


@pytest.mark.parametrize(
    ("system", "mu", "L"),
    [
        (triple_momentum(0.1, 1.0), 0.1, 1.0),
        (triple_momentum(1.0, 1e4), 1.0, 1e4),
        (nesterov(1.0, 100.0), 1.0, 100.0),
        (heavy_ball(1.0, 10.0), 1.0, 10.0),
        (descent(0.1), 1.0, 10.0),
        (linear(0.05, 0.3, 0.07, 0.9, decay=0.01), 1.0, 10.0),
    ],
    ids=["triple momentum", "at a large κ", "Nesterov", "heavy ball", "descent", "with decay"],
)
def test_the_proof_holds_in_exact_arithmetic(system, mu, L):
    A, B, C = system
    rate, (σ, η), P = theory.certify(system, mu, L)
    assert 0 <= η <= rate**2 * σ
    np.testing.assert_array_equal(P, P.T)
    np.testing.assert_allclose(np.trace(P), 1, rtol=1e-12)

    # V⁺ - ρ² V + σ (g - μ θ)(L θ - g) + η (g - μ θ) ξ, as a matrix from its values.
    exact = np.vectorize(Fraction, otypes=[object])
    E, F, H, Π, ρ = (exact(each) for each in (A, B, C, P, rate))

    def left(x):
        z, ξ, g = x[:-2], x[-2], x[-1]
        θ = H @ z
        now, after = np.append(z, ξ), np.append(E @ z + F * g, g - Fraction(L) * θ)
        change = after @ Π @ after - ρ**2 * (now @ Π @ now)
        below, above = g - Fraction(mu) * θ, Fraction(L) * θ - g
        return change + below * (Fraction(σ) * above + Fraction(η) * ξ)

    units = exact(np.eye(len(A) + 2))
    Q = np.array([[left(d + e) - left(d) - left(e) for e in units] for d in units])
    assert positive_definite(-Q)
    assert positive_definite(Π)

    # The bound holds along a path on a function that is not quadratic.
    rng = np.random.default_rng(0)
    z, ξ = rng.normal(size=len(A)), 0.0
    start = bound = np.append(z, ξ) @ P @ np.append(z, ξ)
    for _ in range(60):
        θ = C @ z
        g = L * θ if θ < 0 else mu * θ + (L - mu) * np.log1p(θ)
        z, ξ = A @ z + B * g, g - L * θ
        bound *= rate**2
        assert np.append(z, ξ) @ P @ np.append(z, ξ) <= bound + 1e-12 * start


@pytest.mark.parametrize("every", [2, 5])
def test_accumulated_gradients_have_the_certificate_of_the_wrapped_optimizer(every):
    inside = theory.certify(nesterov(1.0, 20.0), 1.0, 20.0).rate
    α, β, _ = theory.optimal_nesterov(1.0, 20.0)
    tx = optax.MultiSteps(momentax.sgd(α, momentax.nesterov(β)), every)
    rate, (σ, η), P = theory.certify(tx, 1.0, 20.0)
    np.testing.assert_allclose(rate**every, inside, rtol=0, atol=2e-6)
    assert σ.shape == η.shape == (every,)
    assert len(P) == len(theory.state_space(tx).A) + every


@pytest.mark.parametrize("period", [2, 6, 20])
def test_lookahead_around_descent_is_certified_at_its_rate_on_quadratics(period):
    """If no step overshoots, each contracts the fast parameters and the last one mixes them in."""
    tx = optax.lookahead(optax.sgd(0.09), period, 0.3)
    exact = (0.7 + 0.3 * 0.91**period) ** (1 / period)
    rate = theory.certify(tx, 1.0, 10.0).rate
    assert exact < rate < exact + 1e-5 * (1 - exact)


@pytest.mark.parametrize(
    "tx",
    [
        optax.lookahead(momentax.sgd(0.15, momentax.nesterov(0.5)), 3, 0.8),
        momentax.sgd(0.05, momentax.restart(momentax.heavy_ball(0.5), 3)),
        optax.chain(optax.apply_every(2), optax.add_decayed_weights(0.1), optax.sgd(0.04, 0.3)),
    ],
    ids=["lookahead", "restart", "accumulation with decay"],
)
def test_the_proof_over_a_period_holds_step_by_step(tx):
    mu, L = 1.0, 10.0
    A, B, C = theory.state_space(tx)
    n, p = B.shape
    rate, (σ, η), P = theory.certify(tx, mu, L)
    assert theory.rate(tx, mu, L) <= rate < 1
    assert (η >= 0).all()
    assert (η <= σ).all()
    assert (η <= rate**2 * np.roll(σ, 1) * (1 + 1e-12)).all()
    np.testing.assert_allclose(np.trace(P), 1, rtol=1e-12)
    assert np.linalg.eigvalsh(P)[0] > 0

    # All steps at once, each on its own part of (z, ξ), and the form that is weighted.
    z, ξ, g = np.split(np.eye(n + 2 * p), [n, n + p])
    θ = C @ z
    after = np.vstack([A @ z + B @ g, np.roll(g - L * θ, 1, axis=0)])
    now = np.eye(n + p, n + 2 * p)
    Q = after.T @ P @ after - rate**2 * now.T @ P @ now
    Q += (g - mu * θ).T @ (σ[:, None] * (L * θ - g) + η[:, None] * ξ)
    assert np.linalg.eigvalsh(Q + Q.T)[-1] <= 1e-9 * np.abs(Q).max()

    # The bound holds along a path on a function that is not quadratic.
    z, ξ = np.eye(n)[0] * 3, np.zeros(p)
    start = bound = np.append(z, ξ) @ P @ np.append(z, ξ)
    for t in range(90):
        g, θ = np.zeros(p), (C @ z)[t % p]
        g[t % p] = L * θ if θ < 0 else mu * θ + (L - mu) * np.log1p(θ)
        z, ξ = A @ z + B @ g, np.roll(g - L * C @ z, 1)
        ξ[np.arange(p) != (t + 1) % p] = 0
        bound *= rate**2
        assert np.append(z, ξ) @ P @ np.append(z, ξ) <= bound + 1e-12 * start


def test_neither_units_nor_coordinates_matter():
    A, B, C = nesterov(1.0, 20.0)
    expected = theory.certify(StateSpace(A, B, C), 1.0, 20.0).rate
    small = theory.certify(StateSpace(A, B * 1e-6, C), 1e6, 20e6).rate
    T = np.array([[2.0, -1.0], [0.5, 3.0]])
    turned = StateSpace(T @ A @ np.linalg.inv(T), T @ B, C @ np.linalg.inv(T))
    np.testing.assert_allclose(small, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(theory.certify(turned, 1.0, 20.0).rate, expected, rtol=0, atol=2e-6)


def test_an_unreachable_state_is_allowed():
    unreached = linear(0.1, 1.0, 0.0, 0.5)._replace(A=np.diag([1.0, 0.5]))
    certificate = theory.certify(unreached, 1.0, 10.0)
    np.testing.assert_allclose(certificate.rate, 0.9, rtol=0, atol=1e-5)
    assert certificate.P.shape == (3, 3)


def test_decay_alone_shrinks_at_its_own_rate():
    tx = StateSpace(np.array([[0.9]]), np.zeros(1), np.ones(1))
    np.testing.assert_allclose(theory.certify(tx, 1.0, 10.0).rate, 0.9, rtol=0, atol=1e-5)


def test_one_curvature_is_a_quadratic():
    np.testing.assert_allclose(theory.certify(descent(0.25), 2.0, 2.0).rate, 0.5, atol=2e-6)


def test_a_system_that_does_not_converge_has_no_certificate():
    assert theory.certify(descent(0.21), 1.0, 10.0) is None
    assert theory.certify(descent(0.0), 1.0, 10.0) is None


def test_a_transformation_is_certified_as_its_system():
    tx = momentax.sgd(0.05, momentax.nesterov(0.6))
    with jax.enable_x64(True):
        rate = theory.certify(tx, 1.0, 20.0).rate
    expected = theory.certify(linear(0.05, 1.0, 0.6, 0.6), 1.0, 20.0).rate
    np.testing.assert_allclose(rate, expected, rtol=0, atol=2e-6)


def test_without_cvxpy_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    text = "certify needs cvxpy, which is not installed; pip install 'momentax[certify]'"
    with pytest.raises(ImportError, match=re.escape(text)):
        theory.certify(descent(0.1), 1.0, 10.0)


@pytest.mark.parametrize(
    ("mu", "L", "text"),
    [
        (0.0, 1.0, "mu must be in (0, inf), got 0.0"),
        (2.0, 1.0, "mu must not exceed L, got mu=2.0 and L=1.0; are they swapped?"),
        ([1.0, 2.0], 3.0, "mu must be one number in (0, inf), got shape (2,)"),
    ],
)
def test_errors_of_bad_arguments(mu, L, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        theory.certify(descent(0.1), mu, L)
