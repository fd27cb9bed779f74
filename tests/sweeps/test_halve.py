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
    Distribution,
    HalvingResult,
    Mutation,
    _tracing,
    log_uniform,
    momentum_uniform,
    mutate,
    random_points,
    repeat,
    uniform,
    zipped,
)
from momentax.sweeps._ledger import Ledger
from momentax.sweeps._race import Race

# Problems: functions init, advance and score, at the top so that their programs are kept.


def quadratic_init(problem, learning_rate, beta):
    return {
        "x": jax.random.normal(jax.random.key(problem), (3,)),
        "v": jnp.zeros(3),
        "curvature": jax.random.uniform(jax.random.key(problem + 1), (3,), minval=0.1, maxval=3.0),
    }


def quadratic_advance(state, problem, learning_rate, beta):
    v = beta * state["v"] + state["curvature"] * state["x"]
    return state | {"v": v, "x": state["x"] - learning_rate * v}


def quadratic_score(state):
    return jnp.sum(state["curvature"] * state["x"] ** 2) / 2


def noisy_init(learning_rate, beta, seed):
    start, walk = jax.random.split(jax.random.key(seed))
    return 3 + jax.random.normal(start, (2,)), jnp.zeros(2), {"key": walk}


def noisy_advance(state, learning_rate, beta, seed):
    x, v, keys = state
    key, now = jax.random.split(keys["key"])
    v = beta * v + x + 0.3 * jax.random.normal(now, (2,))
    return x - learning_rate * v, v, {"key": key}


def noisy_score(state):
    return jnp.sum(state[0] ** 2)


QUADRATIC = quadratic_init, quadratic_advance, quadratic_score
NOISY = noisy_init, noisy_advance, noisy_score
JITTED = {f: jax.jit(f) for f in (*QUADRATIC, *NOISY)}


def looped(problem, points, rungs, keep=1 / 3, mode="min", resample=None):
    """What `halve` finds, one run after the other."""
    init, advance, score = (JITTED.get(f, f) for f in problem)
    runs = list(points)
    states = [init(**run) for run in runs]
    count = len(runs)
    found = {
        "score": np.full(count, np.nan),
        "advanced": np.zeros(count, int),
        "history": np.full((count, len(rungs)), np.nan),
        "parent": np.tile(np.arange(count)[:, None], len(rungs)),
        "settings": [],
    }
    together = {}  # The runs that are one setting, by its values without the seed.
    for i, run in enumerate(runs):
        apart = () if "seed" in run else (i,)
        name = *apart, *(float(value) for axis, value in run.items() if axis != "seed")
        together.setdefault(name, []).append(i)
    running, done = list(together.values()), 0

    def worth(group):
        scores = [found["score"][i] for i in group]
        if not all(map(math.isfinite, scores)):
            return math.inf
        return (1 if mode == "min" else -1) * sum(scores) / len(scores)

    for rung, end in enumerate(rungs):
        found["settings"].append([dict(run) for run in runs])
        for i in (i for group in running for i in group):
            for _ in range(done, end):
                states[i] = advance(states[i], **runs[i])
            found["score"][i] = found["history"][i, rung] = float(score(states[i]))
            found["advanced"][i] = end
        done = end
        order = sorted(running, key=worth)
        if rung == len(rungs) - 1:
            break
        best = [group for group in order if worth(group) < math.inf]
        best = best[: max(1, math.floor(keep * len(order) + 1e-9))]
        others = order[len(best) :]
        if resample is None or not best:
            running = sorted(best)
        elif others:
            parents = [best[i % len(best)] for i in range(len(others))]
            axes = [axis for axis in runs[0] if axis != "seed"]
            before = {axis: np.array([runs[p[0]][axis] for p in parents]) for axis in axes}
            new = resample(rung, before, points)
            copied = list(states)
            for k, (group, parent) in enumerate(zip(others, parents, strict=True)):
                for i, j in zip(group, parent, strict=True):
                    copied[i] = states[j]
                    found["parent"][i, rung + 1] = j
                    runs[i] = runs[i] | {axis: np.float32(new[axis][k]) for axis in axes}
            states = copied
    found["diverged"] = ~np.isfinite(found["score"])
    found["survivors"] = [i for group in order for i in group if not found["diverged"][i]]
    found["states"] = [states[i] for i in found["survivors"]]
    return found


def plain(tree):
    """A tree without typed keys, for comparisons."""
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
            else np.asarray(leaf)
        ),
        tree,
    )


def require_equal(result, found):
    """A result of `halve` is what the loop found, to round-off."""
    shape = result.points.shape
    np.testing.assert_array_equal(result["advanced"], found["advanced"].reshape(shape))
    np.testing.assert_array_equal(result.diverged, found["diverged"].reshape(shape))
    np.testing.assert_array_equal(result.survivors, found["survivors"])
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
    ordinary = ~result.diverged
    close(result["score"][ordinary], found["score"].reshape(shape)[ordinary])
    history = found["history"].reshape(*shape, -1)
    np.testing.assert_array_equal(
        np.isnan(result["history"][ordinary]), np.isnan(history[ordinary])
    )
    close(result["history"][ordinary], history[ordinary])
    if not found["states"]:
        assert result.states is None
        return
    for k, state in enumerate(found["states"]):
        here = jax.tree.map(lambda leaf, k=k: leaf[k], result.states)
        chex.assert_trees_all_equal_structs(here, state)
        chex.assert_trees_all_close(plain(here), plain(state), rtol=2e-4, atol=1e-5)


