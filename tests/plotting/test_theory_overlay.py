"""The stability edge over a heat map, against closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax
from momentax.plotting import heatmap, theory_overlay
from momentax.sweeps import grid, momentum_axis

λ = 20.0


def heavy_ball(learning_rate, beta):
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta))


def draw_map(**options):
    points = grid(learning_rate=np.geomspace(0.01, 1, 5), beta=momentum_axis(0, 0.99, 5))
    return heatmap(points, np.random.default_rng(0).normal(size=(5, 5)), mode="max", **options)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_line_is_the_edge_over_the_height_of_the_map_and_keeps_its_limits():
    ax = draw_map()
    limits, before = (ax.get_xlim(), ax.get_ylim()), labels(ax)
    assert theory_overlay(ax, heavy_ball, λ) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    α, rest = ax.lines[-1].get_data()
    np.testing.assert_allclose(α, 2 * (2 - rest) / λ, rtol=1e-9)
    assert (rest[0], len(rest)) == (1, 24)  # From β = 0 to where the map ends.
    np.testing.assert_allclose(rest[-1], limits[1][1])
    assert labels(ax) == [*before, "stability edge at curvature 20"]
    assert ax.lines[-1].get_path_effects()


@pytest.mark.parametrize(
    ("method", "edge"),
    [
        (momentax.nesterov, lambda β: 2 * (1 + β) / (1 + 2 * β)),
        (momentax.average, lambda β: 2 * (1 + β) / (1 - β)),
    ],
)
def test_other_methods_and_betas(method, edge):
    β = np.array([0.9, 0.0, 0.5])
    ax = theory_overlay(draw_map(), lambda α, b: momentax.sgd(α, method(b)), λ, betas=β)
    α, rest = ax.lines[-1].get_data()
    np.testing.assert_allclose(1 - rest, [0, 0.5, 0.9])
    np.testing.assert_allclose(α, edge(np.sort(β)) / λ, rtol=1e-9)


def test_with_weight_decay_the_spectral_radius_reaches_one_at_the_edge():
    def pipeline(learning_rate, beta):
        method = momentax.nesterov(beta)
        return momentax.sgd(learning_rate, method, weight_decay=4.0, decoupled=True)

    ax = theory_overlay(draw_map(), pipeline, λ, betas=[0.6])
    ((α,), _) = ax.lines[-1].get_data()
    below, above = (
        [momentax.theory.rate_at(pipeline(each * α, 0.6), λ) for each in shares]
        for shares in ((0.9, 0.999), (1.001, 1.1))
    )
    assert max(below) < 1 < min(above)


def test_the_line_has_a_gap_where_there_is_no_edge():
    def pipeline(learning_rate, beta):  # It ascends where β is above 1/2.
        sign = np.where(beta > 0.5, -1.0, 1.0) if isinstance(beta, float) else 1 - 2 * (beta > 0.5)
        return optax.sgd(learning_rate * sign)

    ax = theory_overlay(draw_map(), pipeline, λ, betas=[0.0, 0.4, 0.9])
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), [0.1, 0.1, np.nan])
    ax = theory_overlay(draw_map(), lambda α, β: optax.sgd(-α), λ, betas=[0.0, 0.4])
    assert labels(ax)[-1] == "stability edge at curvature 20\n(stable nowhere)"
    ax = theory_overlay(draw_map(), lambda α, β: optax.sgd(0.01 + 0 * α), λ, betas=[0.0, 0.4])
    assert labels(ax)[-1] == "stability edge at curvature 20\n(stable everywhere)"


def test_the_legend_says_where_a_line_off_the_map_lies():
    ax = draw_map()
    theory_overlay(ax, heavy_ball, 1e4, betas=[0.0, 0.9])
    theory_overlay(ax, heavy_ball, 0.1, betas=[0.0, 0.9], label="flat", color="crimson")
    theory_overlay(ax, heavy_ball, λ, betas=[0.9999], label="steep")
    assert labels(ax)[-3:] == [
        "stability edge at curvature 1e+04\n(below the map's learning rates)",
        "flat\n(above the map's learning rates)",
        "steep\n(off the map)",
    ]
    assert ax.lines[-2].get_color() == "crimson"


def test_a_map_without_a_legend_gets_one_and_saves(tmp_path):
    points = grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9])
    options = {"diverged": np.ones((2, 2), bool), "effective": False, "mode": "min"}
    ax = heatmap(points, np.full((2, 2), np.nan), **options)
    ax.get_legend().remove()
    theory_overlay(ax, heavy_ball, λ, betas=[0.0, 0.9])
    assert labels(ax) == ["stability edge at curvature 20"]
    ax.figure.savefig(tmp_path / "edge.png")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((None, heavy_ball, 1.0), {}, TypeError, "ax must be the axes that heatmap returned"),
        ((None, optax.sgd(0.1), 1.0), {"map": 1}, TypeError, "pipeline must be a function of a l"),
        ((None, heavy_ball, -1.0), {"map": 1}, ValueError, r"curvature must be in \(0, inf\)"),
        ((None, heavy_ball, 1.0), {"map": 1, "betas": [1.0]}, ValueError, "betas must be in"),
        ((None, heavy_ball, 1.0), {"map": 1, "betas": 0.5}, ValueError, "betas must be 1-D"),
        ((None, lambda α, β: optax.adam(α), 1.0), {"map": 1}, ValueError, "not linear"),
    ],
)
def test_bad_arguments(arguments, options, error, text):
    ax = draw_map() if options.pop("map", None) else None
    with pytest.raises(error, match=text):
        theory_overlay(ax, *arguments[1:], **options)


def test_refuses_axes_of_other_plots():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="ax must be the axes of a heatmap"):
        theory_overlay(ax, heavy_ball, λ)
