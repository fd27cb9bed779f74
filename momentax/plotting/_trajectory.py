"""The paths of runs over the contours of a loss of two parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from momentax._core.arguments import as_reals, describe
from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout
from momentax.plotting._landscape import Landscape, Path, make_landscape
from momentax.plotting._paths import (
    MINIMIZER,
    count_columns,
    dot_interval,
    draw_path,
    end_mark,
    mark_handles,
    moving_length,
    path_style,
)
from momentax.plotting._runs import as_runs
from momentax.plotting._style import figure_of, legend_below, new_axes, require_axes

_RESOLUTION = 161
_LIGHT = LinearSegmentedColormap.from_list(
    "momentax light", mpl.colormaps["Greys"](np.linspace(0, 0.36, 256))
)


def trajectory(
    runs: Mapping[str, Rollout] | Rollout,
    loss: Callable[[PyTree], jax.Array],
    *,
    minimizer: PyTree = None,
    directions: Any = None,
    limits: Any = None,
    levels: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the paths of runs over the contours of a loss of two parameters.

    A white circle marks where each run starts, a large mark where it ends, and arrows its
    direction. Small marks are a fixed number of recorded points apart, which the legend says, so
    that their distances show the speed. The aspect is equal unless the ranges of the two
    parameters differ much; then a note says so. The limits follow the paths. A run that diverges
    is cut, and the legend says that it diverged.

    Args:
        runs: Runs by name, or one run: what `momentax.rollout` returns with the record "params".
        loss: f, the loss of the runs, from params to a real scalar.
        minimizer: θ*, shaped like the params; it gets a star, and the contours are those of
            f - f(θ*). None leaves both out.
        directions: Two trees shaped like the params, for params with more than two entries.
            The picture is the plane along them through the last params of the first run, on
            which the paths are projected. None draws the two parameters themselves.
        limits: ((left, right), (bottom, top)); None follows the paths.
        levels: The values of the loss at the contours, 1-D and growing. None chooses a log scale
            of the loss above the minimizer's, or above the lowest loss in the picture; where
            that lies on the border, the scale is linear.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. Each run is a line of ax.lines, with its name as the label and as data θ_0, the
        other recorded params and θ_T, up to the point at which the run leaves the picture for good.

    Raises:
        ValueError: A run has no record of params or is several runs, the params have more than
            two entries and no directions are given, or an argument does not fit the params.
        TypeError: runs are not what `momentax.rollout` returns, loss is not a function, or ax
            is not matplotlib axes.

    Example:
        >>> ravine, record = momentax.problems.ravine(10.0), ("loss", "params")
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(ravine.loss, ravine.start, tx, 20, record=record)
        >>> ax = momentax.plotting.trajectory({"heavy ball": run}, ravine.loss)
    """
    given = as_runs(runs)
    levels = None if levels is None else _as_levels(levels)
    require_axes(ax)
    land = make_landscape(given, loss, minimizer, directions, limits, _RESOLUTION)
    size = land.box[1] - land.box[0]
    height = 6.5 * float(np.clip(size[1] / size[0], 0.4, 1)) if land.is_equal else 5.0
    ax = new_axes(ax, 7.5, height + 1)
    _draw_contours(ax, land, levels)
    every = _interval(land)
    handles = [_draw_path(ax, path, i, land, every) for i, path in enumerate(land.paths)]
    ax.grid(visible=False)
    ax.set(xlim=land.box[:, 0], ylim=land.box[:, 1], xlabel=land.labels[0], ylabel=land.labels[1])
    if land.is_equal:
        ax.set_aspect("equal", adjustable="box")
    else:
        _note_scales(ax)
    handles += _mark_handles(ax, land, every)
    legend_below(ax, handles, columns=count_columns(ax, handles))
    return ax


def _note_scales(ax: Axes) -> None:
    """Say in the picture that distances along the two axes cannot be compared."""
    ground: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    ax.text(
        0.01,
        0.015,
        "the two axes have different scales",
        transform=ax.transAxes,
        fontsize=8,
        bbox=ground,
        zorder=4,
    )


def _as_levels(levels: Any) -> Reals:
    levels = as_reals("levels", levels)
    if levels.ndim != 1 or not levels.size or np.any(np.diff(levels) <= 0):
        raise ValueError(f"levels must be 1-D growing values of the loss, got {describe(levels)}")
    return levels