def quadratics(seed, count=12, high=1.5):
    rng = np.random.default_rng(seed)
    return zipped(
        problem=rng.integers(0, 10, count),
        learning_rate=rng.uniform(0.01, high, count),
        beta=rng.uniform(0, 0.95, count),
    )


RUNGS = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True).map(sorted)
KEEP = st.sampled_from([0.01, 0.25, 1 / 3, 0.5, 0.75, 0.99])
MODE = st.sampled_from(["min", "max"])


@given(st.integers(0, 1000), RUNGS, KEEP, MODE, st.sampled_from([2, 4, 12]))
@settings(max_examples=30)
def test_halving_is_the_loop_over_random_quadratics(seed, rungs, keep, mode, batch_size):
    points = quadratics(seed)
    result = halve(*QUADRATIC, points, rungs=rungs, keep=keep, mode=mode, batch_size=batch_size)
    require_equal(result, looped(QUADRATIC, points, rungs, keep, mode))


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
def test_halving_is_the_loop_over_noisy_runs_and_seeds(name, rungs, keep, mode, batch_size, breed):
    points = NOISY_POINTS[name]
    resample = mutate(jax.random.key(1)) if breed else None
    options = {"rungs": rungs, "keep": keep, "mode": mode, "resample": resample}
    result = halve(*NOISY, points, batch_size=batch_size, **options)
    require_equal(result, looped(NOISY, points, **options))


def shifted(rung, settings, points):
    """A resample without chance: it depends on all that it is given."""
    share = np.linspace(0, 1, len(settings["beta"]), dtype=np.float32)
    return settings | {
        "beta": np.clip(settings["beta"] * 0.9 + 0.02 * rung * share, 0, 0.95),
        "learning_rate": np.float32(settings["learning_rate"] * (0.8 + 0.1 * share)),
    }


@given(st.integers(0, 1000), RUNGS, KEEP, MODE, st.sampled_from([4, 12]))
@settings(max_examples=15)
def test_population_based_training_is_the_loop(seed, rungs, keep, mode, batch_size):
    points = quadratics(seed)
    options = {"rungs": rungs, "keep": keep, "mode": mode, "resample": shifted}
    result = halve(*QUADRATIC, points, batch_size=batch_size, **options)
    found = looped(QUADRATIC, points, **options)
    require_equal(result, found)
    if found["survivors"]:  # Otherwise nothing is bred any more.
        np.testing.assert_array_equal(result["parent"], found["parent"])
        for rung, runs in enumerate(found["settings"]):
            for axis in points.axes:
                here = result[f"settings.{axis}"][:, rung]
                np.testing.assert_array_equal(here, [run[axis] for run in runs])


# What a state may hold.


def test_states_of_optax_go_along():
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
    require_equal(result, looped(functions, points, [3, 7, 20], 0.5))
    (velocity,) = jax.tree.leaves(momentax.velocity(result.states[1]))
    assert velocity.shape == (len(result.survivors), 2)
    assert isinstance(velocity, np.ndarray)
    counts = [leaf for leaf in jax.tree.leaves(result.states) if leaf.dtype == np.int32]
    for count in counts:
        np.testing.assert_array_equal(count, 20)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_in_a_state_stay_keys_of_their_kind(impl, tmp_path):
    def init(x):
        return {"new": jax.random.key(3, impl=impl), "old": jax.random.PRNGKey(4), "x": x}

    def advance(state, x):
        new, draw = jax.random.split(state["new"])
        return {
            "new": new,
            "old": jax.random.split(state["old"])[0],
            "x": state["x"] + jax.random.normal(draw),
        }

    points = grid(x=[0.0, 1.0, 2.0, 3.0])
    results = [
        halve(init, advance, lambda s: s["x"], points, rungs=[2, 4], keep=0.5, store=store)
        for store in (None, tmp_path / "store")
    ]
    for result in results:
        assert result.states["new"].dtype == jax.random.key(0, impl=impl).dtype
        assert result.states["old"].dtype == np.uint32
    chex.assert_trees_all_equal(plain(results[0].states), plain(results[1].states))
    if impl == "threefry2x32":  # The draws of others are, in JAX, not the same under vmap.
        require_equal(results[0], looped((init, advance, lambda s: s["x"]), points, [2, 4], 0.5))


def test_a_state_keeps_every_dtype_and_may_hold_python_numbers(tmp_path):
    def init(x):
        leaves = x.astype(jnp.bfloat16), x > 1, jnp.int8(3), jnp.zeros((0, 2)), None, ()
        return {"leaves": leaves, "steps": 0, "share": 0.5}

    def advance(state, x):
        return state | {"steps": state["steps"] + 1, "share": 0.5 * state["share"]}

    def score(state):
        return state["leaves"][0]  # bfloat16.

    points = grid(x=[3.0, 2.0, 1.0, 0.5])
    for store in (None, tmp_path):
        result = halve(init, advance, score, points, rungs=[1, 3], keep=0.5, store=store)
        leaves = result.states["leaves"]
        assert [leaf.dtype.name for leaf in leaves[:4]] == ["bfloat16", "bool", "int8", "float32"]
        assert leaves[3].shape == (2, 0, 2)
        np.testing.assert_array_equal(result.states["steps"], [3, 3])
        np.testing.assert_array_equal(result.states["share"], [1 / 16, 1 / 16])
        np.testing.assert_array_equal(result.survivors, [3, 2])


