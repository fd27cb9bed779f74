"""Halving and population-based training against a loop in Python over the same points."""

import copy
import math
import pickle
import re
from functools import partial

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from jax.sharding import Mesh

import momentax
from momentax import grid, halve
from momentax.sweeps import (
    HalvingResult,
    log_uniform,
    mutate,
    random_points,
    repeat,
    uniform,
    zipped,
)
from tests.sweeps.halving import (
    NOISY,
    QUADRATIC,
    count_batch_shapes,
    halve_in_a_loop,
    quadratic_advance,
    quadratic_init,
    quadratic_score,
    quadratics,
    require_equal,
    scripted,
    shift,
    without_typed_keys,
)

RUNGS = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True).map(sorted)


KEEP = st.sampled_from([0.01, 0.25, 1 / 3, 0.5, 0.75, 0.99])


MODE = st.sampled_from(["min", "max"])


@given(st.integers(0, 1000), RUNGS, KEEP, MODE, st.sampled_from([2, 12]))
@settings(max_examples=30)
def test_halving_equals_the_loop_over_random_quadratics(seed, rungs, keep, mode, batch_size):
    points = quadratics(seed)
    result = halve(*QUADRATIC, points, rungs=rungs, keep=keep, mode=mode, batch_size=batch_size)
    require_equal(result, halve_in_a_loop(QUADRATIC, points, rungs, keep, mode))


NOISY_POINTS = {
    "seeds last": repeat(grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]), 2),
    "seeds first": grid(seed=[3, 1], learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]),
    "seeds between": grid(learning_rate=[0.1, 0.5, 1.0], seed=[5, 7], beta=[0.0, 0.7]),
    "seeds zipped": zipped(
        seed=range(6), learning_rate=[0.1, 0.5, 1.0] * 2, beta=[0.0, 0.7, 0.9, 0.3, 0.2, 0.1]
    ),
}


@pytest.mark.parametrize("name", NOISY_POINTS)
@settings(max_examples=5)
@given(RUNGS, KEEP, MODE, st.sampled_from([4, 12]), st.booleans())
def test_halving_equals_the_loop_over_noisy_runs_and_seeds(
    name, rungs, keep, mode, batch_size, is_resampled
):
    points = NOISY_POINTS[name]
    resample = mutate(jax.random.key(1)) if is_resampled else None
    options = {"rungs": rungs, "keep": keep, "mode": mode, "resample": resample}
    result = halve(*NOISY, points, batch_size=batch_size, **options)
    require_equal(result, halve_in_a_loop(NOISY, points, **options))


@given(st.integers(0, 1000), RUNGS, KEEP, MODE, st.sampled_from([2, 12]))
@settings(max_examples=15)
def test_population_based_training_equals_the_loop(seed, rungs, keep, mode, batch_size):
    points = quadratics(seed)
    options = {"rungs": rungs, "keep": keep, "mode": mode, "resample": shift}
    result = halve(*QUADRATIC, points, batch_size=batch_size, **options)
    found = halve_in_a_loop(QUADRATIC, points, **options)
    require_equal(result, found)
    if found["survivors"]:  # Otherwise no run continues from another.
        np.testing.assert_array_equal(result["parent"], found["parent"])
        for rung, runs in enumerate(found["settings"]):
            for axis in points.axes:
                here = result[f"settings.{axis}"][:, rung]
                np.testing.assert_array_equal(here, [run[axis] for run in runs])


# Contents of a state


