"""The paths of runs on the surface of a loss of two parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, LinearSegmentedColormap
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.axes3d import Axes3D

from momentax._core.arguments import as_real, describe
from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout
from momentax.plotting._landscape import Landscape, make_landscape
from momentax.plotting._paths import (
    MINIMIZER,
    START,
    end_mark,
    line_alpha,
    moving_length,
    path_style,
)
from momentax.plotting._runs import as_runs
from momentax.plotting._style import new_axes, require_axes

LIFT = 0.015  # Of the height of the surface.
_RESOLUTION = 81
_CUT = 1.5  # The surface ends at this many times the height of the highest start.
_LIGHT = LinearSegmentedColormap.from_list(
    "momentax surface", mpl.colormaps["Blues"](np.linspace(0.08, 0.5, 256))
)


class Scene(NamedTuple):
    """A surface with the paths of runs.

    ax: the axes.
    lines: the line of each path.
    ends: the mark at the end of each path.
    points: the points of each path as they are drawn, shape (m, 3).
    """

    ax: Axes3D
    lines: list[Any]
    ends: list[Any]
    points: list[Reals]


def surface(
    runs: Mapping[str, Rollout] | Rollout,
    loss: Callable[[PyTree], jax.Array],
    *,
    minimizer: PyTree = None,
    directions: Any = None,
    limits: Any = None,
    azimuth: float = -60.0,
    elevation: float = 40.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the paths of runs on the surface of a loss of two parameters.

    The paths lie a little above the surface, by 1.5% of its height, and are drawn over it, so
    that they are visible from all sides. A white circle marks where each run starts, and a large
    mark where it ends. The surface ends at one and a half times the height of
    the highest start. A run that diverges is cut, and the legend says that it diverged.

    Args:
        runs: Runs by name, or one run: what `momentax.rollout` returns with the record "params".
        loss: f, the loss of the runs, from params to a real scalar.
        minimizer: θ*, shaped like the params, which gets a star; None for none.
        directions: Two trees shaped like the params, for params with more than two entries, as
            in `trajectory`.
        limits: ((left, right), (bottom, top)) of the two parameters; None follows the paths.
        azimuth: The direction of the view around the vertical axis, any real number, in degrees.
        elevation: The height of the view in [-90, 90], in degrees.
        ax: Axes to draw on, made with projection="3d"; None makes a new figure.

    Returns:
        The axes. Each run is a line of ax.lines, with its name as the label.

    Raises:
        ValueError: As `trajectory`, or an angle lies outside its interval.
        TypeError: As `trajectory`, or ax has no projection "3d".

    Example:
        >>> ravine, record = momentax.problems.ravine(10.0), ("loss", "params")
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(ravine.loss, ravine.start, tx, 20, record=record)
        >>> ax = momentax.plotting.surface({"heavy ball": run}, ravine.loss)
    """
    given = as_runs(runs)
    view = as_view(azimuth, elevation)
    require_axes_3d(ax)
    land = make_landscape(given, loss, minimizer, directions, limits, _RESOLUTION)
    return draw_scene(land, view, ax).ax


def as_view(azimuth: Any, elevation: Any) -> dict[str, float]:
    """Return the angles of a view by matplotlib's names, in degrees."""
    return {
        "azim": as_real("azimuth", azimuth, "(-inf, inf)"),
        "elev": as_real("elevation", elevation, "[-90, 90]"),
    }