def test_a_state_may_be_empty_and_a_score_whole_or_constant():
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


def test_64_bits_stay(x64):
    points = grid(x=[1.0, 2.0])
    result = halve(lambda x: x, lambda s, x: s / 3, lambda s: s, points, rungs=1, keep=0.5)
    assert result.states.dtype == np.float64
    np.testing.assert_array_equal(result.states, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(result["score"], [1 / 3, 2 / 3])


# Who goes on.


def scripted(*scores):
    """Runs whose score after each advance is given, one row of the scores a run."""
    table = jnp.asarray(scores, jnp.float32)

    def init(run):
        return run, jnp.int32(0)

    def advance(state, run):
        return state[0], state[1] + 1

    def score(state):
        return table[state[0], state[1] - 1]

    return (init, advance, score), grid(run=range(len(scores)))


def test_of_equal_scores_the_first_goes_on():
    functions, points = scripted([1, 4], [0, 4], [1, 3], [0, 4], [0, 4])
    result = halve(*functions, points, rungs=2, keep=0.6)
    np.testing.assert_array_equal(result["advanced"], [1, 2, 1, 2, 2])
    np.testing.assert_array_equal(result.survivors, [1, 3, 4])
    functions, points = scripted(*[[7, 7, 7]] * 9)
    result = halve(*functions, points, rungs=3)
    np.testing.assert_array_equal(result["advanced"], [3, 2, 2, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(result.survivors, [0])


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("breed", [False, True])
def test_what_diverged_never_goes_on_nor_survives(lost, mode, breed):
    functions, points = scripted(
        [0, lost, 0], [1, 1, lost], [lost, 0, 0], [2, 2, 2], [lost] * 3, [3, 3, 3]
    )
    resample = (lambda rung, settings, points: settings) if breed else None
    options = {"rungs": 3, "keep": 0.99, "mode": mode, "resample": resample}
    result = halve(*functions, points, **options)
    require_equal(result, looped(functions, points, [1, 2, 3], 0.99, mode, resample))
    if breed:
        parents = result["parent"][:, 1:]
        assert np.isfinite(np.take_along_axis(result["history"][:, :2], parents, 0)).all()
    else:
        np.testing.assert_array_equal(result["advanced"], [2, 3, 1, 3, 1, 3])
        np.testing.assert_array_equal(result.diverged, [True, True, True, False, True, False])
        np.testing.assert_array_equal(result.survivors, [3, 5] if mode == "min" else [5, 3])


@pytest.mark.parametrize("breed", [False, True])
@pytest.mark.parametrize("rung", [0, 1, 2])
def test_all_may_diverge_at_any_rung(rung, breed):
    row = [1.0] * 3
    row[rung] = np.nan
    functions, points = scripted(*[row] * 4)
    resample = (lambda rung, settings, points: settings) if breed else None
    result = halve(*functions, points, rungs=3, keep=0.99, resample=resample)
    assert result.states is None
    assert result.survivors.shape == (0,)
    lost = 4 if breed else [4, 3, 2][rung]
    assert np.count_nonzero(result.diverged) == lost
    np.testing.assert_array_equal(result["advanced"].max(), rung + 1)
    assert np.isnan(result["history"][:, rung + 1 :]).all()
    with pytest.raises(ValueError, match="history cannot be ranked"):
        result.best("history")


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_a_setting_of_which_a_seed_diverged_does_not_go_on(lost):
    def init(x, seed):
        return x

    def advance(state, x, seed):
        return jnp.where((x == 0) & (seed == 1), lost, state)

    def score(state):
        return state

    points = repeat(grid(x=[0.0, 1.0, 2.0]), 3)
    result = halve(init, advance, score, points, rungs=2, keep=0.5)
    np.testing.assert_array_equal(result["advanced"], [[1, 1, 1], [2, 2, 2], [1, 1, 1]])
    np.testing.assert_array_equal(result.survivors, [3, 4, 5])
    alone = halve(init, advance, score, repeat(grid(x=[0.0]), 3), rungs=2)
    assert not len(alone.survivors)
    at_the_end = halve(init, advance, score, points, rungs=1)
    # The other seeds of a setting have their states, after all settings that are whole.
    np.testing.assert_array_equal(at_the_end.survivors, [3, 4, 5, 6, 7, 8, 0, 2])


def test_one_always_survives_and_one_point_is_enough():
    result = halve(*QUADRATIC, quadratics(0, high=0.5), rungs=4, keep=1e-9)
    np.testing.assert_array_equal(np.sort(result["advanced"]), [1] * 11 + [4])
    one = zipped(problem=[0], learning_rate=[0.1], beta=[0.5])
    for resample in (None, mutate(jax.random.key(0)), shifted):
        result = halve(*QUADRATIC, one, rungs=[2, 5], resample=resample)
        require_equal(result, looped(QUADRATIC, one, [2, 5], resample=resample))
        assert result["advanced"] == [5]
    seeds = grid(seed=[0, 1, 2])
    constants = {"learning_rate": 0.1, "beta": 0.5}
    only = halve(
        lambda seed: noisy_init(seed=seed, **constants),
        lambda s, seed: noisy_advance(s, seed=seed, **constants),
        noisy_score,
        seeds,
        rungs=3,
    )
    np.testing.assert_array_equal(only["advanced"], [3, 3, 3])  # One setting, its seeds together.


def test_the_budget_is_that_of_successive_halving():
    points = zipped(problem=range(27), learning_rate=[0.1] * 27, beta=[0.5] * 27)
    result = halve(*QUADRATIC, points, rungs=[1, 3, 9, 27], keep=1 / 3)
    reached = np.isfinite(result["history"]).sum(0)
    np.testing.assert_array_equal(reached, [27, 9, 3, 1])
    np.testing.assert_array_equal(reached * np.diff([0, 1, 3, 9, 27]), [27, 18, 18, 18])
    assert result["advanced"].sum() == 81  # Of 729 for all.


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.29, 1 / 3, 0.5, 0.57, 0.7, 0.9])
def test_the_whole_share_goes_on(keep):
    share = (1, 3) if keep == 1 / 3 else (round(100 * keep), 100)
    for count in range(1, 151):
        race = Race(grid(run=range(count)), 3, keep, 1, None)
        expected = race.total()
        for rung in range(3):
            scores = np.random.default_rng(rung).random(count)
            race.judge(rung, rung + 1, scores, np.zeros(count, bool))
        sizes = [count]
        for _ in range(2):  # In whole numbers, so that no rounding cuts one.
            sizes.append(max(1, sizes[-1] * share[0] // share[1]))
        np.testing.assert_array_equal(np.isfinite(race.history).sum(0), sizes)
        assert expected == sum(sizes)  # What a bar of the progress counts to.


def test_the_order_of_the_survivors_is_that_of_their_scores():
    for mode, sign in (("min", 1), ("max", -1)):
        result = halve(*QUADRATIC, quadratics(5, high=0.5), rungs=[2, 6], keep=0.8, mode=mode)
        scores = result["score"][result.survivors]
        assert len(scores) == 9
        assert (np.diff(sign * scores) >= 0).all()
        states = jax.vmap(quadratic_score)(jax.tree.map(jnp.asarray, result.states))
        np.testing.assert_allclose(states, scores, rtol=1e-6)


def test_a_path_does_not_depend_on_who_else_is_there():
    points = quadratics(7)
    together = halve(*QUADRATIC, points, rungs=[3, 6, 9], keep=0.5, batch_size=4)
    for i in (*together.survivors, 0, 11):
        alone = zipped(**{name: [value] for name, value in points[int(i)].items()})
        history = halve(*QUADRATIC, alone, rungs=[3, 6, 9], batch_size=4)["history"][0]
        there = np.isfinite(together["history"][i])
        np.testing.assert_allclose(together["history"][i][there], history[there], rtol=1e-5)


def test_a_number_of_rungs_means_each_of_them():
    points = quadratics(2)
    one, other = (halve(*QUADRATIC, points, rungs=rungs) for rungs in (3, [1, 2, 3]))
    chex.assert_trees_all_equal(one, other)
    for rungs in (np.int64(3), np.array([1, 2, 3]), range(1, 4), iter([1, 2, 3])):
        chex.assert_trees_all_equal(one, halve(*QUADRATIC, points, rungs=rungs))


# Population-based training.


@given(
    st.integers(0, 2**31 - 1),
    st.floats(1.001, 1e6),
    st.integers(0, 5),
    st.lists(st.floats(0, 1), min_size=1, max_size=9),
    st.tuples(st.floats(1e-6, 10), st.floats(1.01, 1e4)),
    st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.99)),
)
def test_a_mutation_stays_inside_its_range_and_moves_by_its_factor(
    seed, factor, rung, shares, rate, share
):
    low, high = rate[0], rate[0] * rate[1]
    beta = momentum_uniform(share[0], share[0] + (1 - share[0]) * share[1] * 0.999)
    ranges = {
        "learning_rate": log_uniform(low, high),
        "beta": beta,
        "x": uniform(-low, high),
    }
    points = grid(learning_rate=[low], beta=[0.5], x=[0.0], y=[7.0])
    before = {name: inside.at(np.array(shares)) for name, inside in ranges.items()}
    before |= {"y": np.full(len(shares), 7.0)}
    change = mutate(jax.random.key(seed), factor=factor, **ranges)
    after = change(rung, before, points)
    assert list(after) == list(before)
    np.testing.assert_array_equal(after["y"], before["y"])
    with np.errstate(all="ignore"):
        moved = {
            "learning_rate": [before["learning_rate"] * factor, before["learning_rate"] / factor],
            "beta": [1 - (1 - before["beta"]) * factor, 1 - (1 - before["beta"]) / factor],
            "x": [before["x"] + s * (factor - 1) * (high + low) for s in (1, -1)],
        }
    for name, inside in ranges.items():
        assert ((after[name] >= inside.low) & (after[name] <= inside.high)).all()
        either = np.clip(moved[name], inside.low, inside.high)
        near = np.isclose(after[name], either, rtol=1e-6, atol=1e-9 * inside.high)
        assert near.any(0).all(), (name, after[name], either)
    again = mutate(jax.random.key(seed), factor=factor, **ranges)(rung, before, points)
    chex.assert_trees_all_equal(after, again)


def test_mutations_go_both_ways_and_differ_by_key_rung_and_axis():
    points = grid(learning_rate=[0.01, 1.0], beta=[0.0, 0.99])
    before = {"learning_rate": np.full(200, 0.1), "beta": np.full(200, 0.9)}
    seen = []
    for key in (0, 1):
        for rung in (0, 1):
            after = mutate(jax.random.key(key))(rung, before, points)
            seen += [tuple(after[name] > before[name]) for name in before]
    assert len(set(seen)) == 8
    for ups in seen:
        assert 70 < sum(ups) < 130
    assert {x.round(6) for x in after["learning_rate"]} == {0.125, 0.08}
    assert {x.round(6) for x in after["beta"]} == {0.875, 0.92}


def test_without_ranges_floating_axes_change_between_their_ends():
    points = repeat(grid(learning_rate=[0.1, 0.4], beta=[0.5], n=[1, 5], x=[-1.0, 1.0]), 2)
    before = {name: values for name, values in points.columns().items() if name != "seed"}
    after = mutate(jax.random.key(0), factor=100.0)(3, before, points)
    assert set(after["learning_rate"].astype(np.float32)) == set(points.axes["learning_rate"])
    assert set(after["x"]) == {-1.0, 1.0}
    for name in ("beta", "n"):
        np.testing.assert_array_equal(after[name], before[name])
    mutation = mutate(jax.random.key(0))
    assert mutation == mutate(jax.random.key(0))
    assert mutation != mutate(jax.random.key(1))
    assert isinstance(mutation, Mutation)
    assert mutation.ranges is None
    assert mutation.factor == 1.25
    assert pickle.loads(pickle.dumps(mutation)) == mutation


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_bred_settings_stay_inside_the_ranges_and_clones_go_on_from_their_parents(seed):
    points = quadratics(seed)
    ranges = {"learning_rate": log_uniform(0.02, 0.7), "beta": momentum_uniform(0.1, 0.9)}
    resample = mutate(jax.random.key(seed), factor=1.7, **ranges)
    rungs = [2, 4, 6, 8]
    result = halve(*QUADRATIC, points, rungs=rungs, keep=0.4, batch_size=12, resample=resample)
    chex.assert_trees_all_equal(
        result,
        halve(*QUADRATIC, points, rungs=rungs, keep=0.4, batch_size=12, resample=resample),
    )
    parent = result["parent"]
    for name, inside in ranges.items():
        chosen = result[f"settings.{name}"]
        assert chosen.dtype == np.float32
        bred = chosen[parent != np.arange(12)[:, None]]
        assert len(bred)
        assert (bred >= np.float32(inside.low)).all()
        assert (bred <= np.float32(inside.high)).all()
        np.testing.assert_array_equal(chosen[:, 0], points.axes[name])
        untouched = parent[:, 1:] == np.arange(12)[:, None]
        np.testing.assert_array_equal(chosen[:, 1:][untouched], chosen[:, :-1][untouched])
    _, advance, score = (JITTED[f] for f in QUADRATIC)
    for place in range(12):  # Every run of the last rung, along its parents from the beginning.
        line = [place]
        for rung in (3, 2, 1):
            line.append(parent[line[-1], rung])
        line = line[::-1]
        # The state is that of the first parent; the problem goes with the settings.
        state = JITTED[quadratic_init](**points[int(line[0])])
        for rung, here in enumerate(line):
            run = {axis: result[f"settings.{axis}"][here, rung] for axis in points.axes}
            for _ in range(2):
                state = advance(state, **run)
            if np.isfinite(result["history"][here, rung]):
                np.testing.assert_allclose(
                    result["history"][here, rung], score(state), rtol=2e-4, atol=1e-6
                )


def test_the_best_settings_are_bred_from_in_turn():
    functions, points = scripted([5, 0], [1, 0], [4, 0], [2, 0], [3, 0], [6, 0], [7, 0])
    result = halve(
        *functions, points, rungs=2, keep=0.3, resample=lambda rung, settings, points: settings
    )
    # Of 7 runs 2 are best, 1 and 3; the others, best first, are 4, 2, 0, 5, 6.
    np.testing.assert_array_equal(result["parent"][:, 1], [1, 1, 3, 3, 1, 3, 1])
    np.testing.assert_array_equal(result["settings.run"][:, 1], [1, 1, 3, 3, 1, 3, 1])
    np.testing.assert_array_equal(result["advanced"], 2)


def falling_init(beta, seed):
    return jnp.float32(20.0), jnp.float32(0.0), jax.random.key(seed)


def falling_advance(state, beta, seed):
    x, v, key = state
    key, now = jax.random.split(key)
    v = beta * v + x + 3 * jax.random.normal(now)
    return x - 0.02 * v, v, key


def falling_score(state):
    return state[0] ** 2


def expected_score(betas):
    """The mean of falling_score after a course of β, by the recurrence of the second moments."""
    moments = np.diag([20.0**2, 0.0])  # Of x and v.
    for beta in betas:
        step = np.array([[1 - 0.02, -0.02 * beta], [1.0, beta]])
        noise = np.array([[-0.02 * 3], [3.0]])
        moments = step @ moments @ step.T + noise @ noise.T
    return moments[0, 0]


def test_breeding_beats_every_fixed_beta_where_the_best_one_changes():
    # Far from the minimum much momentum is faster, and near it noise weighs 1/(1 - β): no β is
    # best throughout. 32 seeds for each, so that little luck is bred from.
    points = repeat(grid(beta=momentax.sweeps.momentum_axis(0.01, 0.95, 12)), 32)
    resample = mutate(jax.random.key(0), factor=2.0)
    functions = falling_init, falling_advance, falling_score
    result = halve(*functions, points, rungs=range(8, 97, 8), keep=0.5, resample=resample)
    place = result.survivors[0]
    course = []
    for rung in reversed(range(12)):  # Back along the parents.
        course += [result["settings.beta"].reshape(-1, 12)[place, rung]] * 8
        place = result["parent"].reshape(-1, 12)[place, rung]
    course = course[::-1]
    assert course[0] > 0.7 > 0.4 > course[-1]
    fixed = min(expected_score([beta] * 96) for beta in np.linspace(0, 0.95, 500))
    assert expected_score(course) < 0.8 * fixed
    # And the score that it was judged by was no luck.
    assert result.best("score").value == pytest.approx(expected_score(course), rel=0.6)


# Stores, programs, devices.


class StoppedError(Exception):
    """What a test throws in the middle."""


def shapes(advance, score):
    """How many batch shapes an advance was compiled for."""
    program = _tracing._programs[advance]["advance", score]
    return sum(batched._cache_size() for _, batched in program._batched.values())


def stop_after(monkeypatch, batches):
    keep, left = Ledger.keep, [batches]

    def stopping(self, index, out):
        if not left[0]:
            raise StoppedError
        left[0] -= 1
        return keep(self, index, out)

    monkeypatch.setattr(Ledger, "keep", stopping)


@pytest.mark.parametrize("resample", [None, mutate(jax.random.key(2))], ids=["halve", "breed"])
@pytest.mark.parametrize("batch_size", [8, "auto"])
def test_what_was_stopped_goes_on_to_the_same_bits(monkeypatch, tmp_path, resample, batch_size):
    points = repeat(grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]), 2)

    def advance(state, **point):  # With no batch shape compiled yet.
        return noisy_advance(state, **point)

    functions = noisy_init, advance, noisy_score
    call = partial(halve, *functions, points, rungs=[2, 5, 6], keep=0.5, resample=resample)
    whole = call(batch_size=batch_size, store=tmp_path / "whole")
    plainly = call(batch_size=whole.report.batch_size)
    chex.assert_trees_all_equal(*map(plain, ((r.values, r.states) for r in (whole, plainly))))
    compiled = shapes(advance, noisy_score)
    resumed = []
    for batches in range(1, 20):
        store = tmp_path / f"{batches}"
        with monkeypatch.context() as patch:
            stop_after(patch, batches)
            try:
                call(batch_size=batch_size, store=store)
                break
            except StoppedError:
                pass
        again = call(batch_size="auto", store=store)
        resumed.append(again.report.resumed)
        for one, other in zip(
            jax.tree.leaves(plain((whole.values, whole.states, whole.survivors))),
            jax.tree.leaves(plain((again.values, again.states, again.survivors))),
            strict=True,
        ):
            assert one.tobytes() == other.tobytes()
    assert len(resumed) >= (3 if batch_size == 8 else 2)
    assert shapes(advance, noisy_score) == compiled  # Another shape could give other bits.
    assert resumed == sorted(resumed)
    complete = call(batch_size="auto", store=tmp_path / "whole")
    runs = np.isfinite(whole["history"]).sum()
    assert complete.report.resumed == runs
    assert complete.report.programs == 0
    chex.assert_trees_all_equal(*map(plain, ((r.values, r.states) for r in (whole, complete))))


