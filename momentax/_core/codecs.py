"""Arrays in fewer bytes: what a codec provides, and trees of which some arrays are encoded.

A codec is two classes, which are beside the storage that uses them (`momentax/storage/`):

1. An `EncodedArray`: one array of float32 as it is encoded. It knows how to decode itself, how to
   encode another array like itself, and how to pack itself into plain arrays.
2. A NamedTuple with one field for each of these plain arrays and the class attribute `codec`, which
   is the first class. A state keeps an encoded velocity in it: each field is a tree in the
   structure of the velocity, so that checkpoints and sharding rules find plain arrays under the
   paths of the parameters. Leaves that are not encoded are in the first field, unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import jax

from momentax._core import arguments
from momentax._core.typing import PyTree


class EncodedArray(ABC):
    """One array of float32 in fewer bytes: a frozen dataclass of arrays, registered with JAX."""

    # Whether `encode` has the derivative of what is decoded; integers carry none.
    is_differentiable: ClassVar[bool] = False

    @abstractmethod
    def decode(self) -> jax.Array:
        """Return the array in float32."""

    @abstractmethod
    def encode(self, x: jax.Array, random: jax.Array | None = None) -> Self:
        """Encode another array of the same shape with the settings of this one.

        `random` holds 32 random bits for each entry; None rounds to the nearest.
        """

    @abstractmethod
    def pack(self) -> tuple[jax.Array, ...]:
        """Return the plain arrays that this consists of."""

    @classmethod
    @abstractmethod
    def unpack(cls, *parts: Any) -> Any:
        """Undo `pack`, from the leaves at one place of a packed tree.

        A leaf that was not encoded is returned as it is.
        """


class Storage(NamedTuple):
    """How an array is encoded; made by `momentax.storage.bfloat16` or `momentax.storage.int8`.

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


def as_storage(name: str, value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise TypeError(
            f"{name} must be what momentax.storage.bfloat16() or momentax.storage.int8() returns, "
            f"got {arguments.describe(value)}"
        )
    return value


def encode_to_nearest(array: jax.Array, storage: Storage) -> EncodedArray:
    """Encode an array without random bits; refuse a derivative that would be lost."""
    codec = storage.packed_type.codec
    if not codec.is_differentiable:
        array = _without_derivative(array, codec.__name__)
    return storage.encode(array, None)


def is_encoded(leaf: object) -> bool:
    return isinstance(leaf, EncodedArray)


def is_packed(node: object) -> bool:
    codec = getattr(type(node), "codec", None)
    return isinstance(codec, type) and issubclass(codec, EncodedArray)


def encode(array: jax.Array, like: EncodedArray, random: jax.Array | None = None) -> EncodedArray:
    """Encode an array as another one is; refuse a derivative that would be lost."""
    if not like.is_differentiable:
        array = _without_derivative(array, type(like).__name__)
    return like.encode(array, random)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _without_derivative(array: jax.Array, name: str) -> jax.Array:
    del name
    return array


@_without_derivative.defjvp
def _refuse_derivative(name: str, *_: Any) -> Any:
    raise TypeError(
        f"an array that is stored as {name} cannot be differentiated through, because its codes "
        "carry no derivative: use momentax.storage.bfloat16(), or neither storage nor compression, "
        "while you differentiate an update, or cut the derivative with jax.lax.stop_gradient"
    )


def pack(tree: PyTree, packed_type: Any) -> Any:
    """Keep a tree with encoded leaves as a NamedTuple of trees of plain arrays."""

    def part(i: int) -> PyTree:
        def select(leaf: Any) -> Any:
            if is_encoded(leaf):
                return leaf.pack()[i]
            return leaf if i == 0 else None

        return jax.tree.map(select, tree, is_leaf=is_encoded)

    return packed_type(*map(part, range(len(packed_type._fields))))


def unpack(tree: PyTree) -> PyTree:
    """Put encoded leaves in place of each packed node of a tree."""
    return jax.tree.map(
        lambda node: jax.tree.map(node.codec.unpack, *node) if is_packed(node) else node,
        tree,
        is_leaf=is_packed,
    )


def pack_like(tree: PyTree, like: PyTree) -> PyTree:
    """Pack those parts of a tree that are packed in `like`."""
    return jax.tree.map(
        lambda old, new: pack(new, type(old)) if is_packed(old) else new,
        like,
        tree,
        is_leaf=lambda node: node is None or is_packed(node),
    )


def decode(tree: PyTree) -> PyTree:
    """Put float32 arrays in place of all encoded arrays; without any, return the tree itself."""
    if not any(map(is_packed, jax.tree.leaves(tree, is_leaf=is_packed))):
        return tree
    return jax.tree.map(
        lambda leaf: leaf.decode() if is_encoded(leaf) else leaf, unpack(tree), is_leaf=is_encoded
    )


def encode_like(tree: PyTree, like: PyTree) -> PyTree:
    """Encode and pack those arrays of a tree that are so in `like`, rounding to the nearest."""
    leaves = jax.tree.map(
        lambda old, new: encode(new, old) if is_encoded(old) else new,
        unpack(like),
        tree,
        is_leaf=lambda leaf: leaf is None or is_encoded(leaf),
    )
    return pack_like(leaves, like)
