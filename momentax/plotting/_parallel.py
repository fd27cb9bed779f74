"""Settings as lines across the axes of their points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from momentax._core import arguments
from momentax.plotting._legend import legend_below
from momentax.plotting._runs import runs, worst_shared
from momentax.plotting._scale import Scale, axis, is_wide, measure
from momentax.sweeps import SweepResult

_LOST: dict[str, Any] = {"color": "0.7", "linestyle": "dashed", "linewidth": 0.8}
_MOST_TICKS = 12
_STRIP = 0.04  # The width of the coloured metric axis.


def parallel(
    result: SweepResult, metric: str, *, mode: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each setting as a line across a vertical axis for each of its values.

    The learning rate is on a log scale, β on a log scale of 1 - β, words have a
    place each; the metric stands last, on a log scale where its low end is best and
    it is positive and spans more than a factor of 100. It colours the lines: the worst quarter of
    the settings shares the darkest colour, better ones lie above worse ones, and
    the best is thick. Of several seeds it is the mean over those that did not
    diverge. A setting of which all did is dashed in grey and ends before the metric.

    Args:
        result: What a sweep found.
        metric: The name of a metric of one number a point.
        mode: "max" or "min", which end of the metric is best; None as in
            `heatmap`.
        ax: Where to draw; None makes a new figure.

    Returns:
        The axes drawn on. Lines run between 0 and 1 on each axis.

    Raises:
        ValueError: There is no such metric, or it is no one number a point.
        TypeError: result is not what `momentax.sweep` returns.
    """
    seen = runs(result, metric)
    end = arguments.as_option("mode", mode or result.mode_of(metric), ("max", "min"))
    settings = seen.settings
    if not settings.axes:
        raise ValueError("parallel needs points with an axis besides seed, such as learning_rate")
    columns = settings.columns()
    mean, lost = seen.mean.ravel(), seen.all_lost.ravel()
    count, kept = len(settings.axes), mean[~lost]
    scales = [axis(name, values) for name, values in settings.axes.items()]
    units = [_unit(on, values) for on, values in zip(scales, settings.axes.values(), strict=True)]
    if ax is None:
        _, ax = plt.subplots(figsize=(2 * count + 4, 5.5), layout="constrained")
    heights = np.stack(
        [to(on.place(columns[name])) for to, on, name in zip(units, scales, columns, strict=True)],
        axis=1,
    )
    for line in heights[lost]:
        # A little beyond the last axis, so as to be seen there.
        ax.plot([*range(count), count - 0.75], [*line, line[-1]], zorder=1, **_LOST)
    for place, (on, to) in enumerate(zip(scales, units, strict=True)):
        ax.axvline(place, color="0.2", linewidth=1, zorder=2.5)
        _label(ax, place, on, to, {"xytext": (-5, 0), "ha": "right"})
    key: list[Line2D] = []
    labels = [on.label for on in scales]
    if kept.size:
        wide = end == "min" and is_wide(kept)
        on = measure(metric, kept, wide)
        labels.append(on.label)
        to = _unit(on, kept)
        colours = mpl.colormaps["viridis" if end == "max" else "viridis_r"]
        low, high, _ = worst_shared(kept, end)
        norm = Normalize(low, high if high > low else low + 1)
        best_last = np.argsort(kept if end == "max" else -kept, kind="stable")
        ends = to(on.place(kept))[:, None]
        paths = np.concatenate([heights[~lost], ends], axis=1)[best_last]
        shades = colours(norm(kept[best_last]))
        for line, shade in zip(paths[:-1], shades[:-1], strict=True):
            ax.plot(line, color=shade, linewidth=1, zorder=2)
        name = f"best: {kept[best_last[-1]]:.4g}"
        (best,) = ax.plot(paths[-1], color=shades[-1], linewidth=3.5, label=name, zorder=3)
        best.set_path_effects([withStroke(linewidth=5.5, foreground="black")])
        key.append(best)
        places = on.place(kept)
        even = np.linspace(places.min(), places.max(), 256)
        strip = norm(np.exp(even) if wide else even)[:, None]
        borders = np.linspace(0, 1, 257) if kept.min() < kept.max() else np.linspace(0.4, 0.6, 257)
        ax.pcolormesh([count, count + _STRIP], borders, strip, cmap=colours, vmin=0, vmax=1)
        _label(ax, count + _STRIP, on, to, {"xytext": (5, 0), "ha": "left"})
    if lost.any():
        key.append(Line2D([], [], label="diverged", **_LOST))
    names = [label.replace(", on a ", "\n") for label in labels]
    ax.set(yticks=[], ylim=(-0.03, 1.03), xlim=(-0.1, count + 2 * _STRIP))
    ax.set_xticks(range(len(names)), names)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    legend_below(ax, key, gap=1)
    return ax


def _unit(on: Scale, values: np.ndarray) -> Callable[[Any], np.ndarray]:
    """From places on a scale to heights: all values between 0 and 1, a single one midway."""
    places = on.place(values)
    low, high = places.min(), places.max()
    if low == high:
        return lambda places: np.full(np.shape(places), 0.5)
    return lambda places: (np.asarray(places) - low) / (high - low)


def _label(ax: Axes, place: float, on: Scale, to: Callable[[Any], Any], side: Any) -> None:
    """The ticks of one axis, readable over lines."""
    at, words = on.ticks(_MOST_TICKS)
    ground: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for height, word in zip(to(at), words, strict=True):
        ax.plot(place, height, marker="_", color="0.2", markersize=6, zorder=2.6)
        text = ax.annotate(
            word, (place, height), textcoords="offset points", va="center", zorder=4, **side
        )
        text.set(fontsize=9, bbox=ground)
