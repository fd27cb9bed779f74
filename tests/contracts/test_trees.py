"""Trees: any pytree, `None` where there is no gradient, and errors that name the leaf's path."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from tests.cases import OPTIMIZERS, TRANSFORMATIONS
from tests.contracts.harness import build, every_transformation, types


def state_of_leaf(key, state):
    """Return the entries of a state that belong to one leaf of the parameters, without counts."""
    found = jax.tree_util.tree_leaves_with_path(state)
    key = jax.tree_util.DictKey(key)
    return [leaf for path, leaf in found if key in path and leaf.dtype != jnp.int32]


@every_transformation
@pytest.mark.parametrize("jit", [True, False])
def test_a_gradient_of_none_keeps_the_velocity_of_its_leaf(name, jit):
    tx, params = build(name), {"a": jnp.ones(2), "b": jnp.ones(3)}
    update = jax.jit(tx.update) if jit else tx.update
    _, state = update(params, tx.init(params), params)
    held = momentax.velocity(state)["b"]
    updates, after = update({"a": params["a"], "b": None}, state, params)
    assert types(after) == types(state)
    chex.assert_trees_all_equal(momentax.velocity(after)["b"], held)
    chex.assert_trees_all_equal(state_of_leaf("b", after), state_of_leaf("b", state))
    if name in OPTIMIZERS:
        chex.assert_trees_all_equal(updates["b"], jnp.zeros(3))
    else:
        assert updates["b"] is None
    if not TRANSFORMATIONS[name].coupled:
        whole = momentax.velocity(update(params, state, params)[1])
        chex.assert_trees_all_equal(momentax.velocity(after)["a"], whole["a"])
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)  # Equal ones would not change an average.
    _, last = update(doubled, after, params)
    assert not jnp.array_equal(momentax.velocity(last)["b"], held)


@every_transformation
def test_masked_nodes_and_empty_trees_pass(name):
    tx = build(name)
    for params in ({}, (), None, {"a": optax.MaskedNode(), "b": jnp.ones(2)}):
        updates, _ = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_equal_structs(updates, params)


@every_transformation
@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (jnp.arange(3), "int32"),
        (jnp.array([True]), "bool"),
        (np.zeros(2, jax.dtypes.float0), "float0"),
        (3, "int32"),
    ],
    ids=["int", "bool", "float0", "python int"],
)
def test_a_leaf_that_cannot_have_a_gradient_is_refused_at_init(name, leaf, dtype):
    params = {"dense": {"kernel": jnp.ones(2), "steps": leaf}}
    with pytest.raises(TypeError, match=rf"\['dense'\]\['steps'\] has dtype .*{dtype}.*masked"):
        build(name).init(params)


MISFITS = {
    "missing": ({"a": jnp.ones(2)}, r"\['b'\]\['c'\]|\['b'\]", "nothing where"),
    "extra": (
        {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 1))}, "z": jnp.ones(1)},
        r"\['z'\]",
        "an array where nothing",
    ),
    "shape": (
        {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 2))}},
        r"\['b'\]\['c'\]",
        r"shape \(3, 2\) where shape \(3, 1\)",
    ),
    "broadcastable": (
        {"a": jnp.ones(1), "b": {"c": jnp.ones((3, 1))}},
        r"\['a'\]",
        r"shape \(1,\) where shape \(2,\)",
    ),
    "container": (
        {"a": jnp.ones(2), "b": [jnp.ones((3, 1))]},
        r"\['b'\]",
        "a list where a dict",
    ),
    "subtree": ({"a": [jnp.ones(2)], "b": {"c": jnp.ones((3, 1))}}, r"\['a'\]", "a list where an"),
    "none": ({"a": jnp.ones(2), "b": None}, r"\['b'\]", "None where a dict"),
}


@every_transformation
@pytest.mark.parametrize("misfit", MISFITS)
def test_the_error_names_the_first_path_at_which_gradients_do_not_fit(name, misfit):
    tx, params = build(name), {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 1))}}
    state = tx.init(params)
    grads, path, text = MISFITS[misfit]
    for args in ((grads, state), (grads, state, params)):
        if len(args) == 2 and "weight_decay" in TRANSFORMATIONS[name].hyperparameters:
            continue  # Decay needs the parameters.
        with pytest.raises(ValueError, match=f"gradient at {path} does not fit .*{text}"):
            tx.update(*args)


@every_transformation
def test_gradients_of_another_kind_of_number_are_refused(name):
    tx, params = build(name), {"a": jnp.ones(2)}
    state = tx.init(params)
    for dtype in (jnp.complex64, jnp.int32):
        with pytest.raises(
            TypeError, match=rf"\['a'\] does not fit .*{dtype.__name__} where float"
        ):
            tx.update({"a": jnp.ones(2, dtype)}, state, params)
    params = {"a": jnp.ones(2, jnp.complex64)}
    with pytest.raises(TypeError, match=r"\['a'\] does not fit .*float32 where complex64"):
        tx.update({"a": jnp.ones(2)}, tx.init(params), params)
