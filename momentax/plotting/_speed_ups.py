"""The speed-ups of a comparison of methods: over all tasks, and on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from momentax._core.arguments import as_text
from momentax.plotting._methods import as_known, as_names, scale_factors
from momentax.plotting._style import COLORS, legend_below, new_axes

_MARKERS = "osD^vPX*"  # Dots that can be told apart in grey.
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
    methods, tasks = as_names("methods", methods), as_names("tasks", tasks)
    S = as_known("values", values, "(0, inf)")
    if S.shape != (len(methods), len(tasks)):
        raise ValueError(
            f"values must have a row for each of {len(methods)} methods and a column for each of "
            f"{len(tasks)} tasks, got shape {S.shape}"
        )
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
    scale_factors(ax.xaxis, S[np.isfinite(S)])
    ax.set_xlabel(label)
    legend_below(ax, ax.lines[: len(tasks) + 1])
    return ax


def _as_intervals(intervals: Any, count: int) -> np.ndarray:
    array = as_known("intervals", intervals, "(0, inf)")
    if array.shape != (2, count):
        raise ValueError(
            f"intervals must have the shape (2, {count}), the lower and the upper ends, got shape "
            f"{array.shape}"
        )
    return array
