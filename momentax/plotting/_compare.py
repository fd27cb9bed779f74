"""Measurements as dots over the lines that were predicted for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_flag, as_reals, describe, is_traced
from momentax.plotting._axis_scale import is_wide
from momentax.plotting._style import COLORS, DASHES, new_axes

_MARKERS = "osD^vPX"  # Dots that can be told apart in grey.
_MOST_INSIDE = 5  # The entries of a legend inside of the axes.
_TWO_DECADES = 100
_LEAST = 1e-4  # Numbers from here to its inverse are not written as powers of ten.


def compare(
    x: ArrayLike,
    measured: Mapping[str, ArrayLike],
    predicted: Mapping[str, ArrayLike] | None = None,
    *,
    at: ArrayLike | None = None,
    logx: bool = False,
    logy: bool | None = None,
    dots: int = 40,
    ax: Axes | None = None,
) -> Axes:
    """Draw measurements as dots over the lines that were predicted for them.

    A measurement and the prediction of the same name have one colour. Beside such a pair, a
    prediction without a measurement, such as another formula, is dashed. A value that is not
    finite leaves a gap.

    Args:
        x: Where was measured, 1-D.
        measured: For each name its values at x, 1-D.
        predicted: For each name its values, 1-D; None draws the dots alone.
        at: Where was predicted, 1-D, for lines that are finer than the dots; None means x.
        logx: Whether the horizontal axis is on a log scale. Values that are not positive are then
            left out.
        logy: Whether the vertical axis is on a log scale. None chooses it if all values are
            positive and span a factor of 100.
        dots: The most measurements of a name that are drawn, at least 1; they lie at about equal
            distances on the axis.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes, whose labels and title are to be set with `ax.set`. The dots of each name
        come first in ax.lines, then the lines of each name.

    Raises:
        ValueError: A value has another length than x or `at`, there is nothing to draw, an x is
            not finite, dots is below 1, or logx is True and no x is positive.
        TypeError: measured or predicted is not a mapping from names to numbers, a flag is not a
            bool, dots is not a whole number, or ax is not matplotlib axes.

    Example:
        >>> x = np.arange(10)
        >>> ax = momentax.plotting.compare(x, {"β = 0.5": 0.5**x}, {"β = 0.5": np.exp2(-x)})
        >>> ax = ax.set(xlabel="lag", ylabel="weight")
    """
    x = _as_positions("x", x)
    fine = x if at is None else _as_positions("at", at)
    columns = _as_columns("measured", measured, x, "x")
    lines = {}
    if predicted is not None:
        lines = _as_columns("predicted", predicted, fine, "x" if at is None else "at")
    if not columns and not lines:
        raise ValueError("measured must name at least one measurement where nothing is predicted")
    most = as_count("dots", dots)
    if (logx := as_flag("logx", logx)) and not (np.any(x > 0) and np.any(fine > 0)):
        raise ValueError("logx must be False, since no x is positive")
    values = np.concatenate([*columns.values(), *lines.values()])
    values = values[np.isfinite(values)]
    log = is_wide(values) and bool(np.all(values > 0)) if logy is None else as_flag("logy", logy)
    ax = new_axes(ax, 7, 4.5)
    names = list(dict.fromkeys([*columns, *lines]))
    styles: dict[str, dict[str, Any]] = {
        name: {"color": COLORS[i % len(COLORS)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, name in enumerate(names)
    }
    drawn = _spread(x, most, logx)
    for name, column in columns.items():
        ax.plot(x[drawn], column[drawn], **styles[name], linestyle="", markersize=4.5, label=name)
    has_pairs = not columns.keys().isdisjoint(lines)
    for i, (name, column) in enumerate(lines.items()):
        dashes = "-" if name in columns else "--" if has_pairs else DASHES[i % len(DASHES)]
        label = None if name in columns else name
        color = styles[name]["color"]
        ax.plot(fine, column, dashes, color=color, linewidth=1.3, zorder=1.9, label=label)
    ax.set(xscale="log" if logx else "linear", yscale="log" if log else "linear")
    for axis in (ax.xaxis, ax.yaxis):
        _write_plain_numbers(axis)
    title = "dots measured, lines predicted" if has_pairs else None
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False}
    place = beside if len(names) > _MOST_INSIDE else {}
    ax.legend(title=title, fontsize=9, title_fontsize=9, **place)
    return ax


def _write_plain_numbers(axis: Axis) -> None:
    """Label a log scale with numbers such as 0.2, and with powers of ten beyond their range."""
    power = LogFormatterMathtext()

    def label(value: float, _: Any) -> str:
        low, high = axis.get_view_interval()
        digit = round(value / 10 ** np.floor(np.log10(value)))
        if digit != 1 and (high / low > _TWO_DECADES or digit not in (2, 5)):
            return ""
        return f"{value:g}" if low >= _LEAST and high <= 1 / _LEAST else power(value)

    if axis.get_scale() == "log":
        power.set_axis(axis)
        axis.set_major_formatter(FuncFormatter(label))
        axis.set_minor_formatter(FuncFormatter(label))


def _as_positions(name: str, value: Any) -> np.ndarray:
    array = as_reals(name, value)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be 1-D with at least one number, got shape {array.shape}")
    return array


def _as_columns(name: str, value: Any, x: np.ndarray, along: str) -> dict[str, np.ndarray]:
    """Return 1-D arrays by name, each as long as x, with NaN for what is not finite."""
    wrong = f"{name} must be a mapping from names to 1-D arrays of numbers, got {describe(value)}"
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(wrong)
    columns = {}
    for key, each in value.items():
        try:
            array = None if is_traced(each) else np.asarray(each)
        except (TypeError, ValueError):  # Rows of different lengths.
            array = None
        if array is None or array.dtype.kind not in "iuf":
            raise TypeError(wrong)
        if array.shape != x.shape:
            raise ValueError(
                f"{name}[{key!r}] must have a value for each of the {len(x)} in {along}, got "
                f"shape {array.shape}"
            )
        column = array.astype(np.float64)
        columns[key] = np.where(np.isfinite(column), column, np.nan)
    return columns


def _spread(x: np.ndarray, most: int, log: bool) -> np.ndarray:
    """Return the indices of a limited number of entries of x at about equal distances."""
    if len(x) <= most or not log:
        return np.arange(0, len(x), -(-len(x) // most))
    kept = np.flatnonzero(x > 0)
    places = np.log(x[kept])
    targets = np.linspace(places.min(), places.max(), most)
    return kept[np.unique(np.abs(places - targets[:, None]).argmin(axis=1))]
