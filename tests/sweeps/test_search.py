"""Search by a model: what it proposes, how it runs and continues, and what it refuses."""

import json
import pickle
import re
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from momentax import grid, search, sweep
from momentax.sweeps import (
    SearchResult,
    SweepResult,
    log_uniform,
    momentum_uniform,
    random_points,
    uniform,
)
from momentax.sweeps._space import as_space

ROOT = Path(__file__).parents[2]
SQUARE = {"x": uniform(-1.0, 1.0), "y": uniform(0.0, 1.0)}


def distance(x, y):
    return {"loss": (x - 0.3) ** 2 + (y - 0.2) ** 2, "sum": x + y}


find = partial(search, distance, SQUARE, metric="loss", progress=False)


def bits(result):
    """Return the bytes of everything in a result but its report."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result)]


# Functions with known optimum


def branin(x, y):
    """Branin's function on [-5, 10] × [0, 15], less its minimum 0.397887."""
    parabola = y - 5.1 / (4 * jnp.pi**2) * x**2 + 5 / jnp.pi * x - 6
    return {"regret": parabola**2 + 10 * (1 - 1 / (8 * jnp.pi)) * jnp.cos(x) + 10 - 0.397887}


PEAKS = np.array([1.0, 1.2, 3.0, 3.2], np.float32)
WIDTHS = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]], np.float32)
CENTERS = np.array(
    [
        [0.3689, 0.1170, 0.2673],
        [0.4699, 0.4387, 0.7470],
        [0.1091, 0.8732, 0.5547],
        [0.0381, 0.5743, 0.8828],
    ],
    np.float32,
)


def hartmann(a, b, c):
    """Hartmann's function on the unit cube, less its minimum -3.86278."""
    squares = (WIDTHS * (jnp.stack([a, b, c])[None] - CENTERS) ** 2).sum(1)
    return {"regret": 3.86278 - (PEAKS * jnp.exp(-squares)).sum()}


KNOWN = {
    "branin": (branin, {"x": uniform(-5.0, 10.0), "y": uniform(0.0, 15.0)}),
    "hartmann": (hartmann, {name: uniform(0.0, 1.0) for name in "abc"}),
}


def test_the_known_optima_are_optima():
    for x, y in ((-np.pi, 12.275), (np.pi, 2.275), (9.42478, 2.475)):
        assert abs(float(branin(np.float32(x), np.float32(y))["regret"])) < 1e-4
    best = np.array([0.114614, 0.555649, 0.852547], np.float32)
    assert abs(float(hartmann(*best)["regret"])) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_search_is_better_than_random_points_at_the_same_budget(name):
    run, space = KNOWN[name]
    budget, seeds = 32, 20
    keys = [jax.random.key(seed) for seed in range(seeds)]
    found = [
        search(run, space, budget=budget, key=key, progress=False).best_so_far[-1] for key in keys
    ]
    drawn = [
        float(
            jax.vmap(lambda p: run(**p)["regret"])(random_points(key, budget, **space).axes).min()
        )
        for key in keys
    ]
    assert min(found) > -1e-5
    better = int(np.sum(np.array(found) < np.array(drawn)))
    assert np.median(found) < np.median(drawn)
    assert scipy.stats.binomtest(better, seeds, alternative="greater").pvalue < 0.05


def test_the_table_of_the_guide_is_that_of_the_record():
    record = json.loads((ROOT / "tests/benchmarks/search.json").read_text(encoding="utf-8"))
    guide = (ROOT / "docs/guides/sweep.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\|.*\| ([\d.]+) \| ([\d.]+) \| (\d+) of (\d+) seeds \|$", guide, re.MULTILINE
    )
    measured = [
        (each["search"][-1], each["random"][-1], each["better"], each["seeds"])
        for each in record["results"]
    ]
    assert [tuple(map(float, row)) for row in rows] == measured
    assert {each["points"][-1] for each in record["results"]} == {32}


# The engine


