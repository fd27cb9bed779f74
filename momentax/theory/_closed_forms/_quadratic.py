"""The constant-coefficient recurrence on a quadratic: one 2×2 matrix for each curvature.

    (θ, v)_t = M (θ, v)_{t-1},    M = [[1 - α (a + b) λ, -α b β], [λ, β]]

with θ counted from the minimizer. Its trace T and determinant D are

    T = 1 + β - α λ (a + b),    D = β (1 - α λ a).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_reals, as_symmetric, broadcast
from momentax._core.typing import Reals
from momentax.theory._curvature import require_eigenvalues
from momentax.theory._printing import format_record
from momentax.theory._system import StateSpace


class QuadraticPath(NamedTuple):
    """The exact iterates on a quadratic, time on the axis before the last.

    params: θ_0 .. θ_T, shape (..., T + 1, n).
    velocity: v_0 .. v_T, in units of the gradient, shape (..., T + 1, n).
    """

    params: Reals
    velocity: Reals

    def __repr__(self) -> str:
        return format_record(self)


def _coefficients(beta: Any, gradient_weight: Any, velocity_weight: Any) -> dict[str, Reals]:
    """Return β, a and b by the names of their arguments."""
    return {
        "beta": as_reals("beta", beta, "[0, 1)"),
        "gradient_weight": as_reals("gradient_weight", gradient_weight),
        "velocity_weight": as_reals("velocity_weight", velocity_weight),
    }


def _refuse_transformation(name: str, value: Any, reading: str) -> None:
    """Name the function for transformations where one is given in place of a hyperparameter."""
    if isinstance(value, optax.GradientTransformation | optax.MultiSteps | StateSpace):
        raise TypeError(
            f"{name} must be real numbers, got a {type(value).__name__}; for a transformation call "
            f"theory.{reading}"
        )


def _roots(x: Reals, a: Reals, b: Reals, β: Reals) -> tuple[Reals, Reals, Reals, Reals, Reals]:
    """Return T/2, D, (T/2)² - D and the roots, the larger in magnitude first, where real.

    All come from the distances of the roots to 1, which have the sum 2h = 2 - T and the product
    c = 1 - T + D. So a slow error, whose root is nearly 1, keeps its digits.
    """
    h, c = (1 - β + x * (a + b)) / 2, x * (a * (1 - β) + b)
    square = h**2 - c
    far = h + np.copysign(np.sqrt(np.maximum(square, 0)), h)
    near = np.divide(c, far, out=np.zeros_like(far), where=far != 0)
    swapped = np.abs(1 - near) > np.abs(1 - far)
    larger, smaller = 1 - np.where(swapped, near, far), 1 - np.where(swapped, far, near)
    return 1 - h, β * (1 - x * a), square, larger, smaller


def spectral_radius(
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    beta: ArrayLike,
    *,
    gradient_weight: ArrayLike = 0.0,
    velocity_weight: ArrayLike = 1.0,
) -> Reals:
    """Return the factor per step by which an error along a curvature shrinks or grows.

        ρ = max |z|,    z² - T z + D = 0
        T = 1 + β - α λ (a + b),    D = β (1 - α λ a)

    Below 1 the method converges along this curvature. At a negative curvature it is the growth
    factor with which the method leaves a saddle. It is the radius of the whole matrix: with
    b = 0 the velocity's own β counts, though the parameters do not depend on it. `rate_at` is
    the same for a transformation.

    Args:
        learning_rate: α in (0, inf).
        curvature: λ, an eigenvalue of the Hessian; any real number.
        beta: β in [0, 1).
        gradient_weight: a, of the gradient in the direction; 0 for heavy ball.
        velocity_weight: b, of the velocity in the direction, at gain 1.

    Returns:
        ρ, float64, of the arguments' broadcast shape.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> round(float(momentax.theory.spectral_radius(0.1, 1.0, 0.81)), 6)
        0.9

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    _refuse_transformation("learning_rate", learning_rate, "rate_at(tx, curvature)")
    require_eigenvalues("curvature", curvature)
    α, λ, β, a, b = broadcast(
        learning_rate=as_reals("learning_rate", learning_rate, "(0, inf)"),
        curvature=as_reals("curvature", curvature),
        **_coefficients(beta, gradient_weight, velocity_weight),
    )
    _, determinant, square, larger, _ = _roots(α * λ, a, b, β)
    return np.where(square < 0, np.sqrt(np.abs(determinant)), np.abs(larger))


