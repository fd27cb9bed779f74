"""Whether updates follow the gradient, as directions do, or oppose it, as steps do."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.typing import PyTree


class OrientedState(NamedTuple):
    """The state of a wrapper that compares updates with gradients.

    orientation: for each leaf 1 if its updates follow the gradient, -1 if they
        oppose it, 0 as long as that is unknown; 0-d int32 arrays.
    inner_state: tx's own.
    """

    orientation: PyTree
    inner_state: Any


def oriented(
    tx: optax.GradientTransformation, refine: Callable[[jax.Array, jax.Array], jax.Array]
) -> optax.GradientTransformationExtraArgs:
    """Replace each leaf's update u by refine(h, u).

    h is the gradient g where the updates follow it and -g where they oppose
    it. Which it is shows in how u changes when g alone changes its sign: what
    momentum, decay and the like contribute falls out. As long as u does not
    change, as while a learning rate is 0, u is left as it is.
    """
    arguments.require_transformation("tx", tx)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        return OrientedState(jax.tree.map(_unknown, params), tx.init(params))

    def update(updates, state, params=None, **extra_args):
        known, inner = state
        u, inner = tx.update(updates, inner, params, **extra_args)

        def probe() -> PyTree:
            # From the new state: reading the old one here would make XLA keep a copy of it.
            ahead, back = (
                tx.update(g, inner, params, **extra_args)[0] for g in (updates, negative(updates))
            )
            return _each(_settled, updates, known, ahead, back)

        complete = [o != 0 for o in jax.tree.leaves(known)]
        orientation = jax.lax.cond(
            functools.reduce(operator.and_, complete, jnp.array(True)), lambda: known, probe
        )

        def refined(u: Any, g: Any, o: Any) -> jax.Array:
            dtype = arithmetic.compute_dtype(u, g)
            h, kept = jnp.asarray(g, dtype) * o.astype(dtype), jnp.asarray(u, dtype)
            return jnp.where(o == 0, kept, refine(h, kept)).astype(u.dtype)

        return _each(refined, updates, u, orientation), OrientedState(orientation, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _comparable(leaf: Any) -> bool:
    return jnp.size(leaf) > 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _unknown(leaf: Any) -> jax.Array:
    return jnp.full((), 0 if _comparable(leaf) else 1, jnp.int32)


def _settled(o: jax.Array, g: Any, ahead: Any, back: Any) -> jax.Array:
    """The orientation, if it was unknown, from the updates that g and -g lead to."""
    dtype = arithmetic.compute_dtype(g, ahead)
    g, ahead, back = (jnp.asarray(leaf, dtype) for leaf in (g, ahead, back))
    along = jnp.sum(jnp.real(jnp.conj(g) * (ahead - back)))
    return jnp.where(o == 0, jnp.sign(along).astype(o.dtype), o)


def negative(updates: PyTree) -> PyTree:
    """The gradients, with the other sign where they have one."""
    return jax.tree.map(lambda g: -g if _comparable(g) else g, updates)


def _each(function: Callable[..., Any], updates: PyTree, first: PyTree, *rest: PyTree) -> PyTree:
    """Map first by function(first, gradient, *rest) where there is a gradient to compare with."""

    def visit(g: Any, first: Any, *rest: Any) -> Any:
        return function(first, g, *rest) if g is not None and _comparable(g) else first

    return jax.tree.map(visit, updates, first, *rest, is_leaf=trees.is_none)
