"""A metric at every learning rate and β, as a heat map."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from momentax._core.arguments import as_flag, describe, is_real
from momentax._core.hyperparameters import SCALES
from momentax.plotting._axis_scale import NumberScale, number_scale, tick_labels
from momentax.plotting._metric import SeedMeans, average_over_seeds, best_end, read_metric
from momentax.plotting._style import (
    as_label,
    draw_zero_border,
    figure_of,
    legend_below,
    metric_colormap,
    metric_limits,
    new_axes,
)
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
_MOST_LABELLED = 12  # More cells a side than this leave no room for their numbers and labels.


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
    """Draw a metric at every learning rate and β of a grid.

    The learning rate is on a log scale, on which 0 has a place of its own below the smallest
    positive value, β on a log scale of 1 - β, and each cell lies at its values. Dashed lines
    join equal effective learning rates α / (1 - β). A star marks the best cell; a cell that
    diverged is grey with a cross. The worst quarter of the points that did not diverge shares
    the darkest colour, so that the better ones can be distinguished; the colour bar says where
    that quarter ends.

    With several seeds a cell shows the mean over those that did not diverge. It has the cross
    where all of them diverged, and a small cross in its corner where some did.

    Args:
        result: The result of a sweep, or only its points. The points are a grid with the axes
            learning_rate and beta, in either order, and possibly seed; any other axis has a
            single value.
        values: The name of a metric of the result with one number a point; it may be left
            out if there is only one metric. With points, the metric itself, an array of the
            grid's shape.
        diverged: Which points diverged, bools of the grid's shape; only with points. None
            means the points whose value is not finite.
        mode: "max" or "min", whether the largest or the smallest value of the metric is best. None
            takes result.mode_of(metric), and with points what the label says in the same way; an
            error is raised if they do not tell.
        effective: Whether to draw the lines of equal α / (1 - β). They do not apply to a method
            whose gain is 1 - β, such as `average`: its effective learning rate is α itself.
        label: The name of the metric in the picture; None means its own name.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes; `ax.figure.savefig(path)` writes the picture.

    Raises:
        ValueError: An axis other than learning_rate, beta and seed has several values, an
            array has another shape than the grid, values are missing, the result has no
            metric of this name, or mode is another word or is missing.
        TypeError: result is neither a result nor points, values with points are not real
            numbers, diverged is not of bools, effective is not a bool, label is not text, or ax
            is not matplotlib axes.

    Example:
        >>> points = momentax.grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9])
        >>> ax = momentax.plotting.heatmap(points, [[0.5, 0.8], [0.7, 0.2]], label="accuracy")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('learning rate α', 'β, on a log scale of 1 − β')
    """
    effective, label = as_flag("effective", effective), as_label(label)
    points, metric, name, end = _read_arguments(result, values, diverged, mode, label)
    cells = _as_cells(average_over_seeds(points, *metric), end)
    ax = new_axes(ax, 9, 6.5)
    mesh = _draw_cells(ax, cells, end, name if label is None else label)
    if cells.learning_rates.has_zero:
        draw_zero_border(ax, float(cells.x_edges[1]))
    if effective := effective and bool(cells.learning_rates.values.any()):
        _draw_effective_learning_rates(ax, cells)
    few = max(cells.values.shape) <= _MOST_LABELLED
    if few:
        _write_numbers(ax, cells, mesh)
    _mark_diverged(ax, cells, few)
    if cells.best is not None:
        _mark_best(ax, cells, *cells.best, few)
    legend_below(ax, _legend_handles(cells, effective))
    return ax


class _Cells(NamedTuple):
    """The cells of the map, in ascending order along both axes.

    learning_rates, betas: the scales of the axes, which hold their values.
    x, y: the coordinates of the cells' centres: the learning rates, where 0 has a coordinate
        below the others, and 1 - β.
    x_edges, y_edges: the coordinates of the cells' borders.
    values: the metric, masked where every run diverged.
    some_diverged: where some runs diverged and others did not.
    best: the indices of the best cell; None where every run diverged.
    """

    learning_rates: NumberScale
    betas: NumberScale
    x: np.ndarray
    y: np.ndarray
    x_edges: np.ndarray
    y_edges: np.ndarray
    values: np.ma.MaskedArray
    some_diverged: np.ndarray
    best: tuple[int, int] | None


def _read_arguments(
    result: Any, values: Any, diverged: Any, mode: Any, label: str | None
) -> tuple[Points, tuple[np.ndarray, np.ndarray], str, str]:
    """Return the points, the metric there and which runs diverged, its name, and its best end."""
    if isinstance(result, Points):
        metric = _read_arrays(result, values, diverged)
        return result, metric, "", best_end(mode, label or "")
    if diverged is not None:
        raise ValueError("give diverged with points only; a result has its own")
    if values is None and isinstance(result, SweepResult) and len(result.metrics()) == 1:
        (values,) = result.metrics()
    metric, name = read_metric(result, values, name="values"), str(values)
    return result.points, metric, name, best_end(mode, name, result)


def _read_arrays(points: Points, values: Any, diverged: Any) -> tuple[np.ndarray, np.ndarray]:
    if values is None:
        raise ValueError(f"with points, give values: an array of shape {points.shape}")
    values = _as_array("values", values, "real numbers")
    finite = np.isfinite(values)
    diverged = ~finite if diverged is None else _as_array("diverged", diverged, "bools")
    for name, array in (("values", values), ("diverged", diverged)):
        if array.shape != points.shape:
            raise ValueError(f"{name} must have the grid's shape {points.shape}, got {array.shape}")
    return values, diverged | ~finite


def _as_array(name: str, value: Any, kind: str) -> np.ndarray:
    """Return an array of real numbers, in float64, or of bools."""
    wrong = f"{name} must be an array of {kind}, got {describe(value)}"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Rows of different lengths, or a traced array.
        raise TypeError(wrong) from None
    if array.dtype != bool and (kind == "bools" or not is_real(array)):
        raise TypeError(wrong)
    return array if kind == "bools" else array.astype(np.float64)


def _as_cells(means: SeedMeans, mode: str) -> _Cells:
    """Sort the settings by learning rate and β, and find the best."""
    order = _dimension_order(means.settings)
    axes = [np.asarray(means.settings.axes[name]) for name in _AXES]
    shape = len(axes[0]), len(axes[1])
    ascending = np.ix_(*(np.argsort(values) for values in axes))
    mean, all_diverged, some_diverged = (
        part.transpose(order).reshape(shape)[ascending]
        for part in (means.mean, means.all_diverged, means.some_diverged)
    )
    values = np.ma.array(mean, mask=all_diverged)
    best = None
    if values.count():
        place = values.argmax() if mode == "max" else values.argmin()
        i, j = np.unravel_index(place, shape)
        best = int(i), int(j)
    learning_rates, betas = (
        number_scale(name, np.sort(values)) for name, values in zip(_AXES, axes, strict=True)
    )
    return _Cells(
        learning_rates,
        betas,
        x=learning_rates.coordinates(learning_rates.values),
        y=1 - betas.values.astype(np.float64),
        x_edges=_edges(learning_rates),
        y_edges=1 - _edges(betas),
        values=values,
        some_diverged=some_diverged,
        best=best,
    )


def _dimension_order(settings: Points) -> list[int]:
    """Return the permutation that puts the dimensions of the learning rate and β first."""
    dims = settings.dims
    found = [dim for name in _AXES for dim, axes in dims.items() if name in axes]
    if len(set(found)) < 2:
        along = " along one dimension" if len(found) == 2 else ""
        got = f"{list(settings.axes)}{along}"
        raise ValueError(f"heatmap needs a grid of {' and '.join(_AXES)}, got {got}")
    others = [dim for dim in dims if dim not in found]
    for dim, count in zip(dims, settings.shape, strict=True):
        if dim in others and count > 1:
            name = next(iter(dims[dim]))
            raise ValueError(
                f"heatmap draws only {' and '.join(_AXES)}, and {name} has {count} values; "
                f"select one with result.where({name}=...)"
            )
    return [list(dims).index(dim) for dim in (*found, *others)]


def _edges(scale: NumberScale) -> np.ndarray:
    """Return the values at the borders of the cells, halfway between neighbours on the scale."""
    centres = scale.positions(scale.values)
    if len(centres) == 1:
        edges = centres[0] + np.array([-0.5, 0.5])
    else:
        middles = (centres[1:] + centres[:-1]) / 2
        ends = 2 * centres[[0, -1]] - middles[[0, -1]]
        edges = np.array([ends[0], *middles, ends[1]])
    return np.asarray(SCALES[scale.scale].inverse(edges))


def _draw_cells(ax: Axes, cells: _Cells, mode: str, label: str) -> QuadMesh:
    """Draw the coloured cells, the colour bar and the labels of both axes."""
    x, y = cells.x_edges, cells.y_edges
    mesh = ax.pcolormesh(x, y, cells.values.T, cmap=metric_colormap(mode))
    extend = "neither"
    if (finite := cells.values.compressed()).size:
        low, high, extend = metric_limits(finite, mode)
        mesh.set_clim(low, high)
        if extend != "neither":
            worst = f"{low:.3g} or less" if extend == "min" else f"{high:.3g} or more"
            label = f"{label} (darkest: {worst})".strip()
    figure_of(ax).colorbar(mesh, ax=ax, label=label, pad=0.02, extend=extend)
    ax.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]], facecolor="0.8")
    ax.set(xlabel=cells.learning_rates.label, ylabel=cells.betas.label)
    _label_ticks(ax.xaxis, cells.x, cells.learning_rates)
    _label_ticks(ax.yaxis, cells.y, cells.betas)
    return mesh


def _label_ticks(axis: Axis, coordinates: np.ndarray, scale: NumberScale) -> None:
    every = -(-len(coordinates) // _MOST_LABELLED)
    labels = tick_labels(scale.values, scale.scale)
    axis.set_major_locator(FixedLocator(coordinates[::every].tolist()))
    axis.set_major_formatter(FixedFormatter(labels[::every]))
    axis.set_minor_locator(NullLocator())


def _draw_effective_learning_rates(ax: Axes, cells: _Cells) -> None:
    """Draw dashed lines along which α / (1 - β) is a power of ten, each with its number."""
    x, y = cells.x_edges[cells.learning_rates.has_zero :], cells.y_edges  # Not at 0.
    grid = np.meshgrid(np.geomspace(x[0], x[-1], 50), np.geomspace(y[0], y[-1], 50))
    effective = grid[0] / grid[1]
    low, high = np.floor(np.log10(effective.min())), np.ceil(np.log10(effective.max()))
    outline = [withStroke(linewidth=2, foreground="white")]
    for level in 10.0 ** np.arange(low, high + 1):
        if not effective.min() < level < effective.max():
            continue
        # One line at a time: some versions of matplotlib cannot label one of several by hand.
        line = ax.contour(*grid, effective, levels=[level], **_CONTOURS)
        # A label at a corner of four cells does not cover a number.
        distances = np.abs(np.log(x[None, 1:-1] / y[1:-1, None] / level))
        place: dict[str, Any] = {}
        if distances.size and distances.min() < 0.5:
            j, i = np.unravel_index(distances.argmin(), distances.shape)
            place = {"manual": [(x[1 + i], y[1 + j])]}
        labels = ax.clabel(line, [level], fmt=f"{level:g}", fontsize=8, **place)
        plt.setp([line, *labels], path_effects=outline)


def _write_numbers(ax: Axes, cells: _Cells, mesh: QuadMesh) -> None:
    """Write the metric into each cell, on a ground of the cell's colour."""
    colours = mesh.to_rgba(cells.values)
    for i, j in zip(*np.nonzero(~np.ma.getmaskarray(cells.values)), strict=True):
        is_dark = np.dot(colours[i, j, :3], (0.3, 0.6, 0.1)) < 0.5
        place = float(cells.x[i]), float(cells.y[j])
        text = ax.text(*place, f"{cells.values[i, j]:.3g}", ha="center", va="center", zorder=4)
        text.set(color="white" if is_dark else "black", fontsize=8)
        # The ground hides the lines of equal effective learning rate behind the number.
        text.set_bbox({"facecolor": colours[i, j], "edgecolor": "none", "pad": 1.5})


