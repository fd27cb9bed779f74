"""A linear method on a quadratic: one 2×2 matrix a curvature, solved and not stepped.

    (θ, v)_t = M (θ, v)_{t-1},    M = [[1 - α (a + b) λ, -α b β], [λ, β]]

with θ counted from the minimizer. Its trace T and determinant D are

    T = 1 + β - α λ (a + b),    D = β (1 - α λ a).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_count, as_reals, as_symmetric
from momentax.theory._closed_loop import edge, path, radius
from momentax.theory._state_space import is_system, read
from momentax.theory._system import StateSpace

_Reals = NDArray[np.float64]
_System = optax.GradientTransformation | StateSpace


class QuadraticPath(NamedTuple):
    """The exact iterates on a quadratic, time on the axis before the last.

    params: θ_0 .. θ_T, shape (..., T + 1, n).
    velocity: v_0 .. v_T, in units of the gradient, shape (..., T + 1, n); None of
    a transformation, whose state may hold none or several.
    """

    params: _Reals
    velocity: _Reals | None


def _coefficients(
    gradient_weight: Any, velocity_weight: Any, beta: Any
) -> tuple[_Reals, _Reals, _Reals]:
    if gradient_weight is None or velocity_weight is None or beta is None:
        raise TypeError(
            "give gradient_weight, velocity_weight and beta, or in place of all hyperparameters a "
            "transformation"
        )
    return (
        as_reals("gradient_weight", gradient_weight),
        as_reals("velocity_weight", velocity_weight),
        as_reals("beta", beta, "[0, 1)"),
    )


def _roots(
    x: _Reals, a: _Reals, b: _Reals, β: _Reals
) -> tuple[_Reals, _Reals, _Reals, _Reals, _Reals]:
    """T/2, D, (T/2)² - D and, where they are real, the roots: the larger in magnitude first.

    All from the distances of the roots to 1, which have the sum 2h = 2 - T and
    the product c = 1 - T + D: a slow error, whose root is nearly 1, keeps its digits.
    """
    h, c = (1 - β + x * (a + b)) / 2, x * (a * (1 - β) + b)
    square = h**2 - c
    far = h + np.copysign(np.sqrt(np.maximum(square, 0)), h)
    near = np.divide(c, far, out=np.zeros_like(far), where=far != 0)
    swapped = np.abs(1 - near) > np.abs(1 - far)
    larger, smaller = 1 - np.where(swapped, near, far), 1 - np.where(swapped, far, near)
    return 1 - h, β * (1 - x * a), square, larger, smaller


def spectral_radius(
    learning_rate: ArrayLike | _System,
    curvature: ArrayLike,
    gradient_weight: ArrayLike | None = None,
    velocity_weight: ArrayLike | None = None,
    beta: ArrayLike | None = None,
) -> _Reals:
    """Give the factor per step by which an error along a curvature shrinks or grows.

        ρ = max |z|,    z² - T z + D = 0
        T = 1 + β - α λ (a + b),    D = β (1 - α λ a)

    and `spectral_radius(tx, curvature)` for any linear transformation tx, of
    which z are the eigenvalues of `closed_loop(tx, curvature)`.

    Below 1 the method converges along this curvature. At a negative curvature
    it is the growth factor with which the method leaves a saddle. It is the
    radius of the whole matrix: with b = 0 the velocity's own β counts, though
    the parameters do not feel it. Of a transformation it is that of what
    they feel.

    Args:
        learning_rate: α in (0, inf); or a transformation that is linear, its
            learning rate included, or its StateSpace: then no more follows than
            the curvature.
        curvature: λ, an eigenvalue of the Hessian; any real number.
        gradient_weight: a, of the gradient in the direction.
        velocity_weight: b, of the velocity in the direction, at gain 1.
        beta: β in [0, 1).

    Returns:
        ρ, float64, of the arguments' broadcast shape.

    Raises:
        ValueError: An argument lies outside its interval, or as `state_space`.

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    if is_system(learning_rate):
        return radius(read(learning_rate), as_reals("curvature", curvature))
    a, b, β = _coefficients(gradient_weight, velocity_weight, beta)
    α = as_reals("learning_rate", learning_rate, "(0, inf)")
    x = α * as_reals("curvature", curvature)
    _, determinant, square, larger, _ = _roots(x, a, b, β)
    return np.where(square < 0, np.sqrt(np.abs(determinant)), np.abs(larger))


