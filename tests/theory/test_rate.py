"""Rates and edges of systems, against closed forms and brute force."""

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import sgd, theory
from momentax.theory import StateSpace
from tests.theory.systems import Record, aggregated, linear


def brute(system, mu, L, points=20_001):
    return theory.rate_at(system, np.linspace(mu, L, points)).max()


EDGES = [
    (linear(1.0, 0, 1, 0.9), 3.8),
    (linear(0.1, 0, 1, 0.9), 38.0),
    (linear(1e-9, 0, 1, 0.9), 3.8e9),
    (linear(1.0, 1, 0.9, 0.9), 3.8 / 2.8),
    (linear(1.0, 1, 0, 0.5), 2.0),
    (linear(1.0, 0.3, 0.7 * 0.1, 0.9), 3.8 / (1 + 0.9 * (1 - 1.4))),
    (aggregated(1.0, 0, 0.9), 2 / np.mean([1, 1 / 1.9])),
    (aggregated(1.0, 0, 0.9, 0.99), 2 / np.mean([1, 1 / 1.9, 1 / 1.99])),
    (linear(1.0, -0.2, 1, 0.9), 0.1 / 0.18),  # Roots leave the unit circle at a complex angle.
    (linear(1.0, 1, -0.1, 0.9), 0.0),  # It does not descend.
    (linear(1.0, 0, -1, 0.9), 0.0),
]


@pytest.mark.parametrize(("system", "edge"), EDGES)
def test_stability_edges_in_closed_form(system, edge):
    np.testing.assert_allclose(theory.sharpness_limit(system), edge, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "edge"),
    [
        (momentax.heavy_ball(0.9), 3.8),
        (momentax.heavy_ball(0.9, dampening=0.5), 7.6),
        (momentax.nesterov(0.9), 3.8 / 2.8),
        (momentax.quasi_hyperbolic(0.9, 0.7), 3.8 / (1 + 0.9 * (1 - 1.4))),
        (momentax.average(0.9), 38.0),
        (momentax.aggregated((0.0, 0.9, 0.99)), 2 / np.mean([1, 1 / 1.9, 1 / 1.99])),
        (optax.chain(optax.ema(0.9), optax.scale(10)), 3.8),
    ],
    ids=lambda value: None,
)
def test_stability_edges_of_transformations(method, edge):
    np.testing.assert_allclose(theory.sharpness_limit(sgd(1.0, method)), edge, rtol=1e-9)


def test_published_edges_of_aggregated_momentum():
    assert round(float(theory.sharpness_limit(aggregated(1.0, 0, 0.9, 0.99))), 6) == 2.957372
    assert round(float(theory.sharpness_limit(aggregated(1.0, 0, 0.9))), 6) == 2.620690


# κ, plain descent at 1/L and 2/(L+μ), Nesterov at 1/L, heavy ball tuned, Nesterov tuned.
@pytest.mark.parametrize("κ", [10, 100, 1000, 10000])
def test_rates_in_closed_form(κ):
    μ, s = 1 / κ, np.sqrt(κ)
    ball, standard = theory.optimal_heavy_ball(μ, 1), theory.optimal_nesterov(μ, 1)

    def rate(α, a, b, β):
        return theory.rate(linear(α, a, b, β), μ, 1)

    np.testing.assert_allclose(rate(1.0, 1, 0, 0.5), max(1 - μ, 0.5), rtol=1e-10)
    np.testing.assert_allclose(rate(2 / (1 + μ), 1, 0, 0), (κ - 1) / (κ + 1), rtol=1e-10)
    # At critical damping half of the digits are left.
    np.testing.assert_allclose(rate(1.0, 1, standard.beta, standard.beta), 1 - 1 / s, rtol=1e-9)
    np.testing.assert_allclose(
        rate(ball.learning_rate, 0, 1, ball.beta), (s - 1) / (s + 1), rtol=1e-9
    )
    # Where heavy ball's rate is √β on all of the interval, no digits are lost.
    np.testing.assert_allclose(
        theory.rate(linear(0.5, 0, 1, 0.9), 0.01, 6), np.sqrt(0.9), rtol=1e-10
    )