def test_states_may_contain_optax_states():
    problem = momentax.problems.quadratic(np.diag([1.0, 0.1]))

    def optimizer(learning_rate, beta):
        return optax.chain(optax.clip(10.0), momentax.sgd(learning_rate, momentax.nesterov(beta)))

    def init(learning_rate, beta):
        return problem.start, optimizer(learning_rate, beta).init(problem.start)

    def advance(state, learning_rate, beta):
        params, state = state
        updates, state = optimizer(learning_rate, beta).update(
            jax.grad(problem.loss)(params), state
        )
        return optax.apply_updates(params, updates), state

    def score(state):
        return problem.loss(state[0])

    points = grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.6, 0.9])
    functions = init, advance, score
    result = halve(*functions, points, rungs=[3, 7, 20], keep=0.5, batch_size=4)
    require_equal(result, halve_in_a_loop(functions, points, [3, 7, 20], 0.5))
    (velocity,) = jax.tree.leaves(momentax.velocity(result.states[1]))
    assert velocity.shape == (len(result.survivors), 2)
    assert isinstance(velocity, np.ndarray)
    counts = [leaf for leaf in jax.tree.leaves(result.states) if leaf.dtype == np.int32]
    for count in counts:
        np.testing.assert_array_equal(count, 20)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_in_a_state_keep_their_implementation(impl, tmp_path):
    def init(x):
        return {"new": jax.random.key(3, impl=impl), "old": jax.random.PRNGKey(4), "x": x}

    def advance(state, x):
        new, draw = jax.random.split(state["new"])
        return {
            "new": new,
            "old": state["old"] + jnp.uint32(1),
            "x": state["x"] + jax.random.uniform(draw),
        }

    points = grid(x=[0.0, 1.0, 2.0, 3.0])
    results = [
        halve(init, advance, lambda s: s["x"], points, rungs=[2, 4], keep=0.5, store=store)
        for store in (None, tmp_path / "store")
    ]
    for result in results:
        assert result.states["new"].dtype == jax.random.key(0, impl=impl).dtype
        assert result.states["old"].dtype == np.uint32
    chex.assert_trees_all_equal(
        without_typed_keys(results[0].states), without_typed_keys(results[1].states)
    )
    if impl == "threefry2x32":  # Under vmap, JAX's other keys draw other numbers.
        require_equal(
            results[0], halve_in_a_loop((init, advance, lambda s: s["x"]), points, [2, 4], 0.5)
        )


def test_a_state_keeps_every_dtype_and_may_hold_python_numbers(tmp_path):
    def init(x):
        leaves = x.astype(jnp.bfloat16), x > 1, jnp.int8(3), jnp.zeros((0, 2)), None, ()
        return {"leaves": leaves, "steps": 0, "share": 0.5}

    def advance(state, x):
        return state | {"steps": state["steps"] + 1, "share": 0.5 * state["share"]}

    def score(state):
        return state["leaves"][0]  # It is bfloat16.

    points = grid(x=[3.0, 2.0, 1.0, 0.5])
    for store in (None, tmp_path):
        result = halve(init, advance, score, points, rungs=[1, 3], keep=0.5, store=store)
        leaves = result.states["leaves"]
        assert [leaf.dtype.name for leaf in leaves[:4]] == ["bfloat16", "bool", "int8", "float32"]
        assert leaves[3].shape == (2, 0, 2)
        np.testing.assert_array_equal(result.states["steps"], [3, 3])
        np.testing.assert_array_equal(result.states["share"], [1 / 16, 1 / 16])
        np.testing.assert_array_equal(result.survivors, [3, 2])


def test_a_state_may_be_empty_and_a_score_an_integer_or_constant():
    for nothing in (None, (), {}):
        result = halve(
            lambda x, n=nothing: n, lambda s, x: s, lambda s: 1.0, grid(x=[1, 2]), rungs=2
        )
        np.testing.assert_array_equal(result.survivors, [0])
        assert result.states == nothing
    points = grid(x=[1, 5, 3, 2])
    whole = halve(lambda x: 0 * x, lambda s, x: s + x, lambda s: s, points, rungs=2, mode="max")
    np.testing.assert_array_equal(
        whole["history"], [[1, np.nan], [5, 10], [3, np.nan], [2, np.nan]]
    )


