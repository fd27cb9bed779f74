"""Parallel axes: the heights of the values, the order of the lines, the diverged settings."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from momentax.plotting import parallel
from momentax.sweeps import SweepResult, grid, repeat
from tests.plotting import results


def paths(ax, style="-"):
    return [
        line for line in ax.lines if len(line.get_xdata()) > 2 and line.get_linestyle() == style
    ]


def test_each_setting_crosses_the_axes_at_its_values():
    result = results.accuracy(seeds=3)
    ax = parallel(result, "test_accuracy")
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "learning rate α",
        "β\nlog scale of 1 − β",
        "test_accuracy",
    ]
    accuracy = [0.1, 1.1, 10.1, 11.1, 20.0]  # Means, from worst to best; (1, 0.9) diverged.
    settings = [(0.01, 0.0), (0.01, 0.9), (0.1, 0.0), (0.1, 0.9), (1.0, 0.0)]
    lines = paths(ax)
    for line, (α, β), value in zip(lines, settings, accuracy, strict=True):
        heights = [1 + np.log10(α) / 2, -np.log10(1 - β), (value - 0.1) / 19.9]
        np.testing.assert_allclose(line.get_ydata(), heights, atol=1e-6)
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    best = lines[-1]
    assert best.get_label() == "best: 20"
    assert best.get_linewidth() > 2 * lines[0].get_linewidth()
    assert best.get_zorder() > max(line.get_zorder() for line in lines[:-1])
    # Each setting has its own colour, on a log scale of the distance from the best.
    shades = [to_rgba(line.get_color()) for line in lines]
    assert shades[0] == plt.get_cmap("viridis")(0)
    assert shades[-1] == plt.get_cmap("viridis")(1.0)
    assert len(set(shades)) == 5
    (diverged,) = paths(ax, "--")
    np.testing.assert_allclose(diverged.get_ydata(), 1)
    assert 1 < diverged.get_xdata()[-1] < 2  # It ends before the metric.
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["best: 20", "diverged"]


def test_settings_that_are_tied_with_the_best_are_thick_too():
    points = grid(learning_rate=[0.1, 0.2, 0.3, 0.4], beta=[0.5])
    accuracy = np.array([[350], [357], [356], [100]]) / 360
    result = SweepResult(points, {"accuracy": accuracy}, np.zeros((4, 1), bool))
    ax = parallel(result, "accuracy")
    widths = {round(line.get_ydata()[0], 3): line.get_linewidth() for line in paths(ax)}
    thin, tied = widths[0.0], widths[round(np.log(3) / np.log(4), 3)]
    assert thin < tied < widths[0.5]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["best: 0.9917", "tied: within 1/360"]
    ax = parallel(result, "accuracy", resolution=0.0)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["best: 0.9917"]


def test_a_wide_metric_is_on_a_log_scale_where_its_low_end_is_best():
    points = grid(learning_rate=[0.1, 0.2, 0.3], beta=[0.5])
    wide = SweepResult(
        points, {"loss": np.array([[1.0], [10.0], [1000.0]])}, np.zeros((3, 1), bool)
    )
    ax = parallel(wide, "loss")
    np.testing.assert_allclose([line.get_ydata()[-1] for line in paths(ax)], [1, 1 / 3, 0])
    assert ax.get_xticklabels()[-1].get_text() == "loss\nlog scale"
    assert paths(ax)[-1].get_label() == "best: 1"
    ax = parallel(wide, "loss", mode="max")  # A log scale would compress the best end.
    np.testing.assert_allclose([line.get_ydata()[-1] for line in paths(ax)], [0, 9 / 999, 1])
    assert paths(ax)[-1].get_label() == "best: 1000"


def test_words_are_evenly_spaced_and_a_single_value_lies_midway():
    points = repeat(grid(method=["a", "b", "c"], beta=[0.9]), 2)
    values = np.arange(6.0).reshape(3, 1, 2)
    ax = parallel(SweepResult(points, values, np.zeros((3, 1, 2), bool)), "value", mode="max")
    assert sorted(line.get_ydata()[0] for line in paths(ax)) == [0, 0.5, 1]
    assert {line.get_ydata()[1] for line in paths(ax)} == {0.5}
    assert {"a", "b", "c", "0.9"} <= {text.get_text() for text in ax.texts}


def test_many_values_have_few_and_round_labels():
    β = 1 - np.geomspace(0.5, 0.001, 90)
    points = grid(beta=β)
    ax = parallel(SweepResult(points, β, np.zeros(90, bool)), "value", mode="min")
    written = [text.get_text() for text in ax.texts if text.xy[0] == 0]
    assert written == ["0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.998", "0.999"]


def test_all_settings_diverged_a_single_setting_and_given_axes(tmp_path):
    result = results.accuracy()
    diverged = SweepResult(result.points, result.values, np.ones((3, 2), bool))
    ax = parallel(diverged, "loss")
    assert len(paths(ax, "--")) == 6
    figure, (left, right) = plt.subplots(1, 2)
    one = SweepResult(grid(beta=[0.5]), np.ones(1), np.zeros(1, bool))
    assert parallel(one, "value", mode="max", ax=right) is right
    assert not left.lines
    figure.savefig(tmp_path / "parallel.png")
    ax.figure.savefig(tmp_path / "diverged.png")


def test_bad_arguments():
    with pytest.raises(ValueError, match="mode must be one of"):
        parallel(results.accuracy(), "loss", mode="best")
    with pytest.raises(ValueError, match="metric must be one of"):
        parallel(results.accuracy(), "x")
    with pytest.raises(TypeError, match="result must be what"):
        parallel(None, "loss")
    points = repeat(grid(beta=[0.5]), 3)
    alone = type(points)({"seed": points.dims["seed"]})
    with pytest.raises(ValueError, match="needs points with an axis besides seed"):
        parallel(SweepResult(alone, np.ones(3), np.zeros(3, bool)), "value", mode="max")
