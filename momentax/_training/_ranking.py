"""The order of runs on one problem: by the steps that they need to a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from momentax._core.metrics import arrival
from momentax._core.typing import Reals


class Racer(NamedTuple):
    """A run in a race.

    name: that of the run.
    position: its place among the runs.
    steps: the number of updates before each recorded loss.
    excess: the loss above the minimum.
    reached: the first of the steps from which on the excess is at most that of the target, or None.
    diverged: the first of the steps from which on the loss is not finite or above the start,
        or None.
    """

    name: str
    position: int
    steps: np.ndarray
    excess: Reals
    reached: int | None
    diverged: int | None

    @property
    def order(self) -> tuple[Any, ...]:
        """What runs are ranked by: the steps to the target, then the last loss."""
        if self.diverged is not None:
            return (2, -self.diverged)
        if self.reached is not None:
            return (0, self.reached, self.excess[-1])
        return (1, self.excess[-1])


def rank(
    losses: Mapping[str, Reals], steps: Mapping[str, np.ndarray], lowest: float, fraction: float
) -> tuple[list[Racer], float]:
    """Return the runs in the order of their ranks, and the target above the lowest loss.

    The target is a fraction of the loss above the lowest one at the start, the highest start if
    they differ. steps holds the number of updates before each of the losses.
    """
    starts = [f[0] - lowest for f in losses.values() if np.isfinite(f[0])]
    level = fraction * max(starts, default=0.0)
    racers = [
        _make_racer(name, i, steps[name], f - lowest, level)
        for i, (name, f) in enumerate(losses.items())
    ]
    return sorted(racers, key=lambda racer: racer.order), level


def _make_racer(name: str, index: int, steps: np.ndarray, excess: Reals, level: float) -> Racer:
    is_low = ~(np.isnan(excess) | (excess > excess[0]))
    last_low = int(np.flatnonzero(is_low)[-1]) if is_low.any() else -1
    is_finite = np.isfinite(excess)
    end = len(excess) if is_finite.all() else int(np.argmin(is_finite))
    end = min(end, last_low + 1)
    first = int(arrival(excess, level))
    return Racer(
        name or "run",
        index,
        steps,
        excess,
        reached=int(steps[first]) if first < len(excess) else None,
        diverged=int(steps[end]) if end < len(excess) else None,
    )
