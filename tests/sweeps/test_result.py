"""What a sweep found, ranked, selected, averaged, handed on and kept in a file."""

import collections
import copy
import errno
import itertools
import json
import math
import os
import pickle
import re
import resource
import sys
import zipfile
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import momentax
from momentax import grid
from momentax.sweeps import Points, Report, SweepResult, _file, repeat, zipped
from momentax.sweeps._groups import Mean
from momentax.sweeps._metrics import GOOD_WORDS
from momentax.sweeps._result import Best

POINTS = grid(learning_rate=[0.1, 0.2, 0.3], beta=[0.0, 0.9])
REPORT = Report(4, 2, "cpu", 3, ((2, 0.5), (4, 0.25)), 5, ("a.npz", "b.npz"))


def found(points, values, diverged=(), report=REPORT):
    lost = np.zeros(points.shape, bool)
    lost.flat[list(diverged)] = True
    return SweepResult(points, values, lost, report)


def result():
    loss = np.array([[3.0, 1.0], [2.0, 0.5], [np.nan, 4.0]], np.float32)
    history = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    return found(POINTS, {"loss": loss, "train": {"history": history}}, [3, 4])


def numbers(points, seed=0, *trailing):
    return np.random.default_rng(seed).normal(size=(*points.shape, *trailing))


@st.composite
def results(draw, dims=("a", "b", "seed")):
    """A result over a few dimensions, with any points diverged, values that tie or are NaN."""
    names = draw(st.permutations(dims))
    names = names[: draw(st.integers(1, len(names)))]
    shape = [draw(st.integers(1, 4)) for _ in names]
    points = Points(
        {
            name: {name: np.arange(n, dtype=np.int32) * 3}
            for name, n in zip(names, shape, strict=True)
        }
    )
    some = st.sampled_from([0.0, 0.25, -1.5, 2.0, np.nan, np.inf]) | st.floats(-1e3, 1e3)
    values = {
        "loss": draw(arrays.arrays(np.float64, shape, elements=some)),
        "x": draw(arrays.arrays(np.float32, (*shape, 2), elements=st.floats(-9, 9, width=32))),
    }
    return SweepResult(points, values, draw(arrays.arrays(bool, shape)))


# Names.


class Pair(NamedTuple):
    first: Any
    second: Any


def test_every_leaf_has_a_name():
    tree = {"loss": 0, "train": {"loss": [1, (2, None)]}, "pair": Pair(3, 4)}
    values = jax.tree.map(lambda i: np.full(POINTS.shape, i), tree)
    swept = found(POINTS, values)
    names = ["loss", "pair.first", "pair.second", "train.loss.0", "train.loss.1.0"]
    assert list(swept.metrics()) == names
    assert [int(swept[name][0, 0]) for name in names] == [0, 3, 4, 1, 2]
    assert list(found(POINTS, np.zeros((3, 2))).metrics()) == ["value"]
    assert found(POINTS, {}).metrics() == {}


def test_names_that_read_alike_are_written_in_full():
    swept = found(POINTS, {"a": {"b": np.zeros((3, 2))}, "a.b": np.ones((3, 2))})
    assert list(swept.metrics()) == ["['a']['b']", "['a.b']"]
    assert swept["['a.b']"].all()


def test_an_unknown_name_is_a_sentence():
    with pytest.raises(KeyError) as caught:
        result()["los"]
    assert str(caught.value) == ("there is no metric 'los'; the metrics are: loss, train.history")
    for ask in (lambda r: r.best("los"), lambda r: r.top("los", 2)):
        with pytest.raises(KeyError, match="there is no metric 'los'"):
            ask(result())
    for ask in (lambda r: r.where(gamma=1), lambda r: r.marginal("gamma")):
        with pytest.raises(KeyError) as caught:
            ask(result())
        assert str(caught.value) == "there is no axis 'gamma'; the axes are: learning_rate, beta"


# The tree.


def test_a_result_is_a_tree_without_its_report():
    swept = result()
    doubled = jax.tree.map(lambda leaf: 2 * leaf, swept)
    assert doubled.report is None
    np.testing.assert_array_equal(doubled["loss"], 2 * swept["loss"])
    np.testing.assert_array_equal(
        doubled.points.axes["learning_rate"], 2 * POINTS.axes["learning_rate"]
    )
    passed = jax.jit(lambda r: r)(swept)
    chex.assert_trees_all_equal(passed.values, swept.values)
    assert passed.best("loss").index == swept.best("loss").index
    assert passed.where(beta=0.9).points.shape == (3, 1)
    assert passed.marginal("beta").count.tolist() == [2, 2]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(swept)]
    assert ".values['loss']" in paths
    assert ".diverged" in paths