def draw_scene(land: Landscape, view: dict[str, float], ax: Any) -> Scene:
    """Draw a surface and the paths on it."""
    require_axes_3d(ax)
    ax = new_axes(ax, 7.5, 6.0, subplot_kw={"projection": "3d"})
    # The order of drawing is fixed, since matplotlib would hide parts of the paths.
    ax.computed_zorder = False
    low, high = _heights(land)
    lift = LIFT * (high - low)
    _draw_surface(ax, land, low, high)
    lines, ends, drawn = [], [], []
    for i, path in enumerate(land.paths):
        color, marker = path_style(i)
        shown = path.visible(land.box)
        inside = path.is_inside(land.box)[:shown, None]
        points = np.column_stack([path.points[:shown], path.losses[:shown] + lift])
        points = np.where(inside, points, np.nan)
        moving = moving_length(path.points[:shown], land.box[1] - land.box[0])
        label, width = path.label(land.box), 0.6 + 1.2 * line_alpha(moving)
        (line,) = ax.plot(*points.T, color=color, linewidth=width, zorder=5, label=label)
        (end,) = ax.plot(*last_point(points).T, zorder=7, **end_mark(color, marker))
        end.set_visible(shown == len(path.points))
        lines.append(line)
        ends.append(end)
        drawn.append(points)
        ax.plot(*points[:1].T, zorder=6, **START)
    handles = [*lines, Line2D([], [], label="start", **START)]
    if land.minimizer is not None:
        (star,) = ax.plot(
            *land.minimizer[:, None],
            [land.lowest + lift],
            zorder=6.5,
            label="minimizer",
            **MINIMIZER,
        )
        handles.append(star)
    ax.set(xlim=land.box[:, 0], ylim=land.box[:, 1], zlim=(low, high + lift))
    ax.xaxis.labelpad = ax.yaxis.labelpad = 10
    ax.set(xlabel=land.labels[0], ylabel=land.labels[1], zlabel="loss")
    ax.locator_params(nbins=5)
    ax.legend(handles=handles, loc="upper left", frameon=False, fontsize=9)
    ax.view_init(**view)
    return Scene(ax, lines, ends, drawn)


def last_point(points: Reals) -> Reals:
    """Return the last point of a path that is drawn, shape (1, 3); NaN if none is."""
    drawn = points[np.isfinite(points).all(axis=1)]
    return drawn[-1:] if len(drawn) else np.full((1, 3), np.nan)


def require_axes_3d(ax: Any) -> None:
    """Raise if ax is neither axes of three dimensions nor None."""
    require_axes(ax)
    if ax is not None and not isinstance(ax, Axes3D):
        raise TypeError(
            "ax must have three dimensions, as those of plt.subplots(subplot_kw="
            f'{{"projection": "3d"}}), got {describe(ax)}'
        )


def _heights(land: Landscape) -> tuple[float, float]:
    """Return the lowest loss in the picture, and the one at which the surface is cut."""
    finite = land.losses[np.isfinite(land.losses)]
    if not finite.size:
        return 0.0, 1.0
    low, top = min(float(finite.min()), land.lowest), float(finite.max())
    starts = [low, *(path.losses[0] for path in land.paths)]
    drawn = [path.losses[path.is_inside(land.box)] for path in land.paths]
    highest = np.concatenate([low + _CUT * (np.array(starts) - low), *drawn])
    highest = highest[np.isfinite(highest)].max()
    high = min(top, float(highest)) if highest > low else top
    return low, high if high > low else low + 1


def _draw_surface(ax: Axes3D, land: Landscape, low: float, high: float) -> None:
    x, y = np.meshgrid(land.x, land.y)
    losses = np.where(np.isfinite(land.losses), land.losses, np.inf)
    heights = np.minimum(losses, high)
    shades = _LIGHT(np.sqrt((heights - low) / (high - low)))[..., :3]
    shades = LightSource(azdeg=315, altdeg=60).shade_rgb(
        shades, heights / (high - low), vert_exag=20, blend_mode="soft"
    )
    opaque = np.ones((*shades.shape[:2], 1))
    ax.plot_surface(
        x,
        y,
        np.where(_is_beyond(losses > high), np.nan, heights),
        facecolors=np.concatenate([shades, opaque], axis=-1),
        rcount=len(x),
        ccount=len(x),
        linewidth=0,
        antialiased=False,
        shade=False,
        zorder=1,
    )


def _is_beyond(above: np.ndarray) -> np.ndarray:
    """Return which points lie above the cut together with all of their neighbours.

    The others are drawn at the height of the cut, so that the edge of the surface is level.
    """
    padded = np.pad(above, 1, constant_values=True)
    rows, columns = above.shape
    shifts = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.logical_and.reduce(shifts)
