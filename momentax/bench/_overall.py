"""Methods over all tasks: means with their intervals, what they rest on, and all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from momentax._core.typing import Reals
from momentax.bench import statistics
from momentax.bench._costs import recorded_times
from momentax.bench._table import Table
from momentax.bench.statistics import Interval, SpeedUps, Tuning
from momentax.bench.statistics._arrays import methods_of


class Range(NamedTuple):
    """The smallest and the largest of several values. It is no confidence interval.

    low: the smallest, a number or an array.
    high: the largest, of the same shape.
    """

    low: float | Reals
    high: float | Reals


class Overall(NamedTuple):
    """The speed-ups of methods over all tasks. `str` and a notebook show a table.

    S is the speed-up of a method on a task: tuned Nesterov would need S times the steps for the
    same score. G is the geometric mean of S over tasks. A method has a rank on a task if its best
    setting does not lie at an end of its search range.

    Each array has one entry for each method, NaN where nothing is known. The methods with a rank
    on most tasks come first, and among these the fastest.

    methods: their names.
    tasks: the names of the tasks that have a reference curve.
    speed_ups: S of each method on each task, shape (methods, tasks); NaN where there is no rank.
    beyond: of each S, 1 or -1 where it was clipped at 4 or at 1/4, and otherwise 0.
    mean: G over the tasks on which the method has a rank.
    task_counts: the number of these tasks. Means over different tasks cannot be compared.
    seed_interval: the 95 % interval of G over the evaluation seeds.
    tuning_interval: the 95 % interval of G over the trials of the tuning.
    leave_one_out: the `Range` of G if one task is left out.
    order_changes: of each task, the pairs of methods that change places without it, each pair
        compared on the tasks that both have. Each pair lists first the method with the larger mean
        over all common tasks.
    area: the mean over the tasks of max(0, 4 - r) / 3, where r is the best speed-up on the task
        over that of the method. It is in [0, 1]; a task without a rank of the method counts as 0.
        AlgoPerf calls it the mean height of the performance profile.
    in_first_group: whether the method cannot be told from the leader, which is the fastest of those
        with most ranks. Each is compared with it on the tasks that both have.
    common: the tasks on which every method with any rank has one.
    common_mean: G over these tasks alone.
    in_time: G of the speed-ups in time, from recorded costs: each S is divided by the milliseconds
        of a step of the method over those of a step of Nesterov. NaN where momentax has no
        recorded costs of the method on one of its tasks.
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    speed_ups: Reals
    beyond: np.ndarray
    mean: Reals
    task_counts: np.ndarray
    seed_interval: Interval
    tuning_interval: Interval
    leave_one_out: Range
    order_changes: Mapping[str, list[tuple[str, str]]]
    area: Reals
    in_first_group: np.ndarray
    common: tuple[str, ...]
    common_mean: Reals
    in_time: Reals

    def table(self) -> Table:
        """Return the table: a row for each method."""
        incomplete = bool(self.common) and len(self.common) < len(self.tasks)
        timed = bool(np.isfinite(self.in_time).any())
        head = [
            "method",
            "speed-up",
            "tasks",
            "over seeds",
            "over tuning",
            "without one",
            "profile",
        ]
        head += ["on common tasks"] * incomplete + ["in time"] * timed + ["first group"]
        rows = [head]
        for i, method in enumerate(self.methods):
            row = [method, f"{self._sign(i)}{_number(self.mean[i])}", str(self.task_counts[i])]
            row += [_span(each, i) for each in (self.seed_interval, self.tuning_interval)]
            row += [_span(self.leave_one_out, i)]
            row += [_number(self.area[i])]
            row += [_number(self.common_mean[i])] * incomplete
            row += [_number(self.in_time[i])] * timed
            rows.append([*row, "yes" if self.in_first_group[i] else ""])
        return Table(rows, self._note(incomplete, timed))

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def _sign(self, i: int) -> str:
        """Return the sign of a mean that is a bound, since a speed-up in it was clipped."""
        sides = {*self.beyond[i].tolist()} - {0}
        return {(1,): ">", (-1,): "<"}.get(tuple(sides), "~" if sides else "")

    def _note(self, incomplete: bool, timed: bool) -> str:
        sentences = [
            "Speed-up S: tuned Nesterov would need S times the steps for the same loss; above 1 is "
            "faster. It is the geometric mean over the tasks on which the method has a rank. Over "
            "seeds, over tuning: its 95 % intervals if other seeds were evaluated or other trials "
            "drawn; a claim has to hold in both. The second lies mostly below the mean, since a "
            "draw often lacks the best trial. Without one: its smallest and largest value if one "
            "task is left out. Profile: the mean height of the performance profile, from 0 to 1; "
            "higher is better. First group: not distinguishable from the leader on the tasks that "
            "both have."
        ]
        if self.beyond.any():
            sentences.append(
                "> and <: the mean is a bound, since a speed-up in it was clipped at 4 (>) or at "
                "1/4 (<); ~: speed-ups in it were clipped at both."
            )
        if incomplete:
            sentences.append(
                "Means over different tasks cannot be compared; all methods have a rank on "
                f"{', '.join(self.common)}."
            )
        elif not self.common and len({*self.task_counts.tolist()} - {0}) > 1:
            sentences.append(
                "Means over different tasks cannot be compared, and there is no task on which all "
                "methods have a rank."
            )
        if timed:
            sentences.append(
                "In time: speed-up divided by (ms per step of the method / ms per step of "
                "Nesterov), from recorded costs."
            )
        changing = {task: len(pairs) for task, pairs in self.order_changes.items() if pairs}
        if changing:
            listed = ", ".join(f"{count} without {task}" for task, count in changing.items())
            sentences.append(
                f"Pairs of methods that change places if one task is left out: {listed}."
            )
        return " ".join(sentences)


