"""The dashboard: its panels, the readings on them, leaves, findings and axes."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

import momentax
from momentax.diagnostics import Finding, Measurements
from momentax.plotting import dashboard

COUNTS = np.arange(0, 100, 5)
WAVE = np.linspace(0, 1, 20)


def measured(counts=COUNTS, **history):
    history = {key.replace("__", "/"): np.asarray(values) for key, values in history.items()}
    return Measurements({key: v[-1] for key, v in history.items()}, history, counts, 5)


EVERYTHING = {
    "loss": np.geomspace(10, 0.01, 20),
    "gradient_norm": 3 - WAVE,
    "clipped_gradient_norm": np.minimum(3 - WAVE, 2.5),
    "velocity_norm": 10 + WAVE,
    "update_norm": 0.01 + WAVE,
    "parameter_norm": 5 + WAVE,
    "cos": np.cos(WAVE),
    "angle": 180 * WAVE,
    "gain": 3 + WAVE,
    "age": 9 - 0 * WAVE,
    "effective_learning_rate": 0.1 + WAVE,
    "update_ratio": 1e-3 + WAVE,
    "opposing_share": WAVE,
    "gradient_snr": 2 - WAVE,
    "nonfinite": 0 * WAVE,
    "headroom": 38 - WAVE,
    "curvature": 5 - WAVE,
    "edge": 7 + 0 * WAVE,
    "alpha": 2 * WAVE - 1,
}


def titles(axes):
    return [ax.get_title() for ax in axes]


def test_each_group_of_readings_has_a_panel_with_its_history():
    axes = dashboard(measured(**EVERYTHING), ())
    assert titles(axes) == [
        "loss",
        "norms",
        "angle of velocity and gradient",
        "where a step lands on the local parabola",
        "curvature along the step",
        "gain of the velocity",
        "effective learning rate",
        "update ratio",
        "velocity against gradient",
        "signal to noise of gradients",
    ]
    drawn = dict(zip(titles(axes), axes, strict=True))
    loss = drawn["loss"]
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), COUNTS)
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), EVERYTHING["loss"])
    assert loss.get_yscale() == "log"
    norms = {line.get_label(): line.get_ydata() for line in drawn["norms"].lines}
    assert list(norms) == ["gradient", "gradient, clipped", "velocity", "update", "parameters"]
    np.testing.assert_array_equal(norms["velocity"], EVERYTHING["velocity_norm"])
    angle = drawn["angle of velocity and gradient"]
    assert angle.get_yticks().tolist() == [0, 45, 90, 135, 180]
    assert 90 in [line.get_ydata()[0] for line in angle.lines[1:]]
    alpha = drawn["where a step lands on the local parabola"]
    assert [line.get_ydata()[0] for line in alpha.lines[1:]] == [-1, 0, 1]
    curvature = drawn["curvature along the step"]
    np.testing.assert_array_equal(curvature.lines[1].get_ydata(), EVERYTHING["edge"])
    # A gradient that stays as it is gets the gain 1 / (1 - β) = 1 + age.
    np.testing.assert_array_equal(drawn["gain of the velocity"].lines[1].get_ydata(), 10)


def test_panels_that_say_nothing_are_left_out_and_can_be_asked_for():
    history = EVERYTHING | {"clipped_gradient_norm": EVERYTHING["gradient_norm"]}
    (norms,) = dashboard(measured(**history), (), panels=["norms"])
    assert len(norms.lines) == 4
    axes = dashboard(measured(**history), ())
    assert [line.get_label() for line in axes[1].lines] == [
        "gradient",
        "velocity",
        "update",
        "parameters",
    ]
    tight = EVERYTHING | {"nonfinite": 3 * WAVE, "headroom": 3 - WAVE}
    assert titles(dashboard(measured(**tight), ()))[-2:] == [
        "entries that are not finite",
        "headroom before overflow",
    ]
    assert titles(dashboard(measured(**EVERYTHING), (), panels=["headroom", "loss"])) == [
        "headroom before overflow",
        "loss",
    ]


def test_what_is_not_known_is_a_gap_and_other_readings_get_a_panel():
    loss = np.where(WAVE > 0.5, np.nan, WAVE)
    edge = np.where(WAVE > 0.5, np.inf, 1.0)
    axes = dashboard(measured(loss=loss, edge=edge, curvature=WAVE, accuracy=WAVE), ())
    assert titles(axes) == ["loss", "curvature along the step", "accuracy"]
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), loss)
    assert np.isnan(axes[1].lines[1].get_ydata()[-1])


@pytest.mark.parametrize("separator", ["/", ".", "::"])
def test_a_few_leaves_are_lines_and_many_are_rows(separator):
    def of_leaves(count):
        history = {"loss": WAVE}
        for i in range(count):
            history[f"layer{i}/kernel{separator}angle".replace("/", separator)] = WAVE * i
        return Measurements({}, history, COUNTS, 5)

    _, angle = dashboard(of_leaves(3), ())
    assert angle.get_title() == "angle of velocity and gradient"
    names = [text.get_text() for text in angle.get_legend().get_texts()]
    assert len(names) == 3
    assert [name[:6] for name in names] == ["layer0", "layer1", "layer2"]
    np.testing.assert_array_equal(angle.lines[2].get_ydata(), 2 * WAVE)
    _, angle = dashboard(of_leaves(12), ())
    (mesh,) = (each for each in angle.collections if isinstance(each, QuadMesh))
    np.testing.assert_allclose(mesh.get_array(), np.outer(np.arange(12), WAVE))
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 180)
    assert angle.get_yticklabels()[3].get_text()[:6] == "layer3"
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], np.arange(-2.5, 100, 5))


def test_readings_of_several_kinds_of_leaves_have_a_panel_each():
    history = {f"a__{key}": values for key, values in EVERYTHING.items() if key != "loss"}
    axes = dashboard(measured(**history, b__gain=WAVE), ())
    assert titles(axes)[:5] == [
        "gradient norm",
        "clipped gradient norm",
        "velocity norm",
        "update norm",
        "parameter norm",
    ]
    assert titles(axes)[7:10] == ["curvature", "edge", "gain of the velocity"]
    assert [text.get_text() for text in axes[9].get_legend().get_texts()] == ["a", "b"]


def spans(ax):
    return [
        (patch.get_x(), patch.get_x() + patch.get_width())
        for patch in ax.patches
        if isinstance(patch, Rectangle)
    ]


def test_findings_are_marked_on_every_panel_and_listed_by_severity():
    findings = [
        Finding("plateau", "note", "", "", (50, 95)),
        Finding("exploding_velocity", "problem", "", "", (20, 20)),
        Finding("oscillation", "warning", "", "", (-5, 30)),
    ]
    axes = dashboard(measured(loss=WAVE + 1, angle=WAVE), findings)
    for ax in axes:
        assert spans(ax) == [(17.5, 22.5), (-2.5, 32.5), (47.5, 97.5)]
    assert [text.get_text() for text in axes[0].texts] == ["1", "2", "3"]
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "1  problem: exploding velocity, step 20",
        "2  warning: oscillation, steps -5 to 30",
        "3  note: plateau, steps 50 to 95",
    ]
    many = [Finding(f"rule {i}", "note", "", "", (i, i + 1)) for i in range(20)]
    (legend,) = dashboard(measured(loss=WAVE), many)[0].figure.legends
    assert legend.get_texts()[-1].get_text() == "and 12 more"


def test_a_real_run_is_drawn_by_its_own_method():
    tx = momentax.monitor(momentax.sgd(0.05, momentax.heavy_ball(0.9)), history=30, curvature=True)
    params = {"w": jnp.array([1.0, 2.0])}
    run = momentax.rollout(lambda p: jnp.sum(jnp.array([1.0, 10.0]) * p["w"] ** 2), params, tx, 40)
    read = momentax.measurements(run.state)
    axes = read.plot(findings=())
    drawn = dict(zip(titles(axes), axes, strict=True))
    np.testing.assert_array_equal(drawn["loss"].lines[0].get_xdata(), np.arange(10, 40))
    np.testing.assert_allclose(drawn["loss"].lines[0].get_ydata(), read.history["loss"])
    assert "curvature along the step" in drawn
    axes[0].figure.canvas.draw()


def test_draws_on_given_axes():
    _, grid = plt.subplots(1, 3)
    read = measured(loss=WAVE, angle=WAVE, gain=WAVE)
    axes = dashboard(read, [Finding("a", "note", "", "", (0, 5))], ax=grid)
    assert list(axes) == list(grid)
    _, ax = plt.subplots()
    assert list(dashboard(read, (), panels=["angle"], ax=ax)) == [ax]
    with pytest.raises(ValueError, match="ax must hold 3 axes, one for each panel, got 1"):
        dashboard(read, (), ax=ax)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (({"loss": 1.0}, ()), {}, TypeError, "measurements must be what momentax.measurements"),
        (
            (Measurements({"loss": 1.0}, {}, []), ()),
            {},
            ValueError,
            r"momentax.monitor\(tx, history=1000",
        ),
        (
            (measured(loss=np.full(20, np.nan)), ()),
            {},
            ValueError,
            "a history with a finite reading",
        ),
        ((measured(loss=WAVE), [1]), {}, TypeError, "findings must be what momentax.explain"),
        (
            (measured(loss=WAVE), ()),
            {"panels": ["angle"]},
            ValueError,
            "panels must be among .* 'loss'",
        ),
        ((measured(loss=WAVE), ()), {"panels": []}, ValueError, "panels must hold at least one"),
        ((measured(loss=WAVE), ()), {"ax": 3}, TypeError, "ax must be an array or a list of 1"),
    ],
)
def test_bad_arguments(arguments, options, error, text):
    with pytest.raises(error, match=text):
        dashboard(*arguments, **options)
