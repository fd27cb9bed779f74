"""A result: its metrics by name, and how it is ranked, selected and averaged."""

import collections
import copy
import dataclasses
import itertools
import math
import pickle
import re

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

import momentax
from momentax import grid
from momentax._core.metrics import mode_in_name
from momentax.sweeps import Best, Mean, SweepResult, repeat, zipped
from tests.sweeps.results import (
    POINTS,
    REPORT,
    Pair,
    make_result,
    random_values,
    results,
    small_result,
)


def test_every_leaf_has_a_name():
    tree = {"loss": 0, "train": {"loss": [1, (2, None)]}, "pair": Pair(3, 4)}
    values = jax.tree.map(lambda i: np.full(POINTS.shape, i), tree)
    swept = make_result(POINTS, values)
    names = ["loss", "pair.first", "pair.second", "train.loss.0", "train.loss.1.0"]
    assert list(swept.metrics()) == names
    assert [int(swept[name][0, 0]) for name in names] == [0, 3, 4, 1, 2]
    assert list(make_result(POINTS, np.zeros((3, 2))).metrics()) == ["value"]
    assert make_result(POINTS, {}).metrics() == {}


def test_equal_names_are_written_as_in_python():
    swept = make_result(POINTS, {"a": {"b": np.zeros((3, 2))}, "a.b": np.ones((3, 2))})
    assert list(swept.metrics()) == ["['a']['b']", "['a.b']"]
    assert swept["['a.b']"].all()


def test_an_unknown_name_raises_a_sentence():
    with pytest.raises(KeyError) as caught:
        small_result()["los"]
    assert str(caught.value) == ("there is no metric 'los'; the metrics are: loss, train.history")
    for ask in (lambda r: r.best("los"), lambda r: r.top("los", 2)):
        with pytest.raises(KeyError, match="there is no metric 'los'"):
            ask(small_result())
    for metric in (["loss"], {}, None, 3, np.ones(2), object()):
        for ask in (lambda r, m=metric: r[m], lambda r, m=metric: r.best(m, "min")):
            with pytest.raises(KeyError, match=r"there is no metric .*; the metrics are: loss, tr"):
                ask(small_result())
        with pytest.raises(
            KeyError, match=r"there is no axis .*; the axes are: learning_rate, beta"
        ):
            small_result().marginal(metric)
        with pytest.raises(TypeError, match="metric must be a name, got"):
            small_result().mode_of(metric)
    for ask in (lambda r: r.where(gamma=1), lambda r: r.marginal("gamma")):
        with pytest.raises(KeyError) as caught:
            ask(small_result())
        assert str(caught.value) == "there is no axis 'gamma'; the axes are: learning_rate, beta"


# The tree


def test_a_result_is_a_tree_without_its_report():
    swept = small_result()
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


def test_a_result_and_its_records_can_be_pickled_and_copied():
    swept = small_result()
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
        small_result().values = {}
    with pytest.raises(AttributeError):
        small_result().best("loss").value = 0


# Ranks


def test_the_best_is_a_setting_with_its_value_and_index():
    best = small_result().best("loss")
    assert (best.value, best.index, best["beta"]) == (1.0, (0, 1), np.float32(0.9))
    assert best.point == {"learning_rate": np.float32(0.1), "beta": np.float32(0.9)}
    assert math.isnan(best.standard_error)
    assert [b.value for b in small_result().top("loss", 9)] == [1, 2, 3, 4]  # 0.5 and NaN diverged.
    assert [b.value for b in small_result().top("loss", 2, "max")] == [4, 3]
    assert small_result().best("loss", "max").index == (2, 1)


def group_seeds(swept):
    """Return each setting's index, the values of its finite seeds, and the number of the others."""
    names = [name for name in swept.points.dims if name != "seed"]
    settings = collections.defaultdict(list)
    left_out = collections.Counter()
    for place in np.ndindex(swept.points.shape):
        where = dict(zip(swept.points.dims, place, strict=True))
        where.pop("seed", None)
        value = swept["loss"][place]
        key = tuple(where[name] for name in names)
        settings[key]
        if swept.diverged[place] or not np.isfinite(value):
            left_out[key] += 1
        else:
            settings[key].append(value)
    return [(key, good, left_out[key]) for key, good in settings.items()]


