"""Fewer steps for the same answer: the worst stop early, or start again from the best."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.tree_util import GetAttrKey

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._devices import Devices, apart, devices
from momentax.sweeps._engine import Choice, Work, batches, chosen, require_batch_size
from momentax.sweeps._keys import with_keys, without_keys
from momentax.sweeps._ledger import Ledger
from momentax.sweeps._points import SEED, Points, require_points, shown_value
from momentax.sweeps._pool import Pool
from momentax.sweeps._program import Compiled, Traced
from momentax.sweeps._progress import Watched
from momentax.sweeps._race import Race, Resample
from momentax.sweeps._result import Best, Report, SweepResult
from momentax.sweeps._store import Store, identity
from momentax.sweeps._tracing import program, traced


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False)
class HalvingResult(SweepResult):
    """What `halve` found: a SweepResult with the metrics below, and the last states.

    survivors: the flat places of the points that reached the last rung and did
        not diverge, best first; those of one setting together, over seeds.
    states: their states, in the same order on the leading axis, NumPy arrays,
        random keys as JAX's; None where none survived.

    `save` keeps neither of these two.

    The metrics, of the points' shape:

        score      the last score that the point had
        advanced   how many advances it has behind it
        history    its score at each rung, NaN where it did not come so far

    and with `resample`, at each rung, `settings` with the value of each axis and
    `parent`, the flat place of the run that it went on from.
    """

    survivors: np.ndarray | None = None
    states: PyTree = None

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The children by name."""
        children, aux = super().tree_flatten_with_keys()
        own = [(GetAttrKey(name), getattr(self, name)) for name in ("survivors", "states")]
        return [*children, *own], aux

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> HalvingResult:
        """A result of whatever stands in for the arrays."""
        points, values, diverged, survivors, states = children
        return cls(points, values, diverged, None, dict(aux), survivors, states)

    def where(self, **conditions: Any) -> SweepResult:
        """Select the points that fulfil every condition, as `SweepResult.where`; without states."""
        selected = super().where(**conditions)
        return replace(selected, survivors=None, states=None)

    def top(self, metric: str, k: int, mode: str | None = None) -> list[Best]:
        """Rank the settings, as `SweepResult.top`; by the score those that went further first."""
        k = arguments.as_count("k", k)
        ranked = super().top(metric, len(self.points), mode)
        if metric == "score":  # That after fewer advances is another.
            axis = list(self.points.dims).index(SEED) if SEED in self.points.dims else ()
            advanced = np.asarray(self["advanced"]).max(axis)
            ranked.sort(key=lambda best: -advanced[best.index])
        return ranked[:k]


