"""Search: points proposed by a model of the results so far, for spaces too large for a grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from momentax._core import arguments
from momentax._core.metrics import Mode, mode_in_name, require_mode
from momentax._core.sharding import without_ambient_mesh
from momentax._core.typing import PyTree
from momentax._core.warn import warn
from momentax.sweeps._distributions import Distribution
from momentax.sweeps._proposals import Proposals, require_library
from momentax.sweeps._result._metrics import name_leaves
from momentax.sweeps._result._search_result import SearchResult
from momentax.sweeps._result._selection import listed
from momentax.sweeps._run._batches import Work
from momentax.sweeps._run._devices import as_devices
from momentax.sweeps._run._groups import Group, group_points
from momentax.sweeps._run._outputs import Outputs
from momentax.sweeps._run._program import Compiled, Traced, require_untraced
from momentax.sweeps._run._progress import ProgressBar, as_progress
from momentax.sweeps._run._session import Session
from momentax.sweeps._space import Space, as_space
from momentax.sweeps._sweep import require_same_shapes, trace_group


@without_ambient_mesh
def search(
    run: Callable[..., PyTree],
    space: Mapping[str, Distribution | Sequence[Any]],
    *,
    budget: int,
    metric: str | None = None,
    mode: Literal["min", "max"] | None = None,
    batch_size: int = 8,
    initial: int | None = None,
    key: jax.Array | None = None,
    mesh: Mesh | NamedSharding | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    static: Sequence[str] = (),
    reduce: Callable[[PyTree], PyTree] | None = None,
) -> SearchResult:
    """Search a space for its best point, batch by batch, with a model of the results so far.

    The first points are spread evenly over the space. Each further point maximizes the
    expected improvement of a Gaussian process (Matérn 5/2, of scikit-learn), which is
    fitted to the metric at the points of all earlier batches. Values worse than the
    median are compressed by a logarithm. If the space has more than 4096 points, every
    second point is sought only near the best one. Results of the same batch are not
    known yet: there the model uses its own predictions. A point that diverged, as in
    `sweep`, or whose metric is not finite, counts as the worst. The model proposes no
    point that is equal or almost equal to an earlier one.

    Each batch runs as in `sweep`, and all batches run in one compiled program: a smaller
    batch is padded. With static values there is one program for each combination.

    Args:
        run: As in `sweep`.
        space: For each axis `uniform`, `log_uniform` or `momentum_uniform` of
            `momentax.sweeps`, or a list of the values to choose from, as in `grid`. The
            model uses the order of the numbers in a list. Words, functions and the like
            have no order for it.
        budget: The number of points to run, at least 1.
        metric: The name of the metric to optimize, as in `SweepResult.metrics`. None
            takes the only one with one real number per point.
        mode: "min" or "max", as in `SweepResult.top`. None takes what the name of the
            metric says, or the name of `run` if it returns a bare number.
        batch_size: The number of points that are proposed and run together, at least 1;
            on several devices the program is padded to a multiple of their number. A
            larger batch uses devices better, and a smaller one needs fewer points.
        initial: The number of points that are spread evenly before the model proposes
            any, at least 1. The first batch is always spread evenly. A budget up to initial
            or batch_size leaves the model no point to choose, which gives a warning unless
            it runs the whole space. None takes 2 (d + 1) for d axes.
        key: A random key; a search with the same key and arguments has the same points.
            None means jax.random.key(0).
        mesh: As in `sweep`.
        store: As in `sweep`. A larger budget with the same store continues the search.
        progress: As in `sweep`.
        static: As in `sweep`; the axes must be lists.
        reduce: As in `sweep`; the metric is one of what it returns.

    Returns:
        A SearchResult: a SweepResult of all points in the order in which they were
        proposed, with the best value so far as `best_so_far`.

    Raises:
        ValueError: space is empty or has a wrong axis, budget is larger than the number
            of points in a space of choices, a number is below 1, there is no such
            metric or not one real number of it for each point, mode is another word or
            None where no name tells, static names no axis or one with a distribution,
            `run` returns another structure, shape or dtype for another static value, or
            the store belongs to another search; the message names the difference.
        TypeError: space is not a dictionary or an axis of it is a tuple, an argument has
            another type, the call is inside of a function that JAX traces, or `run` is not
            traceable or returns nothing or something that is not an array; the message
            names the point.
        RuntimeError: `run` raised; the message names the point.
        ModuleNotFoundError: scikit-learn is not installed; the extra "search" installs it.
        OSError: The store cannot be read or written, or another process uses it. What
            is in it stays.

    Example:
        >>> space = {"learning_rate": momentax.sweeps.log_uniform(1e-3, 10)}
        >>> run = lambda learning_rate: {"loss": (learning_rate - 0.1) ** 2}
        >>> round(float(momentax.search(run, space, budget=16).best()["learning_rate"]), 1)
        0.1

    Source:
        Jones, Schonlau and Welch, Efficient global optimization of expensive black-box
        functions, 1998; Ginsbourger, Le Riche and Carraro, Kriging is well-suited to
        parallelize optimization, 2010.
    """
    require_untraced("search")
    arguments.require_function("run", run, "of a point")
    if reduce is not None:
        arguments.require_function("reduce", reduce, "of a result", "result")
    checked = as_space(space)
    budget = _as_budget(budget, checked)
    batch_size = arguments.as_count("batch_size", batch_size)
    initial = _as_initial(initial, checked)
    seed = _as_seed(key)
    shown = as_progress(progress)
    folder = None if store is None else arguments.as_path("store", store)
    devices = as_devices(mesh)
    _require_lists(static, checked)
    require_library()
    _warn_without_model(budget, batch_size, initial, checked)
    even = _count_even(batch_size, initial, checked)
    examples = checked.examples(_names(static))
    groups = group_points(examples, static)
    traces = [trace_group(run, reduce, group, examples) for group in groups]
    require_same_shapes(traces, groups, examples)
    values = traces[0].out[0]
    metric = _as_metric(metric, values)
    mode = _as_mode(mode, metric, values, run)
    settings = {
        "space": checked.describe(),
        "metric": metric,
        "mode": mode,
        "initial": even,
        "key": seed,
    }
    programs = {_identify(group): trace for group, trace in zip(groups, traces, strict=True)}
    proposals = Proposals(checked, seed, even)
    goal = Goal(metric, -1 if mode == "max" else 1)
    shapes = jax.ShapeDtypeStruct((len(checked.axes),), np.float32), *traces[0].out
    with Session(devices, examples, traces, batch_size, batch_size, folder, **settings) as session:
        outputs = session.open_outputs(shapes, count=budget)
        session.resumed = int(outputs.is_done.sum())
        with ProgressBar(
            shown, budget, session.resumed, {metric: name_leaves(values)[metric]}, mode
        ) as bar:
            bar.compare(*goal.shown(outputs.rows(np.flatnonzero(outputs.is_done))))
            runner = _Runner(session, checked, static, batch_size, programs, outputs, goal, bar)
            for start in range(0, budget, batch_size):
                index = np.arange(start, min(start + batch_size, budget))
                if not outputs.is_done[index].all():
                    runner.run(index, proposals)
    unit, values, diverged = outputs.tree
    report = session.report()
    return SearchResult(checked.points(unit), values, diverged, report, {metric: mode}, metric)


class Goal(NamedTuple):
    """The metric that a search optimizes, and 1 where less of it is better, else -1."""

    metric: str
    sign: int

    def cost(self, values: PyTree, diverged: np.ndarray) -> np.ndarray:
        """Return what the search minimizes at each point, infinite at the worst ones."""
        cost = self.sign * np.asarray(name_leaves(values)[self.metric], np.float64)
        return np.where(diverged | ~np.isfinite(cost), np.inf, cost)

    def shown(self, rows: PyTree) -> tuple[PyTree, np.ndarray]:
        """Return what a progress bar compares, of rows of the outputs."""
        _, values, diverged = rows
        return {self.metric: name_leaves(values)[self.metric]}, diverged


class _Runner:
    """What runs the batches of a search: each is proposed, run and added to the outputs.

    programs: the traced program of each combination of static values.
    outputs: the coordinates, the values and the divergence at each point.
    """

    def __init__(
        self,
        session: Session,
        space: Space,
        static: Sequence[str],
        batch_size: int,
        programs: dict[Any, Traced],
        outputs: Outputs,
        goal: Goal,
        bar: ProgressBar,
    ):
        self._session, self._space, self._static = session, space, static
        self._batch_size = batch_size
        self._programs, self._outputs, self._goal, self._bar = programs, outputs, goal, bar
        self._compiled: dict[Any, Compiled] = {}

    def run(self, index: np.ndarray, proposals: Proposals) -> None:
        """Propose and run the points of a batch that are not done."""
        devices, outputs = self._session.devices, self._outputs
        unit, values, diverged = outputs.rows(np.arange(index[0]))
        kept = np.where(outputs.is_done[index][:, None], outputs.rows(index)[0], np.nan)
        proposed = proposals.propose(index, kept, unit, self._goal.cost(values, diverged))
        proposed = devices.broadcast(proposed)  # Another process may round otherwise.
        points = self._space.points(proposed)
        pending = np.flatnonzero(~outputs.is_done[index])
        for group in group_points(points, self._static):
            members = np.intersect1d(group.indices, pending)
            if not len(members):
                continue
            work = Work(self._compile(group), group.make_batch, points)
            for rows, out in self._session.run(work, members, self._batch_size):
                size = len(jax.tree.leaves(out)[0])
                padded = np.pad(rows, (0, size - len(rows)), mode="edge")
                coordinates = devices.shard(proposed[padded])
                added = outputs.add(index[rows], (coordinates, *out))
                self._bar.update(*self._goal.shown(added))

    def _compile(self, group: Group) -> Compiled:
        """Return the compiled program of a group; a later batch gets the same one."""
        name = _identify(group)
        if name not in self._compiled:
            self._compiled[name] = Compiled(
                self._programs[name],
                (),
                group.point_shapes(),
                self._session.devices,
                self._bar.compiling,
            )
        return self._compiled[name]


def _identify(group: Group) -> Any:
    """Return what distinguishes the static values of a group; 1, 1.0 and True are three values."""
    return tuple((name, type(value), value) for name, value in group.fixed.items())


def _as_budget(budget: Any, space: Space) -> int:
    budget = arguments.as_count("budget", budget)
    if budget > space.size:
        raise ValueError(
            f"budget must be at most {space.size}, the number of points in the space, got "
            f"{budget}; momentax.sweep(run, momentax.grid(...)) runs all of them"
        )
    return budget


def _as_initial(initial: Any, space: Space) -> int:
    return 2 * (len(space.axes) + 1) if initial is None else arguments.as_count("initial", initial)


def _count_even(batch_size: int, initial: int, space: Space) -> int:
    """Return the number of evenly spread points: at least a batch, at most the whole space."""
    return int(min(max(initial, batch_size), space.size))


def _warn_without_model(budget: int, batch_size: int, initial: int, space: Space) -> None:
    """Warn if all points are spread evenly, although the space has others to choose from."""
    even = _count_even(batch_size, initial, space)
    if even < budget or budget == space.size:
        return
    warn(
        f"budget={budget} leaves the model no point to choose, since the first {even} points are "
        f"spread evenly over the space, with initial={initial} and batch_size={batch_size}: give a "
        "larger budget, or a smaller initial and batch_size"
    )


def _as_seed(key: Any) -> list[int]:
    key = jax.random.key(0) if key is None else key
    arguments.require_key("key", key)
    return np.ravel(jax.random.key_data(jax.random.fold_in(key, 0))).tolist()


def _require_lists(static: Any, space: Space) -> None:
    """Raise if the argument `static` names an axis that has a distribution."""
    for name in _names(static):
        if isinstance(space.axes.get(name), Distribution):
            raise ValueError(
                "static needs a list of values to choose from, since a program is compiled for "
                f"each, and the axis {arguments.printable(name)} has a distribution"
            )


def _names(static: Any) -> list[str]:
    """Return the names that the argument `static` holds, which is checked later."""
    each = [static] if isinstance(static, str) else static
    is_several = isinstance(each, list | tuple | set | frozenset)
    return [name for name in each if isinstance(name, str)] if is_several else []


def _as_metric(metric: Any, values: PyTree) -> str:
    """Return the name of the metric, which has one real number per point."""
    leaves = name_leaves(values)
    ranked = [
        name
        for name, leaf in leaves.items()
        if leaf.shape == () and not jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    ]
    if metric is None:
        candidates = [name for name in ranked if name != "diverged"]
        if len(candidates) == 1:
            return candidates[0]
        raise ValueError(
            "give metric, the name of what is optimized: the metrics that run returns with one "
            f"real number per point are: {listed(candidates)}"
        )
    if not isinstance(metric, str):
        raise TypeError(f"metric must be a name, got {arguments.describe(metric)}")
    if metric not in ranked:
        what = "is not one real number per point" if metric in leaves else "run does not return"
        raise ValueError(
            f"metric must be one of {listed(ranked)}, got {arguments.describe(metric)}, which "
            f"{what}"
        )
    return metric


def _as_mode(mode: Any, metric: str, values: PyTree, run: Any) -> Mode:
    """Return whether the smallest or the largest value is best."""
    said = None
    if jax.tree_util.all_leaves([values]):  # A bare number, whose name says nothing.
        said = mode_in_name(getattr(run, "__name__", ""))
    return said if said and mode is None else require_mode(metric, mode)