def _draw_contours(ax: Axes, land: Landscape, levels: Reals | None) -> None:
    """Draw filled contours with a colour bar of the loss, or of the loss above its lowest value."""
    losses = np.ma.masked_invalid(land.losses)
    if losses.count() == 0 or losses.min() == losses.max():
        return
    if levels is None and _is_lowest_inside(land):
        values = np.ma.masked_invalid(losses - land.lowest)
        chosen = _log_levels(values.compressed())
        norm, label = LogNorm(chosen[0], chosen[-1]), _excess_label(land)
        values = np.ma.masked_array(np.maximum(values.filled(1), chosen[0] / 10), values.mask)
    else:
        chosen = MaxNLocator(12).tick_values(losses.min(), losses.max())
        chosen = chosen if levels is None else levels
        values, norm, label = losses, Normalize(chosen[0], chosen[-1]), "loss"
    options: dict[str, Any] = {"levels": chosen, "zorder": 0}
    filled = ax.contourf(land.x, land.y, values, cmap=_LIGHT, norm=norm, extend="both", **options)
    ax.contour(land.x, land.y, values, colors="white", linewidths=0.5, **options)
    # Inset axes are as high as axes of equal aspect, whatever the layout makes of these.
    bar = figure_of(ax).colorbar(filled, cax=ax.inset_axes((1.02, 0, 0.035, 1)), label=label)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(numticks=8))
        bar.ax.minorticks_off()


def _is_lowest_inside(land: Landscape) -> bool:
    """Return whether the picture contains the lowest loss, and not only the way down to it."""
    if land.minimizer is not None:
        return True
    edges = land.losses[[0, -1]], land.losses[:, [0, -1]]
    border = np.concatenate([np.ravel(edge) for edge in edges])
    return not border[np.isfinite(border)].min(initial=np.inf) <= land.lowest


def _excess_label(land: Landscape) -> str:
    if abs(land.lowest) <= 1e-6 * np.nanmax(np.abs(land.losses)):
        return "loss"
    which = "minimizer" if land.minimizer is not None else "lowest here"
    sign = "−" if land.lowest > 0 else "+"
    return f"loss {sign} {abs(land.lowest):.4g} ({which})"


def _log_levels(values: Reals) -> Reals:
    """Return round levels on a log scale between the lowest hundredth and the largest value."""
    positive = values[values > 0]
    top = float(positive.max())
    bottom = max(float(np.quantile(positive, 0.01)), 1e-8 * top)
    exponents = np.arange(np.floor(np.log10(bottom)), np.ceil(np.log10(top)) + 1)
    decades = len(exponents) - 1
    factors = (1, 2, 5) if decades <= 4 else (1, 3) if decades <= 7 else (1,)
    levels = np.array([factor * 10.0**exponent for exponent in exponents for factor in factors])
    inside = (levels >= bottom / 1.001) & (levels <= top * 1.001)
    return levels[inside] if inside.sum() > 2 else np.geomspace(bottom, top, 4)


def _draw_path(ax: Axes, path: Path, index: int, land: Landscape, every: int) -> Line2D:
    """Draw one run and return its entry of a legend."""
    shown, size = path.visible(land.box), land.box[1] - land.box[0]
    points = path.points[:shown]
    handle = draw_path(
        ax,
        points,
        index,
        size,
        label=path.label(land.box),
        moving=moving_length(points, size),
        every=every,
        shares=(0.2, 0.5),
    )
    if shown and shown == len(path.points):
        ax.plot(*points[-1], zorder=3.1, **end_mark(*path_style(index)))
    return handle


def _interval(land: Landscape) -> int:
    """Return the number of recorded points from one dot to the next, the same for all runs."""
    size = land.box[1] - land.box[0]
    shown = [path.points[: path.visible(land.box)] for path in land.paths]
    return dot_interval(max(moving_length(points, size) for points in shown))


def _mark_handles(ax: Axes, land: Landscape, every: int) -> list[Line2D]:
    """Draw the minimizer, and return the entries of a legend that explain the marks."""
    start, end, *dots = mark_handles(f"dots {every} points apart" if every > 1 else "")
    if land.minimizer is None:
        return [start, end, *dots]
    ax.plot(*land.minimizer, zorder=1.5, **MINIMIZER)
    return [start, end, Line2D([], [], label="minimizer", **MINIMIZER), *dots]
