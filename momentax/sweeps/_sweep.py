"""Every point of a grid in one compiled program."""

from __future__ import annotations

from collections.abc import Callable

import jax

from momentax._typing import PyTree
from momentax.sweeps._grid import Grid


def sweep(run: Callable[..., PyTree], points: Grid) -> PyTree:
    """Run a function at every point of a grid, all at once.

    The points are traced arguments of one program, compiled once: `jax.vmap`
    over them all.

    Args:
        run: A traceable function, called as run(**point) with a 0-d array for
            each axis of the grid; it returns a pytree of arrays.
        points: The `grid`.

    Returns:
        What `run` returns, with the grid's shape on the leading axes of every
        leaf: result[i, j] belongs to the i-th value of the first axis and the
        j-th of the second.

    Raises:
        TypeError: run is not callable, or points is no grid.
    """
    if not callable(run):
        raise TypeError(f"run must be a function of a point, got {run!r}")
    if not isinstance(points, Grid):
        raise TypeError(f"points must be a grid, as momentax.grid(beta=[0.0, 0.9]), got {points!r}")
    flat = jax.jit(jax.vmap(lambda point: run(**point)))(points.points())
    return jax.tree.map(lambda leaf: leaf.reshape(points.shape + leaf.shape[1:]), flat)
