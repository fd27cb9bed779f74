"""The parts of a pipeline, and the gradient as it reaches the method among them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import trees
from momentax._core.typing import PyTree
from momentax._state._units import node_and_units
from momentax._state._velocity import has_velocity, velocities


def parts_of(update: Callable[..., Any]) -> tuple[Callable[..., Any], ...] | None:
    """Return the updates of the parts of `optax.chain` and `momentax.sgd`, in order, or None.

    Both keep the functions of their parts in a closure. Optax has no public way to read them. A
    release that renames them leaves a chain without parts, so that it counts as one whole.
    """
    if not inspect.isfunction(update):
        return None
    variables = inspect.getclosurevars(update).nonlocals
    for name in ("update_fns", "chained"):
        found = variables.get(name)
        if isinstance(found, optax.GradientTransformation):
            return parts_of(found.update)
        if isinstance(found, tuple) and all(map(callable, found)):
            return found
    return None


def gradient_at_method(
    update: Callable[..., Any],
    updates: PyTree,
    state: PyTree,
    params: PyTree,
    extra_args: dict[str, Any],
) -> PyTree:
    """Return the gradient as it reaches the first part that keeps a velocity, or None.

    The parts before are run once more; XLA computes what both runs have in common once.
    """
    parts = parts_of(update)
    if parts is None or not isinstance(state, tuple) or len(parts) != len(state):
        return None
    for part, own in zip(parts, state, strict=True):
        if _keeps_velocity(own):
            if parts_of(part) is None:
                return updates
            return gradient_at_method(part, updates, own, params, extra_args)
        updates, _ = part(updates, own, params, **extra_args)
    return None


def _keeps_velocity(state: PyTree) -> bool:
    return any(map(has_velocity, jax.tree.leaves(state, is_leaf=has_velocity)))


def velocity_parts(state: PyTree, like: PyTree) -> tuple[list[Any], list[bool]]:
    """Return the velocity of each leaf of the parameters, and whether it sums gradients.

    Of several velocities it is the first. Those that are stacked on leading axes stay so. A
    velocity that does not sum gradients is in parameter units.
    """
    leaves = jax.tree.leaves(like)
    found: list[Any] = [None] * len(leaves)
    sums = [True] * len(leaves)
    for path, v in velocities(state).items():
        in_gradients = node_and_units(state, path)[1] != "parameter"
        for i, (part, leaf) in enumerate(zip(parts_like(v, like), leaves, strict=True)):
            if found[i] is None and part is not None and jnp.ndim(part) >= leaf.ndim:
                found[i], sums[i] = part, in_gradients
    return found, sums


def parts_like(tree: PyTree, like: PyTree) -> list[Any]:
    """Return the array of a tree at each leaf of another, and None where it has none.

    A tree of another structure has none at all.
    """
    structure = jax.tree.structure(like)
    try:
        parts = structure.flatten_up_to(trees.only_arrays(tree))
    except ValueError:
        parts = [None] * structure.num_leaves
    return [part if _is_measurable(part) else None for part in parts]


def _is_measurable(part: Any) -> bool:
    if not jax.tree_util.all_leaves([part]) or not trees.is_array(part):
        return False
    return jnp.issubdtype(jnp.result_type(part), jnp.inexact)
