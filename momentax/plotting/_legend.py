"""The key to a plot, out of its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

_MOST_ABREAST = 4


def legend_below(ax: Axes, handles: Sequence[Any], gap: float = 3.5) -> None:
    """Put a key below the horizontal axis' label, however large the axes are."""
    if not handles:
        return
    rows = -(-len(handles) // _MOST_ABREAST)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    columns = -(-len(handles) // rows)
    ax.legend(handles=handles, ncols=columns, frameon=False, borderaxespad=gap, **place)
