"""Random bits for stochastic rounding, hashed from the seed, the step, the leaf and the entry."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

# Both functions are jitted to be traced once for each shape, and inlined into the step.


@partial(jax.jit, inline=True)
def hash_key(seed: jax.Array, count: jax.Array, leaf: Any) -> jax.Array:
    """Return a number that differs for every seed, step and leaf."""
    return _mix(_mix(_mix(seed) ^ count.astype(jnp.uint32)) ^ leaf)


@partial(jax.jit, static_argnames="shape", inline=True)
def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return 32 bits for each entry of an array, of which the upper 16 are of good quality.

    They depend on the key and on the place of the entry in the whole array, so that they are the
    same on any number of devices.
    """
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    bits = (place ^ key) * jnp.uint32(0x9E3779B1)
    return (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)


def _mix(x: Any) -> Any:
    """The hash lowbias32 (Wellons, 2018): each bit of x changes half of the bits of the result."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