def test_64_bits_are_kept(x64):
    points = grid(x=[1.0, 2.0])
    result = halve(lambda x: x, lambda s, x: s / 3, lambda s: s, points, rungs=1, keep=0.5)
    assert result.states.dtype == np.float64
    np.testing.assert_array_equal(result.states, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(result["score"], [1 / 3, 2 / 3])


def test_survivors_are_ordered_by_score():
    for mode, sign in (("min", 1), ("max", -1)):
        result = halve(*QUADRATIC, quadratics(5, high=0.5), rungs=[2, 6], keep=0.8, mode=mode)
        scores = result["score"][result.survivors]
        assert len(scores) == 9
        assert (np.diff(sign * scores) >= 0).all()
        states = jax.vmap(quadratic_score)(jax.tree.map(jnp.asarray, result.states))
        np.testing.assert_allclose(states, scores, rtol=1e-6)


def test_a_path_does_not_depend_on_the_other_points():
    points = quadratics(7)
    together = halve(*QUADRATIC, points, rungs=[3, 6, 9], keep=0.5, batch_size=4)
    for i in (*together.survivors, 0, 11):
        single = zipped(**{name: [value] for name, value in points[int(i)].items()})
        history = halve(*QUADRATIC, single, rungs=[3, 6, 9], batch_size=4)["history"][0]
        there = np.isfinite(together["history"][i])
        np.testing.assert_allclose(together["history"][i][there], history[there], rtol=1e-5)


def test_an_integer_n_means_rungs_1_to_n():
    points = quadratics(2)
    one, other = (halve(*QUADRATIC, points, rungs=rungs) for rungs in (3, [1, 2, 3]))
    chex.assert_trees_all_equal(one, other)
    for rungs in (np.int64(3), np.array([1, 2, 3]), range(1, 4), iter([1, 2, 3])):
        chex.assert_trees_all_equal(one, halve(*QUADRATIC, points, rungs=rungs))


def test_advance_is_traced_once_and_a_program_serves_all_rungs():
    chex.clear_trace_counter()
    points = quadratics(0, 16, 0.5)

    @chex.assert_max_traces(n=1)
    def advance(*args, **point):
        return quadratic_advance(*args, **point)

    @chex.assert_max_traces(n=1)
    def init(**point):
        return quadratic_init(**point)

    call = partial(halve, init, advance, quadratic_score, points, keep=0.5)
    assert call(rungs=[1, 4, 9, 11], batch_size=2).report.programs == 2
    assert call(rungs=[2, 3, 7], batch_size=2).report.programs == 2
    # Batches of 16, 8 and 4 members, and init for 16.
    assert call(rungs=[1, 5, 6], batch_size=16).report.programs == 4
    resampled = call(rungs=[1, 5, 6], batch_size=16, resample=shift)
    assert resampled.report.programs == 2
    assert (
        count_batch_shapes(advance, quadratic_score) == 4
    )  # For 2, 16, 8 and 4 points, whatever the rungs are.


def test_the_number_of_devices_makes_no_difference():
    assert jax.device_count() == 2
    points = quadratics(11, 7)
    call = partial(halve, *QUADRATIC, points, rungs=[2, 5, 9], keep=0.6, batch_size=4)
    results = [call(mesh=Mesh(np.array(jax.devices()[:count]), ("points",))) for count in (1, 2)]
    assert [result.report.devices for result in results] == [1, 2]
    np.testing.assert_array_equal(results[0].survivors, results[1].survivors)
    chex.assert_trees_all_close(*(r.values for r in results), rtol=1e-5)
    require_equal(results[1], halve_in_a_loop(QUADRATIC, points, [2, 5, 9], 0.6))


def test_functions_may_be_unhashable():
    class Unhashable:
        __hash__ = None

        def __init__(self, function):
            self.function = function

        def __call__(self, *args, **point):
            return self.function(*args, **point)

    points = quadratics(1)
    result = halve(*map(Unhashable, QUADRATIC), points, rungs=3)
    require_equal(result, halve_in_a_loop(QUADRATIC, points, [1, 2, 3]))


# The result


def test_a_result_is_a_tree_and_a_sweep_result():
    points = repeat(grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]), 2)
    result = halve(*NOISY, points, rungs=[2, 5], keep=0.5, mode="max")
    assert isinstance(result, momentax.sweeps.SweepResult)
    assert result.mode_of("score") == "max"
    assert result.mode_of("loss") == "min"
    reached = result["advanced"][..., 0] == 5
    assert result.best("score").value == result["score"].mean(-1)[reached].max()
    assert result.best("score", "min").value == result["score"].mean(-1)[reached].min()
    copied = jax.tree.map(lambda leaf: leaf, result)
    assert isinstance(copied, HalvingResult)
    assert copied.mode_of("score") == "max"
    chex.assert_trees_all_equal(without_typed_keys(copied), without_typed_keys(result))
    paths = {jax.tree_util.keystr(path[:1]) for path, _ in jax.tree.leaves_with_path(result)}
    assert paths == {".points", ".values", ".diverged", ".survivors", ".states"}
    again = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, halve_small())))
    assert again.mode_of("score") == "min"
    chex.assert_trees_all_equal(again, copy.deepcopy(again))
    assert repr(result).startswith("HalvingResult of 12 points")
    assert "score" in result._repr_html_()
    part = result.where(beta=0.7)
    assert isinstance(part, HalvingResult)
    assert part.survivors is None
    assert part.states is None
    assert part["history"].shape == (3, 1, 2, 2)
    assert result.over_seeds().mean["score"].shape == (3, 2)
    dataset = result.to_xarray()
    assert dataset["history"].dims == ("learning_rate", "beta", "seed", "history_dim_0")
    assert len(result.to_dataframe()) == 12