@given(results(), st.sampled_from(["min", "max"]))
def test_ranks_are_those_of_means_over_seeds_with_the_incomplete_last(swept, mode):
    rows = [
        (bool(left_out), np.mean(good) * (1 if mode == "min" else -1), number, key, good)
        for number, (key, good, left_out) in enumerate(group_seeds(swept))
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
            assert one[4] != two[4] or one[2] < two[2]  # Of equal settings the first comes first.
    for best, (_, signed, _, _, good) in zip(ranked, order, strict=True):
        assert best.value == pytest.approx(abs(signed) * np.sign(np.mean(good)), rel=1e-12)
        if len(good) > 1:
            error = np.std(good, ddof=1) / math.sqrt(len(good))
            assert best.standard_error == pytest.approx(error, rel=1e-9, abs=1e-12)
        else:
            assert math.isnan(best.standard_error)
        assert "seed" not in best.point
    assert swept.best("loss", mode).index == ranked[0].index


def test_a_setting_with_a_diverged_seed_comes_after_all_complete_ones():
    points = repeat(grid(beta=[0.0, 0.5, 0.9]), 2)
    swept = make_result(points, {"loss": np.array([[1.0, 9.0], [7.0, 7.0], [0.0, np.nan]])}, [1])
    assert [b.index for b in swept.top("loss", 3)] == [(1,), (2,), (0,)]
    assert [b.value for b in swept.top("loss", 3)] == [7, 0, 1]
    np.testing.assert_array_equal(swept["loss"][swept.best("loss").index], [7, 7])


def test_of_equal_settings_the_first_is_the_best():
    swept = make_result(POINTS, {"loss": np.array([[2, 1], [1, 1], [2, 2]])})
    assert [b.index for b in swept.top("loss", 6)] == [
        (0, 1),
        (1, 0),
        (1, 1),
        (0, 0),
        (2, 0),
        (2, 1),
    ]
    assert [b.index for b in swept.top("loss", 3, "max")] == [(0, 0), (2, 0), (2, 1)]


SMALLEST = """loss losses val_loss valLoss train.loss train.loss.0 val/loss ['train']['loss']
    loss2 log_loss l2_loss mse_loss cross_entropy_loss error test_error_rate err mse RMSE
    mean_squared_error nll perplexity regret"""
LARGEST = """accuracy val_accuracy testAccuracy acc test.acc top1_acc test-acc accuracy@5
    held-out_accuracy auc auroc ROC_AUC f1 macroF1
    reward Rewards mean_reward return episode_return"""
# Names that say nothing, or something else than the words in them.
UNKNOWN = """value score r2 precision recall bleu iou elbo likelihood log_likelihood neg_loss
    negative_log_loss -loss minus_loss loss_improvement lossDelta loss_ratio accuracy_drop
    accuracy_gap steps_to_accuracy 1-accuracy 1/loss train_loss/val_loss loss-train_loss
    val-train_loss train-test_loss test-train-accuracy first_error initial_loss loss−mse
    Δloss accuracy_error acc_loss lossless accounts acceleration returned return_value reward_std
    absolute_return loss% !loss 0 _ rate learning_rate grad_norm zeal"""


@pytest.mark.parametrize(("names", "mode"), [(SMALLEST, "min"), (LARGEST, "max"), (UNKNOWN, None)])
def test_the_name_of_a_metric_says_which_end_is_best_or_mode_is_asked_for(names, mode):
    for name in names.split():
        swept = make_result(POINTS, {name: np.arange(6.0).reshape(3, 2)})
        assert mode_in_name(name) == mode, name
        assert swept.best(name, "min").value == 0
        assert swept.best(name, "max").value == 5
        if mode:
            assert swept.mode_of(name) == mode
            assert swept.best(name).value == {"min": 0, "max": 5}[mode]
            continue
        for ask in (swept.best, swept.mode_of, lambda name, swept=swept: swept.top(name, 2)):
            with pytest.raises(ValueError, match=r'^give mode="max" or mode="min": the name'):
                ask(name)
        assert "best" not in repr(swept)
        assert "<table>" not in swept._repr_html_()
        told = dataclasses.replace(swept, modes={name: "max"})
        assert told.best(name).value == 5
        assert f"best {name}: 5" in repr(told)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn, np.float16, np.int32, bool])
