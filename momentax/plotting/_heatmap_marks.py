"""The lines, numbers and marks of a heat map of learning rates and β."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy

from momentax._core.typing import Reals
from momentax.plotting._axis_scale import NumberScale
from momentax.plotting._regret import tie_label
from momentax.plotting._style import COLORS, figure_of

EQUAL = "equal α/(1−β)"
_DASHED: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 0.9}
_CROSS: dict[str, Any] = {"color": "0.35", "marker": "x", "linestyle": "none"}
_STAR: dict[str, Any] = {
    "color": COLORS[1],
    "marker": "*",
    "markeredgecolor": "white",
    "linestyle": "none",
}
_TIE: dict[str, Any] = {
    "color": "white",
    "marker": "*",
    "markeredgecolor": COLORS[1],
    "markeredgewidth": 1.2,
    "linestyle": "none",
}
_CORNER: dict[str, Any] = {
    "color": "0.2",
    "marker": "X",
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "linestyle": "none",
}
# What is kept free around the centre of a cell for its number: in points, and the most as a share.
_NUMBER_WIDTH, _NUMBER_HEIGHT, _ERROR_HEIGHT = 19.0, 8.0, 18.0
_MOST_OF_WIDTH, _MOST_OF_HEIGHT = 0.46, 0.48


class Cells(NamedTuple):
    """The cells of the map, in ascending order along both axes.

    learning_rates, betas: the scales of the axes, which hold their values.
    x, y: the coordinates of the cells' centres: the learning rates, where 0 has a coordinate
        below the others, and 1 - β.
    x_edges, y_edges: the coordinates of the cells' borders.
    values: the metric, masked where every run diverged.
    errors: the standard errors of the metric, NaN where there are none.
    some_diverged: where some runs diverged and others did not.
    best: the indices of the best cell; None where every run diverged.
    ties: the cells whose difference from the best says nothing.
    resolution: the smallest difference of the metric that means something.
    """

    learning_rates: NumberScale
    betas: NumberScale
    x: Reals
    y: Reals
    x_edges: Reals
    y_edges: Reals
    values: np.ma.MaskedArray
    errors: Reals
    some_diverged: np.ndarray
    best: tuple[int, int] | None
    ties: np.ndarray
    resolution: float


def draw_effective_learning_rates(ax: Axes, cells: Cells, few: bool) -> None:
    """Draw dashed lines along which α / (1 - β) is a power of ten, each with its number.

    The lines have gaps at the middles of the cells, where their numbers are.
    """
    x, y = cells.x_edges[cells.learning_rates.has_zero :], cells.y_edges  # Not at 0.
    low, high = np.log10(x[0] / y[0]), np.log10(x[-1] / y[-1])
    outline = [withStroke(linewidth=2.2, foreground="white")]
    box = ax.get_window_extent().transformed(figure_of(ax).dpi_scale_trans.inverted())
    below_number = _ERROR_HEIGHT if np.isfinite(cells.errors).any() else _NUMBER_HEIGHT
    for level in 10.0 ** np.arange(np.ceil(low + 1e-9), np.floor(high - 1e-9) + 1):
        ends = max(x[0], level * y[-1]), min(x[-1], level * y[0])
        α = np.geomspace(*ends, 1500)
        u, width = _places_in_cells(cells.x_edges, α, box.width)
        v, height = _places_in_cells(cells.y_edges, α / level, box.height)
        beside = np.abs(u) > np.minimum(_NUMBER_WIDTH / width, _MOST_OF_WIDTH)
        above = v > np.minimum(_NUMBER_HEIGHT / height, _MOST_OF_HEIGHT)
        below = v < -np.minimum(below_number / height, _MOST_OF_HEIGHT)
        drawn = np.where(beside | above | below, α, np.nan) if few else α
        (line,) = ax.plot(drawn, α / level, gid=EQUAL, zorder=2.2, **_DASHED)
        line.set_path_effects(outline)
        inner = slice(len(α) // 8, -(len(α) // 8))  # Away from the borders of the map.
        at = inner.start + int(np.argmax((np.abs(u) + np.abs(v))[inner]))
        label = ax.text(float(α[at]), float(α[at] / level), f"{level:g}", fontsize=8, zorder=4)
        label.set(ha="center", va="center", clip_on=True, path_effects=outline)


def _places_in_cells(edges: Reals, values: Reals, inches: float) -> tuple[Reals, Reals]:
    """Return where values lie within their cells, from -1/2 to 1/2, and the cells' sizes in points.

    The cells are on a log scale of so many inches in all.
    """
    borders, x = np.log(edges), np.log(values)
    if borders[0] > borders[-1]:
        borders, x = -borders, -x
    i = np.clip(np.searchsorted(borders, x) - 1, 0, len(borders) - 2)
    size = borders[i + 1] - borders[i]
    return (x - borders[i]) / size - 0.5, size / (borders[-1] - borders[0]) * inches * 72


def write_numbers(ax: Axes, cells: Cells, mesh: QuadMesh) -> None:
    """Write the metric into each cell, and below it its standard error if there is one."""
    colours = mesh.to_rgba(cells.values)
    for i, j in zip(*np.nonzero(~np.ma.getmaskarray(cells.values)), strict=True):
        is_dark = np.dot(colours[i, j, :3], (0.3, 0.6, 0.1)) < 0.5
        place, colour = (float(cells.x[i]), float(cells.y[j])), "white" if is_dark else "black"
        text = ax.text(*place, f"{cells.values[i, j]:.3g}", ha="center", va="center", zorder=4)
        # A stability edge may run through the number.
        outline = [withStroke(linewidth=2, foreground=tuple(colours[i, j]))]
        text.set(color=colour, fontsize=8, path_effects=outline)
        if np.isfinite(error := cells.errors[i, j]):
            below = {"xytext": (0, -6), "textcoords": "offset points"}
            note = ax.annotate(f"±{error:.1g}", place, **below, ha="center", va="top", zorder=4)
            note.set(color=colour, fontsize=6.5, path_effects=outline)


def mark_diverged(ax: Axes, cells: Cells, few: bool) -> None:
    """Cross out the cells in which every run diverged; put a cross in the corner of others."""
    for i, j in zip(*np.nonzero(np.ma.getmaskarray(cells.values)), strict=True):
        ax.plot(float(cells.x[i]), float(cells.y[j]), markersize=9 if few else 4, **_CROSS)
    size = 7 if few else 4.5
    inwards = offset_copy(ax.transData, figure_of(ax), x=-size, y=-size, units="points")
    for i, j in zip(*np.nonzero(cells.some_diverged), strict=True):
        corner = float(cells.x_edges[i + 1]), float(cells.y_edges[j + 1])
        ax.plot(*corner, transform=inwards, markersize=size, **_CORNER)


def mark_best(ax: Axes, cells: Cells, few: bool) -> None:
    """Put a star on the best cell, and white stars on those that are tied with it.

    They are above the numbers if there are any.
    """
    if cells.best is None:
        return
    above = offset_copy(ax.transData, figure_of(ax), y=12 if few else 0, units="points")
    for i, j in zip(*np.nonzero(cells.ties), strict=True):
        place = float(cells.x[i]), float(cells.y[j])
        ax.plot(*place, transform=above, markersize=9 if few else 5, zorder=5, **_TIE)
    place = float(cells.x[cells.best[0]]), float(cells.y[cells.best[1]])
    star = ax.scatter(*place, s=220, c=COLORS[1], marker="*", edgecolors="white", zorder=5.5)
    star.set_clip_on(False)
    star.set_offset_transform(above)


def legend_handles(cells: Cells, effective: bool) -> list[Line2D]:
    """Return an entry for each kind of mark in the picture."""
    tied = tie_label(cells.errors, cells.resolution) if cells.ties.any() else ""
    marks = [
        (effective, EQUAL, _DASHED),
        (cells.best is not None, "best", {**_STAR, "markersize": 13}),
        (bool(tied), tied, {**_TIE, "markersize": 10}),
        (np.ma.is_masked(cells.values), "diverged", {**_CROSS, "markersize": 9}),
        (cells.some_diverged.any(), "some seeds diverged", {**_CORNER, "markersize": 7}),
    ]
    return [Line2D([], [], label=label, **style) for is_there, label, style in marks if is_there]
