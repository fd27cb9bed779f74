"""One batch of points after another: how many points at once, and what to do when they fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._axes import describe_point
from momentax.sweeps._points import Points
from momentax.sweeps._run._devices import free_memory
from momentax.sweeps._run._program import Compiled

# The first number of points per device that is measured. On a CPU, eight small networks
# share the cost of starting an operation, and eight large ones still fit its caches.
_FIRST = {"cpu": 8}
_FIRST_ELSEWHERE = 64
_FACTOR = 8  # Between one measured number of points and the next.
_MOST_SHARE = 0.1  # Measuring may take at most this share of the remaining time.
_MUCH_FASTER = 0.95  # The share of the best time so far; a smaller gain is noise.


class BatchChoice(NamedTuple):
    """A batch size, the sizes tried with their seconds per point, and the first outputs."""

    size: int
    tried: tuple[tuple[int, float], ...] = ()
    first: PyTree = None


class OutOfMemoryError(RuntimeError):
    """The memory of this process or of another one does not hold a batch."""


def require_batch_size(batch_size: Any) -> None:
    """Raise if a batch size is neither "auto" nor a number of points."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return
    if isinstance(batch_size, str):
        raise ValueError(
            f'batch_size must be "auto" or a whole number, got {arguments.describe(batch_size)}'
        )
    arguments.as_count("batch_size", batch_size)


class Work(NamedTuple):
    """A compiled program and the points for which it runs.

    compiled: the program.
    make_batch: the function from the points' flat indices to the program's arguments.
    points: all points, to name them in errors.
    name: the user's function that runs, to name it in errors.
    """

    compiled: Compiled
    make_batch: Callable[[np.ndarray], PyTree]
    points: Points
    name: str = "run"

    def run(self, index: np.ndarray, size: int) -> PyTree:
        """Return the outputs of a batch, padded with its last point to the batch size.

        If one process fails, all of them raise, so that no process waits for another.
        """
        failure, out = None, None
        try:
            with self.name_points(index):
                padded = np.pad(index, (0, size - len(index)), mode="edge")
                out = self.compiled(self.make_batch(padded))
        except Exception as error:  # Any error, since the other processes wait for the outcome.
            failure = error
        status = 0 if failure is None else 1 if _is_out_of_memory(failure) else 2
        worst = self.compiled.devices.reduce_over_processes(status)
        if worst == 1:
            raise OutOfMemoryError("a process has not enough memory for a batch") from failure
        if worst:
            other = RuntimeError(f"{self.name} failed in another process; its error says where")
            raise failure if status == 2 and failure else other
        return out

    @contextmanager
    def name_points(self, index: np.ndarray) -> Iterator[None]:
        """Name in an error the points at which the program failed."""
        try:
            yield
        except Exception as error:  # The caller's function can raise anything as it runs.
            if _is_out_of_memory(error):
                raise
            ends = sorted({int(index[0]), int(index[-1])})
            ends = [describe_point(self.points[end]) for end in ends]
            at = f"the point {ends[0]}" if len(ends) == 1 else "a point from {} to {}".format(*ends)
            raise RuntimeError(
                f"{self.name} failed at {at}: {type(error).__name__}: {error}"
            ) from error


def choose_batch(work: Work, pending: np.ndarray) -> BatchChoice:
    """Choose the fastest batch size, of two or three that fit the memory.

    The first points are run to measure it, and the outputs of the chosen size
    are kept. A further size is measured only if that takes a small share of the
    remaining time.
    """
    traced = work.compiled.traced
    choices = traced.program.batch_choices
    key = id(traced.jaxpr), work.compiled.devices, len(pending)
    if key not in choices:
        choice = _measure(work, pending)
        choices[key] = choice._replace(first=None)
        return choice
    return choices[key]


def fit_memory(work: Work, pending: np.ndarray, width: int) -> int:
    """Return the largest number of points per device, at most width, that the memory holds.

    XLA analyses the memory of each program. If a program is too large, its memory
    and that of one point per device give the memory of each further point.
    """
    compiled = work.compiled
    shards, free = compiled.devices.count, free_memory(compiled.devices)
    with work.name_points(pending[: width * shards]):
        while compiled.compile(width * shards) > free and width > 1:
            base, taken = compiled.compile(shards), compiled.compile(width * shards)
            slope = max((taken - base) / (width - 1), 1.0)
            width = max(1, min(width - 1, 1 + int((free - base) // slope)))
    return width


def run_batches(
    work: Work, pending: np.ndarray, choice: BatchChoice, *, may_shrink: bool
) -> Iterator[tuple[np.ndarray, PyTree]]:
    """Run the pending points; yield each batch's indices and its padded outputs on the devices.

    A batch that turns out not to fit the memory is halved, if it may shrink.
    """
    size, start, shards = choice.size, 0, work.compiled.devices.count
    first = choice.first
    while start < len(pending):
        index = pending[start : start + size]
        try:
            out = work.run(index, size) if first is None else first
        except OutOfMemoryError as error:
            if not (may_shrink and size > shards):
                raise error.__cause__ or error from None
            size = shards * -(-size // (2 * shards))
            continue
        first = None
        yield index, out
        start += len(index)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _measure(work: Work, pending: np.ndarray) -> BatchChoice:
    """Time a few numbers of points per device: larger ones, or otherwise smaller ones."""
    compiled, devices = work.compiled, work.compiled.devices
    shards = devices.count
    most = -(-len(pending) // shards)
    first_width = _FIRST.get(devices.platform, _FIRST_ELSEWHERE)
    best = fit_memory(work, pending, _even_width(most, first_width))
    if best == most:  # There is only one batch, so measuring would gain nothing.
        return BatchChoice(best * shards)
    tried: dict[int, float] = {}
    tried[best], first = _time_batch(work, pending, best)
    cost = compiled.compile_seconds(best * shards)
    for factor in (_FACTOR, 1 / _FACTOR):
        initial = best
        while (width := _even_width(most, max(1, best * factor))) not in tried:
            remaining = (len(pending) - best * shards) * tried[best]
            if cost + 2 * width * shards * tried[best] > _MOST_SHARE * remaining:
                break
            if fit_memory(work, pending, width) != width:
                break
            tried[width], out = _time_batch(work, pending, width)
            if tried[width] > _MUCH_FASTER * tried[best]:
                break
            best, first = width, out
        if best != initial:  # A larger batch was faster, so a smaller one is not.
            break
    return BatchChoice(
        best * shards, tuple((w * shards, seconds) for w, seconds in tried.items()), first
    )


def _even_width(most: int, width: float) -> int:
    """Return at most width points per device, so that all batches are equally full."""
    return -(-most // -(-most // max(1, min(int(width), most))))


def _time_batch(work: Work, pending: np.ndarray, width: int) -> tuple[float, PyTree]:
    """Return the seconds per point in a batch of width points per device, and the outputs."""
    devices = work.compiled.devices
    index = pending[: width * devices.count]
    start = time.perf_counter()
    try:
        out = work.run(index, width * devices.count)
    except OutOfMemoryError:  # The program needs more than XLA estimated.
        return float("inf"), None
    return devices.reduce_over_processes(time.perf_counter() - start) / len(index), out
