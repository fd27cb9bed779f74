"""Histories as lines: which are averaged, which are grey, and what their colours say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from momentax import grid
from momentax.plotting import curves
from momentax.sweeps import SweepResult, repeat
from tests.plotting import results

GREY = to_rgba("0.6")


def lines(ax, lost=False):
    return [line for line in ax.lines if (to_rgba(line.get_color()) == GREY) == lost]


def words(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_a_line_a_setting_and_grey_ones_that_stop_where_they_are_no_longer_finite():
    result = results.histories(grid(learning_rate=[0.01, 0.1, 1.0]))
    ax = curves(result, "loss")
    for line, expected in zip(lines(ax), result["loss"][:2], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), expected)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(5))
    (lost,) = lines(ax, lost=True)
    np.testing.assert_array_equal(lost.get_ydata(), [1, 1e6, 1e12])
    assert lost.get_linewidth() < lines(ax)[0].get_linewidth()
    assert words(ax) == ["0.01", "0.1", "diverged"]  # No colour that is not there.
    assert ax.get_legend().get_title().get_text() == "learning rate α"
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[1] < 10  # Not 10¹².
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")


def test_seeds_are_a_mean_in_a_band_of_a_standard_error_without_those_that_diverged():
    points = repeat(grid(beta=[0.0, 0.9]), 4)
    values = np.random.default_rng(0).normal(5, 1, (2, 4, 6))
    diverged = np.zeros((2, 4), bool)
    diverged[0, 2] = diverged[1, 1:] = True
    values[0, 2, 3:] = np.nan
    ax = curves(SweepResult(points, values, diverged), "value")
    first, second = lines(ax)
    kept = values[0, [0, 1, 3]]
    np.testing.assert_allclose(first.get_ydata(), kept.mean(0))
    np.testing.assert_allclose(second.get_ydata(), values[1, 0])  # One is left: no band.
    (band,) = ax.collections
    error = kept.std(0, ddof=1) / np.sqrt(3)
    corners = band.get_paths()[0].vertices
    for step in range(6):
        reached = corners[corners[:, 0] == step, 1]
        np.testing.assert_allclose(reached.min(), kept.mean(0)[step] - error[step])
        np.testing.assert_allclose(reached.max(), kept.mean(0)[step] + error[step])
    assert len(lines(ax, lost=True)) == 4
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
        ("weight_decay", np.log),  # Over a factor of 100.
        ("width", lambda width: width),
    ],
)
def test_a_colour_bar_lies_on_the_axis_own_scale(axis, place):
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
    assert shades[::2] == shades[1::2]  # Along the other axis they are the same.
    assert len(set(shades)) == 9
    assert words(ax) == []


def test_words_have_a_key_and_colours_of_their_own():
    points = grid(learning_rate=[0.1, 0.2], method=["heavy ball", "nesterov", np.tanh])
    ax = curves(
        SweepResult(points, np.ones((2, 3, 4)), np.zeros((2, 3), bool)), "value", by="method"
    )
    assert words(ax) == ["heavy ball", "nesterov", "tanh"]
    shades = [to_rgba(line.get_color()) for line in lines(ax)]
    assert shades[:3] == shades[3:]
    assert len(set(shades)) == 3


def test_seeds_alone_all_lost_one_setting_and_a_scale_that_is_asked_for():
    alone = repeat(grid(beta=[0.5]), 3)
    alone = type(alone)({"seed": alone.dims["seed"]})
    ax = curves(SweepResult(alone, np.ones((3, 4)), np.zeros(3, bool)), "value")
    assert (len(lines(ax)), words(ax)) == (1, [])
    result = results.histories(grid(beta=[0.5]))  # Which diverges.
    ax = curves(result, "loss", logy=False)
    assert (lines(ax), words(ax), ax.get_yscale()) == ([], ["diverged"], "linear")
    assert curves(result, "loss").get_yscale() == "log"
    accuracy = SweepResult(result.points, {"accuracy": np.array([[0.1, 99.0]])}, np.zeros(1, bool))
    assert curves(accuracy, "accuracy").get_yscale() == "linear"
    assert curves(accuracy, "accuracy", logy=True).get_yscale() == "log"
    nothing = SweepResult(result.points, np.full((1, 2), np.nan), np.ones(1, bool))
    curves(nothing, "value")


def test_draws_where_it_is_told_and_saves(tmp_path):
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


def test_what_is_no_result_is_refused():
    with pytest.raises(TypeError, match=r"result must be what momentax\.sweep returns"):
        curves(np.ones((3, 4)), "loss")
    points = grid(beta=[0.5])
    words = SweepResult(points, np.array([["a", "b"]]), np.zeros(1, bool))
    with pytest.raises(TypeError, match="value must hold real numbers"):
        curves(words, "value")
