"""Every point of a sweep in as few compiled programs as the machine wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal

import jax
from jax.sharding import Mesh, NamedSharding

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._devices import apart, devices
from momentax.sweeps._engine import Choice, Work, batches, chosen, fitting, require_batch_size
from momentax.sweeps._ledger import Ledger
from momentax.sweeps._points import Points, require_points
from momentax.sweeps._program import Compiled
from momentax.sweeps._progress import Watched
from momentax.sweeps._result import Report, SweepResult
from momentax.sweeps._store import Store, identity
from momentax.sweeps._tracing import groups, require_alike, traced_run


@apart
def sweep(
    run: Callable[..., PyTree],
    points: Points,
    *,
    batch_size: int | Literal["auto"] = "auto",
    mesh: Mesh | NamedSharding | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    static: Sequence[str] = (),
    reduce: Callable[[PyTree], PyTree] | None = None,
) -> SweepResult:
    """Run a function at every point, many at once, on every device.

    The points are traced arguments of one program for each batch shape and each
    combination of static values: `jax.vmap` over the points that a device has at
    once, `jax.shard_map` over the devices. Nothing that one point does reaches
    another, but for JAX's "rbg" random keys, whose draws are others under vmap.
    Calling again with the same function reuses the programs.

    A point diverged if `run` returns a mapping whose entry "diverged" is true
    for it; without that entry, if any floating number that it returns is not
    finite.

    Args:
        run: A traceable function, called as run(**point) with a 0-d array for
            each axis, or with the very value where an axis is static; it
            returns a pytree of arrays.
        points: Such as `grid`, `zipped`, `random_points` or `repeat` make.
        batch_size: The points in one call of the program, all devices together,
            rounded up to a multiple of their number; memory grows with it and
            not with the points. "auto" begins with a few a device that the
            program's own memory analysis lets in, and measures larger and
            smaller batches on the first points where the time left is worth it.
        mesh: The devices, a mesh over all whose axes the points are split, or a
            NamedSharding whose first entry names the mesh axes for that; `run`
            may use the others. None takes all devices that JAX has, or the
            default device where one is set. With several processes every one of
            them calls sweep alike and gets the whole result.
        store: A folder that keeps each finished batch. The same sweep on the
            same store goes on where it was killed and gives, bit for bit, what
            it would have given; it keeps to the first run's batch size.
        progress: Whether to show the points done, the rate, the time left and
            the best so far, on a terminal or in a notebook, if tqdm is there.
        static: The axes of numbers that `run` needs as Python numbers, such as
            a batch size; axes without numbers are static anyway.
        reduce: A traceable function of what `run` returns; only what it returns
            leaves the devices. None keeps all.

    Returns:
        A SweepResult; its values are what `run`, or `reduce`, returns, with the
        points' shape on the leading axes of every leaf.

    Raises:
        ValueError: batch_size is below 1, static names no axis, `run` returns
            another structure, shape or dtype for another static value, or the
            store belongs to another sweep; the difference is named.
        TypeError: run is not callable, points are none, mesh is no mesh, or
            `run` is not traceable or returns something that is no array; the
            point is named.
        RuntimeError: `run` raised, at the point named.
        OSError: The store cannot be read or written. What is in it stays.
    """
    if not callable(run):
        raise TypeError(f"run must be a function of a point, got {arguments.describe(run)}")
    if reduce is not None and not callable(reduce):
        raise TypeError(f"reduce must be a function of a result, got {arguments.describe(reduce)}")
    require_points(points)
    require_batch_size(batch_size)
    progress = arguments.as_flag("progress", progress)
    where = devices(mesh)
    parts = groups(points, static)
    traces = [traced_run(run, reduce, group, points) for group in parts]
    require_alike(traces, parts, points)
    largest = max(len(group.places) for group in parts)
    asked, kept = 0 if batch_size == "auto" else min(int(batch_size), largest), None
    if store is not None:
        about = identity(points, traces)
        kept = where.in_first_process(lambda: Store(store, *about, asked))
        asked = int(where.told(kept.batch if kept else 0))
    choice = Choice(where.filled(asked, largest))
    ledger = Ledger(where, traces[0].out, len(points), kept)
    ledger.read()
    resumed, programs = int(ledger.done.sum()), 0
    with Watched(progress, len(points), resumed, traces[0].out[0]) as watched:
        for group, trace in zip(parts, traces, strict=True):
            pending = group.places[~ledger.done[group.places]]
            if not len(pending):
                continue
            work = Work(Compiled(trace, (), group.one(), where), group.take(where), points)
            if choice.batch:
                size = where.filled(choice.batch, len(group.places))
                if batch_size == "auto":
                    size = where.count * fitting(work, pending, size // where.count)
                now = Choice(size)
            else:
                choice = now = chosen(work, pending)
                ledger.choose(choice.batch)
            for index, out in batches(work, pending, now, shrink=batch_size == "auto"):
                watched.update(*ledger.keep(index, out))
            programs += len(set(work.compiled.ran))
            if work.compiled.ran[-1] < now.batch:  # The memory held no more.
                choice = choice._replace(batch=work.compiled.ran[-1])
    values, diverged = jax.tree.map(
        lambda leaf: leaf.reshape(points.shape + leaf.shape[1:]), ledger.outputs
    )
    report = Report(
        batch_size=choice.batch,
        devices=where.count,
        device_kind=where.kind,
        programs=programs,
        tried=choice.tried,
        resumed=resumed,
        damaged=tuple(kept.damaged) if kept else (),
    )
    return SweepResult(points, values, diverged, report)
