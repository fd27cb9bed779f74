"""Points: grids, zipped axes, random draws and seeds, checked before anything compiles."""

import copy
import itertools
import math
import pickle
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from momentax import grid
from momentax.sweeps import (
    Points,
    log_uniform,
    momentum_axis,
    momentum_uniform,
    random_points,
    repeat,
    uniform,
    zipped,
)
from momentax.sweeps._axes import describe_value

KEY = jax.random.key(0)


# How axes combine


def test_a_grid_is_the_product_with_the_last_axis_fastest():
    axes = {"a": [1, 2], "b": [0.5, 1.5, 2.5], "method": ["x", "y"]}
    points = grid(**axes)
    assert points.shape == (2, 3, 2)
    assert list(points.dims) == ["a", "b", "method"]
    assert [tuple(point.values()) for point in points] == list(itertools.product(*axes.values()))
    assert all(list(point) == ["a", "b", "method"] for point in points)


def test_zipped_axes_vary_together_and_may_repeat():
    points = zipped(a=[3, 1, 3], b=[0.5, 0.5, 0.25], c=["u", "v", "u"])
    assert points.shape == (3,)
    assert list(points.dims) == ["point"]
    assert [tuple(point.values()) for point in points] == [
        (3, 0.5, "u"),
        (1, 0.5, "v"),
        (3, 0.25, "u"),
    ]


def test_seeds_form_a_separate_last_dimension():
    for base in (grid(a=[1, 2], b=[0.5]), zipped(a=[1, 2], b=[0.5, 0.5])):
        points = repeat(base, 3)
        assert points.shape == (*base.shape, 3)
        assert list(points.dims) == [*base.dims, "seed"]
        assert points.axes["seed"].dtype == np.int32
        assert [point["seed"] for point in points] == [0, 1, 2, 0, 1, 2]
        assert [point["a"] for point in points] == [1, 1, 1, 2, 2, 2]
    assert repeat(base).shape[-1] == 5
    for seeds in ([7, 2**31 - 1], (7, 2**31 - 1), np.array([7, 2**31 - 1], np.uint32)):
        np.testing.assert_array_equal(repeat(base, seeds).axes["seed"], [7, 2**31 - 1])
    assert len(repeat(base, np.int64(4))) == 8
    assert len(repeat(base, iter([4, 5]))) == 4


