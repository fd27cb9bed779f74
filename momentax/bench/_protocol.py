"""How an entry is tuned and evaluated on a task: the runs of one cell of the table.

1. Every trial runs on the tuning seed 0.
2. The best four trials run again on the seeds 1 and 2. The one whose mean over the three seeds is
   lowest is chosen. The next four run on seed 1 too, which corrects the expected best.
3. The chosen trial runs on sixteen other seeds, which nothing before has used.

The seed decides the initial parameters and the batches, the same for all entries. The reported
numbers come from step 3 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core.typing import Reals
from momentax.bench import _ranges
from momentax.bench._entry import Entry, names_at_edge
from momentax.bench._horizon import Horizon
from momentax.bench._task import Task
from momentax.sweeps import sweep, zipped

_SECOND = 4  # How many trials run on the seeds 1 and 2.
_AGAIN = 8  # How many trials run on seed 1.


class Protocol(NamedTuple):
    """How methods are tuned and evaluated: the numbers of runs, their seeds and their schedule.

    trials: n, the trials of each entry on each task, whatever the number of its hyperparameters.
    seeds: the number of evaluation seeds.
    first_seed: the first evaluation seed; the others follow it.
    shape: "cosine" or "constant", the schedule of every entry after its warm-up. An entry whose
        own shape is "constant" keeps it.
    length: the number of steps, as a multiple of the task's own.
    tuning_seed: the first of the three seeds on which trials are compared.
    weight_decay: whether every entry searches a decoupled weight decay too, as
        `Entry.with_weight_decay` says.
    """

    trials: int = 32
    seeds: int = 16
    first_seed: int = 1000
    shape: str = "cosine"
    length: float = 1.0
    tuning_seed: int = 0
    weight_decay: bool = False


class Cell(NamedTuple):
    """An entry on a task: its trials, its choice and its evaluation.

    y is log10(loss - infimum + floor) of the task at the end of a run; a diverged run has the y of
    its initial point.

    hyperparameters: those of the chosen trial.
    chosen: the number of the chosen trial; trial 0 is the default.
    tuning: y of each trial on the tuning seed, shape (trials,).
    finals: the mean y of the best four trials over three tuning seeds, NaN for the others.
    again: y of the best eight trials on the second tuning seed, NaN for the others.
    evaluation: y of the chosen trial on each evaluation seed, shape (seeds,).
    validation: the loss on held-out examples of the same runs; NaN where the task has none.
    checkpoints: the mean of y over these runs at the initial point and at 40 checkpoints.
    diverged: the numbers of trials and of evaluation runs that diverged.
    edge: the hyperparameters of the choice that lie within 5% of an end of their range.
    widened: the hyperparameters whose range was widened for this cell, after a first pass that it
        replaces.
    failed: the held-out variants of the task that make the cell a failure, as
        `fail_where_variants_fail` finds them.
    """

    hyperparameters: dict[str, float]
    chosen: int
    tuning: Reals
    finals: Reals
    again: Reals
    evaluation: Reals
    validation: Reals
    checkpoints: Reals
    diverged: tuple[int, int]
    edge: list[str]
    widened: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class _Runner(NamedTuple):
    """The runs of one entry on one task, all by one program.

    run: a function of a seed and the hyperparameters.
    values: the hyperparameters of the trials.
    folder: where finished runs are kept, or None.
    progress: as for `sweep`.
    """

    run: Callable[..., Any]
    values: Mapping[str, Reals]
    folder: Path | None
    progress: Any

    def __call__(self, stage: str, trials: Any, seeds: Any) -> dict[str, Reals]:
        """Run pairs of a trial and a seed."""
        points = zipped(
            seed=np.asarray(seeds, np.int32),
            **{name: column[trials].astype(np.float32) for name, column in self.values.items()},
        )
        store = None if self.folder is None else self.folder / stage
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
        result = sweep(
            self.run,
            points,
            batch_size=jax.device_count(),
            store=store,
            progress=self.progress,
        )
        return {name: np.asarray(value) for name, value in result.values.items()}


def measure(
    entry: Entry,
    task: Task,
    protocol: Protocol,
    *,
    folder: Path | None = None,
    progress: Any = False,
) -> Cell:
    """Tune an entry on a task and evaluate the choice.

    Args:
        entry: The entry.
        task: The task.
        protocol: The numbers of runs.
        folder: A folder for finished runs, which a later call with the same arguments reads.
        progress: As for `sweep`.

    Returns:
        A Cell.
    """
    shape = "constant" if "constant" in (protocol.shape, entry.shape) else "cosine"
    horizon = Horizon(max(1, round(task.steps * protocol.length)), shape)

    def run(seed: Any, **hyperparameters: Any) -> dict[str, Any]:
        tx = entry.make(horizon, **hyperparameters)
        return task.train(tx, jax.random.key(seed), steps=horizon.steps)

    values = entry.trials(protocol.trials)
    runner = _Runner(run, values, folder, progress)
    every = np.arange(protocol.trials)
    first = protocol.tuning_seed
    tuning = runner("tuning", every, np.full(len(every), first))
    # A stable sort, so that of equal trials the earlier is chosen.
    order = np.argsort(tuning["y"], kind="stable")
    best, next_best = order[:_SECOND], order[_SECOND:_AGAIN]
    trials = np.concatenate([best, best, next_best])
    seeds = first + np.repeat([1, 2, 1], [len(best), len(best), len(next_best)])
    y = runner("choice", trials, seeds)["y"]
    means = np.mean([tuning["y"][best], y[: len(best)], y[len(best) : 2 * len(best)]], axis=0)
    chosen = int(best[np.argmin(means)])
    finals, again = np.full((2, len(every)), np.nan)
    finals[best] = means
    again[best], again[next_best] = y[: len(best)], y[2 * len(best) :]
    seeds = protocol.first_seed + np.arange(protocol.seeds)
    evaluated = runner("evaluation", np.full(len(seeds), chosen), seeds)
    hyperparameters = {name: float(column[chosen]) for name, column in values.items()}
    return Cell(
        hyperparameters,
        chosen,
        tuning["y"],
        finals,
        again,
        evaluated["y"],
        evaluated["validation"],
        np.mean(_capped(task, evaluated["checkpoints"]), axis=0),
        (int(tuning["diverged"].sum()), int(evaluated["diverged"].sum())),
        names_at_edge(entry, hyperparameters),
    )


def widen_at_edges(
    entries: Mapping[str, Entry], cells: Mapping[tuple[str, str], Cell]
) -> dict[str, Entry]:
    """Return the entries with a cell at an edge, each with all ranges widened that had an edge.

    A range that cannot be widened stays, and its cells keep their mark.

    Args:
        entries: The entries by their names.
        cells: Their cells on all tasks, by the names of the task and the entry.
    """
    wider = {}
    for name, entry in entries.items():
        edges = {edge for (_, own), cell in cells.items() if own == name for edge in cell.edge}
        names = [
            edge
            for edge, each in entry.space.items()
            if edge in edges and _ranges.widened(edge, each) is not None
        ]
        if names:
            wider[name] = entry.widen(names)
    return wider


def widened_names(entry: Entry, wider: Entry) -> tuple[str, ...]:
    """Return the hyperparameters that an entry searches in other ranges than before."""
    return tuple(name for name, each in wider.space.items() if each != entry.space[name])


def _capped(task: Task, losses: Reals) -> Reals:
    """Return y of the losses at checkpoints, at most that of the initial point.

    losses: of shape (runs, checkpoints), the first those of the initial points.
    """
    y = np.asarray(task.measure(losses), np.float64)
    return np.where(np.isfinite(y), np.minimum(y, y[:, :1]), y[:, :1])
