"""A measure over the learning rate and β, as a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from momentax import _check
from momentax.sweeps import Points

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
_MOST_LABELLED = 12  # More cells a side than this leave no room for a number in each or beside.


def heatmap(
    points: Points,
    values: Any,
    *,
    diverged: Any = None,
    mode: str = "max",
    effective: bool = True,
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure at every learning rate and β of a grid.

    Cells lie on the true values: the learning rate on a log scale, β on a log
    scale of 1 - β. Dashed lines join equal effective learning rates α / (1 - β),
    a star marks the best point, a grey cell with a cross a diverged one. The
    worst quarter of the points that did not diverge shares the darkest colour,
    so that the better ones can be told apart; the colour bar says where it ends.

    Args:
        points: A grid with the axes learning_rate and beta, in either order.
        values: The measure at each point, of the grid's shape.
        diverged: Bools of the grid's shape; None marks the points whose value
            is not finite.
        mode: "max" or "min", which end of the measure is best.
        effective: Whether to draw the lines of equal α / (1 - β). They mean
            nothing for a method whose gain is 1 - β, as `average` has: there
            the effective learning rate is α itself.
        label: What the measure is called.
        ax: Where to draw; None makes a new figure.

    Returns:
        The axes drawn on; `ax.figure.savefig(path)` writes the picture.

    Raises:
        ValueError: The grid has other axes, or an array another shape than the
            grid.
    """
    _check.one_of("mode", mode, ("max", "min"))
    if sorted(points.axes) != sorted(_AXES):
        raise ValueError(f"heatmap needs a grid of {' and '.join(_AXES)}, got {list(points.axes)}")
    values = np.asarray(values, np.float64)
    lost = ~np.isfinite(values) if diverged is None else np.asarray(diverged, bool)
    for name, array in (("values", values), ("diverged", lost)):
        if array.shape != points.shape:
            raise ValueError(f"{name} must have the grid's shape {points.shape}, got {array.shape}")
    if tuple(points.axes) != _AXES:
        values, lost = values.T, lost.T
    α, β = (np.asarray(points.axes[name], np.float64) for name in _AXES)
    order = np.ix_(np.argsort(α), np.argsort(β))
    α, β, lost = np.sort(α), np.sort(β), (lost | ~np.isfinite(values))[order]
    values = np.ma.array(values[order], mask=lost)

    if ax is None:
        _, ax = plt.subplots(figsize=(9, 6.5), layout="constrained")
    x, y = _edges(α), _edges(1 - β)
    mesh = ax.pcolormesh(x, y, values.T, cmap="viridis" if mode == "max" else "viridis_r")
    figure = ax.figure.get_figure(root=True)
    _colour_bar(mesh, ax, values.compressed(), mode, label)
    ax.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]], facecolor="0.8")
    ax.set(xlabel="learning rate α", ylabel="β, on a log scale of 1 − β")
    for scale, places, names in (
        (ax.xaxis, α, _names(points.axes["learning_rate"], lambda α: α)),
        (ax.yaxis, 1 - β, _names(points.axes["beta"], lambda β: 1 - β)),
    ):
        every = -(-len(names) // _MOST_LABELLED)
        scale.set_major_locator(FixedLocator(places[::every].tolist()))
        scale.set_major_formatter(FixedFormatter(names[::every]))
        scale.set_minor_locator(NullLocator())

    key: list[Line2D] = []
    if effective:
        _effective_learning_rates(ax, x, y)
        key.append(Line2D([], [], label="equal α/(1−β)", **_DASHED))
    best = None
    if values.count():
        best = np.unravel_index(values.argmax() if mode == "max" else values.argmin(), values.shape)
    few = max(values.shape) <= _MOST_LABELLED
    colours = mesh.to_rgba(values)
    for i, j in np.ndindex(values.shape):
        spot = float(α[i]), float(1 - β[j])
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
    if key:  # Below the axis' label, however large the axes are.
        below: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0),
            "borderaxespad": 3.5,
        }
        ax.legend(handles=key, ncols=len(key), frameon=False, **below)
    return ax


def _names(values: np.ndarray, scale: Callable[[Any], Any]) -> list[str]:
    """The shortest labels of an axis, in its order, that no two share and that place each value.

    A label's error is small beside scale(value), so β = 0.999999 does not read 1.
    """
    exact = np.sort([float(str(value)) for value in values])  # 0.9, which float32 has not.
    names: list[str] = []
    for least in range(3, 18):
        tries = [[f"{value:.{digits}g}" for digits in range(least, 18)] for value in exact]
        names = [
            next(name for name in each if abs(float(name) - value) <= 0.05 * scale(value))
            for value, each in zip(exact, tries, strict=True)
        ]
        if len(set(names)) == len(names):
            break
    return names


def _colour_bar(mesh: QuadMesh, ax: Axes, kept: np.ndarray, mode: str, label: str) -> None:
    """The colour bar, from the best value to the quartile next to the worst."""
    extend = "neither"
    if kept.size:
        low, high = kept.min(), kept.max()
        worst, end, words = (0.25, "min", "or less") if mode == "max" else (0.75, "max", "or more")
        limit = np.quantile(kept, worst)
        if low < limit < high:
            extend = end
            mesh.set_clim(*((limit, high) if mode == "max" else (low, limit)))
            label = f"{label} (darkest: {limit:.3g} {words})".strip()
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
