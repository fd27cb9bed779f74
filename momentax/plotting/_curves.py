"""Histories of a metric as lines."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from momentax._core.arguments import as_flag, as_option, printable
from momentax._core.metrics import known_mode
from momentax.plotting._axis_scale import (
    CategoryScale,
    NumberScale,
    axis_scale,
    is_wide,
    metric_scale,
)
from momentax.plotting._metric import SeedMeans, average_over_seeds, read_metric
from momentax.plotting._style import COLORS, DASHES, figure_of, legend_below, new_axes, normalize
from momentax.sweeps import Points, SweepResult

_DIVERGED: dict[str, Any] = {"color": "0.6", "linewidth": 0.7, "zorder": 1}
_MOST_IN_LEGEND = 6  # An axis with more values than this gets a colour bar.
_MOST_DISTINCT = len(COLORS)  # The colours without an order that can be distinguished.
_MOST_TICKS = 8
# Without the end of viridis, which is too bright for lines on white.
_ORDERED = LinearSegmentedColormap.from_list(
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
    """Draw the history of a metric, one line for each setting.

    The colours follow one axis of the points: the learning rate on a log scale, β on a log
    scale of 1 - β. With several seeds the line is the mean over those that did not diverge, in
    a band of one standard error to either side. A run that diverged is a thin grey line up to
    its first value that is not finite; it enters no mean and does not affect the limits of the
    plot.

    Args:
        result: The result of a sweep.
        metric: The name of a metric with one dimension beside the points, such as the loss at every
            step.
        by: The axis that the colours follow; None means the first one with several
            values. A legend names up to six numbers, or any number of words; more numbers get
            a colour bar.
        ax: The axes to draw on; None makes a new figure.
        logy: Whether the vertical axis is on a log scale, on which 0 has a place of its own
            below the smallest positive value. None chooses it if the values are positive or 0
            and span a factor of 100, unless the metric's largest value is best as
            result.mode_of says.

    Returns:
        The axes.

    Raises:
        ValueError: There is no metric or axis of this name, the metric is not a history, or logy
            is True and the metric is negative.
        TypeError: result is not what `momentax.sweep` returns, logy is not a bool, or ax is not
            matplotlib axes.

    Example:
        >>> def run(beta): return {"loss": beta ** jnp.arange(20)}
        >>> result = momentax.sweep(run, momentax.grid(beta=[0.5, 0.9]))
        >>> ax = momentax.plotting.curves(result, "loss")
    """
    values, diverged = read_metric(result, metric, history=True)
    means = average_over_seeds(result.points, values, diverged)
    by = _colour_axis(by, means.settings)
    log = None if logy is None else as_flag("logy", logy)
    kept = np.flatnonzero(~means.all_diverged)
    bands = _means_and_bands(means, kept) if len(kept) else values[None]
    if log and (least := _finite(bands[0]).min(initial=0)) < 0:
        raise ValueError(
            f"logy must be False or None, since {printable(metric)} has negative values, down to "
            f"{least:.4g}, which have no place on a log scale"
        )
    ax = new_axes(ax, 9, 5.5)
    if log is None:
        log = known_mode(metric, result.modes) != "max" and is_wide(_finite(bands[0]))
    heights = np.append(_finite(bands), _finite(values))
    scale = metric_scale(metric, heights[heights >= 0] if log else heights, log)
    _draw_diverged(ax, scale.coordinates(values[diverged]))
    colours, dashes, handles = _choose_colours(ax, means.settings, by, kept)
    bands = scale.coordinates(bands)
    if len(kept):
        _draw_means(ax, bands, colours, dashes)
    if log:
        ax.set_yscale("log")
    if scale.has_zero:
        _label_heights(ax, scale)
    _limit_heights(ax, bands)
    steps = values.shape[-1]
    ax.set(xlabel="step", ylabel=metric, xlim=(0, max(steps - 1, 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    diverged_handles = [Line2D([], [], label="diverged", **_DIVERGED)] if diverged.any() else []
    if handles and by:
        title = axis_scale(by, means.settings.axes[by]).label
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        ax.legend(handles=[*handles, *diverged_handles], title=title, frameon=False, **beside)
    else:
        legend_below(ax, diverged_handles)
    return ax


def _colour_axis(by: str | None, settings: Points) -> str | None:
    """Return the axis that the colours follow; None where there is no axis but seed."""
    axes = settings.axes
    if by is not None:
        return as_option("by", by, axes)
    several = (name for name, values in axes.items() if len(set(values)) > 1)
    return next(several, next(iter(axes), None))


def _draw_diverged(ax: Axes, runs: np.ndarray) -> None:
    """Draw each run up to its first value that is not finite."""
    for values in runs:
        end = int(np.argmin(np.append(np.isfinite(values), False)))
        ax.plot(np.arange(end), values[:end], **_DIVERGED)


def _means_and_bands(means: SeedMeans, kept: np.ndarray) -> np.ndarray:
    """Return the means of some settings, and the lower and upper borders of their bands."""
    mean, error = (
        part.reshape(len(means.settings), -1)[kept] for part in (means.mean, means.standard_error)
    )
    return np.stack([mean, mean - error, mean + error])


def _draw_means(ax: Axes, bands: np.ndarray, colours: np.ndarray, dashes: list[str]) -> None:
    """Draw the mean of each setting, and its band if it has one."""
    mean, low, high = bands
    steps = np.arange(mean.shape[1])
    for i, colour in enumerate(colours):
        ax.plot(steps, mean[i], color=colour, linestyle=dashes[i], linewidth=1.4, zorder=2)
        if np.isfinite(low[i]).any():
            ax.fill_between(
                steps, low[i], high[i], color=colour, alpha=0.2, linewidth=0, zorder=1.5
            )


def _choose_colours(
    ax: Axes, settings: Points, by: str | None, kept: np.ndarray
) -> tuple[np.ndarray, list[str], list[Line2D]]:
    """Return the colours and dashes of the settings that are drawn, and a legend's entries.

    There are no entries where a colour bar tells the colours, or where nothing does. Words have
    dashes too, which are visible in print.
    """
    dashes = ["-"] * len(kept)
    if by is None or not len(kept):
        return np.array([_ORDERED(0.0)] * len(kept)), dashes, []
    scale = axis_scale(by, settings.axes[by])
    positions = scale.positions(settings.columns()[by])
    count = len(set(scale.positions(scale.values)))
    if isinstance(scale, CategoryScale) and count <= _MOST_DISTINCT:
        colours = to_rgba_array(COLORS)[positions.astype(int)][kept]
        dashes = [DASHES[int(position) % len(DASHES)] for position in positions[kept]]
    else:
        norm = normalize(positions.min(), positions.max())
        colours = _ORDERED(norm(positions))[kept]
        if isinstance(scale, NumberScale) and count > _MOST_IN_LEGEND:
            _draw_colour_bar(ax, scale, norm)
            return colours, dashes, []
    if len(settings) == 1:
        return colours, dashes, []
    return colours, dashes, _legend_handles(scale, positions[kept], colours, dashes)


def _draw_colour_bar(ax: Axes, scale: NumberScale, norm: Normalize) -> None:
    mappable = ScalarMappable(norm, _ORDERED)
    bar = figure_of(ax).colorbar(mappable, ax=ax, label=scale.label, pad=0.02)
    positions, labels = scale.ticks(_MOST_TICKS)
    bar.set_ticks(positions.tolist(), labels=labels)
    bar.minorticks_off()


def _legend_handles(
    scale: NumberScale | CategoryScale, drawn: np.ndarray, colours: np.ndarray, dashes: list[str]
) -> list[Line2D]:
    """Return a legend entry for each value of an axis that is drawn."""
    styles = {
        float(x): {"color": to_hex(tuple(colour)), "linestyle": dash}
        for x, colour, dash in zip(drawn, colours, dashes, strict=True)
    }
    ticks = zip(*scale.ticks(10**6), strict=True)
    return [
        Line2D([], [], label=label, **styles[float(position)])
        for position, label in ticks
        if float(position) in styles
    ]


def _label_heights(ax: Axes, scale: NumberScale) -> None:
    """Label the vertical axis at the place of 0 and at round numbers."""
    positions, labels = scale.ticks(_MOST_TICKS)
    ax.yaxis.set_major_locator(FixedLocator(np.exp(positions).tolist()))
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.yaxis.set_minor_locator(NullLocator())


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _limit_heights(ax: Axes, values: np.ndarray) -> None:
    """Let the vertical axis end a little beyond the values."""
    log = ax.get_yscale() == "log"
    values = _finite(values)
    values = np.log(values[values > 0]) if log else values
    if values.size:
        low, high = values.min(), values.max()
        ends = np.array([low, high]) + np.array([-1, 1]) * (0.04 * (high - low) or 0.5)
        ax.set_ylim(*(np.exp(ends) if log else ends))
