"""Parts that several plots share: the figure, the colours of a metric, the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from momentax._core.arguments import describe

# The colours of Okabe and Ito without their yellow, which is too bright for lines on white. Readers
# with any colour vision can distinguish them.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The lines of several methods differ in their dashes too, so that they can be told apart in grey.
DASHES = ("-", "--", "-.", ":")
_STYLE: Any = {
    "figure.dpi": 144,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

_LEGEND_COLUMNS = 4
_ZERO_BORDER = "the border of the place of 0"


def new_figure(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a new figure of a size in inches, and its axes as an array of rows and columns."""
    with mpl.rc_context(_STYLE):
        return plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
        )


def new_axes(ax: Any, width: float, height: float, **options: Any) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches."""
    if ax is None:
        ax = new_figure(1, 1, width, height, **options)[1][0, 0]
    if not isinstance(ax, Axes):
        raise TypeError(
            "ax must be matplotlib axes, as plt.subplots() gives them beside a figure, or None for "
            f"a new figure, got {describe(ax)}"
        )
    return ax


def as_label(label: Any) -> str | None:
    """Return the text of a label; None stands for the usual one."""
    if label is not None and not isinstance(label, str):
        raise TypeError(f"label must be text or None, got {describe(label)}")
    return label


def draw_zero_border(ax: Axes, x: float) -> None:
    """Separate the place of 0 on a horizontal log axis from the positive values."""
    ax.axvline(x, color="white", linewidth=4, zorder=1.5, gid=_ZERO_BORDER)


def zero_border(ax: Axes) -> float:
    """Return where on a horizontal log axis the place of 0 ends; 0 if it has none."""
    borders = (line for line in ax.lines if line.get_gid() == _ZERO_BORDER)
    return next((float(np.asarray(line.get_xdata())[0]) for line in borders), 0.0)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that holds the axes, also where they lie in a subfigure."""
    return ax.figure.get_figure(root=True)


def metric_colormap(mode: str) -> Colormap:
    """Return the colours of a metric: the brightest one is the best, at the end `mode`."""
    return mpl.colormaps["viridis" if mode == "max" else "viridis_r"]


def metric_limits(values: np.ndarray, mode: str) -> tuple[float, float, str]:
    """Return the limits of a metric's colours, which the worst quarter of the values exceeds.

    That quarter shares the darkest colour, so that the better values can be distinguished. The
    third result is the end at which it lies, "min" or "max", or "neither" where the quartile
    is an end of the values itself.
    """
    low, high = float(values.min()), float(values.max())
    quartile = float(np.quantile(values, 0.25 if mode == "max" else 0.75))
    if not low < quartile < high:
        return low, high, "neither"
    return (quartile, high, "min") if mode == "max" else (low, quartile, "max")


def normalize(low: float, high: float) -> Normalize:
    """Map an interval to [0, 1]; one that is a single point maps to 0."""
    return Normalize(low, high if high > low else low + 1)


def legend_below(
    ax: Axes, handles: Sequence[Any], gap: float = 3.5, columns: int = _LEGEND_COLUMNS
) -> None:
    """Put a legend below the label of the horizontal axis, whatever the size of the axes."""
    if not handles:
        return
    rows = -(-len(handles) // columns)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    columns = -(-len(handles) // rows)
    ax.legend(handles=handles, ncols=columns, frameon=False, borderaxespad=gap, **place)
