"""The heat map: the positions of its cells and marks, its colours, labels and legend."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh

import momentax
from momentax.plotting import curves, heatmap, parallel
from momentax.plotting._regret import step_of
from momentax.sweeps import SweepResult, grid, repeat, zipped
from tests.plotting import results

POINTS = grid(learning_rate=[0.1, 0.01, 1.0], beta=[0.0, 0.9])
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]])


def star(ax):
    (found,) = (c for c in ax.collections if isinstance(c, PathCollection))
    return np.asarray(found.get_offsets())[0]


def effective_lines(ax):
    return [line for line in ax.lines if line.get_gid() == "equal α/(1−β)"]


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
    levels = []
    for line in effective_lines(ax):
        x, y = (np.asarray(part) for part in line.get_data())
        levels.append(np.nanmean(x / y))
        np.testing.assert_allclose(x[np.isfinite(x)] / y[np.isfinite(x)], levels[-1], rtol=1e-9)
    np.testing.assert_allclose(levels, [0.01, 0.1, 1.0, 10.0])
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


def shades(ax):
    """Return the place of each cell's colour on the colour bar: 0 is the best."""
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    return np.ma.filled(mesh.norm(mesh.get_array()), np.nan)


def test_colours_are_on_a_log_scale_of_the_distance_from_the_best():
    points = grid(learning_rate=[0.1, 0.2, 0.4], beta=[0.0, 0.9])
    regret = np.array([[0.0, 0.01], [0.03, 0.1], [0.3, 1e9]])
    ax = heatmap(points, 5 + regret, mode="min", label="loss", resolution=0.0)
    place = shades(ax).T
    # Steps that triple the distance are equal on the scale, and the worst value does not hide them.
    np.testing.assert_allclose(place[0, 1], np.log1p(1) / np.log1p(1000), rtol=1e-6)
    gaps = np.diff([place[1, 0], place[1, 1], place[2, 0]])
    assert (gaps > 0.1).all()
    assert place[2, 1] >= 1
    bar = colour_bar(ax)
    assert (bar.vmin, bar.extend) == (5, "max")
    assert bar.ax.get_ylabel() == "loss, on a log scale of its distance from the best"
    ticks = [float(text.get_text()) for text in bar.ax.get_yticklabels()]
    np.testing.assert_allclose(bar.get_ticks(), ticks, rtol=1e-3)
    assert ticks[0] == 5
    other = heatmap(points, -regret, mode="max", resolution=0.0)
    np.testing.assert_allclose(shades(other).T[:2], 1 - place[:2], atol=1e-6)
    assert colour_bar(other).extend == "min"
    equal = heatmap(points, np.ones((3, 2)), mode="max", label="equal")
    assert colour_bar(equal).extend == "neither"


def test_no_line_of_equal_effective_learning_rate_runs_through_a_number():
    α, β = np.geomspace(0.001, 1, 7), [0.0, 0.5, 0.8, 0.9, 0.95, 0.99]
    values = np.random.default_rng(0).random((7, 6))
    for points, numbers in (
        (grid(learning_rate=α, beta=β), values),
        (repeat(grid(learning_rate=α, beta=β), 3), values[..., None] + [0, 0.01, 0.02]),
    ):
        ax = heatmap(points, numbers, mode="max", label="accuracy")
        figure = ax.figure
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in ax.texts if text.get_fontsize() == 8]
        written = [text.get_text() for text in ax.texts if text.get_fontsize() == 8]
        levels = {f"{10.0**power:g}" for power in range(-3, 3)}
        boxes = [box for box, text in zip(boxes, written, strict=True) if text not in levels]
        assert len(boxes) == 42
        lines = effective_lines(ax)
        assert len(lines) == 6
        for line in lines:
            x, y = ax.transData.transform(np.column_stack(line.get_data())).T
            for box in boxes:
                inside = (box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1)
                assert not inside.any()
        assert all(np.isfinite(line.get_xdata()).mean() > 0.3 for line in lines)


def ties(ax):
    return {
        (round(float(line.get_xdata()[0]), 6), round(1 - float(line.get_ydata()[0]), 6))
        for line in ax.lines
        if line.get_marker() == "*" and line.get_markerfacecolor() == "white"
    }