class MethodPairs(NamedTuple):
    """The overall speed-up of each method relative to each other one. `str` shows a table.

    Each array has the shape (methods, methods). A method has a rank on a task if its best setting
    does not lie at an end of its search range. NaN stands where two methods have a rank on no
    common task.

    methods: their names, in the order of the rows and columns.
    task_counts: the number of tasks on which both have a rank.
    ratios: G of the method of the row over G of that of the column, over these tasks.
    low: the lower end of the 95 % interval of the ratio over the evaluation seeds.
    high: its upper end.
    adjusted: the p-value by Holm's method over all pairs; NaN on the diagonal.
    decided: whether the adjusted p is at most 0.05 and the 95 % interval excludes 1.
    """

    methods: tuple[str, ...]
    task_counts: np.ndarray
    ratios: Reals
    low: Reals
    high: Reals
    adjusted: Reals
    decided: np.ndarray

    def table(self) -> Table:
        """Return the table of the ratios, in which * marks those that are decided."""
        rows = [["method", *self.methods]]
        for i, method in enumerate(self.methods):
            texts = [
                "" if i == j else f"{_number(ratio)}{'*' if self.decided[i, j] else ''}"
                for j, ratio in enumerate(self.ratios[i])
            ]
            rows.append([method, *texts])
        note = (
            "The speed-up of the method of the row over that of the column, on the tasks that both "
            "have; above 1, the method of the row is faster. *: they differ, since the p-value, "
            "adjusted by Holm's method for all pairs, is at most 0.05 and the 95 % interval "
            "excludes 1. Both are over the seeds, with the chosen settings fixed."
        )
        return Table(rows, note)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def overall(result: Any, resamples: int, seed: int) -> Overall:
    """Average the speed-ups of a result, of type Result, over its tasks."""
    found = require_speed_ups(result)
    mean = statistics.geometric_mean(found.values)
    order = np.lexsort((-mean.value, -mean.tasks))
    S = found._replace(methods=tuple(found.methods[i] for i in order), values=found.values[order])
    G, counts = mean.value[order], mean.tasks[order]
    draws = seed_samples(result, resamples, seed)[:, order]
    trials = _trial_samples(result, resamples, seed)[:, order]
    complete = np.all(~np.isnan(S.values[counts > 0]), axis=0)
    common = statistics.geometric_mean(np.where(complete, S.values, np.nan)).value
    return Overall(
        methods=S.methods,
        tasks=S.tasks,
        speed_ups=S.values,
        beyond=found.beyond[order],
        mean=G,
        task_counts=counts,
        seed_interval=_interval_of_mean(draws),
        tuning_interval=_interval_of_mean(trials),
        leave_one_out=_leave_one_out(S.values),
        order_changes=_order_changes(S),
        area=statistics.profile_area(S.values),
        in_first_group=_first_group(S.values, draws, G, counts),
        common=tuple(S.tasks[i] for i in np.flatnonzero(complete)),
        common_mean=np.where(counts > 0, common, np.nan),
        in_time=_in_time(S, result.hashes),
    )


def pairs(result: Any, resamples: int, seed: int) -> MethodPairs:
    """Compare all pairs of methods of a result, of type Result, over its tasks."""
    S = require_speed_ups(result)
    if len(S.methods) < 2:
        raise ValueError(f"a result needs at least 2 methods for pairs, and has {len(S.methods)}")
    found = statistics.compare_pairs(S.values, seed_samples(result, resamples, seed))
    has_rank = (~np.isnan(S.values)).astype(int)
    return MethodPairs(S.methods, has_rank @ has_rank.T, *found)


