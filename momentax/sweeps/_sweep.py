"""Every point of a sweep in as few compiled programs as the machine wants."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from momentax._typing import PyTree
from momentax.sweeps._points import Points, require_points
from momentax.sweeps._result import SweepResult


def sweep(run: Callable[..., PyTree], points: Points) -> SweepResult:
    """Stub of the engine, all at once."""
    require_points(points)
    flat = jax.jit(jax.vmap(lambda point: run(**point)))(points.columns())
    values = jax.tree.map(
        lambda leaf: np.asarray(leaf).reshape(points.shape + leaf.shape[1:]), flat
    )
    finite = np.ones(points.shape, bool)
    for leaf in jax.tree.leaves(values):
        finite &= np.isfinite(leaf).reshape(*points.shape, -1).all(-1)
    return SweepResult(points, values, ~finite)
