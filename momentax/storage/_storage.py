"""The seed of a storage's random bits."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.codecs import Storage as Storage


def as_seed(value: Any) -> Any:
    """Return a seed as a NumPy scalar, or as it is where it is traced."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer) and not value.ndim:
        if arguments.is_traced(value):
            return value
        value = int(value)  # Otherwise the caller's array would be donated with the state.
    if arguments.as_count("seed", value, least=0, most=math.inf) < 2**32:
        return np.uint32(value)
    raise ValueError(f"seed must be a whole number in [0, 2**32), got {arguments.describe(value)}")