def test_a_result_and_what_it_gives_can_be_pickled_and_copied():
    swept = result()
    for again in (pickle.loads(pickle.dumps(swept)), copy.deepcopy(swept), copy.copy(swept)):
        assert again.report == REPORT
        chex.assert_trees_all_equal(again.values, swept.values)
        assert again.points.axes.keys() == swept.points.axes.keys()
        np.testing.assert_array_equal(again.diverged, swept.diverged)
    best = swept.best("loss")
    assert pickle.loads(pickle.dumps(best)).point == best.point
    marginal = pickle.loads(pickle.dumps(swept.marginal("beta")))
    chex.assert_trees_all_equal(marginal.mean, swept.marginal("beta").mean)
    assert jax.tree.map(lambda leaf: leaf, marginal).points.shape == (2,)


def test_a_result_is_frozen():
    with pytest.raises(AttributeError):
        result().values = {}
    with pytest.raises(AttributeError):
        result().best("loss").value = 0


# Ranks.


def test_the_best_is_a_setting_with_its_value_and_place():
    best = result().best("loss")
    assert (best.value, best.index, best["beta"]) == (1.0, (0, 1), np.float32(0.9))
    assert best.point == {"learning_rate": np.float32(0.1), "beta": np.float32(0.9)}
    assert math.isnan(best.standard_error)
    assert [b.value for b in result().top("loss", 9)] == [1, 2, 3, 4]  # 0.5 and NaN diverged.
    assert [b.value for b in result().top("loss", 2, "max")] == [4, 3]
    assert result().best("loss", "max").index == (2, 1)


def seeds_of(swept):
    """For each setting, in order, its place, its axes and the metric of its good seeds."""
    names = [name for name in swept.points.dims if name != "seed"]
    settings = collections.defaultdict(list)
    lost = collections.Counter()
    for place in np.ndindex(swept.points.shape):
        where = dict(zip(swept.points.dims, place, strict=True))
        where.pop("seed", None)
        value = swept["loss"][place]
        key = tuple(where[name] for name in names)
        settings[key]
        if swept.diverged[place] or not np.isfinite(value):
            lost[key] += 1
        else:
            settings[key].append(value)
    return [(key, good, lost[key]) for key, good in settings.items()]


@given(results(), st.sampled_from(["min", "max"]))
def test_ranks_are_those_of_means_over_seeds_with_the_incomplete_last(swept, mode):
    rows = [
        (bool(lost), np.mean(good) * (1 if mode == "min" else -1), number, key, good)
        for number, (key, good, lost) in enumerate(seeds_of(swept))
        if good
    ]
    if not rows:
        with pytest.raises(ValueError, match="there is no best loss: "):
            swept.best("loss", mode)
        return
    ranked = swept.top("loss", swept.diverged.size, mode)
    keys = {row[3]: row for row in rows}
    assert sorted(best.index for best in ranked) == sorted(keys)
    order = [keys[best.index] for best in ranked]
    for one, two in itertools.pairwise(order):
        assert one[0] <= two[0]
        if one[0] == two[0]:
            assert one[1] <= two[1] + 1e-12 * abs(two[1])
            assert one[4] != two[4] or one[2] < two[2]  # Ties: the first in order.
    for best, (_, signed, _, _, good) in zip(ranked, order, strict=True):
        assert best.value == pytest.approx(abs(signed) * np.sign(np.mean(good)), rel=1e-12)
        if len(good) > 1:
            error = np.std(good, ddof=1) / math.sqrt(len(good))
            assert best.standard_error == pytest.approx(error, rel=1e-9, abs=1e-12)
        else:
            assert math.isnan(best.standard_error)
        assert "seed" not in best.point
    assert swept.best("loss", mode).index == ranked[0].index


def test_a_setting_with_a_lost_seed_comes_after_all_complete_ones():
    points = repeat(grid(beta=[0.0, 0.5, 0.9]), 2)
    swept = found(points, {"loss": np.array([[1.0, 9.0], [7.0, 7.0], [0.0, np.nan]])}, [1])
    assert [b.index for b in swept.top("loss", 3)] == [(1,), (2,), (0,)]
    assert [b.value for b in swept.top("loss", 3)] == [7, 0, 1]
    np.testing.assert_array_equal(swept["loss"][swept.best("loss").index], [7, 7])


def test_of_equal_settings_the_first_is_the_best():
    swept = found(POINTS, {"loss": np.array([[2, 1], [1, 1], [2, 2]])})
    assert [b.index for b in swept.top("loss", 6)] == [
        (0, 1),
        (1, 0),
        (1, 1),
        (0, 0),
        (2, 0),
        (2, 1),
    ]
    assert [b.index for b in swept.top("loss", 3, "max")] == [(0, 0), (2, 0), (2, 1)]


