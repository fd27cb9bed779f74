"""Problems to halve, and halving as a Python loop."""

import functools
import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from momentax.sweeps import (
    zipped,
)
from momentax.sweeps._run import _program

# Problems, as functions init, advance and score. They are at the top, so that programs are reused.


def quadratic_init(problem, learning_rate, beta):
    return {
        "x": jax.random.uniform(jax.random.key(problem), (3,), minval=-2.0, maxval=2.0),
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
    return 3 + jax.random.uniform(start, (2,)), jnp.zeros(2), {"key": walk}


def noisy_advance(state, learning_rate, beta, seed):
    x, v, keys = state
    key, now = jax.random.split(keys["key"])
    v = beta * v + x + 0.3 * (jax.random.uniform(now, (2,)) - 0.5)
    return x - learning_rate * v, v, {"key": key}


def noisy_score(state):
    return jnp.sum(state[0] ** 2)


QUADRATIC = quadratic_init, quadratic_advance, quadratic_score


NOISY = noisy_init, noisy_advance, noisy_score


jit = functools.cache(jax.jit)  # One program for each function.


def halve_in_a_loop(problem, points, rungs, keep=1 / 3, mode="min", resample=None):
    """Return the expected result of `halve`, by running one point after the other."""
    init, advance, score = map(jit, problem)
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
    groups = {}  # The runs of each setting, by its values without the seed.
    for i, run in enumerate(runs):
        own = () if "seed" in run else (i,)
        name = *own, *(float(value) for axis, value in run.items() if axis != "seed")
        groups.setdefault(name, []).append(i)
    running, done = list(groups.values()), 0

    def cost(group):
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
        order = sorted(running, key=cost)
        if rung == len(rungs) - 1:
            break
        best = [group for group in order if cost(group) < math.inf]
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


def without_typed_keys(tree):
    """Replace typed keys by their numbers, which can be compared."""
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
            else np.asarray(leaf)
        ),
        tree,
    )


def require_equal(result, found):
    """Check that a result of `halve` equals that of the loop, up to round-off."""
    shape = result.points.shape
    np.testing.assert_array_equal(result["advanced"], found["advanced"].reshape(shape))
    np.testing.assert_array_equal(result.diverged, found["diverged"].reshape(shape))
    np.testing.assert_array_equal(result.survivors, found["survivors"])
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
    finite = ~result.diverged
    close(result["score"][finite], found["score"].reshape(shape)[finite])
    history = found["history"].reshape(*shape, -1)
    np.testing.assert_array_equal(np.isnan(result["history"][finite]), np.isnan(history[finite]))
    close(result["history"][finite], history[finite])
    if not found["states"]:
        assert result.states is None
        return
    for k, state in enumerate(found["states"]):
        here = jax.tree.map(lambda leaf, k=k: leaf[k], result.states)
        chex.assert_trees_all_equal_structs(here, state)
        chex.assert_trees_all_close(
            without_typed_keys(here), without_typed_keys(state), rtol=2e-4, atol=1e-5
        )


def quadratics(seed, count=12, high=1.5):
    rng = np.random.default_rng(seed)
    return zipped(
        problem=rng.integers(0, 10, count),
        learning_rate=rng.uniform(0.01, high, count),
        beta=rng.uniform(0, 0.95, count),
    )


def shift(rung, settings, points):
    """Resample without randomness, depending on every argument."""
    share = np.linspace(0, 1, len(settings["beta"]), dtype=np.float32)
    return settings | {
        "beta": np.clip(settings["beta"] * 0.9 + 0.02 * rung * share, 0, 0.95),
        "learning_rate": np.float32(settings["learning_rate"] * (0.8 + 0.1 * share)),
    }


def scripted_init(run, first, second, third):
    return jnp.stack([first, second, third]), jnp.int32(0)


def scripted_advance(state, run, first, second, third):
    return state[0], state[1] + 1


def scripted_score(state):
    value = state[0][state[1] - 1]
    return jnp.select(
        [value == code for code in CODES], list(map(jnp.float32, CODES.values())), value
    )


SCRIPTED = scripted_init, scripted_advance, scripted_score
CODES = {1e30: math.nan, 2e30: math.inf, 3e30: -math.inf}  # An axis holds only finite numbers.


def scripted(*scores):
    """Return runs with given scores, one row for each run and one column for each advance.

    The scores are axes of the points, so that all such runs share their programs.
    """

    def encode(score):
        return next((c for c, value in CODES.items() if str(value) == str(float(score))), score)

    rows = [[*map(encode, row), 0.0, 0.0][:3] for row in scores]
    columns = dict(
        zip(("first", "second", "third"), np.transpose(np.array(rows, np.float32)), strict=True)
    )
    return SCRIPTED, zipped(run=range(len(scores)), **columns)


def count_batch_shapes(advance, score):
    """Return for how many batch shapes an advance was compiled."""
    program = _program._PROGRAMS[advance]["advance", score]
    return sum(batched._cache_size() for _, batched in program._batched.values())


def double_output(function):
    """Return a function that returns twice what another one returns."""
    return lambda *args, **point: jax.tree.map(lambda leaf: leaf * 2, function(*args, **point))