def test_a_damaged_batch_runs_again(tmp_path):
    points = quadratics(3)
    call = partial(halve, *QUADRATIC, points, rungs=[2, 4], keep=0.5, batch_size=4, store=tmp_path)
    whole = call()
    files = sorted(tmp_path.glob("batch-rung000-*"))
    assert len(files) == 3
    content = files[1].read_bytes()
    files[1].write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.warns(UserWarning, match="1 damaged file in the store") as warned:
        again = call()
    assert len(warned) == 1  # Not once more at each rung.
    assert again.report.damaged == (files[1].name,)
    assert again.report.resumed == 8 + 6
    chex.assert_trees_all_equal(whole, again)


def doubled(function):
    return lambda *args, **point: jax.tree.map(lambda leaf: leaf * 2, function(*args, **point))


OTHER_CALLS = {
    "rungs": ({"rungs": [2, 5]}, r"rungs was \[2, 4\] and is \[2, 5\]"),
    "keep": ({"keep": 0.25}, r"keep was 0.5 and is 0.25"),
    "mode": ({"mode": "max"}, r"mode was 'min' and is 'max'"),
    "resample": ({"resample": shifted}, r"resample was None and is 'shifted'"),
    "points": ({"points": quadratics(4)}, r"axis problem was \d and is \d at index"),
    "score": ({"score": doubled(quadratic_score)}, "its function is another; .* of its jaxpr"),
    "advance": ({"advance": lambda s, **point: s}, "its function is another; .* of its jaxpr"),
    "init": ({"init": doubled(quadratic_init)}, "its function is another; .* of its jaxpr"),
    "batch": ({"batch_size": 2}, r"begun with batch_size=4, got 2"),
}


