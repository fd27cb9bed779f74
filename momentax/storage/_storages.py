"""The ways to keep a velocity: what each encodes, and from where on it is not to be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.codecs import blocked, rounded


class Storage(NamedTuple):
    """How `stored` keeps a velocity; made by `bfloat16` or `int8`.

    encode: from an array, and 32 random bits for each entry or None, to what is kept.
    seed: of the random bits; None rounds to the nearest.
    limit: β up to which a velocity is kept faithfully.
    advice: what to say, and to do, beyond.
    """

    encode: Callable[[jax.Array, jax.Array | None], Any]
    seed: Any
    limit: float
    advice: str


def bfloat16(stochastic: bool = False, *, seed: Any = 0) -> Storage:
    """Keep a velocity as bfloat16, 2 bytes an entry.

        v_t = round(β v_{t-1} + g_t)    in float32 up to the rounding

    β stays float32. To the nearest bfloat16 a velocity without gradients stops
    decaying if β > 1 - 2⁻⁸: the loss is smaller than half the distance to the
    next number. Stochastic rounding goes up or down with the probabilities that
    make it right in the mean.

    Args:
        stochastic: Whether to round up or down at random.
        seed: Of the random bits, a whole number in [0, 2³²) or a 0-d array of one.

    Returns:
        A storage for `momentax.stored`.

    Raises:
        TypeError: stochastic is no bool, or seed is no whole number.
        ValueError: seed lies outside its interval.
    """
    at_random = arguments.as_flag("stochastic", stochastic)
    return Storage(
        encode=rounded,
        seed=_seed(seed) if at_random else None,
        limit=1.0 if at_random else 1 - 2.0**-8,
        advice="a velocity without gradients stops decaying, since the nearest bfloat16 is the "
        "old one: use momentax.storage.bfloat16(stochastic=True)",
    )


def int8(block_size: int = 256, *, seed: Any = 0) -> Storage:
    """Keep a velocity as codes of 8 bits and one float32 scale a block.

        s = max |v| over the block
        v ≈ s sign(q) (q / 127)²,    q in {-127, ..., 127}

    q is one of the two codes around v, at random, right in the mean: with a
    quadratic code that is what follows float32 (`tests/storage`). The largest
    entry of a block is kept exactly. Blocks run over the last axes of an array,
    flattened: the fewest that make up whole blocks, so that the axes before those,
    and their sharding, stay. If there are none the whole array is flattened, and
    its last block is shorter. An axis of blocks that is sharded should be so in
    parts of whole blocks: others are sent between devices at every step, and on a
    mesh of explicit axes JAX refuses.

    Args:
        block_size: Entries a block, a power of two, at least 2. 256 take 1.016
            bytes an entry.
        seed: Of the random bits, a whole number in [0, 2³²) or a 0-d array of one.

    Returns:
        A storage for `momentax.stored`.

    Raises:
        TypeError: block_size or seed is no whole number.
        ValueError: One of them lies outside its interval.

    Source:
        Blocks: Dettmers, Lewis, Shleifer and Zettlemoyer, 8-bit optimizers via
        block-wise quantization, 2021, arXiv:2110.02861. Their code and rounding
        are others.
    """
    block = arguments.as_count("block_size", block_size, least=2)
    if block & (block - 1):
        raise ValueError(f"block_size must be a power of two, such as 256, got {block_size}")
    return Storage(
        encode=lambda x, random: blocked(x, random, block),
        seed=_seed(seed),
        limit=0.99,
        advice="codes of 8 bits follow float32 up to β = 0.99: use "
        "momentax.storage.bfloat16(stochastic=True)",
    )


def _seed(value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer) and not value.ndim:
        if arguments.is_traced(value):
            return value
        value = int(value)  # The caller's array must not be donated with the state.
    if arguments.as_count("seed", value, least=0) < 2**32:
        return np.uint32(value)
    raise ValueError(f"seed must be a whole number in [0, 2**32), got {arguments.describe(value)}")
