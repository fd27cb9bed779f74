"""What a program gave for each point, on the host and, if there is a store, on the disk."""

from __future__ import annotations

import jax
import numpy as np

from momentax._core.typing import PyTree
from momentax.sweeps._devices import Devices
from momentax.sweeps._store import Store


class Ledger:
    """The outputs of some points, NumPy arrays in every process.

    done: which points have them.
    """

    def __init__(
        self, where: Devices, out: PyTree, count: int, store: Store | None = None, part: str = ""
    ):
        self._where, self._store, self._part = where, store, part
        self._structure = jax.tree.structure(out)
        self._leaves = [np.zeros((count, *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(out)]
        self.done = np.zeros(count, bool)
        # Only the first process has the store, and what it does there concerns all of them.
        self._stored = bool(where.agreed(store is not None))

    def read(self) -> None:
        """Take over what the first process' store has."""
        if not self._stored:
            return
        store, part = self._store, self._part
        batches = self._where.in_first_process(lambda: store.read(part) if store else ())
        for index, stored in batches or ():
            self.done[index] = True
            for leaf, kept in zip(self._leaves, stored, strict=True):
                leaf[index] = kept.view(leaf.dtype)
        self.done, *self._leaves = self._where.told([self.done, *self._leaves])

    def choose(self, batch: int) -> None:
        """Keep the batch size, before the first batch, for whoever goes on from the store."""
        if self._stored:
            store = self._store
            self._where.in_first_process(lambda: store.choose(batch) if store else None)

    def keep(self, index: np.ndarray, out: PyTree) -> PyTree:
        """Enter a batch's outputs, without what filled it up, and return them."""
        parts = [part[: len(index)] for part in jax.tree.leaves(self._where.fetch(out))]
        for leaf, part in zip(self._leaves, parts, strict=True):
            leaf[index] = part
        self.done[index] = True
        if self._stored:
            store, part = self._store, self._part
            self._where.in_first_process(lambda: store.write(index, parts, part) if store else None)
        return jax.tree.unflatten(self._structure, parts)

    def rows(self, index: np.ndarray) -> PyTree:
        """The outputs of some points."""
        return jax.tree.map(lambda leaf: leaf[index], self.outputs)

    @property
    def outputs(self) -> PyTree:
        """All outputs, the points on the leading axis; zeros where there are none."""
        return jax.tree.unflatten(self._structure, self._leaves)
