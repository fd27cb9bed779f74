"""A program over many points: how many at once, and one batch after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._points import Points, described
from momentax.sweeps._program import Compiled

# The points on a device with which measuring begins. On a CPU, eight small networks share the
# cost of starting an operation, and eight large ones still fit its caches.
_FIRST = {"cpu": 8}
_FIRST_ELSEWHERE = 64
_FACTOR = 8  # From one number of points that is measured to the next.
_WORTH = 0.1  # Measuring may take this share of the time that is left at most.
_BETTER = 0.95  # Of the time of the best so far: less is noise.


class Choice(NamedTuple):
    """How many points make a batch, what was measured to know, and the first batch's outputs."""

    batch: int
    tried: tuple[tuple[int, float], ...] = ()
    first: PyTree = None


class NoRoomError(RuntimeError):
    """The memory, of this process or another, does not hold a batch."""


def require_batch_size(batch_size: Any) -> None:
    """Refuse what is neither "auto" nor a number of points."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return
    if isinstance(batch_size, str):
        raise ValueError(
            f'batch_size must be "auto" or a whole number, got {arguments.describe(batch_size)}'
        )
    arguments.as_count("batch_size", batch_size)


class Work(NamedTuple):
    """A compiled program and the points that it is for.

    compiled: the program.
    take: the arguments of a batch, of the points' flat places.
    points: all of them, to name in errors.
    what: the function that runs, as the caller knows it.
    """

    compiled: Compiled
    take: Callable[[np.ndarray], PyTree]
    points: Points
    what: str = "run"

    def run(self, index: np.ndarray, size: int) -> PyTree:
        """The outputs of a batch, filled up with its last point, whose outputs nobody reads.

        Where one process fails, all do, so that none waits for it.
        """
        failure, out = None, None
        try:
            with self.naming(index):
                out = self.compiled(self.take(np.pad(index, (0, size - len(index)), mode="edge")))
        except Exception as error:  # Whatever it is, other processes must hear of it.
            failure = error
        wrong = 0 if failure is None else 1 if _is_memory(failure) else 2
        worst = self.compiled.devices.agreed(wrong)
        if worst == 1:
            raise NoRoomError("the memory of another process does not hold a batch") from failure
        if worst:
            other = RuntimeError(f"{self.what} failed in another process; its error says where")
            raise failure if wrong == 2 and failure else other
        return out

    @contextmanager
    def naming(self, index: np.ndarray) -> Iterator[None]:
        """Say at which points the program failed."""
        try:
            yield
        except Exception as error:  # Whatever the caller's function raises as it runs.
            if _is_memory(error):
                raise
            ends = [described(self.points[int(i)]) for i in sorted({int(index[0]), int(index[-1])})]
            at = f"the point {ends[0]}" if len(ends) == 1 else "a point from {} to {}".format(*ends)
            raise RuntimeError(
                f"{self.what} failed at {at}: {type(error).__name__}: {error}"
            ) from error


def _is_memory(error: Exception) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def chosen(work: Work, pending: np.ndarray) -> Choice:
    """The batch size that runs the points soonest, of two or three that fit the memory.

    The first points are run for it, and what the winner gave is kept; which
    sizes are measured depends on whether the time left makes that worthwhile.
    """
    traced = work.compiled.traced
    known = traced.program.chosen
    key = id(traced.jaxpr), work.compiled.devices, len(pending)
    if key not in known:
        choice = _measured(work, pending)
        known[key] = choice._replace(first=None)
        return choice
    return known[key]


def _measured(work: Work, pending: np.ndarray) -> Choice:
    compiled, where = work.compiled, work.compiled.devices
    shards = where.count
    most = -(-len(pending) // shards)

    def even(width: float) -> int:
        """At most so many points a device, in batches that are equally full."""
        return -(-most // -(-most // max(1, min(int(width), most))))

    def timed(width: int) -> tuple[float, PyTree]:
        """A point's time in a batch of so many a device, and the outputs."""
        index = pending[: width * shards]
        begin = time.perf_counter()
        try:
            out = work.run(index, width * shards)
        except NoRoomError:  # The memory did not hold it after all.
            return float("inf"), None
        return where.agreed(time.perf_counter() - begin) / len(index), out

    best = fitting(work, pending, even(_FIRST.get(where.platform, _FIRST_ELSEWHERE)))
    if best == most:  # One batch, for which there is nothing to gain by measuring it first.
        return Choice(best * shards)
    tried: dict[int, float] = {}
    tried[best], first = timed(best)
    cost = compiled.seconds(best * shards)
    for factor in (_FACTOR, 1 / _FACTOR):
        begun = best
        while (width := even(max(1, best * factor))) not in tried:
            left = (len(pending) - best * shards) * tried[best]
            if cost + 2 * width * shards * tried[best] > _WORTH * left:
                break
            if fitting(work, pending, width) != width:
                break
            tried[width], out = timed(width)
            if tried[width] > _BETTER * tried[best]:
                break
            best, first = width, out
        if best != begun:  # Wider was better, so narrower is not.
            break
    return Choice(best * shards, tuple((w * shards, taken) for w, taken in tried.items()), first)


def fitting(work: Work, pending: np.ndarray, width: int) -> int:
    """The largest number of points a device, at most this, whose program the memory holds.

    The program that runs has always been analysed itself; where it is too large,
    its analysis and that of one point a device say what another point takes.
    """
    compiled = work.compiled
    shards, free = compiled.devices.count, compiled.devices.free_memory()
    with work.naming(pending[: width * shards]):
        while compiled.compile(width * shards) > free and width > 1:
            base, taken = compiled.compile(shards), compiled.compile(width * shards)
            slope = max((taken - base) / (width - 1), 1.0)
            width = max(1, min(width - 1, 1 + int((free - base) // slope)))
    return width


def batches(
    work: Work, pending: np.ndarray, choice: Choice, *, shrink: bool
) -> Iterator[tuple[np.ndarray, PyTree]]:
    """Run what is pending: the points of each batch, and their outputs on the devices, padded.

    A batch that the memory does not hold after all is halved, if it may shrink.
    """
    size, start, shards = choice.batch, 0, work.compiled.devices.count
    first = choice.first
    while start < len(pending):
        index = pending[start : start + size]
        try:
            out = work.run(index, size) if first is None else first
        except NoRoomError as error:
            if not (shrink and size > shards):
                raise error.__cause__ or error from None
            size = shards * -(-size // (2 * shards))
            continue
        first = None
        yield index, out
        start += len(index)
