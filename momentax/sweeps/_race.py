"""Who goes on: the bookkeeping of halving and of population-based training, in NumPy."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from momentax._core import arguments
from momentax.sweeps._groups import settings as settings_of
from momentax.sweeps._points import SEED, Distribution, Points, checked_axis

Columns = dict[str, np.ndarray]

# The scale on which an axis changes, where no distribution says so.
_SCALE = {"learning_rate": "log", "beta": "momentum"}


class Resample(Protocol):
    """How population-based training changes the settings of runs that start from the best."""

    def __call__(self, rung: int, settings: Columns, points: Points) -> Columns:
        """New values for each axis of some settings, after a rung counted from 0."""
        ...


@dataclass(frozen=True)
class Mutation:
    """What `mutate` makes: each axis moves up or down its scale, and stays inside its range.

    seed: of the choices between up and down.
    factor: by how much.
    ranges: the distribution of each axis that changes; None takes all axes of
        floating numbers, each between its least and greatest first value.
    """

    seed: tuple[int, ...]
    factor: float
    ranges: Mapping[str, Distribution] | None

    def __call__(self, rung: int, settings: Columns, points: Points) -> Columns:
        """The settings, changed."""
        changed = dict(settings)
        self.require_axes(points)
        for name, inside in (self.ranges or _spans(points)).items():
            rng = np.random.default_rng([*self.seed, rung, zlib.crc32(name.encode())])
            up = rng.choice([-1.0, 1.0], len(settings[name]))
            changed[name] = inside.moved(settings[name], up, self.factor)
        return changed

    def require_axes(self, points: Points) -> None:
        """Refuse ranges of what is no axis of floating numbers."""
        axes = [name for name, values in points.axes.items() if values.dtype.kind == "f"]
        for name in self.ranges or ():
            if name not in axes:
                raise ValueError(
                    f"mutate has a range for {name}, and the axes of floating numbers are {axes}"
                )


def _spans(points: Points) -> dict[str, Distribution]:
    return {
        name: Distribution(float(v.min()), float(v.max()), _SCALE.get(name, "linear"))
        for name, v in points.axes.items()
        if v.dtype.kind == "f" and v.min() < v.max()
    }


def mutate(key: jax.Array, *, factor: float = 1.25, **ranges: Distribution) -> Mutation:
    """Make the `resample` of `halve`: settings change a little and stay inside their ranges.

        log scale        α ← α · factor  or  α / factor
        momentum scale   1 - β ← (1 - β) · factor  or  (1 - β) / factor
        linear scale     x ← x ± (factor - 1) · (high - low)

    Args:
        key: A random key, as jax.random.key(0), for the choice of either.
        factor: The size of a change, above 1.
        **ranges: For each axis that changes a distribution, such as
            learning_rate=log_uniform(1e-3, 1), whose ends the values do not
            pass. Without any, every axis of floating numbers changes between
            the least and the greatest value of the points: learning_rate on a
            log scale, beta on that of 1 - β, others on a linear one.

    Returns:
        A Mutation, which gives the same for the same key, rung and settings.

    Raises:
        ValueError: factor is not above 1.
        TypeError: key is no random key, or a range no distribution.
    """
    try:
        seed = np.ravel(jax.random.key_data(jax.random.fold_in(key, 0))).tolist()
    except (TypeError, ValueError):
        raise TypeError(
            f"key must be a random key, as jax.random.key(0), got {arguments.describe(key)}"
        ) from None
    for name, inside in ranges.items():
        if not isinstance(inside, Distribution):
            raise TypeError(
                f"{name} must be a distribution, as momentax.sweeps.log_uniform(1e-3, 1), got "
                f"{arguments.describe(inside)}"
            )
        checked_axis(name, [inside.low, inside.high])
    return Mutation(tuple(seed), arguments.as_real("factor", factor, "(1, inf)"), ranges or None)


class Race:
    """Points that are judged at each rung.

    members: the flat places of those that run.
    columns: each axis' value at every place, as it is now.
    origin: at every place, the place whose state goes on there.
    """

    def __init__(
        self, points: Points, rungs: int, keep: float, sign: int, resample: Resample | None
    ):
        count = len(points)
        self.points, self._keep, self._sign, self._resample = points, keep, sign, resample
        if isinstance(resample, Mutation):
            resample.require_axes(points)
        settings, setting = settings_of(points)
        self._setting = setting.ravel()  # Of each place.
        # The places of each setting, one per seed.
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

    def total(self) -> int:
        """How many points will be advanced over all rungs, if few diverge."""
        settings, seeds = self._rows.shape
        total = 0
        for _ in range(self.history.shape[1]):
            total += settings * seeds
            settings = settings if self._resample else self._kept(settings)
        return total

    def _kept(self, settings: int) -> int:
        return max(1, int(self._keep * settings + 1e-9))

    def _ranked(self) -> tuple[np.ndarray, int]:
        """The settings that run, best first, and how many of them none of whose seeds diverged."""
        settings = np.unique(self._setting[self.members])
        rows = self._rows[settings]
        mean = self._sign * self.score[rows].mean(1)
        mean[self.diverged[rows].any(1)] = np.inf
        return settings[np.argsort(mean, kind="stable")], int(np.isfinite(mean).sum())

    def judge(self, rung: int, advanced: int, score: np.ndarray, diverged: np.ndarray) -> None:
        """Enter the scores of those that ran, and choose who goes on."""
        members = self.members
        self.score[members] = score[members]
        self.diverged[members] = diverged[members]
        self.advanced[members] = advanced
        self.history[members, rung] = score[members]
        if rung == self.history.shape[1] - 1:
            return
        ranked, sound = self._ranked()
        best, others = np.split(ranked, [min(self._kept(len(ranked)), sound)])
        self.origin = np.arange(len(self.points))
        if self._resample is None or not sound:
            self.members = np.sort(self._rows[best].ravel())
        elif len(others):
            self._replace(rung, self._resample, best, others)

    def _replace(self, rung: int, resample: Resample, best: np.ndarray, others: np.ndarray) -> None:
        """Let the others go on from the best, in turn, with other settings."""
        rows, parents = self._rows[others], self._rows[best[np.arange(len(others)) % len(best)]]
        settings = {n: v[parents[:, 0]] for n, v in self.columns.items() if n != SEED}
        try:
            new = _checked(resample(rung, settings, self.points), settings)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"resample failed after rung {rung}: {error}") from error
        for name, values in new.items():
            column = self.columns[name] = self.columns[name].copy()
            column[rows] = values[:, None]
            self._settings[name][:, rung + 1 :] = column[:, None]
        self.origin[rows] = parents
        self._parent[rows, rung + 1] = parents

    def survivors(self) -> np.ndarray:
        """Those that reached the last rung and did not diverge, best first."""
        ranked, _ = self._ranked()
        there = self._rows[ranked].ravel()
        return there[~self.diverged[there]]

    def values(self) -> dict[str, Any]:
        """The metrics of the result."""
        shape = self.points.shape
        found: dict[str, Any] = {
            "score": self.score,
            "advanced": self.advanced,
            "history": self.history,
        }
        if self._resample is not None:
            found |= {"settings": self._settings, "parent": self._parent}
        return jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), found)


def _checked(new: Any, settings: Columns) -> Columns:
    """What resample returned, in the dtypes of the settings that it was given."""
    if not isinstance(new, Mapping):
        raise TypeError(f"it must return a dictionary of arrays, got {arguments.describe(new)}")
    if set(new) != set(settings):
        raise ValueError(f"it must return the axes {list(settings)}, got {list(new)}")
    columns = {}
    for name, old in settings.items():
        values = checked_axis(name, new[name], distinct=False)
        if len(values) != len(old):
            raise ValueError(f"it must return {len(old)} values for {name}, got {len(values)}")
        if not np.can_cast(values.dtype, old.dtype, "same_kind"):
            raise TypeError(f"{name} holds {old.dtype}, and it returned {values.dtype}")
        columns[name] = values.astype(old.dtype)
    return columns
