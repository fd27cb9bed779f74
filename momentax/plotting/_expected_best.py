"""What a tuning of k trials is expected to reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from momentax._core.arguments import as_flag, as_real, as_reals, as_text
from momentax.plotting._methods import (
    as_highlight,
    as_known,
    as_names,
    label_ends,
    line_styles,
    require_shape,
    scale_factors,
)
from momentax.plotting._style import legend_below, new_axes

_LABEL = "expected speed-up S of the best trial"


def expected_best(
    methods: Sequence[str],
    trials: ArrayLike,
    values: ArrayLike,
    *,
    bands: ArrayLike | None = None,
    defaults: ArrayLike | None = None,
    trusted: float | None = None,
    highlight: Sequence[str] | None = None,
    logy: bool = True,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what each method is expected to reach after k trials of its hyperparameters.

    A method that is tuned little is judged at a small k. A dot marks k = 1, a random trial, and a
    diamond the trial at the default hyperparameters. `bench.statistics.expected_best` computes the
    expected scores and their bands.

    Args:
        methods: The names of the methods.
        trials: k in [1, inf), 1-D and ascending.
        values: The expected value of each method at each k, or NaN where it is unknown, shape
            (methods, trials); speed-ups in (0, inf), or any real numbers with logy=False.
        bands: The lower and the upper ends of the band of each value, shape
            (2, methods, trials); None draws none. They are drawn for the methods in colours.
        defaults: The value at the default hyperparameters of each method, or NaN, shape (methods,);
            None marks none.
        trusted: The k in [1, inf) up to which curves are bold; beyond it they rest on few trials.
            None means half of the largest k. They are thin too where they join values across
            unknown ones.
        highlight: The names of the methods that are drawn in colours, in the order of these, at
            most seven; the others are grey. None means the five with the largest values at the end,
            or with the smallest for logy=False, which takes values as scores.
        logy: Whether the vertical axis is one of factors, on a log scale.
        label: The label of the vertical axis; None says that the values are speed-ups or scores.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The thin curves, through all known values, are the first of ax.lines, in the
        order of the methods.

    Raises:
        ValueError: An array has another shape or a number outside its interval, trials is not
            ascending, or a name is not one of the methods.
        TypeError: An argument has another type.

    Example:
        >>> k, S = [1, 2, 4], [[0.5, 0.8, 1.0], [0.3, 0.9, 1.2]]
        >>> ax = momentax.plotting.expected_best(["nesterov", "adam"], k, S, defaults=[0.7, 0.2])
    """
    names, k, logy = as_names("methods", methods), _as_trials(trials), as_flag("logy", logy)
    interval = "(0, inf)" if logy else "(-inf, inf)"
    shape, meaning = (len(names), len(k)), "a row for each method and a column for each of trials"
    y = as_known("values", values, interval)
    require_shape("values", y, shape, meaning)
    band = None if bands is None else as_known("bands", bands, interval)
    if band is not None:
        require_shape("bands", band, (2, *shape), "the lower and the upper ends of values")
    start = None if defaults is None else as_known("defaults", defaults, interval)
    if start is not None:
        require_shape("defaults", start, shape[:1], "one value for each method")
    most = k[-1] / 2 if trusted is None else as_real("trusted", trusted, "[1, inf)")
    highlighted = as_highlight(highlight, names, _last(y) if logy else -_last(y))
    usual = _LABEL if logy else "expected score of the best trial"
    label = as_text("label", usual if label is None else label, "'speed-up'")
    ax = new_axes(ax, 8.5, 5)
    styles = line_styles(names, highlighted)
    for row, style in zip(y, styles, strict=True):
        known = np.isfinite(row)
        ax.plot(k[known], row[known], **{**style, "linewidth": 1.0})
    for i, style in enumerate(styles):
        bold = k <= most
        ax.plot(k[bold], y[i, bold], **{**style, "linewidth": 1.4 * style["linewidth"]})
    if logy:
        marks = np.append(y, [] if start is None else start)
        scale_factors(ax.yaxis, marks[np.isfinite(marks)], low=0.49, high=2.05)
    _scale_trials(ax, k)
    ax.set_ylabel(label)
    for name in highlighted:
        _draw_marks(ax, k, names.index(name), y, band, start, styles[names.index(name)]["color"])
    ax.set_ylim(ax.get_ylim())
    rows = [i for i in map(names.index, highlighted) if np.isfinite(y[i]).any()]
    ends = [(float(k[np.isfinite(y[i])][-1]), float(_last(y)[i])) for i in rows]
    label_ends(ax, [names[i] for i in rows], ends, [styles[i]["color"] for i in rows])
    _draw_legend(ax, start is not None, len(highlighted) < len(names), most < k[-1])
    return ax


def _draw_marks(
    ax: Axes, k: np.ndarray, i: int, y: np.ndarray, band: Any, start: Any, color: str
) -> None:
    """Draw the band of a method, its value after one trial, and that of its default."""
    if band is not None:
        ax.fill_between(k, band[0, i], band[1, i], color=color, alpha=0.12, linewidth=0, zorder=1)
    if k[0] == 1:
        ax.plot(1, y[i, 0], "o", color=color, markersize=6, clip_on=False, zorder=3)
    if start is not None:
        ax.plot(
            k[0], start[i], "D", markerfacecolor="white", color=color, markersize=6, clip_on=False,
            zorder=3.5,
        )  # fmt: skip


def _draw_legend(ax: Axes, has_defaults: bool, has_others: bool, has_thin: bool) -> None:
    dark: dict[str, Any] = {"color": "0.3"}
    handles = [Line2D([], [], marker="o", linestyle="", label="a random trial", **dark)]
    if has_defaults:
        handles += [
            Line2D(
                [], [], marker="D", linestyle="", markerfacecolor="white", label="the default",
                **dark,
            )
        ]  # fmt: skip
    if has_thin:
        handles += [Line2D([], [], linewidth=1.0, label="thin: less certain", **dark)]
    if has_others:
        handles += [Line2D([], [], color="0.75", label="other methods")]
    legend_below(ax, handles)


def _last(y: np.ndarray) -> np.ndarray:
    """Return the last known value of each row; NaN if there is none."""
    known = np.isfinite(y)
    last = y.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    return np.where(known.any(1), y[np.arange(len(y)), last], np.nan)


def _scale_trials(ax: Axes, k: np.ndarray) -> None:
    """Make the horizontal axis a log scale with ticks at powers of 2."""
    ax.set_xscale("log")
    powers = 2.0 ** np.arange(np.ceil(np.log2(k[0])), np.floor(np.log2(k[-1])) + 1)
    ax.xaxis.set_major_locator(FixedLocator(powers.tolist()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlim=(k[0], k[-1]), xlabel="k, the number of trials")


def _as_trials(trials: Any) -> np.ndarray:
    k = as_reals("trials", trials, "[1, inf)")
    if k.ndim != 1 or len(k) < 2 or np.any(np.diff(k) <= 0):
        raise ValueError(
            "trials must be 1-D and ascending with at least two numbers of trials, such as "
            f"np.arange(1, 33), got shape {k.shape}"
        )
    return k
