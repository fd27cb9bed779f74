"""The mean of what several workers have, along mapped axes of `jax.shard_map` and `jax.vmap`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments, codecs
from momentax._core.codecs import EncodedArray, Storage
from momentax._core.typing import PyTree


def as_axes(name: str, value: Any) -> tuple[str, ...]:
    """Return the names of mapped axes as a tuple, which is empty for None."""
    names = () if value is None else (value,) if isinstance(value, str) else value
    # A tuple with named fields is a record of something else.
    is_valid = type(names) is tuple and all(isinstance(each, str) and each for each in names)
    if not is_valid or len(set(names)) < len(names) or value == ():
        raise TypeError(
            f'{name} must be the name of a mapped axis, such as "workers", a tuple of different '
            f"names, or None, got {arguments.describe(value)}"
        )
    return names


def as_participating(value: Any) -> jax.Array | None:
    """Return whether this worker takes part as an array, or None where all workers do."""
    if value is None:
        return None
    is_bool = isinstance(value, bool | np.bool_) or arguments.is_a(jnp.bool_, value)
    if not is_bool or jnp.ndim(value):
        raise TypeError(
            "participating must be one bool for this worker, True, False or a 0-d array, got "
            f"{arguments.describe(value)}: jax.vmap gives each worker its entry, and under "
            "jax.shard_map, where a worker has an array of shape (1,), pass participating[0]"
        )
    return jnp.asarray(value)


class Workers(NamedTuple):
    """The workers along mapped axes, and how they send arrays to each other.

    axes: the names of the axes; without any there is one worker.
    compression: how an array is encoded to be sent; None sends it as it is.
    """

    axes: tuple[str, ...]
    compression: Storage | None

    def require_mapped(self) -> None:
        """Refuse a call outside of the maps over the axes."""
        for name in self.axes:
            try:
                jax.lax.axis_size(name)
            except NameError:
                raise ValueError(
                    f"axis names {name!r}, which is not a mapped axis here: call update in a "
                    f"function that is mapped by jax.shard_map over a mesh with the axis {name!r}, "
                    f"or by jax.vmap(..., axis_name={name!r})"
                ) from None

    def largest(self, count: jax.Array) -> jax.Array:
        """Return a count that is equal on all workers as one number for all of them.

        Under `jax.vmap` a condition with one entry for each worker would make `jax.lax.cond`
        evaluate both of its branches. Devices have conditions of their own.
        """
        for name in self.axes:
            if name not in _axes_of_devices():
                count = jax.lax.pmax(count, name)
        return count

    def mean(
        self, tree: PyTree, residual: PyTree, takes_part: jax.Array | None
    ) -> tuple[PyTree, PyTree, jax.Array | None]:
        """Return the mean over the workers that take part, the new residual, and if there are any.

        The residual of a worker is what codes have left out of what it had to send.
        """
        if takes_part is None:
            count = math.prod(map(jax.lax.axis_size, self.axes))
            found = None
        else:
            present = jax.lax.psum(takes_part.astype(jnp.int32), self.axes)
            count, found = jnp.maximum(present, 1), present > 0
        exchange = _Exchange(self, takes_part, count)
        if self.compression is None:
            return jax.tree.map(exchange.mean, tree), residual, found
        leaves, structure = jax.tree.flatten(tree)
        both = list(map(exchange.compressed_mean, leaves, structure.flatten_up_to(residual)))
        mean, residual = (structure.unflatten([pair[i] for pair in both]) for i in range(2))
        return mean, residual, found


class _Exchange(NamedTuple):
    """An exchange of arrays: the workers, whether this one takes part, and how many do."""

    workers: Workers
    takes_part: jax.Array | None
    count: Any

    def mean(self, x: jax.Array) -> jax.Array:
        if self.takes_part is None:
            return jax.lax.pmean(x, self.workers.axes)
        # A worker that has failed may have NaN, and 0 × NaN is NaN.
        x = jnp.where(self.takes_part, x, 0)
        return jax.lax.psum(x, self.workers.axes) / jnp.asarray(self.count, x.dtype)

    def compressed_mean(self, x: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean of an array and what this worker owes to the next mean.

        Each worker receives one part of the array from all others, and sends the mean of that part
        to all others. Both are encoded. What the codes lose is added to the residual of the worker
        that has encoded it: the loss of a mean is that of a sum over as many workers.
        """
        if not x.size:
            return x, residual
        owed = _as_rows(residual, self._size)
        sent = _as_rows(x, self._size) + owed
        if self.takes_part is not None:
            sent = jnp.where(self.takes_part, sent, 0)
        # JAX exchanges wrongly what it knows to be equal in all entries of a vmap.
        sent = jnp.where(self._index < 0, 0, sent)
        codes = self._encode(sent)
        lost = sent - _decode(codes, sent)
        parts = _decode(self._map(self._send_rows, codes), sent)
        part = (parts.sum(0) / jnp.asarray(self.count, sent.dtype))[None]
        codes = self._encode(part)
        error = (part - _decode(codes, part)) * jnp.asarray(self.count, part.dtype)
        own_row = jnp.arange(self._size, dtype=jnp.int32) == self._index
        lost = lost if self.takes_part is None else jnp.where(self.takes_part, lost, owed)
        lost = lost + jnp.where(own_row[:, None], error, 0)
        rows = _decode(self._map(self._gather_rows, codes), part)
        return _from_rows(rows, x), _from_rows(lost, residual)

    @property
    def _groups(self) -> list[Any]:
        """The axes of devices, along which one collective runs, and each axis of a vmap."""
        axes, on_devices = self.workers.axes, _axes_of_devices()
        devices = tuple(name for name in axes if name in on_devices)
        return [devices] * bool(devices) + [name for name in axes if name not in on_devices]

    @property
    def _sizes(self) -> list[int]:
        return [jax.lax.axis_size(group) for group in self._groups]

    @property
    def _size(self) -> int:
        return math.prod(self._sizes)

    @property
    def _index(self) -> Any:
        index: Any = jnp.int32(0)
        for group, size in zip(self._groups, self._sizes, strict=True):
            index = index * size + jax.lax.axis_index(group)
        return index

    def _encode(self, rows: jax.Array) -> EncodedArray:
        """Encode each row by itself."""
        storage: Any = self.workers.compression
        return jax.vmap(lambda row: codecs.encode_to_nearest(row, storage))(rows)

    def _map(self, function: Any, codes: EncodedArray) -> EncodedArray:
        """Return the encoded array whose plain arrays a function makes of those of another.

        The function gets bfloat16 as whole numbers: XLA sends bfloat16 as float32 on CPUs.
        """

        def apply(part: jax.Array) -> jax.Array:
            if part.dtype != jnp.bfloat16:
                return function(part)
            bits = function(jax.lax.bitcast_convert_type(part, jnp.uint16))
            return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)

        return type(codes).unpack(*map(apply, codes.pack()))

    def _send_rows(self, part: jax.Array) -> jax.Array:
        """Send each row to one of the workers, and return the rows that have been received."""
        split = part.reshape(*self._sizes, *part.shape[1:])
        for i, group in enumerate(self._groups):
            split = jax.lax.all_to_all(split, group, split_axis=i, concat_axis=i)
        return split.reshape(part.shape)

    def _gather_rows(self, part: jax.Array) -> jax.Array:
        """Return the single rows of all workers."""
        row = part[0]
        for group in reversed(self._groups):
            row = _gather(row, group)
        return row.reshape(self._size, *part.shape[1:])


