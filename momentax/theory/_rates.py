"""The best hyperparameters on quadratics, and the rates they reach."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_flag, as_reals

_Reals = NDArray[np.float64]


class Tuning(NamedTuple):
    """Hyperparameters and the rate they reach, each float64.

    learning_rate: α, in parameters per gradient.
    beta: β in [0, 1).
    rate: worst factor by which an error shrinks per step, in [0, 1).
    """

    learning_rate: _Reals
    beta: _Reals
    rate: _Reals


def gradient_descent_rate(kappa: ArrayLike) -> _Reals:
    """Give the best rate of plain descent at a condition number.

        ρ = (κ - 1) / (κ + 1)

    reached at α = 2 / (μ + L). At α = 1 / L it is 1 - 1/κ.

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    κ = as_reals("kappa", kappa, "[1, inf)")
    return (κ - 1) / (κ + 1)


def heavy_ball_rate(kappa: ArrayLike) -> _Reals:
    """Give the best rate of heavy ball on quadratics at a condition number.

        ρ = (√κ - 1) / (√κ + 1),    β* = ρ²

    So β = 0.9 is the optimum at κ ≈ 1442; at κ = 100 that is 0.669. The rate
    holds on quadratics: on other smooth strongly convex functions this tuning
    can cycle for ever (Lessard, Recht and Packard).

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964; Lessard, Recht and Packard, 2016, arXiv:1408.3595.
    """
    return gradient_descent_rate(np.sqrt(as_reals("kappa", kappa, "[1, inf)")))


def nesterov_rate(kappa: ArrayLike, *, quadratic: bool = False) -> _Reals:
    """Give the rate of Nesterov's momentum on quadratics at a condition number.

        standard:     ρ = 1 - 1/√κ,          α = 1 / L
        quadratic:    ρ = 1 - 2/√(3κ + 1),   the best that any α and β reach

    The standard tuning also converges on every smooth strongly convex function,
    there at a rate certified as √(1 - 1/√κ).

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.
        quadratic: Whether to tune for quadratics alone.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Source:
        Nesterov, Introductory lectures on convex optimization, 2004; Lessard,
        Recht and Packard, 2016, arXiv:1408.3595.
    """
    κ = as_reals("kappa", kappa, "[1, inf)")
    return 1 - 2 / np.sqrt(3 * κ + 1) if as_flag("quadratic", quadratic) else 1 - 1 / np.sqrt(κ)


def condition(mu: ArrayLike, L: ArrayLike) -> tuple[_Reals, _Reals, _Reals]:
    """μ, L and κ = L / μ, checked."""
    μ = as_reals("mu", mu, "(0, inf)")
    L = as_reals("L", L, "(0, inf)")
    if np.any(μ > L):
        raise ValueError(f"mu must not exceed L, got mu={mu!r} and L={L!s}; are they swapped?")
    return μ, L, L / μ


def optimal_gradient_descent(mu: ArrayLike, L: ArrayLike) -> Tuning:
    """Tune plain descent for the curvatures from μ to L.

        α = 2 / (μ + L),    β = 0,    ρ = (κ - 1) / (κ + 1)

    Args:
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest.

    Returns:
        Tuning(learning_rate, beta, rate) of the arguments' broadcast shape.

    Raises:
        ValueError: mu is not positive, or exceeds L.

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    μ, L, κ = condition(mu, L)
    return Tuning(2 / (μ + L), 0 * κ, gradient_descent_rate(κ))


def optimal_heavy_ball(mu: ArrayLike, L: ArrayLike) -> Tuning:
    """Tune heavy ball for quadratics with curvatures from μ to L.

        α = 4 / (√L + √μ)²,    β = ρ²,    ρ = (√κ - 1) / (√κ + 1)

    Args:
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest.

    Returns:
        Tuning(learning_rate, beta, rate) of the arguments' broadcast shape.

    Raises:
        ValueError: mu is not positive, or exceeds L.

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964.
    """
    μ, L, κ = condition(mu, L)
    ρ = heavy_ball_rate(κ)
    return Tuning(4 / (np.sqrt(L) + np.sqrt(μ)) ** 2, ρ**2, ρ)


def optimal_nesterov(mu: ArrayLike, L: ArrayLike, *, quadratic: bool = False) -> Tuning:
    """Tune Nesterov's momentum for the curvatures from μ to L.

        standard:     α = 1 / L,           β = (√κ - 1) / (√κ + 1),             ρ = 1 - 1/√κ
        quadratic:    α = 4 / (3 L + μ),   β = (√(3κ+1) - 2) / (√(3κ+1) + 2),   ρ = 1 - 2/√(3κ+1)

    Args:
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest.
        quadratic: Whether to tune for quadratics alone, where that is the best
            rate; the standard tuning is safe on every strongly convex function.

    Returns:
        Tuning(learning_rate, beta, rate) of the arguments' broadcast shape;
        the rate is the one on quadratics.

    Raises:
        ValueError: mu is not positive, or exceeds L.

    Source:
        Nesterov, Introductory lectures on convex optimization, 2004; Lessard,
        Recht and Packard, 2016, arXiv:1408.3595.
    """
    μ, L, κ = condition(mu, L)
    ρ = nesterov_rate(κ, quadratic=quadratic)
    if not quadratic:
        return Tuning(1 / np.broadcast_to(L, κ.shape), heavy_ball_rate(κ), ρ)
    root = np.sqrt(3 * κ + 1)
    return Tuning(4 / (3 * L + μ), (root - 2) / (root + 2), ρ)