def test_the_best_score_is_among_those_that_advanced_furthest():
    functions, points = scripted([3, 9, 9], [1, 2, 5], [2, 4, 6], [4, 0, 0], [5, 0, 0])
    result = halve(*functions, points, rungs=[1, 3], keep=0.5)
    np.testing.assert_array_equal(result["score"], [3, 5, 6, 4, 5])
    assert [best["run"] for best in result.top("score", 9)] == [1, 2, 0, 3, 4]
    assert [best["run"] for best in result.top("score", 3, "max")] == [2, 1, 4]
    assert [best["run"] for best in result.top("advanced", 2, "max")] == [1, 2]
    assert result.best("score")["run"] == 1
    assert "best score: 5" in repr(result)
    with pytest.raises(ValueError, match="count must be a whole number"):
        result.top("score", 0)

    def scored(x, seed):
        return x + seed / 8

    for points in (repeat(grid(x=[0.0, 2.0]), 3), grid(seed=[0, 1, 2], x=[0.0, 2.0])):
        result = halve(scored, lambda s, x, seed: s + 4 * x, lambda s: s, points, rungs=2, keep=0.5)
        assert [best["x"] for best in result.top("score", 2)] == [0.0, 2.0]
        result = halve(scored, lambda s, x, seed: s - x, lambda s: s, points, rungs=2, keep=0.5)
        # After one advance both scores are 0, so the first point continued; -2 came later.
        np.testing.assert_array_equal(result["advanced"].max(), 2)
        assert [best["x"] for best in result.top("score", 2)] == [0.0, 2.0]


def halve_small():
    return halve(*QUADRATIC, quadratics(1), rungs=2)


# Errors


def same(state, **point):
    return state


