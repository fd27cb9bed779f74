"""The best hyperparameters on quadratics, and the rates that they reach."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core.arguments import as_flag, as_reals
from momentax._core.typing import Reals
from momentax.theory._closed_forms._optimizer import linear_optimizer
from momentax.theory._curvature import positive_ranges
from momentax.theory._printing import format_record


class Tuning(NamedTuple):
    """Hyperparameters of heavy ball and the rate that they reach, each float64.

    learning_rate: α, in parameters per gradient.
    beta: β in [0, 1); 0 is plain descent.
    rate: worst factor by which an error shrinks per step, in [0, 1).
    """

    learning_rate: Reals
    beta: Reals
    rate: Reals

    def __repr__(self) -> str:
        return format_record(self)

    @property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """Return the complete optimizer with these hyperparameters."""
        return linear_optimizer(self.learning_rate, 0.0, 1.0, self.beta)


class NesterovTuning(Tuning):
    """Hyperparameters of Nesterov's momentum and the rate that they reach; fields as in Tuning."""

    @property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """Return the complete optimizer with these hyperparameters."""
        return linear_optimizer(self.learning_rate, 1.0, self.beta, self.beta)


def gradient_descent_rate(kappa: ArrayLike) -> Reals:
    """Return the best rate of plain descent at a condition number.

        ρ = (κ - 1) / (κ + 1)

    reached at α = 2 / (μ + L). At α = 1 / L the rate is 1 - 1/κ.

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Example:
        >>> round(float(momentax.theory.gradient_descent_rate(100)), 6)
        0.980198

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    κ = as_reals("kappa", kappa, "[1, inf)")
    return (κ - 1) / (κ + 1)


def heavy_ball_rate(kappa: ArrayLike) -> Reals:
    """Return the best rate of heavy ball on quadratics at a condition number.

        ρ = (√κ - 1) / (√κ + 1),    β* = ρ²

    So β = 0.9 is the optimum at κ ≈ 1442, and at κ = 100 the optimum is 0.669. The rate holds
    on quadratics: on other smooth strongly convex functions this tuning can cycle
    (Lessard, Recht and Packard).

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Example:
        >>> round(float(momentax.theory.heavy_ball_rate(100)), 6)
        0.818182

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964; Lessard, Recht and Packard, 2016, arXiv:1408.3595.
    """
    return gradient_descent_rate(np.sqrt(as_reals("kappa", kappa, "[1, inf)")))


def nesterov_rate(kappa: ArrayLike, *, quadratic: bool = False) -> Reals:
    """Return the rate of Nesterov's momentum on quadratics at a condition number.

        standard:     ρ = 1 - 1/√κ,          α = 1 / L
        quadratic:    ρ = 1 - 2/√(3κ + 1),   the best that any α and β reach

    The standard tuning also converges on every smooth strongly convex function, there at a rate
    certified as √(1 - 1/√κ).

    Args:
        kappa: κ = L / μ in [1, inf), the condition number; any shape.
        quadratic: Whether to tune for quadratics only.

    Returns:
        ρ in [0, 1), float64, kappa's shape.

    Raises:
        ValueError: kappa lies outside its interval.

    Example:
        >>> round(float(momentax.theory.nesterov_rate(100)), 6)
        0.9

    Source:
        Nesterov, Introductory lectures on convex optimization, 2004; Lessard,
        Recht and Packard, 2016, arXiv:1408.3595.
    """
    κ = as_reals("kappa", kappa, "[1, inf)")
    return 1 - 2 / np.sqrt(3 * κ + 1) if as_flag("quadratic", quadratic) else 1 - 1 / np.sqrt(κ)


def optimal_gradient_descent(mu: Any, L: ArrayLike | None = None) -> Tuning:
    """Tune plain descent for the curvatures from μ to L.

        α = 2 / (μ + L),    β = 0,    ρ = (κ - 1) / (κ + 1)

    Args:
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.

    Returns:
        Tuning(learning_rate, beta, rate) of the arguments' broadcast shape.

    Example:
        >>> momentax.theory.optimal_gradient_descent(1.0, 100.0)
        Tuning(learning_rate=0.019802, beta=0, rate=0.980198)

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    μ, largest, κ = positive_ranges(mu, L)
    return Tuning(2 / (μ + largest), 0 * κ, gradient_descent_rate(κ))


def optimal_heavy_ball(mu: Any, L: ArrayLike | None = None) -> Tuning:
    """Tune heavy ball for quadratics with curvatures from μ to L.

        α = 4 / (√L + √μ)²,    β = ρ²,    ρ = (√κ - 1) / (√κ + 1)

    Args:
        mu: As in `optimal_gradient_descent`.
        L: As in `optimal_gradient_descent`.

    Returns:
        Tuning, as `optimal_gradient_descent` does.

    Example:
        >>> momentax.theory.optimal_heavy_ball(1.0, 100.0)
        Tuning(learning_rate=0.0330579, beta=0.669421, rate=0.818182)

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964.
    """
    μ, largest, κ = positive_ranges(mu, L)
    ρ = heavy_ball_rate(κ)
    return Tuning(4 / (np.sqrt(largest) + np.sqrt(μ)) ** 2, ρ**2, ρ)


def optimal_nesterov(
    mu: Any, L: ArrayLike | None = None, *, quadratic: bool = False
) -> NesterovTuning:
    """Tune Nesterov's momentum for the curvatures from μ to L.

        standard:     α = 1 / L,           β = (√κ - 1) / (√κ + 1),             ρ = 1 - 1/√κ
        quadratic:    α = 4 / (3 L + μ),   β = (√(3κ+1) - 2) / (√(3κ+1) + 2),   ρ = 1 - 2/√(3κ+1)

    Args:
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.
        quadratic: Whether to tune for quadratics only, where that is the best rate; the
            standard tuning is safe on every strongly convex function.

    Returns:
        NesterovTuning(learning_rate, beta, rate) of the arguments' broadcast shape; the rate is
        the one on quadratics.

    Example:
        >>> momentax.theory.optimal_nesterov(1.0, 100.0)
        NesterovTuning(learning_rate=0.01, beta=0.818182, rate=0.9)

    Source:
        Nesterov, Introductory lectures on convex optimization, 2004; Lessard,
        Recht and Packard, 2016, arXiv:1408.3595.
    """
    μ, largest, κ = positive_ranges(mu, L)
    ρ = nesterov_rate(κ, quadratic=quadratic)
    if not quadratic:
        return NesterovTuning(1 / largest, heavy_ball_rate(κ), ρ)
    root = np.sqrt(3 * κ + 1)
    return NesterovTuning(4 / (3 * largest + μ), (root - 2) / (root + 2), ρ)
