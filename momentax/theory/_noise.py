"""What gradient noise does to a linear pipeline on a quadratic."""

from __future__ import annotations

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_reals
from momentax.theory._closed_loop import loops
from momentax.theory._state_space import read
from momentax.theory._system import StateSpace, phases

_Reals = NDArray[np.float64]


def stationary_variance(
    tx: optax.GradientTransformation | StateSpace,
    curvature: ArrayLike,
    gradient_variance: ArrayLike,
) -> _Reals:
    """Give the variance that noisy gradients keep up in a parameter along a curvature.

        z⁺ = M z + B ε,    M = A + λ B C,    Var ε = σ²
        Σ = M Σ Mᵀ + σ² B Bᵀ,    Var θ = C Σ Cᵀ

    That is the gradient λ (θ - θ*) with noise ε, drawn anew each step, once the
    start is forgotten; the variance is about the mean. For heavy ball it is
    α σ² (1 + β) / (λ (1 - β) (2 (1 + β) - α λ)). A transformation with a period
    has a variance for each of its steps, and Var θ is their mean.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as
            `sgd`, or its StateSpace.
        curvature: λ, an eigenvalue of the Hessian; any real number.
        gradient_variance: σ² in [0, inf), of one gradient's noise.

    Returns:
        Var θ, float64, of the arguments' broadcast shape; infinite where the
        pipeline is not stable, as at λ = 0.

    Raises:
        ValueError: An argument lies outside its interval, or tx is not linear.
        TypeError: tx is no transformation.
    """
    steps, _ = phases(read(tx))
    λ = as_reals("curvature", curvature)
    σ2 = as_reals("gradient_variance", gradient_variance, "[0, inf)")
    λ, σ2 = np.broadcast_arrays(λ, σ2)
    unit = {each: _unit_variance(steps, each) for each in set(λ.flat)}
    variance = np.array([unit[each] for each in λ.flat], np.float64).reshape(λ.shape)
    # Without noise an unstable pipeline has no stationary state either: inf, not inf · 0.
    return np.multiply(variance, σ2, out=np.full(λ.shape, np.inf), where=np.isfinite(variance))


def _unit_variance(steps: list[StateSpace], λ: float) -> float:
    """The mean of C Σ Cᵀ over the steps at unit noise, infinite where they are not stable."""
    each = list(zip(loops(steps, λ), steps, strict=True))
    one = np.eye(len(steps[0].C))
    whole, added = one, 0 * one
    with np.errstate(over="ignore", invalid="ignore"):
        for M, (_, B, _) in each:
            whole, added = M @ whole, M @ added @ M.T + np.outer(B, B)
    if not (np.isfinite(whole).all() and np.isfinite(added).all()):  # A long way past the edge.
        return np.inf
    change = whole - one
    if len(steps) == 1:  # Then what 1 would round away is known too.
        change = loops([steps[0]._replace(A=steps[0].A - one)], λ)[0]
    roots = np.linalg.eigvals(change)
    growth = 2 * roots.real + np.abs(roots) ** 2  # Of |1 + root|².
    rounding = 8 * len(steps) * len(one) * np.finfo(np.float64).eps
    slack = np.full(len(one), -rounding)
    if len(steps) == 1:  # Where rounding hides the sign of a growth so small, the sum will tell.
        slack = np.where(np.abs(roots) < 1e-6, rounding, -rounding * np.abs(roots))
    if np.any(growth >= slack):
        return np.inf
    Σ, total = gramian(change, added), 0.0
    if not np.isfinite(Σ).all():
        return np.inf
    for M, (_, B, C) in each:
        total += C @ Σ @ C
        Σ = M @ Σ @ M.T + np.outer(B, B)
    return float(total / len(steps))


def gramian(change: _Reals, Q: _Reals) -> _Reals:
    """Σ = M Σ Mᵀ + Q of M = 1 + change, infinite where M is not stable.

    It is the sum Q + M Q Mᵀ + ..., twice as many terms each time. The change keeps
    the digits of what goes slowly, which 1 + change would round away.
    """
    new = np.diag(Q)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(64):
            before, moved = Q, change @ Q
            Q = 2 * Q + moved + moved.T + moved @ change.T
            change = 2 * change + change @ change
            new = np.diag(Q - before)
            if np.all(np.abs(new) <= 1e-15 * np.diag(Q)):
                break
    # A sum that still grows has no end; one that trembles in its last digits has.
    return Q if np.all(np.abs(new) <= 1e-9 * np.diag(Q)) else np.full(Q.shape, np.inf)


def noise_floor(
    tx: optax.GradientTransformation | StateSpace,
    curvatures: ArrayLike,
    gradient_variance: ArrayLike,
) -> _Reals:
    """Give the loss above the minimum at which noisy gradients hold a quadratic.

        E f - f(E θ) = ½ Σ_i λ_i Var θ_i

    with the `stationary_variance` along each eigenvalue of the Hessian, and so
    the mean over the steps where there is a period. E θ is the minimizer, but
    where weight decay draws it away. A flat direction adds nothing: the
    parameters wander along it for ever, and the loss does not feel it.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as
            `sgd`, or its StateSpace.
        curvatures: λ_i in [0, inf), the eigenvalues of the Hessian on the last
            axis; one number is a spectrum of one.
        gradient_variance: σ² in [0, inf), of the noise along each eigenvector:
            one number for all, or one each.

    Returns:
        E f - f(E θ), float64, of the arguments' broadcast shape without the last
        axis; infinite where the pipeline is not stable.

    Raises:
        ValueError: An argument lies outside its interval, or tx is not linear.
        TypeError: tx is no transformation.
    """
    λ = np.atleast_1d(as_reals("curvatures", curvatures, "[0, inf)"))
    variance = stationary_variance(tx, λ, gradient_variance)
    λ = np.broadcast_to(λ, variance.shape)
    return np.multiply(λ, variance, out=np.zeros(λ.shape), where=λ > 0).sum(axis=-1) / 2
