"""Parts that several plots share: the figure, the colours of lines, the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
_LETTERS_PER_INCH = 13
_LEGEND_LETTERS = 8  # The width of a mark in a legend, and of the space around an entry.
_ZERO_BORDER = "the border of the place of 0"


def new_figure(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a new figure of a size in inches, and its axes as an array of rows and columns."""
    with mpl.rc_context(_STYLE):
        return plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
        )


def require_axes(ax: Any) -> None:
    """Raise if ax is neither axes nor None; a plot that computes something does this first."""
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(
            "ax must be matplotlib axes, as plt.subplots() gives them beside a figure, or None for "
            f"a new figure, got {describe(ax)}"
        )


def new_axes(ax: Any, width: float, height: float, **options: Any) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches."""
    require_axes(ax)
    return new_figure(1, 1, width, height, **options)[1][0, 0] if ax is None else ax


def as_axes(ax: Any, count: int) -> np.ndarray:
    """Return several axes as an array, checked to be as many as are needed."""
    wrong = f"ax must be an array or a list of {count} matplotlib axes, got {describe(ax)}"
    if isinstance(ax, Axes):
        ax = [ax]
    if not isinstance(ax, np.ndarray | list | tuple):
        raise TypeError(wrong)
    axes = np.empty(np.size(np.asarray(ax, object)), object)
    axes[:] = np.asarray(ax, object).ravel()
    if not all(isinstance(each, Axes) for each in axes):
        raise TypeError(wrong)
    if len(axes) != count:
        raise ValueError(f"ax must hold {count} axes, one for each panel, got {len(axes)}")
    return axes


def as_label(label: Any) -> str | None:
    """Return the text of a label; None stands for the usual one."""
    if label is not None and not isinstance(label, str):
        raise TypeError(f"label must be text or None, got {describe(label)}")
    return label


def label_log_axis(axis: Axis) -> None:
    """Label a log axis at powers of ten, or at 1, 2 and 5 times these where it is short."""
    if axis.get_scale() != "log":
        return
    axis.axes.autoscale_view()
    low, high = np.sort(axis.get_view_interval())
    subs = (1.0, 2.0, 5.0) if low > 0 and high < 50 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    if len(subs) > 1:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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


def normalize(low: float, high: float) -> Normalize:
    """Map an interval to [0, 1]; one that is a single point maps to 0."""
    return Normalize(low, high if high > low else low + 1)


def legend_below(
    ax: Axes, handles: Sequence[Any], gap: float = 3.5, columns: int = _LEGEND_COLUMNS
) -> None:
    """Put a legend below the label of the horizontal axis, whatever the size of the axes.

    It has up to so many columns, but no more than fit the width of the figure, so that it does not
    narrow the axes.
    """
    if not handles:
        return
    longest = max(len(handle.get_label()) for handle in handles)
    fitting = int(_LETTERS_PER_INCH * figure_of(ax).get_figwidth() / (longest + _LEGEND_LETTERS))
    rows = -(-len(handles) // min(max(fitting, 1), columns))
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    columns = -(-len(handles) // rows)
    ax.legend(handles=handles, ncols=columns, frameon=False, borderaxespad=gap, **place)
