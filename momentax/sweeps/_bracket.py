"""The bracket of halving and of population-based training: which points continue, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax.sweeps._axes import as_axis
from momentax.sweeps._mutation import Columns, Mutation, Resample
from momentax.sweeps._points import SEED, Points
from momentax.sweeps._result._statistics import group_by_setting


class Bracket:
    """Points that are judged at each rung.

    members: the flat indices of the points that still run.
    columns: each axis' current value at every point.
    origin: for each point, the point whose state it continues.
    """

    def __init__(
        self, points: Points, rungs: int, keep: float, sign: int, resample: Resample | None
    ):
        count = len(points)
        self.points, self._keep, self._sign, self._resample = points, keep, sign, resample
        if isinstance(resample, Mutation):
            resample.require_axes(points)
        settings, setting = group_by_setting(points)
        self._setting = setting.ravel()  # Of each point.
        # The points of each setting, one per seed.
        self._rows = np.argsort(self._setting, kind="stable").reshape(len(settings), -1)
        self.members = np.arange(count)
        self.columns = points.columns()
        self.origin = np.arange(count)
        self.score = np.full(count, np.nan)
        self.advanced = np.zeros(count, np.int32)
        self.diverged = np.zeros(count, bool)
        self.history = np.full((count, rungs), np.nan)
        self._settings = {name: np.repeat(v[:, None], rungs, 1) for name, v in self.columns.items()}
        self._parent = np.repeat(np.arange(count, dtype=np.int32)[:, None], rungs, 1)

    def expected_total(self) -> int:
        """Return how many points are advanced over all rungs, if few of them diverge."""
        settings, seeds = self._rows.shape
        total = 0
        for _ in range(self.history.shape[1]):
            total += settings * seeds
            settings = settings if self._resample else self._count_kept(settings)
        return total

    def judge(self, rung: int, advanced: int, score: np.ndarray, diverged: np.ndarray) -> None:
        """Record the scores of the members, and select those that continue."""
        members = self.members
        self.score[members] = score[members]
        self.diverged[members] = diverged[members]
        self.advanced[members] = advanced
        self.history[members, rung] = score[members]
        if rung == self.history.shape[1] - 1:
            return
        ranked, complete = self._rank()
        best, others = np.split(ranked, [min(self._count_kept(len(ranked)), complete)])
        self.origin = np.arange(len(self.points))
        if self._resample is None or not complete:
            self.members = np.sort(self._rows[best].ravel())
        elif len(others):
            self._replace(rung, self._resample, best, others)

    def survivors(self) -> np.ndarray:
        """Return the points that reached the last rung and did not diverge, best first."""
        ranked, _ = self._rank()
        reached = self._rows[ranked].ravel()
        return reached[~self.diverged[reached]]

    def values(self) -> dict[str, Any]:
        """Return the metrics of the result."""
        shape = self.points.shape
        metrics: dict[str, Any] = {
            "score": self.score,
            "advanced": self.advanced,
            "history": self.history,
        }
        if self._resample is not None:
            metrics |= {"settings": self._settings, "parent": self._parent}
        return jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), metrics)

    def _count_kept(self, settings: int) -> int:
        return max(1, int(self._keep * settings + 1e-9))

    def _rank(self) -> tuple[np.ndarray, int]:
        """Return the settings that run, best first, and how many of them have no diverged seed."""
        settings = np.unique(self._setting[self.members])
        rows = self._rows[settings]
        mean = self._sign * self.score[rows].mean(1)
        mean[self.diverged[rows].any(1)] = np.inf
        return settings[np.argsort(mean, kind="stable")], int(np.isfinite(mean).sum())

    def _replace(self, rung: int, resample: Resample, best: np.ndarray, others: np.ndarray) -> None:
        """Continue the others from the best, in turn, with resampled settings."""
        rows, parents = self._rows[others], self._rows[best[np.arange(len(others)) % len(best)]]
        settings = {n: v[parents[:, 0]] for n, v in self.columns.items() if n != SEED}
        try:
            new = _as_settings(resample(rung, settings, self.points), settings)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"resample failed after rung {rung}: {error}") from error
        for name, values in new.items():
            column = self.columns[name] = self.columns[name].copy()
            column[rows] = values[:, None]
            self._settings[name][:, rung + 1 :] = column[:, None]
        self.origin[rows] = parents
        self._parent[rows, rung + 1] = parents


def _as_settings(new: Any, settings: Columns) -> Columns:
    """Return what `resample` returned, checked, in the dtypes of the settings it was given."""
    if not isinstance(new, Mapping):
        raise TypeError(f"it must return a dictionary of arrays, got {arguments.describe(new)}")
    if set(new) != set(settings):
        raise ValueError(f"it must return the axes {list(settings)}, got {list(new)}")
    columns = {}
    for name, old in settings.items():
        values = as_axis(name, new[name], distinct=False)
        if len(values) != len(old):
            raise ValueError(f"it must return {len(old)} values for {name}, got {len(values)}")
        if not np.can_cast(values.dtype, old.dtype, "same_kind"):
            raise TypeError(f"{name} holds {old.dtype}, and it returned {values.dtype}")
        columns[name] = values.astype(old.dtype)
    return columns
