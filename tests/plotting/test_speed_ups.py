"""The speed-ups of a comparison: the marks, their order, the labels, and the mistakes."""

import numpy as np
import pytest

from momentax.plotting import speed_ups

METHODS, TASKS = ["slow", "fast", "partial"], ["ridge", "curves"]
S = np.array([[0.5, 0.8], [2.0, 1.0], [4.0, np.nan]])


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_methods_are_ordered_by_their_ranks_and_then_by_the_mean_speed_up():
    ax = speed_ups(METHODS, TASKS, S)
    assert labels(ax) == ["partial (1 of 2 tasks)", "slow", "fast"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [4.0, 0.5, 2.0])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [np.nan, 0.8, 1.0])
    means = ax.lines[len(TASKS)]
    assert means.get_label() == "all tasks"
    np.testing.assert_allclose(means.get_xdata(), [4.0, np.sqrt(0.4), np.sqrt(2.0)])
    np.testing.assert_array_equal(means.get_ydata(), [0, 1, 2])
    assert "tuned Nesterov needs S times the steps" in ax.get_xlabel()
    assert ax.get_xscale() == "log"


def test_intervals_are_those_of_their_methods():
    ends = np.array([[0.5, 1.3, 3.0], [0.7, 1.5, 5.0]])
    (lines,) = speed_ups(METHODS, TASKS, S, intervals=ends).collections
    found = [segment[:, 0] for segment in lines.get_segments()]
    np.testing.assert_allclose(found[1], ends[:, 0])
    np.testing.assert_allclose(found[2], ends[:, 1])


def test_wide_ratios_have_ticks_and_their_own_label():
    ax = speed_ups(["a"], ["ridge"], [[1e4]], label="loss ratio")
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == "loss ratio"
    low, high = ax.get_xlim()
    assert low < 1e4 < high
    assert sum(low <= tick <= high for tick in ax.get_xticks()) >= 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"values": [[1.0]]}, ValueError, "values must have a row for each of 3 methods"),
        ({"values": -S}, ValueError, "values must be"),
        ({"methods": "slow"}, TypeError, "methods must be a list of names, got 'slow'"),
        ({"tasks": []}, ValueError, "tasks must have at least one name"),
        ({"intervals": [1.0, 2.0]}, ValueError, r"intervals must have the shape \(2, 3\)"),
    ],
)
def test_mistakes_are_sentences(arguments, error, message):
    with pytest.raises(error, match=message):
        speed_ups(**{"methods": METHODS, "tasks": TASKS, "values": S, **arguments})
