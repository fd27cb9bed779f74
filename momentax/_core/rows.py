"""Rows of arrays: which ones an update reads and writes, and one number for each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.arguments import describe
from momentax._core.sharding import sharding_in_type
from momentax._core.trees import is_absent
from momentax._core.typing import PyTree


def as_rows(value: PyTree, velocity: PyTree) -> PyTree:
    """Return row numbers as integer arrays, for each leaf that the velocity has.

    A number that is no row of its leaf, negative or too large for any integer dtype, becomes
    the number of rows: JAX would take -1 as the last row.
    """
    wrong = (
        "rows must be a tree like the parameters of 1-d arrays of whole numbers, got "
        f"{describe(value)}"
    )

    def as_index(leaf: Any, part: Any) -> Any:
        if is_absent(leaf):
            return leaf
        is_index = np.ndim(part) == 1 and jnp.issubdtype(jnp.result_type(part), jnp.integer)
        if not is_index or not np.ndim(leaf):
            raise ValueError(wrong)
        return _rows_or_beyond(part, len(leaf))

    try:
        return jax.tree.map(as_index, velocity, value, is_leaf=is_absent)
    except (TypeError, ValueError):  # There is a node or None where an array belongs.
        raise ValueError(wrong) from None


def _rows_or_beyond(rows: Any, count: int) -> jax.Array:
    """Return rows from 0 to count - 1 as they are, and the count in place of all others.

    Numbers are bounded before they become int32, which would change those that it cannot hold.
    """
    numpy = jnp if isinstance(rows, jax.Array) else np
    most = numpy.asarray(min(count, jnp.iinfo(rows.dtype).max), rows.dtype)
    bounded = numpy.minimum(rows, most).astype(np.int32)
    return jnp.asarray(numpy.where(rows >= 0, bounded, count))


def broadcast_rows(row: jax.Array, leaf: jax.Array) -> jax.Array:
    """Reshape one number per row so that it broadcasts against a leaf."""
    return jnp.reshape(row, jnp.shape(row) + (1,) * (jnp.ndim(leaf) - jnp.ndim(row)))


def read_rows(leaf: jax.Array, rows: jax.Array) -> jax.Array:
    """Return rows of a leaf; a row beyond the last is zeros."""
    leaf = jnp.asarray(leaf)
    out = sharding_in_type(leaf, whole_rows=True)
    return leaf.at[rows].get(mode="fill", fill_value=0, out_sharding=out)


def write_rows(leaf: jax.Array, rows: jax.Array, new: jax.Array) -> jax.Array:
    """Return a leaf with some rows replaced; rows beyond the last are ignored."""
    leaf = jnp.asarray(leaf)
    return leaf.at[rows].set(new, mode="drop", out_sharding=sharding_in_type(leaf))
