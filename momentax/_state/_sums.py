"""Sums, counts and maxima over the arrays of one leaf of the parameters.

Those of one leaf share one reduction, so that each array is read from memory once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core import arithmetic
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import may_lie_on_several_devices, sharding_in_type


class Kinds(NamedTuple):
    """What is measured of one leaf, or a number for each of them."""

    gradient: Any
    clipped: Any
    velocity: Any
    update: Any
    parameter: Any

    def map(self, function: Callable[[str, Any], Any]) -> Kinds:
        """Apply function(kind, array) to each array that is there.

        A gradient that was not clipped stays the same array in both fields.
        """
        pairs = self._asdict().items()
        found = Kinds(*(None if x is None else function(kind, x) for kind, x in pairs))
        return found._replace(clipped=found.gradient) if self.clipped is self.gradient else found


def _squares(parts: Kinds) -> dict[str, Any]:
    """Return the squared magnitudes of the entries of each part, in an order that is fast."""
    order = "velocity", "gradient", "clipped", "parameter", "update"
    named = {kind: part for kind in order if (part := getattr(parts, kind)) is not None}
    if parts.clipped is parts.gradient:
        named.pop("clipped", None)
    return {kind: product(part, part) for kind, part in named.items()}


def product(x: Any, y: Any) -> jax.Array:
    """Return the real inner product of each two entries."""
    return jnp.real(jnp.conj(x) * y) if jnp.iscomplexobj(x) or jnp.iscomplexobj(y) else x * y


def _magnitude(x: Any) -> jax.Array:
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)


# Reductions.


class Columns(NamedTuple):
    """Arrays of one shape, each with a name.

    sums: arrays to sum.
    counts: arrays of True and False, in which the number of True is counted.
    maxima: arrays without negative entries, to take the maximum of.
    """

    sums: Mapping[str, jax.Array]
    counts: Mapping[str, jax.Array] = {}
    maxima: Mapping[str, jax.Array] = {}


class Table(NamedTuple):
    """Reduced values: a row for each row of the arrays, or one row for all of them.

    columns: the index of the column of each name. Two names may have the same column.
    numbers: an array of the shape (rows, columns), of the dtype `float_dtype()`.
    """

    columns: Mapping[str, int]
    numbers: jax.Array

    def column(self, name: str) -> jax.Array:
        """Return the numbers of all rows with some name."""
        return self.numbers[:, self.columns[name]]

    def also(self, names: Mapping[str, str]) -> Table:
        """Return the table with new names of some columns, which keep their old names too.

        Args:
            names: The old name of the column of each new name.
        """
        further = {new: self.columns[old] for new, old in names.items()}
        return self._replace(columns={**self.columns, **further})


def reduce_all(columns: Columns, *, by_row: bool = False) -> Table:
    """Return the sum, count or maximum of each array, in a single row.

    With by_row there is a row for each row of the arrays, unless they may lie on several devices.
    """
    names = [*columns.sums, *columns.counts, *columns.maxima]
    if not names:
        return Table({}, jnp.zeros((1, 0), float_dtype()))
    kinds = (
        [in_rows(x) for x in columns.sums.values()],
        [in_rows(x).astype(jnp.int32) for x in columns.counts.values()],
        [_as_integer(in_rows(x)) for x in columns.maxima.values()],
    )
    if may_lie_on_several_devices(next(x for kind in kinds for x in kind)):
        # The partial results of a stack would be sent to all devices as one larger array.
        sums, counts, maxima = _reduce_each(False, *kinds)
    else:
        sums, counts, maxima = jax.lax.platform_dependent(
            *kinds, cpu=partial(_reduce_stacks, by_row), default=partial(_reduce_each, by_row)
        )
    if maxima is not None:
        like = next(iter(columns.maxima.values()))
        maxima = jax.lax.bitcast_convert_type(maxima, like.dtype)
    found = [x.astype(float_dtype()) for x in (sums, counts, maxima) if x is not None]
    numbers = jnp.concatenate(found, axis=1)
    return Table({name: i for i, name in enumerate(names)}, numbers)


def _as_integer(x: jax.Array) -> jax.Array:
    """Return numbers that are not negative as integers in the same order, with NaN as the largest.

    XLA:CPU vectorizes a maximum of integers, and it needs no test for NaN.
    """
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    return jax.lax.bitcast_convert_type(x, integer)


def _reduce_each(by_row: bool, *kinds: list[jax.Array]) -> list[jax.Array | None]:
    """Reduce all sums, counts and maxima by one reducer with a result for each of them.

    Return the results of each kind, an array with a column for each of its arrays; None for a
    kind without arrays.
    """
    arrays = [x for kind in kinds for x in kind]
    rows = arrays[0].ndim - _row_axes(arrays[0].shape)
    found = _reduce(arrays, [len(kind) for kind in kinds], range(rows, arrays[0].ndim))
    if not by_row:
        found = _reduce(found, [len(kind) for kind in kinds], range(rows))
    columns = iter([jnp.reshape(x, (-1, 1)) for x in found])
    return [
        jnp.concatenate([next(columns) for _ in kind], axis=1) if kind else None for kind in kinds
    ]


def _reduce_stacks(by_row: bool, *kinds: list[jax.Array]) -> list[jax.Array | None]:
    """Reduce a stack of the sums, one of the counts and one of the maxima, as `_reduce_each` does.

    XLA:CPU vectorizes a reduction if its reducer has one floating-point operation, as it has here.
    The results for a row are computed one after another, with the row in the cache.
    """
    first, height = next(x for kind in kinds for x in kind), max(map(len, kinds))
    rows = first.ndim - _row_axes(first.shape)
    sums, counts, maxima = kinds
    # With a single operand XLA:CPU would not join the stack and the reduction, but would write the
    # stack to memory. This count is a second operand.
    stacked = sums, counts or [(first != first).astype(jnp.int32)], maxima

    def stack(kind: list[jax.Array]) -> jax.Array:
        zeros = [jnp.zeros_like(kind[0])] * (height - len(kind))
        # With the zeros first, and this axis before those of the rows, the loops are fastest.
        return jnp.stack([*zeros, *kind], rows)

    stacks = [stack(kind) for kind in stacked if kind]
    numbers = [min(len(kind), 1) for kind in stacked]
    found = _reduce(stacks, numbers, range(rows + 1, first.ndim + 1))
    found = jax.lax.optimization_barrier(found)  # XLA would remove an operand that nobody uses.
    if not by_row:
        found = _reduce(found, numbers, range(rows))
    results = iter([jnp.reshape(x, (-1, height)) for x in found])
    tables = [next(results) if number else None for number in numbers]
    return [
        None if table is None or not kind else table[:, height - len(kind) :]
        for table, kind in zip(tables, kinds, strict=True)
    ]


def _reduce(
    operands: Sequence[jax.Array], numbers: Sequence[int], axes: Sequence[int]
) -> list[jax.Array]:
    """Reduce arrays over some axes: arrays to sum, then counts, then arrays to take the maximum of.

    The counts are integers, which are exact, and the results floating-point numbers, since the
    count of many rows may be larger than the largest integer.
    """
    if not axes:
        return list(operands)
    sums, counts, maxima = numbers
    reducers: list[Callable[[Any, Any], Any]]
    reducers = [jax.lax.add] * (sums + counts) + [jax.lax.max] * maxima

    def combine(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(f(a, b) for f, a, b in zip(reducers, x, y, strict=True))

    zeros = tuple(jnp.zeros((), x.dtype) for x in operands)
    found = list(jax.lax.reduce(tuple(operands), zeros, combine, tuple(axes)))
    # XLA allows no two precisions in one reduction.
    dtype = found[0].dtype if sums else float_dtype()
    for i in range(sums, sums + counts):
        found[i] = found[i].astype(dtype)
    return found


# Rows.

# The length of a row: short enough for the cache and for a sum in float32, and long enough for fast
# loops.
_SHORTEST, _ROW, _LONGEST = 64, 1024, 4096


def _row_axes(shape: Sequence[int]) -> int:
    """Return how many of the last axes make a row of moderate length.

    Each row is reduced separately, which is accurate and uses several cores.
    """
    axes, length = 0, 1
    for size in reversed(shape):
        if length >= _SHORTEST or (axes and length * size > _LONGEST):
            break
        axes, length = axes + 1, length * size
    return axes


def _length_of_rows(size: int) -> int | None:
    """Return the length of rows of equal lengths that make an array of some size, if possible."""
    if size <= _LONGEST:
        return size
    return next((n for n in range(_ROW, _ROW // 4, -1) if size % n == 0), None)


def in_rows(array: jax.Array) -> jax.Array:
    """Return an array in another shape, of which the last axes make rows of moderate length.

    Where there may be more than one device, axes are not merged, since they may be split over the
    devices.
    """
    shape = array.shape or (1,)
    if not may_lie_on_several_devices(array) and _length_of_rows(array.size) is not None:
        shape = (array.size,)
    axes = _row_axes(shape)
    kept, length = shape[: len(shape) - axes], math.prod(shape[len(shape) - axes :])
    row = _length_of_rows(length)
    if length <= _LONGEST or row is None or sharding_in_type(array) is not None:
        return array.reshape(shape)
    return array.reshape(*kept, length // row, row)


def leaf_sums(parts: Kinds, ratio: Any, step: Any, *, by_row: bool) -> Table:
    """Return all sums over one leaf, or over each of its rows.

    Args:
        parts: The arrays of the leaf.
        ratio: r. The part g - r v of the gradient is measured too: if it is small, so is the angle
            of the two, which the cosine alone would not tell.
        step: The step to take the inner product of the gradient with, or None.
        by_row: Whether to return the sums of the rows.
    """
    parts = parts.map(lambda _, x: in_rows(x))
    g, v = parts.gradient, parts.velocity
    sums, counts, maxima = _squares(parts), {}, {}
    if v is not None:
        maxima["largest"] = _magnitude(v)
    if g is not None and v is not None:
        counts["opposing"] = product(v, g) < 0
        rest = g - jnp.asarray(ratio, v.dtype) * v
        sums |= {"rest": product(rest, rest), "rest along": product(v, rest)}
    if step is not None and g is not None:
        sums["slope"] = product(g, in_rows(step))
    found = reduce_all(Columns(sums, counts, maxima), by_row=by_row)
    if g is not None and v is not None:
        found = found.also({"both velocity": "velocity", "both gradient": "gradient"})
    if parts.clipped is not None and parts.clipped is g:
        found = found.also({"clipped": "gradient"})
    return found


def upcast(parts: Kinds, step: Any) -> tuple[Kinds, Any]:
    """Return the arrays of a leaf, and a step or None, in the widest of their compute dtypes."""
    present = [x for x in (*parts, step) if x is not None]
    is_double = jnp.finfo(arithmetic.compute_dtype(*present)).dtype == jnp.float64
    real, complex_ = (jnp.float64, jnp.complex128) if is_double else (jnp.float32, jnp.complex64)

    def cast(_: str, x: Any) -> jax.Array:
        return jnp.asarray(x, complex_ if jnp.iscomplexobj(x) else real)

    return parts.map(cast), None if step is None else cast("step", step)


def leaf_maxima(parts: Kinds, *, by_row: bool) -> Table:
    """Return the largest magnitude of each part, and the number of entries that are not finite.

    With by_row they are those of each row.
    """
    parts = parts.map(lambda _, x: in_rows(x))
    g = parts.gradient
    counts = {} if g is None else {"nonfinite": ~jnp.isfinite(g)}
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
    maxima = {kind: _magnitude(x) for kind, x in named.items()}
    return reduce_all(Columns({}, counts, maxima), by_row=by_row)


def scale(part: jax.Array, unit: jax.Array) -> jax.Array:
    """Return an array divided by a power of two, ready to be squared.

    Of (c x)² XLA makes c² x², where c² may over- or underflow. Of (c x + 0 c)² it does not.
    """
    c = (1 / unit).astype(part.dtype)
    return part * c + 0 * c
