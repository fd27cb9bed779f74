"""A result in xarray, in pandas, on a terminal and in a notebook."""

import dataclasses
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import grid
from momentax.sweeps import Mean, Report, mutate, repeat, uniform, zipped
from tests.sweeps.results import POINTS, REPORT, make_result, named, random_values, small_result


def test_xarray_has_everything_in_the_result():
    points = repeat(grid(method=[named, "plain"], beta=[0.0, 0.9]), 2)
    values = {
        "loss": random_values(points),
        "history": random_values(points, 1, 3, 4).astype(np.float32),
    }
    swept = make_result(points, values | {"low": values["loss"].astype(jnp.bfloat16)}, [3])
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
    swept = make_result(
        zipped(a=[1, 2], b=[0.5, 0.5], c=[None, "x"], d=[True, False]), np.arange(2.0)
    )
    dataset = swept.to_xarray()
    assert dict(dataset.sizes) == {"point": 2}
    assert dataset["a"].dims == dataset["value"].dims == ("point",)
    assert dataset["c"].values.tolist() == ["None", "x"]
    assert dataset["d"].values.tolist() == [True, False]
    assert swept.to_dataframe()["c"].tolist() == ["None", "x"]


@pytest.mark.parametrize("name", ["beta", "learning_rate"])
@pytest.mark.parametrize("to", ["to_xarray", "to_dataframe"])
def test_a_metric_with_the_name_of_an_axis_is_refused(to, name):
    with pytest.raises(ValueError, match=f"the metric {name} has the name of an axis"):
        getattr(make_result(POINTS, {name: np.zeros((3, 2))}), to)()
    with pytest.raises(ValueError, match="the metric point has the name of an axis or a dim"):
        getattr(make_result(zipped(a=[1]), {"point": np.zeros(1)}), to)()
    with pytest.raises(ValueError, match="the metric diverged has"):
        getattr(make_result(grid(diverged=[1]), np.zeros(1)), to)()


def test_tables_show_the_divergence_that_the_sweep_found():
    swept = make_result(POINTS, {"diverged": np.zeros((3, 2), bool)}, [1])
    assert swept.to_xarray()["diverged"].values.ravel().tolist() == [0, 1, 0, 0, 0, 0]
    assert swept.to_dataframe()["diverged"].tolist() == [0, 1, 0, 0, 0, 0]


def test_a_dataframe_has_a_row_for_each_point():
    swept = small_result()
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
        getattr(small_result(), to)()


# Text and HTML


def test_a_result_prints_in_a_few_lines():
    assert repr(small_result()).splitlines() == [
        "SweepResult of 6 points, 3 learning_rate × 2 beta",
        "  metrics: loss (3, 2), train.history (3, 2, 4)",
        "  diverged: 2",
        "  ran in batches of 4 on 2 × cpu, programs: 3, points from the store: 5, damaged files: 2",
        "  best loss: 1 at learning_rate=0.1, beta=0.9",
    ]
    points = repeat(grid(method=[named]), 2)
    assert repr(make_result(points, np.array([[1.0, 3.0]]), report=None)).splitlines() == [
        "SweepResult of 2 points, 1 method × 2 seed",
        "  metrics: value (1, 2)",
        "  diverged: 0",
    ]
    result = make_result(points, {"error": np.array([[1.0, 3.0]])}, report=None)
    assert repr(result).splitlines()[-1] == "  best error: 2 ± 1 at method=named"


def test_the_first_rankable_metric_is_shown():
    values = {"a": np.zeros((3, 2, 2)), "b": np.zeros((3, 2), bool), "c": np.zeros((3, 2))}
    assert "best" not in repr(make_result(POINTS, values))  # No name says which end is best.
    values["test"] = {"loss": np.ones((3, 2))}
    assert "best test.loss: 1" in repr(make_result(POINTS, values))


ODD = {
    "all diverged": lambda: make_result(POINTS, np.ones((3, 2)), range(6)),
    "no scalar": lambda: make_result(POINTS, np.ones((3, 2, 1))),
    "no values": lambda: make_result(POINTS, {}),
    "no report fields": lambda: make_result(POINTS, {}, (), Report(None, None, None, None, None)),
    "nones": lambda: jax.tree.map(lambda _: None, small_result()),
    "shapes": lambda: jax.eval_shape(lambda r: r, small_result()),
    "scalars": lambda: jax.tree.map(np.mean, small_result()),
    "objects": lambda: jax.tree.map(lambda _: object(), small_result()),
}


