"""The outputs of a program at each point, on the host and, if there is one, in the batch folder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.sharding import Devices
from momentax._core.typing import PyTree
from momentax.sweeps._run._folder import SharedFolder


class Outputs:
    """The outputs at some points, NumPy arrays in every process.

    is_done: for each point, whether its outputs are there.
    """

    def __init__(
        self,
        devices: Devices,
        out: PyTree,
        count: int,
        folder: SharedFolder | None = None,
        part: str = "",
    ):
        self._devices, self._folder, self._part = devices, folder, part
        self._structure = jax.tree.structure(out)
        self._leaves = [np.zeros((count, *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(out)]
        self.is_done = np.zeros(count, bool)

    def read(self) -> None:
        """Read the batches that the folder has."""
        if self._folder is None:
            return
        for index, kept in self._folder.read(self._part):
            is_here = index < len(self.is_done)  # A search may have run with a larger budget.
            self.is_done[index[is_here]] = True
            for leaf, part in zip(self._leaves, kept, strict=True):
                leaf[index[is_here]] = part.view(leaf.dtype)[is_here]
        self.is_done, *self._leaves = self._devices.broadcast([self.is_done, *self._leaves])

    def add(self, index: np.ndarray, out: PyTree) -> PyTree:
        """Add a batch's outputs, without the padding, and return them."""
        parts = [part[: len(index)] for part in jax.tree.leaves(self._devices.to_host(out))]
        for leaf, part in zip(self._leaves, parts, strict=True):
            leaf[index] = part
        self.is_done[index] = True
        if self._folder is not None:
            self._folder.write(index, parts, self._part)
        return _with_divergence(jax.tree.unflatten(self._structure, parts))

    def rows(self, index: np.ndarray) -> PyTree:
        """Return the outputs at some points."""
        rows = [leaf[index] for leaf in self._leaves]
        return _with_divergence(jax.tree.unflatten(self._structure, rows))

    @property
    def tree(self) -> PyTree:
        """All outputs, the points on the leading axis; zeros where there are none."""
        return _with_divergence(jax.tree.unflatten(self._structure, self._leaves))


def _with_divergence(tree: PyTree) -> PyTree:
    """Return outputs in which the last entry, if None, is found from the one before it."""
    *others, values, diverged = tree
    if diverged is None:
        leaves = jax.tree.leaves(values)
        diverged = np.zeros(len(leaves[0]), bool)
        for leaf in leaves:
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                diverged |= ~np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
    return *others, values, diverged
