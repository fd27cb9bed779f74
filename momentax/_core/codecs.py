"""How an array is kept in fewer bytes, and how it is read again."""

from __future__ import annotations

import math
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core.typing import PyTree

_CODES = 127  # Of either sign; its square is the largest magnitude of a block, in their units.
_LEAST = 1e-34  # Blocks below are zeros: float32 holds nothing that scales them to codes.


class Encoded(NamedTuple):
    """A tree of arrays, some of them encoded, in trees of its own structure.

    values: bfloat16 or int8 arrays of the shapes of those that they stand for;
        what is not encoded as it is.
    scales: float32, for each array of int8; None elsewhere.
    """

    values: PyTree
    scales: PyTree


class Rounded(NamedTuple):
    """An array of float32 as bfloat16."""

    value: jax.Array

    def decode(self) -> jax.Array:
        return self.value.astype(jnp.float32)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Rounded:
        return rounded(x, random)


class Blocks(NamedTuple):
    """An array of float32 as codes of 8 bits, and the largest magnitude of each block of them.

    Blocks run over the last axes of the array, flattened; the axes before come first.
    """

    codes: jax.Array
    scales: jax.Array

    def decode(self) -> jax.Array:
        return unblocked(self.codes, self.scales, self._block)

    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Blocks:
        return blocked(x, random, self._block)

    @property
    def _block(self) -> int:
        """The entries of a block, a power of two: with n of m blocks, the next one from n / m."""
        size = math.prod(self.codes.shape[self.scales.ndim - 1 :])
        return 1 << (-(-size // self.scales.shape[-1]) - 1).bit_length()


def is_encoded(leaf: object) -> bool:
    return isinstance(leaf, Rounded | Blocks)


def is_packed(node: object) -> bool:
    return isinstance(node, Encoded)


def packed(tree: PyTree) -> Encoded:
    """A tree with encoded leaves, as it is kept: in arrays alone, where the leaves were."""

    def split(part: int) -> PyTree:
        def of(leaf: Any) -> Any:
            if is_encoded(leaf):
                return leaf[part] if part < len(leaf) else None
            return None if part else leaf

        return jax.tree.map(of, tree, is_leaf=is_encoded)

    return Encoded(split(0), split(1))


def unpacked(tree: PyTree) -> PyTree:
    """A tree with encoded leaves in place of what `packed` made of them."""

    def join(value: Any, scales: Any) -> Any:
        if scales is not None:
            return Blocks(value, scales)
        return Rounded(value) if value.dtype == jnp.bfloat16 else value

    return jax.tree.map(
        lambda node: jax.tree.map(join, *node) if is_packed(node) else node, tree, is_leaf=is_packed
    )


def packed_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree with those parts packed that are packed in another."""
    return jax.tree.map(
        lambda old, new: packed(new) if is_packed(old) else new,
        *(like, tree),
        is_leaf=lambda node: node is None or is_packed(node),
    )


def decoded(tree: PyTree) -> PyTree:
    """The tree with float32 arrays in place of what is packed; itself if nothing is."""
    if not any(map(is_packed, jax.tree.leaves(tree, is_leaf=is_packed))):
        return tree
    return jax.tree.map(
        lambda leaf: leaf.decode() if is_encoded(leaf) else leaf, unpacked(tree), is_leaf=is_encoded
    )


def encoded_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree with those arrays encoded, to nearest, and packed that are so in another."""
    leaves = jax.tree.map(
        lambda old, new: old.encode(new) if is_encoded(old) else new,
        *(unpacked(like), tree),
        is_leaf=lambda leaf: leaf is None or is_encoded(leaf),
    )
    return packed_like(leaves, like)


# Jitted to be traced once for all arrays of a shape, and inlined: they are part of the program.
#
# XLA compiles a donated step without a copy of the old velocity only where it computes the new one
# once. On CPUs it computes some things again for each that reads them, but not what ends in a
# conversion from float32 to bfloat16 or in a choice between arrays of int8: hence the ends below.


def rounded(x: jax.Array, random: jax.Array | None = None) -> Rounded:
    """Round to the nearest bfloat16, or with random bits up or down, right in the mean."""
    x = x.astype(jnp.float32)
    if random is not None:
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        # The half that is cut off carries into the other as often as it is large. Cut last: the
        # conversion is then a mere shift.
        up = jnp.where(jnp.isnan(x), jnp.uint32(0x7FC00000), bits + (random >> 16))
        x = jax.lax.bitcast_convert_type(up & jnp.uint32(0xFFFF0000), jnp.float32)
    return Rounded(x.astype(jnp.bfloat16))


@partial(jax.jit, static_argnames="block", inline=True)
def unblocked(codes: jax.Array, scales: jax.Array, block: int) -> jax.Array:
    """Read x = s sign(q) (q / 127)² for every code q of a block with scale s."""
    # ±127 is s to the last bit: encoding what was decoded changes nothing. XLA would move a
    # factor 1 / 127² to the scales.
    share = codes.astype(jnp.float32) * (1 / _CODES)
    return share * jnp.abs(share) * _spread(scales, codes.shape, block)


@partial(jax.jit, static_argnames="block", inline=True)
def blocked(x: jax.Array, random: jax.Array | None, block: int) -> Blocks:
    """Encode blocks by their largest magnitude, to the nearest code or right in the mean.

    With |x| = a s / 127² and r uniform in (-1/2, 1/2), √(a + r² - 1/4) + r rounds
    to the code below or above √a, with the chances that make its square a in the
    mean.
    """
    x = x.astype(jnp.float32)
    scales = _largest(x, block)
    factor = jnp.where(scales < _LEAST, 0, _CODES**2 / scales)
    r = jnp.float32(0)
    if random is not None:
        # 13 bits, and never so near to ±1/2 that round-off could move what lies on a code.
        steps = (random >> 9) & jnp.uint32(0x7FFC00) | jnp.uint32(0x3F800200)
        r = jax.lax.bitcast_convert_type(steps, jnp.float32) - 1.5
    a = jnp.abs(x) * _spread(factor, x.shape, block) + (r * r - 0.25)
    root = jnp.sqrt(jnp.where(a > 0, a, 0)) + r
    # To the nearest integer, in the lowest bits; a conversion would saturate, slowly.
    q = jax.lax.bitcast_convert_type(root + jnp.float32(1.5 * 2**23), jnp.int32).astype(jnp.int8)
    return Blocks(jnp.where(x < 0, -q, q), scales)


def _largest(x: jax.Array, block: int) -> jax.Array:
    """The largest magnitude of each block, NaN where one is in it."""
    leading, size = _whole_axes(x.shape, block)
    whole, rest = divmod(size, block)
    # As integers the bits of |x| have the order of |x|, with NaN above infinity. Slice by slice
    # first: XLA compiles that to vector instructions, and of an axis longer than 32 it makes two.
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & jnp.int32(0x7FFFFFFF)
    bits = bits.reshape(*leading, size)
    slices = math.gcd(block, 8)
    rows = bits[..., : whole * block].reshape(*leading, whole, slices, block // slices)
    widest = reduce(jnp.maximum, (rows[..., i, :] for i in range(slices)))
    largest = jnp.max(widest, axis=-1)
    if rest:
        last = jnp.max(bits[whole * block :], keepdims=True)
        largest = jnp.concatenate([largest, last])
    return jax.lax.bitcast_convert_type(largest, jnp.float32)


def _spread(scales: jax.Array, shape: tuple[int, ...], block: int) -> jax.Array:
    """Each block's number at each of its entries, in the array's shape."""
    leading, size = _whole_axes(shape, block)
    each = jnp.broadcast_to(scales[..., None], (*scales.shape, block))
    # The array itself is never reshaped: its buffer would not be reused.
    return each.reshape(*leading, -1)[..., :size].reshape(shape)


def _whole_axes(shape: tuple[int, ...], block: int) -> tuple[tuple[int, ...], int]:
    """The axes before the fewest last ones that make up whole blocks, and the size of those.

    Where there are none such all axes are taken, and the last block is shorter.
    """
    for axis in reversed(range(len(shape))):
        size = math.prod(shape[axis:])
        if size and size % block == 0:
            return shape[:axis], size
    return (), math.prod(shape)


@partial(jax.jit, static_argnames="shape", inline=True)
def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """32 bits for each entry, hashed from a key and the entry's place alone; the upper 16 are good.

    So they are the same on however many devices the array lies.
    """
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    bits = (place ^ key) * jnp.uint32(0x9E3779B1)
    return (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)


@partial(jax.jit, inline=True)
def key_of(seed: jax.Array, count: jax.Array, leaf: Any) -> jax.Array:
    """A number for every seed, step and leaf."""
    return _mixed(_mixed(_mixed(seed) ^ count.astype(jnp.uint32)) ^ leaf)


def _mixed(x: Any) -> Any:
    """lowbias32 of Wellons, 2018: each bit of x changes half the bits of the result."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
