"""The states of many runs, on the devices."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from momentax._core.sharding import Devices
from momentax._core.typing import PyTree


class States:
    """The state of each member, found by the member's flat index among the points."""

    def __init__(self, devices: Devices, count: int):
        self._devices = devices
        self._row = np.full(count, -1)
        self._batches: list[Any] = []
        self._size = 0

    def add(self, members: np.ndarray, states: PyTree) -> None:
        """Add a batch of states; rows beyond the members are padding."""
        self._row[members] = self._size + np.arange(len(members))
        self._batches.append(states)
        self._size += next(map(len, jax.tree.leaves(states)), 0)

    def take(self, members: np.ndarray) -> PyTree:
        """Return the states of the members, in this order."""
        if len(self._batches) > 1:
            self._batches = [_concatenate(self._batches, self._devices.sharding)]
        rows = self._devices.replicate(self._row[members].astype(np.int32))
        return _take_rows(self._batches[0], rows, self._devices.sharding)


@partial(jax.jit, static_argnames="sharding")
def _take_rows(tree: PyTree, rows: jax.Array, sharding: NamedSharding) -> PyTree:
    taken = jax.tree.map(lambda leaf: leaf[rows], tree)
    return jax.lax.with_sharding_constraint(taken, sharding)


@partial(jax.jit, static_argnames="sharding")
def _concatenate(trees: list[PyTree], sharding: NamedSharding) -> PyTree:
    whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
    return jax.lax.with_sharding_constraint(whole, sharding)
