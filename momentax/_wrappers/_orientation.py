"""Detect whether updates follow the gradient, as directions do, or oppose it, as steps do."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees, xla
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree


class OrientedState(NamedTuple):
    """The state of a wrapper that compares updates with gradients.

    orientation: for each leaf a 0-d int32 array: 1 if the updates follow the
        gradient, -1 if they oppose it, 0 until one of the two was detected.
    inner_state: the state of tx.
    """

    orientation: PyTree
    inner_state: Any


def orient_updates(
    tx: optax.GradientTransformation, refine: Callable[[jax.Array, jax.Array], jax.Array]
) -> optax.GradientTransformationExtraArgs:
    """Replace the update u of each leaf by refine(h, u).

    h is the gradient g where the updates follow it and -g where they oppose it. The change of u
    when only g changes its sign tells which of the two holds, since the contributions of
    momentum, decay and the like cancel in that difference. If u does not change, for example
    while a learning rate is 0, u is returned unchanged.
    """
    arguments.require_transformation("tx", tx)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        inner = tx.init(params)  # First, since it names a parameter that is wrong.
        orientation = jax.tree.map(_initial_orientation, trees.only_arrays(params))
        return OrientedState(orientation, inner)

    def update(updates, state, params=None, **extra_args):
        orientation, inner = state
        u, inner = tx.update(updates, inner, params, **extra_args)

        def detect() -> PyTree:
            # The new state is read here, so that the old one may be overwritten (_core/xla.py, 1).
            ahead, back = (
                tx.update(g, inner, params, **extra_args)[0] for g in (updates, negative(updates))
            )
            return _map_comparable(_detect_orientation, updates, orientation, ahead, back)

        detected = [o != 0 for o in jax.tree.leaves(orientation)]
        all_detected = functools.reduce(operator.and_, detected, jnp.array(True))
        orientation = xla.choose(all_detected, lambda: orientation, detect)

        def refine_leaf(u: Any, g: Any, o: Any) -> jax.Array:
            dtype = arithmetic.compute_dtype(u, g)
            h, upcast = jnp.asarray(g, dtype) * o.astype(dtype), jnp.asarray(u, dtype)
            return jnp.where(o == 0, upcast, refine(h, upcast)).astype(u.dtype)

        d = _map_comparable(refine_leaf, updates, u, orientation)
        return d, OrientedState(orientation, inner)

    return transformation(init, update, OrientedState)


def is_comparable(leaf: Any) -> bool:
    """Return whether the update of a parameter can be compared with its gradient."""
    return np.size(leaf) > 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _initial_orientation(leaf: Any) -> jax.Array:
    return jnp.full((), 0 if is_comparable(leaf) else 1, jnp.int32)


def _detect_orientation(o: jax.Array, g: Any, ahead: Any, back: Any) -> jax.Array:
    """Return the orientation, if it was 0 from the updates that g and -g lead to."""
    dtype = arithmetic.compute_dtype(g, ahead)
    g, ahead, back = (jnp.asarray(leaf, dtype) for leaf in (g, ahead, back))
    # Half of the difference does not overflow. Where the sign is NaN, it is not detected.
    along = arithmetic.sign_of_inner_product(g, ahead / 2 - back / 2)
    return jnp.where((o == 0) & ~jnp.isnan(along), along.astype(o.dtype), o)


def negative(updates: PyTree) -> PyTree:
    """Return the gradients with the opposite sign; leaves that are not inexact stay unchanged."""
    return jax.tree.map(lambda g: -g if is_comparable(g) else g, updates)


def _map_comparable(
    function: Callable[..., Any], updates: PyTree, first: PyTree, *rest: PyTree
) -> PyTree:
    """Map `first` by function(first, gradient, *rest) where there is a gradient to compare with."""

    def visit(g: Any, first: Any, *rest: Any) -> Any:
        return function(first, g, *rest) if g is not None and is_comparable(g) else first

    return jax.tree.map(visit, updates, first, *rest, is_leaf=trees.is_none)
