"""Which leaves are measured together, and which are joined to one array for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.sharding import may_lie_on_several_devices


class Groups(NamedTuple):
    """Which leaves are measured together.

    rows: the number of the group of each leaf; NumPy's where it is known while tracing.
    number: the number of groups.
    """

    rows: Any
    number: int

    def total(self, leaves: Any) -> Any:
        """Sum the numbers of the leaves, on the first axis, over each group."""
        if self.number == 1:
            return leaves.sum(axis=0, keepdims=True)
        if self.are_single:
            return leaves
        return jnp.zeros((self.number, *leaves.shape[1:]), leaves.dtype).at[self.rows].add(leaves)

    def largest(self, leaves: jax.Array) -> jax.Array:
        """Return the largest number of the leaves of each group, -∞ without any."""
        if self.number == 1:
            return leaves.max(axis=0, keepdims=True, initial=-jnp.inf)
        if self.are_single:
            return leaves
        least = jnp.full((self.number, *leaves.shape[1:]), -jnp.inf, leaves.dtype)
        return least.at[self.rows].max(leaves)

    def any(self, leaves: Any) -> Any:
        """Return which groups have a leaf for which something holds.

        The answer is NumPy's where it is known while tracing.
        """
        return self.total(leaves.astype(np.int32)) > 0

    def each(self, groups: jax.Array) -> list[Any]:
        """Return the number of the group of each leaf."""
        if self.number == 1:
            return [groups[0]] * len(self.rows)
        return list(groups if self.are_single else groups[self.rows])

    @property
    def are_single(self) -> bool:
        """Whether each leaf is its own group."""
        return isinstance(self.rows, np.ndarray) and len(self.rows) == self.number


# Bundles.


class Bundles(NamedTuple):
    """Which leaves are joined to one array and reduced together.

    groups: which bundles are measured together.
    members: the numbers of the leaves in each bundle.
    """

    groups: Groups
    members: list[list[int]]

    def join(self, leaves: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Join the arrays of the leaves of each bundle, kind by kind; None stays None."""
        return [_join([leaves[i] for i in members]) for members in self.members]


def _join(leaves: Sequence[Sequence[Any]]) -> list[Any]:
    if len(leaves) == 1:
        return list(leaves[0])
    joined: dict[tuple[int, ...], Any] = {}  # Arrays that are the same stay the same.
    columns = list(zip(*leaves, strict=True))
    for column in columns:
        place = tuple(map(id, column))
        if place not in joined:
            is_there = column[0] is not None  # And so are the others.
            joined[place] = jnp.concatenate(list(map(jnp.ravel, column))) if is_there else None
    return [joined[tuple(map(id, column))] for column in columns]


def bundle(
    groups: Groups,
    leaves: Sequence[Sequence[Any]],
    largest: float,
    *,
    apart: Sequence[Any] | None = None,
) -> Bundles:
    """Join leaves of a single group whose arrays have the same kinds and dtypes.

    XLA:CPU takes longer to start the reduction of a small leaf than to carry it out. It also
    allocates the results of every reduction at each call, even in the branch of a `lax.cond` that
    does not run. What may lie on several devices is not joined, since it would be sent.

    Args:
        groups: Which leaves are measured together.
        leaves: The arrays of each leaf, some of which may be None.
        largest: The number of entries of the largest leaf to join.
        apart: A value for each leaf; leaves with different values are not joined.
    """
    members: dict[Any, list[int]] = {}
    for i, arrays in enumerate(leaves):
        present = [x for x in arrays if x is not None]
        may_join = groups.number == 1 and all(
            x.size <= largest and not may_lie_on_several_devices(x) for x in present
        )
        ids = list(map(id, arrays))
        same = tuple(map(ids.index, ids))
        dtypes = tuple(None if x is None else x.dtype for x in arrays)
        value = None if apart is None else apart[i]
        key = (same, dtypes, value) if may_join else i
        members.setdefault(key, []).append(i)
    if len(members) < len(leaves):
        groups = Groups(np.zeros(len(members), np.int32), groups.number)
    return Bundles(groups, list(members.values()))