def _axes_of_devices() -> tuple[str, ...]:
    """Return the mesh axes that a `jax.shard_map` around this call maps over."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def _gather(x: jax.Array, group: Any) -> jax.Array:
    if isinstance(group, str):
        return jax.lax.all_gather(x, group)
    try:  # So that JAX knows that all devices have the same result.
        return jax.lax.all_gather(x, group, to="invarying")
    except (TypeError, ValueError):  # Older JAX, where `jax.shard_map` needs check_vma=False.
        return jax.lax.all_gather(x, group)


def _decode(codes: EncodedArray, like: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: row.decode())(codes).astype(like.dtype)


def _as_rows(x: jax.Array, count: int) -> jax.Array:
    """Return the real numbers of an array as a number of rows, filled up with zeros."""
    flat = jnp.ravel(x)
    if jnp.iscomplexobj(flat):
        flat = jnp.concatenate([flat.real, flat.imag])
    return jnp.pad(flat, (0, -flat.size % count)).reshape(count, -1)


def _from_rows(rows: jax.Array, like: jax.Array) -> jax.Array:
    """Undo `_as_rows` for an array of the shape and dtype of another."""
    flat = rows.ravel()
    if jnp.iscomplexobj(like):
        flat = jax.lax.complex(flat[: like.size], flat[like.size : 2 * like.size])
    return flat[: like.size].reshape(like.shape)
