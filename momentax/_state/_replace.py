"""Replace the velocity in a state."""

from __future__ import annotations

import jax

from momentax._core import arithmetic, trees
from momentax._core.typing import PyTree
from momentax._state import _flax
from momentax._state._velocity import find_velocities, join_velocities, map_node


def replace_velocity(state: PyTree, new_velocity: PyTree, *, path: str | None = None) -> PyTree:
    """Replace the velocity in a state by another one.

    Args:
        state: An optimizer state, or a pytree that contains one.
        new_velocity: A pytree of the structure and shapes of `velocity(state)`.
            Each leaf is copied, and cast to the dtype, weak or not, of the leaf
            that it replaces.
        path: The path of the velocity, as in `velocity`.

    Returns:
        The state with the new velocity and everything else unchanged.

    Raises:
        ValueError: As `velocity`; or new_velocity has another structure or
            other shapes. The message names the first path that differs.
        TypeError: A leaf is complex where the velocity is real, or real where
            the velocity is complex.

    Example:
        >>> state = momentax.heavy_ball(0.9).init(params)
        >>> state = momentax.replace_velocity(state, grads)
        >>> momentax.velocity(state)
        {'w': Array([0.1, 0.2, 0.3], dtype=float32)}
    """
    found = find_velocities(state, path)
    old = join_velocities(found)
    remedy = "shape the new velocity like momentax.velocity(state)"
    new, plain = _flax.unwrap(new_velocity), _flax.unwrap(old)
    trees.require_fit("new_velocity", new, "the velocity", plain, remedy, none_fits=False)
    new = _flax.wrap_like(jax.tree.map(arithmetic.cast_like, new, plain), old)
    for place, part in found.items():
        own = trees.masked_like(part, new)
        state = map_node(state, place, lambda node, field, own=own: node._replace(**{field: own}))
    return state