def _mark_diverged(ax: Axes, cells: _Cells, few: bool) -> None:
    """Cross out the cells in which every run diverged; put a cross in the corner of others."""
    for i, j in zip(*np.nonzero(np.ma.getmaskarray(cells.values)), strict=True):
        ax.plot(float(cells.x[i]), float(cells.y[j]), markersize=9 if few else 4, **_CROSS)
    size = 7 if few else 4.5
    inwards = offset_copy(ax.transData, figure_of(ax), x=-size, y=-size, units="points")
    for i, j in zip(*np.nonzero(cells.some_diverged), strict=True):
        corner = float(cells.x_edges[i + 1]), float(cells.y_edges[j + 1])
        ax.plot(*corner, transform=inwards, markersize=size, **_CORNER)


def _mark_best(ax: Axes, cells: _Cells, i: int, j: int, few: bool) -> None:
    """Put a star on the best cell, above its number if there is one."""
    above = offset_copy(ax.transData, figure_of(ax), y=13 if few else 0, units="points")
    place = float(cells.x[i]), float(cells.y[j])
    star = ax.scatter(*place, s=260, c="crimson", marker="*", edgecolors="white", zorder=5)
    star.set_clip_on(False)
    star.set_offset_transform(above)


def _legend_handles(cells: _Cells, effective: bool) -> list[Line2D]:
    """Return an entry for each kind of mark in the picture."""
    marks = [
        (effective, "equal α/(1−β)", _DASHED),
        (cells.best is not None, "best", {**_STAR, "markersize": 13}),
        (np.ma.is_masked(cells.values), "diverged", {**_CROSS, "markersize": 9}),
        (cells.some_diverged.any(), "some seeds diverged", {**_CORNER, "markersize": 7}),
    ]
    return [Line2D([], [], label=label, **style) for is_there, label, style in marks if is_there]
