"""Faults at random steps and entries, in every method, wrapper and storage under a guard.

A program makes many steps in one scan. The faults are data of it, so that it is compiled once. A
second run of the same program leaves the skipped steps out; it must end in the same bits.
"""

import functools
import zlib
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import momentax
from momentax import guard, sgd, storage
from momentax._state._velocity import velocities
from tests.cases import METHODS, WRAPPERS
from tests.contracts.harness import build

STEPS = 96
SHARE = 0.3  # Of steps with a fault.
PARAMS = {"a": jnp.linspace(-1, 1, 5).at[2].set(-0.0), "b": jnp.ones((2, 2))}
FAULTS = (np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0)
# The velocity of one leaf is stored, that of the other stays in float32.
KEPT = {
    "bfloat16": lambda tx: momentax.stored(
        tx, storage.bfloat16(), min_size=1, where={"a": True, "b": False}
    ),
    "int8": lambda tx: momentax.stored(
        tx, storage.int8(), min_size=1, where={"a": False, "b": True}
    ),
}


PIPELINES = {name: functools.partial(lambda n: sgd(0.05, build(n)), name) for name in METHODS}
PIPELINES |= {
    f"wrapper: {name}": functools.partial(lambda n: sgd(0.05, build(n)), name)
    for name in WRAPPERS
    if not name.startswith(("stored", "guard", "ema_nesterov"))
}
PIPELINES |= {
    "ema_nesterov": lambda: momentax.ema_nesterov(sgd(0.05), 0.5),
    "outer": lambda: momentax.outer(sgd(0.05), 3, inner_state="reset_velocity"),
}
PIPELINES |= {
    "inject": lambda: optax.inject_hyperparams(sgd)(0.05),
    "masked": lambda: optax.masked(sgd(0.05), {"a": True, "b": False}),
    "partition": lambda: optax.partition(
        {"x": sgd(0.05), "y": optax.sgd(0.1, 0.9)}, {"a": "x", "b": "y"}
    ),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05)),
    "schedule": lambda: sgd(optax.linear_schedule(0.1, 0.0, 50), momentax.nesterov(0.9)),
}
# Optax's transformations take no gradients of None.
OF_OPTAX = ("MultiSteps", "masked", "partition", "clipped")
ACCUMULATED = {
    "MultiSteps": lambda keep: optax.MultiSteps(keep(sgd(0.05)), 3).gradient_transformation(),
}


@functools.cache
def program(name):
    """Return a jitted run of a pipeline in each storage, and its initial carry."""
    make = ACCUMULATED.get(name, lambda keep: keep(PIPELINES[name]()))
    made = {kept: guard(make(keep)) for kept, keep in KEPT.items()}

    def one(kept, carry, g, value, is_missing):
        params, state = carry

        def update(g):
            return made[kept].update(g, state, params, value=value)

        if name not in OF_OPTAX and kept == "int8":
            u, new = jax.lax.cond(is_missing, lambda: update(g | {"b": None}), lambda: update(g))
        else:
            u, new = update(g)
        return (optax.apply_updates(params, u), new), u

    def step(carry, row):
        g, value, is_missing, is_left_out = row
        new, u = {}, {}
        for kept in made:
            new[kept], u[kept] = one(kept, carry[kept], g, value, is_missing)
            keep = functools.partial(jnp.where, is_left_out[kept])
            new[kept] = jax.tree.map(keep, carry[kept], new[kept])
        skipped = {kept: new[kept][1].skipped_nonfinite for kept in made}
        return new, (u, skipped)

    start = {kept: (PARAMS, tx.init(PARAMS)) for kept, tx in made.items()}
    return jax.jit(lambda carry, rows: jax.lax.scan(step, carry, rows)), start


def draw(rng):
    """Return gradients, losses and missing leaves with faults, and which steps must be skipped."""
    g = {k: rng.normal(size=(STEPS, *x.shape)).astype(np.float32) for k, x in PARAMS.items()}
    value = rng.uniform(0.5, 1, STEPS).astype(np.float32)
    missing, bad = np.zeros(STEPS, bool), np.zeros(STEPS, bool)
    for t in np.flatnonzero(rng.random(STEPS) < SHARE):
        kind = rng.integers(len(FAULTS) + 2)
        if kind < len(FAULTS):
            key = rng.choice(["a", "b"])
            g[key][t].ravel()[rng.integers(g[key][t].size)] = FAULTS[kind]
            bad[t] = not np.isfinite(FAULTS[kind])
        elif kind == len(FAULTS):
            missing[t] = True
        else:
            value[t] = rng.choice([np.nan, np.inf])
            bad[t] = True
    return g, value, missing, bad


@pytest.mark.filterwarnings("ignore:beta = ")
@pytest.mark.parametrize("name", [*PIPELINES, *ACCUMULATED])
@jax.numpy_dtype_promotion("standard")  # Optax needs it.
def test_after_faults_all_is_finite_and_skipped_steps_have_changed_no_bit(name):
    run, start = program(name)
    nothing = {kept: np.zeros(STEPS, bool) for kept in start}

    @settings(max_examples=2, phases=[Phase.generate])  # To shrink a seed tells nothing.
    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        g, value, missing, bad = draw(rng)
        end, (u, counts) = run(start, (g, value, missing, nothing))
        chex.assert_tree_all_finite((u, [each[0] for each in end.values()]))
        skipped: Any = {kept: np.diff(count, prepend=0) > 0 for kept, count in counts.items()}
        for kept, (_, state) in end.items():
            chex.assert_tree_all_finite(velocities(state))
            assert skipped[kept][bad & ~missing].all()
            assert state.skipped_nonfinite == skipped[kept].sum() > 0
        left_out, _ = run(start, (g, value, missing, skipped))
        for kept, (params, state) in end.items():
            other_params, other = left_out[kept]
            assert_same_bits(params, other_params)
            assert_same_bits(state.inner_state, other.inner_state)

    check()


def assert_same_bits(tree, other):
    for one, two in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
