"""The curvatures μ and L, as two arguments or as one record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from momentax._core import arguments

_Reals = NDArray[np.float64]


def unpack(mu: Any, L: Any) -> tuple[Any, Any]:
    """Return mu and L, where mu may be a record that holds both, such as a Curvature."""
    if hasattr(mu, "mu") and hasattr(mu, "L"):
        if L is not None:
            raise TypeError(
                f"L must be left out where a Curvature gives both mu and L, got L={arguments.describe(L)}"
            )
        return mu.mu, mu.L
    if L is None:
        raise TypeError(
            "L is missing: give mu and L, or a Curvature in place of both, got "
            f"mu={arguments.describe(mu)}"
        )
    return mu, L


def _require_order(μ: Any, L: Any) -> None:
    if np.any(μ > L):
        raise ValueError(
            f"mu must not exceed L, got mu={arguments.describe(μ)} and L={arguments.describe(L)}; are they "
            "swapped?"
        )


def curvature_range(
    mu: Any, L: Any, of_mu: str = "(-inf, inf)", of_L: str = "(-inf, inf)"
) -> tuple[float, float]:
    """Return μ and L as numbers, each in its interval, with μ at most L."""
    mu, L = unpack(mu, L)
    μ, largest = arguments.as_real("mu", mu, of_mu), arguments.as_real("L", L, of_L)
    _require_order(μ, largest)
    return μ, largest


def positive_range(mu: Any, L: Any) -> tuple[float, float]:
    """Return μ and L as positive numbers, with μ at most L."""
    return curvature_range(mu, L, "(0, inf)", "(0, inf)")


def positive_ranges(mu: ArrayLike | Any, L: ArrayLike | None) -> tuple[_Reals, _Reals, _Reals]:
    """Return arrays of μ, L and the condition number κ = L / μ, all positive, with μ at most L."""
    mu, L = unpack(mu, L)
    μ, largest = arguments.as_reals("mu", mu, "(0, inf)"), arguments.as_reals("L", L, "(0, inf)")
    _require_order(μ, largest)
    return μ, largest, largest / μ
