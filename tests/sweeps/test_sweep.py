"""Grids, and the sweep against a Python loop over the same points."""

import copy
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import grid, sweep

PROBLEM = momentax.problems.rosenbrock()


def run(learning_rate, beta):
    tx = momentax.sgd(learning_rate, momentax.nesterov(beta))
    result = momentax.rollout(PROBLEM.loss, PROBLEM.start, tx, 50, record=("loss", "params"))
    return {"params": result.params, "history": result.history}


def test_equals_a_loop_over_the_same_points():
    points = grid(learning_rate=[1e-4, 5e-4, 1e-3], beta=[0.0, 0.5, 0.9, 0.95])
    swept = sweep(run, points)
    chex.assert_tree_shape_prefix(swept, (3, 4))
    for i, learning_rate in enumerate(points.axes["learning_rate"]):
        for j, beta in enumerate(points.axes["beta"]):
            single = run(jnp.asarray(learning_rate), jnp.asarray(beta))
            here = jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], swept)
            chex.assert_trees_all_close(here, single, rtol=1e-6, atol=1e-7)


def test_every_point_is_its_own_axes_values():
    points = grid(a=[1, 2], b=[0.5, 1.5, 2.5], c=[7.0])
    swept = sweep(lambda **point: point | {"constant": jnp.ones(2)}, points)
    assert points.shape == (2, 3, 1)
    np.testing.assert_array_equal(swept["a"][:, 0, 0], [1, 2])
    np.testing.assert_array_equal(swept["b"][0, :, 0], [0.5, 1.5, 2.5])
    assert swept["a"].dtype == jnp.int32
    assert swept["b"].dtype == jnp.float32
    assert swept["constant"].shape == (2, 3, 1, 2)


def test_one_program_whatever_the_number_of_points():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted(beta):
        # Inside jit even what no point enters is traced; vmap alone would have computed it.
        assert isinstance(jnp.zeros(()) + 1, jax.core.Tracer)
        return beta

    sweep(counted, grid(beta=np.linspace(0, 0.99, 100)))


def test_axes_stay_float64_in_64_bits():
    with jax.enable_x64(True):
        assert sweep(lambda beta: beta, grid(beta=[0.9]))[0] == np.float64(0.9)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_axes_are_float32_whatever_came(dtype):
    points = grid(beta=np.array([0.25, 0.5], dtype), x=jnp.array([1, 2], jnp.int8))
    assert points.axes["beta"].dtype == np.float32
    assert points.axes["x"].dtype == np.int8
    np.testing.assert_array_equal(points.axes["beta"], [0.25, 0.5])


def test_a_grid_can_be_pickled_and_copied():
    points = grid(learning_rate=[0.1, 0.2], beta=[0.9])
    for again in (pickle.loads(pickle.dumps(points)), copy.deepcopy(points)):
        assert list(again.axes) == list(points.axes)
        chex.assert_trees_all_equal(dict(again.axes), dict(points.axes))
        with pytest.raises(TypeError):
            again.axes["beta"] = np.zeros(1)


def test_a_diverged_point_does_not_touch_the_others():
    points = grid(learning_rate=[5e-4, 1e3], beta=[0.9])
    loss = sweep(run, points)["history"]["loss"]
    assert jnp.isfinite(loss[0]).all()
    assert not jnp.isfinite(loss[1]).all()


BAD = {
    "none": ({}, ValueError, "grid needs at least one axis"),
    "scalar": ({"beta": 0.9}, ValueError, r"axis beta must be a sequence .* beta=\[value\]"),
    "empty": ({"beta": []}, ValueError, r"axis beta must be a sequence of at least one value"),
    "matrix": ({"x": np.ones((2, 2))}, ValueError, r"axis x must be .*shape \(2, 2\)"),
    "words": ({"method": ["nesterov"]}, TypeError, "axis method must hold numbers"),
    "bools": ({"nesterov": [True]}, TypeError, "axis nesterov must hold numbers"),
    "β": ({"beta": [0.5, 1.0]}, ValueError, r"axis beta must be in \[0, 1\), got 1.0 at index 1"),
    "α": (
        {"learning_rate": [0.1, 0.0]},
        ValueError,
        r"axis learning_rate must be in \(0, inf\), got 0.0 at index 1",
    ),
    "nan": ({"x": [0.0, np.nan]}, ValueError, r"axis x must be in .*, got nan at index 1"),
    "again": ({"beta": [0.5, 0.9, 0.5]}, ValueError, "must not repeat a value, got 0.5 again at 2"),
    "wide": ({"x": [3_000_000_000]}, ValueError, "axis x holds whole numbers that int32 cannot"),
    "rounding": ({"beta": [0.9999999999]}, ValueError, r"got 0.9999999999 at index 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_axes(case):
    axes, error, text = BAD[case]
    with pytest.raises(error, match=text):
        grid(**axes)


def test_bad_arguments_of_sweep():
    with pytest.raises(TypeError, match="points must be a grid"):
        sweep(run, {"beta": [0.9]})
    with pytest.raises(TypeError, match="run must be a function of a point, got 3"):
        sweep(3, grid(beta=[0.9]))
