"""Histories as lines: the means over seeds, the diverged runs and the colours."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from momentax.plotting import curves
from momentax.plotting._style import COLORS
from momentax.sweeps import SweepResult, grid, repeat
from tests.plotting import results

GREY = to_rgba("0.6")


def lines(ax, diverged=False):
    return [line for line in ax.lines if (to_rgba(line.get_color()) == GREY) == diverged]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_each_setting_is_a_line_and_a_diverged_run_a_grey_one_up_to_its_last_finite_value():
    result = results.histories(grid(learning_rate=[0.01, 0.1, 1.0]))
    ax = curves(result, "loss")
    for line, expected in zip(lines(ax), result["loss"][:2], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), expected)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(5))
    (diverged,) = lines(ax, diverged=True)
    np.testing.assert_array_equal(diverged.get_ydata(), [1, 1e6, 1e12])
    assert diverged.get_linewidth() < lines(ax)[0].get_linewidth()
    assert labels(ax) == ["0.01", "0.1", "diverged"]  # The setting that diverged has no entry.
    assert ax.get_legend().get_title().get_text() == "learning rate α"
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[1] < 10  # Not 10¹².
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")


def test_a_line_is_the_mean_in_a_band_of_one_standard_error_without_diverged_seeds():
    points = repeat(grid(beta=[0.0, 0.9]), 4)
    values = np.random.default_rng(0).normal(5, 1, (2, 4, 6))
    diverged = np.zeros((2, 4), bool)
    diverged[0, 2] = diverged[1, 1:] = True
    values[0, 2, 3:] = np.nan
    ax = curves(SweepResult(points, values, diverged), "value")
    first, second = lines(ax)
    kept = values[0, [0, 1, 3]]
    np.testing.assert_allclose(first.get_ydata(), kept.mean(0))
    np.testing.assert_allclose(second.get_ydata(), values[1, 0])  # A single seed has no band.
    (band,) = ax.collections
    error = kept.std(0, ddof=1) / np.sqrt(3)
    corners = band.get_paths()[0].vertices
    for step in range(6):
        reached = corners[corners[:, 0] == step, 1]
        np.testing.assert_allclose(reached.min(), kept.mean(0)[step] - error[step])
        np.testing.assert_allclose(reached.max(), kept.mean(0)[step] + error[step])
    assert len(lines(ax, diverged=True)) == 4
    assert ax.get_yscale() == "linear"


def test_the_seeds_may_be_any_dimension():
    points = repeat(grid(beta=[0.0, 0.9, 0.99]), 2)
    turned = type(points)(dict(reversed(points.dims.items())))
    values = np.random.default_rng(0).normal(size=(3, 2, 4))
    straight = curves(SweepResult(points, values, np.zeros((3, 2), bool)), "value")
    other = curves(SweepResult(turned, values.swapaxes(0, 1), np.zeros((2, 3), bool)), "value")
    for line, same in zip(lines(straight), lines(other), strict=True):
        np.testing.assert_allclose(line.get_ydata(), same.get_ydata())


@pytest.mark.parametrize(
    ("axis", "place"),
    [
        ("learning_rate", np.log),
        ("beta", lambda β: -np.log(1 - β)),
        ("weight_decay", np.log),  # It spans more than a factor of 100.
        ("width", lambda width: width),
    ],
)
def test_a_colour_bar_has_the_scale_of_its_axis(axis, place):
    values = {
        "learning_rate": np.geomspace(0.01, 1, 9),
        "beta": 1 - np.geomspace(1, 0.01, 9),
        "weight_decay": np.geomspace(1e-5, 1e-1, 9),
        "width": np.arange(16, 25),
    }
    points = grid(**{axis: values[axis], "method": ["a", "b"]})
    steps = np.ones((*points.shape, 3))
    ax = curves(SweepResult(points, steps, np.zeros(points.shape, bool)), "value", by=axis)
    bar = ax.figure.axes[1]
    ends = place(points.axes[axis].astype(float))
    np.testing.assert_allclose(bar.get_ylim(), ends[[0, -1]], atol=1e-6)
    ticks = [float(label.get_text()) for label in bar.get_yticklabels()]
    np.testing.assert_allclose(bar.get_yticks(), place(np.array(ticks)), rtol=0.02, atol=0.02)
    assert 4 <= len(ticks) <= 9
    shades = [to_rgba(line.get_color()) for line in lines(ax)]
    assert shades[::2] == shades[1::2]  # The other axis does not change the colours.
    assert len(set(shades)) == 9
    assert labels(ax) == []


def test_words_have_a_legend_and_distinct_colours():
    points = grid(learning_rate=[0.1, 0.2], method=["heavy ball", "nesterov", np.tanh])
    ax = curves(
        SweepResult(points, np.ones((2, 3, 4)), np.zeros((2, 3), bool)), "value", by="method"
    )
    assert labels(ax) == ["heavy ball", "nesterov", "tanh"]
    shades = [to_rgba(line.get_color()) for line in lines(ax)]
    assert shades[:3] == shades[3:]
    assert shades[:3] == [to_rgba(colour) for colour in COLORS[:3]]
    assert [line.get_linestyle() for line in lines(ax)] == ["-", "--", "-."] * 2
    assert [line.get_linestyle() for line in ax.get_legend().get_lines()] == ["-", "--", "-."]


def test_points_of_seeds_only_a_single_setting_that_diverged_and_a_given_scale():
    alone = repeat(grid(beta=[0.5]), 3)
    alone = type(alone)({"seed": alone.dims["seed"]})
    ax = curves(SweepResult(alone, np.ones((3, 4)), np.zeros(3, bool)), "value")
    assert (len(lines(ax)), labels(ax)) == (1, [])
    result = results.histories(grid(beta=[0.5]))  # Its only setting diverges.
    ax = curves(result, "loss", logy=False)
    assert (lines(ax), labels(ax), ax.get_yscale()) == ([], ["diverged"], "linear")
    assert curves(result, "loss").get_yscale() == "log"
    accuracy = SweepResult(result.points, {"accuracy": np.array([[0.1, 99.0]])}, np.zeros(1, bool))
    assert curves(accuracy, "accuracy").get_yscale() == "linear"
    assert curves(accuracy, "accuracy", logy=True).get_yscale() == "log"
    nothing = SweepResult(result.points, np.full((1, 2), np.nan), np.ones(1, bool))
    curves(nothing, "value")


def test_draws_on_given_axes_and_saves(tmp_path):
    figure, (left, right) = plt.subplots(1, 2)
    points = repeat(grid(learning_rate=np.geomspace(0.01, 1, 12), beta=[0.0, 0.9]), 2)
    assert curves(results.histories(points), "loss", ax=right) is right
    assert not left.lines
    figure.savefig(tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("metric", "options", "error", "text"),
    [
        ("x", {}, ValueError, "metric must be one of 'final', 'loss', got 'x'"),
        ("final", {}, ValueError, r"final must be a history, with one dimension .* got shape \(\)"),
        ("loss", {"by": "seed"}, ValueError, "by must be one of 'learning_rate', got 'seed'"),
        ("loss", {"logy": 1}, TypeError, "logy must be True or False"),
    ],
)
def test_bad_arguments(metric, options, error, text):
    with pytest.raises(error, match=text):
        curves(results.histories(repeat(grid(learning_rate=[0.1, 1.0]), 2)), metric, **options)


def test_refuses_other_results_than_those_of_sweep():
    with pytest.raises(TypeError, match=r"result must be what momentax\.sweep returns"):
        curves(np.ones((3, 4)), "loss")
    points = grid(beta=[0.5])
    words = SweepResult(points, np.array([["a", "b"]]), np.zeros(1, bool))
    with pytest.raises(TypeError, match="value must hold real numbers"):
        curves(words, "value")
