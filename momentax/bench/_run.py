"""Running entries on tasks: every cell of a table, one after another, each resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from momentax._core import arguments
from momentax.bench import _facts
from momentax.bench._entries import entries as all_entries
from momentax.bench._entry import Entry
from momentax.bench._function import require_traceable
from momentax.bench._named import Named
from momentax.bench._protocol import Cell, Protocol, measure, widen_at_edges, widened_names
from momentax.bench._result import Result
from momentax.bench._space import Space
from momentax.bench._task import Task
from momentax.bench._tasks import tasks as all_tasks


def run(
    methods: Any = None,
    tasks: Any = None,
    *,
    trials: int = 32,
    seeds: int = 16,
    first_seed: int = 1000,
    shape: str = "cosine",
    weight_decay: bool = False,
    widen: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    report: Callable[[str, str, int, int], object] | None = None,
) -> Result:
    """Tune every method on every task by the same protocol and evaluate it on other seeds.

    Each method gets the same number of trials on each task, whatever the number of its
    hyperparameters: points of one Sobol sequence in its search space, the first of them its
    default. All trials run on seed 0, the best four again on seeds 1 and 2, and the best of these
    runs on the evaluation seeds, from which all reported numbers come. Every run has the whole
    number of steps; nothing is stopped early.

    With all defaults these are 7,200 trainings, 15 methods × 8 tasks × 60, which took 1.5 hours on
    one core of an AMD EPYC: 0.02 to 4 seconds each, with a compilation of a few seconds for each
    method and task. Call `momentax.use_all_cores()` first, so that each core runs points of its
    own.

    Args:
        methods: What to run: names of `momentax.bench.entries`, values of type Entry, or functions
            of a learning rate and other hyperparameters, as for `Entry.of`; one, or several. None
            runs all entries.
        tasks: Names of `momentax.bench.tasks` or values of type Task; one, or several, such as
            `momentax.bench.held_out`. None runs all tasks.
        trials: The number of trials of each method on each task, at least 2. A method with more
            trials is tuned better, so compare only results with the same number.
        seeds: The number of evaluation seeds, at least 2. With fewer than 13, no difference can
            be decided among the 112 comparisons of all entries on all tasks.
        first_seed: The first evaluation seed, at least 3, so that none was used for tuning. Runs
            are paired by seed, so compare only results with the same seeds.
        shape: "cosine" for a warm-up and a cosine to 0, or "constant" for a warm-up and a constant
            learning rate.
        weight_decay: Whether every method searches a decoupled weight decay from 1e-5 to 1 too, as
            `Entry.with_weight_decay` says. The loss that is scored has no decay.
        widen: Whether a method whose best rate, β or age lies at an end of its range on any task
            runs again on all tasks, once, with that range widened as `Entry.widen` does. The new
            cells replace the first ones. Such a method has been tuned twice, with up to twice the
            search of the others.
        store: A folder that keeps each finished run. The same call with the same store continues
            where it was interrupted.
        progress: Whether each sweep shows a bar, as in `momentax.sweep`.
        report: A function that is called before each cell with the task, the method, the index of
            the cell, from 0, and the total. Cells with wider ranges add to the total.

    Returns:
        A Result.

    Raises:
        ValueError: A name is not one of those, two methods or tasks have one name, or a number is
            out of range.
        TypeError: An argument has another type, a method uses a traced array as a Python value,
            as `if beta > 0.9` does, or weight_decay is True and an Entry has no weight decay.

    Example:
        >>> result = momentax.bench.run("sgd", "ridge", trials=2, seeds=2, progress=False)
        >>> list(result.cells)
        [('ridge', 'sgd')]
    """
    chosen = as_entries(methods)
    on = as_tasks(tasks)
    protocol = Protocol(
        trials=arguments.as_count("trials", trials, least=2),
        seeds=arguments.as_count("seeds", seeds, least=2),
        first_seed=arguments.as_count("first_seed", first_seed, least=3, most=2**31 - 1 - seeds),
        shape=arguments.as_option("shape", shape, ("cosine", "constant")),
        weight_decay=arguments.as_flag("weight_decay", weight_decay),
    )
    widens = arguments.as_flag("widen", widen)
    if protocol.weight_decay:
        chosen = {name: entry.with_weight_decay() for name, entry in chosen.items()}
    if report is not None:
        signature = "of the task, the method, the index of the cell and the total"
        arguments.require_function("report", report, signature, None, None, None, None)
    folder = None if store is None else Path(arguments.as_path("store", store))
    measured = _Pass(on, protocol, folder, arguments.as_flag("progress", progress), report)
    # Before the runs, since the code of a task must be found for it.
    hashes = {name: _facts.task_hash(task) for name, task in on.items()}
    start = time.monotonic()
    found = measured(chosen)
    if widens:
        wider = widen_at_edges(chosen, found)
        for (task, name), cell in measured(wider, "-widened", len(found)).items():
            found[task, name] = cell._replace(widened=widened_names(chosen[name], wider[name]))
        chosen |= wider
    hours = (time.monotonic() - start) / 3600
    spaces = {name: Space(entry.space, entry.default) for name, entry in chosen.items()}
    return Result(found, protocol, _facts.about(hours), hashes, spaces)


class _Pass(NamedTuple):
    """The cells of entries on all tasks of a call.

    tasks: the tasks by their names.
    protocol: the numbers of runs.
    folder: where finished runs are kept, or None.
    progress: as for `sweep`.
    report: as for `run`.
    """

    tasks: Mapping[str, Task]
    protocol: Protocol
    folder: Path | None
    progress: bool
    report: Callable[[str, str, int, int], object] | None

    def __call__(
        self, entries: Mapping[str, Entry], suffix: str = "", done: int = 0
    ) -> dict[tuple[str, str], Cell]:
        """Measure the entries.

        suffix: what the name of the folder ends with.
        done: the number of cells before these.
        """
        decay = "-decay" if self.protocol.weight_decay else ""
        part = f"{self.protocol.shape}{decay}{suffix}"
        cells = {}
        for task in self.tasks.values():
            for entry in entries.values():
                if self.report is not None:
                    count = done + len(self.tasks) * len(entries)
                    self.report(task.name, entry.name, done + len(cells), count)
                kept = None if self.folder is None else self.folder / part / task.name / entry.name
                cells[task.name, entry.name] = measure(
                    entry, task, self.protocol, folder=kept, progress=self.progress
                )
        return cells


def as_entries(methods: Any) -> dict[str, Entry]:
    """Return entries by name."""
    return _by_name("methods", methods, all_entries, _as_entry)


def as_tasks(tasks: Any) -> dict[str, Task]:
    """Return tasks by name."""
    return _by_name("tasks", tasks, all_tasks, _as_task)


def _by_name(
    argument: str, given: Any, known: Mapping[str, Any], convert: Callable[..., Any]
) -> dict[str, Any]:
    if given is None:
        return dict(known)
    single = isinstance(given, str | Entry | Task) or callable(given)
    if not single and not isinstance(given, Iterable):
        raise TypeError(
            f"{argument} must be a name, one of {', '.join(known)}, or a list of names, got "
            f"{arguments.describe(given)}"
        )
    several: Any = [given] if single else given.values() if isinstance(given, Named) else given
    found = [convert(argument, each, known) for each in several]
    if not found:
        raise ValueError(f"{argument} must have at least one name of {', '.join(known)}, got none")
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{argument} must have different names, got {name!r} twice")
    return dict(zip(names, found, strict=True))


def _as_entry(argument: str, value: Any, known: Mapping[str, Any]) -> Entry:
    if isinstance(value, Entry):
        if known.get(value.name) is not value:  # The entries of momentax are known to be.
            require_traceable(value.name, value.make, value.default)
        return value
    if isinstance(value, str):
        return known[arguments.as_option(argument, value, tuple(known))]
    try:
        return Entry.of(value)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{argument} must be names of momentax.bench.entries, values of type Entry, or "
            f"functions of a learning rate: {error}"
        ) from error


def _as_task(argument: str, value: Any, known: Mapping[str, Any]) -> Task:
    if isinstance(value, Task):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"{argument} must be names of momentax.bench.tasks or values of type Task, got "
            f"{arguments.describe(value)}"
        )
    return known[arguments.as_option(argument, value, tuple(known))]
