"""The loss that `update` is given as value=loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import arguments, arithmetic


def loss_value(value: Any) -> jax.Array:
    """Return a loss, checked to be one real floating scalar."""
    if arguments.dtype_of(value) is None:
        raise ValueError(
            f"value must be a real scalar, the loss at params, got {arguments.describe(value)}"
        )
    value = arithmetic.own(value)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"value must be a real scalar, the loss at params, got shape {value.shape} and "
            f"dtype {value.dtype}"
        )
    return value
