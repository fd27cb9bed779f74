"""What was recorded, and what the statistics say of it; each number is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from momentax.bench import Costs, Result, statistics
from tests.benchmarks.made_worse import ORIGINALS

CONTROL = "nesterov"
TRIALS = (1, 8, 16, 32)  # The columns of the table of trials.
_MOST_COLORED = 6
_UNKNOWN_BELOW = 8  # Trials: too few ran on another seed to say what fewer would reach.


@dataclass(frozen=True, eq=False)
class Record:
    """The recorded results.

    results: all methods on all tasks, with the cosine schedule.
    constant: the same at constant learning rates, or None.
    decay: the same with a weight decay that is searched too, or None.
    repeat: some methods again with other seeds, or None.
    held_out: the methods on the held-out variants of the tasks, or None.
    made_worse: a copy of a method, and methods that were made worse on purpose, or None.
    costs: what a step of each method costs, or None.
    """

    results: Result
    constant: Result | None = None
    decay: Result | None = None
    repeat: Result | None = None
    held_out: Result | None = None
    made_worse: Result | None = None
    costs: Costs | None = None

    @classmethod
    def read(cls) -> Record | None:
        """Return what comes with momentax; None if it has no speed-ups beside Nesterov's."""
        names = ("results", "constant", "decay", "repeat", "held_out", "made_worse")
        results, constant, decay, repeat, held_out, made_worse = map(_recorded, names)
        if results is None or not results.speed_ups.tasks:
            return None
        if CONTROL not in results.methods or len(results.methods) < 2:
            return None
        if repeat is not None and CONTROL not in repeat.methods:
            repeat = None
        return cls(results, constant, decay, repeat, held_out, made_worse, _recorded_costs())

    @cached_property
    def overall(self) -> Any:
        """The means over all tasks, the fastest method first."""
        return self.results.overall()

    @cached_property
    def pairs(self) -> Any:
        """All pairs of methods."""
        return self.results.pairs()

    @cached_property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """The comparison of each method with Nesterov's momentum, by method and task."""
        found: dict[str, dict[str, Any]] = {name: {} for name in self.overall.methods}
        for task, row in self.results.compare(CONTROL).items():
            for method, each in row.items():
                found[method][task] = each
        return {name: each for name, each in found.items() if each}

    @cached_property
    def repeated(self) -> dict[str, dict[str, Any]]:
        """The comparison of the second run, by task and method."""
        return {} if self.repeat is None else self.repeat.compare(CONTROL)

    @property
    def claims(self) -> list[tuple[str, str]]:
        """The verdicts of both runs on each comparison that the first one decided."""
        return [
            (each.verdict, self.repeated[task][method].verdict)
            for method, row in self.verdicts.items()
            for task, each in row.items()
            if each.verdict in ("better", "worse") and method in self.repeated.get(task, {})
        ]

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """Each method that fails a held-out variant, and the variant."""
        if self.held_out is None:
            return []
        found = self.results.fail_where_variants_fail(self.held_out, CONTROL)
        return [
            (method, variant)
            for (_, method), cell in found.cells.items()
            for variant in cell.failed
        ]

    @cached_property
    def against_originals(self) -> dict[str, dict[str, Any]]:
        """The comparison of each method that was made worse with its original, by task."""
        if self.made_worse is None:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for name in self.made_worse.methods:
            original = ORIGINALS[name]
            both = self.made_worse.select([name]).join(self.results.select([original]))
            rows = both.compare(original)
            found[name] = {task: rows[task][name] for task in self.made_worse.tasks}
        return found

    def tasks_with(self, method: str, verdict: str) -> list[str]:
        """Return the tasks on which a method has a verdict."""
        row = self.verdicts.get(method, {})
        return [task for task, each in row.items() if each.verdict == verdict]

    @cached_property
    def colored(self) -> list[str]:
        """The methods that have colours in the pictures, the same in all of them."""
        usual = [name for name in (CONTROL, "sgd") if name in self.overall.methods]
        order = np.argsort(-self.overall.area, kind="stable")
        best = [name for name in (self.overall.methods[i] for i in order) if name not in usual]
        return [*best[: _MOST_COLORED - len(usual)], *usual]

    @cached_property
    def common_tasks(self) -> list[str]:
        """The tasks with a reference curve on which every method was run."""
        cells, methods = self.results.cells, self.results.methods
        tasks = self.results.speed_ups.tasks
        return [task for task in tasks if all((task, name) in cells for name in methods)]

    @cached_property
    def counts(self) -> np.ndarray:
        """The numbers of trials k for which the expected best is computed."""
        n = self.results.protocol.trials
        several = np.geomspace(min(_UNKNOWN_BELOW, n), n, 9).round()
        # 2 and 4 are unknown for most n; they keep a picture from joining 1 to the next one.
        return np.unique([1, n, *several.astype(int), *(k for k in (2, 4, *TRIALS) if k <= n)])

    def expected(self, task: str, method: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the speed-up of the expected best of k trials on a task, for k in `counts`.

        Returns:
            The speed-ups, their band of shape (2, counts), and the speed-up of the default.
        """
        curve = self.results.curves[task]
        found = self.results.expected_best(task, method, counts=self.counts)
        mean, low, high = (_convert(curve, y) for y in (found.mean, *found.band))
        default = float(curve.speed_up(self.results.cells[task, method].tuning[0]))
        return mean, np.stack([high, low]), default

    @cached_property
    def expected_overall(self) -> tuple[np.ndarray, np.ndarray]:
        """The geometric mean of `expected` over the common tasks, and that of the defaults.

        The shapes are (methods, counts) and (methods,), in the order of `overall`.
        """
        means, defaults = [], []
        for method in self.overall.methods:
            rows = [self.expected(task, method) for task in self.common_tasks]
            means.append(statistics.geometric_mean(np.stack([row[0] for row in rows], -1)).value)
            defaults.append(statistics.geometric_mean([row[2] for row in rows]).value)
        return np.array(means), np.array(defaults)

    @cached_property
    def matches(self) -> dict[str, dict[str, int | None]]:
        """After how many trials each method is as good as the tuned control, by task."""
        results, cells = self.results, self.results.cells
        tuned = [t for t in results.tasks if (t, CONTROL) in cells and not cells[t, CONTROL].edge]
        return {
            name: {
                task: results.trials_to_match(task, name, CONTROL)
                for task in tuned
                if (task, name) in cells
            }
            for name in self.overall.methods
        }

    @cached_property
    def regions(self) -> dict[str, list[Any]]:
        """The sensitivity of each method on each task that it was run on."""
        tasks, cells = self.results.speed_ups.tasks, self.results.cells
        return {
            name: [self.results.sensitivity(t, name) for t in tasks if (t, name) in cells]
            for name in self.overall.methods
        }

    @cached_property
    def single(self) -> dict[str, Any]:
        """The best single setting of each method that has a rank."""
        o = self.overall
        ranked = [name for name, count in zip(o.methods, o.task_counts, strict=True) if count]
        return {name: self.results.best_single_setting(name) for name in ranked}


def _recorded(name: str) -> Result | None:
    try:
        return Result.recorded(name)
    except FileNotFoundError:
        return None


def _recorded_costs() -> Costs | None:
    try:
        return Costs.recorded()
    except FileNotFoundError:
        return None


def _convert(curve: Any, scores: Any) -> np.ndarray:
    """Return the speed-ups of scores, NaN where a score is unknown."""
    scores = np.asarray(scores)
    known, found = np.isfinite(scores), np.full(scores.shape, np.nan)
    found[known] = curve.speed_up(scores[known])
    return found