def test_any_real_dtype_can_be_ranked(dtype):
    swept = make_result(POINTS, np.array([[1, 1], [0, 1], [1, 1]], dtype))
    assert swept.best("value", "min").index == (1, 0)


def test_only_one_real_number_per_point_can_be_ranked():
    with pytest.raises(ValueError, match=r"has shape \(3, 2, 4\) .* reduce it in run, or .*result"):
        small_result().best("train.history")
    with pytest.raises(ValueError, match="dtype complex64, not one real number"):
        make_result(POINTS, np.ones((3, 2), np.complex64)).best("value")
    with pytest.raises(ValueError, match="mode must be one of 'min', 'max', got 'most'"):
        small_result().best("loss", "most")
    with pytest.raises(ValueError, match="count must be a whole number, at least 1, got 0"):
        small_result().top("loss", 0)
    with pytest.raises(TypeError, match="count must be a whole number"):
        small_result().top("loss", 1.5)


def test_there_is_no_best_if_all_points_diverged():
    with pytest.raises(ValueError, match="there is no best value: all 6 points diverged"):
        make_result(POINTS, np.ones((3, 2)), range(6)).best("value", "min")
    with pytest.raises(ValueError, match="of 6 points 2 diverged, and at the others it is not f"):
        make_result(POINTS, np.full((3, 2), np.inf), range(2)).best("value", "max")


# Selections


def test_a_value_is_compared_in_the_dtype_of_the_axis():
    picked = small_result().where(beta=0.9)
    assert picked.points.shape == picked["loss"].shape == picked.diverged.shape == (3, 1)
    np.testing.assert_array_equal(picked["loss"][:, 0], small_result()["loss"][:, 1])
    np.testing.assert_array_equal(
        picked["train.history"][:, 0], small_result()["train.history"][:, 1]
    )
    np.testing.assert_array_equal(picked.diverged[:, 0], small_result().diverged[:, 1])
    assert picked.report == REPORT
    for asked in (np.float64(0.9), np.array(0.9), jnp.float32(0.9), [0.9, 7], np.array([0.9])):
        assert small_result().where(beta=asked).points.axes["beta"].tolist() == [np.float32(0.9)]
    whole = make_result(grid(width=[1, 2, 3]), np.arange(3))
    assert whole.where(width=2.0)["value"].tolist() == [1]
    for asked in (1.5, True, "2", 2**70, 1e300, [[1, 2]], np.ones((1, 2)), [], 2j, None):
        with pytest.raises(ValueError, match=r"no point has width=.*: the axis holds \[1, 2, 3\]"):
            whole.where(width=asked)


def test_several_values_and_functions_select():
    asked = small_result().where(learning_rate=lambda a: a > 0.15, beta=[0.9, 0.0])
    assert asked.points.shape == (2, 2)
    np.testing.assert_array_equal(asked["loss"], small_result()["loss"][1:])
    for several in ((0.3, 0.1), {0.3, 0.1}, (x for x in [0.3, 0.1]), np.array([0.3, 0.1])):
        kept = small_result().where(learning_rate=several)
        np.testing.assert_allclose(kept.points.axes["learning_rate"], [0.1, 0.3], rtol=1e-6)
    assert small_result().where().points.shape == (3, 2)
    with pytest.raises(ValueError, match=r"no point has learning_rate=the function.*the axis h"):
        small_result().where(learning_rate=lambda a: a > 1)


def test_on_a_static_axis_a_value_may_be_a_function_or_a_tuple():
    methods = [momentax.nesterov, "heavy_ball", momentax.average(0.5), None, (1, 2)]
    points = grid(method=methods, beta=[0.5, 0.9])
    swept = make_result(points, random_values(points))
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


def test_zipped_points_must_meet_all_conditions():
    swept = make_result(zipped(a=[1, 1, 2, 2], b=[0.1, 0.2, 0.1, 0.2]), np.arange(4))
    assert swept.where(a=2, b=0.1)["value"].tolist() == [2]
    assert swept.where(b=0.2)["value"].tolist() == [1, 3]
    with pytest.raises(ValueError, match="no point meets all of them on the dimension point: a, b"):
        make_result(zipped(a=[1, 2], b=[1, 2]), np.arange(2)).where(a=1, b=2)


