"""Histories as lines."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from momentax._core import arguments
from momentax.plotting._legend import legend_below
from momentax.plotting._runs import runs
from momentax.plotting._scale import axis, is_wide
from momentax.sweeps import Points, SweepResult

_LOST: dict[str, Any] = {"color": "0.6", "linewidth": 0.7, "zorder": 1}
_FEW = 6  # More values of an axis than this are told by a colour bar.
_FEW_WORDS = 10  # As many colours are told apart without an order.
_MOST_TICKS = 8
# Without its end, which is too bright for lines on white.
_COLOURS = LinearSegmentedColormap.from_list(
    "momentax", mpl.colormaps["viridis"](np.linspace(0, 0.9, 256))
)


def curves(
    result: SweepResult,
    metric: str,
    *,
    by: str | None = None,
    ax: Axes | None = None,
    logy: bool | None = None,
) -> Axes:
    """Draw the histories of a metric, one line a setting.

    Colours go along one axis of the points: on a log scale for the learning
    rate, on a log scale of 1 - β for β. Of several seeds the line is the mean
    over those that did not diverge, in a band of one standard error to either
    side. Each run that diverged is a thin grey line up to where it stops being
    finite, and counts for nothing else, the limits of the plot included.

    Args:
        result: What a sweep found.
        metric: The name of a metric with one dimension of its own, such as the
            loss at every step.
        by: The axis that the colours follow; None is the first with several
            values. With few values, or words, a key names them, else a colour
            bar.
        ax: Where to draw; None makes a new figure.
        logy: Whether the vertical axis is on a log scale; None decides: where
            all is positive and spans more than a factor of 100, unless the
            metric's name says that high is best, as in `heatmap`.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: There is no such metric or axis, or the metric is no history.
        TypeError: result is not what `momentax.sweep` returns, or logy no bool.
    """
    seen = runs(result, metric, history=True)
    axes = seen.settings.axes
    logy = None if logy is None else arguments.as_flag("logy", logy)
    if by is not None:
        arguments.as_option("by", by, axes)
    elif axes:
        by = max(axes, key=lambda name: len(set(axes[name])) > 1)  # The first of them.
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 5.5), layout="constrained")
    runs_lost, all_lost = seen.lost.ravel(), seen.all_lost.ravel()
    each = seen.values.reshape(len(runs_lost), -1)
    mean, error = (part.reshape(len(all_lost), -1) for part in (seen.mean, seen.error))
    steps = np.arange(each.shape[1])
    for values in each[runs_lost]:
        end = int(np.argmin(np.append(np.isfinite(values), False)))
        ax.plot(steps[:end], values[:end], **_LOST)
    kept = np.flatnonzero(~all_lost)
    colours, key = _coloured(ax, seen.settings, by, kept)
    for i in kept:
        ax.plot(steps, mean[i], color=colours[i], linewidth=1.4, zorder=2)
        low, high = mean[i] - error[i], mean[i] + error[i]
        if np.isfinite(low).any():
            ax.fill_between(steps, low, high, color=colours[i], alpha=0.2, linewidth=0, zorder=1.5)
    shown = np.stack([mean, mean - error, mean + error])[:, kept] if len(kept) else each[None]
    if logy is None:
        logy = result.mode_of(metric) == "min" and is_wide(_finite(shown[0]))
    if logy:
        ax.set_yscale("log")
    _limit(ax, shown)
    ax.set(xlabel="step", ylabel=metric, xlim=(0, max(len(steps) - 1, 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    lost = [Line2D([], [], label="diverged", **_LOST)] if runs_lost.any() else []
    if key and by:
        title = axis(by, axes[by]).label
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        ax.legend(handles=[*key, *lost], title=title, frameon=False, **beside)
    else:
        legend_below(ax, lost)
    return ax


def _coloured(
    ax: Axes, settings: Points, by: str | None, kept: np.ndarray
) -> tuple[np.ndarray, list[Line2D]]:
    """A colour for each setting, and a key to them where no colour bar tells."""
    if by is None or not len(kept):  # There is one setting, or nothing to colour.
        return np.array([_COLOURS(0.0)]), []
    values = settings.axes[by]
    on = axis(by, values)
    at, places = on.place(settings.columns()[by]), on.place(values)
    if on.categories and len(set(places)) <= _FEW_WORDS:
        colours = mpl.colormaps["tab10"](at.astype(int))
    else:
        low, high = places.min(), places.max()
        norm = Normalize(low, high if high > low else low + 1)
        colours = _COLOURS(norm(at))
        if not on.categories and len(set(places)) > _FEW:
            bar = ScalarMappable(norm, _COLOURS)
            bar = ax.figure.get_figure(root=True).colorbar(bar, ax=ax, label=on.label, pad=0.02)
            there, words = on.ticks(_MOST_TICKS)
            bar.set_ticks(there.tolist(), labels=words)
            bar.minorticks_off()
            return colours, []
    if len(settings) == 1:
        return colours, []
    there, words = on.ticks(10**6)
    drawn = {float(at[i]): to_hex(tuple(colours[i])) for i in kept}
    named = zip(map(float, there), words, strict=True)
    return colours, [Line2D([], [], color=drawn[x], label=word) for x, word in named if x in drawn]


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _limit(ax: Axes, values: np.ndarray) -> None:
    """End the vertical axis with what counts."""
    log = ax.get_yscale() == "log"
    values = _finite(values)
    values = np.log(values[values > 0]) if log else values
    if values.size:
        low, high = values.min(), values.max()
        ends = np.array([low, high]) + np.array([-1, 1]) * (0.04 * (high - low) or 0.5)
        ax.set_ylim(*(np.exp(ends) if log else ends))
