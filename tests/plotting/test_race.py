"""Losses over the steps: the ranking of a race, and what runs recorded."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import momentax
from momentax import problems
from momentax._core.metrics import arrival
from momentax.plotting import history, race


def run_of(loss, **records):
    """Return a run with these losses, as `rollout` returns it."""
    return momentax.Rollout(np.zeros(2), (), {"loss": np.array(loss), **records})


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


RUNS = {
    "slow": run_of([11.0, 9.0, 7.0, 5.0, 3.0, 2.0]),
    "passing": run_of([11.0, 1.5, 6.0, 1.2, 1.1, 1.01]),
    "fast": run_of([11.0, 6.0, 1.4, 1.3, 1.2, 1.05]),
    "broken": run_of([11.0, 1.5, 9.0, np.inf, np.nan, np.nan]),
    "rising": run_of([11.0, 1.5, 12.0, 20.0, 40.0, 80.0]),
    "middle": run_of([11.0, 9.0, 7.0, 5.0, 3.0, 1.7]),
}


def test_runs_are_ranked_by_the_step_from_which_on_they_stay_below_the_target():
    ax = race(RUNS, minimum=1.0, fraction=0.05)
    assert labels(ax) == [
        "1. fast: 2 steps",
        "2. passing: 3 steps",
        "3. middle: not reached",
        "4. slow: not reached",
        "5. broken: diverged from step 3",
        "6. rising: diverged from step 2",
        "target: 0.05 of the start, and the steps until below it",
    ]
    order = ["fast", "passing", "middle", "slow", "broken", "rising"]
    for name, line in zip(order, ax.lines, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), RUNS[name].history["loss"] - 1)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(6))
    marks = [line.get_xydata().ravel().tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(marks, [[2, 0.4], [3, 0.2]])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 0.5)  # The target: 5% of 10.
    assert (ax.get_yscale(), ax.get_ylabel(), ax.get_xlabel()) == ("log", "loss − 1", "step")
    assert ax.get_ylim()[1] < 100


def test_the_minimum_is_zero_or_the_lowest_negative_loss():
    assert race(RUNS).get_ylabel() == "loss"
    ax = race({"a": run_of([3.0, -1.0, -5.0]), "b": run_of([3.0, 0.0, -2.0])}, fraction=0.5)
    assert ax.get_ylabel() == "loss + 5"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [8.0, 4.0, 0.0])
    assert labels(ax)[:2] == ["1. a: 1 step", "2. b: 2 steps"]
    race({"a": run_of([0.0, 0.0])})  # It starts at the minimum.
    race({"a": run_of([np.nan, np.nan])})
    race({"a": run_of([1.0, 1e308, np.inf])})


def test_races_what_rollout_returns_with_the_steps_between_records():
    ravine = problems.ravine(10.0)
    runs = {
        name: momentax.rollout(ravine.loss, ravine.start, momentax.sgd(α), 60, every=6)
        for name, α in {"small": 0.01, "large": 0.04}.items()
    }
    with pytest.raises(ValueError, match=r"every must be .* is 6, since runs\['small'\] made 60"):
        race(runs)
    ax = race(runs, every=6, fraction=0.01)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(0, 60, 6))
    losses = {name: np.asarray(run.history["loss"]) for name, run in runs.items()}
    first = {name: 6 * (np.flatnonzero(loss > 0.11)[-1] + 1) for name, loss in losses.items()}
    order = sorted(first, key=first.get)
    assert labels(ax)[:2] == [
        f"{i + 1}. {name}: {first[name]} steps" for i, name in enumerate(order)
    ]
    one = race(runs["large"], every=6)
    assert labels(one)[0].startswith("1. run: ")


def test_draws_on_given_axes():
    figure, (left, right) = plt.subplots(1, 2)
    assert race(RUNS, ax=right) is right
    assert history(RUNS, ax=left) is left
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("runs", "options", "text"),
    [
        ({"a": run_of([1.0, 0.5])}, {"minimum": 0.6}, r"minimum must not exceed .* 0\.5, got 0\.6"),
        ({"a": run_of([1.0])}, {"minimum": [0.0, 0.0]}, "minimum must be one number"),
        ({"a": run_of([1.0])}, {"fraction": 1.0}, r"fraction must be in \(0, 1\), got 1"),
        ({"a": run_of([[1.0], [2.0]])}, {}, r"runs\['a'\] must be a single run with one loss"),
        ({"a": run_of([1.0])._replace(history={})}, {}, r"runs\['a'\] has no record of loss"),
        ({"a": run_of([1.0])}, {"every": 0}, "every must be a whole number"),
    ],
)
def test_wrong_races_are_refused_in_a_sentence(runs, options, text):
    with pytest.raises(ValueError, match=text):
        race(runs, **options)
    assert not plt.get_fignums()


def test_a_history_has_numbers_as_they_are_and_trees_as_norms():
    rng = np.random.default_rng(0)
    gradient = {"w": rng.normal(size=(5, 3)), "b": rng.normal(size=(5,)) * 1j}
    angle = np.array([np.nan, 10.0, 170.0, 90.0, 20.0])
    run = run_of([5.0, 4.0, 3.0, 2.0, 1e-3], gradient=gradient, angle=angle)
    ax = history({"a": run, "b": run}, "gradient", every=2)
    norms = [np.sqrt((w**2).sum() + abs(b) ** 2) for w, b in zip(*gradient.values(), strict=True)]
    for line in ax.lines:
        np.testing.assert_allclose(line.get_ydata(), norms)
        np.testing.assert_array_equal(line.get_xdata(), [0, 2, 4, 6, 8])
    assert (labels(ax), ax.get_ylabel()) == (["a", "b"], "norm of the gradient, ‖g‖")
    ax = history(run)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [5.0, 4.0, 3.0, 2.0, 1e-3])
    assert (ax.get_yscale(), ax.get_ylabel(), ax.get_legend()) == ("log", "loss", None)
    ax = history(run, "angle")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), angle)
    assert (ax.get_yscale(), ax.get_ylim()) == ("linear", (-5, 185))
    history({"a": run_of([1.0, 1e308, np.inf]), "b": run_of([1.0, -1e308, 0.0])})


def test_a_rollout_draws_its_own_history():
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.5))
    run = momentax.rollout(lambda x: jnp.sum(x**2), jnp.ones(2), tx, 6, record=("angle", "loss"))
    np.testing.assert_array_equal(run.plot().lines[0].get_ydata(), run.history["loss"])
    np.testing.assert_array_equal(run.plot("angle").lines[0].get_ydata(), run.history["angle"])
    only = run._replace(history={"angle": run.history["angle"]})
    assert only.plot().get_ylabel() == "angle between velocity and gradient, in degrees"
    _, ax = plt.subplots()
    assert run.plot(ax=ax) is ax
    with pytest.raises(ValueError, match=r"every must be .* is 1, since runs made 6 steps"):
        run.plot(every=2)
    with pytest.raises(ValueError, match=r"record must be one of 'loss', .* got 'lass'"):
        run.plot("lass")
    with pytest.raises(ValueError, match="runs has no record of step"):
        run.plot("step")
    with pytest.raises(ValueError, match="has an empty history"):
        run._replace(history={}).plot()


@pytest.mark.parametrize(
    ("values", "level", "place"),
    [
        ([3.0, 2.0, 1.0], 2.0, 1),
        ([1.0, 3.0, 1.0], 2.0, 2),
        ([1.0, 1.0], 2.0, 0),
        ([1.0, 3.0], 2.0, 2),
        ([1.0, np.nan, 1.0], 2.0, 2),
        ([[3.0, 1.0], [1.0, np.inf]], 2.0, [1, 2]),
    ],
)
def test_arrival_is_the_place_from_which_on_values_are_low(values, level, place):
    np.testing.assert_array_equal(arrival(values, level), place)
