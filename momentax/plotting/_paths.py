"""How the paths of runs are drawn: their colours and marks, and which points have a mark."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from momentax._core.typing import Reals
from momentax.plotting._style import COLORS, figure_of

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
START: dict[str, Any] = {
    "marker": "o",
    "markersize": 8,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 1.5,
    "linestyle": "none",
}
END: dict[str, Any] = {"markersize": 8, "markeredgecolor": "black", "linestyle": "none"}
MINIMIZER: dict[str, Any] = {
    "marker": "*",
    "markersize": 17,
    "markerfacecolor": "#F0E442",
    "markeredgecolor": "black",
    "linestyle": "none",
}
_MOST_DOTS = 30
_FADED = 60  # The line of a run of more steps than this gets lighter.


def end_mark(color: str, marker: str) -> dict[str, Any]:
    """Return the style of the mark at the end of a path."""
    return END | {"marker": marker, "markerfacecolor": color}


class PathStyle(NamedTuple):
    """The colour and the mark of a run."""

    color: str
    marker: str


def path_style(index: int) -> PathStyle:
    """Return the style of the run with this index; styles repeat after some number of runs."""
    return PathStyle(COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)])


def moving_length(points: Reals, size: Reals) -> int:
    """Return the number of points before a path stays within a hundredth of the picture."""
    if not len(points):
        return 0
    is_far = (np.abs(points - points[-1]) > 0.01 * size).any(axis=1)
    return 1 + int(np.flatnonzero(is_far)[-1]) if is_far.any() else 1


def dot_interval(length: int) -> int:
    """Return a round number of steps such that a path gets at most 30 dots."""
    needed = max(1, -(-length // _MOST_DOTS))
    power = 10 ** int(np.floor(np.log10(needed)))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= needed)


def line_alpha(length: int) -> float:
    """Return the opacity of the line of a path: long ones are lighter, and their dots are not."""
    return float(np.clip((_FADED / max(length, 1)) ** 0.5, 0.35, 0.9))


def arrow_places(points: Reals, size: Reals, shares: tuple[float, ...]) -> list[int]:
    """Return the indices of the segments that lie at some shares of the length of a path.

    size is that of the picture, in whose units lengths are measured.
    """
    lengths = np.linalg.norm(np.diff(points, axis=0) / size, axis=1)
    total = np.cumsum(lengths)
    if not len(total) or total[-1] <= 1e-3:
        return []
    places = np.searchsorted(total, total[-1] * np.array(shares))
    return sorted({int(i) for i in places if lengths[i] > 0})


def draw_arrows(ax: Axes, points: Reals, places: list[int], color: str) -> None:
    """Draw an arrow over each of some segments of a path."""
    style: dict[str, Any] = {
        "arrowstyle": "-|>,head_width=0.25,head_length=0.5",
        "color": color,
        "shrinkA": 0,
        "shrinkB": 0,
        "linewidth": 1.2,
    }
    for i in places:
        ax.annotate("", points[i + 1], points[i], arrowprops=style, zorder=2.5)


def draw_path(
    ax: Axes,
    points: Reals,
    index: int,
    size: Reals,
    *,
    label: str,
    moving: int,
    every: int,
    shares: tuple[float, ...],
    is_thin: bool = False,
) -> Line2D:
    """Draw the path of the run with this index from its start, and return an entry of a legend.

    size is that of the picture, moving the number of steps whose count makes the line lighter,
    every the number of points from one dot to the next, and shares where the arrows are.
    """
    color, marker = path_style(index)
    common: dict[str, Any] = {"marker": marker, "markerfacecolor": color, "label": label}
    alpha = line_alpha(moving)
    ax.plot(
        *points.T,
        color=to_rgba(color, alpha),
        linewidth=0.4 + 0.8 * alpha if is_thin else 1.2,
        markersize=4,
        markevery=every,
        markeredgecolor="none",
        zorder=2 + 0.01 * index,
        **common,
    )
    draw_arrows(ax, points, arrow_places(points, size, shares), color)
    if len(points):
        ax.plot(*points[0], zorder=3, **START)
    return Line2D([], [], color=color, markersize=5, linewidth=1.2, **common)


def mark_handles(dots: str) -> list[Line2D]:
    """Return the entries of a legend that explain the marks on paths, and the dots if any."""
    handles = [
        Line2D([], [], label="start", **START),
        Line2D([], [], label="end", **end_mark("0.6", "o")),
    ]
    if dots:
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none"}
        handles.append(Line2D([], [], color="0.4", label=dots, **style))
    return handles


def draw_history(ax: Axes, steps: Reals, values: Reals, index: int, **style: Any) -> None:
    """Draw one number for each step as a line with a few marks of the run with this index."""
    apart = max(1, len(steps) // 8)
    ax.plot(
        steps,
        values,
        marker=MARKERS[index % len(MARKERS)],
        markersize=4,
        markevery=(index * apart // 4 % apart, apart),
        linewidth=0.6 + 0.7 * line_alpha(len(steps)),
        zorder=2,
        **style,
    )


def count_columns(ax: Axes, handles: list[Any]) -> int:
    """Return how many columns of a legend are about as wide as axes, from one to four."""
    width = ax.get_position(original=True).width * figure_of(ax).get_figwidth()
    longest = max(len(str(handle.get_label())) for handle in handles)
    return int(np.clip(12 * width / (longest + 7), 1, 4))  # An inch holds about twelve letters.
