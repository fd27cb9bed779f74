"""How far a velocity moves the parameters: its units, and its step size."""

from __future__ import annotations

from typing import Any

import jax
import optax

from momentax._core import arguments, hyperparameters, trees
from momentax._core.codecs import decode
from momentax._core.typing import PyTree, Scalar, Schedule
from momentax._state import _flax
from momentax._state._velocity import find_velocity, has_velocity, paths_of_velocities


def node_and_units(state: PyTree, path: str | None = None) -> tuple[Any, str | None]:
    """Return the node of a velocity, decoded, and the velocity's units, or None if unknown.

    `sgd` and other chains scale the directions by the learning rate after a velocity in
    gradient units, and the gradients before a velocity in parameter units. So the position
    of that scaling in the innermost chain that contains both tells the units. The state of
    a named chain does not tell in which order its parts run. A node without such a scaling may
    tell its units itself.
    """
    path, _ = find_velocity(state, path)
    state, _ = _flax.with_named_nodes(state, has_velocity)
    found = jax.tree_util.tree_leaves_with_path(
        state, is_leaf=lambda node: has_velocity(node) or _scales_updates(node)
    )
    at, node = next((at, node) for at, node in found if path in paths_of_velocities(at, node))
    scalings = [
        other
        for other, node in found
        if _scales_updates(node)
        and other[:-1] == at[: len(other) - 1]
        and isinstance(other[-1], jax.tree_util.SequenceKey)
    ]
    node = _flax.unwrap(decode(node))
    if not scalings:
        return node, getattr(type(node), "units", None)
    innermost = max(scalings, key=len)
    scaled_before = innermost[-1].idx < at[len(innermost) - 1].idx
    return node, "parameter" if scaled_before else "gradient"


def _scales_updates(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState) or getattr(
        type(node), "scales_by_learning_rate", False
    )


def as_step_size(learning_rate: Scalar) -> Schedule:
    """Return the learning rate of the last update, checked to be a number."""
    return hyperparameters.as_constant("learning_rate", learning_rate, arguments.ANY_REAL)


def step_size(learning_rate: Scalar | None, units: str | None) -> Any:
    """Return c such that a velocity v moves the parameters by -c v.

    That is the learning rate for a velocity in gradient units, and -1 for one in parameter
    units.
    """
    if (learning_rate is None) != (units == "parameter"):
        raise ValueError(
            "the velocity is in parameter units, which contain the learning rate: leave "
            f"learning_rate out, got {arguments.describe(learning_rate)}"
            if units == "parameter"
            else "give learning_rate, the value that the last update used. If your chain "
            "multiplies gradients by the learning rate before the method, give learning_rate=-1"
        )
    return as_step_size(-1 if learning_rate is None else learning_rate)(0)


def velocity_like_params(node: Any, params: PyTree) -> PyTree:
    """Return the velocity of a node, with None where a mask leaves parameters out.

    Parameters that it does not fit are refused.
    """
    v = jax.tree.map(
        lambda leaf: None if trees.is_masked(leaf) else leaf, node.velocity, is_leaf=trees.is_masked
    )
    shaped = v
    if axes := getattr(node, "leading_axes", 0):
        shaped = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), v)
    remedy = "pass the params that the state's updates were applied to"
    params = trees.masked_like(v, params)
    trees.require_fit("params", params, "the velocity", shaped, remedy, none_fits=False)
    return v