def test_the_worst_curvature_may_lie_inside():
    # Roots (z - 0.9)³ at λ = 0 and (z + 0.9)³ at λ = 1; halfway z³ + 2.43 z.
    before, after = np.poly([0.9, 0.9, 0.9])[1:], np.poly([-0.9, -0.9, -0.9])[1:]
    A = np.vstack([-before, np.eye(2, 3)])
    system = StateSpace(A, np.eye(3)[0], before - after)
    np.testing.assert_allclose(theory.rate(system, 0.0, 1.0), np.sqrt(2.43), rtol=1e-10)
    for mu, L in ((0.1, 0.7), (0.2, 0.9)):  # For any interval with that curvature inside.
        np.testing.assert_allclose(theory.rate(system, mu, L), np.sqrt(2.43), rtol=1e-10)
    scaled = system._replace(B=1e-8 * system.B)
    np.testing.assert_allclose(theory.rate(scaled, 0.0, 1e8), np.sqrt(2.43), rtol=1e-10)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), exponent=st.integers(-6, 6))
def test_no_curvature_of_the_interval_is_worse_than_the_rate(seed, n, exponent):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n)) / np.sqrt(n)
    B = rng.normal(size=n) * 10.0**exponent  # Units do not matter.
    system = StateSpace(A, B, rng.normal(size=n))
    L = 3 / 10.0**exponent
    rate, seen = theory.rate(system, -L, L), brute(system, -L, L, 2001)
    assert rate >= seen * (1 - 1e-10)
    assert rate <= brute(system, -L, L, 2001) * 1.01
    edge = theory.sharpness_limit(system)
    if np.isfinite(edge) and edge > 0:
        assert brute(system, edge * 1e-9, edge * (1 - 1e-7), 501) <= 1 + 1e-9
        assert theory.rate_at(system, edge * (1 + 1e-6)) >= 1


@pytest.mark.parametrize(("β", "count"), [(0.999, 3), (0.9999, 2), (0.99, 5)])
def test_the_edge_of_a_filter_that_responds_late(β, count):
    tx = optax.chain(*[optax.ema(β, debias=False)] * count, optax.sgd(1.0))
    edge = float(theory.sharpness_limit(tx))
    z = 1 - β  # The loop (z - 1) (z - β)ⁿ + λ (1 - β)ⁿ zⁿ, its roots counted from 1.
    for factor, stable in ((0.99, True), (1.01, False)):
        whole = np.poly1d([1, 0]) * np.poly1d([1, z]) ** count
        roots = (whole + factor * edge * z**count * np.poly1d([1, 1]) ** count).roots
        assert bool(np.all(2 * roots.real + np.abs(roots) ** 2 < 0)) is stable


def test_a_velocity_that_never_decays_has_no_edge():
    for α in (0.1, 0.3, 0.5, 0.77, 1.0):
        assert theory.sharpness_limit(linear(α, 0, 1, 1.0)) == 0
    ρ = theory.rate(linear(0.5, 0, 1, 1.0), 0.0, 10.0)  # z² + 3 z + 1 at λ = 10.
    np.testing.assert_allclose(ρ, (3 + np.sqrt(5)) / 2, rtol=1e-12)


def test_an_error_along_one_curvature_may_end_in_one_step():
    assert theory.rate(linear(0.1, 1, 0.5, 0.5), 10.0, 10.0) < 1e-7


def test_the_edge_is_infinite_where_all_curvatures_are_stable():
    system = StateSpace(np.array([[0.5]]), np.array([0.0]), np.array([1.0]))
    assert theory.sharpness_limit(system) == np.inf


