"""What a sweep found: the values at every point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._typing import PyTree
from momentax.sweeps._points import Points


class Report(NamedTuple):
    """How a sweep ran.

    batch_size: the points in one call of a compiled program.
    devices: how many devices shared them.
    device_kind: what these are.
    programs: how many programs ran, one per batch shape and static value.
    tried: the batch sizes that were measured, with seconds a point.
    resumed: the points that were read from the store.
    damaged: the files of the store that were damaged, so that their points ran again.
    """

    batch_size: int
    devices: int
    device_kind: str
    programs: int
    tried: tuple[tuple[int, float], ...] = ()
    resumed: int = 0
    damaged: tuple[str, ...] = ()


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `run` returned at every point of a sweep.

    points: the points.
    values: what `run` returns, with the points' shape on the leading axes of
        every leaf, NumPy arrays.
    diverged: which points diverged, bools of the points' shape.
    report: how the sweep ran; no part of the tree.
    """

    points: Points
    values: PyTree
    diverged: np.ndarray
    report: Report | None = field(default=None, compare=False)

    def tree_flatten_with_keys(self) -> tuple[Any, None]:
        """The children by name."""
        names = ("points", "values", "diverged")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> SweepResult:
        """A result of whatever stands in for the arrays."""
        return cls(*children)

    def metrics(self) -> dict[str, Any]:
        """The leaves of the values by name."""
        return {metric_name(path): leaf for path, leaf in jax.tree.leaves_with_path(self.values)}

    def __getitem__(self, metric: str) -> Any:
        return self.metrics()[metric]


def metric_name(path: Any) -> str:
    """What a leaf is called: its keys, joined by dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".") or "value"