def test_every_point_is_in_the_space_and_has_the_values_of_a_sweep():
    def run(learning_rate, beta, width, method):
        assert method in ("a", "b")
        return {
            "loss": learning_rate * beta + width.astype(float) * (1.0 if method == "a" else 2.0)
        }

    space = {
        "learning_rate": log_uniform(1e-3, 1e3),
        "beta": momentum_uniform(0.0, 0.999),
        "width": [16, 8, 32],
        "method": ["a", "b"],
    }
    result = search(run, space, budget=20, batch_size=4, progress=False)
    assert isinstance(result, SweepResult)
    assert result.points.shape == (20,)
    axes = result.points.axes
    assert list(axes) == list(space)
    assert axes["learning_rate"].dtype == axes["beta"].dtype == np.float32
    assert axes["width"].dtype == np.int32
    assert (axes["learning_rate"] >= 1e-3).all()
    assert (axes["learning_rate"] <= 1e3).all()
    assert (axes["beta"] >= 0).all()
    assert (axes["beta"] <= 0.999).all()
    assert set(axes["width"]) == {8, 16, 32}
    assert set(axes["method"]) == {"a", "b"}
    assert len({tuple(point.values()) for point in result.points}) == 20
    swept = sweep(run, result.points, progress=False)
    np.testing.assert_allclose(result["loss"], swept["loss"], rtol=1e-6)
    assert result.report.programs == 2  # One for each method.


def test_all_batches_run_in_one_program_traced_once():
    traced = []

    def run(x, y):
        traced.append(1)
        return distance(x, y)

    result = search(run, SQUARE, budget=19, batch_size=8, metric="loss", progress=False)
    assert result.report.programs == 1
    assert result.report.batch_size == 8
    assert len(traced) == 1


def test_the_key_decides_and_a_larger_budget_begins_with_the_same_points():
    short, long = find(budget=11), find(budget=20)
    for name, values in short.points.axes.items():
        np.testing.assert_array_equal(values, long.points.axes[name][:11])
    np.testing.assert_array_equal(short["loss"], long["loss"][:11])
    assert bits(find(budget=11, key=jax.random.key(0))) == bits(short)
    assert bits(find(budget=11, key=jax.random.PRNGKey(0))) == bits(short)
    assert bits(find(budget=11, key=jax.random.key(1))) != bits(short)


def test_more_is_better_where_the_mode_says_so():
    def negative(x, y):
        return {"score": -distance(x, y)["loss"]}

    least = find(budget=20)
    most = search(negative, SQUARE, budget=20, mode="max", progress=False)
    np.testing.assert_array_equal(least.points.axes["x"], most.points.axes["x"])
    np.testing.assert_array_equal(least.best_so_far, -most.best_so_far)
    assert most.best().value == most["score"].max()
    assert least.best().value < 0.01


def test_a_bare_number_has_the_mode_that_the_name_of_the_function_says():
    def accuracy(x):
        return -((x - 0.25) ** 2)

    result = search(accuracy, {"x": uniform(0.0, 1.0)}, budget=12, progress=False)
    assert result.metric == "value"
    assert result.best().value == result["value"].max()
    with pytest.raises(ValueError, match='give mode="max" or mode="min": the name value'):
        search(lambda x: x, {"x": uniform(0.0, 1.0)}, budget=12)


# Runs that diverge


def test_diverged_runs_count_as_the_worst():
    def run(x, y):
        loss = jnp.where(x > 0, jnp.nan, jnp.where(y > 0.5, jnp.inf, (x + 0.5) ** 2 + y**2))
        return {"loss": loss}

    result = search(run, SQUARE, budget=24, progress=False)
    assert 0 < result.diverged.sum() < 24
    assert (~result.diverged[12:]).sum() >= 6  # It stays where runs do not diverge.
    assert result.best().value < 0.05
    counted = np.where(result.diverged, np.inf, result["loss"])
    expected = np.minimum.accumulate(counted)
    np.testing.assert_array_equal(
        result.best_so_far[~np.isinf(expected)], expected[~np.isinf(expected)]
    )
    assert np.isnan(result.best_so_far[np.isinf(expected)]).all()


def test_what_run_says_of_divergence_counts():
    def run(x, y):
        return {"loss": x, "diverged": x < 0}

    result = search(run, SQUARE, budget=20, metric="loss", progress=False)
    assert result.best()["x"] >= 0
    assert result.best_so_far[-1] == result["loss"][~result.diverged].min()