@given(results(), st.data())
def test_a_selection_agrees_with_pandas(swept, data):
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


# Means


def test_means_of_known_numbers():
    points = repeat(grid(beta=[0.0, 0.9]), [7, 8, 9])
    swept = make_result(points, np.array([[1, 2, 6], [5, 7, 100]], np.int32), [5])
    mean = swept.over_seeds()
    assert isinstance(mean, Mean)
    assert list(mean.points.axes) == ["beta"]
    assert mean.count.tolist() == [3, 2]
    assert mean.mean.dtype == mean.standard_error.dtype == np.float64
    np.testing.assert_allclose(mean.mean, [3, 6])
    np.testing.assert_allclose(mean.standard_error, [math.sqrt(7 / 3), 1])
    best = swept.best("value", "min")
    assert (best.value, best.standard_error) == (3, math.sqrt(7 / 3))
    flags = make_result(points, np.array([[True, False, True], [True, True, True]]))
    np.testing.assert_allclose(flags.over_seeds().mean, [2 / 3, 1])
    turned = make_result(points, np.array([[1j, 3j, 2j], [1, 2, 3]], np.complex64)).over_seeds()
    np.testing.assert_allclose(turned.mean, [2j, 2])
    np.testing.assert_allclose(turned.standard_error, [math.sqrt(1 / 3)] * 2)


def require_equal_to_pandas(mean, frame, by, swept):
    """Check that a Mean agrees with pandas, grouping by the axes."""
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
def test_means_agree_with_pandas(swept):
    frame = swept.to_dataframe()
    for axis in swept.points.axes:
        mean = swept.marginal(axis)
        np.testing.assert_array_equal(mean.points.axes[axis], swept.points.axes[axis])
        assert mean.mean["x"].shape == (*mean.points.shape, 2)
        require_equal_to_pandas(mean, frame, [axis], swept)
    rest = [name for name in swept.points.dims if name != "seed"]
    if "seed" in swept.points.dims:
        mean = swept.over_seeds()
        assert list(mean.points.dims) == rest
        require_equal_to_pandas(mean, frame, rest, swept)
    else:
        with pytest.raises(ValueError, match=r"needs points with a dimension seed.*dimensions "):
            swept.over_seeds()


def test_an_axis_that_shares_its_dimension_is_grouped_by_equal_values():
    points = repeat(zipped(width=[8, 2, 8, 4], beta=[0.1, 0.2, 0.3, 0.3]), 3)
    values = random_values(points)
    swept = make_result(points, {"loss": values}, [0, 7])
    mean = swept.marginal("width")
    assert mean.points.axes["width"].tolist() == [8, 2, 4]  # In order of appearance.
    assert mean.count.tolist() == [4, 3, 3]
    require_equal_to_pandas(mean, swept.to_dataframe(), ["width"], swept)
    require_equal_to_pandas(swept.marginal("beta"), swept.to_dataframe(), ["beta"], swept)
    require_equal_to_pandas(swept.marginal("seed"), swept.to_dataframe(), ["seed"], swept)
    words = make_result(zipped(method=["b", "a", "b"]), np.arange(3.0)).marginal("method")
    assert words.points.axes["method"].tolist() == ["b", "a"]
    assert words.mean.tolist() == [1, 1]


def test_points_of_seeds_only_are_one_setting():
    swept = make_result(grid(seed=[1, 2, 4]), np.array([1.0, 2.0, 6.0]))
    assert swept.over_seeds().mean.shape == ()
    assert swept.over_seeds().mean == 3
    assert swept.best("value", "max").point == {}


def test_help_describes_every_field_of_the_records():
    for kind in (Best, Mean):
        for name in kind.__annotations__:
            assert re.search(rf"^ +{name}: ", f"    {kind.__doc__}", re.MULTILINE), name


@pytest.mark.parametrize(
    "name",
    [name for name, value in vars(SweepResult).items() if callable(value) and name[0] != "_"],
)
def test_help_describes_every_argument_and_return_value(name):
    doc = getattr(SweepResult, name).__doc__
    if name.startswith("tree_"):
        return
    assert "Returns:" in doc
    code = getattr(SweepResult, name).__code__
    for argument in code.co_varnames[1 : code.co_argcount]:
        assert f"{argument}: " in doc
