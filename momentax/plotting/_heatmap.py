"""A measure over the learning rate and β, as a map."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from momentax._core import arguments
from momentax.plotting._legend import legend_below
from momentax.plotting._runs import Runs, runs, worst_shared
from momentax.plotting._scale import names
from momentax.sweeps import Points, SweepResult

_AXES = ("learning_rate", "beta")
_DASHED: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 0.8}
_CONTOURS: dict[str, Any] = {"colors": "black", "linestyles": "dashed", "linewidths": 0.8}
_CROSS: dict[str, Any] = {"color": "0.35", "marker": "x", "linestyle": "none"}
_STAR: dict[str, Any] = {
    "color": "crimson",
    "marker": "*",
    "markeredgecolor": "white",
    "linestyle": "none",
}
_CORNER: dict[str, Any] = {
    "color": "0.2",
    "marker": "X",
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "linestyle": "none",
}
_MOST_LABELLED = 12  # More cells a side than this leave no room for a number in each or beside.


def heatmap(
    result: SweepResult | Points,
    values: Any = None,
    *,
    diverged: Any = None,
    mode: str | None = None,
    effective: bool = True,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure at every learning rate and β of a grid.

    Cells lie on the true values: the learning rate on a log scale, β on a log
    scale of 1 - β. Dashed lines join equal effective learning rates α / (1 - β),
    a star marks the best point, a grey cell with a cross a diverged one. The
    worst quarter of the points that did not diverge shares the darkest colour,
    so that the better ones can be told apart; the colour bar says where it ends.

    Of several seeds it is the mean over those that did not diverge: a cell is
    crossed out where all did, and has a small cross in its corner where some did.

    Args:
        result: What a sweep found, or the points alone: a grid with the axes
            learning_rate and beta, in either order, and perhaps seed. Other axes
            have one value.
        values: The name of a metric of the result, one number a point; not
            needed if there is one only. With points the measure at each of
            them, of the grid's shape.
        diverged: Bools of the grid's shape, with points; None marks those whose
            value is not finite. A result knows which diverged.
        mode: "max" or "min", which end of the measure is best. None is what
            result.mode_of says of a metric, and "max" for points.
        effective: Whether to draw the lines of equal α / (1 - β). They mean
            nothing for a method whose gain is 1 - β, as `average` has: there
            the effective learning rate is α itself.
        label: What the measure is called; None is the metric's name.
        ax: Where to draw; None makes a new figure.

    Returns:
        The axes drawn on; `ax.figure.savefig(path)` writes the picture.

    Raises:
        ValueError: The points have other axes with several values, an array has
            another shape than the grid, or there is no such metric.
        TypeError: result is neither a result nor points.
    """
    if isinstance(result, Points):
        end: str = arguments.as_option("mode", "max" if mode is None else mode, ("max", "min"))
        seen, name = _measured(result, values, diverged), ""
    else:
        if diverged is not None:
            raise ValueError("diverged goes with points and values; a result knows its own")
        if values is None and isinstance(result, SweepResult) and len(result.metrics()) == 1:
            (values,) = result.metrics()
        seen, name = runs(result, values), str(values)
        end = arguments.as_option("mode", mode or result.mode_of(name), ("max", "min"))
    label = name if label is None else label
    α, β, (values, lost, partly) = _by_value(seen)
    values = np.ma.array(values, mask=lost)
    labels = names(α, lambda α: α), names(β, lambda β: 1 - β)
    α, β = α.astype(np.float64), β.astype(np.float64)

    if ax is None:
        _, ax = plt.subplots(figsize=(9, 6.5), layout="constrained")
    x, y = _edges(α), _edges(1 - β)
    mesh = ax.pcolormesh(x, y, values.T, cmap="viridis" if end == "max" else "viridis_r")
    figure = ax.figure.get_figure(root=True)
    _colour_bar(mesh, ax, values.compressed(), end, label)
    ax.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]], facecolor="0.8")
    ax.set(xlabel="learning rate α", ylabel="β, on a log scale of 1 − β")
    for scale, places, words in (
        (ax.xaxis, α, labels[0]),
        (ax.yaxis, 1 - β, labels[1]),
    ):
        every = -(-len(words) // _MOST_LABELLED)
        scale.set_major_locator(FixedLocator(places[::every].tolist()))
        scale.set_major_formatter(FixedFormatter(words[::every]))
        scale.set_minor_locator(NullLocator())

    key: list[Line2D] = []
    if effective:
        _effective_learning_rates(ax, x, y)
        key.append(Line2D([], [], label="equal α/(1−β)", **_DASHED))
    best = None
    if values.count():
        best = np.unravel_index(values.argmax() if end == "max" else values.argmin(), values.shape)
    few = max(values.shape) <= _MOST_LABELLED
    colours = mesh.to_rgba(values)
    for i, j in np.ndindex(values.shape):
        spot = float(α[i]), float(1 - β[j])
        if partly[i, j]:
            size = 7 if few else 4.5
            inwards = offset_copy(ax.transData, figure, x=-size, y=-size, units="points")
            corner = float(x[i + 1]), float(y[j + 1])
            ax.plot(*corner, transform=inwards, markersize=size, **_CORNER)
        if lost[i, j]:
            ax.plot(*spot, markersize=9 if few else 4, **_CROSS)
            continue
        if few:
            dark = np.dot(colours[i, j, :3], (0.3, 0.6, 0.1)) < 0.5
            colour = "white" if dark else "black"
            text = ax.text(*spot, f"{values[i, j]:.3g}", ha="center", va="center", zorder=4)
            text.set(color=colour, fontsize=8)
            # No line runs through a number.
            text.set_bbox({"facecolor": colours[i, j], "edgecolor": "none", "pad": 1.5})
        if (i, j) == best:
            above = offset_copy(ax.transData, figure, y=13 if few else 0, units="points")
            star = ax.scatter(*spot, s=260, c="crimson", marker="*", edgecolors="white", zorder=5)
            star.set_clip_on(False)
            star.set_offset_transform(above)
    if best is not None:
        key.append(Line2D([], [], label="best", markersize=13, **_STAR))
    if lost.any():
        key.append(Line2D([], [], label="diverged", markersize=9, **_CROSS))
    if partly.any():
        key.append(Line2D([], [], label="some seeds diverged", markersize=7, **_CORNER))
    legend_below(ax, key)
    return ax


def _measured(points: Points, values: Any, diverged: Any) -> Runs:
    values = np.asarray(values, np.float64)
    lost = ~np.isfinite(values) if diverged is None else np.asarray(diverged, bool)
    for name, array in (("values", values), ("diverged", lost)):
        if array.shape != points.shape:
            raise ValueError(f"{name} must have the grid's shape {points.shape}, got {array.shape}")
    return Runs(points, values, lost | ~np.isfinite(values))


def _by_value(seen: Runs) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """α and β ascending, and at each pair of them the mean, and whether all and some are lost."""
    dims = seen.settings.dims
    found = [dim for name in _AXES for dim, axes in dims.items() if name in axes]
    if len(set(found)) < 2:
        along = " along one dimension" if len(found) == 2 else ""
        got = f"{list(seen.settings.axes)}{along}"
        raise ValueError(f"heatmap needs a grid of {' and '.join(_AXES)}, got {got}")
    order = list(dims)
    others = [dim for dim in order if dim not in found]
    for dim in others:
        if (count := seen.settings.shape[order.index(dim)]) > 1:
            name = next(iter(dims[dim]))
            raise ValueError(
                f"heatmap draws {' and '.join(_AXES)} alone, and {name} has {count} values; "
                f"select one with result.where({name}=...)"
            )
    to = [order.index(dim) for dim in (*found, *others)]
    α, β = (np.asarray(seen.settings.axes[name]) for name in _AXES)
    sort = np.ix_(np.argsort(α), np.argsort(β))
    parts = [seen.mean, seen.all_lost, seen.some_lost]
    cells = [part.transpose(to).reshape(len(α), len(β))[sort] for part in parts]
    return np.sort(α), np.sort(β), cells


def _colour_bar(mesh: QuadMesh, ax: Axes, kept: np.ndarray, mode: str, label: str) -> None:
    """The colour bar, from the best value to the quartile next to the worst."""
    extend = "neither"
    if kept.size:
        low, high, extend = worst_shared(kept, mode)
        mesh.set_clim(low, high)
        if extend != "neither":
            worst = f"{low:.3g} or less" if extend == "min" else f"{high:.3g} or more"
            label = f"{label} (darkest: {worst})".strip()
    ax.figure.get_figure(root=True).colorbar(mesh, ax=ax, label=label, pad=0.02, extend=extend)


def _edges(places: np.ndarray) -> np.ndarray:
    """The cell borders: halfway between neighbours on the log scale."""
    logs = np.log(places)
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.5, 0.5]))
    middles = (logs[1:] + logs[:-1]) / 2
    ends = 2 * logs[[0, -1]] - middles[[0, -1]]
    return np.exp([ends[0], *middles, ends[1]])


def _effective_learning_rates(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Dashed lines along which α / (1 - β) is a power of ten."""
    corners = np.geomspace(x[0], x[-1], 50)[None, :], np.geomspace(y[0], y[-1], 50)[:, None]
    effective = corners[0] / corners[1]
    low, high = np.floor(np.log10(effective.min())), np.ceil(np.log10(effective.max()))
    grid = np.broadcast_arrays(*corners)
    outline = [withStroke(linewidth=2, foreground="white")]
    for level in 10.0 ** np.arange(low, high + 1):
        if not effective.min() < level < effective.max():
            continue
        # One at a time: to name one of several where asked is beyond some versions of matplotlib.
        lines = ax.contour(*grid, effective, levels=[level], **_CONTOURS)
        # Where four cells meet no number stands in the way of a line's name.
        away = np.abs(np.log(x[None, 1:-1] / y[1:-1, None] / level))
        place: dict[str, Any] = {}
        if away.size and away.min() < 0.5:
            j, i = np.unravel_index(away.argmin(), away.shape)
            place = {"manual": [(x[1 + i], y[1 + j])]}
        names = ax.clabel(lines, [level], fmt=f"{level:g}", fontsize=8, **place)
        plt.setp([lines, *names], path_effects=outline)