@pytest.mark.parametrize("case", OTHER_CALLS)
def test_a_store_of_another_call_is_refused_and_stays(case, tmp_path):
    init, advance, score = QUADRATIC
    mine = {"init": init, "advance": advance, "score": score, "points": quadratics(3)}
    mine |= {"rungs": [2, 4], "keep": 0.5, "batch_size": 4, "store": tmp_path}
    whole = halve(**mine)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    change, text = OTHER_CALLS[case]
    with pytest.raises(ValueError, match=text):
        halve(**(mine | change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    chex.assert_trees_all_equal(whole, halve(**mine))


def test_a_store_knows_another_mutation_and_the_same_one_again(tmp_path):
    call = partial(halve, *QUADRATIC, quadratics(3), rungs=[2, 4], store=tmp_path)
    call(resample=mutate(jax.random.key(0)))
    assert call(resample=mutate(jax.random.key(0))).report.programs == 0
    for other in (
        mutate(jax.random.key(1)),
        mutate(jax.random.key(0), factor=2),
        mutate(jax.random.key(0), beta=uniform(0, 0.9)),
    ):
        with pytest.raises(ValueError, match="resample was 'Mutation"):
            call(resample=other)
    # An object whose text has an address in it is the same one in the next process too.
    there = tmp_path / "partial"
    for _ in range(2):
        halve(
            *QUADRATIC,
            quadratics(3),
            rungs=2,
            store=there,
            resample=partial(lambda *args: shifted(*args)),
        )


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
    # 16, 8 and 4 members at once; init for 16.
    assert call(rungs=[1, 5, 6], batch_size=16).report.programs == 4
    bred = call(rungs=[1, 5, 6], batch_size=16, resample=shifted)
    assert bred.report.programs == 2
    assert shapes(advance, quadratic_score) == 4  # 2, 16, 8 and 4 points, whatever the rungs.


def test_devices_make_no_difference():
    assert jax.device_count() == 2
    points = quadratics(11, 7)
    call = partial(halve, *QUADRATIC, points, rungs=[2, 5, 9], keep=0.6, batch_size=4)
    results = [call(mesh=Mesh(np.array(jax.devices()[:count]), ("points",))) for count in (1, 2)]
    assert [result.report.devices for result in results] == [1, 2]
    np.testing.assert_array_equal(results[0].survivors, results[1].survivors)
    chex.assert_trees_all_close(*(r.values for r in results), rtol=1e-5)
    require_equal(results[1], looped(QUADRATIC, points, [2, 5, 9], 0.6))


def test_callables_without_a_hash_will_do():
    class Unhashable:
        __hash__ = None

        def __init__(self, function):
            self.function = function

        def __call__(self, *args, **point):
            return self.function(*args, **point)

    points = quadratics(1)
    result = halve(*map(Unhashable, QUADRATIC), points, rungs=3)
    require_equal(result, looped(QUADRATIC, points, [1, 2, 3]))


# The result.


def test_a_result_is_a_tree_and_a_sweeps_result():
    points = repeat(grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]), 2)
    result = halve(*NOISY, points, rungs=[2, 5], keep=0.5, mode="max")
    assert isinstance(result, momentax.sweeps.SweepResult)
    assert result.mode_of("score") == "max"
    assert result.mode_of("loss") == "min"
    reached = result["advanced"][..., 0] == 5
    assert result.best("score").value == result["score"].mean(-1)[reached].max()
    assert result.best("score", "min").value == result["score"].mean(-1)[reached].min()
    doubled = jax.tree.map(lambda leaf: leaf, result)
    assert isinstance(doubled, HalvingResult)
    assert doubled.mode_of("score") == "max"
    chex.assert_trees_all_equal(plain(doubled), plain(result))
    paths = {jax.tree_util.keystr(path[:1]) for path, _ in jax.tree.leaves_with_path(result)}
    assert paths == {".points", ".values", ".diverged", ".survivors", ".states"}
    again = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, halve_small())))
    assert again.mode_of("score") == "min"
    chex.assert_trees_all_equal(again, copy.deepcopy(again))
    assert repr(result).startswith("SweepResult of 12 points")
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