def stability_edge(
    beta: ArrayLike, *, gradient_weight: ArrayLike = 0.0, velocity_weight: ArrayLike = 1.0
) -> Reals:
    """Return the largest learning rate × curvature at which a method is stable.

        α λ < 2 (1 + β) / (a (1 + β) + b)

    for a ≥ 0: 2 (1 + β) for heavy ball, 2 (1 + β) / (1 + 2β) for Nesterov's momentum and 2 for
    plain descent. A negative a is stable only up to (1 - β) / (β |a|) as well. For a
    transformation, `sharpness_limit` gives the largest stable curvature at its own learning
    rate; at a learning rate of 1 the two are the same.

    Args:
        beta: β in [0, 1).
        gradient_weight: a, of the gradient in the direction; 0 for heavy ball.
        velocity_weight: b, of the velocity in the direction, at gain 1.

    Returns:
        The edge, float64, of the arguments' broadcast shape: every α λ between 0 and it is
        stable, and some just above it are not. It is infinite where none is unstable, and 0
        where a + b / (1 - β) ≤ 0: such a method does not descend.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> round(float(momentax.theory.stability_edge(beta=0.9)), 6)
        3.8

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    _refuse_transformation("beta", beta, "sharpness_limit(tx)")
    β, a, b = broadcast(**_coefficients(beta, gradient_weight, velocity_weight))
    # |D| < 1 and |T| < 1 + D, each solved for α λ.
    oscillating = a * (1 + β) + b
    spiralling = -a * β
    with np.errstate(divide="ignore", over="ignore"):
        flip = np.where(oscillating > 0, 2 * (1 + β) / oscillating, np.inf)
        spiral = np.where(spiralling > 0, (1 - β) / spiralling, np.inf)
    return np.where(a * (1 - β) + b > 0, np.minimum(flip, spiral), 0.0)


def _powers(x: Reals, a: Reals, b: Reals, β: Reals, steps: int) -> tuple[Reals, Reals]:
    """Return p_n and q_n of Mⁿ = p_n M + q_n I for n = 0 .. steps, on the axis before the last.

    By Cayley and Hamilton p_n = (r₁ⁿ - r₂ⁿ) / (r₁ - r₂) and q_n = -D p_{n-1}, from the roots r
    of z² - T z + D. Each case is written so that nothing cancels as the roots meet, on either
    side of 0.
    """
    roots = np.broadcast_arrays(*_roots(x, a, b, β))
    half, determinant, square, larger, smaller = (root[..., None, :] for root in roots)
    n = np.arange(1, steps + 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Complex roots ±ρ e^{±iφ}, φ at most a right angle.
        angle = np.arctan2(np.sqrt(-square), np.abs(half))
        radius = np.copysign(np.sqrt(half**2 - square), half)  # ρ² = D, and positive here.
        spiral = radius ** (n - 1) * np.sin(n * angle) / np.sin(angle)
        # Real roots of one sign, which may be equal.
        ratio = np.where(larger == 0, 0, smaller / larger)
        logarithm = np.log(ratio)
        monotone = np.where(ratio == 1, n, np.expm1(n * logarithm) / np.expm1(logarithm))
        # Real roots of opposite signs, or a zero one.
        alternating = (1 - ratio**n) / (1 - ratio)
        real = larger ** (n - 1) * np.where(ratio > 0, monotone, alternating)
    p = np.where(square < 0, spiral, real)
    first = (*p.shape[:-2], 1, p.shape[-1])
    p = np.concatenate([np.zeros(first), p], axis=-2)
    return p, np.concatenate([np.ones(first), -determinant * p[..., :-1, :]], axis=-2)


def quadratic_problem(
    hessian: ArrayLike, start: ArrayLike, minimizer: ArrayLike | None
) -> tuple[Reals, Reals, Reals]:
    """Check the arguments of a quadratic: the Hessian, the start and the minimizer."""
    H = as_symmetric("hessian", hessian)
    origin = as_reals("minimizer", np.zeros(len(H)) if minimizer is None else minimizer)
    θ = as_reals("start", start)
    for name, point in (("start", θ), ("minimizer", origin)):
        if point.shape != H.shape[:1]:
            raise ValueError(
                f"{name} must have shape {H.shape[:1]}, as the hessian has {H.shape}; "
                f"got {point.shape}"
            )
    return H, θ, origin


def quadratic_path(
    hessian: ArrayLike,
    start: ArrayLike,
    steps: int,
    learning_rate: ArrayLike,
    beta: ArrayLike,
    *,
    gradient_weight: ArrayLike = 0.0,
    velocity_weight: ArrayLike = 1.0,
    minimizer: ArrayLike | None = None,
) -> QuadraticPath:
    """Solve the recurrence on ½ (θ - θ*)ᵀ H (θ - θ*) without stepping.

        (θ, v)_t = Mᵗ (θ, v)_0,    M = [[1 - α (a + b) λ, -α b β], [λ, β]]

    for each eigenvalue λ of H, with v_0 = 0 and θ counted from θ*. The powers come from M's
    eigenvalues, whether these are real, repeated or complex. `trajectory` is the same for a
    transformation.

    Args:
        hessian: H, a symmetric matrix of shape (n, n); it may be indefinite.
        start: θ_0, shape (n,).
        steps: T, at least 0.
        learning_rate: α in (0, inf).
        beta: β in [0, 1).
        gradient_weight: a, of the gradient in the direction; 0 for heavy ball.
        velocity_weight: b, of the velocity in the direction, at gain 1.
        minimizer: θ*, the stationary point, shape (n,); None is the origin.

    Returns:
        QuadraticPath(params, velocity), each float64 of shape (..., T + 1, n), where ... is the
        hyperparameters' broadcast shape. A path that diverges past the range of float64 turns
        infinite or NaN.

    Raises:
        ValueError: H is not square or not symmetric, a shape does not fit it, or a
            hyperparameter lies outside its interval.

    Example:
        >>> path = momentax.theory.quadratic_path([[1.0]], [1.0], 2, learning_rate=0.1, beta=0.9)
        >>> np.round(path.params.ravel(), 6)
        array([1.  , 0.9 , 0.72])

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    _refuse_transformation("hessian", hessian, "trajectory(tx, hessian, start, steps)")
    H, θ, origin = quadratic_problem(hessian, start, minimizer)
    count = as_count("steps", steps, least=0)
    named = _coefficients(beta, gradient_weight, velocity_weight)
    α = as_reals("learning_rate", learning_rate, "(0, inf)")
    α, β, a, b = (each[..., None] for each in broadcast(learning_rate=α, **named))
    λ, basis = np.linalg.eigh(H)
    error = (θ - origin) @ basis
    x = α * λ
    keep = 1 - x * (a + b)
    with np.errstate(over="ignore", invalid="ignore"):  # Divergence may leave float64's range.
        p, q = _powers(x, a, b, β, count)
        return QuadraticPath(
            params=origin + (p * keep[..., None, :] + q) * error @ basis.T,
            velocity=p * λ * error @ basis.T,
        )