@pytest.mark.parametrize("case", ODD)
def test_a_result_with_anything_inside_can_be_shown(case):
    assert repr(ODD[case]()).startswith("SweepResult")
    assert ODD[case]()._repr_html_().startswith("<pre>SweepResult")
    assert "<table>" not in ODD[case]()._repr_html_()


def test_a_traced_result_can_be_shown():
    seen = []

    @jax.jit
    def traced(swept):
        seen.append(repr(swept) + swept._repr_html_())
        return swept

    traced(small_result())
    assert seen[0].startswith("SweepResult")


def find_cells(html, kind):
    return re.findall(f"<{kind}>(.*?)</{kind}>", html)


def test_a_notebook_shows_the_ten_best():
    points = grid(**{"<b>": ["<script>", "a&b"], "x": list(range(8))})
    loss = np.arange(16.0).reshape(2, 8)[::-1]
    result = make_result(points, {"a<i>": loss, "other": np.full((2, 8), np.nan)})
    html = dataclasses.replace(result, modes={"a<i>": "min"})._repr_html_()
    assert find_cells(html, "th") == ["&lt;b&gt;", "x", "a&lt;i&gt;", "other"]
    rows = [find_cells(row, "td") for row in find_cells(html, "tr")[1:]]
    assert rows[0] == ["a&amp;b", "0", "0", "nan"]
    assert rows[9] == ["&lt;script&gt;", "1", "9", "nan"]
    assert len(rows) == 10
    for raw in ("<script>", "<b>", "<i>", "a&b"):
        assert raw not in html


def test_a_notebook_shows_means_and_numbers_of_seeds():
    points = repeat(grid(beta=[0.0, 0.9]), 2)
    values = {"loss": np.array([[1.0, 3.0], [0.0, 9.0]]), "z": np.array([[1.0, 1.0], [4.0, 9.0]])}
    html = make_result(points, values, [3])._repr_html_()
    assert find_cells(html, "th") == ["beta", "loss", "z", "seeds"]
    rows = [find_cells(row, "td") for row in find_cells(html, "tr")[1:]]
    assert rows == [["0.0", "2 ± 1", "1 ± 0", "2 of 2"], ["0.9", "0", "4", "1 of 2"]]


def test_records_print_without_dtypes_or_addresses():
    points = repeat(grid(beta=[0.1, 0.9], method=[named, lambda x: x, "a"]), 2)
    values = np.arange(12.0, dtype=np.float32).reshape(2, 3, 2)
    result = make_result(points, {"loss": values, "history": np.ones((2, 3, 2, 4))}, [1])
    assert repr(result.best("loss")) == (
        "Best(point={'beta': 0.1, 'method': <lambda>}, value=2.5, standard_error=0.5, index=(0, 1))"
    )
    assert repr(points) == (
        "Points(12 of shape (2, 3, 2); beta: [0.1, 0.9] of shape (2,), "
        "method: [named, <lambda>, a] of shape (3,), seed: [0, 1] of shape (2,))"
    )
    assert repr(result.over_seeds()) == (
        "Mean at Points(6 of shape (2, 3); beta: [0.1, 0.9] of shape (2,), "
        "method: [named, <lambda>, a] of shape (3,))\n"
        "  metrics: history (2, 3, 4), loss (2, 3)\n"
        "  points averaged: 1 to 2"
    )
    mean = grid(beta=[0.5]), np.float32(1)
    assert "points averaged: None" in repr(Mean(*mean, np.float32(0), None))
    for record in (uniform(0, 1), mutate(beta=uniform(0, 0.5)), REPORT, result.top("loss", 3)):
        assert "0x" not in repr(record)
        assert "np." not in repr(record)


def test_a_long_static_axis_is_abbreviated():
    points = grid(method=list("abcdefgh"))
    assert repr(points) == "Points(8 of shape (8,); method: [a, b, c, ..., f, g, h] of shape (8,))"
