"""What a step of each method costs: the record and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from momentax._core import arguments
from momentax.bench import _files
from momentax.bench._fields import require_record
from momentax.bench._table import Table

BASELINE, REFERENCE = "sgd", "nesterov"


class Cost(NamedTuple):
    """What a training step of a method costs on a task.

    milliseconds: the time of a step: the loss, its gradient and the update. The median over rounds.
    ratio: that time over the time of a step of plain gradient descent in the same round, the median
        over rounds.
    compile_seconds: the time to trace and to compile a loop of such steps.
    bytes_per_parameter: the memory of the optimizer's state for each entry of the parameters.
    gradients: how often a step evaluates the gradient of the loss.
    loss_evaluations: how often a step evaluates the loss without its gradient.
    """

    milliseconds: float
    ratio: float
    compile_seconds: float
    bytes_per_parameter: float
    gradients: float
    loss_evaluations: float


@dataclass(frozen=True, eq=False, repr=False)
class Costs:
    """The costs of a step of methods on tasks. `print` and a notebook show a table.

    cells: a Cost for each pair of a task and a method, by their names.
    about: the versions, the processor and the time that the measurement took.
    hashes: of each task, the hash of its data and code.

    Raises:
        TypeError: A field is of another type, or lacks an entry.
    """

    cells: Mapping[tuple[str, str], Cost]
    about: Mapping[str, Any]
    hashes: Mapping[str, str]

    def __post_init__(self) -> None:
        require_record(self, Cost, "costs")

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return list(dict.fromkeys(task for task, _ in self.cells))

    @property
    def methods(self) -> list[str]:
        """The names of the methods."""
        return list(dict.fromkeys(method for _, method in self.cells))

    def table(self) -> Table:
        """Return the table: a row for each task and method."""
        head = ["task", "method", "ms a step", "times SGD", "compile s", "bytes a parameter"]
        rows = [[*head, "gradients a step"]]
        for (task, method), cost in self.cells.items():
            times = [f"{each:.3g}" for each in cost[:3]]
            gradients = f"{cost.gradients:.3g}"
            if cost.loss_evaluations:
                gradients += f" and {cost.loss_evaluations:.3g} losses"
            rows.append([task, method, *times, f"{cost.bytes_per_parameter:.3g}", gradients])
        note = "Times SGD: the time of a step over that of plain gradient descent."
        if processor := self.about.get("processor"):
            note += f" Measured on {processor}."
        return Table(rows, note)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, from which `load` makes the record again, with 6 significant digits.

        Args:
            path: The path of the file.

        Raises:
            OSError: The file cannot be written.
        """
        content = {
            "format": _files.FORMAT,
            "about": dict(self.about),
            "tasks": dict(self.hashes),
            "costs": {"/".join(key): cost._asdict() for key, cost in self.cells.items()},
        }
        _files.write(Path(arguments.as_path("path", path)), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Read a file that `save` wrote.

        Args:
            path: The path of the file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no such file.
        """
        return _files.load(path, "costs", cls._of)

    @classmethod
    def recorded(cls) -> Costs:
        """Return the costs that come with momentax, of all methods on all tasks.

        Raises:
            FileNotFoundError: This version of momentax has none.
        """
        return cls._of(_files.recorded("costs"))

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Costs:
        _files.require_format(content)
        return cls(_cells_of(content["costs"]), content["about"], content["tasks"])


def recorded_times(hashes: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Return the recorded time of a step over that of Nesterov's, by task and method.

    hashes: the hash of each task. Tasks of another version have no times, and neither have tasks
        without a time of Nesterov's.
    """
    try:
        content = _files.recorded("costs")
    except FileNotFoundError:
        return {}
    cells = _cells_of(content.get("costs", {}))
    return {
        (task, method): cost.ratio / cells[task, REFERENCE].ratio
        for (task, method), cost in cells.items()
        if (task, REFERENCE) in cells and content["tasks"].get(task) == hashes.get(task, "")
    }


def _cells_of(costs: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], Cost]:
    cells = {}
    for name, fields in costs.items():
        task, method = name.split("/", 1)
        cells[task, method] = Cost(**fields)
    return cells
