"""Runs as arrays: what the plots read from the result of `momentax.rollout`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core.arguments import as_count, describe, is_traced, printable
from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout

_MAPPING = 'a mapping from names to what momentax.rollout returns, such as {"heavy ball": run}'


def as_runs(runs: Any) -> dict[str, Rollout]:
    """Return runs by the phrases by which messages name them, such as "runs['heavy ball']".

    One run stands for itself.
    """
    if isinstance(runs, Rollout):
        return {"": as_run("runs", runs)}
    if not isinstance(runs, Mapping) or not runs:
        raise TypeError(f"runs must be {_MAPPING}, or one such run, got {describe(runs)}")
    for name, run in runs.items():
        if not isinstance(name, str) or not isinstance(run, Rollout):
            raise TypeError(f"runs must be {_MAPPING}, got {describe(name)}: {describe(run)}")
    return {printable(name): as_run(f"runs[{name!r}]", run) for name, run in runs.items()}


def as_run(name: str, run: Any) -> Rollout:
    """Return one run whose numbers are known."""
    if not isinstance(run, Rollout):
        raise TypeError(f"{name} must be what momentax.rollout returns, got {describe(run)}")
    if not isinstance(run.history, Mapping):
        raise TypeError(f"{name} must have a history by names, got {describe(run.history)}")
    if any(is_traced(leaf) for leaf in jax.tree.leaves(run)):
        raise TypeError(f"{name} must hold numbers: call the plot outside of jit and vmap")
    return run


def phrase(name: str) -> str:
    """Return how messages name a run of `as_runs`."""
    return f"runs[{name!r}]" if name else "runs"


def record_of(name: str, run: Rollout, record: str) -> PyTree:
    """Return what a run recorded; `name` is that of the run in messages."""
    if record not in run.history:
        records = (*run.history, record)
        raise ValueError(
            f"{name} has no record of {record}: write momentax.rollout(..., record={records})"
        )
    return run.history[record]


class Points(NamedTuple):
    """The parameters of a run as vectors, and how to make parameters of vectors again.

    values: θ_0 .. θ_T, shape (rows + 1, n): the recorded ones and those after the last step.
    labels: the names of the n entries.
    structure, shapes: those of the tree of the parameters and of its leaves.
    rebuild: a function from vectors, shape (m, n), to a tree of parameters with m rows.
    """

    values: Reals
    labels: tuple[str, ...]
    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    rebuild: Callable[[Reals], PyTree]


def points_of(name: str, run: Rollout) -> Points:
    """Return the recorded parameters of a run, with the last ones."""
    history = tree_rows(name, run, "params")
    last = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.params)])
    values = np.concatenate([history, last[None].astype(np.float64)])
    leaves, structure = jax.tree.flatten(run.params)
    shapes = tuple(map(np.shape, leaves))
    return Points(values, _labels(run.params), structure, shapes, _Rebuild(run.params))


def tree_rows(name: str, run: Rollout, record: str) -> Reals:
    """Return a record that is shaped like the parameters as vectors, shape (rows, n)."""
    history = record_of(name, run, record)
    leaves, structure = jax.tree.flatten(history)
    params, expected = jax.tree.flatten(run.params)
    if structure != expected:
        raise ValueError(
            f"{name} has a record of {record} that is not shaped like its params: its structure "
            f"is {structure}, and that of the params {expected}"
        )
    if not params:
        raise ValueError(f"{name} has no parameters")
    for leaf, param in zip(leaves, params, strict=True):
        fits = np.ndim(leaf) and np.shape(leaf)[1:] == np.shape(param)
        if not fits and record != "params":
            raise ValueError(
                f"{name} has a record of {record} that is not shaped like its params: it has shape "
                f"{np.shape(leaf)} for params of shape {np.shape(param)}"
            )
        if not fits:
            raise ValueError(
                f"{name} must be a single run, whose record of {record} has one row for each "
                f"step, got a record of shape {np.shape(leaf)} for params of shape "
                f"{np.shape(param)}; pick a run of several with "
                "jax.tree.map(lambda leaf: leaf[0], runs)"
            )
        if np.iscomplexobj(leaf):
            raise ValueError(
                f"{name} has complex params; plots draw real ones, so record a run of their real "
                "and imaginary parts"
            )
    rows = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in leaves]
    return np.concatenate(rows, axis=1)


def losses_of(name: str, run: Rollout) -> Reals:
    """Return the recorded loss of a run, shape (rows,)."""
    loss = np.asarray(record_of(name, run, "loss"), np.float64)
    if loss.ndim != 1 or not loss.size:
        raise ValueError(
            f"{name} must be a single run with one loss for each recorded step, got a record of "
            f"shape {loss.shape}; pick a run of several with "
            "jax.tree.map(lambda leaf: leaf[0], runs)"
        )
    return loss


def steps_of(name: str, run: Rollout, rows: int, every: Any) -> np.ndarray:
    """Return the number of updates before each row of a history, checked by the state's count."""
    every = as_count("every", every)
    count = count_of(run)
    if count is not None and (count > rows * every or count == rows < rows * every):
        low, high = -(-count // rows), (count - 1) // max(rows - 1, 1)
        which = f"{low}" if low >= high else f"from {low} to {high}"
        raise ValueError(
            f"every must be that of momentax.rollout, which is {which}, since {name} made {count} "
            f"steps and recorded {rows} of them; got {every}"
        )
    return every * np.arange(rows)


def count_of(run: Rollout) -> int | None:
    """Return the number of updates that the state of a run counted, or None."""
    leaves = jax.tree_util.tree_leaves_with_path(run.state)
    named = [(getattr(path[-1], "name", ""), leaf) for path, leaf in leaves if path]
    if any(name == "mini_step" for name, _ in named):
        return None  # The counts inside of optax.MultiSteps are not those of the steps.
    counts = [leaf for name, leaf in named if name == "count" and np.ndim(leaf) == 0]
    return max(map(int, counts), default=None)


class _Rebuild:
    """Makes trees of parameters of vectors, in the dtypes of those parameters."""

    def __init__(self, params: PyTree) -> None:
        leaves, self._structure = jax.tree.flatten(params)
        self._leaves = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves]

    def __call__(self, values: Reals) -> PyTree:
        ends = np.cumsum([int(np.prod(shape)) for shape, _ in self._leaves])
        parts = np.split(values, ends[:-1], axis=1)
        with np.errstate(over="ignore"):  # A run that diverges may leave the range of float32.
            leaves = [
                part.reshape(len(values), *shape).astype(dtype)
                for part, (shape, dtype) in zip(parts, self._leaves, strict=True)
            ]
        return jax.tree.unflatten(self._structure, leaves)


def _labels(params: PyTree) -> tuple[str, ...]:
    """Return the names of the entries of parameters, such as "w[0]"; θ is a single array."""
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = printable(jax.tree_util.keystr(path, simple=True, separator="/")) or "θ"
        indices = np.ndindex(np.shape(leaf))
        names += [f"{name}[{', '.join(map(str, each))}]" if each else name for each in indices]
    return tuple(names)
