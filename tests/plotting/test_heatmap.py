"""The heat map: the positions of its cells and marks, its colours, labels and legend."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.contour import ContourSet

from momentax.plotting import curves, heatmap, parallel
from momentax.sweeps import SweepResult, grid, repeat, zipped
from tests.plotting import results

POINTS = grid(learning_rate=[0.1, 0.01, 1.0], beta=[0.0, 0.9])
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]])


def star(ax):
    (found,) = (c for c in ax.collections if isinstance(c, PathCollection))
    return np.asarray(found.get_offsets())[0]


def test_cells_marks_and_labels_lie_at_their_values():
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


def test_labels_have_as_many_digits_as_their_values_need():
    ax = heatmap(
        grid(learning_rate=[0.1, 0.1001, 0.03], beta=[0.999999, 0.9996, 0.9]),
        np.ones((3, 3)),
        mode="max",
    )
    assert labels(ax.yaxis) == ["0.9", "0.9996", "0.999999"]
    assert labels(ax.xaxis) == ["0.03", "0.1", "0.1001"]
    ax = heatmap(grid(learning_rate=[1], beta=[0.99951]), [[1.0]], mode="max")
    assert labels(ax.yaxis) == ["0.9995"]
    assert labels(ax.xaxis) == ["1"]


def colour_bar(ax):
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    return mesh.colorbar


def test_the_worst_quarter_shares_a_colour_which_the_colour_bar_says():
    points = grid(learning_rate=[0.1, 0.2, 0.4], beta=[0.0, 0.9, 0.99])
    accuracy = np.array([[10.0, 40.0, 90.0], [94.0, 95.0, 96.0], [97.0, 98.0, np.nan]])
    bar = colour_bar(heatmap(points, accuracy, label="accuracy"))
    limit = np.quantile(accuracy[np.isfinite(accuracy)], 0.25)
    assert (bar.vmin, bar.vmax, bar.extend) == (limit, 98, "min")
    assert bar.ax.get_ylabel() == f"accuracy (darkest: {limit:.3g} or less)"
    bar = colour_bar(heatmap(points, -accuracy, mode="min"))
    assert (bar.vmin, bar.vmax, bar.extend) == (-98, -limit, "max")
    assert bar.ax.get_ylabel() == f"(darkest: {-limit:.3g} or more)"
    bar = colour_bar(
        heatmap(points, np.where(accuracy > 50, 1.0, np.nan), mode="max", label="equal")
    )
    assert (bar.extend, bar.ax.get_ylabel()) == ("neither", "equal")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_the_legend_names_the_marks_that_are_drawn_and_numbers_lie_above_lines():
    ax = heatmap(POINTS, VALUES, mode="max")
    assert legend(ax) == ["equal α/(1−β)", "best", "diverged"]
    (five,) = (text for text in ax.texts if text.get_text() == "5")
    assert five.get_bbox_patch() is not None
    for line in (c for c in ax.collections if isinstance(c, ContourSet)):
        assert five.get_zorder() > line.get_zorder()
    assert legend(heatmap(POINTS, np.ones((3, 2)), mode="max", effective=False)) == ["best"]
    assert legend(heatmap(POINTS, np.full((3, 2), np.nan), mode="min", effective=False)) == [
        "diverged"
    ]


def test_lines_of_equal_effective_learning_rate_can_be_left_out():
    ax = heatmap(POINTS, VALUES, mode="max", effective=False)
    assert not any(isinstance(c, ContourSet) for c in ax.collections)


def test_diverged_points_are_never_best():
    diverged = np.zeros((3, 2), bool)
    diverged[2, 0] = True  # The largest finite value.
    ax = heatmap(POINTS, VALUES, mode="max", diverged=diverged)
    np.testing.assert_allclose(star(ax), [0.01, 0.1], rtol=1e-6)
    assert sum(line.get_marker() == "x" for line in ax.lines) == 2


def test_mode_min_swapped_axes_a_single_point_and_no_finite_point():
    swapped = grid(beta=[0.0, 0.9], learning_rate=[0.1, 0.01, 1.0])
    ax = heatmap(swapped, VALUES.T, mode="min")
    np.testing.assert_array_equal(
        cells(ax).filled(-1), cells(heatmap(POINTS, VALUES, mode="max")).filled(-1)
    )
    np.testing.assert_allclose(star(ax), [0.1, 1.0], rtol=1e-6)
    heatmap(grid(learning_rate=[0.1], beta=[0.5]), [[1.0]], mode="min")
    ax = heatmap(POINTS, np.full((3, 2), np.nan), mode="min")
    assert not any(isinstance(c, PathCollection) for c in ax.collections)


def test_draws_on_given_axes_and_saves(tmp_path):
    figure, (left, right) = plt.subplots(1, 2)
    assert heatmap(POINTS, VALUES, mode="max", ax=right) is right
    assert not left.collections
    figure.savefig(tmp_path / "map.png")
    big = grid(learning_rate=np.geomspace(1e-3, 1, 20), beta=np.linspace(0, 0.99, 20))
    ax = heatmap(big, np.random.default_rng(0).normal(size=(20, 20)), mode="max")
    levels = {0.001, 0.01, 0.1, 1, 10, 100, 1000}
    assert {float(t.get_text()) for t in ax.texts} <= levels  # The cells are too small for numbers.
    assert len(ax.get_xticks()) <= 12
    ax.figure.savefig(tmp_path / "big.png")


def cells(ax):
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    return mesh.get_array()


def test_a_cell_of_a_result_is_the_mean_over_the_seeds_that_did_not_diverge():
    ax = heatmap(results.accuracy(seeds=3), "test_accuracy")
    expected = np.ma.masked_invalid([[0.1, 10.1, 20.0], [1.1, 11.1, np.nan]])  # A row for each β.
    np.testing.assert_allclose(cells(ax).filled(-1), expected.filled(-1))
    np.testing.assert_allclose(star(ax), [1.0, 1.0], rtol=1e-6)
    (cross,) = (line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_allclose(np.ravel(cross.get_data()), [1.0, 0.1], rtol=1e-6)
    (corner,) = (line for line in ax.lines if line.get_marker() == "X")  # At α = 1, β = 0.
    np.testing.assert_allclose(
        np.ravel(corner.get_data()), 10.0 ** np.array([0.5, -0.5]), rtol=1e-6
    )
    assert legend(ax)[-2:] == ["diverged", "some seeds diverged"]
    assert colour_bar(ax).ax.get_ylabel().startswith("test_accuracy (darkest")


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("loss", "min", 20),
        ("test_accuracy", "max", 20),
        ("meanReward", "max", 20),
        ("acc", "max", 20),
    ],
)
def test_the_name_of_a_metric_says_which_end_is_best(metric, mode, best):
    result = results.accuracy(seeds=2)
    values = result[metric if metric == "loss" else "test_accuracy"]
    result = SweepResult(result.points, {metric: values}, result.diverged)
    place = [1.0 if best else 0.01, 1.0]
    np.testing.assert_allclose(star(heatmap(result)), place, rtol=1e-6)  # It is the only metric.
    other = heatmap(result, metric, mode={"min": "max", "max": "min"}[mode])
    assert not np.allclose(star(other), place)


@pytest.mark.parametrize("metric", ["accumulated", "underscore", "r2", "neg_loss"])
def test_a_name_that_does_not_say_which_end_is_best_needs_mode(metric):
    result = results.accuracy()
    result = SweepResult(result.points, {metric: result["loss"]}, result.diverged)
    for draw in (heatmap, parallel):
        with pytest.raises(
            ValueError, match=f'give mode="max" or mode="min": the name {metric} does not say'
        ):
            draw(result, metric)
        draw(result, metric, mode="min")
    curves(results.histories(result.points), "loss")
    with pytest.raises(ValueError, match=f"the label {metric} does not say whether more or less"):
        heatmap(POINTS, VALUES, label=metric)
    with pytest.raises(ValueError, match=r'^give mode="max" or mode="min", or a label that tells'):
        heatmap(POINTS, VALUES)
    heatmap(POINTS, VALUES, label="test loss")


def test_axes_of_a_single_value_and_seeds_of_points_are_reduced():
    points = repeat(grid(method=["a"], beta=[0.0, 0.9], weight_decay=[0.1], learning_rate=[1.0]), 2)
    ax = heatmap(points, np.arange(4.0).reshape(points.shape), label="x", mode="min")
    np.testing.assert_allclose(cells(ax), [[0.5], [2.5]])
    assert colour_bar(ax).ax.get_ylabel().startswith("x")


def test_another_axis_with_several_values_is_refused():
    points = grid(learning_rate=[0.1, 1.0], weight_decay=[0.0, 0.1, 0.2], beta=[0.0, 0.9])
    result = SweepResult(points, {"loss": np.ones(points.shape)}, np.zeros(points.shape, bool))
    with pytest.raises(ValueError, match=r"weight_decay has 3 values; select one with result.wher"):
        heatmap(result, "loss")


def test_integers_and_bools_are_metrics():
    points = grid(learning_rate=[0.1], beta=[0.0, 0.9])
    values = {"hits": np.array([[1, 2]]), "solved": np.array([[False, True]])}
    result = SweepResult(points, values, np.zeros((1, 2), bool))
    np.testing.assert_array_equal(cells(heatmap(result, "hits", mode="max")).ravel(), [1, 2])
    np.testing.assert_array_equal(cells(heatmap(result, "solved", mode="max")).ravel(), [0, 1])


RESULT = results.accuracy()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((RESULT, "los"), {}, ValueError, "values must be one of 'loss', 'test_accuracy', got 'l"),
        ((RESULT,), {}, ValueError, "values must be one of"),
        ((RESULT, "loss"), {"diverged": True}, ValueError, "a result has its own"),
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
            {"mode": "max"},
            ValueError,
            "got .* along one dimension",
        ),
    ],
)
def test_bad_results(arguments, options, error, text):
    with pytest.raises(error, match=text):
        heatmap(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"effective": "no"}, TypeError, "effective must be True or False, got 'no'"),
        ({"mode": {}}, ValueError, "mode must be one of 'max', 'min', got {}"),
        ({"mode": ""}, ValueError, "mode must be one of 'max', 'min', got ''"),
        ({"label": 3}, TypeError, "label must be text or None, got 3"),
        ({"ax": 1.0}, TypeError, "ax must be matplotlib axes, as .* got 1.0"),
        ({"ax": plt}, TypeError, "ax must be matplotlib axes"),
        ({"diverged": ["no"] * 3}, TypeError, "diverged must be an array of bools"),
        ({"diverged": np.zeros((3, 2))}, TypeError, "diverged must be an array of bools"),
        ({"values": "x"}, TypeError, "values must be an array of real numbers, got 'x'"),
        ({"values": [[1.0], [1.0, 2.0]]}, TypeError, "values must be an array of real numbers"),
        ({"values": object()}, TypeError, "values must be an array of real numbers"),
        ({"result": RESULT, "values": VALUES}, ValueError, "values must be one of 'loss', 'test_a"),
        ({"result": VALUES}, TypeError, "result must be what momentax.sweep returns"),
    ],
)
def test_the_argument_that_is_wrong_is_named(options, error, text):
    arguments = {"result": POINTS, "values": VALUES, "label": "loss"} | options
    with pytest.raises(error, match=text):
        heatmap(arguments.pop("result"), arguments.pop("values"), **arguments)
    others = {name: options[name] for name in options if name in ("mode", "ax")}
    if others:
        with pytest.raises(error, match=text):
            parallel(RESULT, "loss", **others)


def test_a_result_without_points_is_refused():
    points = grid(learning_rate=[0.1], beta=[0.0])
    empty = {dim: {name: v[:0] for name, v in axes.items()} for dim, axes in points.dims.items()}
    result = SweepResult(type(points)(empty), {"loss": np.ones((0, 0))}, np.ones((0, 0), bool))
    with pytest.raises(ValueError, match="at least one point, got the shape"):
        heatmap(result, "loss")


@pytest.mark.parametrize(
    ("points", "values", "options", "text"),
    [
        (
            grid(beta=[0.9]),
            [1.0],
            {"mode": "max"},
            r"needs a grid of learning_rate and beta, got \['beta'\]",
        ),
        (POINTS, None, {}, r"with points, give values: an array of shape \(3, 2\)"),
        (POINTS, VALUES.T, {}, r"values must have the grid's shape \(3, 2\), got \(2, 3\)"),
        (POINTS, VALUES, {"diverged": [True]}, r"diverged must have the grid's shape"),
        (POINTS, VALUES, {"mode": "best"}, "mode must be one of 'max', 'min', got 'best'"),
    ],
)
def test_bad_arguments(points, values, options, text):
    with pytest.raises(ValueError, match=text):
        heatmap(points, values, **options)
