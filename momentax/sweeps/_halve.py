"""Successive halving and population-based training: fewer steps for the same answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from momentax._core import arguments, trees
from momentax._core.metrics import Mode, mode_in_name, require_mode
from momentax._core.sharding import without_ambient_mesh
from momentax._core.typing import PyTree
from momentax.sweeps._bracket import Bracket
from momentax.sweeps._mutation import Resample
from momentax.sweeps._points import Points, require_points
from momentax.sweeps._result._halving_result import HalvingResult
from momentax.sweeps._run._batches import Work, require_batch_size
from momentax.sweeps._run._devices import as_devices
from momentax.sweeps._run._groups import column_shapes, take_columns
from momentax.sweeps._run._keys import unwrap_keys, wrap_keys
from momentax.sweeps._run._program import (
    Compiled,
    Traced,
    cached_program,
    compare_shapes,
    require_untraced,
    trace_at,
)
from momentax.sweeps._run._progress import ProgressBar, as_progress
from momentax.sweeps._run._session import Session
from momentax.sweeps._run._states import States


@without_ambient_mesh
def halve(
    init: Callable[..., PyTree],
    advance: Callable[..., PyTree],
    score: Callable[[PyTree], jax.Array],
    points: Points,
    *,
    rungs: int | Sequence[int],
    keep: float = 1 / 3,
    mode: Literal["min", "max"] | None = None,
    batch_size: int | Literal["auto"] = "auto",
    mesh: Mesh | NamedSharding | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    resample: Resample | None = None,
) -> HalvingResult:
    """Advance all points together, and continue after each rung only with the best.

        s_0 = init(p),    s_{k+1} = advance(s_k, p),    judged by score(s_k) at k = r_1 < r_2 < ...

    After each rung but the last, the best ⌊keep · n⌋ of n points, at least one,
    continue, and their states are gathered on the devices. A point whose score is
    not finite has diverged and does not continue. Points repeated over seeds are
    judged by their mean over the seeds and continue together. With keep = 1/η and
    rungs that grow by the factor η, every rung after the first costs the same:
    that is successive halving.

    With `resample` no run stops: after each rung the runs that are not among the
    best continue from the states and settings of the best, in turn, with the
    settings changed by `resample`. That is population-based training.

    Args:
        init: A traceable function, called as init(**point), from a point to a
            state, any pytree of arrays.
        advance: A traceable function, called as advance(state, **point), to
            the state after one more step, epoch or other unit.
        score: A traceable function of a state, to one real number.
        points: Points, as for `sweep`, whose axes hold only numbers.
        rungs: The numbers of advances after which points are judged, increasing
            integers from 1; a single number n means 1, 2, ..., n.
        keep: The share of the points that continues, in (0, 1).
        mode: "min" or "max", whether the smallest or the largest score is best. None takes
            what the name of the function `score` says, as `SweepResult.mode_of` reads it, so
            "max" for one named accuracy, and "min" where it does not say.
        batch_size: As in `sweep`; measured on the first rung.
        mesh: As in `sweep`.
        store: As in `sweep`; each rung has its own files, which also hold
            the states.
        progress: As in `sweep`.
        resample: `momentax.sweeps.mutate`, or a function (rung, settings, points) ->
            settings of dictionaries of arrays, which must return the same for the
            same arguments. None stops the worst runs.

    Returns:
        A HalvingResult: a SweepResult whose values say how far each point went
        and with what score, with the states of the points that reached the end.

    Raises:
        ValueError: rungs do not increase or are below 1, keep is not in (0, 1),
            mode is another word, score does not return a real scalar, resample
            returns other axes, another number of values or values outside an axis'
            interval, or the store belongs to another call; the message names the
            difference.
        TypeError: A function is not callable, points is not of type Points, an
            axis is static, the call is inside of a function that JAX traces, resample
            returns something other than numbers of an axis' kind, a function is not
            traceable, or advance changes the state's structure, shapes or dtypes; the
            message names the point.
        RuntimeError: A function raised; the message names the point.
        OSError: The store cannot be read or written, or another process uses it. What
            is in it stays.

    Example:
        >>> points = momentax.grid(rate=[0.1, 0.5, 0.9])
        >>> functions = lambda rate: 1.0, lambda x, rate: x - rate * x, lambda x: x**2
        >>> momentax.halve(*functions, points, rungs=[1, 3])["advanced"].tolist()
        [1, 1, 3]

    Source:
        Jamieson and Talwalkar, Non-stochastic best arm identification and
        hyperparameter optimization, 2016, arXiv:1502.07943; Jaderberg et al.,
        Population based training of neural networks, 2017, arXiv:1711.09846.
    """
    require_untraced("halve")
    arguments.require_function("init", init, "from a point to a state")
    arguments.require_function("advance", advance, "from a state and a point to a state")
    arguments.require_function("score", score, "from a state to a number")
    if resample is not None:
        signature = "from a rung, settings and points to settings"
        arguments.require_function("resample", resample, signature)
    require_points(points)
    if points.static:
        name = arguments.printable(points.static[0])
        raise TypeError(
            f"halve needs points of numbers, and axis {name} holds others; halve the points of one "
            "value at a time"
        )
    ends = _as_rungs(rungs)
    keep = arguments.as_real("keep", keep, "(0, 1)")
    mode = _as_mode(mode, score)
    require_batch_size(batch_size)
    shown = as_progress(progress)
    folder = None if store is None else arguments.as_path("store", store)
    devices = as_devices(mesh)
    programs = _trace(init, advance, score, points)
    bracket = Bracket(points, len(ends), keep, 1 if mode == "min" else -1, resample)
    settings = {
        "rungs": ends,
        "keep": keep,
        "mode": mode,
        "resample": resample,
    }
    states, score_shape = None, {"score": programs.advance.out[1]}
    with (
        Session(devices, points, programs, batch_size, len(points), folder, **settings) as session,
        ProgressBar(shown, bracket.expected_total(), 0, score_shape, mode) as bar,
    ):
        for rung, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if len(bracket.members):
                states, *scores = _advance(
                    session, programs, bracket, states, rung, end - begin, bar
                )
                bracket.judge(rung, end, *scores)
    survivors, survived = bracket.survivors(), None
    if len(survivors) and states is not None:
        survived = wrap_keys(devices.to_host(states.take(survivors)))
    diverged = bracket.diverged.reshape(points.shape)
    return HalvingResult(
        points, bracket.values(), diverged, session.report(), {"score": mode}, survivors, survived
    )


class _Programs(NamedTuple):
    """The two programs of a halving, each traced.

    init: (point) -> state.
    advance: (number of advances; point, state) -> (state, score, has it diverged).
    """

    init: Traced
    advance: Traced


def _advance(
    session: Session,
    programs: _Programs,
    bracket: Bracket,
    before: States | None,
    rung: int,
    count: int,
    bar: ProgressBar,
) -> tuple[States, np.ndarray, np.ndarray]:
    """Advance the members of the bracket to the next rung; return states, scores, divergence.

    Batches of the rung that are in the folder are read and not computed again.
    """
    devices, points, members = session.devices, bracket.points, bracket.members
    # Without a folder the states stay on the devices.
    keeps_states = session.folder is not None
    out = programs.advance.out
    outputs = session.open_outputs(out if keeps_states else (None, *out[1:]), f"rung{rung:03d}-")
    is_done = outputs.is_done[members]
    finished, pending = members[is_done], members[~is_done]
    after = States(devices, len(points))
    if len(finished):
        padded = np.pad(finished, (0, -len(finished) % devices.count), mode="edge")
        after.add(finished, jax.tree.map(devices.shard, outputs.rows(padded)[0]))
        _, scores, diverged = outputs.rows(finished)
        bar.update({"score": scores}, diverged)
        session.resumed += len(finished)
    if len(pending):
        start = before
        if start is None:
            start = _initial_states(session, programs.init, points, bar)

        def make_batch(index: np.ndarray) -> PyTree:
            return take_columns(bracket.columns, index), start.take(bracket.origin[index])

        point = column_shapes(points.axes), programs.init.out
        compiled = Compiled(programs.advance, np.int32(count), point, devices, bar.compiling)
        work = Work(compiled, make_batch, points, "advance")
        for index, (states, *judged) in session.run(work, pending, len(members)):
            after.add(index, states)
            _, scores, diverged = outputs.add(index, (states if keeps_states else None, *judged))
            bar.update({"score": scores}, diverged)
    return after, *outputs.tree[1:]


def _initial_states(session: Session, init: Traced, points: Points, bar: ProgressBar) -> States:
    """Return the states of all points at the start."""
    devices, index = session.devices, np.arange(len(points))
    compiled = Compiled(init, (), column_shapes(points.axes), devices, bar.compiling)
    work = Work(compiled, partial(take_columns, points.columns()), points, "init")
    states = States(devices, len(points))
    for members, out in session.run_largest(work, index):
        states.add(members, out)
    return states


def _trace(init: Any, advance: Any, score: Any, points: Points) -> _Programs:
    """Trace the two programs, and the score by itself, so that an error names the function."""
    point, shapes = points[0], column_shapes(points.axes)
    start = trace_at(cached_program(init, "init", _make_init), (), shapes, "init", point)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), start.out)
    trace_at(cached_program(score, "score", _make_score), (), state, "score", point)
    program = cached_program(
        advance, ("advance", arguments.as_hashable(score)), partial(_make_advance, score)
    )
    count = jax.ShapeDtypeStruct((), np.int32)
    return _Programs(start, trace_at(program, count, (shapes, state), "advance", point))


def _make_init(reference: Callable[[], Any]) -> Callable[..., PyTree]:
    """Return the function (shared, point) -> state; `reference` returns the user's function."""
    return lambda _, settings: unwrap_keys(reference()(**settings))


