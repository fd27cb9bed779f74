"""A velocity in bfloat16: 2 bytes an entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core import arguments
from momentax._core.codecs import EncodedArray
from momentax._core.typing import PyTree
from momentax.storage._storage import Storage, as_seed


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bfloat16Array(EncodedArray):
    """An array of float32 as bfloat16."""

    value: jax.Array

    def decode(self) -> jax.Array:
        return self.value.astype(jnp.float32)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Bfloat16Array:
        return round_to_bfloat16(x, random)

    def pack(self) -> tuple[jax.Array]:
        return (self.value,)

    @classmethod
    def unpack(cls, *parts: Any) -> Any:
        (value,) = parts
        return cls(value) if value.dtype == jnp.bfloat16 else value


class Bfloat16Velocity(NamedTuple):
    """A velocity that is kept in bfloat16.

    values: shaped like the parameters, in bfloat16; leaves that are not encoded
        as they are.
    """

    values: PyTree
    codec = Bfloat16Array


def bfloat16(stochastic: bool = False, *, seed: Any = 0) -> Storage:
    """Keep a velocity as bfloat16, in 2 bytes an entry.

        v_t = round(β v_{t-1} + g_t)    in float32 up to the rounding

    β stays float32. If β > 1 - 2⁻⁸ and the velocity is rounded to the nearest
    bfloat16, then it does not decay without gradients: what a step takes away is
    smaller than half the distance to the next number. Stochastic rounding rounds
    up or down at random, with the probabilities that make the mean exact.

    Args:
        stochastic: Whether to round up or down at random.
        seed: The seed of the random bits, a whole number in [0, 2³²) or a 0-d
            array of one.

    Returns:
        A storage for `momentax.stored`.

    Raises:
        TypeError: stochastic is not a bool, or seed is not a whole number.
        ValueError: seed lies outside its interval.

    Example:
        >>> tx = momentax.stored(momentax.sgd(0.1), momentax.storage.bfloat16(), min_size=1)
        >>> momentax.velocity(tx.init(params))
        {'w': Array([0., 0., 0.], dtype=float32)}
    """
    at_random = arguments.as_flag("stochastic", stochastic)
    return Storage(
        encode=round_to_bfloat16,
        packed_type=Bfloat16Velocity,
        seed=as_seed(seed) if at_random else None,
        limit=1.0 if at_random else 1 - 2.0**-8,
        advice="a velocity without gradients stops decaying, since the nearest bfloat16 is the "
        "old one: use momentax.storage.bfloat16(stochastic=True)",
    )


def round_to_bfloat16(x: jax.Array, random: jax.Array | None = None) -> Bfloat16Array:
    """Round to the nearest bfloat16, or with random bits up or down such that the mean is exact."""
    x = x.astype(jnp.float32)
    if random is not None:
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        # The lower 16 bits are cut off. Adding 16 random bits first carries into the upper half
        # with a probability in proportion to them. Since they are cut off here, the conversion
        # below is exact, and XLA does not compute it again for each reader (`_core/xla.py`, 2).
        up = jnp.where(jnp.isnan(x), jnp.uint32(0x7FC00000), bits + (random >> 16))
        x = jax.lax.bitcast_convert_type(up & jnp.uint32(0xFFFF0000), jnp.float32)
    return Bfloat16Array(x.astype(jnp.bfloat16))
