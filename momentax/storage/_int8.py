"""A velocity in codes of 8 bits with one scale for each block: about 1 byte an entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core import arguments
from momentax._core.codecs import EncodedArray
from momentax._core.typing import PyTree
from momentax.storage._storage import Storage, as_seed

# The largest code. Its square represents the largest magnitude of a block.
_CODES = 127
# The code of an entry that is infinite or NaN. It decodes to NaN.
_NOT_FINITE = -128
# A block whose largest magnitude is smaller becomes zero: float32 has no factor from it to codes.
_LEAST = 1e-34


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Array(EncodedArray):
    """An array of float32 as codes of 8 bits and the largest finite magnitude of each block.

    Blocks run over the last axes of the array, flattened; `scales` has the axes before them and
    one more.
    """

    codes: jax.Array
    scales: jax.Array

    def decode(self) -> jax.Array:
        return decode_blocks(self.codes, self.scales, self.block_size)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Int8Array:
        return encode_blocks(x, random, self.block_size)

    def pack(self) -> tuple[jax.Array, jax.Array]:
        return self.codes, self.scales

    @classmethod
    def unpack(cls, *parts: Any) -> Any:
        codes, scales = parts
        return codes if scales is None else cls(codes, scales)

    @property
    def block_size(self) -> int:
        """Entries of a block: the power of two that divides n entries into m blocks.

        The last block may be shorter, so that it is n / m rounded up to a power of two.
        """
        entries = math.prod(self.codes.shape[self.scales.ndim - 1 :])
        return 1 << (-(-entries // self.scales.shape[-1]) - 1).bit_length()


class Int8Velocity(NamedTuple):
    """A velocity that is kept in codes of 8 bits.

    values: shaped like the parameters, in int8; leaves that are not encoded as
        they are.
    scales: for each encoded leaf the scales of its blocks, in float32; None for
        the others.
    """

    values: PyTree
    scales: PyTree
    codec = Int8Array


def int8(block_size: int = 256, *, seed: Any = 0) -> Storage:
    """Keep a velocity as codes of 8 bits and one float32 scale for each block.

        s = max |v| over the finite entries of the block
        v ≈ s sign(q) (q / 127)²,    q in {-127, ..., 127}

    q is one of the two codes next to v, chosen at random such that the mean is
    exact, also that of a velocity under steady gradients. With a quadratic code
    this rounding follows float32, as `tests/storage` shows. The largest entry of a
    block is kept exactly. An infinite entry or NaN has the code -128, which is NaN,
    and changes no other entry.

    Blocks run over the last axes of an array, flattened: the fewest axes that make
    up whole blocks. The axes before them stay, and so does their sharding. If no
    axes make up whole blocks, then the whole array is flattened, and its last block
    is shorter. If an axis within blocks is sharded, each shard should hold whole
    blocks: otherwise blocks are sent between devices at every step, and on a mesh
    of explicit axes `init` raises.

    Codes carry no derivative. `jax.grad` through an update whose velocity depends
    on what is differentiated raises.

    Args:
        block_size: Entries of a block, a power of two, at least 2. Blocks of 256
            entries take 1.016 bytes an entry.
        seed: The seed of the random bits, a whole number in [0, 2³²) or a 0-d
            array of one.

    Returns:
        A storage for `momentax.stored`.

    Raises:
        TypeError: block_size or seed is not a whole number.
        ValueError: block_size is not a power of two, or one of them lies outside
            its interval.

    Example:
        >>> tx = momentax.stored(momentax.sgd(0.1), momentax.storage.int8(), min_size=1)
        >>> momentax.velocity(tx.init(params))
        {'w': Array([0., 0., 0.], dtype=float32)}

    Source:
        Blocks: Dettmers, Lewis, Shleifer and Zettlemoyer, 8-bit optimizers via
        block-wise quantization, 2021, arXiv:2110.02861. Their code and their
        rounding differ from these.
    """
    size = arguments.as_count("block_size", block_size, least=2)
    if size & (size - 1):
        raise ValueError(f"block_size must be a power of two, such as 256, got {block_size}")
    return Storage(
        encode=_encoder(size),
        packed_type=Int8Velocity,
        seed=as_seed(seed),
        limit=0.99,
        advice="codes of 8 bits follow float32 up to β = 0.99: use momentax.storage.bfloat16()",
    )


@cache  # One function for each block size, so that JAX finds a program that it has compiled.
def _encoder(block_size: int) -> Callable[[jax.Array, jax.Array | None], Int8Array]:
    return partial(encode_blocks, block_size=block_size)


# Both functions are jitted to be traced once for each shape, and inlined into the step.


@partial(jax.jit, static_argnames="block_size", inline=True)
def decode_blocks(codes: jax.Array, scales: jax.Array, block_size: int) -> jax.Array:
    """Return x = s sign(q) (q / 127)² for every code q of a block with scale s, or NaN."""
    # The code ±127 is s to the last bit, so that encoding a decoded array changes nothing. The
    # factor 1 / 127 is applied to the codes: XLA would move 1 / 127² to the scales.
    share = codes.astype(jnp.float32) * (1 / _CODES)
    x = share * jnp.abs(share) * _repeat_in_blocks(scales, codes.shape, block_size)
    return jnp.where(codes == _NOT_FINITE, jnp.float32(jnp.nan), x)


@partial(jax.jit, static_argnames="block_size", inline=True)
def encode_blocks(x: jax.Array, random: jax.Array | None, block_size: int) -> Int8Array:
    """Encode blocks by their largest magnitude, to the nearest code or at random with exact mean.

    With |x| = a s / 127² and r uniform in (-1/2, 1/2), √(a + r² - 1/4) + r rounds
    to the code below or above √a, with the probabilities for which the mean of
    the squared code is a.
    """
    x = x.astype(jnp.float32)
    scales = _largest_in_blocks(x, block_size)
    factor = jnp.where(scales < _LEAST, 0, _CODES**2 / scales)
    r = jnp.float32(0)
    if random is not None:
        # 13 random bits. They never come so near to ±1/2 that rounding errors could move an entry
        # that lies on a code.
        steps = (random >> 9) & jnp.uint32(0x7FFC00) | jnp.uint32(0x3F800200)
        r = jax.lax.bitcast_convert_type(steps, jnp.float32) - 1.5
    a = jnp.abs(x) * _repeat_in_blocks(factor, x.shape, block_size) + (r * r - 0.25)
    root = jnp.sqrt(jnp.where(a > 0, a, 0)) + r
    # Adding 1.5 · 2²³ leaves the nearest integer in the lowest bits. A conversion would saturate,
    # which is slow.
    q = jax.lax.bitcast_convert_type(root + jnp.float32(1.5 * 2**23), jnp.int32).astype(jnp.int8)
    # The choices come last, so that XLA does not compute the codes again (`_core/xla.py`, 2).
    q = jnp.where(x < 0, -q, q)
    return Int8Array(jnp.where(jnp.isfinite(x), q, jnp.int8(_NOT_FINITE)), scales)


def _largest_in_blocks(x: jax.Array, block_size: int) -> jax.Array:
    """The largest finite magnitude of each block, or 0 if there is none."""
    leading, size = _split_axes(x.shape, block_size)
    whole, rest = divmod(size, block_size)
    # As integers the bits of |x| are ordered like |x|. The maximum is taken slice by slice first:
    # XLA compiles this to vector instructions. It would split the reduction of an axis longer than
    # 32 in two.
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & jnp.int32(0x7FFFFFFF)
    bits = jnp.where(jnp.isfinite(x), bits, 0).reshape(*leading, size)
    slices = math.gcd(block_size, 8)
    rows = bits[..., : whole * block_size].reshape(*leading, whole, slices, block_size // slices)
    widest = reduce(jnp.maximum, (rows[..., i, :] for i in range(slices)))
    largest = jnp.max(widest, axis=-1)
    if rest:
        last = jnp.max(bits[whole * block_size :], keepdims=True)
        largest = jnp.concatenate([largest, last])
    return jax.lax.bitcast_convert_type(largest, jnp.float32)


def _repeat_in_blocks(scales: jax.Array, shape: tuple[int, ...], block_size: int) -> jax.Array:
    """The number of each block at each of its entries, in the shape of the array."""
    leading, size = _split_axes(shape, block_size)
    each = jnp.broadcast_to(scales[..., None], (*scales.shape, block_size))
    # The scales are reshaped and never the array, whose buffer is reused (`_core/xla.py`, 3).
    return each.reshape(*leading, -1)[..., :size].reshape(shape)


def _split_axes(shape: tuple[int, ...], block_size: int) -> tuple[tuple[int, ...], int]:
    """The leading axes, and the number of entries of the axes over which blocks run.

    Blocks run over the fewest last axes that make up whole blocks; if none do, over all axes.
    """
    for axis in reversed(range(len(shape))):
        size = math.prod(shape[axis:])
        if size and size % block_size == 0:
            return shape[:axis], size
    return (), math.prod(shape)
