"""Set the velocity to zero, or the whole node of a velocity to its first value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import trees
from momentax._core.typing import PyTree
from momentax._state._velocity import (
    fields_that_restart,
    find_velocities,
    join_velocities,
    map_node,
    velocity_node,
)


def reset_velocity(state: PyTree, *, path: str | None = None) -> PyTree:
    """Set the velocity to zero.

    What only the velocity uses restarts with it. That is the debiasing of an
    average (`average`, `adan`, `optax.ema`, `contrib.muon` and others), so that
    the next average is the next gradient, and the change of the velocity in
    `positive_negative`. A count that something else reads as well is kept: a
    schedule of β reads it, and so does Adam's second moment, which a count of 0
    would inflate by 1 / (1 - β₂).

    Args:
        state: An optimizer state, or a pytree that contains one.
        path: The path of the velocity, as in `velocity`.

    Returns:
        The state with a velocity of zeros and everything else unchanged.

    Raises:
        ValueError: As `velocity`.

    Example:
        >>> tx = momentax.heavy_ball(0.9)
        >>> _, state = tx.update(grads, tx.init(params))
        >>> momentax.velocity(momentax.reset_velocity(state))
        {'w': Array([0., 0., 0.], dtype=float32)}
    """
    for place in find_velocities(state, path):
        state = map_node(state, place, _reset_node)
    return state


def _reset_node(node: Any, field: str) -> Any:
    names = (field, *fields_that_restart(node))
    return node._replace(
        **{name: jax.tree.map(jnp.zeros_like, getattr(node, name)) for name in names}
    )


def reinitialize_where(
    condition: Any,
    state: PyTree,
    init: Callable[[PyTree], PyTree],
    updates: PyTree,
    params: PyTree,
    *,
    path: str | None = None,
) -> PyTree:
    """Return the state with the node of its velocity as `init` gives it where a condition holds.

    Without params, init gets the gradients in their place, which have the same shapes.
    """
    found = find_velocities(state, path)
    old = join_velocities(found)
    first = init(updates if params is None else trees.absent_like(old, params))
    first_velocity = join_velocities(find_velocities(first, path))
    if params is not None:
        remedy = "pass the params that the state was made for"
        trees.require_fit("the parameter", first_velocity, "the velocity", old, remedy)
    else:
        trees.require_gradients(first_velocity, old)
        if jax.tree.structure(first) != jax.tree.structure(state):
            raise ValueError(
                "a restart needs the parameters where a gradient is None: "
                "call update(grads, state, params)"
            )

    def choose(new: Any, old: jax.Array) -> jax.Array:
        return jnp.where(condition, jnp.asarray(new, old.dtype), old)

    for place in found:
        node = velocity_node(first, place)
        state = map_node(state, place, lambda old, _, node=node: jax.tree.map(choose, node, old))
    return state
