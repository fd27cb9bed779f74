"""Every state with a velocity declares the properties that the velocity tools read."""

import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax import states

NAMES = {name: getattr(states, name) for name in states.__all__}
STATES = {name: each for name, each in NAMES.items() if isinstance(each, type)}
WITH_VELOCITY = {name: state for name, state in STATES.items() if "velocity" in state._fields}


def test_the_walk_finds_states_with_and_without_a_velocity():
    assert {"LinearState", "AdanState", "DampedState"} <= set(WITH_VELOCITY)
    assert {"RestartState", "StoredState", "DecayState"} <= set(STATES) - set(WITH_VELOCITY)


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_a_named_tuple_that_documents_its_fields(name):
    state = STATES[name]
    assert issubclass(state, tuple)
    starts = [line.partition(":")[0] for line in inspect.getdoc(state).splitlines()]
    assert tuple(start for start in starts if start in state._fields) == state._fields


@pytest.mark.parametrize("name", WITH_VELOCITY)
def test_a_state_with_a_velocity_declares_the_properties_that_tools_read(name):
    state = WITH_VELOCITY[name]
    declared = vars(state)  # Not inherited and not defaults of a reader.
    assert isinstance(declared["restarts_with_velocity"], tuple)
    assert set(declared["restarts_with_velocity"]) <= set(state._fields) - {"velocity"}
    assert isinstance(declared["sums_gradients"], bool)
    assert "shift" in state._fields or declared["shift"] == 0.0


@pytest.mark.parametrize("name", WITH_VELOCITY)
def test_reset_zeroes_the_velocity_and_the_fields_that_the_state_declares(name):
    state = WITH_VELOCITY[name]
    ones = state(**{field: jnp.ones(2) for field in state._fields})
    reset = momentax.reset_velocity((optax.EmptyState(), ones))[1]
    zeroed = {field for field in state._fields if not jnp.any(getattr(reset, field))}
    assert zeroed == {"velocity", *state.restarts_with_velocity}


def test_every_state_without_a_velocity_wraps_another_state():
    parts_of_sgd = {"DecayState", "ScaleState"}
    assert STATES["MuonState"]._fields == ("hidden", "others")  # The states of two optimizers.
    for name in set(STATES) - set(WITH_VELOCITY) - parts_of_sgd - {"MuonState"}:
        assert "inner_state" in STATES[name]._fields
    for name in parts_of_sgd:
        assert jax.tree.leaves(STATES[name](jnp.zeros(()))) == [0]