def test_a_period_has_a_rate_per_step_and_an_edge():
    α, k, slow = 0.2, 3, 0.5  # Plain descent that goes half of the way back at every third step.
    system = theory.state_space(optax.lookahead(optax.sgd(α), k, slow))
    λ = np.linspace(0.1, 4, 7)
    exact = np.abs(1 - slow + slow * (1 - α * λ) ** k) ** (1 / k)
    np.testing.assert_allclose(theory.rate_at(system, λ), exact, rtol=1e-9)
    np.testing.assert_allclose(theory.rate(system, 0.1, 4), exact.max(), rtol=1e-9)
    np.testing.assert_allclose(theory.sharpness_limit(system), (1 + 3 ** (1 / 3)) / α, rtol=1e-9)
    # |1 - s + s r³| has its maximum at the largest curvature.
    worst = np.abs(1 - slow + slow * (1 - α * 14) ** k) ** (1 / k)
    np.testing.assert_allclose(theory.rate(system, 0.1, 14), worst, rtol=1e-9)


def test_a_long_period_keeps_all_digits():
    α, k, slow, λ = 0.3, 30, 0.5, np.array([0.01, 1.0, 5.0, 1e12])
    once = np.abs(1 - α * λ)
    exact = once * (slow + (1 - slow) * once**-k) ** (1 / k)  # The last power is 10³⁴⁴.
    system = theory.state_space(optax.lookahead(optax.sgd(α), k, slow))
    np.testing.assert_allclose(theory.rate_at(system, λ), exact, rtol=1e-12)
    np.testing.assert_allclose(theory.sharpness_limit(system), 2 / α, rtol=1e-12)
    assert theory.stationary_variance(system, 1e12, 1.0) == np.inf


def alternating(α, β, change):
    """Heavy ball whose learning rate alternates between two values, as a system by hand."""
    A, B, C = np.zeros((4, 4)), np.zeros((4, 2)), np.zeros((2, 4))
    for i, each in enumerate((α * (1 + change), α * (1 - change))):
        here, there = slice(2 * i, 2 * i + 2), slice(2 - 2 * i, 4 - 2 * i)
        A[there, here], B[there, i], C[i, 2 * i] = [[1, -each * β], [0, β]], [-each, 1], 1
    return StateSpace(A, B, C)


@pytest.mark.parametrize("α", [1e-3, 1.0, 37.0])
@pytest.mark.parametrize(("β", "change"), [(0.9, 0.3), (0.99, 0.05), (0.9999, 1e-3)])
def test_a_resonance_is_found_however_narrow(α, β, change):
    """At α λ = 1 + β a root turns by a right angle per step, and both steps amplify it."""
    system = alternating(α, β, change)

    def growth(x):
        M = np.eye(2)
        for each in (x * (1 + change), x * (1 - change)):
            M = np.array([[1 - each, -each * β], [1, β]]) @ M
        return np.abs(np.linalg.eigvals(M)).max() ** 0.5

    edge = theory.sharpness_limit(system) * α
    assert edge < 2 * (1 + β) * 0.8
    assert growth(edge * (1 - 1e-7)) < 1 < growth(edge * (1 + 1e-7))
    worst = max(growth(x) for x in np.linspace(edge, 2 * (1 + β) - edge, 1001))
    rate = theory.rate(system, 1e-3 / α, 1.5 * edge / α)
    np.testing.assert_allclose(rate, worst, rtol=1e-5)
    assert rate >= worst * (1 - 1e-12)


def test_the_edge_is_0_where_an_error_never_dies_out():
    for system in (linear(0.1, 0, 1, 1.0), linear(17.0, 0, 1, 1.0), linear(0.1, 0, 0, 0.5)):
        assert theory.sharpness_limit(system) == 0


def test_a_curvature_record_replaces_both_curvatures():
    system = linear(0.1, 0, 1, 0.9)
    record = Record(0.5, 20.0)
    assert theory.rate(system, record) == theory.rate(system, 0.5, 20.0)
    with pytest.raises(TypeError, match="L must be left out where mu is a Curvature"):
        theory.rate(system, record, 3.0)
    with pytest.raises(TypeError, match="L is missing"):
        theory.rate(system, 0.5)


def test_the_curvatures_must_be_in_order():
    with pytest.raises(ValueError, match=r"mu must not exceed L, got mu=2.0 and L=1.0; .*swapped"):
        theory.rate(linear(0.1, 0, 1, 0.9), 2, 1)
