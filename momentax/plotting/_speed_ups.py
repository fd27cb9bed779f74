"""The speed-ups of a comparison of methods: over all tasks, and on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from momentax._core.arguments import as_reals, as_text, describe
from momentax.plotting._style import COLORS, legend_below, new_axes

_MARKERS = "osD^vPX*"  # Dots that can be told apart in grey.
_TICKS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_FACTOR = 100  # Between the ends of an axis with ticks by factors of 2.
_ROW = 0.32  # Inches.


def speed_ups(
    methods: Sequence[str],
    tasks: Sequence[str],
    values: ArrayLike,
    *,
    intervals: ArrayLike | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the speed-up of each method on each task, and over all tasks.

        G = exp(mean over tasks of log S)

    A row is a method, the one with the largest G at the top. A small mark is its speed-up S on one
    task, and a vertical bar is G, with its interval if it is known. Methods without a value on
    some task come last, since their G rests on fewer tasks.

    Args:
        methods: The names of the methods.
        tasks: The names of the tasks.
        values: S in (0, inf), or NaN where there is none, shape (methods, tasks).
        intervals: The ends of the interval of each G in (0, inf), or NaN where there is none,
            shape (2, methods); None draws none.
        label: The label of the horizontal axis; None says that the values are speed-ups.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The marks of each task are the first of ax.lines, in the order of the tasks.

    Raises:
        ValueError: values or intervals have another shape, or a speed-up is not positive.
        TypeError: An argument has another type.

    Example:
        >>> S = [[1.0, 1.2], [0.5, np.nan]]
        >>> ax = momentax.plotting.speed_ups(["nesterov", "sgd"], ["ridge", "digits_cnn"], S)
    """
    methods, tasks = _as_names("methods", methods), _as_names("tasks", tasks)
    S = _as_speed_ups(values, (len(methods), len(tasks)))
    ends = None if intervals is None else _as_intervals(intervals, len(methods))
    if label is None:
        label = "speed-up S: tuned Nesterov needs S times the steps for the same loss"
    label = as_text("label", label, "'speed-up'")
    known = np.isfinite(S).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        G = np.exp(np.where(known, np.nansum(np.log(S), axis=1) / known, np.nan))
    order = np.lexsort((np.nan_to_num(G), known))  # The last row is drawn at the top.
    ax = new_axes(ax, 7.5, 1.6 + _ROW * len(methods))
    rows = np.arange(len(methods))
    for j, task in enumerate(tasks):
        ax.plot(
            S[order, j], rows, _MARKERS[j % len(_MARKERS)], color=COLORS[j % len(COLORS)],
            ms=5, alpha=0.8, label=task,
        )  # fmt: skip
    if ends is not None:
        ax.hlines(rows, *ends[:, order], color="black", lw=5, alpha=0.25, zorder=0)
    ax.plot(G[order], rows, "|", color="black", ms=13, mew=2.2, label="all tasks")
    ax.axvline(1, color="0.6", lw=1, zorder=0)
    few = known < len(tasks)
    labels = [
        f"{methods[i]} ({known[i]} of {len(tasks)} tasks)" if few[i] else methods[i] for i in order
    ]
    ax.set_yticks(rows, labels)
    ax.set_ylim(-0.6, len(methods) - 0.4)
    _scale_values(ax, S[np.isfinite(S)])
    ax.set_xlabel(label)
    legend_below(ax, ax.lines[: len(tasks) + 1])
    return ax


def _scale_values(ax: Axes, values: np.ndarray) -> None:
    """Make the horizontal axis one of factors, with ticks by factors of 2 where they fit."""
    low, high = values.min(initial=0.23), values.max(initial=4.35)
    ax.set_xscale("log")
    ax.set_xlim(low * 0.97, high * 1.03)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    if high / low < _MOST_FACTOR:
        ax.xaxis.set_major_locator(FixedLocator(_TICKS))
        ax.xaxis.set_minor_locator(NullLocator())


def _as_names(argument: str, names: Any) -> list[str]:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a list of names, got {describe(names)}")
    if not names:
        raise ValueError(f"{argument} must have at least one name, got none")
    return list(names)


def _as_speed_ups(values: Any, shape: tuple[int, int]) -> np.ndarray:
    array = _with_missing("values", values, "(0, inf)", 1.0)
    if array.shape != shape:
        raise ValueError(
            f"values must have a row for each of {shape[0]} methods and a column for each of "
            f"{shape[1]} tasks, got shape {array.shape}"
        )
    return array


def _with_missing(argument: str, values: Any, interval: str, placeholder: float) -> np.ndarray:
    """Return checked numbers, of which NaN stays where a value is missing."""
    try:
        given = np.asarray(values)
    except (TypeError, ValueError):  # Such as rows of different lengths.
        return as_reals(argument, values, interval)
    if given.dtype.kind != "f":
        return as_reals(argument, values, interval)
    is_missing = np.isnan(given)
    known = as_reals(argument, np.where(is_missing, placeholder, given), interval)
    return np.where(is_missing, np.nan, known)


def _as_intervals(intervals: Any, count: int) -> np.ndarray:
    array = _with_missing("intervals", intervals, "(0, inf)", 1.0)
    if array.shape != (2, count):
        raise ValueError(
            f"intervals must have the shape (2, {count}), the lower and the upper ends, got shape "
            f"{array.shape}"
        )
    return array
