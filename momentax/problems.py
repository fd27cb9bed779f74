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
    """A loss and its known properties.

    loss: a function from parameters of the shape of start to a scalar.
    start: where a run begins, an array of shape (n,).
    minimum: the minimizer, float64, or None if there is none.
    curvatures: the eigenvalues of the Hessian at the minimum or the saddle,
        float64, in ascending order, which is not the order of the axes.
    """

    loss: Callable[[jax.Array], jax.Array]
    start: jax.Array
    minimum: np.ndarray | None
    curvatures: np.ndarray

    def __repr__(self) -> str:
        minimum = None if self.minimum is None else self.minimum.tolist()
        return (
            f"Problem(loss={self.loss.__name__}, start={self.start.tolist()}, minimum={minimum}, "
            f"curvatures={self.curvatures.tolist()})"
        )


def quadratic(hessian: Any) -> Problem:
    """Make the quadratic with a given Hessian.

        f(θ) = ½ θᵀ H θ

    Args:
        hessian: H, a symmetric matrix of shape (n, n); it may be indefinite.

    Returns:
        A Problem that starts at ones. The minimum is the origin, or None if H
        has a negative eigenvalue.

    Raises:
        ValueError: H is not a symmetric matrix.

    Example:
        >>> problem = momentax.problems.quadratic([[2.0, 0.0], [0.0, 8.0]])
        >>> float(problem.loss(problem.start))
        5.0
    """
    H = arguments.as_symmetric("hessian", hessian)
    curvatures = np.linalg.eigvalsh(H)
    rounding = len(H) * np.finfo(np.float64).eps * np.abs(curvatures).max(initial=0)
    minimum = np.zeros(len(H)) if np.all(curvatures >= -rounding) else None

    def loss(θ: jax.Array) -> jax.Array:
        return jnp.vdot(θ, jnp.asarray(H, θ.dtype) @ θ) / 2

    return Problem(loss, jnp.ones(len(H)), minimum, curvatures)


def ravine(kappa: float = 100.0) -> Problem:
    """Make a long narrow valley, steep in x and flat in y.

        f(x, y) = κ x² + y²

    Args:
        kappa: κ in [1, inf), the condition number.

    Returns:
        A Problem that starts at (1, 1), with curvatures (2, 2κ).

    Raises:
        ValueError: kappa is not a finite number of at least 1.

    Example:
        >>> momentax.problems.ravine(100.0).curvatures.tolist()
        [2.0, 200.0]
    """
    κ = arguments.as_real("kappa", kappa, "[1, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        x, y = θ
        return κ * x**2 + y**2

    return Problem(loss, jnp.ones(2), np.zeros(2), np.array([2.0, 2 * κ]))


def plateau(slope: float = 0.01) -> Problem:
    """Make a long slope of small constant gradient that ends in a bowl.

        f(x) = ½ x²             for |x| ≤ s
        f(x) = s |x| - ½ s²     beyond

    On the slope every gradient is s. Plain descent moves by α s a step, and heavy
    ball in the long run by α s / (1 - β).

    Args:
        slope: s in (0, inf), the gradient on the slope and the radius of the bowl.

    Returns:
        A Problem that starts at x = 1. Its curvature at the minimum is 1; the
        curvature of the slope is 0.

    Raises:
        ValueError: slope is not a positive finite number.

    Example:
        >>> problem = momentax.problems.plateau(0.01)
        >>> jax.grad(problem.loss)(problem.start)
        Array([0.01], dtype=float32)
    """
    s = arguments.as_real("slope", slope, "(0, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        (x,) = jnp.abs(θ)
        return jnp.where(x <= s, x**2 / 2, s * x - s**2 / 2)

    return Problem(loss, jnp.ones(1), np.zeros(1), np.ones(1))


def saddle(escape: float = 1.0) -> Problem:
    """Make a saddle: a minimum along one axis and a maximum along the other.

        f(x, y) = ½ x² - ½ c y²

    From (1, 0) no gradient method leaves the line y = 0. From any y ≠ 0 every
    gradient method leaves the saddle: in the long run each step multiplies y by
    `theory.spectral_radius(learning_rate, -c, ...)`.

    Args:
        escape: c in (0, inf), the absolute value of the negative curvature.

    Returns:
        A Problem that starts at (1, 0.001), with the curvatures (-c, 1) of the
        saddle at the origin. It has no minimum.

    Raises:
        ValueError: escape is not a positive finite number.

    Example:
        >>> momentax.problems.saddle(0.5).curvatures.tolist()
        [-0.5, 1.0]
    """
    c = arguments.as_real("escape", escape, "(0, inf)")

    def loss(θ: jax.Array) -> jax.Array:
        x, y = θ
        return x**2 / 2 - c * y**2 / 2

    return Problem(loss, jnp.array([1.0, 0.001]), None, np.array([-c, 1.0]))


def rosenbrock(b: float = 100.0) -> Problem:
    """Make Rosenbrock's function: a curved valley with a flat floor.

        f(x, y) = (1 - x)² + b (y - x²)²

    Args:
        b: b in (0, inf), the steepness of the walls of the valley.

    Returns:
        A Problem that starts at (-1.2, 1). Its minimum is (1, 1), where the
        curvatures are those of the Hessian [[2 + 8b, -4b], [-4b, 2b]].

    Raises:
        ValueError: b is not a positive finite number.

    Example:
        >>> problem = momentax.problems.rosenbrock()
        >>> float(problem.loss(problem.minimum))
        0.0

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
