"""How an array is kept in fewer bytes, and how it is read again."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._typing import PyTree

_LEVELS = 127  # The largest code of 8 bits; the smallest is its negative.
_BITS = 12  # Of a dither: few enough that round-off moves nothing that lies on a code.


class Rounded(NamedTuple):
    """An array of float32 as bfloat16.

    value: the rounded array.
    """

    value: jax.Array

    def decode(self) -> jax.Array:
        return self.value.astype(jnp.float32)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Rounded:
        return rounded(x, random)


class Blocks(NamedTuple):
    """An array of float32 as codes of 8 bits and a scale for each block of them.

    codes: int8, of the array's shape.
    scales: float32, the largest magnitude of each block; blocks run over the
        last axes of the array, flattened, and the axes before those come first.
    tail: float32, what is left of the flattened array behind the last block, or None.
    """

    codes: jax.Array
    scales: jax.Array
    tail: jax.Array | None

    def decode(self) -> jax.Array:
        """Read x = s sign(q) (q / 127)² for every code q of a block with scale s."""
        head, _ = _divided(self.codes, self.scales.ndim - 1, self._block)
        q = head.astype(jnp.float32)
        x = q * jnp.abs(q) * (self.scales[..., None] * (1 / _LEVELS**2))
        return _joined(x, self.tail, self.codes.shape)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Blocks:
        return blocked(x, random, self._block)

    @property
    def _block(self) -> int:
        tail = 0 if self.tail is None else self.tail.size
        return (self.codes.size - tail) // self.scales.size


def is_encoded(leaf: object) -> bool:
    return isinstance(leaf, Rounded | Blocks)


def decoded(tree: PyTree) -> PyTree:
    """The tree with float32 arrays in place of encoded ones."""
    return jax.tree.map(
        lambda leaf: leaf.decode() if is_encoded(leaf) else leaf, tree, is_leaf=is_encoded
    )


def encoded_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree with those arrays encoded, to nearest, that are encoded in another."""
    return jax.tree.map(
        lambda old, new: old.encode(new) if is_encoded(old) else new,
        *(like, tree),
        is_leaf=lambda leaf: leaf is None or is_encoded(leaf),
    )


def rounded(x: jax.Array, random: jax.Array | None = None) -> Rounded:
    """Round to the nearest bfloat16, or with random bits up or down, right in the mean."""
    if random is None:
        return Rounded(x.astype(jnp.bfloat16))
    x = x.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # The half that is cut off carries into the other as often as it is large.
    bits = (bits + (random & 0xFFFF)) & jnp.uint32(0xFFFF0000)
    carried = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return Rounded(jnp.where(jnp.isnan(x), x, carried).astype(jnp.bfloat16))


def blocked(x: jax.Array, random: jax.Array | None, block: int) -> Blocks:
    """Encode blocks by their largest magnitude, to the nearest code or right in the mean."""
    x = x.astype(jnp.float32)
    head, tail = _divided(x, leading_axes(x.shape, block), block)
    scales = jnp.max(jnp.abs(head), axis=-1)
    inverse = _LEVELS**2 / jnp.where(scales > 0, scales, 1)[..., None]
    squared = jnp.abs(head) * inverse  # Of the code, if there were codes between codes.
    low = jnp.minimum(jnp.floor(jnp.sqrt(squared)), _LEVELS)
    share = (squared - low * low) / (2 * low + 1)  # Of the way to the next code, in x.
    if random is None:
        threshold = jnp.float32(0.5)
    else:
        flat = _divided(random, leading_axes(x.shape, block), block)[0]
        threshold = ((flat >> (32 - _BITS)).astype(jnp.float32) + 0.5) * 0.5**_BITS
    codes = jnp.sign(head) * (low + (share > threshold).astype(jnp.float32))
    if tail is not None:
        spare = jnp.zeros(tail.shape, jnp.int8)
        codes = jnp.concatenate([codes.astype(jnp.int8).ravel(), spare])
    return Blocks(codes.astype(jnp.int8).reshape(x.shape), scales, tail)


def leading_axes(shape: tuple[int, ...], block: int) -> int:
    """How many axes stay: those before the fewest last ones that make up whole blocks, or none."""
    sizes = (math.prod(shape[axis:]) for axis in range(len(shape)))
    whole = [axis for axis, size in enumerate(sizes) if size % block == 0]
    return max(whole, default=0)


def _divided(x: jax.Array, leading: int, block: int) -> tuple[jax.Array, jax.Array | None]:
    """The blocks of an array along a last axis of their own, and what is left behind them."""
    rest = math.prod(x.shape[leading:]) % block
    if rest:
        x = x.ravel()
    head, tail = (x[:-rest], x[-rest:]) if rest else (x, None)
    return head.reshape(*x.shape[:leading], -1, block), tail


def _joined(head: jax.Array, tail: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    if tail is not None:
        head = jnp.concatenate([head.ravel(), tail])
    return head.reshape(shape)


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """32 bits for each entry, hashed from a key of two words and the entry's place alone.

    So they are the same on however many devices the array lies.
    """
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    return _mixed(place ^ key[0], key[1])


def _mixed(x: Any, salt: Any) -> jax.Array:
    """lowbias32 of Wellons, 2018, with a second word of key."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D) + salt
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def key_of(seed: jax.Array, count: jax.Array, leaf: int) -> jax.Array:
    """Two words that differ for every seed, step and leaf."""
    words = jnp.arange(2, dtype=jnp.uint32) + jnp.uint32(2 * leaf)
    return _mixed(_mixed(words, seed) ^ count.astype(jnp.uint32), seed)
