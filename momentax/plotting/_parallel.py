"""Each setting of a sweep as a line across parallel axes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from momentax._core.typing import Reals
from momentax.plotting._axis_scale import (
    CategoryScale,
    NumberScale,
    axis_scale,
    is_wide,
    metric_scale,
)
from momentax.plotting._metric import average_over_seeds, best_end, read_metric
from momentax.plotting._regret import MetricColours, as_resolution, find_ties, tie_label
from momentax.plotting._style import legend_below, new_axes
from momentax.sweeps import SweepResult

_DIVERGED: dict[str, Any] = {"color": "0.7", "linestyle": "dashed", "linewidth": 0.8}
_MOST_TICKS = 12
_STRIP_WIDTH = 0.04  # Of the metric's axis, which shows its colours.


def parallel(
    result: SweepResult,
    metric: str,
    *,
    mode: str | None = None,
    resolution: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each setting as a line that crosses one vertical axis for each of its values.

    The learning rate is on a log scale, β on a log scale of 1 - β, and words are evenly spaced.
    The last axis is the metric, on a log scale where its smallest value is best and it is
    positive and spans a factor of 100. On a log scale 0 has a place of its own, below the
    smallest positive value. The metric also colours the lines, on a log scale of the distance from
    its best value; better lines lie above worse ones, and the best is thick. Settings that are
    tied with it, as in `heatmap`, are thick too and have no border. With several seeds the metric
    is the mean over those that did not diverge. A setting with which all diverged is a grey dashed
    line that ends before the metric.

    Args:
        result: The result of a sweep.
        metric: The name of a metric of one number a point.
        mode: "max" or "min", whether the largest or the smallest value of the metric is best;
            None takes result.mode_of(metric), which raises if the name does not tell.
        resolution: The smallest difference of the metric that means something, in [0, inf); None
            reads it off the values, as `heatmap` does.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes; each vertical axis runs from 0 to 1.

    Raises:
        ValueError: The metric is unknown or is not one number a point, mode is another word or
            is missing, resolution lies outside its interval, or the points have no axis besides
            seed.
        TypeError: result is not what `momentax.sweep` returns, resolution is not a number, or ax
            is not matplotlib axes.

    Example:
        >>> points = momentax.grid(learning_rate=[0.1, 0.2, 0.4], beta=[0.0, 0.9])
        >>> result = momentax.sweep(lambda learning_rate, beta: learning_rate - beta, points)
        >>> ax = momentax.plotting.parallel(result, "value", mode="min")
    """
    values, diverged = read_metric(result, metric)
    end = best_end(mode, metric, result)
    resolution = as_resolution(resolution, values, diverged)
    means = average_over_seeds(result.points, values, diverged)
    settings = means.settings
    if not settings.axes:
        raise ValueError("parallel needs points with an axis besides seed, such as learning_rate")
    axes = [_VerticalAxis(axis_scale(name, values)) for name, values in settings.axes.items()]
    columns = zip(axes, settings.columns().values(), strict=True)
    heights = np.stack([axis.heights(values) for axis, values in columns], axis=1)
    mean, error = means.mean.ravel(), means.standard_error.ravel()
    diverged = means.all_diverged.ravel()
    ax = new_axes(ax, 2 * len(axes) + 4, 5.5)
    for x, axis in enumerate(axes):
        ax.axvline(x, color="0.2", linewidth=1, zorder=2.5)
        _draw_ticks(ax, x, axis, xytext=(-5, 0), ha="right")
    labels, handles = [axis.scale.label for axis in axes], []
    if not diverged.all():
        kept = ~diverged
        found = _Metric(metric, mean[kept], error[kept], end, resolution)
        label, marked = _draw_lines(ax, heights[kept], found)
        labels.append(label)
        handles += marked
    if diverged.any():
        _draw_diverged(ax, heights[diverged])
        handles.append(Line2D([], [], label="diverged", **_DIVERGED))
    ax.set(yticks=[], ylim=(-0.03, 1.03), xlim=(-0.1, len(axes) + 2 * _STRIP_WIDTH))
    ax.set_xticks(range(len(labels)), [label.replace(", on a ", "\n") for label in labels])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    legend_below(ax, handles, gap=1)
    return ax


