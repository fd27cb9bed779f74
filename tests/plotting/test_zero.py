"""On a log axis 0 has a place of its own, below the smallest positive value."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

import momentax
from momentax.plotting import curves, heatmap, parallel, theory_overlay
from momentax.plotting._axis_scale import axis_scale, metric_scale
from momentax.sweeps import Points, SweepResult, grid


def points_of(**axes):
    """Make a grid of any values, in the dtype in which a sweep keeps them."""
    return Points({name: {name: np.asarray(v, np.float32)} for name, v in axes.items()})


def swept(points, **values):
    return SweepResult(points, values, np.zeros(points.shape, bool))


def tick_texts(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


DECAYS = [0.0, 1e-5, 1e-4, 1e-3]


@pytest.mark.parametrize("values", [DECAYS, [*DECAYS, 0.3], [0, 3, 4000], [1e-3, 0.0, 1e-6]])
@pytest.mark.parametrize("name", ["weight_decay", "eps"])
def test_0_lies_one_step_below_the_others(name, values):
    scale = axis_scale(name, np.array(values))
    positions = np.sort(scale.positions(values))
    gaps = np.diff(positions)
    assert gaps[0] >= 0.999 * gaps[1:].mean()
    assert scale.positions([0.0]) == positions[0]
    _, labels = scale.ticks(12)
    assert labels[0] == "0"
    assert len(labels) == len(values)
    middle = (positions[0] + positions[1]) / 2
    np.testing.assert_allclose(scale.values_at(positions), np.sort(values), rtol=1e-6)
    assert scale.values_at([middle - 1e-6, middle + 1e-6]).tolist()[0] == 0
    np.testing.assert_allclose(np.log(scale.coordinates(np.sort(values))), positions, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0, 0.0], "linear"),
        ([0.0, 0.1], "linear"),
        ([0.0, 0.01, 0.1], "linear"),
        (np.linspace(0, 1, 201), "linear"),  # Evenly spaced.
        ([-1.0, 0.0, 1e-5, 1.0], "linear"),
        (np.float32([1e-5, 1e-4, 1e-3]), "log"),
        (np.float32(DECAYS), "log"),
    ],
)
def test_the_scale_of_an_axis_with_0(values, scale):
    assert axis_scale("eps", np.asarray(values)).scale == scale


def test_0_of_many_values_is_apart_from_them():
    values = np.append(0, np.geomspace(1e-6, 1, 400))
    positions = metric_scale("loss", values, log=True).positions(values)
    assert positions[1] - positions[0] > 0.1 * (positions[-1] - positions[1])


def test_parallel_draws_settings_with_0_apart_from_the_smallest():
    points = points_of(weight_decay=DECAYS, beta=[0.0, 0.9])
    loss = np.array([[0.0, 1e-6], [1e-4, 1e-3], [0.1, 1.0], [2.0, 3.0]])
    ax = parallel(swept(points, loss=loss), "loss")
    heights = {
        round(float(line.get_ydata()[0]), 3) for line in ax.lines if len(line.get_xdata()) > 2
    }
    assert heights == {0.0, 0.333, 0.667, 1.0}
    ends = sorted(float(line.get_ydata()[-1]) for line in ax.lines if len(line.get_xdata()) > 2)
    assert ends[0] == 0
    assert ends[1] > 0.1  # The loss of 1e-6.
    assert [text.get_text() for text in ax.texts if text.xy == (0, 0.0)] == ["0"]
    ax.figure.canvas.draw()


def test_curves_show_a_loss_that_reaches_0():
    loss = np.array([[1.0, 1e-2, 1e-5, 0.0, 0.0], [1.0, 0.5, 1e-3, 1e-4, 1e-5]])
    for logy in (None, True):
        ax = curves(swept(points_of(beta=[0.0, 0.9]), loss=loss), "loss", logy=logy)
        assert ax.get_yscale() == "log"
        heights = ax.lines[0].get_ydata()
        assert 0 < heights[-1] < 0.5e-5
        assert heights[:3].tolist() == [1.0, 1e-2, 1e-5]
        ax.figure.canvas.draw()
        labels, places = tick_texts(ax.yaxis), ax.get_yticks()
        assert places[labels.index("0")] == pytest.approx(heights[-1])
        assert ax.get_ylim()[0] < heights[-1]
    ax = curves(swept(points_of(beta=[0.0, 0.9]), loss=loss), "loss", logy=False)
    assert ax.lines[0].get_ydata()[-1] == 0


def test_curves_with_negative_values_ask_for_another_scale():
    rates = points_of(learning_rate=[0.1, 1.0])
    for steps in (np.arange(5.0) - 3, np.arange(5.0) - 9):
        result = swept(rates, loss=np.outer([0.1, 1.0], steps))
        with pytest.raises(ValueError, match=rf"^logy must be .*loss has .* {steps[0]:.4g}, which"):
            curves(result, "loss", logy=True)
        assert curves(result, "loss").get_yscale() == "linear"


def test_curves_draw_a_band_and_a_diverged_run_below_0_on_a_log_scale():
    loss = np.array([[[1.0, 0.0], [1.0, 1e-3], [1.0, 2e-2]], [[1, -5], [1, np.inf], [1, np.nan]]])
    points = points_of(beta=[0.0, 0.9], seed=[0, 1, 2])
    for kept in (
        loss,
        loss - [0, 1e-3],
        np.minimum(loss, 0),
    ):  # The band, one run, and nothing positive.
        result = SweepResult(points, {"loss": kept}, np.array([[False] * 3, [True] * 3]))
        ax = curves(result, "loss", logy=True)
        assert ax.get_yscale() == "log"
        ax.figure.canvas.draw()


def test_curves_colour_a_setting_with_0_by_its_own_place():
    points = points_of(weight_decay=DECAYS)
    ax = curves(swept(points, loss=np.ones((4, 3))), "loss")
    colours = {to_rgba(line.get_color()) for line in ax.lines}
    assert len(colours) == 4
    red = sorted(np.linalg.norm(np.subtract(a, b)) for a in colours for b in colours if a != b)
    assert red[0] > 0.1
    assert ax.get_legend().get_texts()[0].get_text() == "0"


RATES = [0.0, 0.01, 0.1, 1.0]


def rate_map(rates=RATES, **options):
    points = points_of(learning_rate=rates, beta=[0.0, 0.5, 0.9])
    values = np.arange(float(len(points))).reshape(points.shape)
    return heatmap(points, values, mode="max", **options)


def test_a_map_has_a_column_for_a_learning_rate_of_0():
    ax = rate_map()
    ax.figure.canvas.draw()
    assert tick_texts(ax.xaxis) == ["0", "0.01", "0.1", "1"]
    places = np.log10(ax.get_xticks())
    np.testing.assert_allclose(places, [-3, -2, -1, 0], atol=1e-6)
    left, right = np.log10(ax.get_xlim())
    assert left < -3 < 0 < right
    written = {text.get_text(): text.get_position() for text in ax.texts}
    assert written["0"][0] == pytest.approx(1e-3)
    for contour in (c for c in ax.collections if hasattr(c, "levels")):  # Not in the column of 0.
        for path in contour.get_paths():
            assert (path.vertices[:, 0] > 10**-2.51).all()


@pytest.mark.parametrize("rates", [[0.0], [0.0, 0.1]])
def test_a_map_of_few_learning_rates_with_0(rates, tmp_path):
    ax = rate_map(rates)
    ax.figure.savefig(tmp_path / "map.png")
    assert tick_texts(ax.xaxis)[0] == "0"


def test_the_stability_edge_is_not_drawn_at_0():
    def heavy_ball(learning_rate, beta):
        return momentax.sgd(learning_rate, momentax.heavy_ball(beta))

    for curvature, reason in ((20.0, ""), (1e4, "\n(below the map's learning rates)")):
        ax = rate_map()
        theory_overlay(ax, heavy_ball, curvature, betas=[0.0, 0.5, 0.9])
        edge = np.asarray(ax.lines[-1].get_xdata())
        assert np.isnan(edge).all() == bool(reason)
        assert (edge[np.isfinite(edge)] > 10**-2.5).all()
        assert ax.lines[-1].get_label() == f"stability edge at curvature {curvature:.4g}{reason}"


def test_a_learning_rate_of_0_is_a_point_of_a_sweep():
    points = grid(learning_rate=[0.0, 0.1, 1.0], beta=[0.0, 0.9])

    def run(learning_rate, beta):
        tx = momentax.sgd(learning_rate, momentax.heavy_ball(beta))
        return {"loss": (1 + tx.update(np.float32(1), tx.init(np.float32(1)))[0]) ** 2}

    result = momentax.sweep(run, points)
    np.testing.assert_allclose(result["loss"][:, 0], [1, 0.81, 0], atol=1e-6)
    for draw in (heatmap, parallel):
        draw(result, "loss")
    mutated = momentax.sweeps.mutate()(0, points.columns(), points)["learning_rate"]
    assert (mutated == 0).tolist() == [True, True, False, False, False, False]
    assert mutated[2:].min() >= 0.1
