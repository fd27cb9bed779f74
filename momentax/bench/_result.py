"""The result of a comparison: its cells, and what the statistics say of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from momentax._core import arguments, lazy
from momentax.bench import _facts, _files, statistics
from momentax.bench._analyses import Analyses
from momentax.bench._differences import (
    protocol_differences,
    setting_differences,
    space_differences,
    task_differences,
    version_differences,
)
from momentax.bench._fields import require_fields
from momentax.bench._overall import seed_samples
from momentax.bench._protocol import Cell, Protocol
from momentax.bench._reference import reference_curves
from momentax.bench._space import Space, joined_spaces, spaces_of
from momentax.bench._table import UNDECIDED, Table, make_table, rows_of_cells
from momentax.bench._tasks import tasks
from momentax.bench.statistics import Comparison, ReferenceCurve, SpeedUps

if TYPE_CHECKING:
    import pandas

CONTROL = "nesterov"
_RECORDED = ("results", "constant", "decay", "repeat", "held_out", "made_worse")
_INSTALLED = ("in the result", "installed here")
_SMALLEST = 1e-3  # In units of log₁₀: 0.2% of a loss. Rounding alone makes smaller differences.


@dataclass(frozen=True, eq=False, repr=False)
class Result(Analyses):
    """Methods that were tuned and evaluated on tasks by one protocol.

    cells: a Cell for each pair of a task and a method, by their names.
    protocol: the numbers of runs, their seeds and their schedule.
    about: the versions, the settings of JAX, the processor and the hours that the runs took.
    hashes: of each task, the hash of its data and code.
    spaces: of each method, the space in which its hyperparameters were searched. Without it their
        values are known for the chosen trials only.

    Raises:
        TypeError: A field is of another type, or lacks an entry.

    The scores of a cell are y = log₁₀(loss above the infimum) on the evaluation seeds. A cell whose
    choice lies at an edge of its search range has no rank: a wider range might have been better.
    """

    cells: Mapping[tuple[str, str], Cell]
    protocol: Protocol
    about: Mapping[str, Any]
    hashes: Mapping[str, str]
    spaces: Mapping[str, Space] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_fields(self)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return list(dict.fromkeys(task for task, _ in self.cells))

    @property
    def methods(self) -> list[str]:
        """The names of the methods."""
        return list(dict.fromkeys(method for _, method in self.cells))

    def scores(self, *, edges: bool = False) -> dict[str, dict[str, np.ndarray]]:
        """Return the evaluation scores, as the functions of `statistics` take them.

        Args:
            edges: Whether to include cells without a rank.

        Raises:
            TypeError: edges is not a bool.
        """
        edges = arguments.as_flag("edges", edges)
        found: dict[str, dict[str, np.ndarray]] = {task: {} for task in self.tasks}
        for (task, method), cell in self.cells.items():
            if edges or not cell.edge:
                found[task][method] = np.asarray(cell.evaluation)
        return {task: each for task, each in found.items() if each}

    @cached_property
    def _reference(self) -> tuple[Mapping[str, ReferenceCurve], list[str]]:
        """The reference curves of the tasks, and why tasks have none."""
        return reference_curves(self.hashes)

    @property
    def curves(self) -> Mapping[str, ReferenceCurve]:
        """The reference curve of each task that has one, which converts scores into speed-ups."""
        return self._reference[0]

    @cached_property
    def speed_ups(self) -> SpeedUps:
        """How many times the steps tuned Nesterov would need for the same loss, by method and task.

        They rest on the reference curves that come with momentax, are clipped to [1/4, 4], and
        leave out tasks without such a curve. The curves are those of Nesterov without weight decay
        under the cosine schedule, also for a result with weight decay or at constant rates. Use
        `compare` for a comparison in which both sides have weight decay.
        """
        curves, _ = self._reference
        methods, tasks = tuple(self.methods), tuple(t for t in self.tasks if t in curves)
        values = np.full((len(methods), len(tasks)), np.nan)
        beyond = np.zeros(values.shape, int)
        scores = {task: each for task, each in self.scores().items() if task in curves}
        if scores:
            found = statistics.speed_ups(scores, curves)
            rows = [methods.index(name) for name in found.methods]
            columns = [tasks.index(name) for name in found.tasks]
            values[np.ix_(rows, columns)] = found.values
            beyond[np.ix_(rows, columns)] = found.beyond
        return SpeedUps(methods, tasks, values, beyond)

    def compare(
        self, control: str | None = None, *, edges: bool = True
    ) -> dict[str, dict[str, Comparison]]:
        """Compare every method with one of them, on each task, seed by seed.

        Args:
            control: The name of the method to compare with. None is "nesterov", or the first method
                where that is missing.
            edges: Whether to compare cells at an edge of their range too. There a wider range might
                have given a better setting. Nothing is called better than a control at an edge,
                and a method at an edge is never called worse: both are "not distinguishable".

        Returns:
            The `statistics.Comparison` of each method on each task that has the control, with
            p-values adjusted by Holm's method for all comparisons. A difference must also exceed
            0.001, which is 0.2% of the loss. The test treats the chosen settings as fixed, so that
            a method can be called better only because its tuning was lucky. More trials reduce
            this risk; `overall` shows it as the interval over tuning.

        Raises:
            ValueError: control is not one of the methods, or has no rank on any task.
            TypeError: edges is not a bool.
        """
        edges = arguments.as_flag("edges", edges)
        control = self._as_control(control)
        scores = {task: each for task, each in self.scores(edges=edges).items() if control in each}
        if not scores:
            raise ValueError(f"no task has a result of {control} inside of its search range")
        found = statistics.compare_all(scores, control, smallest_difference=_SMALLEST)
        return {
            task: {
                method: self._undecided_at_edge(
                    each, self.cells[task, method], self.cells[task, control]
                )
                for method, each in row.items()
            }
            for task, row in found.items()
        }

    def _undecided_at_edge(self, found: Comparison, cell: Cell, control: Cell) -> Comparison:
        if (found.verdict == "better" and control.edge) or (found.verdict == "worse" and cell.edge):
            return found._replace(verdict=UNDECIDED)
        return found

    def _as_control(self, control: Any) -> str:
        if control is None and self.methods:
            return CONTROL if CONTROL in self.methods else self.methods[0]
        return arguments.as_option("control", control, self.methods)

    def table(self, control: str | None = None) -> Table:
        """Return the speed-up of each method on each task.

        The rows are sorted by the number of tasks with a rank, then by the speed-up over all tasks,
        which is the geometric mean. Where a task has no reference curve, its column has the mean
        score.

        Args:
            control: The method with which each is compared, as for `compare`. A cell without the
                word better or worse is not distinguishable from it.

        Raises:
            ValueError: control is not one of the methods.
        """
        return make_table(self, self._as_control(control))

    def differences_from_installed(self) -> list[str]:
        """List what differs between this installation and the one that made the results."""
        now = {name: _facts.task_hash(tasks[name]) for name in self.tasks if name in tasks}
        return [
            *version_differences(self.about["versions"], _facts.versions(), _INSTALLED),
            *setting_differences(self.about, {"settings": _facts.settings()}, _INSTALLED),
            *task_differences(self.hashes, now),
        ]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a row for each cell.

        Returns:
            A pandas DataFrame with the columns task, method, score and score_sd (of y over the
            evaluation seeds), speed_up, validation, chosen, diverged_trials,
            diverged_runs, edge, widened, failed, and one for each hyperparameter.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"to_dataframe needs {error.name}; install it with "
                "`pip install 'momentax[results]'`",
                name=error.name,
            ) from None
        return pandas.DataFrame(rows_of_cells(self))

    def plot(self, *, ax: Any = None) -> Any:
        """Draw the speed-up of each method: over all tasks with its interval, and on each task.

        If no task has a reference curve, the picture shows a ratio of losses instead: that of the
        control over that of the method, of (loss - infimum + floor). Above 1 the method is better.

        Args:
            ax: matplotlib axes, or None for a new figure.

        Returns:
            The axes.
        """
        S = self.speed_ups
        if not S.tasks:
            control = self._as_control(None)
            ratios = [
                [10.0 ** self._advantage(task, method, control) for task in self.tasks]
                for method in self.methods
            ]
            label = f"loss ratio, {control} / method; above 1 the method is better"
            return lazy.plot("speed_ups", self.methods, self.tasks, ratios, label=label, ax=ax)
        samples = seed_samples(self, 10_000, 0)
        low, high = statistics.bootstrap_interval(statistics.geometric_mean(samples).value)
        return lazy.plot("speed_ups", S.methods, S.tasks, S.values, intervals=(low, high), ax=ax)

    def _advantage(self, task: str, method: str, control: str) -> float:
        """Return by how much the mean score of a method is lower than that of the control."""
        pair = [self.cells.get((task, name)) for name in (control, method)]
        low, high = (np.nan if each is None else np.mean(each.evaluation) for each in pair)
        return float(low - high)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, from which `load` makes the result again, with 6 significant digits.

        Args:
            path: The path of the file.

        Raises:
            OSError: The file cannot be written.
        """
        content = _files.as_content(self.cells, self.protocol, self.about, self.hashes, self.spaces)
        _files.write(Path(arguments.as_path("path", path)), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Read a file that `save` wrote.

        Args:
            path: The path of the file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no such file.
        """
        return _files.load(path, "a result", cls._of)

    @classmethod
    def recorded(cls, name: str = "results") -> Result:
        """Return the results that come with momentax.

        Args:
            name: "results" for the cosine schedule, "constant" for constant rates, "decay" with
                weight decay, "repeat" for three methods with other seeds, "held_out" for the
                variants of tasks, or "made_worse" for a copy of heavy ball and three methods that
                were made worse on purpose. This version has "results", "constant",
                "decay", "repeat" and "made_worse".

        Raises:
            FileNotFoundError: This version of momentax has no such results.
        """
        name = arguments.as_option("name", name, _RECORDED)
        return cls._of(_files.recorded(name))

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Result:
        _files.require_format(content)
        return cls(
            _files.cells_of(content),
            Protocol(**content["protocol"]),
            content["about"],
            content["tasks"],
            spaces_of(content.get("spaces", {})),
        )

    def select(
        self, methods: Sequence[str] | None = None, tasks: Sequence[str] | None = None
    ) -> Result:
        """Return the result of some methods on some tasks.

        Args:
            methods: Names; None keeps all.
            tasks: Names; None keeps all.

        Raises:
            ValueError: A name is not one of those of the result.
            TypeError: methods or tasks is not a list of names.
        """
        names, on = (
            known if given is None else _as_names(argument, given, known)
            for argument, given, known in (
                ("methods", methods, self.methods),
                ("tasks", tasks, self.tasks),
            )
        )
        kept = {key: cell for key, cell in self.cells.items() if key[0] in on and key[1] in names}
        hashes = {task: each for task, each in self.hashes.items() if task in on}
        spaces = {name: each for name, each in self.spaces.items() if name in names}
        return Result(kept, self.protocol, self.about, hashes, spaces)

    def join(self, other: Result, *, anyway: bool = False) -> Result:
        """Return a result with the methods and the tasks of both.

        Args:
            other: The result to add; a method that both have stays as it is here.
            anyway: Whether to join results that differ in versions, in the kind of device or the
                settings of JAX, in the code of a task, in the number of trials or in the search
                space of a method. Their differences may then come from these.

        Raises:
            ValueError: The results differ in the seeds, the schedule, the number of steps or the
                weight decay. Unless anyway is True: they differ in the versions of momentax, JAX
                or Optax, the kind of device, 64-bit mode, random keys, the hash of a task, the
                number of trials, or the search space of a method that both have, on different
                tasks. The message names the differences.
            TypeError: other is not a Result, or anyway is not a bool.
        """
        anyway = arguments.as_flag("anyway", anyway)
        if not isinstance(other, Result):
            raise TypeError(f"other must be a Result, got {arguments.describe(other)}")
        faults = protocol_differences(self.protocol, other.protocol)
        remedy = "" if faults else "; anyway=True joins them in spite of that"
        if not anyway:
            faults += version_differences(self.about["versions"], other.about["versions"])
            faults += setting_differences(self.about, other.about)
            faults += task_differences(self.hashes, other.hashes)
            faults += protocol_differences(self.protocol, other.protocol, ["trials"])
            faults += space_differences(self, other)
        if faults:
            raise ValueError(f"the results cannot be compared: {'; '.join(faults)}{remedy}")
        cells = dict(self.cells)
        for key, cell in other.cells.items():
            cells.setdefault(key, cell)
        hashes = {**other.hashes, **self.hashes}
        spaces = joined_spaces(self.spaces, other.spaces)
        return Result(cells, self.protocol, self.about, hashes, spaces)


def _as_names(argument: str, given: Any, known: list[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"{argument} must be a list of names, such as {known[:2]}, got "
            f"{arguments.describe(given)}"
        )
    return [arguments.as_option(argument, name, known) for name in given]
