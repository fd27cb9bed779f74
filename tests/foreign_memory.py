"""Arrays whose memory JAX would use as it is, and which the tests overwrite afterwards."""

from typing import Any

import jax
import numpy as np

ALIGNMENT = 64  # Bytes. JAX on CPU copies a NumPy array that is not aligned so.


def aligned(values: Any, dtype: Any = np.float32) -> np.ndarray:
    """Return a copy of an array in memory that JAX would use without copying it."""
    values = np.asarray(values, dtype)
    memory = np.zeros(values.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array = memory[start : start + values.nbytes].view(dtype).reshape(values.shape)
    array[...] = values
    return array


def overwrite(tree: Any) -> None:
    """Write other values into every NumPy array of a tree that may be written to."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            leaf[...] = -77