class _VerticalAxis(NamedTuple):
    """A vertical axis, whose values lie at heights from 0 to 1."""

    scale: NumberScale | CategoryScale

    def heights(self, values: Any) -> np.ndarray:
        return self.heights_at(self.scale.positions(values))

    def heights_at(self, positions: Any) -> np.ndarray:
        """Return the heights of positions on the scale; a single value lies midway."""
        ends = self.scale.positions(self.scale.values)
        low, high = ends.min(), ends.max()
        if low == high:
            return np.full(np.shape(positions), 0.5)
        return (np.asarray(positions) - low) / (high - low)


class _Metric(NamedTuple):
    """The metric of the settings that did not diverge."""

    name: str
    values: Reals
    errors: Reals
    mode: str
    resolution: float


def _draw_lines(ax: Axes, heights: np.ndarray, metric: _Metric) -> tuple[str, list[Line2D]]:
    """Draw the settings that did not diverge, and the axis of the metric behind the others.

    heights has a row for each setting, with its height on each of the other axes. The result is
    the label of the metric's axis, and the entries of the legend.
    """
    x, values, mode = heights.shape[1], metric.values, metric.mode
    scale = metric_scale(metric.name, values, log=mode == "min" and is_wide(values))
    axis = _VerticalAxis(scale)
    colours = MetricColours(values, mode, metric.resolution)
    best_last = np.argsort(values if mode == "max" else -values, kind="stable")
    best = best_last[-1]
    ties = find_ties(values, metric.errors, best, metric.resolution)
    lines = np.concatenate([heights, axis.heights(values)[:, None]], axis=1)
    shades = colours.colormap(colours.norm(values))
    for i in best_last[:-1]:
        ax.plot(lines[i], color=shades[i], linewidth=2.5 if ties[i] else 1, zorder=2)
    label = f"best: {values[best]:.4g}"
    (thick,) = ax.plot(lines[best], color=shades[best], linewidth=3.5, label=label, zorder=3)
    thick.set_path_effects([withStroke(linewidth=5.5, foreground="black")])
    handles = [thick]
    if ties.any():
        tied = tie_label(metric.errors, metric.resolution)
        colour = shades[np.flatnonzero(ties)[0]]
        handles.append(Line2D([], [], color=colour, linewidth=2.5, label=tied))
    _draw_colour_strip(ax, x, scale, colours.colormap, colours.norm)
    _draw_ticks(ax, x + _STRIP_WIDTH, axis, xytext=(5, 0), ha="left")
    return scale.label, handles


def _draw_diverged(ax: Axes, heights: np.ndarray) -> None:
    count = heights.shape[1]
    for line in heights:  # A little beyond the last axis, so that the line is visible there.
        ax.plot([*range(count), count - 0.75], [*line, line[-1]], zorder=1, **_DIVERGED)


def _draw_colour_strip(
    ax: Axes, x: float, scale: NumberScale, colormap: Colormap, norm: Normalize
) -> None:
    """Draw the axis of the metric as a strip of the colours of its values."""
    positions = scale.positions(scale.values)
    even = np.linspace(positions.min(), positions.max(), 256)
    strip = norm(scale.values_at(even))[:, None]
    ends = (0, 1) if positions.min() < positions.max() else (0.4, 0.6)
    borders = np.linspace(*ends, 257)
    ax.pcolormesh([x, x + _STRIP_WIDTH], borders, strip, cmap=colormap, vmin=0, vmax=1)


def _draw_ticks(ax: Axes, x: float, axis: _VerticalAxis, **side: Any) -> None:
    """Draw the ticks of one axis, with labels that stay readable over lines."""
    positions, labels = axis.scale.ticks(_MOST_TICKS)
    ground: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for height, label in zip(axis.heights_at(positions), labels, strict=True):
        ax.plot(x, height, marker="_", color="0.2", markersize=6, zorder=2.6)
        text = ax.annotate(
            label, (x, height), textcoords="offset points", va="center", zorder=4, **side
        )
        text.set(fontsize=9, bbox=ground)