@apart
def halve(
    init: Callable[..., PyTree],
    advance: Callable[..., PyTree],
    score: Callable[[PyTree], jax.Array],
    points: Points,
    *,
    rungs: int | Sequence[int],
    keep: float = 1 / 3,
    mode: Literal["min", "max"] = "min",
    batch_size: int | Literal["auto"] = "auto",
    mesh: Mesh | NamedSharding | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    resample: Resample | None = None,
) -> HalvingResult:
    """Advance all points together, and at each rung let only the best go on.

        s_0 = init(p),    s_{k+1} = advance(s_k, p),    judged by score(s_k) at k = r_1 < r_2 < ...

    After each rung but the last the best ⌊keep · n⌋ of n points, at least one,
    go on, their states gathered on the devices; a diverged one, whose score is
    not finite, never does. Points repeated over seeds are judged by their
    mean over the seeds and go on together. With keep = 1/η and rungs that grow
    by η every rung after the first costs the same: that is successive halving.

    With `resample` no run stops: after each rung those that are not among the
    best take over the states and settings of the best, in turn, with the
    settings changed by `resample`. That is population-based training.

    Args:
        init: A traceable function, called as init(**point), from a point to a
            state, any pytree of arrays.
        advance: A traceable function, called as advance(state, **point), to
            the state after one more step, epoch or whatever is counted.
        score: A traceable function of a state, to one real number.
        points: Such as `grid` or `random_points` make, of numbers only.
        rungs: After how many advances points are judged, increasing whole
            numbers from 1; a number n means 1, 2, ..., n.
        keep: The share that goes on, in (0, 1).
        mode: "min" or "max", which end of the score is best.
        batch_size: As in `sweep`; measured on the first rung.
        mesh: As in `sweep`.
        store: As in `sweep`; a batch is finished anew at each rung, and its
            file holds the states.
        progress: As in `sweep`.
        resample: `mutate`, or a function (rung, settings, points) -> settings of
            dictionaries of arrays, which must give the same each time it is
            called alike. None stops the worst.

    Returns:
        A HalvingResult: a SweepResult whose values say how far each point went
        and with what score, with the states of those that went all the way.

    Raises:
        ValueError: rungs do not increase or are below 1, keep is not in (0, 1),
            mode is another word, score returns no real scalar, resample returns
            other axes, another number of values or values outside an axis'
            interval, or the store belongs to another call; the difference is named.
        TypeError: Something is no function or holds no points, an axis is
            static, resample returns no numbers of an axis' kind, a function is
            not traceable, or advance changes the state's structure, shapes or
            dtypes; the point is named.
        RuntimeError: A function raised, at the point named.
        OSError: The store cannot be read or written. What is in it stays.

    Source:
        Jamieson and Talwalkar, Non-stochastic best arm identification and
        hyperparameter optimization, 2016, arXiv:1502.07943; Jaderberg et al.,
        Population based training of neural networks, 2017, arXiv:1711.09846.
    """
    functions = {"init": init, "advance": advance, "score": score}
    if resample is not None:
        functions["resample"] = resample
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {arguments.describe(function)}")
    require_points(points)
    if points.static:
        raise TypeError(
            f"halve needs points of numbers, and axis {points.static[0]} holds others; halve the "
            "points of one value at a time"
        )
    ends = _rungs(rungs)
    keep = arguments.as_real("keep", keep, "(0, 1)")
    arguments.as_option("mode", mode, ("min", "max"))
    require_batch_size(batch_size)
    progress = arguments.as_flag("progress", progress)
    where, auto = devices(mesh), batch_size == "auto"
    start, stage = _traced(init, advance, score, points)
    race = Race(points, len(ends), keep, 1 if mode == "min" else -1, resample)
    asked, kept = 0 if batch_size == "auto" else min(int(batch_size), len(points)), None
    if store is not None:
        how = None if resample is None else shown_value(resample)
        about = identity(points, (start, stage), rungs=ends, keep=keep, mode=mode, resample=how)
        kept = where.in_first_process(lambda: Store(store, *about, asked))
        asked = int(where.told(kept.batch if kept else 0))
    choice = Choice(where.filled(asked, len(points)))
    climb = _Climb(start, stage, race, where, kept, store is not None, choice, auto)
    with Watched(progress, race.total(), 0, {"score": stage.out[1]}, mode) as watched:
        for rung, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if len(race.members):
                climb.to(rung, end - begin, watched)
                race.judge(rung, end, *climb.scores)
    survivors, states = race.survivors(), None
    if len(survivors) and climb.states:
        states = with_keys(where.fetch(climb.states.take(survivors)))
    report = Report(
        batch_size=climb.choice.batch,
        devices=where.count,
        device_kind=where.kind,
        programs=climb.programs,
        tried=climb.choice.tried,
        resumed=climb.resumed,
        damaged=tuple(kept.damaged) if kept else (),
    )
    diverged = race.diverged.reshape(points.shape)
    modes = {"score": mode}
    return HalvingResult(points, race.values(), diverged, report, modes, survivors, states)


class _Climb:
    """All that advances the members from rung to rung."""

    def __init__(
        self,
        start: Traced,
        stage: Traced,
        race: Race,
        where: Devices,
        store: Store | None,
        stored: bool,
        choice: Choice,
        auto: bool,
    ):
        self._start, self._stage, self._race, self._where = start, stage, race, where
        self._store, self._stored, self._auto = store, stored, auto
        self.choice = choice
        self.states: Pool | None = None
        self.scores: tuple[np.ndarray, np.ndarray] = np.zeros(0), np.zeros(0, bool)
        self.resumed = 0
        self._ran: set[tuple[str, int]] = set()  # Each function and its batch sizes.

    @property
    def programs(self) -> int:
        """How many ran, whatever the number of rungs."""
        return len(self._ran)

    def to(self, rung: int, steps: int, watched: Watched) -> None:
        """Advance the members to the next rung, but for what the store has."""
        race, where, count = self._race, self._where, len(self._race.points)
        # Without a store the states stay on the devices.
        stored = self._stored
        out = self._stage.out if stored else (None, *self._stage.out[1:])
        ledger = Ledger(where, out, count, self._store, f"rung{rung:03d}-")
        ledger.read()
        after = Pool(where, count)
        finished = race.members[ledger.done[race.members]]
        if len(finished):
            filled = np.pad(finished, (0, -len(finished) % where.count), mode="edge")
            after.add(finished, jax.tree.map(where.place, ledger.rows(filled)[0]))
            _, scores, lost = ledger.rows(finished)
            watched.update({"score": scores}, lost)
            self.resumed += len(finished)
        pending = race.members[~ledger.done[race.members]]
        if len(pending):
            for index, result in self._advanced(pending, steps, ledger):
                after.add(index, result[0])
                _, scores, lost = ledger.keep(index, result if stored else (None, *result[1:]))
                watched.update({"score": scores}, lost)
        self.states, self.scores = after, ledger.outputs[1:]

    def _advanced(
        self, pending: np.ndarray, steps: int, ledger: Ledger
    ) -> Iterator[tuple[np.ndarray, PyTree]]:
        """The outputs of each batch of members, so many steps further."""
        race, where = self._race, self._where
        before = self.states or self._started()

        def take(index: np.ndarray) -> PyTree:
            return _columns(where, race.columns, index), before.take(race.origin[index])

        one = _numbers(race.points), self._start.out
        compiled = Compiled(self._stage, np.int32(steps), one, where)
        work = Work(compiled, take, race.points, "advance")
        if not self.choice.batch:
            self.choice = chosen(work, pending)
            ledger.choose(self.choice.batch)
        now = self.choice._replace(batch=where.filled(self.choice.batch, len(race.members)))
        yield from batches(work, pending, now, shrink=self._auto)
        shrunk = compiled.ran[-1] < now.batch  # The memory shrunk no more.
        batch = compiled.ran[-1] if shrunk else self.choice.batch
        self.choice = self.choice._replace(first=None, batch=batch)
        self._ran |= {(work.what, batch) for batch in compiled.ran}

    def _started(self) -> Pool:
        """The states of all points at the start, as many at once as were asked for, or all."""
        race, where = self._race, self._where
        every = np.arange(len(race.points))
        compiled = Compiled(self._start, (), _numbers(race.points), where)
        work = Work(compiled, partial(_columns, where, race.points.columns()), race.points, "init")
        size = where.filled(len(every) if self._auto else self.choice.batch, len(every))
        pool = Pool(where, len(every))
        for index, states in batches(work, every, Choice(size), shrink=self._auto):
            pool.add(index, states)
        self._ran |= {(work.what, batch) for batch in compiled.ran}
        return pool


