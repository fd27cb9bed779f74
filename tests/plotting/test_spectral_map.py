"""The rate at every learning rate and β, its edge, critical damping and optimum."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import momentax
from momentax import theory
from momentax.plotting import spectral_map
from momentax.plotting._method_family import read_family
from momentax.plotting._spectral_map import critical_products

α, β = np.geomspace(1e-3, 0.06, 7), np.array([0.0, 0.5, 0.8, 0.9])


def best(ax):
    """Return the learning rate, β and rate of the star and of the legend."""
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    text = ax.get_legend().get_texts()[0].get_text()
    rate = float(text.split("ρ = ")[1].split()[0])
    return float(star.get_xdata()[0]), 1 - float(star.get_ydata()[0]), rate


def test_cells_are_the_rates_and_the_edge_and_the_optimum_those_of_the_theory():
    ax = spectral_map(1.0, 100.0, learning_rates=α, betas=β)
    rates = ax.collections[0].get_array()
    expected = np.maximum(*(theory.spectral_radius(α, λ, β[:, None]) for λ in (1.0, 100.0)))
    np.testing.assert_array_equal(np.ma.getmaskarray(rates), expected >= 1)
    np.testing.assert_allclose(rates.compressed(), expected[expected < 1], rtol=1e-9)
    edge = ax.lines[0]
    np.testing.assert_allclose(edge.get_xdata(), theory.stability_edge(β) / 100)
    np.testing.assert_allclose(edge.get_ydata(), 1 - β)
    tuned = theory.optimal_heavy_ball(1.0, 100.0)
    found = best(spectral_map(1.0, 100.0))
    np.testing.assert_allclose(found[:2], [tuned.learning_rate, tuned.beta], rtol=1e-5)
    assert found[2] == float(f"{tuned.rate:.4g}")
    assert ax.get_xlabel() == "learning rate α"
    assert ax.get_ylabel() == "β, on a log scale of 1 − β"


def test_the_optimum_of_nesterov_and_of_a_single_curvature():
    tuned = theory.optimal_nesterov(2.0, 50.0, quadratic=True)
    curvature = momentax.diagnostics.Curvature(2.0, 50.0, None, {})
    found = best(spectral_map(curvature, method=momentax.nesterov))
    np.testing.assert_allclose(found[:2], [tuned.learning_rate, tuned.beta], rtol=1e-5)
    assert best(spectral_map(4.0, 4.0)) == (pytest.approx(0.25), 0, 0)


@pytest.mark.parametrize(
    ("method", "velocities"),
    [
        (momentax.nesterov, 1),
        (momentax.average, 1),  # The weight of its debiasing evolves by itself.
        (lambda beta: momentax.quasi_hyperbolic(beta, 0.7), 1),
        (lambda beta: momentax.aggregated((0.0, 0.6, beta)), 2),
        (lambda beta: momentax.heavy_ball(float(beta)), 1),  # It takes no traced β.
    ],
)
def test_a_method_is_read_as_the_system_that_the_theory_reads(method, velocities):
    systems = read_family(method)(np.array([0.0, 0.3, 0.95]))
    assert systems.F.shape[1] == velocities
    space = theory.state_space(momentax.sgd(0.4, method(0.95)))
    curvatures = np.array([0.02, 0.3, 1.1])
    expected = [theory.rate(space, λ, 3 * λ) for λ in curvatures]
    found = [systems.rates(np.array([0.4]), λ, 3 * λ)[2, 0] for λ in curvatures]
    np.testing.assert_allclose(found, expected, rtol=1e-3 if velocities > 1 else 1e-7)
    np.testing.assert_allclose(systems.edges()[2], 0.4 * theory.sharpness_limit(space), rtol=1e-6)


def test_lines_of_critical_damping_lie_where_the_modes_meet():
    values = np.array([0.3, 0.8])
    for a, b in ((0 * values, 1 + 0 * values), (1 + 0 * values, values)):
        for x in critical_products(values, a, b):
            T, D = 1 + values - x * (a + b), values * (1 - x * a)
            np.testing.assert_allclose(T**2, 4 * D, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        critical_products(values, 0 * values, 1 + 0 * values),
        [(1 - np.sqrt(values)) ** 2, (1 + np.sqrt(values)) ** 2],
    )
    ax = spectral_map(1.0, 100.0, learning_rates=α, betas=β)
    slow = ax.lines[1]
    np.testing.assert_allclose(
        slow.get_xdata()[2:], (1 - np.sqrt(β[2:])) ** 2, rtol=1e-9
    )  # That along μ = 1; below β = 0.67 it lies beyond the edge.
    assert np.isnan(slow.get_xdata()[:2]).all()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[1:] == [
        "stability edge",
        "unstable",
        "critical damping along μ",
        "critical damping along L",
    ]


def test_draws_on_given_axes():
    _, (left, right) = plt.subplots(1, 2)
    assert spectral_map(1.0, 4.0, learning_rates=α, betas=β, ax=right) is right
    assert not left.collections


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((2.0, 1.0), {}, ValueError, "mu must not exceed L"),
        ((0.0, 1.0), {}, ValueError, r"mu must be in \(0, inf\)"),
        ((1.0,), {}, TypeError, "L is missing"),
        ((1.0, 2.0, momentax.nesterov(0.9)), {}, TypeError, "method must be a function of a β"),
        ((1.0, 2.0, "nesterov"), {}, TypeError, "method must be a function of a β"),
        ((1.0, 2.0, momentax.sgd), {}, ValueError, "method must return directions"),
        ((1.0, 2.0, momentax.sign_average), {}, ValueError, "not linear"),
        ((1.0, 2.0), {"betas": [0.5, 1.0]}, ValueError, r"betas must be in \[0, 1\)"),
        ((1.0, 2.0), {"betas": 0.5}, ValueError, "betas must be 1-D with at least two"),
        ((1.0, 2.0), {"learning_rates": [0.0, 1.0]}, ValueError, "learning_rates must be in"),
    ],
)
def test_bad_arguments(arguments, options, error, text):
    with pytest.raises(error, match=text):
        spectral_map(*arguments, **options)