BAD = {
    "init": ({"init": 3}, TypeError, "init must be a function from a point to a state, got 3"),
    "advance": (
        {"advance": "a"},
        TypeError,
        "advance must be a function from a state and a point to a state, got 'a'",
    ),
    "score": (
        {"score": None},
        TypeError,
        "score must be a function from a state to a number, got None",
    ),
    "resample": (
        {"resample": 1.25},
        TypeError,
        "resample must be a function from a rung, settings and points to settings, got 1.25",
    ),
    "points": (
        {"points": {"beta": [0.9]}},
        TypeError,
        "points must be momentax.sweeps.Points, such as momentax.grid",
    ),
    "no points": (
        {"points": None},
        TypeError,
        "points must be momentax.sweeps.Points, .*, got None",
    ),
    "static": (
        {"points": grid(beta=[0.1], method=["a", "b"])},
        TypeError,
        "halve needs points of numbers, and axis method holds others",
    ),
    "no rungs": ({"rungs": 0}, ValueError, "rungs must be a whole number, at least 1, got 0"),
    "empty rungs": ({"rungs": []}, ValueError, r"rungs must .* increase, at least one, got \[\]"),
    "rungs again": ({"rungs": [2, 2]}, ValueError, r"rungs must .* increase, .* got \[2, 2\]"),
    "rungs down": ({"rungs": [1, 4, 3]}, ValueError, r"increase, .* got \[1, 4, 3\]"),
    "rung 0": ({"rungs": [0, 2]}, ValueError, r"rungs\[0\] must be a whole number, at least 1"),
    "half a rung": ({"rungs": [1, 1.5]}, TypeError, r"rungs\[1\] must be a whole number, .* 1.5"),
    "float rungs": ({"rungs": 2.0}, TypeError, "rungs must be whole numbers, got 2.0"),
    "flag rungs": ({"rungs": True}, TypeError, "rungs must be whole numbers, got True"),
    "word rungs": ({"rungs": "123"}, TypeError, "rungs must be whole numbers, got '123'"),
    "keep 0": ({"keep": 0}, ValueError, r"keep must be in \(0, 1\), got 0"),
    "keep 1": ({"keep": 1}, ValueError, r"keep must be in \(0, 1\), got 1"),
    "keep nan": ({"keep": math.nan}, ValueError, r"keep must be in \(0, 1\), got nan"),
    "keep word": ({"keep": "half"}, TypeError, r"keep must be .* got 'half'"),
    "mode": ({"mode": "best"}, ValueError, "mode must be one of 'min', 'max', got 'best'"),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be a whole number, at least 1"),
    "progress": ({"progress": "no"}, TypeError, "progress must be True or False, got 'no'"),
    "mesh": ({"mesh": 2}, TypeError, "mesh must be a jax.sharding.Mesh"),
    "dtype": (
        {"advance": lambda s, **point: s | {"x": s["x"].astype(jnp.float16)}},
        TypeError,
        r"advance failed at the point problem=8, learning_rate=0.\d+, beta=0.\d+: TypeError: the "
        r"state must keep its structure, shapes and dtypes, and state\['x'\] was float32\[3\] and "
        r"becomes float16\[3\]$",
    ),
    "shape": (
        {"advance": lambda s, **point: s | {"v": s["v"][:2]}},
        TypeError,
        r"advance failed at .* state\['v'\] was float32\[3\] and becomes float32\[2\]$",
    ),
    "leaf less": (
        {"advance": lambda s, **point: {"x": s["x"], "v": s["v"]}},
        TypeError,
        r"state\['curvature'\] was an array and becomes nothing$",
    ),
    "leaf more": (
        {"advance": lambda s, **point: s | {"count": jnp.int32(0)}},
        TypeError,
        r"state\['count'\] was nothing and becomes an array$",
    ),
    "structure": (
        {
            "init": lambda **point: (jnp.ones(3),),
            "advance": lambda s, **point: [s[0]],
            "score": lambda s: s[0][0],
        },
        TypeError,
        "advance failed at .* dtypes, and state was a tuple and becomes a list$",
    ),
    "key": (
        {
            "init": lambda **point: jax.random.key(0),
            "advance": lambda s, **point: jax.random.key_data(s),
            "score": lambda s: 0.0,
        },
        TypeError,
        "the state must keep its structure, .* state was a RandomKey and becomes an array$",
    ),
    "not an array": (
        {"init": lambda **point: "word"},
        TypeError,
        "init failed at the point problem=8, .* not a valid JAX array type",
    ),
    "score shape": (
        {"score": lambda s: s["x"]},
        ValueError,
        r"score failed at the point problem=8, .* score must return one real number, got a traced "
        r"array of shape \(3,\) and dtype float32",
    ),
    "score bool": ({"score": lambda s: s["x"][0] > 0}, ValueError, "one real number, .* bool"),
    "score complex": (
        {"score": lambda s: jax.lax.complex(s["x"][0], s["x"][0])},
        ValueError,
        "one real number, .* complex64",
    ),
    "score none": ({"score": lambda s: None}, ValueError, "one real number, got None"),
    "score dict": ({"score": lambda s: {"loss": s["x"][0]}}, ValueError, "one real number, got {"),
    "score raises": ({"score": lambda s: 1 / 0}, RuntimeError, "score failed at .* division"),
    "advance raises": (
        {"advance": lambda s, **point: 1 / 0},
        RuntimeError,
        "advance failed at the point problem=8, .*: ZeroDivisionError: division by zero",
    ),
    "init raises": ({"init": lambda **point: {}["a"]}, RuntimeError, "init failed at .*KeyError"),
    "init untraceable": (
        {"init": lambda problem, learning_rate, beta: float(beta)},
        TypeError,
        "init failed at the point problem=8, .* ConcretizationTypeError",
    ),
    "advance untraceable": (
        {"advance": lambda s, beta, **point: s if beta > 0 else {}},
        TypeError,
        "advance failed at the point problem=8, .* TracerBoolConversionError",
    ),
    "arguments": (
        {"advance": lambda s, beta: s},
        TypeError,
        "advance failed at .* unexpected keyword argument",
    ),
    "mutated axis": (
        {"resample": mutate(jax.random.key(0), gamma=uniform(0, 1))},
        ValueError,
        "mutate has a range for gamma, and the axes of floating numbers are "
        r"\['learning_rate', 'beta'\]",
    ),
    "mutated whole number": (
        {"resample": mutate(jax.random.key(0), problem=uniform(0, 1))},
        ValueError,
        "mutate has a range for problem",
    ),
    "resample nothing": (
        {"resample": lambda rung, settings, points: None},
        TypeError,
        "resample failed after rung 0: it must return a dictionary of arrays, got None",
    ),
    "resample axes": (
        {"resample": lambda rung, settings, points: {"beta": settings["beta"]}},
        ValueError,
        r"it must return the axes \['problem', 'learning_rate', 'beta'\], got \['beta'\]",
    ),
    "resample outside": (
        {"resample": lambda rung, settings, points: settings | {"beta": settings["beta"] + 1}},
        ValueError,
        r"resample failed after rung 0: axis beta must be in \[0, 1\), got 1.\d+ at index 0",
    ),
    "resample too few": (
        {"resample": lambda rung, settings, points: settings | {"beta": [0.5]}},
        ValueError,
        "resample failed after rung 0: it must return 8 values for beta, got 1",
    ),
    "resample one": (
        {"resample": lambda rung, settings, points: settings | {"beta": 0.5}},
        ValueError,
        "resample failed after rung 0: axis beta must be a sequence",
    ),
    "resample words": (
        {"resample": lambda rung, settings, points: settings | {"problem": ["a"] * 8}},
        TypeError,
        "resample failed after rung 0: problem holds int32, and it returned object",
    ),
    "resample fractions": (
        {"resample": lambda rung, settings, points: settings | {"problem": np.full(8, 0.5)}},
        TypeError,
        "resample failed after rung 0: problem holds int32, and it returned float32",
    ),
    "resample nan": (
        {"resample": lambda rung, settings, points: settings | {"beta": np.full(8, np.nan)}},
        ValueError,
        "axis beta must be in .* got nan at index 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_error_says_what_is_wrong(case):
    change, error, text = BAD[case]
    init, advance, score = QUADRATIC
    mine = {"init": init, "advance": advance, "score": score, "points": quadratics(0), "rungs": 2}
    with pytest.raises(error) as caught:
        halve(**(mine | change))
    assert re.search(text, str(caught.value), re.DOTALL), caught.value


def test_random_points_can_be_halved():
    points = random_points(
        jax.random.key(0), 9, learning_rate=log_uniform(0.01, 1), beta=uniform(0, 0.9)
    )
    functions = (partial(f, problem=4) for f in (quadratic_init, quadratic_advance))
    functions = *functions, quadratic_score
    result = halve(*functions, points, rungs=[3, 9])
    require_equal(result, halve_in_a_loop(functions, points, [3, 9]))