def stability_edge(
    gradient_weight: ArrayLike | _System,
    velocity_weight: ArrayLike | None = None,
    beta: ArrayLike | None = None,
) -> _Reals:
    """Give the largest learning rate × curvature at which a method is stable.

        α λ < 2 (1 + β) / (a (1 + β) + b)

    for a ≥ 0: 2 (1 + β) for heavy ball, 2 (1 + β) / (1 + 2β) for Nesterov's
    momentum, 2 for plain descent. A negative a is stable only up to
    (1 - β) / (β |a|) as well. `stability_edge(tx)` gives the curvature up to
    which a linear transformation is stable at its own learning rate: at a
    learning rate of 1 that is the same.

    Args:
        gradient_weight: a, of the gradient in the direction; or a
            transformation that is linear, its learning rate included, or its
            StateSpace: then nothing follows.
        velocity_weight: b, of the velocity in the direction, at gain 1.
        beta: β in [0, 1).

    Returns:
        The edge, float64, of the arguments' broadcast shape: every α λ between
        0 and it is stable, and some just above it are not. It is infinite where
        none is unstable, and 0 where a + b / (1 - β) ≤ 0: such a method does not
        descend. Of a transformation it is 0 too where it is unstable without a
        gradient.

    Raises:
        ValueError: An argument lies outside its interval.

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    if is_system(gradient_weight):
        return edge(read(gradient_weight))
    a, b, β = np.broadcast_arrays(*_coefficients(gradient_weight, velocity_weight, beta))
    # |D| < 1 and |T| < 1 + D, each solved for α λ.
    oscillating = a * (1 + β) + b
    spiralling = -a * β
    with np.errstate(divide="ignore", over="ignore"):
        flip = np.where(oscillating > 0, 2 * (1 + β) / oscillating, np.inf)
        spiral = np.where(spiralling > 0, (1 - β) / spiralling, np.inf)
    return np.where(a * (1 - β) + b > 0, np.minimum(flip, spiral), 0.0)


def _powers(x: _Reals, a: _Reals, b: _Reals, β: _Reals, steps: int) -> tuple[_Reals, _Reals]:
    """p_n and q_n of Mⁿ = p_n M + q_n I for n = 0 .. steps, on the axis before the last.

    By Cayley and Hamilton p_n = (r₁ⁿ - r₂ⁿ) / (r₁ - r₂) and q_n = -D p_{n-1},
    from the roots r of z² - T z + D. Each case is written so that nothing
    cancels as the roots meet, on either side of 0.
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


def quadratic_path(
    hessian: ArrayLike | _System,
    start: ArrayLike,
    steps: Any,
    learning_rate: Any = None,
    gradient_weight: ArrayLike | None = None,
    velocity_weight: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    minimizer: ArrayLike | None = None,
) -> QuadraticPath:
    """Solve a linear method on ½ (θ - θ*)ᵀ H (θ - θ*) without stepping.

        (θ, v)_t = Mᵗ (θ, v)_0,    M = [[1 - α (a + b) λ, -α b β], [λ, β]]

    for each eigenvalue λ of H, with v_0 = 0 and θ counted from θ*; the powers
    come from M's eigenvalues, be they real, repeated or complex. With any linear
    transformation in front, `quadratic_path(tx, hessian, start, steps)` takes
    the powers of `closed_loop(tx, λ)` by squaring.

    Args:
        hessian: H, a symmetric matrix of shape (n, n); it may be indefinite. Or,
            before it, a transformation that is linear, its learning rate
            included, or its StateSpace: the hyperparameters then fall away.
        start: θ_0, shape (n,).
        steps: T, at least 0.
        learning_rate: α in (0, inf).
        gradient_weight: a, of the gradient in the direction.
        velocity_weight: b, of the velocity in the direction, at gain 1.
        beta: β in [0, 1).
        minimizer: θ*, the stationary point, shape (n,); None is the origin.

    Returns:
        QuadraticPath(params, velocity), each float64 of shape (..., T + 1, n)
        where ... is the hyperparameters' broadcast shape. A path that diverges
        past float64's range turns infinite or NaN.

    Raises:
        ValueError: H is not square or not as_symmetric, a shape does not fit it,
            a hyperparameter lies outside its interval, or as `state_space`.

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    tx = None
    if is_system(hessian):
        tx, hessian, start, steps = hessian, start, steps, learning_rate
    H = as_symmetric("hessian", hessian)
    origin = as_reals("minimizer", np.zeros(len(H)) if minimizer is None else minimizer)
    θ = as_reals("start", start)
    for name, point in (("start", θ), ("minimizer", origin)):
        if point.shape != H.shape[:1]:
            raise ValueError(
                f"{name} must have shape {H.shape[:1]}, as the hessian has {H.shape}; "
                f"got {point.shape}"
            )
    λ, basis = np.linalg.eigh(H)
    if tx is not None:
        count = as_count("steps", steps, least=0)
        along = path(read(tx), λ, θ @ basis, origin @ basis, count)
        with np.errstate(over="ignore", invalid="ignore"):
            return QuadraticPath(params=along @ basis.T, velocity=None)
    a, b, β = _coefficients(gradient_weight, velocity_weight, beta)
    α = as_reals("learning_rate", learning_rate, "(0, inf)")
    α, a, b, β = (each[..., None] for each in np.broadcast_arrays(α, a, b, β))

    error = (θ - origin) @ basis
    x = α * λ
    keep = 1 - x * (a + b)
    with np.errstate(over="ignore", invalid="ignore"):  # Divergence may leave float64's range.
        p, q = _powers(x, a, b, β, as_count("steps", steps, least=0))
        return QuadraticPath(
            params=origin + (p * keep[..., None, :] + q) * error @ basis.T,
            velocity=p * λ * error @ basis.T,
        )
