"""The result of a search: that of a sweep, with the metric that was optimized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.metrics import require_mode
from momentax.sweeps._result._records import Best
from momentax.sweeps._result._selection import UnknownNameError, listed
from momentax.sweeps._result._sweep_result import SweepResult


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(SweepResult):
    """The result of `search`: a SweepResult of the points in the order of their proposal.

    metric: the name of the metric that was optimized, which `best` and `plot` take where none is
        given; `save` does not keep it.

    Raises:
        TypeError: metric is not a name.
        KeyError: There is no metric of this name.
    """

    metric: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric is None:
            return
        if not isinstance(self.metric, str):
            raise TypeError(f"metric must be a name, got {arguments.describe(self.metric)}")
        if self.metric not in self.metrics():
            raise UnknownNameError(
                f"metric must be one of {listed(self.metrics())}, got "
                f"{arguments.describe(self.metric)}"
            )

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Return the children by name, and the modes and the metric as structure."""
        children, modes = super().tree_flatten_with_keys()
        return children, (modes, self.metric)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> SearchResult:
        """Make a result of children of any kind, which JAX may put where arrays were."""
        (modes, metric), (points, values, diverged) = aux, children
        arrays = {"points": points, "values": values, "diverged": diverged}
        return cls._of_any(dict(modes), **arrays, metric=metric)

    @property
    def best_so_far(self) -> np.ndarray:
        """The best value of the metric up to each point, float64; NaN before the first that counts.

        A point that diverged, or whose metric is not finite, does not count.
        """
        metric = self._known_metric()
        sign = -1 if self.mode_of(metric) == "max" else 1
        value = np.ravel(self[metric]).astype(np.float64)
        counts = ~np.ravel(self.diverged) & np.isfinite(value)
        best = np.minimum.accumulate(np.where(counts, sign * value, np.inf))
        return np.where(np.isfinite(best), sign * best, np.nan)

    def best(self, metric: str | None = None, mode: str | None = None) -> Best:
        """Find the setting that is best by a metric, as `SweepResult.best`.

        Args:
            metric: The metric's name; None takes the metric of the search.
            mode: "min", "max" or None, as in `top`.

        Returns:
            Best(point, value, standard_error, index).

        Raises:
            ValueError: As in `top`, or metric is None and the result has no metric of a search.
            KeyError: There is no metric of this name.
        """
        if mode is not None:
            require_mode("", mode)
        return super().best(self._known_metric() if metric is None else metric, mode)

    def plot(self, metric: str | None = None, **options: Any) -> Any:
        """Draw a metric, as `SweepResult.plot`.

        Args:
            metric: The metric's name; None takes the metric of the search.
            **options: The keywords of that function.

        Returns:
            The matplotlib axes.

        Raises:
            ValueError: As in `SweepResult.plot`.
            TypeError: As in `SweepResult.plot`.
            KeyError: There is no metric of this name.
        """
        return super().plot(self.metric if metric is None else metric, **options)

    def _known_metric(self) -> str:
        if self.metric is None:
            raise ValueError(
                f"give metric, since this result has none of a search: {listed(self.metrics())}"
            )
        return self.metric
