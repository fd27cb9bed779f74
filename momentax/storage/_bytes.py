"""What a state costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from momentax._core.typing import PyTree
from momentax._state import _velocity


def bytes_per_parameter(state: PyTree, params: PyTree = None) -> float:
    """Count the bytes of an optimizer state for each entry of the parameters.

    It counts every array of the state: velocity, second moments, counts.

    Args:
        state: An optimizer state, or what `jax.eval_shape(tx.init, params)` gives.
        params: The parameters. None takes as many entries as the velocity has,
            the largest if there are several: K for each parameter of an
            `aggregated` method.

    Returns:
        Bytes an entry, a float.

    Raises:
        ValueError: There is nothing to divide by: no params, and the state holds
            no velocity, or one without entries.
    """
    state = jax.eval_shape(lambda state: state, state)
    if params is None:
        found = jax.eval_shape(_velocity.velocities, state)
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(v)) for v in found.values()]
    else:
        sizes = [sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))]
    if not max(sizes, default=0):
        raise ValueError(
            "the state holds no velocity whose entries could be counted: give params, the "
            "parameters that it was made for"
        )
    leaves = jax.tree.leaves(state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / max(sizes)
