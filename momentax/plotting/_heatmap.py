"""A metric at every learning rate and β, as a heat map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from momentax._core.arguments import (
    as_flag,
    describe,
    is_real,
    require_function,
)
from momentax._core.hyperparameters import SCALES
from momentax.plotting._axis_scale import NumberScale, number_scale, tick_labels
from momentax.plotting._heatmap_marks import (
    Cells,
    draw_effective_learning_rates,
    legend_handles,
    mark_best,
    mark_diverged,
    write_numbers,
)
from momentax.plotting._metric import SeedMeans, average_over_seeds, best_end, read_metric
from momentax.plotting._regret import MetricColours, as_resolution, find_ties
from momentax.plotting._style import (
    as_label,
    draw_zero_border,
    figure_of,
    legend_below,
    new_axes,
)
from momentax.plotting._theory_overlay import as_curvature, heavy_ball_overlay, theory_overlay
from momentax.sweeps import Points, SweepResult

_AXES = ("learning_rate", "beta")
_MOST_LABELLED = 12  # More cells a side than this leave no room for their numbers and labels.


def heatmap(
    result: SweepResult | Points,
    values: Any = None,
    *,
    diverged: Any = None,
    mode: str | None = None,
    effective: bool = True,
    label: str | None = None,
    resolution: float | None = None,
    curvature: Any = None,
    pipeline: Callable[[Any, Any], optax.GradientTransformation] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric at every learning rate and β of a grid.

    The learning rate is on a log scale, on which 0 has a place of its own below the smallest
    positive value, β on a log scale of 1 - β, and each cell lies at its values. Dashed lines
    join equal effective learning rates α / (1 - β). Colours are on a log scale of the distance
    from the best value, so that settings near it can be distinguished. A cell that diverged is
    grey with a cross.

    A star marks the best cell, and white stars mark those that are tied with it: the difference is
    at most the resolution of the metric, or one standard error of the difference of two means.

    With several seeds a cell shows the mean over those that did not diverge, and its standard
    error. It has the cross where all of them diverged, and a small cross in its corner where some
    did.

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
        resolution: The smallest difference of the metric that means something, in [0, inf), such
            as 1 / 360 for an accuracy on 360 test images. None reads it off: it is the step of
            which all values are multiples, if they lie in [0, 1] and there is one, and else 0.
        curvature: λ in (0, inf), the largest curvature of the loss, or the Curvature that
            `momentax.curvature` measured: `theory_overlay` draws the stability edge there. None
            draws none.
        pipeline: A function of a learning rate and a β, in this order, that returns the optimizer
            whose edge is drawn; None means `momentax.sgd` with heavy ball. It needs curvature.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes; `ax.figure.savefig(path)` writes the picture.

    Raises:
        ValueError: An axis other than learning_rate, beta and seed has several values, an
            array has another shape than the grid, values are missing, the result has no
            metric of this name, mode is another word or is missing, resolution or curvature lies
            outside its interval, or pipeline is given without curvature.
        TypeError: result is neither a result nor points, values with points are not real
            numbers, diverged is not of bools, effective is not a bool, label is not text,
            resolution or curvature is not a number, pipeline is not a function, or ax is not
            matplotlib axes.

    Example:
        >>> points = momentax.grid(learning_rate=[0.1, 1.0], beta=[0.0, 0.9])
        >>> ax = momentax.plotting.heatmap(points, [[0.5, 0.8], [0.7, 0.2]], label="accuracy")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('learning rate α', 'β, on a log scale of 1 − β')
    """
    effective, label = as_flag("effective", effective), as_label(label)
    λ = _as_edge(curvature, pipeline)
    points, metric, name, end = _read_arguments(result, values, diverged, mode, label)
    resolution = as_resolution(resolution, *metric)
    cells = _as_cells(average_over_seeds(points, *metric), end, resolution)
    ax = new_axes(ax, 9, 6.5)
    mesh = _draw_cells(ax, cells, end, name if label is None else label)
    if cells.learning_rates.has_zero:
        draw_zero_border(ax, float(cells.x_edges[1]))
    few = max(cells.values.shape) <= _MOST_LABELLED
    if effective := effective and bool(cells.learning_rates.values.any()):
        draw_effective_learning_rates(ax, cells, few)
    if few:
        write_numbers(ax, cells, mesh)
    mark_diverged(ax, cells, few)
    mark_best(ax, cells, few)
    legend_below(ax, legend_handles(cells, effective))
    if λ is None:
        return ax
    return heavy_ball_overlay(ax, λ) if pipeline is None else theory_overlay(ax, pipeline, λ)


def _as_edge(curvature: Any, pipeline: Any) -> float | None:
    """Return the curvature at which the stability edge is drawn; None if none is drawn."""
    if pipeline is not None:
        require_function("pipeline", pipeline, "of a learning rate and a β", 0.1, 0.9)
        if curvature is None:
            raise ValueError("pipeline needs curvature, at which its stability edge is drawn")
    return None if curvature is None else as_curvature(curvature)


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


def _as_cells(means: SeedMeans, mode: str, resolution: float) -> Cells:
    """Sort the settings by learning rate and β, and find the best."""
    order = _dimension_order(means.settings)
    axes = [np.asarray(means.settings.axes[name]) for name in _AXES]
    shape = len(axes[0]), len(axes[1])
    ascending = np.ix_(*(np.argsort(values) for values in axes))
    mean, errors, all_diverged, some_diverged = (
        part.transpose(order).reshape(shape)[ascending]
        for part in (means.mean, means.standard_error, means.all_diverged, means.some_diverged)
    )
    values = np.ma.array(mean, mask=all_diverged)
    best, ties = None, np.zeros(shape, bool)
    if values.count():
        place = values.argmax() if mode == "max" else values.argmin()
        i, j = np.unravel_index(place, shape)
        best = int(i), int(j)
        ties = find_ties(values, errors, best, resolution)
    learning_rates, betas = (
        number_scale(name, np.sort(values)) for name, values in zip(_AXES, axes, strict=True)
    )
    return Cells(
        learning_rates,
        betas,
        x=learning_rates.coordinates(learning_rates.values),
        y=1 - betas.values.astype(np.float64),
        x_edges=_edges(learning_rates),
        y_edges=1 - _edges(betas),
        values=values,
        errors=errors,
        some_diverged=some_diverged,
        best=best,
        ties=ties,
        resolution=resolution,
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


def _draw_cells(ax: Axes, cells: Cells, mode: str, label: str) -> QuadMesh:
    """Draw the coloured cells, the colour bar and the labels of both axes."""
    x, y = cells.x_edges, cells.y_edges
    if (finite := cells.values.compressed()).size:
        colours = MetricColours(finite, mode, cells.resolution)
        mesh = ax.pcolormesh(x, y, cells.values.T, cmap=colours.colormap, norm=colours.norm)
        colours.draw_bar(figure_of(ax), ax, mesh, label)
    else:
        mesh = ax.pcolormesh(x, y, cells.values.T)
        figure_of(ax).colorbar(mesh, ax=ax, label=label, pad=0.02)
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
