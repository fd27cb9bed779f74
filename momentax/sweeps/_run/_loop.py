"""Points one after another, as in a loop over one compiled run, on all cores of a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.sharding import Devices
from momentax._core.typing import PyTree
from momentax.sweeps._run._batches import Work

_CHUNK = 0.01  # Seconds that a thread works at a time, so that all end at about the same time.
_MANY = 32  # Points per thread, of which two more or less make little difference.
_MOST = 1024  # Chunks per thread that are planned at a time.
_KEEP = 0.1  # Seconds after which finished points are kept and shown.


def can_loop(devices: Devices) -> bool:
    """Return whether threads of this process can take the place of the devices.

    On a CPU, JAX runs a program that several threads call at once on several cores, even if it was
    compiled for one device.
    """
    is_whole = devices.count == len(devices.all)  # Otherwise the function may use the others.
    return devices.platform == "cpu" and is_whole and not devices.span_processes


def run_in_turn(work: Work, pending: np.ndarray) -> Iterator[tuple[np.ndarray, PyTree]]:
    """Run the pending points in a thread for each device; yield indices and outputs on the host.

    The points are yielded in order, some at a time.
    """
    compiled = work.compiled
    with work.name_points(pending):
        program = compiled.compile_one()
    loop = _Loop(work, program, pending)
    count, threads = len(pending), compiled.devices.count
    pool = ThreadPoolExecutor(threads)  # It starts a thread when there is work for it.
    # The first points tell how long one takes. The very first takes longer than the others, so
    # that of many points two run before any thread starts.
    is_many = count >= _MANY * threads
    begun = min(2 if is_many else threads, count)
    try:
        yield from _collect(loop, _split(0, begun, 1), map if is_many else pool.map)
        size = max(1, int(_CHUNK / loop.seconds))
        is_short = count - begun < 2 * size  # Then threads save next to nothing.
        map_ = map if is_short or threads == 1 else pool.map
        for part in _split(begun, count, _MOST * threads * size):
            yield from _collect(loop, _split(part.start, part.stop, size), map_)
    finally:  # After an error or an interruption no other point starts.
        pool.shutdown(cancel_futures=True)


def _split(start: int, stop: int, size: int) -> list[range]:
    return [range(i, min(i + size, stop)) for i in range(start, stop, size)]


class _Loop:
    """A compiled program of one point, and the points for which it runs.

    seconds: what a point took at the fastest so far.
    """

    def __init__(self, work: Work, program: Any, pending: np.ndarray):
        self.pending, self.seconds = pending, math.inf
        self._work, self._program = work, program
        self._columns, self._structure = jax.tree.flatten(work.make_batch(pending))
        self._is_64_bit = jnp.result_type(float) == jnp.float64

    def run(self, positions: range) -> list[list[np.ndarray]]:
        """Return the leaves of the outputs at some of the points; any thread may call it."""
        outputs: list[PyTree] = []
        begin = time.perf_counter()
        # A thread does not see what a context has set in another one.
        with jax.enable_x64(self._is_64_bit), jax.transfer_guard("allow"):
            try:
                for i in positions:
                    point = self._structure.unflatten([column[i] for column in self._columns])
                    outputs.append(self._program((), point))
                host = [_to_host(out) for out in outputs]
            except Exception:  # The caller's function can raise anything as it runs.
                failed = positions[_count_finished(outputs)]
                with self._work.name_points(self.pending[failed : failed + 1]):
                    raise
        self.seconds = min(self.seconds, (time.perf_counter() - begin) / len(positions))
        return host

    def join(self, parts: Sequence[list[list[np.ndarray]]]) -> PyTree:
        """Return outputs with the points on the leading axis."""
        points = [point for part in parts for point in part]
        leaves = [np.stack(leaf) for leaf in zip(*points, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(self._work.compiled.traced.out), leaves)


def _to_host(out: PyTree) -> list[np.ndarray]:
    # jax.device_get takes several times as long for a single number.
    return [np.asarray(leaf) for leaf in jax.tree.leaves(out)]


def _collect(
    loop: _Loop, chunks: Sequence[range], map_: Callable[..., Iterator[list[list[np.ndarray]]]]
) -> Iterator[tuple[np.ndarray, PyTree]]:
    """Run chunks; yield indices and outputs of several that come shortly one after another."""
    parts: list[list[list[np.ndarray]]] = []
    start, last = 0, time.perf_counter()
    for chunk, part in zip(chunks, map_(loop.run, chunks), strict=True):
        start = start if parts else chunk.start
        parts.append(part)
        if time.perf_counter() - last > _KEEP or chunk is chunks[-1]:
            yield loop.pending[start : chunk.stop], loop.join(parts)
            parts, last = [], time.perf_counter()


def _count_finished(outputs: Sequence[PyTree]) -> int:
    """Return the number of the first outputs that were computed without an error."""
    for count, out in enumerate(outputs):
        try:
            jax.block_until_ready(out)
        except Exception:  # It is raised again where it came up first.
            return count
    return len(outputs)