def test_settings_that_differ_by_one_image_are_tied():
    images = np.array([[357, 356, 350], [356, 355, np.nan]])
    points = grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.5, 0.9])
    accuracy = np.float32(images / 360)
    for resolution in (None, 1 / 360):
        ax = heatmap(points, accuracy, label="test accuracy", resolution=resolution)
        assert ties(ax) == {(0.1, 0.5), (1.0, 0.0)}
        np.testing.assert_allclose(star(ax), [0.1, 1.0], rtol=1e-6)
        assert "tied: within 1/360" in legend(ax)
    assert ties(heatmap(points, accuracy, label="accuracy", resolution=2.1 / 360)) == {
        (0.1, 0.5),
        (1.0, 0.0),
        (1.0, 0.5),
    }
    assert ties(heatmap(points, accuracy, label="accuracy", resolution=0.0)) == set()
    smooth = np.random.default_rng(0).random((2, 3))
    ax = heatmap(points, smooth, label="accuracy")
    assert ties(ax) == set()
    assert legend(ax) == ["equal α/(1−β)", "best"]


def test_settings_within_one_standard_error_of_the_difference_are_tied():
    points = repeat(grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9]), 4)
    spread = np.array([-3.0, -1.0, 1.0, 3.0])
    error = np.std(spread, ddof=1) / 2
    means = np.array([[100.0, 100 - 1.3 * error], [100 - 1.5 * error, 90.0]])
    ax = heatmap(points, means[..., None] + spread, mode="max", label="reward")
    assert ties(ax) == {(0.1, 0.9)}  # √2 standard errors are one of the difference.
    assert "tied: within one standard error" in legend(ax)
    notes = [text.get_text() for text in ax.texts if text.get_text().startswith("±")]
    assert notes == [f"±{error:.1g}"] * 4


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (np.array([0, 17, 180, 351, 360]) / 360, 1 / 360),
        (np.array([2, 4, 9, 30]) / 50, 1 / 50),
        (np.float32(np.array([9981, 9975, 9970, 1000]) / 10000), 1 / 10000),
        (np.random.default_rng(0).random(50), 0),
        ([0.2, 0.5, 0.7, 0.8], 0),  # A step of a tenth is a coarse choice of numbers.
        ([0.5, 0.52], 0),
        ([1.0, 2.0, 3.0, 4.0], 0),
        ([0.25], 0),
        ([], 0),
    ],
)
def test_the_step_of_accuracies_is_read_off(values, step):
    assert step_of(np.asarray(values, float)) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize("betas", [[0.9], [0.0], [0.999]])
def test_a_single_beta_keeps_the_direction_of_the_axis(betas):
    (several, one) = (
        heatmap(grid(learning_rate=[0.1, 1.0], beta=β), np.ones((2, len(β))), mode="max").get_ylim()
        for β in ([0.0, 0.9], betas)
    )
    assert several[0] > several[1]
    assert one[0] > 1 - betas[0] > one[1]


def test_the_stability_edge_is_drawn_where_the_curvature_is_known():
    ax = heatmap(POINTS, VALUES, mode="max", curvature=20.0)
    α, rest = ax.lines[-1].get_data()
    edge = 2 * (2 - rest) / 20
    np.testing.assert_allclose(α, edge, rtol=1e-6)
    assert legend(ax)[-1] == "stability edge at curvature 20"
    measured = momentax.diagnostics.Curvature(1.0, 20.0, None, {})
    nesterov = lambda α, β: momentax.sgd(α, momentax.nesterov(β))  # noqa: E731 - It is a value.
    ax = heatmap(POINTS, VALUES, mode="max", curvature=measured, pipeline=nesterov)
    α, rest = ax.lines[-1].get_data()
    np.testing.assert_allclose(α, 2 * (2 - rest) / (3 - 2 * rest) / 20, rtol=1e-6)
    with pytest.raises(ValueError, match="pipeline needs curvature"):
        heatmap(POINTS, VALUES, mode="max", pipeline=nesterov)
    with pytest.raises(ValueError, match=r"curvature must be in \(0, inf\)"):
        heatmap(POINTS, VALUES, mode="max", curvature=-1.0)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_the_legend_names_the_marks_that_are_drawn_and_numbers_lie_above_lines():
    ax = heatmap(POINTS, VALUES, mode="max")
    assert legend(ax) == ["equal α/(1−β)", "best", "diverged"]
    (five,) = (text for text in ax.texts if text.get_text() == "5")
    for line in effective_lines(ax):
        assert five.get_zorder() > line.get_zorder()
    assert legend(heatmap(POINTS, np.ones((3, 2)), mode="max", effective=False)) == [
        "best",
        "tied",
    ]
    assert legend(heatmap(POINTS, np.full((3, 2), np.nan), mode="min", effective=False)) == [
        "diverged"
    ]


def test_lines_of_equal_effective_learning_rate_can_be_left_out():
    ax = heatmap(POINTS, VALUES, mode="max", effective=False)
    assert not effective_lines(ax)


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
    assert colour_bar(ax).ax.get_ylabel().startswith("test_accuracy, on a log scale")


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
