"""Rates against the condition number, measured spectra, analyses, and the methods named plot."""

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax
from momentax import theory
from momentax.diagnostics import Curvature, Spectrum
from momentax.plotting import analysis, rate_vs_condition, spectrum
from momentax.sweeps import SweepResult, grid, repeat

KAPPAS = np.array([1.0, 10.0, 1e4])


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_rates_are_the_closed_forms():
    ax = rate_vs_condition(KAPPAS)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["gradient descent"], theory.gradient_descent_rate(KAPPAS))
    np.testing.assert_allclose(drawn["heavy ball, on quadratics"], theory.heavy_ball_rate(KAPPAS))
    triple = drawn["triple momentum, certified for convex functions"]
    np.testing.assert_allclose(triple[1:], theory.triple_momentum(1 / KAPPAS[1:], 1.0).rate)
    assert triple[0] == 0
    np.testing.assert_allclose(
        drawn["Nesterov, certified for convex functions"], np.sqrt(1 - 1 / np.sqrt(KAPPAS))
    )
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), KAPPAS)
    left, right = ax.figure.axes
    assert left is ax
    right.figure.draw_without_rendering()
    for place, text in zip(right.get_yticks(), right.get_yticklabels(), strict=True):
        steps = float(text.get_text().replace(",", ""))
        np.testing.assert_allclose(place, 10 ** (-1 / steps), rtol=1e-9)
    ax.set_ylim(0.1, 0.9)
    np.testing.assert_allclose(right.get_ylim(), [0.1, 0.9])


def test_rates_on_the_default_range_and_of_given_functions(tmp_path):
    ax = rate_vs_condition()
    assert ax.get_xlim() == pytest.approx((2, 1e6))
    assert len(ax.lines) == 5
    ax.figure.savefig(tmp_path / "rates.png")
    ax = rate_vs_condition([4.0, 9.0], {"mine": lambda kappa: 1 - 1 / kappa})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.75, 8 / 9])
    assert labels(ax)[0] == "mine"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([0.5],), ValueError, r"kappas must be in \[1, inf\), got 0.5"),
        ((2.0,), ValueError, "kappas must be 1-D"),
        (([2.0], {}), ValueError, "methods must hold at least one"),
        (([2.0], ["heavy ball"]), TypeError, "methods must be a mapping from names"),
        (([2.0], {"a": lambda κ: κ}), ValueError, r"what methods\['a'\] returns must be in \[0, 1"),
        (
            ([2.0, 3.0], {"a": lambda κ: 0.5}),
            ValueError,
            r"methods\['a'\] must return a rate for ea",
        ),
    ],
)
def test_bad_rates(arguments, error, text):
    with pytest.raises(error, match=text):
        rate_vs_condition(*arguments)


def curvature(nodes, weights, size=100, errors=(0.1, 0.2)):
    found = Spectrum(np.atleast_2d(nodes), np.atleast_2d(weights), size)
    history = {"mu_error": np.array([errors[0]]), "L_error": np.array([errors[1]])}
    return Curvature(float(np.min(nodes)), float(np.max(nodes)), found, history)


def test_stems_are_the_ritz_values_and_the_numbers_near_them():
    nodes, weights = [[1.0, 3.0, 5.0], [1.5, 4.0, 4.0]], [[0.5, 0.25, 0.25], [0.8, 0.2, 0.0]]
    ax = spectrum(curvature(nodes, weights))
    λ, numbers = ax.lines[0].get_data()
    np.testing.assert_array_equal(λ, [1, 1.5, 3, 4, 5])  # A weight of 0 is no stem.
    np.testing.assert_allclose(numbers, [25, 40, 12.5, 10, 12.5])
    assert labels(ax) == ["μ = 1 ± 0.1", "L = 5 ± 0.2"]
    assert [line.get_xdata()[0] for line in ax.lines[1:]] == [1, 5]
    bands = [(patch.get_x(), patch.get_width()) for patch in ax.patches]
    np.testing.assert_allclose(bands, [(0.9, 0.2), (4.8, 0.4)])
    assert ax.get_xscale() == "linear"
    ax = spectrum(curvature(nodes, weights).spectrum)
    assert labels(ax) == ["μ = 1", "L = 5"]


def test_the_scale_fits_the_curvatures_and_the_edge_is_marked():
    wide = curvature(np.geomspace(1e-3, 10, 5), np.full(5, 0.2))
    ax = spectrum(wide, tx=optax.sgd(0.1, 0.9))
    assert ax.get_xscale() == "log"
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(38)
    assert labels(ax)[-1] == "stability edge 38, 3.8 L"
    assert ax.get_xlim()[1] > 38
    saddle = curvature([-0.5, -1e-4, 0.0, 1e-4, 3e-3, 50.0], np.full(6, 1 / 6))
    assert spectrum(saddle).get_xscale() == "symlog"
    ax = spectrum(wide, tx=theory.StateSpace(np.eye(1), np.zeros(1), np.ones(1)))
    assert "stability edge 0" in labels(ax)[-1]
    ax.figure.draw_without_rendering()


