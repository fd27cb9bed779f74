"""Losses with known answers, for tests, notebooks and first experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments

__all__ = ["Problem", "plateau", "quadratic", "ravine", "rosenbrock", "saddle"]


def __dir__() -> list[str]:
    return __all__


class Problem(NamedTuple):
    """A loss and what is known of it.

    loss: from parameters of start's shape to a scalar.
    start: where a run begins, shape (n,).
    minimum: the minimizer, float64, or None where there is none.
    curvatures: the Hessian's eigenvalues at the minimum or the saddle, float64;
        ascending, not in the axes' order.
    """

    loss: Callable[[jax.Array], jax.Array]
    start: jax.Array
    minimum: np.ndarray | None
    curvatures: np.ndarray


def quadratic(hessian: Any) -> Problem:
    """Make the quadratic with a given Hessian.

        f(θ) = ½ θᵀ H θ

    Args:
        hessian: H, a symmetric matrix of shape (n, n); it may be indefinite.

    Returns:
        A Problem that starts at ones. The minimum is the origin, and None where
        H has a negative eigenvalue.

    Raises:
        ValueError: H is not a symmetric matrix.
    """
    H = arguments.as_symmetric("hessian", hessian)
    curvatures = np.linalg.eigvalsh(H)
    rounding = len(H) * np.finfo(np.float64).eps * np.abs(curvatures).max(initial=0)
    minimum = np.zeros(len(H)) if np.all(curvatures >= -rounding) else None

    def loss(θ: jax.Array) -> jax.Array:
        return jnp.vdot(θ, jnp.asarray(H, θ.dtype) @ θ) / 2

    return Problem(loss, jnp.ones(len(H)), minimum, curvatures)


def ravine(kappa: float = 100.0) -> Problem:
    """Make a long narrow valley, steep across and flat along.

        f(x, y) = κ x² + y²

    Args:
        kappa: κ in [1, inf), the condition number; 100 is the classic picture.

    Returns:
        A Problem that starts at (1, 1), with curvatures (2, 2κ).

    Raises:
        ValueError: kappa is no finite number of at least 1.
    """
    κ = arguments.as_real("kappa", kappa, "[1, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        x, y = θ
        return κ * x**2 + y**2

    return Problem(loss, jnp.ones(2), np.zeros(2), np.array([2.0, 2 * κ]))


def plateau(slope: float = 0.01) -> Problem:
    """Make a long gentle slope of constant gradient that ends in a bowl.

        f(x) = ½ x²             for |x| ≤ s
        f(x) = s |x| - ½ s²     beyond

    On the slope every gradient is s, so plain descent advances α s a step and
    heavy ball, once its velocity is full, α s / (1 - β).

    Args:
        slope: s in (0, inf), the gradient on the slope and the bowl's radius.

    Returns:
        A Problem that starts at x = 1, with curvature 1 at the minimum; it is
        0 on the slope.

    Raises:
        ValueError: slope is no positive finite number.
    """
    s = arguments.as_real("slope", slope, "(0, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        (x,) = jnp.abs(θ)
        return jnp.where(x <= s, x**2 / 2, s * x - s**2 / 2)

    return Problem(loss, jnp.ones(1), np.zeros(1), np.ones(1))


def saddle(escape: float = 1.0) -> Problem:
    """Make a saddle: a bowl along one axis, a hilltop along the other.

        f(x, y) = ½ x² - ½ c y²

    From (1, 0) no gradient method leaves the line y = 0; from any y ≠ 0 each
    leaves the saddle, y growing in the end by the factor
    `theory.spectral_radius(learning_rate, -c, ...)` a step.

    Args:
        escape: c in (0, inf), the size of the negative curvature.

    Returns:
        A Problem that starts at (1, 0.001), with the curvatures (-c, 1) of the
        saddle at the origin. It has no minimum.

    Raises:
        ValueError: escape is no positive finite number.
    """
    c = arguments.as_real("escape", escape, "(0, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        x, y = θ
        return x**2 / 2 - c * y**2 / 2

    return Problem(loss, jnp.array([1.0, 0.001]), None, np.array([-c, 1.0]))


def rosenbrock(b: float = 100.0) -> Problem:
    """Make Rosenbrock's banana: a curved valley with a flat floor.

        f(x, y) = (1 - x)² + b (y - x²)²

    Args:
        b: in (0, inf), how steep the valley's walls are.

    Returns:
        A Problem that starts at (-1.2, 1); its minimum is (1, 1), where the
        curvatures are those of the Hessian [[2 + 8b, -4b], [-4b, 2b]].

    Raises:
        ValueError: b is no positive finite number.

    Source:
        Rosenbrock, An automatic method for finding the greatest or least value
        of a function, The Computer Journal 3(3), 1960.
    """
    b = arguments.as_real("b", b, "(0, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        x, y = θ
        return (1 - x) ** 2 + b * (y - x**2) ** 2

    hessian = np.array([[2 + 8 * b, -4 * b], [-4 * b, 2 * b]])
    return Problem(loss, jnp.array([-1.2, 1.0]), np.ones(2), np.linalg.eigvalsh(hessian))
