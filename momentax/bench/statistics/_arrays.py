"""Checks of the arrays and tables that the statistics take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from momentax._core.arguments import ANY_REAL, as_count, as_reals, describe
from momentax._core.typing import Reals


def as_row(name: str, value: Any, each: str, *, interval: str = ANY_REAL, least: int = 1) -> Reals:
    """Return a 1-D array of at least so many real numbers, one for each seed, trial or step."""
    array = as_reals(name, value, interval)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one number for each {each}, got {_shape(array)}")
    if len(array) < least:
        raise ValueError(
            f"{name} must hold at least {least} number{'s' * (least > 1)}, one for each {each}, "
            f"got {len(array)}"
        )
    return array


def as_scores(name: str, value: Any, each: str = "seed", *, least: int = 2) -> Reals:
    """Return a 1-D array of finite scores."""
    require_scores(name, value)
    return as_row(name, value, each, least=least)


def require_scores(name: str, value: Any) -> None:
    """Refuse scores that are NaN or infinite, and say what a run that diverged counts with."""
    try:
        finite = np.all(np.isfinite(value))
    except (TypeError, ValueError):  # They are no array of numbers.
        return
    if not finite:
        raise ValueError(
            f"{name} must be finite, got {describe(value)}; a run that diverged counts with the "
            "score of its initial point"
        )


def as_reals_or_nan(name: str, value: Any, interval: str = ANY_REAL) -> Reals:
    """Return real numbers of which some may be NaN; 1 must lie in the interval."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Rows of different lengths, or a traced array.
        return as_reals(name, value, interval)
    if array.dtype.kind != "f":
        return as_reals(name, value, interval)
    missing = np.isnan(array)
    return np.where(missing, np.nan, as_reals(name, np.where(missing, 1, array), interval))


def as_speed_ups(name: str, value: Any, axes: tuple[str, ...] = ("...", "tasks")) -> Reals:
    """Return speed-ups in (0, inf) or NaN, at least one, with the given axes."""
    array = as_reals_or_nan(name, value, "(0, inf)")
    fits = array.ndim >= 1 if axes[0] == "..." else array.ndim == len(axes)
    if not fits or not array.size:
        raise ValueError(
            f"{name} must hold at least one speed-up and have the shape ({', '.join(axes)}), got "
            f"{_shape(array)}"
        )
    return array


def _shape(array: Reals) -> str:
    return f"an array of shape {array.shape}" if array.ndim else "one number"


def as_seed(value: Any) -> int:
    """Return a seed of NumPy's generator."""
    return as_count("seed", value, least=0, most=2**32 - 1)


def as_nested(name: str, value: Any, kind: str) -> dict[str, dict[str, Any]]:
    """Return a mapping from tasks to mappings from methods, with what `kind` says in each cell."""
    shape = f"{name} must map each task to a mapping from each method to {kind}"
    if not isinstance(value, Mapping):
        raise TypeError(f"{shape}, got {describe(value)}")
    if not value:
        raise ValueError(f"{shape}, and hold at least one task, got an empty mapping")
    for task, cells in value.items():
        if not isinstance(task, str):
            raise TypeError(f"{name} must have the names of tasks as keys, got {describe(task)}")
        if not isinstance(cells, Mapping) or not cells:
            raise TypeError(f"{shape}, got {describe(cells)} for the task {task!r}")
        for method in cells:
            if not isinstance(method, str):
                raise TypeError(
                    f"{name}[{task!r}] must have the names of methods as keys, got "
                    f"{describe(method)}"
                )
    return {task: dict(cells) for task, cells in value.items()}


def as_table(name: str, value: Any) -> dict[str, dict[str, Reals]]:
    """Return a table of scores, in which all methods of a task have the same number of seeds."""
    table = as_nested(name, value, "its scores, one for each evaluation seed")
    for task, cells in table.items():
        for method, scores in cells.items():
            cells[method] = as_scores(f"{name}[{task!r}][{method!r}]", scores)
        lengths = {method: len(scores) for method, scores in cells.items()}
        if len({*lengths.values()}) > 1:
            listed = ", ".join(f"{method} {length}" for method, length in lengths.items())
            raise ValueError(
                f"{name}[{task!r}] must have the same seeds for all methods, got these numbers of "
                f"scores: {listed}"
            )
    return table


def methods_of(table: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the methods of a table in the order in which they first occur."""
    return tuple(dict.fromkeys(method for cells in table.values() for method in cells))