@pytest.mark.parametrize(
    ("name", "mode"),
    [(word, "max") for word in GOOD_WORDS]
    + [
        ("val_accuracy", "max"),
        ("test.acc", "max"),
        ("Rewards", "max"),
        ("accuracy@5", "max"),
        ("loss", "min"),
        ("error", "min"),
        ("value", "min"),
        ("accounts", "min"),  # No word of its own.
        ("returned", "min"),
    ],
)
def test_a_good_word_in_the_name_is_maximized(name, mode):
    swept = found(POINTS, {name: np.arange(6.0).reshape(3, 2)})
    assert swept.best(name).value == (5 if mode == "max" else 0)
    assert swept.best(name, "min").value == 0
    assert swept.best(name, "max").value == 5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn, np.float16, np.int32, bool])
def test_any_real_dtype_can_be_ranked(dtype):
    swept = found(POINTS, np.array([[1, 1], [0, 1], [1, 1]], dtype))
    assert swept.best("value").index == (1, 0)


def test_what_is_no_number_a_point_cannot_be_ranked():
    with pytest.raises(ValueError, match=r"has shape \(3, 2, 4\) .* reduce it in run, or .*result"):
        result().best("train.history")
    with pytest.raises(ValueError, match="dtype complex64, not one real number"):
        found(POINTS, np.ones((3, 2), np.complex64)).best("value")
    with pytest.raises(ValueError, match="mode must be one of 'min', 'max', got 'most'"):
        result().best("loss", "most")
    with pytest.raises(ValueError, match="k must be a whole number, at least 1, got 0"):
        result().top("loss", 0)
    with pytest.raises(TypeError, match="k must be a whole number"):
        result().top("loss", 1.5)


def test_where_all_diverged_nothing_is_best():
    with pytest.raises(ValueError, match="there is no best value: all 6 points diverged"):
        found(POINTS, np.ones((3, 2)), range(6)).best("value")
    with pytest.raises(ValueError, match="of 6 points 2 diverged, and at the others it is not f"):
        found(POINTS, np.full((3, 2), np.inf), range(2)).best("value")


# Selections.


def test_a_value_is_looked_for_in_the_axis_own_dtype():
    picked = result().where(beta=0.9)
    assert picked.points.shape == picked["loss"].shape == picked.diverged.shape == (3, 1)
    np.testing.assert_array_equal(picked["loss"][:, 0], result()["loss"][:, 1])
    np.testing.assert_array_equal(picked["train.history"][:, 0], result()["train.history"][:, 1])
    np.testing.assert_array_equal(picked.diverged[:, 0], result().diverged[:, 1])
    assert picked.report == REPORT
    for asked in (np.float64(0.9), np.array(0.9), jnp.float32(0.9), [0.9, 7], np.array([0.9])):
        assert result().where(beta=asked).points.axes["beta"].tolist() == [np.float32(0.9)]
    whole = found(grid(width=[1, 2, 3]), np.arange(3))
    assert whole.where(width=2.0)["value"].tolist() == [1]
    for asked in (1.5, True, "2", 2**70, 1e300, [[1, 2]], np.ones((1, 2)), [], 2j, None):
        with pytest.raises(ValueError, match=r"no point has width=.*: the axis holds \[1, 2, 3\]"):
            whole.where(width=asked)


def test_several_values_and_functions_select():
    asked = result().where(learning_rate=lambda a: a > 0.15, beta=[0.9, 0.0])
    assert asked.points.shape == (2, 2)
    np.testing.assert_array_equal(asked["loss"], result()["loss"][1:])
    for several in ((0.3, 0.1), {0.3, 0.1}, (x for x in [0.3, 0.1]), np.array([0.3, 0.1])):
        kept = result().where(learning_rate=several)
        np.testing.assert_allclose(kept.points.axes["learning_rate"], [0.1, 0.3], rtol=1e-6)
    assert result().where().points.shape == (3, 2)
    with pytest.raises(ValueError, match=r"no point has learning_rate=<function .*the axis holds"):
        result().where(learning_rate=lambda a: a > 1)


def test_on_a_static_axis_a_value_may_be_a_function_or_a_tuple():
    methods = [momentax.nesterov, "heavy_ball", momentax.average(0.5), None, (1, 2)]
    points = grid(method=methods, beta=[0.5, 0.9])
    swept = found(points, numbers(points))
    for place, method in enumerate(methods):
        kept = swept.where(method=method)
        assert kept.points.axes["method"].tolist() == [method]
        np.testing.assert_array_equal(kept["value"][0], swept["value"][place])
    assert swept.where(method=methods[:2]).points.shape == (2, 2)
    assert swept.where(method=callable).points.shape == (1, 2)
    assert swept.where(method=np.array(["heavy_ball", "x"])).points.shape == (1, 2)
    with pytest.raises(ValueError, match=r"no point has method='other': .*'nesterov'"):
        swept.where(method="other")
    with pytest.raises(ValueError, match="no point has method="):
        swept.where(method=[[1], {}])


