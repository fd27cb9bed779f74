"""Measures of gradients, velocities, updates and parameters, for each group of leaves.

A measure is a pair of arrays with one entry for each group: its values, and whether they are known.
Norms and cosines neither over- nor underflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import float_dtype
from momentax._core.typing import PyTree

# What is measured of each parameter: an array, or None where there is none.
Parts = Sequence[Any]


class Measure(NamedTuple):
    """One number for each group of leaves, and whether it is known."""

    value: jax.Array
    known: jax.Array


class Groups(NamedTuple):
    """Which leaves are measured together.

    rows: the number of the group of each leaf, NumPy's where it is known while tracing.
    count: the number of groups.
    """

    rows: Any
    count: int

    def total(self, leaves: jax.Array) -> jax.Array:
        """Sum one number of each leaf over each group."""
        if self.count == 1 or not len(leaves):
            return jnp.sum(leaves, keepdims=True) if self.count else leaves
        return jnp.zeros(self.count, leaves.dtype).at[self.rows].add(leaves)

    def largest(self, leaves: jax.Array, least: float) -> jax.Array:
        """Return the largest number of the leaves of each group, and at least some number."""
        return jnp.full(self.count, least, leaves.dtype).at[self.rows].max(leaves)

    def of_leaves(self, groups: jax.Array) -> jax.Array:
        """Return for each leaf the number of its group."""
        return groups[self.rows]

    def norm(self, leaves: jax.Array) -> jax.Array:
        """Return the norm of each group from the norms of its leaves."""
        unit = self.largest(leaves, 0.0)
        safe = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
        return safe * jnp.sqrt(self.total(jnp.square(leaves / self.of_leaves(safe))))

    def any(self, leaves: Sequence[bool]) -> jax.Array:
        """Return which groups have a leaf for which something holds."""
        return self.any_of(jnp.asarray(np.asarray(leaves, np.bool_)))

    def any_of(self, leaves: jax.Array) -> jax.Array:
        """Return which groups have a leaf for which something holds, given as an array."""
        return self.total(leaves.astype(jnp.int32)) > 0


def angle(v: PyTree, g: PyTree) -> jax.Array:
    """Return the angle between two trees as vectors, in degrees; NaN where one of them is zero.

    Kahan's formula is accurate near 0 and near 180 too.
    """
    v, g = arithmetic.unit(v), arithmetic.unit(g)
    difference = arithmetic.norm(arithmetic.combine((1.0, v), (-1.0, g), like=v))
    total = arithmetic.norm(arithmetic.combine((1.0, v), (1.0, g), like=v))
    degrees = _angle_of(difference, total)
    return jnp.where(arithmetic.norm(v) > 0, degrees, jnp.nan)


def _angle_of(difference: jax.Array, total: jax.Array) -> jax.Array:
    """Return the angle between two unit vectors from the norms of their difference and sum."""
    return jnp.rad2deg(2 * jnp.arctan2(difference, total))


def stack(function: Callable[..., Any], *parts: Parts, absent: float = 0.0) -> jax.Array:
    """Return function(part, ...) of each leaf, with a number where one of the parts is absent."""
    values = [
        absent if any(part is None for part in each) else function(*each)
        for each in zip(*parts, strict=True)
    ]
    dtype = float_dtype()
    return jnp.stack([jnp.asarray(value, dtype) for value in values]) if values else jnp.zeros(0)


def present(*parts: Parts) -> list[bool]:
    """Return for each leaf whether all of its parts are there."""
    return [all(part is not None for part in each) for each in zip(*parts, strict=True)]


def norm(groups: Groups, parts: Parts) -> Measure:
    """Return the Euclidean norm of each group."""
    return Measure(groups.norm(stack(arithmetic.norm, parts)), groups.any(present(parts)))


def cosine_and_angle(groups: Groups, v: Parts, g: Parts) -> tuple[Measure, Measure]:
    """Return the cosine of velocity and gradient, and their angle in degrees by Kahan's formula.

    They are taken over the leaves that have both. They are unknown where one of them is zero.
    """
    both = present(v, g)
    v, g = ([x if keep else None for x, keep in zip(part, both, strict=True)] for part in (v, g))
    sizes = [stack(arithmetic.norm, part) for part in (v, g)]
    totals = [groups.norm(size) for size in sizes]
    known = groups.any(both) & (totals[0] != 0) & (totals[1] != 0)
    shares = [
        size / groups.of_leaves(jnp.where(total == 0, 1, total))
        for size, total in zip(sizes, totals, strict=True)
    ]

    def distance(sign: float, x: Any, y: Any, share_x: Any, share_y: Any) -> jax.Array:
        # A leaf of zeros has no direction.
        x, y = (
            jnp.where(share > 0, arithmetic.unit(part), 0)
            for part, share in ((x, share_x), (y, share_y))
        )
        return arithmetic.norm(arithmetic.combine((share_x, x), (sign * share_y, y), like=x))

    def all_distances(sign: float) -> jax.Array:
        return groups.norm(stack(lambda *each: distance(sign, *each), v, g, *map(list, shares)))

    cosines = stack(lambda x, y: arithmetic.cosines(x, y), v, g)
    value = jnp.clip(groups.total(cosines * shares[0] * shares[1]), -1, 1)
    degrees = _angle_of(all_distances(-1.0), all_distances(1.0))
    return Measure(value, known), Measure(degrees, known)


def opposing_share(groups: Groups, v: Parts, g: Parts) -> Measure:
    """Return the share of entries whose velocity and gradient have opposite signs.

    Two complex entries oppose each other where the real part of their inner product is negative.
    """

    def opposes(x: Any, y: Any) -> jax.Array:
        x, y = arithmetic.upcast((x, y))
        if jnp.iscomplexobj(x) or jnp.iscomplexobj(y):
            signs = jnp.real(jnp.conj(arithmetic.unit(x)) * arithmetic.unit(y))
        else:
            signs = jnp.sign(x) * jnp.sign(y)
        return jnp.sum(signs < 0, dtype=float_dtype())

    entries = groups.total(stack(lambda x, y: jnp.size(x), v, g))
    count = groups.total(stack(opposes, v, g))
    return Measure(count / jnp.maximum(entries, 1), entries > 0)


def nonfinite(groups: Groups, parts: Parts) -> Measure:
    """Count the entries that are infinite or NaN."""
    counts = stack(lambda x: jnp.sum(~jnp.isfinite(x), dtype=float_dtype()), parts)
    return Measure(groups.total(counts), groups.any(present(parts)))


def headroom(groups: Groups, parts: Parts) -> Measure:
    """Return log10 of the largest number of the dtype over the largest magnitude of an entry.

    It is infinite where all entries are 0. The leaf that is nearest to overflow decides.
    """

    def decades_above(x: Any) -> jax.Array:
        x = arithmetic.upcast(x)
        parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(part), initial=0) for part in parts]))
        return jnp.log10(largest) - np.log10(float(jnp.finfo(x.dtype).max))

    above = groups.largest(stack(decades_above, parts, absent=-np.inf), -np.inf)
    return Measure(-above, groups.any(present(parts)))


def inner_product(groups: Groups, x: Parts, y: Parts) -> jax.Array:
    """Return the real inner product of each group, over the leaves that have both parts."""
    return groups.total(stack(arithmetic.inner_product, x, y))


# Successive gradients.

# A sample of so many entries of a leaf stands for the whole leaf.
_SAMPLE = 4096


def sample(leaf: Any) -> Any:
    """Return up to 4096 entries of a leaf, evenly spaced along each of its axes."""
    shape = np.shape(leaf)
    sizes = list(shape)
    while np.prod(sizes) > _SAMPLE:
        longest = int(np.argmax(sizes))
        sizes[longest] = (sizes[longest] + 1) // 2
    strides = [length // size if size else 1 for length, size in zip(shape, sizes, strict=True)]
    ends = [
        (size - 1) * stride + 1 if size else 0 for size, stride in zip(sizes, strides, strict=True)
    ]
    return jax.lax.slice(jnp.asarray(leaf), [0] * len(shape), ends, strides)


def signal_to_noise(groups: Groups, g: Parts, before: Parts, weights: Parts) -> Measure:
    """Return ⟨g_t, g_{t-1}⟩ / (½ ‖g_t - g_{t-1}‖²) from samples of two successive gradients.

    With independent noise the numerator estimates the squared norm of the mean gradient, and the
    denominator the variance of a gradient about it. Weights say how many entries of a leaf each
    entry of its sample stands for.
    """
    unit = stack(lambda x, y: jnp.maximum(arithmetic.norm(x), arithmetic.norm(y)), g, before)
    unit = groups.of_leaves(groups.largest(unit, 0.0))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    units, weights = list(unit), list(weights)

    def product(x: Any, y: Any, unit: Any, weight: Any) -> jax.Array:
        x, y = (
            arithmetic.combine((1 / unit, part), like=arithmetic.upcast(part)) for part in (x, y)
        )
        return weight * arithmetic.inner_product(x, y)

    def distance(x: Any, y: Any, unit: Any, weight: Any) -> jax.Array:
        like = arithmetic.upcast(x)
        change = arithmetic.combine((1 / unit, x), (-1 / unit, y), like=like)
        return weight * jnp.square(arithmetic.norm(change))

    signal = groups.total(stack(product, g, before, units, weights))
    noise = groups.total(stack(distance, g, before, units, weights)) / 2
    known = groups.any(present(g, before)) & ((signal != 0) | (noise != 0))
    return Measure(signal / noise, known)


# Finding the parts.


def parts_like(tree: PyTree, like: PyTree) -> list[Any]:
    """Return the array of a tree at each leaf of another, and None where it has none.

    A tree of another structure has none at all.
    """
    structure = jax.tree.structure(like)
    try:
        parts = structure.flatten_up_to(trees.only_arrays(tree))
    except ValueError:
        parts = [None] * structure.num_leaves
    return [part if _is_measurable(part) else None for part in parts]


def _is_measurable(part: Any) -> bool:
    if not jax.tree_util.all_leaves([part]) or not trees.is_array(part):
        return False
    return jnp.issubdtype(jnp.result_type(part), jnp.inexact)