def test_the_best_score_is_one_of_those_that_went_furthest():
    functions, points = scripted([3, 9, 9], [1, 2, 5], [2, 4, 6], [4, 0, 0], [5, 0, 0])
    result = halve(*functions, points, rungs=[1, 3], keep=0.5)
    np.testing.assert_array_equal(result["score"], [3, 5, 6, 4, 5])
    assert [best["run"] for best in result.top("score", 9)] == [1, 2, 0, 3, 4]
    assert [best["run"] for best in result.top("score", 3, "max")] == [2, 1, 4]
    assert [best["run"] for best in result.top("advanced", 2, "max")] == [1, 2]
    assert result.best("score").point == {"run": 1}
    assert "best score: 5" in repr(result)
    with pytest.raises(ValueError, match="k must be a whole number"):
        result.top("score", 0)

    def scored(x, seed):
        return x + seed / 8

    for points in (repeat(grid(x=[0.0, 2.0]), 3), grid(seed=[0, 1, 2], x=[0.0, 2.0])):
        result = halve(scored, lambda s, x, seed: s + 4 * x, lambda s: s, points, rungs=2, keep=0.5)
        assert [best["x"] for best in result.top("score", 2)] == [0.0, 2.0]
        result = halve(scored, lambda s, x, seed: s - x, lambda s: s, points, rungs=2, keep=0.5)
        # After one advance x = 0 is the first of two equal, and went on; -2 came too late.
        np.testing.assert_array_equal(result["advanced"].max(), 2)
        assert [best["x"] for best in result.top("score", 2)] == [0.0, 2.0]