def test_zipped_points_fulfil_all_conditions_together():
    swept = found(zipped(a=[1, 1, 2, 2], b=[0.1, 0.2, 0.1, 0.2]), np.arange(4))
    assert swept.where(a=2, b=0.1)["value"].tolist() == [2]
    assert swept.where(b=0.2)["value"].tolist() == [1, 3]
    with pytest.raises(ValueError, match="none fulfils all on the dimension point: a, b"):
        found(zipped(a=[1, 2], b=[1, 2]), np.arange(2)).where(a=1, b=2)


@given(results(), st.data())
def test_a_selection_is_that_of_pandas(swept, data):
    conditions = {
        name: data.draw(st.sets(st.sampled_from(values.tolist()), min_size=1))
        for name, values in swept.points.axes.items()
    }
    frame = swept.to_dataframe()
    for name, asked in conditions.items():
        frame = frame[frame[name].isin(asked)]
    kept = swept.where(**conditions).to_dataframe()
    pd.testing.assert_frame_equal(
        kept.drop(columns="x"), frame.drop(columns="x").reset_index(drop=True)
    )
    np.testing.assert_array_equal(np.stack(kept["x"]), np.stack(frame["x"]))


# Means.


def test_means_of_known_numbers():
    points = repeat(grid(beta=[0.0, 0.9]), [7, 8, 9])
    swept = found(points, np.array([[1, 2, 6], [5, 7, 100]], np.int32), [5])
    mean = swept.over_seeds()
    assert isinstance(mean, Mean)
    assert list(mean.points.axes) == ["beta"]
    assert mean.count.tolist() == [3, 2]
    assert mean.mean.dtype == mean.standard_error.dtype == np.float64
    np.testing.assert_allclose(mean.mean, [3, 6])
    np.testing.assert_allclose(mean.standard_error, [math.sqrt(7 / 3), 1])
    best = swept.best("value")
    assert (best.value, best.standard_error) == (3, math.sqrt(7 / 3))
    flags = found(points, np.array([[True, False, True], [True, True, True]]))
    np.testing.assert_allclose(flags.over_seeds().mean, [2 / 3, 1])
    turned = found(points, np.array([[1j, 3j, 2j], [1, 2, 3]], np.complex64)).over_seeds()
    np.testing.assert_allclose(turned.mean, [2j, 2])
    np.testing.assert_allclose(turned.standard_error, [math.sqrt(1 / 3)] * 2)


def agree(mean, frame, by, swept):
    """Whether a Mean is that of pandas, which groups by the axes."""
    good = frame[~frame["diverged"]]
    for place, point in enumerate(mean.points):
        rows = good
        for name in by:
            rows = rows[rows[name] == point[name]]
        where = np.unravel_index(place, mean.points.shape)
        assert mean.count[where] == len(rows)
        for name, leaf in mean.mean.items():
            error = mean.standard_error[name][where]
            sample = np.array(rows[name].tolist(), np.float64)
            if not len(rows):
                assert np.isnan(leaf[where]).all()
                continue
            with np.errstate(invalid="ignore"):
                np.testing.assert_allclose(leaf[where], sample.mean(0), rtol=1e-12, atol=1e-9)
                expected = pd.DataFrame(sample.reshape(len(rows), -1)).sem(ddof=1)
            expected = np.reshape(expected, np.shape(error))
            if np.isfinite(sample).all():
                np.testing.assert_allclose(error, expected, rtol=1e-9, atol=1e-9)
                assert np.isnan(error).all() == (len(rows) == 1)


@given(results())
def test_means_are_those_of_pandas(swept):
    frame = swept.to_dataframe()
    for axis in swept.points.axes:
        mean = swept.marginal(axis)
        np.testing.assert_array_equal(mean.points.axes[axis], swept.points.axes[axis])
        assert mean.mean["x"].shape == (*mean.points.shape, 2)
        agree(mean, frame, [axis], swept)
    rest = [name for name in swept.points.dims if name != "seed"]
    if "seed" in swept.points.dims:
        mean = swept.over_seeds()
        assert list(mean.points.dims) == rest
        agree(mean, frame, rest, swept)
    else:
        with pytest.raises(ValueError, match=r"needs points with a dimension seed.*dimensions "):
            swept.over_seeds()


