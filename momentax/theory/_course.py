"""The course that a transformation takes by itself: its period, and its long run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentax.theory._reader import WATCHED, Reader, whole_numbers

_Reals = NDArray[np.float64]

# A count that leaves warm-ups behind, and that schedules still tell from the next: many take it
# in 32 bits.
_LONG_RUN = 2**23
_LONGEST_PERIOD = 64
_TOO_LONG = f"tx has a period of more than {_LONGEST_PERIOD} steps, too long to read over all of it"


def rounds(still: list[Any]) -> tuple[int, dict[int, Any]]:
    """The period of the counters that come round, and which others count on."""
    period, growing = 1, {}
    for i, seen in whole_numbers([part[WATCHED // 2 :] for part in still]).items():
        grows = np.zeros(seen.shape[1], bool)
        for j, entry in enumerate(seen.T):
            tried = range(1, _LONGEST_PERIOD + 1)
            own = next((p for p in tried if np.array_equal(entry[p:], entry[:-p])), None)
            if own is None and np.any(np.diff(entry) < 0):
                raise ValueError(_TOO_LONG)
            grows[j] = own is None
            period = np.lcm(period, own or 1)
        growing[i] = grows
    if period > _LONGEST_PERIOD:
        raise ValueError(_TOO_LONG)
    return int(period), growing


def followers(
    reader: Reader, start: _Reals, phases: list[Any], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], set[str]]:
    """What of x follows from gradients and parameters, what they feel, and whole numbers' paths."""
    reached = np.any(start != 0, axis=1)
    felt = np.arange(reader.size) < reader.held
    whole: set[str] = set()
    for x, still in 2 * phases:
        y = np.concatenate([x, rng.normal(size=reader.num_params)])
        y[: -reader.num_params][reached] = rng.normal(size=reached.sum())
        other = np.where(y == 0, 1, -y * rng.uniform(0.5, 2, y.shape))
        rows = np.concatenate([y[None], np.where(np.eye(len(y), dtype=bool), other, y)])
        along = np.eye(len(y) + 1, len(y), -1)
        values, slopes, new = reader.probe(rows, along, still)
        depends = ~(values[1:] == values[0]) | (slopes[1:] != 0)
        gradients = np.ones(reader.num_params, bool)
        while np.any(more := depends[: reader.size, felt].any(axis=1) & ~felt):
            felt = felt | more
        while True:
            more = reached | depends[np.concatenate([reached, gradients])].any(axis=0)
            if np.array_equal(more, reached):
                break
            reached = more
        chosen = np.concatenate([[True], reached, gradients])
        for i, seen in whole_numbers([part[chosen] for part in new]).items():
            if np.any(seen != seen[0]):
                whole.add(reader.whole[i])
    return reached, felt, whole


def _later(still: list[Any], growing: Any, count: int) -> list[Any]:
    still = list(still)
    for i, grows in growing.items():
        flags = still[i].dtype == bool
        far = 1 if flags else min(count, np.iinfo(still[i].dtype).max // 2)
        still[i] = np.where(grows.reshape(still[i].shape), far, still[i]).astype(still[i].dtype)
    return still


def far_on(
    reader: Reader, x: _Reals, still: list[Any], growing: Any, reached: Any, g: float, rng: Any
) -> tuple[list[Any], int]:
    """A state far on, and the steps in which all comes round: whole numbers, what a step does."""
    inputs = np.concatenate([reached, np.ones(reader.num_params, bool)])
    rest = np.concatenate([np.where(reached, 0, x), np.zeros(reader.num_params)])
    tried = rest + np.array([[0.0], [1.0], [1e3]]) * np.where(inputs, rng.normal(size=len(rest)), 0)

    def step(now: _Reals, still: list[Any]) -> tuple[_Reals, _Reals, list[Any]]:
        rows = np.vstack([np.concatenate([now, np.full(reader.num_params, g)]), tried])
        values, _, new = reader.probe(rows, 0 * rows, still)
        does = values.copy()
        does[:, : reader.held] -= rows[:, : reader.held]  # A small step is not lost beside θ.
        does = ((does[2:] - does[1]) / np.array([[1.0], [1e3]])).ravel()
        return does, np.where(reached, x, values[0]), [part[0] for part in new]

    far, whole, does = _later(still, growing, _LONG_RUN), [], []
    now, still = x, far
    for _ in range(2 * _LONGEST_PERIOD):
        numbers = whole_numbers([part[None] for part in still])
        whole.append(
            np.concatenate([[0], *(numbers[i][0][~grows] for i, grows in growing.items())])
        )
        done, now, still = step(now, still)
        does.append(done)
    does, whole = np.array(does), np.array(whole)
    tolerance = 1e-6 * np.abs(does).max(axis=0) + 1e-14

    def same(one: _Reals, other: _Reals) -> bool:
        return not np.any(np.abs(one - other) > tolerance)  # NaN is told of later.

    for p in range(1, _LONGEST_PERIOD + 1):
        if same(does[p:], does[:-p]) and np.array_equal(whole[p:], whole[:-p]):
            before = _later(far, growing, _LONG_RUN - _LONG_RUN // 2 // p * p)
            if not same(step(x, before)[0], does[0]):
                break
            return far, p
    raise ValueError(
        "tx has coefficients that neither settle nor come round within "
        f"{_LONGEST_PERIOD} steps; give the step to freeze them at"
    )


def settled(
    reader: Reader, x: _Reals, still: list[Any], free: Any, growing: Any, g: float, period: int
) -> list[Any]:
    """The states of a period in the long run: free entries at their fixed point."""
    gradients, now = np.full(reader.num_params, g), x
    for _ in range(50):
        states, now, counts, M = [], x, still, np.eye(free.sum())
        for _ in range(period):
            states.append((now, counts))
            y = np.concatenate([now, gradients])
            values, slopes, new = reader.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), counts)
            M = slopes.T[np.ix_(free, np.flatnonzero(free))] @ M
            now, new = np.where(free, values[0], x), [part[0] for part in new]
            if any(np.any(new[i] < counts[i]) for i, grows in growing.items() if grows.any()):
                raise ValueError(_TOO_LONG)
            counts = new
        left = (now - x)[free]
        if np.all(np.abs(left) <= 1e-13 * (1 + np.abs(x[free]))):
            return states
        if not (np.all(np.isfinite(left)) and np.all(np.isfinite(M))):
            break
        x = x.copy()
        x[free] += np.linalg.lstsq(np.eye(len(M)) - M, left, rcond=1e-12)[0]
    names = sorted(
        {name for name, still in zip(reader.names, ~np.isclose(now, x), strict=True) if still}
    )
    raise ValueError(
        f"tx has coefficients that never settle, {' and '.join(names)}; give the step to freeze "
        "them at"
    )
