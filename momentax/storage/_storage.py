"""The record that describes a storage, and the seed of its random bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.codecs import EncodedArray


class Storage(NamedTuple):
    """How `stored` keeps a velocity; made by `bfloat16` or `int8`.

    encode: a function of an array and of 32 random bits for each entry, or None,
        that returns the encoded array.
    packed_type: the NamedTuple of trees in which a state keeps the velocity.
    seed: the seed of the random bits; None rounds to the nearest.
    limit: the largest β at which the velocity follows float32.
    advice: what happens above the limit, and what to use instead.
    """

    encode: Callable[[jax.Array, jax.Array | None], EncodedArray]
    packed_type: Any
    seed: Any
    limit: float
    advice: str

    def __repr__(self) -> str:
        seed = self.seed if arguments.is_traced(self.seed) or self.seed is None else int(self.seed)
        return f"Storage({self.packed_type.__name__}, seed={seed}, limit={self.limit})"


def as_seed(value: Any) -> Any:
    """Return a seed as a NumPy scalar, or as it is where it is traced."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer) and not value.ndim:
        if arguments.is_traced(value):
            return value
        value = int(value)  # Otherwise the caller's array would be donated with the state.
    if arguments.as_count("seed", value, least=0, most=math.inf) < 2**32:
        return np.uint32(value)
    raise ValueError(f"seed must be a whole number in [0, 2**32), got {arguments.describe(value)}")
