"""What gradient noise does to a linear transformation on a quadratic."""

from __future__ import annotations

import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core.arguments import as_reals, broadcast
from momentax._core.typing import Reals
from momentax.theory._curvature import require_eigenvalues
from momentax.theory._properties._closed_loop import phase_loops
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, Phase, StateSpace


def gramian(change: Reals, Q: Reals) -> Reals:
    """Solve Σ = M Σ Mᵀ + Q for M = 1 + change; Σ is infinite where M is not stable.

    Σ is the sum Q + M Q Mᵀ + ..., whose number of terms doubles each time. The change keeps
    the digits of slow modes, which 1 + change would round away.
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
    # A sum that still grows diverges; one that changes in its last digits has converged.
    return Q if np.all(np.abs(new) <= 1e-9 * np.diag(Q)) else np.full(Q.shape, np.inf)


def _is_stable(product: Reals, change: Reals, period: int) -> bool:
    """Return whether the product of all steps, which is 1 + change, is stable."""
    roots = np.linalg.eigvals(change)
    growth = 2 * roots.real + np.abs(roots) ** 2  # Of |1 + root|².
    rounding = 8 * period * len(product) * np.finfo(np.float64).eps
    slack = np.full(len(product), -rounding)
    if period == 1:  # Where rounding hides the sign of so small a growth, the sum decides.
        slack = np.where(np.abs(roots) < 1e-6, rounding, -rounding * np.abs(roots))
    return not np.any(growth >= slack)


def _unit_variance(phases: list[Phase], λ: float) -> float:
    """Return the mean of C Σ Cᵀ over the steps at unit noise, infinite if they are not stable."""
    loops = list(zip(phase_loops(phases, λ), phases, strict=True))
    one = np.eye(len(phases[0].C))
    product, added = one, 0 * one
    with np.errstate(over="ignore", invalid="ignore"):
        for M, (_, B, _) in loops:
            product, added = M @ product, M @ added @ M.T + np.outer(B, B)
    if not (np.isfinite(product).all() and np.isfinite(added).all()):  # Far beyond the edge.
        return np.inf
    change = product - one
    if len(phases) == 1:  # Without the digits that adding 1 rounds away.
        change = phase_loops([phases[0]._replace(A=phases[0].A - one)], λ)[0]
    if not _is_stable(product, change, len(phases)):
        return np.inf
    Σ, total = gramian(change, added), 0.0
    if not np.isfinite(Σ).all():
        return np.inf
    for M, (_, B, C) in loops:
        total += C @ Σ @ C
        Σ = M @ Σ @ M.T + np.outer(B, B)
    return float(total / len(phases))


def system_variance(system: LinearSystem, λ: Reals, σ2: Reals) -> Reals:
    """Compute `stationary_variance` for a system."""
    λ, σ2 = np.broadcast_arrays(λ, σ2)
    unit = {each: _unit_variance(system.phases, each) for each in set(λ.flat)}
    variance = np.array([unit[each] for each in λ.flat], np.float64).reshape(λ.shape)
    # An unstable system has no stationary state without noise either: inf, not inf · 0.
    return np.multiply(variance, σ2, out=np.full(λ.shape, np.inf), where=np.isfinite(variance))


def system_noise_floor(system: LinearSystem, λ: Reals, σ2: Reals) -> Reals:
    """Compute `noise_floor` for a system."""
    variance = system_variance(system, λ, σ2)
    λ = np.broadcast_to(λ, variance.shape)
    return np.multiply(λ, variance, out=np.zeros(λ.shape), where=λ > 0).sum(axis=-1) / 2


def stationary_variance(
    tx: optax.GradientTransformation | StateSpace,
    curvature: ArrayLike,
    gradient_variance: ArrayLike,
) -> Reals:
    """Return the variance that gradient noise sustains in a parameter along a curvature.

        z⁺ = M z + B ε,    M = A + λ B C,    Var ε = σ²
        P = M P Mᵀ + σ² B Bᵀ,    Var θ = C P Cᵀ

    The gradient is λ (θ - θ*) plus noise ε that is independent at each step, and the variance is
    that of the stationary state, about its mean. For heavy ball it is
    α σ² (1 + β) / (λ (1 - β) (2 (1 + β) - α λ)). A transformation with a period has a variance
    for each of its steps, and Var θ is their mean.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as `sgd`, or its
            StateSpace.
        curvature: λ, an eigenvalue of the Hessian; any real number.
        gradient_variance: σ² in [0, inf), of one gradient's noise.

    Returns:
        Var θ, float64, of the arguments' broadcast shape; infinite where the transformation is
        not stable, as at λ = 0.

    Raises:
        ValueError: An argument lies outside its interval, or tx is not linear.
        TypeError: tx is not a transformation.

    Example:
        >>> variance = momentax.theory.stationary_variance(optax.sgd(0.1, 0.9), 1.0, 1.0)
        >>> round(float(variance), 6)
        0.513514
    """
    require_eigenvalues("curvature", curvature)
    λ, σ2 = broadcast(
        curvature=as_reals("curvature", curvature),
        gradient_variance=as_reals("gradient_variance", gradient_variance, "[0, inf)"),
    )
    return system_variance(as_system(tx), λ, σ2)


def noise_floor(
    tx: optax.GradientTransformation | StateSpace,
    curvatures: ArrayLike,
    gradient_variance: ArrayLike,
) -> Reals:
    """Return the loss above the minimum at which gradient noise holds a quadratic.

        E f - f(E θ) = ½ Σ_i λ_i Var θ_i

    with the `stationary_variance` along each eigenvalue of the Hessian, and so the mean over
    the steps of a period. E θ is the minimizer, except where weight decay moves it. A flat
    direction adds nothing: the parameters wander along it and the loss does not change.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as `sgd`, or its
            StateSpace.
        curvatures: λ_i in [0, inf), the eigenvalues of the Hessian on the last axis; one number
            is a spectrum of one.
        gradient_variance: σ² in [0, inf), of the noise along each eigenvector: one number for
            all, or one each.

    Returns:
        E f - f(E θ), float64, of the arguments' broadcast shape without the last axis; infinite
        where the transformation is not stable.

    Raises:
        ValueError: An argument lies outside its interval, or tx is not linear.
        TypeError: tx is not a transformation.

    Example:
        >>> floor = momentax.theory.noise_floor(optax.sgd(0.1, 0.9), [1.0, 10.0], 1.0)
        >>> round(float(floor), 6)
        0.596042
    """
    require_eigenvalues("curvatures", curvatures)
    λ, σ2 = broadcast(
        curvatures=np.atleast_1d(as_reals("curvatures", curvatures, "[0, inf)")),
        gradient_variance=as_reals("gradient_variance", gradient_variance, "[0, inf)"),
    )
    return system_noise_floor(as_system(tx), λ, σ2)
