"""A state of another transformation is refused by a sentence, and an own one never is."""

import itertools
import re
from collections import UserDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from tests.cases import OPTIMIZERS, TRANSFORMATIONS
from tests.contracts.harness import build, every_transformation

PARAMS = {"a": jnp.ones(2), "b": jnp.ones((3, 2))}


class Abstract(UserDict):
    """The state of each case without values, made when it is first read.

    Cases that are one recurrence with other hyperparameters share the class of their state.
    """

    def __missing__(self, name):
        self[name] = jax.eval_shape(build(name).init, PARAMS)
        return self[name]


ABSTRACT = Abstract()


def classes(state):
    """Return the structure of a state without the shapes of its arrays."""
    return jax.tree.structure(state)


def shapes(state):
    """Return the shapes of the arrays in a state; those of one class may differ in their axes."""
    return [leaf.shape for leaf in jax.tree.leaves(state)]


def refuses(tx, state):
    (message,) = refusals(tx, {"": state}).values()
    return message


def refusals(tx, states):
    """Return the messages of the errors for the states that are refused, in one trace for all."""
    messages = {}

    def update_each(params, states):
        for name, state in states.items():
            try:
                tx.update(params, state, params)
            except (TypeError, ValueError) as error:
                messages[name] = str(error)

    jax.eval_shape(update_each, PARAMS, states)
    return messages


@every_transformation
def test_the_state_of_every_other_transformation_is_refused(name):
    own, fitting, others = ABSTRACT[name], set(), {}
    for other in TRANSFORMATIONS:
        state = ABSTRACT[other]
        if classes(state) == classes(own) and shapes(state) == shapes(own):
            fitting.add(other)
        elif other in OPTIMIZERS and name in OPTIMIZERS and len(state) == len(own):
            continue  # The tuples of two options may hold the same states.
        others[other] = state
    messages = refusals(build(name), others)
    assert messages.keys() == others.keys() - fitting
    for other, message in messages.items():
        if {name, other} == {"outer", "outer, every 3"} and "same in chain" in message:
            continue  # Optax's chain inside of one of them refuses the state of the other.
        text = r"state must be |the state holds|this state was made"
        assert re.match(text, message), (other, message)
        assert "tx.init(params)" in message
    assert len(messages) > 20


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_refuses_the_states_of_other_options(name):
    tx, own = build(name), ABSTRACT[name]
    for other in OPTIMIZERS:
        if classes(ABSTRACT[other]) != classes(own):
            assert refuses(tx, ABSTRACT[other]).startswith("state must be")


@every_transformation
@pytest.mark.parametrize(
    "spoil",
    [tuple, list, lambda state: {"count": 0}, lambda state: None, lambda state: PARAMS],
    ids=["tuple", "list", "dict", "None", "params"],
)
def test_what_is_no_state_is_refused(name, spoil):
    tx, state = build(name), ABSTRACT[name]
    given = spoil(state)
    if type(state) is tuple and spoil is tuple:
        given = tuple(map(tuple, state))
    message = refuses(tx, given)
    assert re.match(
        "state must be .* got (a tuple|a list|a dict|None|one of the class)", message
    ), message


@every_transformation
def test_a_transformation_in_the_place_of_its_state_is_named(name):
    tx = build(name)
    with pytest.raises(TypeError, match=r"got a gradient transformation; give its state"):
        tx.update(PARAMS, tx, PARAMS)


@every_transformation
def test_a_method_accepts_its_own_state_under_jit_and_eval_shape(name):
    tx, state = build(name), ABSTRACT[name]
    leaves, structure = jax.tree.flatten(state)
    for disguise in (
        jax.tree.unflatten(structure, leaves),
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state),
    ):
        jax.eval_shape(tx.update, PARAMS, disguise, PARAMS)
    stacked = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), state)
    jax.eval_shape(jax.vmap(tx.update, in_axes=(None, 0, None)), PARAMS, stacked, PARAMS)


def test_a_state_of_other_storage_is_refused():
    makers = {
        "nearest": momentax.storage.bfloat16(stochastic=False),
        "stochastic": momentax.storage.bfloat16(stochastic=True),
        "int8": momentax.storage.int8(),
    }
    stored = {
        name: momentax.stored(momentax.heavy_ball(), each, min_size=1)
        for name, each in makers.items()
    }
    for one, other in itertools.permutations(stored, 2):
        state = jax.eval_shape(stored[other].init, PARAMS)
        if jax.tree.structure(state) != jax.tree.structure(
            jax.eval_shape(stored[one].init, PARAMS)
        ):
            assert refuses(stored[one], state).startswith("state must be one of Storage(")


def test_another_number_of_velocities_is_refused():
    state = momentax.aggregated((0.5, 0.9)).init(PARAMS)
    with pytest.raises(ValueError, match=r"the state holds 2 velocities .* betas has 3"):
        momentax.aggregated((0.0, 0.5, 0.9)).update(PARAMS, state)


def test_the_message_names_both_states():
    with pytest.raises(TypeError) as caught:
        momentax.average().update(PARAMS, momentax.nesterov().init(PARAMS))
    assert (
        "must be of the class momentax.states.AverageState, got one of the class momentax.states.S"
        in str(caught.value)
    )
    with pytest.raises(TypeError, match=r"got one of the class optax\.TraceState"):
        momentax.heavy_ball().update(PARAMS, optax.trace(0.9).init(PARAMS))
