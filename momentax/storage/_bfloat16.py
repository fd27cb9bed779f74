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

_LARGEST = float(jnp.finfo(jnp.bfloat16).max)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bfloat16Array(EncodedArray):
    """An array of float32 as bfloat16."""

    value: jax.Array

    is_differentiable = True

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


def bfloat16(stochastic: bool = True, *, seed: Any = 0) -> Storage:
    """Keep a velocity as bfloat16, in 2 bytes an entry.

        v_t = round(β v_{t-1} + g_t)    in float32 up to the rounding

    β stays float32. By default the rounding goes up or down at random, with the
    probabilities that make the mean exact.

    Rounding to the nearest bfloat16, with `stochastic=False`, is biased. A step
    that changes the velocity by less than half the distance to the next number
    does not change it at all. Under steady gradients the velocity therefore stops
    below g / (1 - β), and without gradients it stops decaying if β > 1 - 2⁻⁸. Its
    mean shortfall in percent, as `tests/storage/test_accuracy.py` measures it over
    the steps from 12 / (1 - β) to 24 / (1 - β), is

        β                               0.9   0.95  0.98  0.99  0.995
        steady gradients                2.5   5     12    22    36
        gradients with 10 % of noise    0     0     0     2.3   17

    and by the default rounding 0, within the error of the measurement.

    A finite velocity stays finite: the largest bfloat16, 3.39·10³⁸, stands for
    larger ones. Infinite entries and NaN are kept.

    Args:
        stochastic: Whether to round up or down at random.
        seed: The seed of the random bits, a whole number in [0, 2³²) or a 0-d
            array of one. Rounding to the nearest does not use it.

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
    at_random, seed = arguments.as_flag("stochastic", stochastic), as_seed(seed)
    return Storage(
        encode=round_to_bfloat16,
        packed_type=Bfloat16Velocity,
        seed=seed if at_random else None,
        limit=1.0 if at_random else 0.9,
        advice="rounded to the nearest bfloat16, the velocity of steady gradients stays too small, "
        "by 2.5 % at β = 0.9, 12 % at 0.98 and 22 % at 0.99: use momentax.storage.bfloat16()",
    )


def round_to_bfloat16(x: jax.Array, random: jax.Array | None = None) -> Bfloat16Array:
    """Round to the nearest bfloat16, or with random bits up or down such that the mean is exact."""
    x = x.astype(jnp.float32)
    x = jnp.where(jnp.isinf(x), x, jnp.clip(x, -_LARGEST, _LARGEST))
    if random is not None:
        x = _round_at_random(x, random)
    return Bfloat16Array(x.astype(jnp.bfloat16))


@jax.custom_jvp
def _round_at_random(x: jax.Array, random: jax.Array) -> jax.Array:
    """Round float32 up or down to numbers of bfloat16, which are returned in float32."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # The lower 16 bits are cut off. Adding 16 random bits first carries into the upper half with a
    # probability in proportion to them. Since they are cut off here, the conversion to bfloat16 is
    # exact, and XLA does not compute it again for each reader (`_core/xla.py`, 2).
    up = jnp.where(jnp.isnan(x), jnp.uint32(0x7FC00000), bits + (random >> 16))
    return jax.lax.bitcast_convert_type(up & jnp.uint32(0xFFFF0000), jnp.float32)


@_round_at_random.defjvp
def _derivative_of_the_mean(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _round_at_random(*primals), tangents[0]
