"""Helpers of the contract tests: each case as a transformation, and a tree of parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.cases import METHODS, TRANSFORMATIONS, WRAPPERS

every_transformation = pytest.mark.parametrize("name", TRANSFORMATIONS)
every_method = pytest.mark.parametrize("name", METHODS)
every_method_and_wrapper = pytest.mark.parametrize("name", METHODS | WRAPPERS)
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def every_transformation_with(condition):
    """Parametrize a test with the names of the cases for which a condition holds."""
    return pytest.mark.parametrize(
        "name", [name for name, case in TRANSFORMATIONS.items() if condition(case)]
    )


@functools.cache  # Tests that compile the same function with the same types share the program.
def build(name):
    """Return the transformation of a case; `update` supplies the extra arguments it needs."""
    return build_with(name)


def build_with(name, **hyperparameters):
    """Return the transformation of a case with other hyperparameters."""
    case = TRANSFORMATIONS[name]
    return with_extra_args(name, case.make(**(case.hyperparameters | hyperparameters)))


def with_extra_args(name, tx):
    """Return `tx` with an `update` that supplies the extra arguments that the case needs."""
    extra = TRANSFORMATIONS[name].extra

    def update(updates, state, params=None, **extra_args):
        return tx.update(updates, state, params, **(extra(updates) | extra_args))

    return optax.GradientTransformationExtraArgs(tx.init, update)


def tree(dtype=jnp.float32, seed=0):
    """Return parameters with every container of JAX, a scalar, a None and an empty array."""
    rng = np.random.default_rng(seed)

    def array(*shape):
        values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        return jnp.asarray(values.real if real else values, dtype)

    return {"dense": (array(3, 2), array(2)), "rest": [array(), None, array(0)]}


def three_updates(tx, params):
    """Return the last updates and state after three gradients."""
    state = tx.init(params)
    for seed in range(3):
        updates, state = tx.update(tree(seed=seed), state, params)
    return updates, state


def types(state):
    """Return the structure, shapes, dtypes and weak types, which must never change."""
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


def as_function(value):
    """Return a number as a constant function of the count, and an array as its entries."""
    return (lambda count: value) if np.ndim(value) == 0 else value.__getitem__
