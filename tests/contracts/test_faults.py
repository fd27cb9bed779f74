"""Faults: what one extreme, infinite, NaN or missing gradient does to every transformation.

A fault is put into one entry of one gradient. `tests/cases.py` says for each transformation how
far it may reach, up to which size all directions stay finite, and whether a NaN is forgotten.
The large faults here are 1e20 and more, whose squares overflow in float32, so that `storm` and
`hypergradient` scale them. A smaller gradient that is far larger than the others changes the step
size of these two for ever, by their definition.
"""

import functools
import zlib
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from tests.cases import TRANSFORMATIONS
from tests.contracts.harness import build, every_transformation, every_transformation_with

STEPS = 8
PARAMS = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
FINITE = (1e20, -1e20, 1e30, 1e38, -1e38, 0.0, 1e-40, -1e-20)
NOT_FINITE = (np.nan, np.inf, -np.inf)
LAST = np.iinfo(np.int32).max


@functools.cache
def compiled(name):
    """Return one program that makes some steps and returns the state, directions, velocities."""
    tx = build(name)

    def step(state, g):
        d, state = tx.update(g, state, PARAMS)
        return state, (d, momentax.velocity(state))

    return jax.jit(lambda state, gradients: jax.lax.scan(step, state, gradients))


def draw(name, fault):
    """Return a seeded generator, and ordinary gradients of three runs of the program."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {fault}".encode()))
    shapes = {key: (3 * STEPS, *leaf.shape) for key, leaf in PARAMS.items()}
    return rng, {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}


def run(name, gradients, state=None) -> tuple[Any, Any, Any]:
    """Return the state, and the directions and velocities of all steps."""
    state = build(name).init(PARAMS) if state is None else state
    parts: Any = []
    for start in range(0, len(gradients["a"]), STEPS):
        part = jax.tree.map(lambda g, start=start: jnp.asarray(g[start : start + STEPS]), gradients)
        state, out = compiled(name)(state, part)
        parts.append(out)
    out: Any = jax.tree.map(lambda *each: np.concatenate(each), *parts)
    return state, *out


def inject(name, fault) -> tuple[Any, Any, Any]:
    """Return where a fault is, and the results with it and without it."""
    rng, ordinary = draw(name, fault)
    step, key = int(rng.integers(STEPS, 2 * STEPS)), str(rng.choice(["a", "b"]))
    entry = tuple(map(int, map(rng.integers, PARAMS[key].shape)))
    faulty = jax.tree.map(np.copy, ordinary)
    faulty[key][(step, *entry)] = fault
    return (step, key, entry), run(name, faulty), run(name, ordinary)


def out_of_reach(name, key, entry):
    """Return for each leaf which entries a fault in one entry must not change."""
    reach = TRANSFORMATIONS[name].reach
    free = {k: np.full(leaf.shape, reach != "tree") for k, leaf in PARAMS.items()}
    free[key][...] = reach == "entry"
    free[key][entry] = False
    return free


def assert_others_are_unchanged(name, where, faulty, ordinary):
    """Check the directions and velocities of all steps, where a fault does not reach."""
    _, key, entry = where
    for k, free in out_of_reach(name, key, entry).items():
        for with_fault, without in zip(faulty[1:], ordinary[1:], strict=True):
            np.testing.assert_array_equal(with_fault[k][..., free], without[k][..., free])


def power(value):
    return float(np.log10(abs(value))) if value else 0.0


@every_transformation
@pytest.mark.parametrize("fault", FINITE)
def test_a_finite_fault_leaves_all_numbers_finite_and_the_method_moving(name, fault):
    where, faulty, ordinary = inject(name, fault)
    state, d, v = faulty
    chex.assert_tree_all_finite((state, v))
    if power(fault) <= TRANSFORMATIONS[name].largest:
        chex.assert_tree_all_finite(d)
    assert_others_are_unchanged(name, where, faulty, ordinary)
    end = {k: np.abs(d[k][-STEPS:]).max() for k in d}
    assert all(end.values())
    # The leaf without the fault moves about as far in a step as without it.
    other = "b" if where[1] == "a" else "a"
    usual = np.abs(ordinary[1][other][-STEPS:]).max()
    assert usual / 10 <= end[other] <= 10 * usual


@every_transformation_with(lambda case: not case.skips)
@pytest.mark.parametrize("fault", NOT_FINITE)
def test_a_fault_that_is_not_finite_is_seen_in_its_direction_and_stays_seen(name, fault):
    where, faulty, ordinary = inject(name, fault)
    step, key, entry = where
    assert_others_are_unchanged(name, where, faulty, ordinary)
    seen = faulty[1][key][(slice(step, None), *entry)]
    assert not np.isfinite(seen[0])
    if not TRANSFORMATIONS[name].forgets:
        assert not np.isfinite(seen).any()


@every_transformation
def test_a_missing_gradient_between_others_changes_nothing_else(name):
    _, ordinary = draw(name, None)
    first, rest = ({k: g[i : i + STEPS] for k, g in ordinary.items()} for i in (0, STEPS))
    state, *_ = run(name, first)
    missing: Any = {"a": jnp.asarray(rest["a"][0]), "b": None}
    _, after = build(name).update(missing, state, PARAMS)
    if TRANSFORMATIONS[name].reach != "tree" and not TRANSFORMATIONS[name].forgets:
        chex.assert_trees_all_equal(momentax.velocity(after)["b"], momentax.velocity(state)["b"])
    end, d, _ = run(name, rest, after)
    chex.assert_tree_all_finite((end, d))
    assert all(np.abs(leaf).max() for leaf in d.values())


@every_transformation
def test_a_count_stops_at_the_largest_integer_and_the_steps_stay_finite(name):
    _, ordinary = draw(name, "count")
    first, rest = ({k: g[i : i + STEPS] for k, g in ordinary.items()} for i in (0, STEPS))
    state, *_ = run(name, first)

    def advance(leaf):
        return jnp.full_like(leaf, LAST - 2) if leaf.dtype == jnp.int32 else leaf

    end, d, _ = run(name, rest, jax.tree.map(advance, state))
    chex.assert_tree_all_finite((end, d))
    assert all(np.abs(leaf).max() for leaf in d.values())
    counts = [leaf for leaf in jax.tree.leaves(end) if leaf.dtype == jnp.int32]
    assert all((count >= -1).all() for count in counts)  # An orientation may be -1.
    if "count" in getattr(end, "_fields", ()):
        assert end.count == LAST


@every_transformation_with(lambda case: case.extra(PARAMS) and not case.skips)
@pytest.mark.parametrize("fault", NOT_FINITE)
def test_an_extra_argument_that_is_not_finite_is_seen(name, fault):
    tx, update = build(name), jax.jit(build(name).update)
    _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
    bad = jax.tree.map(
        lambda x: jnp.full_like(jnp.asarray(x), fault), TRANSFORMATIONS[name].extra(PARAMS)
    )
    d, state = update(PARAMS, state, PARAMS, **bad)
    assert not any(np.isfinite(leaf).any() for leaf in jax.tree.leaves(d))
    d, _ = update(PARAMS, state, PARAMS)
    assert not any(np.isfinite(leaf).any() for leaf in jax.tree.leaves(d))