def _make_score(reference: Callable[[], Any]) -> Callable[..., jax.Array]:
    """Return the function (shared, state) -> score, which is checked."""

    def checked_score(_: PyTree, state: PyTree) -> jax.Array:
        value = reference()(wrap_keys(state))
        if np.ndim(value) or not arguments.is_real(value):
            raise ValueError(f"score must return one real number, got {arguments.describe(value)}")
        return jnp.asarray(value)

    return checked_score


def _make_advance(score: Any, reference: Callable[[], Any]) -> Callable[..., PyTree]:
    """Return the function (number of advances, (point, state)) -> (state, score, diverged)."""

    def advance_and_score(count: jax.Array, member: PyTree) -> PyTree:
        settings, state = member

        def step(_: jax.Array, state: PyTree) -> PyTree:
            after: Any = unwrap_keys(reference()(wrap_keys(state), **settings))
            _require_same_state(state, after)
            return after

        state = jax.lax.fori_loop(0, count, step, state)
        value = jnp.asarray(score(wrap_keys(state)))
        return state, value, ~jnp.isfinite(value)

    return advance_and_score


def _require_same_state(before: PyTree, after: PyTree) -> None:
    """Raise if an advance changes the state's structure, shapes or dtypes."""
    found = trees.first_difference(after, before, compare_leaves=compare_shapes)
    if found is not None:
        raise TypeError(
            "the state must keep its structure, shapes and dtypes, and "
            f"state{jax.tree_util.keystr(found.path)} was {found.expected} and becomes "
            f"{found.given}"
        )


def _as_mode(mode: Any, score: Any) -> Mode:
    """Return whether the smallest or the largest score is best."""
    name = getattr(score, "__name__", "")
    if mode is None and mode_in_name(name) is None:
        return "min"
    return require_mode(name, mode)


def _as_rungs(rungs: Any) -> list[int]:
    """Return the numbers of advances after which points are judged."""
    if isinstance(rungs, int | np.integer) and not isinstance(rungs, bool):
        return list(range(1, arguments.as_count("rungs", rungs) + 1))
    if isinstance(rungs, str) or not hasattr(rungs, "__iter__"):
        raise TypeError(f"rungs must be whole numbers, got {arguments.describe(rungs)}")
    values: Any = np.atleast_1d(rungs) if isinstance(rungs, np.ndarray | jax.Array) else rungs
    ends = [arguments.as_count(f"rungs[{i}]", rung) for i, rung in enumerate(values)]
    if not ends or sorted(set(ends)) != ends:
        raise ValueError(f"rungs must be whole numbers that increase, at least one, got {ends}")
    return ends
