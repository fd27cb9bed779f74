"""Parts that the pictures of a comparison of methods share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from momentax._core.arguments import ANY_REAL, as_reals, describe, printable
from momentax._core.typing import Reals
from momentax.plotting._style import COLORS, DASHES, figure_of

MOST_HIGHLIGHTED = len(COLORS)
_USUALLY_HIGHLIGHTED = 5
_OTHER: dict[str, Any] = {"color": "0.75", "linewidth": 1.0, "zorder": 1.5}
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_FACTOR = 100  # Between the ends of an axis with ticks by factors of 2.
_LABEL_SIZE = 9  # Points.


def as_names(argument: str, names: Any) -> list[str]:
    """Return a list of at least one name."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a list of names, got {describe(names)}")
    if not names:
        raise ValueError(f"{argument} must have at least one name, got none")
    return list(names)


def as_known(argument: str, values: Any, interval: str = ANY_REAL) -> Reals:
    """Return checked numbers in float64, of which NaN stays where a value is missing."""
    try:
        given = np.asarray(values)
    except (TypeError, ValueError):  # Such as rows of different lengths.
        return as_reals(argument, values, interval)
    if given.dtype.kind != "f" or not np.isnan(given).any():
        return as_reals(argument, values, interval)
    is_missing = np.isnan(given)
    known = given[~is_missing]
    array = np.full(given.shape, np.nan)
    array[~is_missing] = as_reals(argument, known, interval)
    return array


def require_shape(argument: str, array: Reals, shape: tuple[int, ...], meaning: str) -> None:
    """Raise if an array has another shape; `meaning` says what its entries are."""
    if array.shape != shape:
        raise ValueError(f"{argument} must hold {meaning}, shape {shape}, got shape {array.shape}")


def as_highlight(highlight: Any, methods: Sequence[str], merits: Reals) -> list[str]:
    """Return the methods that are drawn in colours, in the order of the colours.

    None means those with the largest merits, at most five, of which NaN is the smallest.
    """
    if highlight is None:
        order = np.argsort(-np.nan_to_num(merits, nan=-np.inf), kind="stable")
        return [methods[int(i)] for i in order[:_USUALLY_HIGHLIGHTED]]
    if not isinstance(highlight, list | tuple) or not all(isinstance(n, str) for n in highlight):
        raise TypeError(
            f"highlight must be a list of names of methods or None, got {describe(highlight)}"
        )
    if unknown := [name for name in highlight if name not in methods]:
        raise ValueError(
            f"highlight must have names of the methods, {', '.join(map(printable, methods))}, got "
            f"{describe(unknown[0])}"
        )
    if len(highlight) > MOST_HIGHLIGHTED:
        raise ValueError(
            f"highlight must have at most {MOST_HIGHLIGHTED} names, whose colours can be told "
            f"apart, got {len(highlight)}"
        )
    return [str(name) for name in dict.fromkeys(highlight)]


def line_styles(methods: Sequence[str], highlighted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the style of the line of each method: grey for those that are not highlighted."""
    styles = []
    for method in methods:
        if method in highlighted:
            i = list(highlighted).index(method)
            dash = DASHES[i % len(DASHES)]
            styles.append({"color": COLORS[i], "linestyle": dash, "linewidth": 2.0, "zorder": 2.5})
        else:
            styles.append(_OTHER)
    return styles


def scale_factors(axis: Axis, values: Reals, low: float = 0.23, high: float = 4.35) -> None:
    """Make an axis one of factors, from low to high or as far as the values reach.

    It is on a log scale, with ticks by factors of 2 where they fit.
    """
    low, high = values.min(initial=low), values.max(initial=high)
    name, ends = ("x" if axis is axis.axes.xaxis else "y"), (low * 0.97, high * 1.03)
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": ends})
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    if high / low < _MOST_FACTOR:
        axis.set_major_locator(FixedLocator([x for x in _FACTORS if low <= x <= high] or [low]))
        axis.set_minor_locator(NullLocator())


def label_ends(
    ax: Axes, names: Sequence[str], ends: Sequence[tuple[float, float]], colors: Sequence[Any]
) -> None:
    """Write names beside the right ends of lines, moved apart where they would overlap.

    The limits of the axes must be set before.
    """
    to_share = ax.transData + ax.transAxes.inverted()
    places = np.array([to_share.transform(end)[1] for end in ends])
    points = ax.get_window_extent().height * 72 / figure_of(ax).dpi
    for name, end, place, color in zip(
        names, ends, _spread(places, 1.3 * _LABEL_SIZE / points), colors, strict=True
    ):
        ax.annotate(
            name, end, (1.04, place), xycoords="data", textcoords="axes fraction", color=color,
            fontsize=_LABEL_SIZE, va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 1},
        )  # fmt: skip


def _spread(places: Reals, gap: float) -> Reals:
    """Return places at least a gap apart and in the same order, as near as possible.

    Places that are too near to each other become one group around their mean.
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    groups: list[list[float]] = []
    for each in places[order] - steps:
        groups.append([each])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    found = np.empty(len(places))
    means = [[np.mean(group)] * len(group) for group in groups]
    found[order] = np.concatenate([*means, []]) + steps
    return found