def halve_small():
    return halve(*QUADRATIC, quadratics(1), rungs=2)


# Errors.


def same(state, **point):
    return state


BAD = {
    "init": ({"init": 3}, TypeError, "init must be a function, got 3"),
    "advance": ({"advance": "a"}, TypeError, "advance must be a function, got 'a'"),
    "score": ({"score": None}, TypeError, "score must be a function, got None"),
    "resample": ({"resample": 1.25}, TypeError, "resample must be a function, got 1.25"),
    "points": ({"points": {"beta": [0.9]}}, TypeError, "points must be points, as momentax.grid"),
    "no points": ({"points": None}, TypeError, "points must be points, .*, got None"),
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
        r"state\['curvature'\] was float32\[3\] and becomes nothing$",
    ),
    "leaf more": (
        {"advance": lambda s, **point: s | {"count": jnp.int32(0)}},
        TypeError,
        r"state\['count'\] was nothing and becomes int32\[\]$",
    ),
    "structure": (
        {
            "init": lambda **point: (jnp.ones(3),),
            "advance": lambda s, **point: [s[0]],
            "score": lambda s: s[0][0],
        },
        TypeError,
        r"advance failed at .* dtypes, and it was PyTreeDef\(\(\*,\)\) and becomes "
        r"PyTreeDef\(\[\*\]\)$",
    ),
    "key": (
        {
            "init": lambda **point: jax.random.key(0),
            "advance": lambda s, **point: jax.random.key_data(s),
            "score": lambda s: 0.0,
        },
        TypeError,
        "advance failed at .* the state must keep its structure, .* becomes ",
    ),
    "no array": (
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
        {"resample": mutate(jax.random.key(0), momentum=uniform(0, 0.5))},
        ValueError,
        "mutate has a range for momentum, and the axes of floating numbers are "
        r"\['learning_rate', 'beta'\]",
    ),
    "mutated whole number": (
        {"resample": mutate(jax.random.key(0), problem=uniform(0, 1))},
        ValueError,
        "mutate has a range for problem",
    ),
    "bred nothing": (
        {"resample": lambda rung, settings, points: None},
        TypeError,
        "resample failed after rung 0: it must return a dictionary of arrays, got None",
    ),
    "bred axes": (
        {"resample": lambda rung, settings, points: {"beta": settings["beta"]}},
        ValueError,
        r"it must return the axes \['problem', 'learning_rate', 'beta'\], got \['beta'\]",
    ),
    "bred outside": (
        {"resample": lambda rung, settings, points: settings | {"beta": settings["beta"] + 1}},
        ValueError,
        r"resample failed after rung 0: axis beta must be in \[0, 1\), got 1.\d+ at index 0",
    ),
    "bred too few": (
        {"resample": lambda rung, settings, points: settings | {"beta": [0.5]}},
        ValueError,
        "resample failed after rung 0: it must return 8 values for beta, got 1",
    ),
    "bred one": (
        {"resample": lambda rung, settings, points: settings | {"beta": 0.5}},
        ValueError,
        "resample failed after rung 0: axis beta must be a sequence",
    ),
    "bred words": (
        {"resample": lambda rung, settings, points: settings | {"problem": ["a"] * 8}},
        TypeError,
        "resample failed after rung 0: problem holds int32, and it returned object",
    ),
    "bred fractions": (
        {"resample": lambda rung, settings, points: settings | {"problem": np.full(8, 0.5)}},
        TypeError,
        "resample failed after rung 0: problem holds int32, and it returned float32",
    ),
    "bred nan": (
        {"resample": lambda rung, settings, points: settings | {"beta": np.full(8, np.nan)}},
        ValueError,
        "axis beta must be in .* got nan at index 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    change, error, text = BAD[case]
    init, advance, score = QUADRATIC
    mine = {"init": init, "advance": advance, "score": score, "points": quadratics(0), "rungs": 2}
    with pytest.raises(error) as caught:
        halve(**(mine | change))
    assert re.search(text, str(caught.value), re.DOTALL), caught.value


BAD_MUTATIONS = {
    "key": ((3,), {}, TypeError, r"key must be a random key, as jax.random.key\(0\), got 3"),
    "keys": ((np.zeros(2),), {}, TypeError, "key must be a random key"),
    "factor": ((jax.random.key(0),), {"factor": 1}, ValueError, r"factor must be in \(1, inf\)"),
    "word": ((jax.random.key(0),), {"factor": "a"}, TypeError, "factor must be"),
    "list": (
        (jax.random.key(0),),
        {"beta": [0.1, 0.9]},
        TypeError,
        r"beta must be a distribution, as momentax.sweeps.log_uniform\(1e-3, 1\), got \[0.1, 0.9\]",
    ),
    "outside": (
        (jax.random.key(0),),
        {"beta": uniform(0, 1)},
        ValueError,
        r"axis beta must be in \[0, 1\), got 1.0 at index 1",
    ),
    "rounded": (
        (jax.random.key(0),),
        {"beta": Distribution(0.0, 0.99999999, "linear")},
        ValueError,
        r"got 0.99999999 at index 1, which float32 rounds to 1.0",
    ),
}


@pytest.mark.parametrize("case", BAD_MUTATIONS)
def test_what_is_wrong_with_a_mutation_is_said(case):
    args, ranges, error, text = BAD_MUTATIONS[case]
    with pytest.raises(error, match=text):
        mutate(*args, **ranges)


def test_random_points_are_halved_too():
    points = random_points(
        jax.random.key(0), 9, learning_rate=log_uniform(0.01, 1), beta=uniform(0, 0.9)
    )
    functions = (partial(f, problem=4) for f in (quadratic_init, quadratic_advance))
    functions = *functions, quadratic_score
    result = halve(*functions, points, rungs=[3, 9])
    require_equal(result, looped(functions, points, [3, 9]))