def test_an_axis_that_shares_its_dimension_is_grouped_by_equal_values():
    points = repeat(zipped(width=[8, 2, 8, 4], beta=[0.1, 0.2, 0.3, 0.3]), 3)
    values = numbers(points)
    swept = found(points, {"loss": values}, [0, 7])
    mean = swept.marginal("width")
    assert mean.points.axes["width"].tolist() == [8, 2, 4]  # As they first appear.
    assert mean.count.tolist() == [4, 3, 3]
    agree(mean, swept.to_dataframe(), ["width"], swept)
    agree(swept.marginal("beta"), swept.to_dataframe(), ["beta"], swept)
    agree(swept.marginal("seed"), swept.to_dataframe(), ["seed"], swept)
    words = found(zipped(method=["b", "a", "b"]), np.arange(3.0)).marginal("method")
    assert words.points.axes["method"].tolist() == ["b", "a"]
    assert words.mean.tolist() == [1, 1]


def test_seeds_alone_leave_one_setting():
    swept = found(grid(seed=[1, 2, 4]), np.array([1.0, 2.0, 6.0]))
    assert swept.over_seeds().mean.shape == ()
    assert swept.over_seeds().mean == 3
    assert swept.best("value").point == {}
    assert "best value: 3" in repr(swept)


# Tables.


def named(width):
    return width


def test_xarray_has_all_that_the_result_has():
    points = repeat(grid(method=[named, "plain"], beta=[0.0, 0.9]), 2)
    values = {"loss": numbers(points), "history": numbers(points, 1, 3, 4).astype(np.float32)}
    swept = found(points, values | {"low": values["loss"].astype(jnp.bfloat16)}, [3])
    dataset = swept.to_xarray()
    assert dataset["loss"].dims == ("method", "beta", "seed")
    assert dataset["history"].dims[3:] == ("history_dim_0", "history_dim_1")
    assert dataset["method"].values.tolist() == ["named", "plain"]
    for name in ("beta", "seed"):
        np.testing.assert_array_equal(dataset[name], points.axes[name])
        assert dataset[name].dtype == points.axes[name].dtype
    for name in values:
        np.testing.assert_array_equal(dataset[name], values[name])
        assert dataset[name].dtype == values[name].dtype
    np.testing.assert_array_equal(dataset["diverged"], swept.diverged)
    np.testing.assert_array_equal(dataset["low"], swept["low"].astype(np.float32))
    assert dataset.attrs == {"momentax": momentax.__version__, "format": 1}
    picked = dataset["loss"].sel({"method": "named", "beta": np.float32(0.9)})
    np.testing.assert_array_equal(picked, swept.where(method=named, beta=0.9)["loss"][0, 0])
    for coordinate in dataset.coords.values():
        repr(coordinate)


def test_xarray_of_zipped_points_has_one_dimension():
    swept = found(zipped(a=[1, 2], b=[0.5, 0.5], c=[None, "x"], d=[True, False]), np.arange(2.0))
    dataset = swept.to_xarray()
    assert dict(dataset.sizes) == {"point": 2}
    assert dataset["a"].dims == dataset["value"].dims == ("point",)
    assert dataset["c"].values.tolist() == ["None", "x"]
    assert dataset["d"].values.tolist() == [True, False]
    assert swept.to_dataframe()["c"].tolist() == ["None", "x"]


@pytest.mark.parametrize("name", ["beta", "learning_rate"])
@pytest.mark.parametrize("to", ["to_xarray", "to_dataframe"])
def test_a_metric_may_not_bear_an_axis_name(to, name):
    with pytest.raises(ValueError, match=f"the metric {name} bears the name of an axis"):
        getattr(found(POINTS, {name: np.zeros((3, 2))}), to)()
    with pytest.raises(ValueError, match="the metric point bears the name of an axis or a dim"):
        getattr(found(zipped(a=[1]), {"point": np.zeros(1)}), to)()
    with pytest.raises(ValueError, match="the metric diverged bears"):
        getattr(found(grid(diverged=[1]), np.zeros(1)), to)()


def test_the_sweeps_own_divergence_is_shown():
    swept = found(POINTS, {"diverged": np.zeros((3, 2), bool)}, [1])
    assert swept.to_xarray()["diverged"].values.ravel().tolist() == [0, 1, 0, 0, 0, 0]
    assert swept.to_dataframe()["diverged"].tolist() == [0, 1, 0, 0, 0, 0]


def test_a_frame_has_a_row_for_each_point():
    swept = result()
    frame = swept.to_dataframe()
    assert list(frame) == ["learning_rate", "beta", "loss", "train.history", "diverged"]
    for row, (point, place) in enumerate(zip(swept.points, np.ndindex(3, 2), strict=True)):
        assert frame["learning_rate"][row] == point["learning_rate"]
        assert frame["beta"][row] == point["beta"]
        np.testing.assert_equal(frame["loss"][row], swept["loss"][place])
        np.testing.assert_array_equal(frame["train.history"][row], swept["train.history"][place])
        assert frame["diverged"][row] == swept.diverged[place]
    assert frame["loss"].dtype == np.float32


