"""Exact costs of a compiled step: bytes, copies and buffers, beyond tests/test_compiled.py.

They are those of trees with many leaves, of every method in every storage, and of Optax's own
programs for comparison. `python -m tests.benchmarks` measures times.
"""

import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax import storage
from tests.cases import METHODS
from tests.compiled import audit
from tests.storage.cases import STORAGES

SHAPES = [(64, 256), (8192,), (3, 3, 16, 32), (4096,)]
# Bytes per parameter for scalars and short loops: less than one array of any dtype.
SCALARS = 0.75


def parameters(shapes):
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def stepping(tx, shapes, extra=lambda g: {}):
    """Audit update and apply with donated parameters and state."""
    tx, params = optax.with_extra_args_support(tx), parameters(shapes)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, **extra(grads))
        return optax.apply_updates(params, updates), state

    return audit(step, params, jax.eval_shape(tx.init, params), args=(params,))


def method(name):
    case = METHODS[name]
    return case.make(**case.hyperparameters)


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_of_a_tree_is_that_of_its_entries_and_every_buffer_is_reused(name):
    case = METHODS[name]
    cost = stepping(method(name), SHAPES, case.extra)
    assert cost.aliased == cost.donated
    assert len(cost.copies) <= case.copies * len(SHAPES)
    assert cost.accessed <= case.accessed + SCALARS
    assert cost.temporary <= case.temporary + SCALARS


@pytest.mark.filterwarnings("ignore:beta = ")
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kept", STORAGES)
def test_each_storage_saves_its_bytes_of_every_methods_velocity(name, kept):
    params = parameters([(64, 256), (300,)])  # The second leaf is too small to be stored.
    case = STORAGES[kept]
    plain = jax.eval_shape(method(name).init, params)
    state = jax.eval_shape(momentax.stored(method(name), case.make()).init, params)
    saved = momentax.velocity(plain)[0].size * (4 - case.bytes)
    count, seed = 4, 4 if case.is_random else 0
    assert size(state) == size(plain) - saved + count + seed


@pytest.mark.parametrize("kept", STORAGES)
def test_a_stored_velocity_costs_no_more_than_was_measured(kept):
    case = STORAGES[kept]
    tx = momentax.stored(momentax.sgd(0.1, momentax.heavy_ball()), case.make())
    for shapes in ([(64, 1024)], [(64, 512), (3, 3, 16, 32), (8192,)]):
        cost = stepping(tx, shapes)
        assert cost.aliased == cost.donated
        assert cost.copies == []
        assert cost.accessed <= case.accessed + 0.01
        assert cost.temporary <= case.temporary + 0.01


@jax.numpy_dtype_promotion("standard")  # Optax's bfloat16 accumulator needs it.
def test_bytes_are_fewer_than_those_of_optax():
    shapes = [(64, 1024), (64, 256)]
    rounded = momentax.stored(momentax.sgd(0.1), storage.bfloat16())
    pairs = {
        "sgd": (momentax.sgd(0.1), optax.sgd(0.1, momentum=0.9)),
        "bfloat16": (rounded, optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16)),
        "lion": (
            momentax.sgd(0.1, momentax.lion()),
            optax.chain(optax.scale_by_lion(), optax.scale(-0.1)),
        ),
    }
    costs = {name: [stepping(tx, shapes) for tx in pair] for name, pair in pairs.items()}
    ours, theirs = costs["sgd"]
    assert (ours.accessed, ours.copies) == (pytest.approx(theirs.accessed, abs=1e-3), [])
    for name in ("bfloat16", "lion"):
        ours, theirs = costs[name]
        assert ours.accessed <= theirs.accessed - 7.9
        assert ours.copies == []
        assert theirs.copies  # XLA copies the whole state.


def test_an_outer_optimizer_costs_two_arrays_and_copies_nothing():
    inner = momentax.sgd(0.1, momentax.nesterov())
    params = parameters(SHAPES)
    plain = size(jax.eval_shape(inner.init, params))
    for mode in ("keep", "reset_velocity"):
        tx = momentax.outer(inner, 4, inner_state=mode)
        cost = stepping(tx, SHAPES)
        assert cost.copies == []
        assert cost.aliased == cost.donated
        # An outer step writes its Δ and its update to memory, for an instant.
        assert cost.temporary <= 8 + SCALARS
        state = jax.eval_shape(tx.init, params)
        assert size(state) == plain + 2 * size(params) + 8  # w, its velocity and two counts.
