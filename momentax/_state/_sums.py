"""Sums and maxima over the arrays of one leaf of the parameters.

XLA:CPU computes all of them in one loop, which reads each array once, if they are one reduction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core import arithmetic
from momentax._core.sharding import sharding_in_type


class Kinds(NamedTuple):
    """What is measured of one leaf, or a number for each of them."""

    gradient: Any
    clipped: Any
    velocity: Any
    update: Any
    parameter: Any


def _squares(parts: Kinds) -> dict[str, Any]:
    """Return the squared magnitudes of the entries of each part."""
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
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


def _as_integer(x: jax.Array) -> jax.Array:
    """Return numbers that are not negative as integers in the same order.

    Their maximum needs no test for NaN.
    """
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    return jax.lax.bitcast_convert_type(x, integer)


def reduce_all(
    sums: Mapping[str, jax.Array], maxima: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the sum of each of some arrays of one shape, and the maximum of others, in one loop.

    What the maxima are taken of is not negative.
    """
    names = [*sums, *maxima]
    if not names:
        return {}
    operands = [*sums.values(), *(_as_integer(x) for x in maxima.values())]

    def add(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        pairs = zip(x, y, strict=True)
        return tuple(
            a + b if i < len(sums) else jnp.maximum(a, b) for i, (a, b) in enumerate(pairs)
        )

    def reduce(operands: Sequence[Any], axes: Sequence[int]) -> list[Any]:
        zeros = tuple(jnp.zeros((), x.dtype) for x in operands)
        return list(jax.lax.reduce(tuple(operands), zeros, add, tuple(axes)))

    rows, axes = _rows(operands)
    totals = reduce(rows, axes)
    if totals[0].ndim:
        totals = reduce(totals, range(totals[0].ndim))
    for i, x in enumerate(maxima.values(), len(sums)):
        totals[i] = jax.lax.bitcast_convert_type(totals[i], x.dtype)
    return dict(zip(names, totals, strict=True))


_ROW = 4096  # Long enough for a fast loop, and short enough for a sum in float32.


def _rows(operands: list[Any]) -> tuple[list[Any], list[int]]:
    """Return arrays in rows of moderate length, and the axes of the rows.

    Each row is summed separately, which is accurate and uses several cores.
    """
    first = operands[0]
    axes: list[int] = []
    length = 1
    for axis in reversed(range(first.ndim)):
        if length >= _ROW // 16 or (axes and length * first.shape[axis] > 4 * _ROW):
            break
        axes.append(axis)
        length *= first.shape[axis]
    if length <= 4 * _ROW or length % _ROW or sharding_in_type(first) is not None:
        return operands, axes
    kept = first.shape[: first.ndim - len(axes)]
    return [x.reshape(*kept, -1, _ROW) for x in operands], [len(kept) + 1]


def leaf_sums(parts: Kinds, sign: Any, ratio: Any, step: Any) -> dict[str, jax.Array]:
    """Return all sums over one leaf.

    Args:
        parts: The arrays of the leaf.
        sign: 1 or -1, by which the velocity is multiplied.
        ratio: r. The part g - r v of the gradient is measured too: if it is small, so is the angle
            of the two, which the cosine alone would not tell.
        step: The step to take the inner product of the gradient with, and whether it was made; or
            None.
    """
    g, v = parts.gradient, parts.velocity
    sums, maxima = _squares(parts), {}
    if v is not None:
        maxima["largest"] = _magnitude(v)
    if v is not None and g is not None:
        sign = jnp.asarray(sign, jnp.finfo(v.dtype).dtype)
        rest = g - (sign * jnp.asarray(ratio, sign.dtype)).astype(v.dtype) * v
        sums |= {
            "rest": product(rest, rest),
            "rest along": sign * product(v, rest),
            "opposing": (sign * product(v, g) < 0).astype(sign.dtype),
        }
    if step is not None and g is not None:
        sums["slope"] = product(g, arithmetic.upcast(step[0]))
    found = reduce_all(sums, maxima)
    if v is not None and g is not None:
        found |= {"both velocity": found["velocity"], "both gradient": found["gradient"]}
    if step is not None and "slope" in found:
        found["slope"] = jnp.where(step[1], found["slope"], 0)
    if parts.clipped is not None and parts.clipped is g:
        found["clipped"] = found["gradient"]
    return found


def upcast(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf in their compute dtypes."""
    wide = arithmetic.upcast(parts)
    return wide._replace(clipped=wide.gradient) if parts.clipped is parts.gradient else wide


def leaf_maxima(parts: Kinds) -> dict[str, jax.Array]:
    """Return the largest magnitude of each part, and the number of entries that are not finite."""
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
    sums = {}
    if parts.gradient is not None:
        dtype = jnp.finfo(parts.gradient.dtype).dtype
        sums["nonfinite"] = (~jnp.isfinite(parts.gradient)).astype(dtype)
    return reduce_all(sums, {kind: _magnitude(part) for kind, part in named.items()})


def scale(part: jax.Array, unit: jax.Array) -> jax.Array:
    """Return an array divided by a power of two, ready to be squared.

    Of (c x)² XLA makes c² x², where c² may over- or underflow. Of (c x + 0 c)² it does not.
    """
    c = (1 / unit).astype(part.dtype)
    return part * c + 0 * c