@pytest.mark.parametrize(("to", "package"), [("to_xarray", "xarray"), ("to_dataframe", "pandas")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    sentence = f"{package} is not installed; pip install 'momentax[results]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(sentence)):
        getattr(result(), to)()


# Files.

NAN = 0x7FC12345


def odd(dtype):
    """Every bit pattern of a narrow dtype, or odd ones of a wide one, six at least."""
    if dtype.itemsize == 1 and dtype.name.startswith(("float8", "int8", "uint8")):
        return np.arange(256, dtype=np.uint8).view(dtype)
    if dtype.itemsize == 2 and dtype.kind in "fViu":
        return np.arange(2**16, dtype=np.uint16).view(dtype)
    if dtype.kind == "f":
        bits = np.array([NAN, NAN | 1 << 31, 0x7F800001, 1, 1 << 31, 0x7F800000], np.uint32)
        return bits.view(np.float32) if dtype == np.float32 else np.repeat(bits, 2).view(dtype)
    return np.array([0, 1, 1, 0, 1, 1]).astype(dtype)


DTYPES = [
    "bool", "int8", "uint8", "int16", "int32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
    "bfloat16", "int4", "uint4", "int2", "uint2",
    "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn",
]  # fmt: skip


def bits(array):
    return array.dtype, array.shape, np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(name, tmp_path):
    leaf = odd(np.dtype(getattr(ml_dtypes, name, name)))
    leaf = leaf[: len(leaf) // 2 * 2].reshape(2, -1)
    found(grid(a=[1, 2]), {"x": leaf}).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r")
    assert bits(again["x"]) == bits(leaf)
    with np.load(tmp_path / "r", allow_pickle=False) as stored:
        plain = stored["values/x"]
    assert plain.dtype.isbuiltin == 1
    np.testing.assert_array_equal(plain, leaf.astype(plain.dtype))  # The numbers themselves.


def test_a_file_is_read_without_momentax(tmp_path):
    path = tmp_path / "sweep.npz"
    points = repeat(grid(method=[named, "x"], beta=[0.0, 0.9]), 2)
    swept = found(points, {"loss": numbers(points), "ß/β": numbers(points, 1, 3)}, [2])
    swept.save(path)
    with np.load(path, allow_pickle=False) as stored:
        assert sorted(stored.files) == [
            "about", "axes/beta", "axes/method", "axes/seed", "diverged", "values/loss",
            "values/ß/β",
        ]  # fmt: skip
        about = json.loads(stored["about"].item())
        np.testing.assert_array_equal(stored["values/loss"], swept["loss"])
        np.testing.assert_array_equal(stored["values/ß/β"], swept["ß/β"])
        np.testing.assert_array_equal(stored["axes/beta"], points.axes["beta"])
        assert stored["axes/method"].tolist() == ["named", "x"]
        np.testing.assert_array_equal(stored["diverged"], swept.diverged)
    assert about["format"] == 1
    assert about["momentax"] == momentax.__version__
    assert about["dims"] == {"method": ["method"], "beta": ["beta"], "seed": ["seed"]}
    assert "report" not in about


@given(results(), st.sampled_from([{}, {"score": "max", "b": "min"}]))
@settings(max_examples=25)
def test_a_result_comes_back_as_it_was(tmp_path_factory, swept, modes):
    swept = SweepResult(swept.points, swept.values, swept.diverged, REPORT, modes)
    path = tmp_path_factory.mktemp("files") / "r"
    swept.save(os.fspath(path))
    again = SweepResult.load(os.fspath(path))
    assert jax.tree.structure(again) == jax.tree.structure(swept)
    for one, two in zip(jax.tree.leaves(swept), jax.tree.leaves(again), strict=True):
        assert bits(one) == bits(two)
    assert again.report is None
    assert again.modes == modes
    assert again.mode_of("score") == modes.get("score", "min")
    other = path.with_name("other")
    SweepResult(swept.points, swept.values, swept.diverged, None, modes).save(other)
    assert other.read_bytes() == path.read_bytes()
    assert list(again.points.dims) == list(swept.points.dims)


TREES = {
    "bare": 0,
    "list": [0, (1, []), {}],
    "tuple": (0,),
    "none": {"a": None, "b": (None, 0)},
    "numbered": {3: 0, 1: {2.5: 1}},
    "odd names": {"": 0, "a/b": 1, "a": {"b": 2}, "a.b": 3, "nul\0": 4, "nul": 5, "\ud800": 6},
    "unprintable names": {"nul\0": 0, "nul": 1, "\ud800": 2, "a\nb": 3},
    "about": {"about": 0, "diverged": 1, "file": 2},
    "empty": {},
}


@pytest.mark.parametrize("case", TREES)
def test_containers_come_back_as_they_were(case, tmp_path):
    values = jax.tree.map(lambda i: np.full((3, 2), i), TREES[case])
    found(POINTS, values).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r").values
    assert jax.tree.structure(again) == jax.tree.structure(values)
    chex.assert_trees_all_equal(again, values)


@jax.tree_util.register_dataclass
@dataclass
class Measured:
    loss: Any


def test_other_containers_come_back_as_dictionaries(tmp_path):
    one = np.ones((3, 2))
    ordered = collections.OrderedDict(z=one, a=one * 2)
    found(POINTS, [Pair(one, {"x": one}), ordered, Measured(one)]).save(tmp_path / "r")
    chex.assert_trees_all_equal(
        SweepResult.load(tmp_path / "r").values,
        [{"first": one, "second": {"x": one}}, {"z": one, "a": one * 2}, {"loss": one}],
    )


def test_static_axes_come_back_as_words_bools_numbers_and_names(tmp_path):
    words = [named, "word", True, None, np.bool_(False), lambda: 1, lambda: 2]
    numbered = [None, 0.5, 2, -1, None, True, math.inf]
    found(zipped(a=words, b=numbered), np.arange(7)).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r")
    expected = ["named", "word", True, None, False, "<lambda>", "<lambda> (2)"]
    assert again.points.axes["b"].tolist() == numbered
    assert again.points.axes["a"].tolist() == expected
    assert list(map(type, again.points.axes["a"])) == list(map(type, expected))
    assert again.where(a="named")["value"].tolist() == [0]
    again.save(tmp_path / "r")
    assert SweepResult.load(tmp_path / "r").points.axes["a"].tolist() == expected


def test_nothing_is_added_to_the_name_and_links_are_followed(tmp_path):
    result().save(tmp_path / "plain")
    assert os.listdir(tmp_path) == ["plain"]
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    found(POINTS, np.ones((3, 2))).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert SweepResult.load(tmp_path / "plain")["value"].all()


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "r.npz"
    result().save(path)
    before = path.read_bytes()
    large = found(POINTS, np.zeros((3, 2, 50_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # No file may be larger.
    try:
        with pytest.raises(OSError, match=r"r\.npz could not be written: .*make room"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.npz"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_a_failure_at_the_end_leaves_what_was_there(tmp_path, monkeypatch, call, error):
    path = tmp_path / "r.npz"
    result().save(path)
    before = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(type(error)) as caught:
            found(POINTS, np.zeros((3, 2))).save(path)
    if isinstance(error, OSError):
        assert f"{path} could not be written: No space left" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.npz"]


def test_where_nothing_can_be_written_or_read_the_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/r could not be written: No such file"):
        result().save(tmp_path / "none" / "r")
    with pytest.raises(IsADirectoryError, match="could not be written"):
        result().save(tmp_path)
    assert not os.listdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        SweepResult.load(tmp_path / "none")


def test_what_has_not_the_points_shape_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for points of shape \(3, 2\)"):
        found(POINTS, np.zeros((2, 3))).save(tmp_path / "r")
    assert not os.listdir(tmp_path)


REFUSED = "is not the result of a sweep, or is damaged"


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    result().save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"r\.npz {REFUSED}"):
            SweepResult.load(path)


def test_a_changed_bit_is_noticed_or_changes_nothing(tmp_path):
    path, intact = tmp_path / "r.npz", result()
    intact.save(path)
    whole = path.read_bytes()
    refusals = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            again = SweepResult.load(path)
        except ValueError as error:
            refusals.append(str(error))
            continue
        assert again.modes == intact.modes
        for one, two in zip(jax.tree.leaves(intact), jax.tree.leaves(again), strict=True):
            assert bits(one) == bits(two)
    assert all(REFUSED in text or "reads format" in text for text in refusals)
    assert len(refusals) > len(whole) / 2  # Dates and the like do not matter.


def test_what_is_something_else_is_refused(tmp_path):
    path = tmp_path / "r"
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps({"format": "?"})))
    np.savez(tmp_path / "list.npz", about=np.array("[]"))
    np.save(tmp_path / "array.npy", np.ones(3))
    path.write_text("nothing")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("about.npy", pickle.dumps("no"))
    for other in ("other.npz", "old.npz", "list.npz", "array.npy", "r", "zip"):
        with pytest.raises(ValueError, match=f"{other} is not the result of a sweep"):
            SweepResult.load(tmp_path / other)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_file, "FORMAT", 2)
    monkeypatch.setattr(_file, "version", lambda: "9.0")
    result().save(tmp_path / "r")
    monkeypatch.undo()
    sentence = (
        f"r has format 2, of momentax 9.0, and momentax {momentax.__version__} reads format 1"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SweepResult.load(tmp_path / "r")


# What is shown.


def test_a_result_shows_itself_in_a_few_lines():
    assert repr(result()).splitlines() == [
        "SweepResult of 6 points, 3 learning_rate × 2 beta",
        "  metrics: loss (3, 2), train.history (3, 2, 4)",
        "  diverged: 2",
        "  ran in batches of 4 on 2 × cpu, programs: 3, points from the store: 5, damaged files: 2",
        "  best loss: 1 at learning_rate=0.1, beta=0.9",
    ]
    points = repeat(grid(method=[named]), 2)
    assert repr(found(points, np.array([[1.0, 3.0]]), report=None)).splitlines() == [
        "SweepResult of 2 points, 1 method × 2 seed",
        "  metrics: value (1, 2)",
        "  diverged: 0",
        "  best value: 2 ± 1 at method=named",
    ]


def test_the_first_metric_that_is_a_number_is_shown():
    values = {"a": np.zeros((3, 2, 2)), "b": np.zeros((3, 2), bool), "c": np.zeros((3, 2))}
    assert "best c: 0" in repr(found(POINTS, values))


ODD = {
    "all diverged": lambda: found(POINTS, np.ones((3, 2)), range(6)),
    "no scalar": lambda: found(POINTS, np.ones((3, 2, 1))),
    "no values": lambda: found(POINTS, {}),
    "no report fields": lambda: found(POINTS, {}, (), Report(None, None, None, None, None)),
    "nones": lambda: jax.tree.map(lambda _: None, result()),
    "shapes": lambda: jax.eval_shape(lambda r: r, result()),
    "scalars": lambda: jax.tree.map(np.mean, result()),
    "objects": lambda: jax.tree.map(lambda _: object(), result()),
}


@pytest.mark.parametrize("case", ODD)
def test_whatever_it_holds_it_can_be_shown(case):
    assert repr(ODD[case]()).startswith("SweepResult")
    assert ODD[case]()._repr_html_().startswith("<pre>SweepResult")
    assert "<table>" not in ODD[case]()._repr_html_()


def test_a_traced_result_can_be_shown():
    seen = []

    @jax.jit
    def traced(swept):
        seen.append(repr(swept) + swept._repr_html_())
        return swept

    traced(result())
    assert seen[0].startswith("SweepResult")


def cells(html, kind):
    return re.findall(f"<{kind}>(.*?)</{kind}>", html)


def test_a_notebook_shows_the_ten_best():
    points = grid(**{"<b>": ["<script>", "a&b"], "x": list(range(8))})
    loss = np.arange(16.0).reshape(2, 8)[::-1]
    html = found(points, {"a<i>": loss, "other": np.full((2, 8), np.nan)})._repr_html_()
    assert cells(html, "th") == ["&lt;b&gt;", "x", "a&lt;i&gt;", "other"]
    rows = [cells(row, "td") for row in cells(html, "tr")[1:]]
    assert rows[0] == ["a&amp;b", "0", "0", "nan"]
    assert rows[9] == ["&lt;script&gt;", "1", "9", "nan"]
    assert len(rows) == 10
    for raw in ("<script>", "<b>", "<i>", "a&b"):
        assert raw not in html


def test_a_notebook_shows_means_over_seeds_and_how_many_entered():
    points = repeat(grid(beta=[0.0, 0.9]), 2)
    values = {"loss": np.array([[1.0, 3.0], [0.0, 9.0]]), "z": np.array([[1.0, 1.0], [4.0, 9.0]])}
    html = found(points, values, [3])._repr_html_()
    assert cells(html, "th") == ["beta", "loss", "z", "seeds"]
    rows = [cells(row, "td") for row in cells(html, "tr")[1:]]
    assert rows == [["0.0", "2 ± 1", "1 ± 0", "2 of 2"], ["0.9", "0", "4", "1 of 2"]]


def test_help_describes_every_field_of_what_a_result_gives():
    for kind in (Best, Mean):
        for name in kind.__annotations__:
            assert re.search(rf"^ +{name}: ", f"    {kind.__doc__}", re.MULTILINE), name


@pytest.mark.parametrize(
    "name",
    [name for name, value in vars(SweepResult).items() if callable(value) and name[0] != "_"],
)
def test_every_method_says_what_it_takes_and_returns(name):
    doc = getattr(SweepResult, name).__doc__
    if name.startswith("tree_"):
        return
    assert "Returns:" in doc
    code = getattr(SweepResult, name).__code__
    for argument in code.co_varnames[1 : code.co_argcount]:
        assert f"{argument}: " in doc