@pytest.mark.parametrize("value", [jnp.nan, 1.0])
def test_results_without_differences_spread_the_points_over_the_space(value):
    result = search(lambda x, y: {"loss": value + 0 * x}, SQUARE, budget=24, progress=False)
    assert len({tuple(point.values()) for point in result.points}) == 24
    later = np.stack([axis[8:] for axis in result.points.axes.values()])
    assert ((later[0] < 0).mean(), (later[1] < 0.5).mean()) == pytest.approx((0.5, 0.5), abs=0.3)
    assert np.isnan(result.best_so_far).all() == np.isnan(value)


# Spaces of choices


def test_a_space_of_choices_is_exhausted_without_a_repetition():
    space = {"a": [1, 2, 4], "b": ["p", "q"], "c": [0.5]}
    result = search(
        lambda a, b, c: {"loss": a.astype(float) * c + float(b == "p")},
        space,
        budget=6,
        batch_size=2,
        progress=False,
    )
    assert len({tuple(point.values()) for point in result.points}) == 6
    assert result.best().point == {"a": 1, "b": "q", "c": 0.5}


def test_the_model_sees_the_order_of_numbers_and_the_difference_of_words():
    space = as_space({"x": uniform(0.0, 4.0), "width": [32, 8, 16], "method": ["a", "b"], "c": [1]})
    unit = space.round(np.array([[0.5, 0.1, 0.9, 0.3], [0.25, 0.4, 0.1, 0.9]]))
    points = space.points(unit)
    assert points.axes["width"].tolist() == [32, 8]
    assert points.axes["method"].tolist() == ["b", "a"]
    assert points.axes["x"].tolist() == [2.0, 1.0]
    half = 0.5**0.5
    expected = [[0.5, 1.0, 0.0, half, 0.0], [0.25, 0.0, half, 0.0, 0.0]]
    np.testing.assert_allclose(space.features(unit), expected)
    assert space.size == np.inf


def test_static_numbers_reach_run_as_python_numbers():
    def run(x, width):
        return {"loss": jnp.zeros(width).size * x**2}

    result = search(
        run, {"x": uniform(0.0, 1.0), "width": [1, 2]}, budget=9, static=["width"], progress=False
    )
    assert result.report.programs == 2


# A budget without room for the model

CONSTANT = {"run": lambda x: {"loss": x}, "progress": False}
SIX = {"x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}


@pytest.mark.parametrize(
    ("settings", "even", "initial", "batch_size"),
    [
        ({"space": {"x": uniform(0.0, 1.0)}, "budget": 4, "batch_size": 2}, 4, 4, 2),
        ({"space": {"x": uniform(0.0, 1.0)}, "budget": 3, "batch_size": 3, "initial": 1}, 3, 1, 3),
        ({"space": SIX, "budget": 5}, 6, 4, 8),
    ],
)
def test_a_budget_that_the_even_points_use_up_is_warned_of(settings, even, initial, batch_size):
    with pytest.warns(UserWarning, match="^budget=") as caught:
        search(**CONSTANT, **settings)
    assert [str(each.message) for each in caught] == [
        f"budget={settings['budget']} leaves the model no point to choose, since the first {even} "
        f"points are spread evenly over the space, with initial={initial} and "
        f"batch_size={batch_size}: give a larger budget, or a smaller initial and batch_size"
    ]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "settings",
    [
        {"space": {"x": uniform(0.0, 1.0)}, "budget": 5, "batch_size": 2},
        {"space": SIX, "budget": 6},  # All points of the space.
    ],
)
def test_other_budgets_are_not_warned_of(settings):
    search(**CONSTANT, **settings)


# The result


