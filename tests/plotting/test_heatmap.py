"""The heat map: true values on the axes, every mark in its place."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.contour import ContourSet

from momentax import grid
from momentax.plotting import heatmap
from momentax.sweeps import SweepResult, repeat, zipped
from tests.plotting import results

POINTS = grid(learning_rate=[0.1, 0.01, 1.0], beta=[0.0, 0.9])
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]])


def star(ax):
    (found,) = (c for c in ax.collections if isinstance(c, PathCollection))
    return np.asarray(found.get_offsets())[0]


def test_cells_marks_and_labels_lie_on_the_true_values():
    ax = heatmap(POINTS, VALUES, label="accuracy")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    np.testing.assert_allclose(ax.get_xticks(), [0.01, 0.1, 1.0], rtol=1e-6)
    np.testing.assert_allclose(ax.get_yticks(), [1.0, 0.1], rtol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "0.9"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.01", "0.1", "1"]
    np.testing.assert_allclose(star(ax), [1.0, 1.0], rtol=1e-6)  # The best finite value, 5.
    (cross,) = (line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_allclose(np.ravel(cross.get_data()), [1.0, 0.1], rtol=1e-6)
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(
        mesh.get_array().mask, [[False, False, False], [False, False, True]]
    )
    np.testing.assert_array_equal(mesh.get_array().compressed(), [3, 1, 5, 4, 2])
    edges = mesh.get_coordinates()  # Halfway between neighbours on the log scales.
    np.testing.assert_allclose(edges[0, :, 0], 10 ** np.array([-2.5, -1.5, -0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(edges[:, 0, 1], 10 ** np.array([0.5, -0.5, -1.5]), rtol=1e-6)
    lines = [c for c in ax.collections if isinstance(c, ContourSet)]
    for line in lines:
        x, y = np.concatenate([path.vertices for path in line.get_paths()]).T
        np.testing.assert_allclose(x / y, line.levels[0], rtol=0.01)
    assert [line.levels[0] for line in lines] == [0.01, 0.1, 1.0, 10.0]
    written = {t.get_text() for t in ax.texts}
    assert {"1", "2", "3", "4", "5", "0.1", "10"} <= written


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_labels_have_the_digits_that_tell_their_values_apart():
    ax = heatmap(
        grid(learning_rate=[0.1, 0.1001, 0.03], beta=[0.999999, 0.9996, 0.9]), np.ones((3, 3))
    )
    assert labels(ax.yaxis) == ["0.9", "0.9996", "0.999999"]
    assert labels(ax.xaxis) == ["0.03", "0.1", "0.1001"]
    ax = heatmap(grid(learning_rate=[1], beta=[0.99951]), [[1.0]])
    assert labels(ax.yaxis) == ["0.9995"]
    assert labels(ax.xaxis) == ["1"]


def colour_bar(ax):
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    return mesh.colorbar


def test_the_worst_quarter_shares_a_colour_and_the_bar_says_so():
    points = grid(learning_rate=[0.1, 0.2, 0.4], beta=[0.0, 0.9, 0.99])
    accuracy = np.array([[10.0, 40.0, 90.0], [94.0, 95.0, 96.0], [97.0, 98.0, np.nan]])
    bar = colour_bar(heatmap(points, accuracy, label="accuracy"))
    limit = np.quantile(accuracy[np.isfinite(accuracy)], 0.25)
    assert (bar.vmin, bar.vmax, bar.extend) == (limit, 98, "min")
    assert bar.ax.get_ylabel() == f"accuracy (darkest: {limit:.3g} or less)"
    bar = colour_bar(heatmap(points, -accuracy, mode="min"))
    assert (bar.vmin, bar.vmax, bar.extend) == (-98, -limit, "max")
    assert bar.ax.get_ylabel() == f"(darkest: {-limit:.3g} or more)"
    bar = colour_bar(heatmap(points, np.where(accuracy > 50, 1.0, np.nan), label="equal"))
    assert (bar.extend, bar.ax.get_ylabel()) == ("neither", "equal")


def key(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_a_key_names_the_marks_that_are_there_and_no_line_runs_through_a_number():
    ax = heatmap(POINTS, VALUES)
    assert key(ax) == ["equal α/(1−β)", "best", "diverged"]
    (five,) = (text for text in ax.texts if text.get_text() == "5")
    assert five.get_bbox_patch() is not None
    for line in (c for c in ax.collections if isinstance(c, ContourSet)):
        assert five.get_zorder() > line.get_zorder()
    assert key(heatmap(POINTS, np.ones((3, 2)), effective=False)) == ["best"]
    assert key(heatmap(POINTS, np.full((3, 2), np.nan), effective=False)) == ["diverged"]


def test_lines_of_equal_effective_learning_rate_can_be_left_out():
    ax = heatmap(POINTS, VALUES, effective=False)
    assert not any(isinstance(c, ContourSet) for c in ax.collections)


def test_diverged_points_are_never_best():
    lost = np.zeros((3, 2), bool)
    lost[2, 0] = True  # The largest finite value.
    ax = heatmap(POINTS, VALUES, diverged=lost)
    np.testing.assert_allclose(star(ax), [0.01, 0.1], rtol=1e-6)
    assert sum(line.get_marker() == "x" for line in ax.lines) == 2


def test_mode_min_axes_order_one_point_and_all_lost():
    swapped = grid(beta=[0.0, 0.9], learning_rate=[0.1, 0.01, 1.0])
    ax = heatmap(swapped, VALUES.T, mode="min")
    np.testing.assert_array_equal(cells(ax).filled(-1), cells(heatmap(POINTS, VALUES)).filled(-1))
    np.testing.assert_allclose(star(ax), [0.1, 1.0], rtol=1e-6)
    heatmap(grid(learning_rate=[0.1], beta=[0.5]), [[1.0]])
    ax = heatmap(POINTS, np.full((3, 2), np.nan))
    assert not any(isinstance(c, PathCollection) for c in ax.collections)


def test_draws_where_it_is_told_and_saves(tmp_path):
    figure, (left, right) = plt.subplots(1, 2)
    assert heatmap(POINTS, VALUES, ax=right) is right
    assert not left.collections
    figure.savefig(tmp_path / "map.png")
    big = grid(learning_rate=np.geomspace(1e-3, 1, 20), beta=np.linspace(0, 0.99, 20))
    ax = heatmap(big, np.random.default_rng(0).normal(size=(20, 20)))
    levels = {0.001, 0.01, 0.1, 1, 10, 100, 1000}
    assert {float(t.get_text()) for t in ax.texts} <= levels  # No room for numbers.
    assert len(ax.get_xticks()) <= 12
    ax.figure.savefig(tmp_path / "big.png")


def cells(ax):
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    return mesh.get_array()


def test_of_a_result_it_draws_the_mean_over_the_seeds_that_did_not_diverge():
    ax = heatmap(results.accuracy(seeds=3), "test_accuracy")
    expected = np.ma.masked_invalid([[0.1, 10.1, 20.0], [1.1, 11.1, np.nan]])  # Rows are β's.
    np.testing.assert_allclose(cells(ax).filled(-1), expected.filled(-1))
    np.testing.assert_allclose(star(ax), [1.0, 1.0], rtol=1e-6)
    (cross,) = (line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_allclose(np.ravel(cross.get_data()), [1.0, 0.1], rtol=1e-6)
    (corner,) = (line for line in ax.lines if line.get_marker() == "X")  # Of the cell of (1, 0).
    np.testing.assert_allclose(
        np.ravel(corner.get_data()), 10.0 ** np.array([0.5, -0.5]), rtol=1e-6
    )
    assert key(ax)[-2:] == ["diverged", "some seeds diverged"]
    assert colour_bar(ax).ax.get_ylabel().startswith("test_accuracy (darkest")


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("loss", "min", 20),
        ("test_accuracy", "max", 20),
        ("meanReward", "max", 20),
        ("acc", "max", 20),
        ("accumulated", "min", 0),
        ("underscore", "min", 0),
    ],
)
def test_a_metrics_name_tells_which_end_is_best(metric, mode, best):
    result = results.accuracy(seeds=2)
    values = result[metric if metric == "loss" else "test_accuracy"]
    result = SweepResult(result.points, {metric: values}, result.diverged)
    place = [1.0 if best else 0.01, 1.0]
    np.testing.assert_allclose(star(heatmap(result)), place, rtol=1e-6)  # The only metric.
    other = heatmap(result, metric, mode={"min": "max", "max": "min"}[mode])
    assert not np.allclose(star(other), place)


def test_axes_of_one_value_go_and_seeds_of_points_too():
    points = repeat(grid(method=["a"], beta=[0.0, 0.9], weight_decay=[0.1], learning_rate=[1.0]), 2)
    ax = heatmap(points, np.arange(4.0).reshape(points.shape), label="x")
    np.testing.assert_allclose(cells(ax), [[0.5], [2.5]])
    assert colour_bar(ax).ax.get_ylabel().startswith("x")


def test_a_longer_axis_has_to_be_selected():
    points = grid(learning_rate=[0.1, 1.0], weight_decay=[0.0, 0.1, 0.2], beta=[0.0, 0.9])
    result = SweepResult(points, {"loss": np.ones(points.shape)}, np.zeros(points.shape, bool))
    with pytest.raises(ValueError, match=r"weight_decay has 3 values; select one with result.wher"):
        heatmap(result, "loss")


def test_whole_numbers_and_flags_are_measures():
    points = grid(learning_rate=[0.1], beta=[0.0, 0.9])
    values = {"hits": np.array([[1, 2]]), "solved": np.array([[False, True]])}
    result = SweepResult(points, values, np.zeros((1, 2), bool))
    np.testing.assert_array_equal(cells(heatmap(result, "hits")).ravel(), [1, 2])
    np.testing.assert_array_equal(cells(heatmap(result, "solved")).ravel(), [0, 1])


RESULT = results.accuracy()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((RESULT, "los"), {}, ValueError, "metric must be one of 'loss', 'test_accuracy', got 'l"),
        ((RESULT,), {}, ValueError, "metric must be one of"),
        ((RESULT, "loss"), {"diverged": True}, ValueError, "a result knows its own"),
        ((RESULT, "loss"), {"mode": "low"}, ValueError, "mode must be one of"),
        (([1.0], "loss"), {}, TypeError, "result must be what momentax.sweep returns, got"),
        (
            (results.histories(RESULT.points), "loss"),
            {},
            ValueError,
            r"loss must be one number a point, got shape \(5,\) at each point; curves draws",
        ),
        (
            (zipped(learning_rate=[0.1, 1.0], beta=[0.0, 0.9]), [1.0, 2.0]),
            {},
            ValueError,
            "got .* along one dimension",
        ),
    ],
)
def test_bad_results(arguments, options, error, text):
    with pytest.raises(error, match=text):
        heatmap(*arguments, **options)


def test_a_result_without_points_says_so():
    points = grid(learning_rate=[0.1], beta=[0.0])
    empty = {dim: {name: v[:0] for name, v in axes.items()} for dim, axes in points.dims.items()}
    result = SweepResult(type(points)(empty), {"loss": np.ones((0, 0))}, np.ones((0, 0), bool))
    with pytest.raises(ValueError, match="at least one point, got none"):
        heatmap(result, "loss")


@pytest.mark.parametrize(
    ("points", "values", "options", "text"),
    [
        (grid(beta=[0.9]), [1.0], {}, r"needs a grid of learning_rate and beta, got \['beta'\]"),
        (POINTS, VALUES.T, {}, r"values must have the grid's shape \(3, 2\), got \(2, 3\)"),
        (POINTS, VALUES, {"diverged": [True]}, r"diverged must have the grid's shape"),
        (POINTS, VALUES, {"mode": "best"}, "mode must be one of 'max', 'min', got 'best'"),
    ],
)
def test_bad_arguments(points, values, options, text):
    with pytest.raises(ValueError, match=text):
        heatmap(points, values, **options)
