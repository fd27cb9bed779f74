"""The size of an optimizer state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, trees
from momentax._core.typing import PyTree
from momentax._state import _flax, _velocity


def bytes_per_parameter(state: PyTree, *, params: PyTree = None) -> float:
    """Count the bytes of an optimizer state for each entry of the parameters.

    All arrays of the state count: velocities, second moments and counts.

    Args:
        state: An optimizer state, or what `jax.eval_shape(tx.init, params)` returns.
        params: The parameters; of a module only the arrays count. With None the number
            of entries is that of the velocity, or of the largest if there are several:
            for a method such as `aggregated` that is K entries for each parameter.

    Returns:
        Bytes an entry, a float.

    Raises:
        ValueError: The number of entries is unknown: params is None, and the
            state holds no velocity or an empty one; or params do not fit any
            velocity of the state.
        TypeError: state holds something that is no array, or params hold no array.

    Example:
        >>> state = momentax.heavy_ball(0.9).init(params)
        >>> momentax.storage.bytes_per_parameter(state)  # 4 for each entry, and a count of 4.
        5.333333333333333
    """
    if isinstance(state, optax.GradientTransformation):
        raise TypeError("state is a gradient transformation; pass its state, tx.init(params)")
    _require_arrays("state", state, "an optimizer state, as tx.init(params) returns it")
    params = _arrays_of(params)
    state = jax.eval_shape(lambda state: state, state)
    found = jax.eval_shape(_velocity.velocities, state)
    if params is None:
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(v)) for v in found.values()]
    else:
        sizes = [sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))]
    if not max(sizes, default=0):
        raise ValueError(
            "the state holds no velocity whose entries could be counted: give params, the "
            "parameters that it was made for"
        )
    params = _flax.unwrap(params)
    if params is not None and found and not any(_fits(v, params) for v in found.values()):
        raise ValueError(
            "params do not fit the velocity of the state: pass the parameters that the state was "
            "made for"
        )
    leaves = jax.tree.leaves(state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / max(sizes)


def _require_arrays(name: str, tree: PyTree, expected: str) -> None:
    """Refuse a tree with a leaf that is neither an array nor the shape of one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if arguments.dtype_of(leaf) is None or not hasattr(leaf, "dtype"):
            raise TypeError(
                f"{name} must be {expected}, a tree of arrays, got {arguments.describe(leaf)} at "
                f"{trees.path_name(path)}"
            )


def _arrays_of(params: PyTree) -> PyTree:
    """Return parameters with None in place of each leaf of a module that is no array."""
    arrays = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, params)
    if jax.tree.leaves(params) and not jax.tree.leaves(arrays):
        _require_arrays("params", params, "the parameters that the state was made for, or None")
    return arrays


def _fits(velocity: PyTree, params: PyTree) -> bool:
    """Return whether each leaf of a velocity belongs to a part of the parameters."""
    try:
        jax.tree.map(lambda *_: None, _flax.unwrap(velocity), params, is_leaf=trees.is_absent)
    except ValueError:
        return False
    return True
