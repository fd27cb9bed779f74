"""The files of results and of the reference: readable JSON with 6 significant digits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from momentax._core import arguments
from momentax._core.files import write_file
from momentax.bench._entry import trials_of
from momentax.bench._protocol import Cell, Protocol
from momentax.bench._space import Space, spaces_as_content

T = TypeVar("T")

FORMAT = 1
_DIGITS = 6
_LONG = ("cells", "costs", "spaces", "tasks")
_ARRAYS = ("tuning", "finals", "again", "evaluation", "validation", "checkpoints")


def recorded(name: str) -> dict[str, Any]:
    """Return the contents of a file that comes with momentax.

    Args:
        name: "reference" or "costs", or the name of results.

    Raises:
        FileNotFoundError: This version of momentax has no such file.
    """
    file = resources.files("momentax.bench") / "recorded" / f"{name}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"this version of momentax has no recorded {name}") from None


def load(path: Any, noun: str, make: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what `make` makes of the contents of a file.

    Args:
        path: The path of the file.
        noun: What the file holds, such as "a result".
        make: A function that raises KeyError, TypeError or ValueError if the contents are wrong.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds something else.
    """
    file = Path(arguments.as_path("path", path))
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        wrong = f"path {file} cannot be read: {error.strerror}; give the file of {noun}"
        raise OSError(error.errno, wrong) from error
    try:
        return make(json.loads(content))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not hold {noun} of momentax.bench: {error}") from error


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file with one line for each entry of the dictionaries in `_LONG`."""
    parts = []
    for key, value in content.items():
        if key in _LONG:
            lines = (f"  {json.dumps(name)}: {_line(each)}" for name, each in value.items())
            text = "{\n" + ",\n".join(lines) + "\n }"
        else:
            text = _line(value)
        parts.append(f" {json.dumps(key)}: {text}")
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    write_file(path, lambda file: file.write(text.encode()))


def as_content(
    cells: Mapping[tuple[str, str], Cell],
    protocol: Protocol,
    about: Mapping[str, Any],
    tasks: Mapping[str, str],
    spaces: Mapping[str, Space],
) -> dict[str, Any]:
    """Return what the file of a result holds.

    tasks: the hash of each task.
    spaces: the search space of each method.
    """
    with_trials = {
        name: space._replace(trials=trials_of(space.ranges, space.default, protocol.trials))
        if space.trials is None
        else space
        for name, space in spaces.items()
    }
    return {
        "format": FORMAT,
        "about": dict(about),
        "protocol": protocol._asdict(),
        "tasks": dict(tasks),
        "spaces": spaces_as_content(with_trials),
        "cells": {f"{task}/{entry}": cell._asdict() for (task, entry), cell in cells.items()},
    }


def require_format(content: Mapping[str, Any]) -> None:
    """Refuse a file of a later version."""
    if content["format"] != FORMAT:
        raise ValueError(
            f"it has the format {content['format']}, and this version of momentax reads {FORMAT}"
        )


def cells_of(content: Mapping[str, Any]) -> dict[tuple[str, str], Cell]:
    """Return the cells of a file, by task and entry."""
    cells = {}
    for name, fields in content["cells"].items():
        task, entry = name.split("/", 1)
        cells[task, entry] = as_cell(fields)
    return cells


def as_cell(fields: Mapping[str, Any]) -> Cell:
    """Return a cell from its fields as JSON has them, with None for NaN."""
    arrays = {
        name: np.asarray([math.nan if x is None else x for x in fields[name]], np.float64)
        for name in _ARRAYS
    }
    tuples = {name: tuple(fields.get(name, ())) for name in ("diverged", "widened", "failed")}
    return Cell(**{**fields, **arrays, **tuples})


def _line(value: Any) -> str:
    return json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False)


def _rounded(value: Any) -> Any:
    """Return a value for JSON; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_rounded(each) for each in value]
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None
    return value.item() if isinstance(value, np.generic) else value