@st.composite
def any_points(draw):
    """Draw points of any kind, with or without a static axis, repeated or not."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axes = {f"axis{i}": list(np.linspace(0, i + 1, n)) for i, n in enumerate(sizes)}
    kind = draw(st.sampled_from(["grid", "static grid", "zipped", "random"]))
    if kind == "static grid":
        axes["method"] = ["a", None, math.sin][: draw(st.integers(1, 3))]
    if kind == "zipped":
        axes = {name: (values * 4)[: sizes[0]] for name, values in axes.items()}
    points = random_points(KEY, 5, **axes) if kind == "random" else None
    points = points or (zipped if kind == "zipped" else grid)(**axes)
    return repeat(points, draw(st.integers(1, 3))) if draw(st.booleans()) else points


@given(any_points())
def test_columns_length_index_and_iteration_agree(points):
    columns = points.columns()
    count = len(points)
    assert count == math.prod(points.shape)
    assert list(columns) == list(points.axes)
    assert all(column.shape == (count,) for column in columns.values())
    listed = list(points)
    assert len(listed) == count
    for i, point in enumerate(listed):
        assert point == points[i] == points[i - count] == points[np.int64(i)]
        for name, value in point.items():
            assert columns[name][i] is value or columns[name][i] == value
            assert columns[name].dtype == points.axes[name].dtype
    for index in (count, -count - 1):
        with pytest.raises(IndexError, match=f"there are {count} points, got index {index}"):
            points[index]


@given(any_points())
def test_points_are_a_tree_and_can_be_pickled_and_copied(points):
    leaves, structure = jax.tree.flatten(points)
    assert len(leaves) == len(points.axes) - len(points.static)
    for again in (
        pickle.loads(pickle.dumps(points)),
        copy.copy(points),
        copy.deepcopy(points),
        structure.unflatten(leaves),
    ):
        assert jax.tree.structure(again) == structure
        assert again.shape == points.shape
        assert list(again) == list(points)
        for name, values in points.axes.items():
            assert again.axes[name].dtype == values.dtype
    # Anything can replace the numbers in a tree, and the result is still a tree.
    for stand_in in ("word", 0, None, object()):
        other = jax.tree.map(lambda leaf, s=stand_in: s, points)
        again = jax.tree.leaves(other, is_leaf=lambda leaf: leaf is None)
        assert again == [stand_in] * len(leaves)


def test_points_pass_through_jit():
    points = repeat(grid(beta=[0.0, 0.5], method=["a", "b"]), 2)

    @jax.jit
    def both(points):
        assert points.static == ("method",)
        assert points.shape == (2, 2, 2)
        assert len(points) == 8
        assert "traced" in repr(points)
        return jnp.sum(points.axes["beta"]), jax.tree.map(lambda leaf: leaf * 1, points)

    total, again = both(points)
    assert total == 0.5
    assert isinstance(again, Points)
    assert list(again) == list(points)
    both(repeat(grid(beta=[0.1, 0.2], method=["a", "b"]), 2))
    assert both._cache_size() == 1
    both(repeat(grid(beta=[0.1, 0.2], method=["a", "c"]), 2))  # A static value differs.
    assert both._cache_size() == 2


def test_points_cannot_be_changed():
    points = grid(learning_rate=[0.1, 0.2], beta=[0.9])
    for frozen in (points, pickle.loads(pickle.dumps(points))):
        with pytest.raises(TypeError):
            frozen.dims["beta"] = {}
        with pytest.raises(TypeError):
            frozen.dims["beta"]["beta"] = np.zeros(1)
        with pytest.raises(AttributeError):
            frozen.dims = {}
    assert repr(points) == (
        "Points(2 of shape (2, 1); learning_rate: [0.1, 0.2] of shape (2,), "
        "beta: [0.9] of shape (1,))"
    )


# Contents of an axis


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_floats_are_kept_in_float32(dtype):
    points = grid(beta=np.array([0.25, 0.5], dtype), x=jnp.array([1, 2], jnp.int8), n=[1, 2])
    assert points.axes["beta"].dtype == np.float32
    assert points.axes["x"].dtype == np.int8
    assert points.axes["n"].dtype == np.int32
    np.testing.assert_array_equal(points.axes["beta"], [0.25, 0.5])
    assert points.static == ()


def test_floats_are_kept_in_float64_in_64_bits(x64):
    points = repeat(grid(beta=[0.9], n=[3_000_000_000]), 2)
    assert points.axes["beta"] == np.float64(0.9)
    assert points.axes["n"].dtype == np.int64
    assert points.axes["seed"].dtype == np.int32
    drawn = random_points(KEY, 100, beta=uniform(0, 0.99999999)).axes["beta"]
    assert drawn.dtype == np.float64
    assert drawn.max() < 1


def test_values_that_are_not_numbers_make_a_static_axis():
    def function():
        pass

    values = {
        "method": ["nesterov", "heavy_ball"],
        "flag": [True, False],
        "function": [function, math.sin, partial(function)],
        "maybe": [None, 1, 0.5],
        "pair": [(1, 2), (3,)],
        "words of NumPy": np.array(["a", "b"]),
        "flags of NumPy": np.array([False, True]),
    }
    points = grid(learning_rate=[0.1], **values)
    assert points.static == tuple(values)
    for name, each in values.items():
        assert points.axes[name].dtype == object
        kept = points.axes[name].tolist()
        assert kept == list(each)
        assert all(isinstance(value, np.generic) is False for value in kept)
    # An axis can be made of the values of an axis.
    for name in values:
        assert grid(x=points.axes[name]).axes["x"].tolist() == points.axes[name].tolist()


def test_values_are_described_the_same_in_every_process():
    def function():
        pass

    assert describe_value(function) == "function"
    assert describe_value("word") == "word"
    assert describe_value(None) == "None"
    assert "0x" not in describe_value(partial(function)) + describe_value(object())


BAD = {
    "none": ({}, ValueError, "grid needs at least one axis"),
    "scalar": ({"beta": 0.9}, ValueError, r"axis beta must be a sequence .* beta=\[value\]"),
    "word": ({"x": "ab"}, ValueError, r"axis x must be a sequence .* got 'ab'; .* x=\[value\]"),
    "mapping": ({"x": {1: 2}}, ValueError, "axis x must be a sequence"),
    "empty": ({"beta": []}, ValueError, "axis beta must be a sequence of at least one value"),
    "matrix": ({"x": np.ones((2, 2))}, ValueError, r"axis x must be .*shape \(2, 2\)"),
    "rows": ({"x": [[1, 2], [3, 4]]}, ValueError, r"axis x must be .*shape \(2, 2\)"),
    "ragged": ({"x": [[1, 2], [3]]}, TypeError, r"axis x must hold numbers, got \[\[1, 2\], \[3\]"),
    "keys": ({"x": jax.random.split(KEY)}, TypeError, "axis x must hold numbers, got a random key"),
    "dictionaries": (
        {"x": [{}]},
        TypeError,
        r"axis x must hold numbers, got \[\{\}\]",
    ),
    "β a word": (
        {"beta": [0.5, "high"]},
        TypeError,
        "axis beta must hold numbers, got 'high' at index 1",
    ),
    "β words": (
        {"beta": np.array(["high"])},
        TypeError,
        "axis beta must hold numbers, got 'high' at index 0",
    ),
    "α flags": (
        {"learning_rate": [True, False]},
        TypeError,
        "axis learning_rate must hold numbers, got True at index 0",
    ),
    "ν functions": ({"nu": [math.sin]}, TypeError, "axis nu must hold numbers, got the func"),
    "mixed": (
        {"x": [1, "a"]},
        TypeError,
        "axis x must hold numbers, got 'a' at index 1; one axis cannot hold both words and numbers",
    ),
    "β": ({"beta": [0.5, 1.0]}, ValueError, r"axis beta must be in \[0, 1\), got 1.0 at index 1"),
    "α": (
        {"learning_rate": [0.1, -0.5]},
        ValueError,
        r"axis learning_rate must be in \[0, inf\), got -0.5 at index 1",
    ),
    "nan": ({"x": [0.0, np.nan]}, ValueError, r"axis x must be in .*, got nan at index 1"),
    "inf": ({"x": [np.inf, 0.0]}, ValueError, r"axis x must be in .*, got inf at index 0"),
    "again": ({"beta": [0.5, 0.9, 0.5]}, ValueError, "must not repeat a value, got 0.5 again at 2"),
    "again in float32": (
        {"beta": [0.9, 0.9 + 1e-12]},
        ValueError,
        "axis beta must not repeat a value, got 0.900000000001 again at 1",
    ),
    "word again": (
        {"x": ["a", "b", "a"]},
        ValueError,
        "axis x must not repeat a value, got 'a' again at 2",
    ),
    "1 and True": ({"x": [1, True]}, ValueError, "must not repeat a value, got True again at 1"),
    "wide": (
        {"x": [3_000_000_000]},
        ValueError,
        "axis x holds integers that int32 cannot represent",
    ),
    "huge": ({"x": [10**400]}, TypeError, "axis x must hold numbers"),
    "rounding": (
        {"beta": [0.9999999999]},
        ValueError,
        "got 0.9999999999 at index 0, which float32 rounds to 1.0",
    ),
    "vanishing": (
        {"learning_rate": [1e-50]},
        ValueError,
        "got 1e-50 at index 0, which float32 rounds to 0.0",
    ),
    "overflow": ({"x": [1e39]}, ValueError, r"got 1e\+39 at index 0, which float32 rounds to inf"),
}


@pytest.mark.parametrize("maker", [grid, zipped, partial(random_points, KEY, 3)])
@pytest.mark.parametrize("case", BAD)
def test_an_error_names_the_axis_the_index_and_the_value(case, maker):
    axes, error, text = BAD[case]
    if maker is zipped and "again" in text:  # Only zipped allows repeated values.
        assert len(zipped(**axes)) == len(*axes.values())
        return
    with pytest.raises(error, match=text.replace("grid needs", r"\w+ needs")):
        maker(**axes)


@pytest.mark.parametrize("maker", [grid, zipped])
def test_an_axis_without_a_name_is_refused(maker):
    text = rf"got \[1, 2\] without one; write {maker.__name__}\(beta=\[0.0, 0.9\]\)"
    with pytest.raises(TypeError, match=text):
        maker([1, 2])


def test_zipped_axes_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equally long: a has 2, b has 3, c has 2"):
        zipped(a=[1, 2], b=[1, 2, 3], c=["x", "y"])


BAD_SEEDS = {
    "none": (0, ValueError, "seeds must be a whole number, at least 1, got 0"),
    "empty": ([], ValueError, r"seeds must hold at least one seed, got \[\]"),
    "negative": ([0, -1], ValueError, r"seeds\[1\] must be a whole number, at least 0, got -1"),
    "again": ([3, 3], ValueError, "axis seed must not repeat a value, got 3 again at 1"),
    "wide": ([2**31], ValueError, r"a seed must be below 2\*\*31, got 2147483648"),
    "fraction": (2.5, TypeError, "seeds must be a whole number, at least 1, got 2.5"),
    "fractions": ([0.5], TypeError, r"seeds\[0\] must be a whole number, at least 0, got 0.5"),
    "flag": (True, TypeError, "seeds must be a whole number, at least 1, got True"),
    "nothing": (None, TypeError, "seeds must be a whole number, at least 1, got None"),
    "word": ("12", TypeError, "seeds must be a sequence of seeds, got '12'"),
}


@pytest.mark.parametrize("case", BAD_SEEDS)
def test_bad_seeds_are_refused(case):
    seeds, error, text = BAD_SEEDS[case]
    with pytest.raises(error, match=text):
        repeat(grid(beta=[0.5]), seeds)


def test_only_points_without_seeds_can_be_repeated():
    with pytest.raises(
        TypeError, match=r"points must be momentax\.sweeps\.Points, such as .*, got 3"
    ):
        repeat(3)
    for points in (repeat(grid(beta=[0.5])), grid(seed=[0, 1]), zipped(seed=[0, 1], beta=[0, 0.5])):
        with pytest.raises(ValueError, match="already have an axis seed; call repeat once"):
            repeat(points, 2)


# Random draws


def kolmogorov_smirnov(shares):
    """Return the largest distance of the empirical distribution function from the uniform one."""
    ordered = np.sort(shares)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1]))


SHARES = {
    "linear": (uniform(-3, 5), lambda x: (x + 3) / 8),
    "log": (log_uniform(1e-4, 10), lambda x: np.log(x / 1e-4) / np.log(1e5)),
    "momentum": (
        momentum_uniform(0.1, 0.999),
        lambda x: np.log((1 - x) / 0.9) / np.log(1e-3 / 0.9),
    ),
    "momentum from 0": (momentum_uniform(0, 0.99), lambda x: np.log(1 - x) / np.log(0.01)),
}


@pytest.mark.parametrize("name", SHARES)
def test_draws_follow_their_distribution(name):
    inside, share = SHARES[name]
    count = 20_000
    for seed in range(3):
        drawn = random_points(jax.random.key(seed), count, x=inside).axes["x"].astype(np.float64)
        # A random sample exceeds 1.95/√n once in a thousand times.
        assert kolmogorov_smirnov(share(drawn)) < 1.95 / math.sqrt(count)
        assert len(np.unique(drawn)) > 0.9 * count


def test_choices_have_equal_chances_and_keep_their_dtype():
    points = random_points(KEY, 12_000, n=[4, 2, 9], method=["a", "b"], x=[0.5, 0.25, 0.75, 1.0])
    assert points.static == ("method",)
    assert points.shape == (12_000,)
    for name, dtype in (("n", np.int32), ("x", np.float32), ("method", object)):
        values = points.axes[name]
        assert values.dtype == dtype
        each, counts = np.unique(values.astype(str), return_counts=True)
        expected = 12_000 / len(each)
        chi_squared = np.sum((counts - expected) ** 2) / expected
        assert chi_squared < 16.3  # Exceeded once in a thousand times, with 3 degrees of freedom.
    together = np.corrcoef(points.axes["n"], points.axes["x"])[0, 1]
    assert abs(together) < 0.04


def test_draws_depend_only_on_key_count_and_name():
    beta, rate = uniform(0, 0.9), log_uniform(1e-3, 1)
    single = random_points(KEY, 50, beta=beta).axes["beta"]
    beside = random_points(KEY, 50, learning_rate=rate, x=[1, 2], beta=beta).axes
    np.testing.assert_array_equal(single, beside["beta"])
    np.testing.assert_array_equal(single, random_points(KEY, 50, beta=beta).axes["beta"])
    other = random_points(jax.random.key(1), 50, beta=beta).axes["beta"]
    assert (single != other).all()
    named = random_points(KEY, 50, nu=beta, beta=beta).axes
    assert abs(np.corrcoef(named["nu"], named["beta"])[0, 1]) < 0.4
    assert (named["nu"] != named["beta"]).all()
    old = random_points(jax.random.PRNGKey(0), 50, beta=beta).axes["beta"]
    np.testing.assert_array_equal(single, old)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.floats(1e-9, 1e-3))
def test_float32_rounding_keeps_draws_inside_their_interval(seed, gap):
    distributions = uniform(0, 1 - gap), momentum_uniform(0.5, 1 - gap)
    for beta in distributions:
        if np.float32(1 - gap) == 1:
            with pytest.raises(ValueError, match=r"axis beta .* at index 1, which float32 rounds"):
                random_points(jax.random.key(seed), 9, beta=beta)
            continue
        drawn = random_points(jax.random.key(seed), 999, beta=beta).axes["beta"]
        assert drawn.dtype == np.float32
        assert (drawn <= np.float32(1 - gap)).all()
        assert (drawn < 1).all()


BAD_RANDOM = {
    "key": (lambda: random_points(3, 2, beta=[0.5]), TypeError, "key must be a random key, as jax"),
    "count": (lambda: random_points(KEY, 0, beta=[0.5]), ValueError, "count must be .* got 0"),
    "fraction": (lambda: random_points(KEY, 2.5, x=[1]), TypeError, "count must be .* got 2.5"),
    "bound": (
        lambda: random_points(KEY, 2, beta=uniform(0, 1.5)),
        ValueError,
        r"axis beta must be in \[0, 1\), got 1.5 at index 1",
    ),
    "bounds": (
        lambda: random_points(KEY, 2, learning_rate=uniform(-1, 1)),
        ValueError,
        r"axis learning_rate must be in \[0, inf\), got -1.0 at index 0",
    ),
    "turned": (lambda: uniform(1, 0), ValueError, "low must be below high, got low=1.0 and high="),
    "infinite": (lambda: uniform(0, math.inf), ValueError, "high must be in .*, got inf"),
    "word": (lambda: uniform("a", 1), TypeError, "low must be .* got 'a'"),
    "flag": (lambda: uniform(0, True), TypeError, "high must be .* got True"),
    "log of 0": (lambda: log_uniform(0, 1), ValueError, r"low must be in \(0, inf\), got 0.0"),
    "β of 1": (lambda: momentum_uniform(0, 1), ValueError, r"high must be in \[0, 1\), got 1.0"),
    "β below 0": (lambda: momentum_uniform(-0.1, 0.5), ValueError, "low must be in .* got -0.1"),
    "one": (lambda: momentum_axis(0, 0.9, 1), ValueError, "count must be .* at least 2, got 1"),
    "float": (lambda: momentum_axis(0, 0.9, 2.0), TypeError, "count must be .* got 2.0"),
    "equal": (lambda: momentum_axis(0.9, 0.9, 3), ValueError, "low must be below high"),
    "axis of 1": (lambda: momentum_axis(0, 1, 3), ValueError, "high must be in"),
}


@pytest.mark.parametrize("case", BAD_RANDOM)
def test_bad_arguments_of_draws_are_refused(case):
    make, error, text = BAD_RANDOM[case]
    with pytest.raises(error, match=text):
        make()


def test_cost_is_linear_in_the_number_of_points():
    # A quadratic cost would take hours here.
    drawn = random_points(KEY, 100_000, beta=uniform(0, 0.99), method=["a", "b"])
    assert len(drawn) == 100_000
    assert len(drawn.columns()["beta"]) == 100_000
    large = repeat(grid(x=np.arange(1000), y=np.arange(1000)), 1000)
    assert len(large) == 10**9
    assert large[10**9 - 1] == {"x": 999, "y": 999, "seed": 999}
    assert sum(1 for _ in itertools.islice(large, 1000)) == 1000
    words = [f"word {i}" for i in range(100_000)]
    assert len(zipped(word=words, i=range(100_000))) == 100_000
    assert len(grid(word=words)) == 100_000