def test_the_result_is_that_of_a_sweep_with_the_metric_of_the_search(tmp_path):
    result = find(budget=10)
    assert isinstance(result, SearchResult)
    assert result.best().index == result.best("loss").index
    assert result.best().value == result.best_so_far[-1] == result["loss"].min()
    assert result.to_dataframe().columns.tolist() == ["x", "y", "loss", "sum", "diverged"]
    assert len(result.to_dataframe()) == 10
    assert result.where(x=lambda x: x > 0).metric == "loss"
    again = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, result)))
    assert again.metric == "loss"
    np.testing.assert_array_equal(again.best_so_far, result.best_so_far)
    result.save(tmp_path / "search.npz")
    loaded = SweepResult.load(tmp_path / "search.npz")
    assert loaded.best("loss").point == result.best().point
    assert loaded.modes == {"loss": "min"}


def test_the_result_draws_the_metric_of_the_search():
    axes = find(budget=10).plot()
    assert axes.figure is not None


def test_reduce_gives_the_metrics():
    def run(x):
        return {"path": x * jnp.ones(3), "loss": x**2}

    result = search(
        run, {"x": uniform(0.0, 1.0)}, budget=9, reduce=lambda value: {"loss": value["loss"]},
        progress=False,
    )  # fmt: skip
    assert list(result.metrics()) == ["loss"]


# Errors


WRONG = {
    "a range as a tuple": (
        {"space": {"x": (0.0, 1.0)}},
        TypeError,
        "axis x of space must be a distr",
    ),
    "a number": ({"space": {"x": 0.5}}, ValueError, "space is wrong: axis x must be a sequence"),
    "an interval": (
        {"space": {"beta": uniform(0.0, 1.0)}},
        ValueError,
        r"space is wrong: axis beta must be in \[0, 1\), got 1.0",
    ),
    "points": ({"space": grid(x=[0.0])}, TypeError, "space must be a dictionary from the name"),
    "no axis": ({"space": {}}, ValueError, "space must have at least one axis"),
    "budget": ({"budget": 0}, ValueError, "budget must be a whole number, at least 1"),
    "a small space": (
        {"space": {"x": [0.0, 1.0], "y": [0.5]}},
        ValueError,
        "budget must be at most 2, the number of points in the space, got 12; momentax.sweep",
    ),
    "batch": ({"batch_size": "auto"}, TypeError, "batch_size must be a whole number"),
    "which metric": (
        {"metric": None},
        ValueError,
        "give metric, the name of what is optimized: the metrics .* are: loss, sum",
    ),
    "no metric": (
        {"metric": "accuracy"},
        ValueError,
        "metric must be one of loss, sum, got 'accuracy'",
    ),
    "a vector": (
        {"run": lambda x, y: {"loss": jnp.ones(2) * x}},
        ValueError,
        "metric must be one of none, got 'loss', which is not one real number per point",
    ),
    "mode": ({"metric": "sum"}, ValueError, 'give mode="max" or mode="min": the name sum'),
    "a static distribution": (
        {"static": ["x"]},
        ValueError,
        "static needs a list of values .* and the axis x has a distribution",
    ),
    "key": ({"key": 0}, TypeError, "key must be a random key"),
    "run": ({"run": lambda x: x}, TypeError, "run failed at the point x=-1.0, y=0.0: TypeError"),
    "nothing": ({"run": lambda x, y: None}, TypeError, "run must return at least one array"),
}


@pytest.mark.parametrize(("change", "kind", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_refused_in_a_sentence(change, kind, message):
    mine = {"run": distance, "space": SQUARE, "budget": 12, "metric": "loss"}
    with pytest.raises(kind, match=message):
        search(**(mine | change))


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs scikit-learn, .* install the extra search"
    ):
        find(budget=2)


def test_a_search_in_a_traced_function_is_refused():
    with pytest.raises(TypeError, match="search cannot run inside of a function that JAX traces"):
        jax.jit(lambda: find(budget=2)["loss"])()


def test_an_error_while_it_runs_names_a_point():
    def fail(x):
        raise ValueError("no such file")

    def run(x):
        out = jax.ShapeDtypeStruct((), jnp.float32)
        return {"loss": jax.pure_callback(fail, out, x, vmap_method="sequential")}

    with pytest.raises(
        RuntimeError, match=r"(?s)run failed at a point from x=.* to x=.*no such file"
    ):
        search(run, {"x": uniform(0.0, 1.0)}, budget=9, progress=False)
