"""Mutations of settings, and population-based training with them."""

import pickle

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import momentax
from momentax import grid, halve
from momentax.sweeps import (
    Distribution,
    Mutation,
    log_uniform,
    momentum_uniform,
    mutate,
    repeat,
    uniform,
)
from tests.sweeps.halving import QUADRATIC, jit, quadratic_init, quadratics


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
    before = {name: inside.quantile(np.array(shares)) for name, inside in ranges.items()}
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
    assert mutation == mutate(jax.random.key(0)) == mutate()
    assert mutation != mutate(jax.random.key(1))
    assert isinstance(mutation, Mutation)
    assert mutation.ranges is None
    assert mutation.factor == 1.25
    assert pickle.loads(pickle.dumps(mutation)) == mutation


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_mutated_settings_stay_inside_their_ranges_and_continue_from_their_parents(seed):
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
        mutated = chosen[parent != np.arange(12)[:, None]]
        assert len(mutated)
        assert (mutated >= np.float32(inside.low)).all()
        assert (mutated <= np.float32(inside.high)).all()
        np.testing.assert_array_equal(chosen[:, 0], points.axes[name])
        untouched = parent[:, 1:] == np.arange(12)[:, None]
        np.testing.assert_array_equal(chosen[:, 1:][untouched], chosen[:, :-1][untouched])
    _, advance, score = map(jit, QUADRATIC)
    for place in range(12):  # Follow each run of the last rung along its parents.
        line = [place]
        for rung in (3, 2, 1):
            line.append(parent[line[-1], rung])
        line = line[::-1]
        # The first state is that of the first parent; the problem follows the settings.
        state = jit(quadratic_init)(**points[int(line[0])])
        for rung, here in enumerate(line):
            run = {axis: result[f"settings.{axis}"][here, rung] for axis in points.axes}
            for _ in range(2):
                state = advance(state, **run)
            if np.isfinite(result["history"][here, rung]):
                np.testing.assert_allclose(
                    result["history"][here, rung], score(state), rtol=2e-4, atol=1e-6
                )


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
    """Return the mean of falling_score for a sequence of β, by the recurrence of second moments."""
    moments = np.diag([20.0**2, 0.0])  # Of x and v.
    for beta in betas:
        step = np.array([[1 - 0.02, -0.02 * beta], [1.0, beta]])
        noise = np.array([[-0.02 * 3], [3.0]])
        moments = step @ moments @ step.T + noise @ noise.T
    return moments[0, 0]


def test_mutation_beats_every_fixed_beta_if_the_best_one_changes():
    # Far from the minimum a large β is faster, and near it the noise is amplified by 1/(1 - β), so
    # no fixed β is best throughout. With 32 seeds per setting chance hardly affects the ranks.
    points = repeat(grid(beta=momentax.sweeps.momentum_axis(0.01, 0.95, 12)), 32)
    resample = mutate(jax.random.key(0), factor=2.0)
    functions = falling_init, falling_advance, falling_score
    result = halve(*functions, points, rungs=range(8, 97, 8), keep=0.5, resample=resample)
    place = result.survivors[0]
    course = []
    for rung in reversed(range(12)):  # Backwards along the parents.
        course += [result["settings.beta"].reshape(-1, 12)[place, rung]] * 8
        place = result["parent"].reshape(-1, 12)[place, rung]
    course = course[::-1]
    assert course[0] > 0.7 > 0.4 > course[-1]
    fixed = min(expected_score([beta] * 96) for beta in np.linspace(0, 0.95, 500))
    assert expected_score(course) < 0.8 * fixed
    # The score by which it was selected was not due to chance.
    assert result.best("score").value == pytest.approx(expected_score(course), rel=0.6)


BAD_MUTATIONS = {
    "key": ((3,), {}, TypeError, r"key must be a random key, as jax.random.key\(0\), got 3"),
    "keys": ((np.zeros(2),), {}, TypeError, "key must be a random key"),
    "factor": ((jax.random.key(0),), {"factor": 1}, ValueError, r"factor must be in \(1, inf\)"),
    "word": ((jax.random.key(0),), {"factor": "a"}, TypeError, "factor must be"),
    "list": (
        (jax.random.key(0),),
        {"beta": [0.1, 0.9]},
        TypeError,
        r"beta must be a distribution, such as momentax.sweeps.log_uniform\(1e-3, 1\), got",
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
def test_an_error_says_what_is_wrong_with_a_mutation(case):
    args, ranges, error, text = BAD_MUTATIONS[case]
    with pytest.raises(error, match=text):
        mutate(*args, **ranges)
