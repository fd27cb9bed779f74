"""How the coefficients of a transformation evolve: their period and their long run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentax._core.typing import Reals
from momentax.theory._reading._reader import HISTORY_STEPS, Reader, integer_histories

# The count of the long run. It is past all warm-ups, and a schedule that converts counts to 32
# bits, as many do, still distinguishes it from the next count.
_LONG_RUN = 2**23
_LONGEST_PERIOD = 64
_TOO_LONG = f"tx has a period of more than {_LONGEST_PERIOD} steps, too long to read over all of it"


def counter_period(discrete: list[Any]) -> tuple[int, dict[int, Any]]:
    """Return the common period of the periodic counters, and which counters grow without bound."""
    period, growing = 1, {}
    histories = integer_histories([part[HISTORY_STEPS // 2 :] for part in discrete])
    for i, history in histories.items():
        grows = np.zeros(history.shape[1], bool)
        for j, entry in enumerate(history.T):
            periods = range(1, _LONGEST_PERIOD + 1)
            own = next((p for p in periods if np.array_equal(entry[p:], entry[:-p])), None)
            if own is None and np.any(np.diff(entry) < 0):
                raise ValueError(_TOO_LONG)
            grows[j] = own is None
            period = np.lcm(period, own or 1)
        growing[i] = grows
    if period > _LONGEST_PERIOD:
        raise ValueError(_TOO_LONG)
    return int(period), growing


def dependents(
    reader: Reader, start: Reals, phases: list[Any], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], set[str]]:
    """Find what depends on what in x, by steps from random points.

    Returns the entries of x that depend on gradients and parameters, the entries that the
    parameters depend on, and the paths of the integers that depend on gradients.
    """
    reached = np.any(start != 0, axis=1)
    affects_params = np.arange(reader.size) < reader.num_param_entries
    integers: set[str] = set()
    for x, discrete in 2 * phases:
        y = np.concatenate([x, rng.normal(size=reader.num_params)])
        y[: -reader.num_params][reached] = rng.normal(size=reached.sum())
        other = np.where(y == 0, 1, -y * rng.uniform(0.5, 2, y.shape))
        rows = np.concatenate([y[None], np.where(np.eye(len(y), dtype=bool), other, y)])
        directions = np.eye(len(y) + 1, len(y), -1)
        values, slopes, new = reader.probe(rows, directions, discrete)
        depends = ~(values[1:] == values[0]) | (slopes[1:] != 0)
        gradients = np.ones(reader.num_params, bool)
        while np.any(more := depends[: reader.size, affects_params].any(axis=1) & ~affects_params):
            affects_params = affects_params | more
        while True:
            more = reached | depends[np.concatenate([reached, gradients])].any(axis=0)
            if np.array_equal(more, reached):
                break
            reached = more
        chosen = np.concatenate([[True], reached, gradients])
        for i, values in integer_histories([part[chosen] for part in new]).items():
            if np.any(values != values[0]):
                integers.add(reader.discrete_paths[i])
    return reached, affects_params, integers


def _with_count(discrete: list[Any], growing: Any, count: int) -> list[Any]:
    """Set the counters that grow without bound to a count."""
    discrete = list(discrete)
    for i, grows in growing.items():
        dtype, shape = discrete[i].dtype, discrete[i].shape
        value = 1 if dtype.kind == "b" else min(count, np.iinfo(dtype).max // 2)
        discrete[i] = np.where(grows.reshape(shape), value, discrete[i]).astype(dtype)
    return discrete


class _Steps:
    """Steps from one x, and what each of them does to points nearby."""

    def __init__(self, reader: Reader, x: Reals, reached: Any, g: float, rng: Any):
        self.reader, self.x, self.reached = reader, x, reached
        self.gradients = np.full(reader.num_params, g)
        inputs = np.concatenate([reached, np.ones(reader.num_params, bool)])
        rest = np.concatenate([np.where(reached, 0, x), np.zeros(reader.num_params)])
        noise = np.where(inputs, rng.normal(size=len(rest)), 0)
        self.points = rest + np.array([[0.0], [1.0], [1e3]]) * noise

    def __call__(self, now: Reals, discrete: list[Any]) -> tuple[Reals, Reals, list[Any]]:
        """Return the effect of a step on the points, the next x, and the next discrete part."""
        rows = np.vstack([np.concatenate([now, self.gradients]), self.points])
        values, _, new = self.reader.probe(rows, 0 * rows, discrete)
        effect, num = values.copy(), self.reader.num_param_entries
        effect[:, :num] -= rows[:, :num]  # So that adding θ does not round a small step away.
        effect = ((effect[2:] - effect[1]) / np.array([[1.0], [1e3]])).ravel()
        return effect, np.where(self.reached, self.x, values[0]), [part[0] for part in new]


def long_run(
    reader: Reader, x: Reals, discrete: list[Any], growing: Any, reached: Any, g: float, rng: Any
) -> tuple[list[Any], int]:
    """Return a discrete part in the long run, and the period of its integers and of the steps."""
    step = _Steps(reader, x, reached, g, rng)
    later, numbers, effects = _with_count(discrete, growing, _LONG_RUN), [], []
    now, discrete = x, later
    for _ in range(2 * _LONGEST_PERIOD):
        integers = integer_histories([part[None] for part in discrete])
        periodic = [integers[i][0][~grows] for i, grows in growing.items()]
        numbers.append(np.concatenate([[0], *periodic]))
        effect, now, discrete = step(now, discrete)
        effects.append(effect)
    effects, numbers = np.array(effects), np.array(numbers)
    tolerance = 1e-6 * np.abs(effects).max(axis=0) + 1e-14

    def same(one: Reals, other: Reals) -> bool:
        return not np.any(np.abs(one - other) > tolerance)  # NaN raises later, with a reason.

    for p in range(1, _LONGEST_PERIOD + 1):
        if same(effects[p:], effects[:-p]) and np.array_equal(numbers[p:], numbers[:-p]):
            earlier = _with_count(later, growing, _LONG_RUN - _LONG_RUN // 2 // p * p)
            if not same(step(x, earlier)[0], effects[0]):
                break
            return later, p
    raise ValueError(
        "tx has coefficients that neither settle nor repeat within "
        f"{_LONGEST_PERIOD} steps; give the step to freeze them at"
    )


def fixed_point(
    reader: Reader, x: Reals, discrete: list[Any], free: Any, growing: Any, g: float, period: int
) -> list[Any]:
    """Return the states of a period in the long run, with the free entries at their fixed point."""
    gradients, now = np.full(reader.num_params, g), x
    for _ in range(50):
        states, now, counts, M = [], x, discrete, np.eye(free.sum())
        for _ in range(period):
            states.append((now, counts))
            y = np.concatenate([now, gradients])
            values, slopes, new = reader.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), counts)
            M = slopes.T[np.ix_(free, np.flatnonzero(free))] @ M
            now, new = np.where(free, values[0], x), [part[0] for part in new]
            if any(np.any(new[i] < counts[i]) for i, grows in growing.items() if grows.any()):
                raise ValueError(_TOO_LONG)
            counts = new
        residual = (now - x)[free]
        if np.all(np.abs(residual) <= 1e-13 * (1 + np.abs(x[free]))):
            return states
        if not (np.all(np.isfinite(residual)) and np.all(np.isfinite(M))):
            break
        x = x.copy()
        x[free] += np.linalg.lstsq(np.eye(len(M)) - M, residual, rcond=1e-12)[0]
    unsettled = ~np.isclose(now, x)
    names = sorted({name for name, moves in zip(reader.names, unsettled, strict=True) if moves})
    raise ValueError(
        f"tx has coefficients that never settle, {' and '.join(names)}; give the step to freeze "
        "them at"
    )
