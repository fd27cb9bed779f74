"""The curvatures μ and L, as two arguments or as one record, where any shape or sign is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import (
    ANY_REAL,
    as_real,
    as_reals,
    broadcast,
    describe,
    is_curvature,
    split_curvature,
)
from momentax._core.typing import Reals


def _require_order(μ: Any, L: Any) -> None:
    if np.any(μ > L):
        raise ValueError(
            f"mu must not exceed L, got mu={describe(μ)} and L={describe(L)}; are they swapped?"
        )


def real_range(mu: Any, L: float | None) -> tuple[float, float]:
    """Return μ and L, any real numbers with μ at most L."""
    mu, L = split_curvature(mu, L)
    μ, largest = as_real("mu", mu, ANY_REAL), as_real("L", L, ANY_REAL)
    _require_order(μ, largest)
    return μ, largest


def positive_ranges(mu: Any, L: ArrayLike | None) -> tuple[Reals, Reals, Reals]:
    """Return arrays of μ, L and the condition number κ = L / μ, all positive, with μ at most L."""
    mu, L = split_curvature(mu, L)
    μ, largest = broadcast(mu=as_reals("mu", mu, "(0, inf)"), L=as_reals("L", L, "(0, inf)"))
    _require_order(μ, largest)
    return μ, largest, largest / μ


def require_eigenvalues(name: str, value: Any) -> None:
    """Refuse a Curvature where eigenvalues of a Hessian are needed as numbers."""
    if is_curvature(value):
        raise TypeError(f"{name} must be real numbers, got a Curvature; give its .L (or its .mu)")
