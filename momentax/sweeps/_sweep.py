"""Running a function at every point, in as few compiled programs as possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from momentax._core import arguments, trees
from momentax._core.sharding import without_ambient_mesh
from momentax._core.typing import PyTree
from momentax.sweeps._axes import describe_point
from momentax.sweeps._points import Points, require_points
from momentax.sweeps._result._sweep_result import SweepResult
from momentax.sweeps._run._batches import Work, require_batch_size
from momentax.sweeps._run._cost import estimate, favours_loop
from momentax.sweeps._run._devices import as_devices
from momentax.sweeps._run._groups import Group, group_points
from momentax.sweeps._run._loop import can_loop
from momentax.sweeps._run._program import (
    Compiled,
    FunctionError,
    Traced,
    cached_program,
    compare_shapes,
    require_untraced,
    trace_at,
)
from momentax.sweeps._run._progress import ProgressBar, as_progress
from momentax.sweeps._run._session import Session

_FEW_ENTRIES = 4096
_DIVERGED = "diverged"  # The entry by which `run` itself says whether a point diverged.


@without_ambient_mesh
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
    """Run a function at every point, many points at once, on every device.

    The points are traced arguments of one program for each batch shape and each
    combination of static values: `jax.vmap` over the points that a device has at
    once, `jax.shard_map` over the devices. A small sweep on a CPU compiles the
    program of a single point instead, in less time, and threads run it on all cores.
    No point affects another, except through JAX's "rbg" random keys, which draw other
    numbers under vmap. Calling again with the same function reuses the programs.

    A point diverged if `run` returns a mapping whose entry "diverged" is true for
    it; without that entry, if any floating number that it returns is not finite.

    Args:
        run: A traceable function, called as run(**point) with a 0-d array for
            each axis, or with the value itself where an axis is static; it
            returns a pytree of arrays.
        points: Points, as `grid` and the makers in `momentax.sweeps` return them.
        batch_size: The number of points in one call of the program, on all devices
            together, rounded up to a multiple of the number of devices; memory grows
            with it and not with the number of points. "auto" starts with a few points
            per device, as many as fit by the program's own memory analysis, and
            measures larger and smaller batches on the first points where the
            remaining time makes that worthwhile. On a CPU it is one point per device
            where vmap, by an estimate from the traced program, takes longer to compile
            than it saves; the values then have the bits of a loop over `jax.jit(run)`.
            With effects such as jax.debug.print, with loops of unknown length and
            with several processes there is no such estimate.
        mesh: The devices: a mesh over all whose axes the points are split, or a
            NamedSharding whose first entry names the mesh axes for that; `run`
            may use the others. None takes all devices that JAX has, or the
            default device where one is set. With several processes, every process
            calls sweep alike and gets the whole result.
        store: A folder that keeps each finished batch. The same sweep with the
            same store continues where it was interrupted and gives, bit for bit,
            what it would have given; it uses the first run's batch size. One
            process at a time may use it. What `run` calls as it runs, as with
            jax.pure_callback, is compared by its code and by what that refers to, of an
            installed library by its version. What is not compared: environment
            variables, files and other data that a callback reads, and what it looks up
            by a name that it makes at run time.
        progress: Whether to show the finished points, the rate, the remaining time
            and the best value so far, on a terminal or in a notebook, if tqdm is
            installed.
        static: The axes of numbers that `run` needs as Python numbers, such as
            a batch size; axes that hold anything else are always static.
        reduce: A traceable function of what `run` returns; only what it returns
            leaves the devices. None keeps everything.

    Returns:
        A SweepResult; its values are what `run`, or `reduce`, returns, with the
        points' shape on the leading axes of every leaf.

    Raises:
        ValueError: batch_size is below 1, static names no axis, `run` returns
            another structure, shape or dtype for another static value, the store
            belongs to another sweep, the message naming the difference, or `run`
            calls something that a store cannot compare, such as an FFI target.
        TypeError: run is not callable, points is not of type Points, mesh is not a
            mesh, store is not a path, the call is inside of a function that JAX
            traces, or `run` is not traceable or returns nothing or something that
            is not an array; the message names the point.
        RuntimeError: `run` raised; the message names the point.
        OSError: The store cannot be read or written, or another process uses it. What
            is in it stays.

    Example:
        >>> points = momentax.grid(learning_rate=[0.01, 0.1, 1.0])
        >>> run = lambda learning_rate: {"loss": (learning_rate - 0.1) ** 2}
        >>> momentax.sweep(run, points).best("loss")
        Best(point={'learning_rate': 0.1}, value=0, standard_error=nan, index=(1,))
    """
    require_untraced("sweep")
    arguments.require_function("run", run, "of a point")
    if reduce is not None:
        arguments.require_function("reduce", reduce, "of a result", "result")
    require_points(points)
    require_batch_size(batch_size)
    shown = as_progress(progress)
    folder = None if store is None else arguments.as_path("store", store)
    devices = as_devices(mesh)
    groups = group_points(points, static)
    traces = [trace_group(run, reduce, group, points) for group in groups]
    require_same_shapes(traces, groups, points)
    most = max(len(group.indices) for group in groups)
    in_turn = False
    if batch_size == "auto":
        costs = [(estimate(t.jaxpr), len(g.indices)) for t, g in zip(traces, groups, strict=True)]
        in_turn = can_loop(devices) and favours_loop(devices.count, costs)
    with Session(devices, points, traces, batch_size, most, folder, in_turn) as session:
        outputs = session.open_outputs(traces[0].out)
        session.resumed = int(outputs.is_done.sum())
        with ProgressBar(shown, len(points), session.resumed, traces[0].out[0]) as bar:
            bar.compare(*outputs.rows(np.flatnonzero(outputs.is_done)))
            for group, trace in zip(groups, traces, strict=True):
                pending = group.indices[~outputs.is_done[group.indices]]
                if not len(pending):
                    continue
                compiled = Compiled(trace, (), group.point_shapes(), devices, bar.compiling)
                work = Work(compiled, group.make_batch, points)
                for index, out in session.run(work, pending, len(group.indices)):
                    bar.update(*outputs.add(index, out))
    values, diverged = jax.tree.map(
        lambda leaf: leaf.reshape(points.shape + leaf.shape[1:]), outputs.tree
    )
    return SweepResult(points, values, diverged, session.report())


def trace_group(run: Any, reduce: Any, group: Group, points: Points) -> Traced:
    """Trace the function (point) -> (reduced value of run, whether it diverged) for a group.

    In place of whether it diverged the function returns None if the value says so itself.
    """

    def make(reference: Callable[[], Any]) -> Any:
        def one(shared: PyTree, point: PyTree) -> PyTree:
            del shared
            value = _require_leaves("run", reference()(**point[1], **group.fixed))
            kept = _as_arrays(value) if reduce is None else _reduce(reduce, value)
            is_shown = reduce is None and _shows_divergence(kept)
            return kept, None if is_shown else _has_diverged(value)

        return one

    fixed = tuple((name, type(v), v) for name, v in group.fixed.items())
    program = cached_program(run, (arguments.as_hashable(reduce), fixed), make)
    point = points[int(group.indices[0])]
    return trace_at(program, (), group.point_shapes(), "run", point, group.fixed)


def _reduce(reduce: Any, value: PyTree) -> PyTree:
    """Call `reduce`, so that the errors of what it does and returns name it."""
    try:
        return _as_arrays(_require_leaves("reduce", reduce(value)))
    except Exception as error:  # It can raise anything.
        raise FunctionError("reduce") from error


def _require_leaves(name: str, value: PyTree) -> PyTree:
    """Return what a function of the user returned, unless it holds no array."""
    if not jax.tree.leaves(value):
        raise TypeError(
            f"{name} must return at least one array, got {arguments.describe(value)}; is a return "
            "missing?"
        )
    return value


def _as_arrays(tree: PyTree) -> PyTree:
    """Return a value as JAX arrays that NumPy can hold."""
    tree = jax.tree.map(jnp.asarray, tree)
    for path, leaf in jax.tree.leaves_with_path(tree):
        if arguments.is_key(leaf):
            raise TypeError(
                f"random keys at result{jax.tree_util.keystr(path)}; return "
                "jax.random.key_data(key) instead"
            )
    return tree


def _shows_divergence(value: PyTree) -> bool:
    """Return whether the host can find out from a value whether a point diverged.

    The program then has one operation fewer to compile. On the host, a large value takes longer.
    """
    has_own = isinstance(value, Mapping) and _DIVERGED in value
    entries = sum(jnp.size(leaf) for leaf in jax.tree.leaves(value))
    return not has_own and entries <= _FEW_ENTRIES


def _has_diverged(value: PyTree) -> jax.Array:
    """Return whether a point diverged: its entry "diverged", or whether a number is not finite."""
    if isinstance(value, Mapping) and _DIVERGED in value:
        return jnp.asarray(value[_DIVERGED]).astype(bool).any()
    has_diverged = jnp.zeros((), bool)
    for leaf in map(jnp.asarray, jax.tree.leaves(value)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            has_diverged |= ~jnp.isfinite(leaf).all()
    return has_diverged


def require_same_shapes(traces: Sequence[Traced], groups: Sequence[Group], points: Points) -> None:
    """Raise if the results of different static values cannot be stacked."""
    first = traces[0].out[0]
    for trace, group in zip(traces[1:], groups[1:], strict=True):
        found = trees.first_difference(trace.out[0], first, compare_leaves=compare_shapes)
        if found is not None:
            here, there = (describe_point(points[int(g.indices[0])]) for g in (groups[0], group))
            raise ValueError(
                "run must return the same structure, shapes and dtypes at every point; at the "
                f"points {here} and {there} it does not: result{jax.tree_util.keystr(found.path)} "
                f"is {found.expected} and {found.given}"
            )