def test_blurred_curvatures_are_the_density():
    found = curvature([1.0, 3.0], [0.5, 0.5])
    ax = spectrum(found, width=0.5)
    λ, density = ax.lines[0].get_data()
    np.testing.assert_allclose(density, 100 * found.spectrum.density(λ, 0.5))
    np.testing.assert_allclose(np.trapezoid(density, λ), 100, rtol=1e-3)


@pytest.mark.parametrize(
    ("found", "options", "error", "text"),
    [
        (np.ones(3), {}, TypeError, "curvature must be what momentax.curvature returns"),
        (Curvature(1.0, 2.0, None, {}), {}, TypeError, "curvature must hold a Spectrum"),
        (curvature([1.0], [1.0]), {"width": 0.0}, ValueError, r"width must be in \(0, inf\)"),
        (curvature([1.0], [1.0]), {"tx": 3}, TypeError, "tx must be a gradient transformation"),
    ],
)
def test_bad_spectra(found, options, error, text):
    with pytest.raises(error, match=text):
        spectrum(found, **options)


def heavy_ball_analysis(mu, L, β=0.8):
    system = theory.StateSpace(
        np.array([[1.0, -0.1 * β], [0.0, β]]), np.array([-0.1, 1.0]), np.array([1.0, 0.0])
    )
    return theory.analyze(system, mu, L)


def test_an_analysis_is_drawn_as_the_factor_along_each_curvature():
    found = heavy_ball_analysis(0.01, 30.0)
    ax = analysis(found)
    oscillating, monotone = ax.lines[:2]
    λ = oscillating.get_xdata()
    drawn = np.where(
        np.isnan(oscillating.get_ydata()), monotone.get_ydata(), oscillating.get_ydata()
    )
    np.testing.assert_allclose(drawn, theory.spectral_radius(0.1, λ, 0.8), rtol=1e-6)
    critical = (1 - np.sqrt(0.8)) ** 2 / 0.1  # Errors along lower curvatures do not oscillate.
    assert np.nanmax(λ[~np.isnan(monotone.get_ydata())]) < critical * 1.05
    assert np.nanmin(λ[~np.isnan(oscillating.get_ydata())]) > critical / 1.05
    edge = ax.lines[-1]
    assert edge.get_xdata()[0] == pytest.approx(36)
    assert labels(ax)[-1] == "stability edge 36, 1.2 L"
    assert f"rate {found.rate:.4g}" in labels(ax)[3]
    assert ax.get_xscale() == "log"
    ax = analysis(heavy_ball_analysis(-1.0, 5.0))
    assert ax.get_xscale() == "linear"
    assert ax.get_xlim()[0] < -1
    ax.figure.draw_without_rendering()
    with pytest.raises(TypeError, match=r"analysis must be what momentax\.theory\.analyze returns"):
        analysis(3)


def test_results_draw_themselves():
    _, ax = plt.subplots()
    found = curvature([1.0, 3.0], [0.5, 0.5])
    assert found.plot(ax=ax) is ax
    assert found.spectrum.plot(width=1.0).get_ylabel().startswith("density")
    assert heavy_ball_analysis(0.5, 5.0).plot().get_xlabel() == "curvature λ"


def swept(points, **values):
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return SweepResult(points, arrays, np.zeros(points.shape, bool))


def test_a_result_of_a_sweep_draws_what_fits_its_metric():
    points = repeat(grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9], width=[3]), 2)
    loss = np.random.default_rng(0).random(points.shape)
    ax = swept(points, loss=loss).plot()
    assert ax.get_ylabel() == "β, on a log scale of 1 − β"  # A map.
    ax = swept(points, history=np.ones((*points.shape, 4)), loss=loss).plot("history", logy=False)
    assert ax.get_xlabel() == "step"
    ax = swept(grid(learning_rate=[0.1, 1.0], width=[1, 2]), loss=np.eye(2)).plot("loss")
    assert [text.get_text() for text in ax.get_xticklabels()][1] == "width"
    several = grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9], width=[1, 2])
    assert swept(several, loss=np.ones((2, 2, 2))).plot("loss").get_yticks().size == 0
    with pytest.raises(ValueError, match="give metric, since there are several: history, loss"):
        swept(points, history=np.ones((*points.shape, 4)), loss=loss).plot()
    with pytest.raises(KeyError, match="there is no metric 'x'"):
        swept(points, loss=loss).plot("x")


def test_a_measured_curvature_is_drawn():
    found = momentax.curvature(
        lambda p: 0.5 * (2 * p[0] ** 2 + 8 * p[1] ** 2), np.ones(2, np.float32)
    )
    ax = found.plot(tx=optax.sgd(0.1))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [2, 8], rtol=1e-5)
    assert labels(ax)[-1] == "stability edge 20, 2.5 L"
