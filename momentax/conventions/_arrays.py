"""Arrays of another framework in NumPy and JAX, without importing the framework."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np


def as_numpy(value: Any) -> np.ndarray:
    """Return a tensor, on any device, a variable's value or an array as a NumPy array."""
    value = _variable_value(value)
    if not hasattr(value, "detach"):
        return np.asarray(value)
    if getattr(value, "is_sparse", False):  # Such as the buffer of an embedding.
        value = value.to_dense()
    if str(value.dtype) == "torch.bfloat16":  # PyTorch does not convert it to NumPy.
        return value.float().numpy(force=True).astype(jnp.bfloat16)
    return value.numpy(force=True)


def as_number(value: Any) -> Any:
    """Return a tensor or a variable of one element as a number, and anything else unchanged."""
    value = _variable_value(value)
    return value.item() if hasattr(value, "detach") else value


def _variable_value(variable: Any) -> Any:
    """Return the value of a Keras variable, and anything else unchanged."""
    return variable.value if hasattr(variable, "assign") else variable


def require_dtype(array: np.ndarray, like: Any, where: str) -> None:
    """Refuse an array whose dtype the dtype of a leaf cannot represent without loss."""
    dtype = jnp.result_type(like)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"{where} has dtype {array.dtype} where {dtype} belongs")
    if not np.can_cast(array.dtype, dtype):
        raise TypeError(
            f"{where} has dtype {array.dtype}, which {dtype} cannot represent without loss; "
            f"convert it first, or keep the parameters in {array.dtype}"
        )
