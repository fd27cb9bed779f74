"""A figure with several axes in the style of all plots."""

from __future__ import annotations

from matplotlib.axes import Axes

from momentax._core.arguments import as_count, as_flag, as_real
from momentax.plotting._style import new_figure

_MOST = 100
_SIZE = "[0.5, 50]"


def panels(
    columns: int,
    rows: int = 1,
    *,
    width: float = 6.0,
    height: float = 4.4,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Axes, ...]:
    """Return the axes of a new figure, row by row, to give to other plots as `ax`.

    Args:
        columns: The number of axes in a row, at least 1 and at most 100.
        rows: The number of rows, at least 1 and at most 100.
        width: The width of each of the axes with its labels in [0.5, 50] inches.
        height: The height of each of the axes with its labels in [0.5, 50] inches.
        sharex: Whether all axes have the same horizontal limits.
        sharey: Whether all axes have the same vertical limits.

    Returns:
        columns · rows axes. Their figure is `ax.figure` of each.

    Raises:
        ValueError: A number lies outside its interval.
        TypeError: columns or rows is not a whole number, or sharex or sharey is not a bool.

    Example:
        >>> left, right = momentax.plotting.panels(2)
        >>> ax = momentax.plotting.compare([1, 2], {"loss": [1.0, 0.5]}, ax=left)
    """
    columns = as_count("columns", columns, most=_MOST)
    rows = as_count("rows", rows, most=_MOST)
    size = (as_real("width", width, _SIZE) * columns, as_real("height", height, _SIZE) * rows)
    shared = {"sharex": as_flag("sharex", sharex), "sharey": as_flag("sharey", sharey)}
    return tuple(new_figure(rows, columns, *size, **shared)[1].flat)
