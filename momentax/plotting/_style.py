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

_LEGEND_COLUMNS = 4


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches."""
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


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


def legend_below(ax: Axes, handles: Sequence[Any], gap: float = 3.5) -> None:
    """Put a legend below the label of the horizontal axis, whatever the size of the axes."""
    if not handles:
        return
    rows = -(-len(handles) // _LEGEND_COLUMNS)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    columns = -(-len(handles) // rows)
    ax.legend(handles=handles, ncols=columns, frameon=False, borderaxespad=gap, **place)