def _numbers(points: Points) -> PyTree:
    """The shapes of a point."""
    return {name: jax.ShapeDtypeStruct((), v.dtype) for name, v in points.axes.items()}


def _columns(where: Devices, columns: dict[str, np.ndarray], index: np.ndarray) -> PyTree:
    return {name: where.place(values[index]) for name, values in columns.items()}


def _traced(init: Any, advance: Any, score: Any, points: Points) -> tuple[Traced, Traced]:
    """The two programs: (point) -> state, and (point, state) -> state, score, has it diverged."""
    point, one = points[0], _numbers(points)

    def begin(alive: Callable[[], Any]) -> Any:
        return lambda _, settings: without_keys(alive()(**settings))

    def judge(alive: Callable[[], Any]) -> Any:
        def judged(_: PyTree, state: PyTree) -> jax.Array:
            value = alive()(with_keys(state))
            if np.ndim(value) or not arguments.is_real(value):
                raise ValueError(
                    f"score must return one real number, got {arguments.describe(value)}"
                )
            return jnp.asarray(value)

        return judged

    def further(alive: Callable[[], Any]) -> Any:
        def climbed(steps: jax.Array, member: PyTree) -> PyTree:
            settings, state = member

            def forward(_: jax.Array, state: PyTree) -> PyTree:
                after: Any = alive()(with_keys(state), **settings)
                return _like(state, without_keys(after))

            state = jax.lax.fori_loop(0, steps, forward, state)
            judged = jnp.asarray(score(with_keys(state)))
            return state, judged, ~jnp.isfinite(judged)

        return climbed

    start = traced(program(init, "init", begin), (), one, "init", point)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), start.out)
    traced(program(score, "score", judge), (), state, "score", point)
    steps = jax.ShapeDtypeStruct((), np.int32)
    stage = program(advance, ("advance", arguments.as_hashable(score)), further)
    return start, traced(stage, steps, (one, state), "advance", point)


def _like(before: PyTree, after: PyTree) -> PyTree:
    """A state after an advance, which is as the one before it was."""
    was, now = (
        {jax.tree_util.keystr(p): f"{v.dtype}{list(v.shape)}" for p, v in leaves}
        for leaves in map(jax.tree.leaves_with_path, (before, after))
    )
    changed = [path for path in was | now if was.get(path) != now.get(path)]
    if changed:
        path = changed[0]
        there, then = was.get(path, "nothing"), now.get(path, "nothing")
        what = f"state{path} was {there} and becomes {then}"
    elif (there := jax.tree.structure(before)) != (then := jax.tree.structure(after)):
        what = f"it was {there} and becomes {then}"
    else:
        return after
    raise TypeError(f"the state must keep its structure, shapes and dtypes, and {what}")


def _rungs(rungs: Any) -> list[int]:
    if isinstance(rungs, int | np.integer) and not isinstance(rungs, bool):
        return list(range(1, arguments.as_count("rungs", rungs) + 1))
    if isinstance(rungs, str) or not hasattr(rungs, "__iter__"):
        raise TypeError(f"rungs must be whole numbers, got {arguments.describe(rungs)}")
    each: Any = rungs
    ends = [arguments.as_count(f"rungs[{i}]", rung) for i, rung in enumerate(each)]
    if not ends or sorted(set(ends)) != ends:
        raise ValueError(f"rungs must be whole numbers that increase, at least one, got {ends}")
    return ends