def require_speed_ups(result: Any) -> SpeedUps:
    """Return the speed-ups of a result, or refuse one without any."""
    S = result.speed_ups
    if not S.tasks:
        _, faults = result._reference
        reasons = f": {'; '.join(faults)}" if faults else ""
        raise ValueError(f"the result has no task with a reference curve for speed-ups{reasons}")
    if np.isnan(S.values).all():
        raise ValueError(
            "no method of the result has a rank on a task with a reference curve, since every best "
            "setting lies at an end of its search range"
        )
    return S


def seed_samples(result: Any, resamples: int, seed: int) -> Reals:
    """Return resamples over the evaluation seeds, in the order of the result's speed-ups."""
    curves, _ = result._reference
    scores = {task: each for task, each in result.scores().items() if task in curves}
    if not scores:
        return np.full((resamples, *result.speed_ups.values.shape), np.nan)
    draws = statistics.bootstrap_seeds(scores, curves, resamples, seed)
    return _in_order(result.speed_ups, scores, draws)


def _trial_samples(result: Any, resamples: int, seed: int) -> Reals:
    """Return resamples over the trials of the tuning, in the order of the result's speed-ups."""
    curves, _ = result._reference
    tuning = {
        task: {
            method: Tuning(cell.tuning, cell.finals, cell.evaluation)
            for method, cell in ((name, result.cells[task, name]) for name in each)
        }
        for task, each in result.scores().items()
        if task in curves
    }
    draws = statistics.bootstrap_trials(tuning, curves, resamples, seed)
    return _in_order(result.speed_ups, tuning, draws)


def _in_order(S: SpeedUps, table: Mapping[str, Mapping[str, Any]], draws: Reals) -> Reals:
    """Return resamples of a table in the order of speed-ups, NaN where the table has no cell."""
    found = np.full((len(draws), *S.values.shape), np.nan)
    rows = [S.methods.index(name) for name in methods_of(table)]
    columns = [S.tasks.index(name) for name in table]
    found[:, np.array(rows)[:, None], columns] = draws
    return found


def _interval_of_mean(draws: Reals) -> Interval:
    return statistics.bootstrap_interval(statistics.geometric_mean(draws).value)


def _leave_one_out(S: Reals) -> Range:
    """Return the range of each mean if one of the tasks with a rank of the method is left out."""
    low, high = np.full((2, len(S)), np.nan)
    for i, row in enumerate(S):
        own = row[~np.isnan(row)]
        if len(own) > 1:
            found = statistics.leave_one_out(own[None])
            low[i], high[i] = found.low[0], found.high[0]
    return Range(low, high)


def _order_changes(S: SpeedUps) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of methods that change places without a task, on their common tasks."""
    changes: dict[str, list[tuple[str, str]]] = {task: [] for task in S.tasks}
    for pair in combinations(range(len(S.methods)), 2):
        rows = S.values[list(pair)]
        common = np.flatnonzero(~np.isnan(rows).any(axis=0))
        if len(common) < 2:
            continue
        faster = np.argsort(-statistics.geometric_mean(rows[:, common]).value)
        names = S.methods[pair[faster[0]]], S.methods[pair[faster[1]]]
        changing = statistics.leave_one_out(rows[:, common]).order_changes
        for column in common[changing]:
            changes[S.tasks[column]].append(names)
    return changes


def _first_group(S: Reals, draws: Reals, G: Reals, counts: np.ndarray) -> np.ndarray:
    """Return which methods cannot be told from the fastest of those with most ranks."""
    leader = int(np.nanargmax(np.where(counts == counts.max(), G, np.nan)))
    found = np.zeros(len(S), bool)
    for i in range(len(S)):
        pair = [i, leader]
        common = ~np.isnan(S[pair]).any(axis=0)
        if common.any():
            means = statistics.geometric_mean(S[pair][:, common]).value
            high = _interval_of_mean(draws[:, pair][:, :, common]).high
            found[i] = statistics.leading_group(means, high)[0]
    return found


def _in_time(S: SpeedUps, hashes: Mapping[str, str]) -> Reals:
    """Return the mean speed-ups in time; NaN for a method without the costs of one of its tasks."""
    times = recorded_times(hashes)
    ratios = np.array(
        [[times.get((task, method), np.nan) for task in S.tasks] for method in S.methods]
    )
    found = statistics.geometric_mean(S.values / ratios).value
    lacking = (~np.isnan(S.values) & np.isnan(ratios)).any(axis=1)
    return np.where(lacking, np.nan, found)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def _span(ends: Interval | Range, i: int) -> str:
    low, high = (np.asarray(end)[i] for end in ends)
    return f"{low:.2f} to {high:.2f}" if np.isfinite(low) else ""
