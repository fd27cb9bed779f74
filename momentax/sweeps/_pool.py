"""The states of many runs, on the devices."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from momentax._core.typing import PyTree
from momentax.sweeps._devices import Devices


@partial(jax.jit, static_argnames="sharding")
def _rows(tree: PyTree, rows: jax.Array, sharding: NamedSharding) -> PyTree:
    taken = jax.tree.map(lambda leaf: leaf[rows], tree)
    return jax.lax.with_sharding_constraint(taken, sharding)


@partial(jax.jit, static_argnames="sharding")
def _joined(trees: list[PyTree], sharding: NamedSharding) -> PyTree:
    whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
    return jax.lax.with_sharding_constraint(whole, sharding)


class Pool:
    """The state of each member, found by its place among the points."""

    def __init__(self, where: Devices, count: int):
        self._where = where
        self._row = np.full(count, -1)
        self._batches: list[Any] = []
        self._size = 0

    def add(self, members: np.ndarray, states: PyTree) -> None:
        """Enter the members' states; further rows, which filled up a batch, are nobody's."""
        self._row[members] = self._size + np.arange(len(members))
        self._batches.append(states)
        self._size += next(map(len, jax.tree.leaves(states)), 0)

    def take(self, members: np.ndarray) -> PyTree:
        """The states of the members, in this order."""
        if len(self._batches) > 1:
            self._batches = [_joined(self._batches, self._where.sharding)]
        rows = self._where.copied(self._row[members].astype(np.int32))
        return _rows(self._batches[0], rows, self._where.sharding)
