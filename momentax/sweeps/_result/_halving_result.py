"""The result of halving: that of a sweep, with the last states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._points import SEED
from momentax.sweeps._result._records import Best
from momentax.sweeps._result._sweep_result import SweepResult


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False)
class HalvingResult(SweepResult):
    """The result of `halve`: a SweepResult with the metrics below, and the last states.

    survivors: the flat indices of the points that reached the last rung and did
        not diverge, best first; the seeds of one setting are adjacent.
    states: their states, in the same order on the leading axis, NumPy arrays,
        random keys as JAX's; None if no point survived.

    `save` keeps neither of these two.

    Raises:
        TypeError: survivors is not a 1-D array, or states does not hold arrays of its length.
        ValueError: survivors are not flat indices of points.

    The metrics, of the points' shape:

        score      the point's last score
        advanced   how many times the point was advanced
        history    its score at each rung, NaN at the rungs that it did not reach

    and with `resample`, for each rung, `settings` with the value of each axis and
    `parent`, the flat index of the point from which it continued.
    """

    survivors: np.ndarray | None = None
    states: PyTree = None

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Return the children by name, and the modes as structure."""
        children, aux = super().tree_flatten_with_keys()
        own = [(GetAttrKey(name), getattr(self, name)) for name in ("survivors", "states")]
        return [*children, *own], aux

    def __post_init__(self) -> None:
        super().__post_init__()
        survivors = np.zeros(0, int) if self.survivors is None else self.survivors
        if not isinstance(survivors, np.ndarray | jax.Array) or survivors.ndim != 1:
            raise TypeError(
                f"survivors must be a 1-D array of points, got {arguments.describe(survivors)}"
            )
        if (
            survivors.dtype.kind not in "iu"
            or not np.isin(survivors, range(len(self.points))).all()
        ):
            raise ValueError(
                f"survivors must be points, from 0 to {len(self.points) - 1}, got "
                f"{arguments.describe(survivors)}"
            )
        for leaf in jax.tree.leaves(self.states):
            if not hasattr(leaf, "shape") or leaf.shape[:1] != survivors.shape:
                raise TypeError(
                    "states must be a tree of arrays with an entry for each survivor, got "
                    f"{arguments.describe(leaf)}"
                )

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> HalvingResult:
        """Make a result of children of any kind, which JAX may put where arrays were."""
        points, values, diverged, survivors, states = children
        arrays = {"points": points, "values": values, "diverged": diverged}
        return cls._of_any(dict(aux), **arrays, survivors=survivors, states=states)

    def where(self, **conditions: Any) -> SweepResult:
        """Select the points that meet every condition, as `SweepResult.where`; without states."""
        selected = super().where(**conditions)
        return replace(selected, survivors=None, states=None)

    def top(self, metric: str, count: int, mode: str | None = None) -> list[Best]:
        """Rank the settings, as `SweepResult.top`; by score, those that advanced further first.

        Raises:
            KeyError: There is no metric of this name.
        """
        count = arguments.as_count("count", count)
        ranked = super().top(metric, len(self.points), mode)
        if metric == "score":  # Scores after different numbers of advances are not comparable.
            axis = list(self.points.dims).index(SEED) if SEED in self.points.dims else ()
            advanced = np.asarray(self["advanced"]).max(axis)
            ranked.sort(key=lambda best: -advanced[best.index])
        return ranked[:count]
