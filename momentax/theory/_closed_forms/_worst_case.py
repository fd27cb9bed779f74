"""Tunings of `synthesized_nesterov` for the worst smooth strongly convex function."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core.arguments import as_reals, broadcast, describe
from momentax._core.typing import Reals
from momentax.theory._closed_forms._optimizer import linear_optimizer
from momentax.theory._curvature import positive_ranges
from momentax.theory._printing import format_record


class WorstCaseTuning(NamedTuple):
    """Hyperparameters of `synthesized_nesterov` and the rate that they reach, each float64.

    learning_rate: α, in parameters per gradient.
    beta1: β1 in (0, 1), the share of the velocity kept each step.
    beta2: β2, how far along the velocity gradients are taken.
    delta: δ, how far along it the output lies.
    rate: ρ in [0, 1), the worst factor by which an error shrinks per step.
    """

    learning_rate: Reals
    beta1: Reals
    beta2: Reals
    delta: Reals
    rate: Reals

    def __repr__(self) -> str:
        return format_record(self)

    @property
    def weights(self) -> tuple[Reals, Reals]:
        """Return a and b, the weights of the gradient and of the velocity in the direction."""
        a = self.beta2 / self.beta1
        return a, 1 + self.beta2 - a

    @property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """Return the complete optimizer with these hyperparameters.

        Its parameters are the points at which gradients are taken. `synthesized_nesterov` also
        gives the output that delta defines.
        """
        return linear_optimizer(self.learning_rate, *self.weights, self.beta1)


def triple_momentum(mu: Any, L: ArrayLike | None = None) -> WorstCaseTuning:
    """Tune for the fastest worst case over smooth strongly convex functions.

        ρ = 1 - 1/√κ,    κ = L / μ
        α = (1 + ρ) / L,    β1 = ρ² / (2 - ρ),    β2 = ρ² / ((1 + ρ)(2 - ρ))
        δ = ρ² / (1 - ρ²)

    ρ is the rate of Nesterov's momentum on quadratics, here on every function with curvatures
    from μ to L. The tuning is `robust_momentum` at its smallest rate, with an output.

    Args:
        mu: μ in (0, L), the smallest curvature; or a Curvature, which gives L too.
        L: L in (μ, inf), the largest.

    Returns:
        WorstCaseTuning(learning_rate, beta1, beta2, delta, rate) of the arguments' broadcast
        shape, for `sgd(learning_rate, synthesized_nesterov(beta1, beta2, delta=delta))`.

    Raises:
        ValueError: mu is not positive or not below L.
        TypeError: L is missing or given twice.

    Example:
        >>> tuning = momentax.theory.triple_momentum(1.0, 4.0)
        >>> round(float(tuning.learning_rate), 6), round(float(tuning.rate), 6)
        (0.375, 0.5)

    Source:
        Van Scoy, Freeman and Lynch, The fastest known globally convergent
        first-order method, IEEE Control Systems Letters 2(1), 2018.
    """
    largest, κ = _strict_range(mu, L)
    ρ = 1 - 1 / np.sqrt(κ)
    β2 = ρ**2 / ((1 + ρ) * (2 - ρ))
    return WorstCaseTuning((1 + ρ) / largest, β2 * (1 + ρ), β2, ρ**2 / (1 - ρ**2), ρ)


def robust_momentum(
    mu: Any, L: ArrayLike | None = None, rate: ArrayLike | None = None
) -> WorstCaseTuning:
    """Trade rate for robustness to gradient noise, from triple momentum to plain descent's rate.

        α = κ (1 - ρ)² (1 + ρ) / L,    κ = L / μ
        β1 = κ ρ³ / (κ - 1),    β2 = ρ³ / ((κ - 1)(1 - ρ)² (1 + ρ))

    Args:
        mu: μ in (0, L), the smallest curvature; or a Curvature, which gives L too.
        L: L in (μ, inf), the largest.
        rate: ρ in [1 - 1/√κ, 1 - 1/κ], the worst factor by which an error shrinks per step; a
            larger one tolerates more noise. It is always needed.

    Returns:
        WorstCaseTuning(learning_rate, beta1, beta2, delta, rate) of the arguments' broadcast
        shape, with δ = 0.

    Raises:
        ValueError: mu is not positive or not below L, or rate lies outside its interval.
        TypeError: L is missing or given twice, or rate is missing.

    Example:
        >>> momentax.theory.robust_momentum(1.0, 4.0, rate=0.5)
        WorstCaseTuning(learning_rate=0.375, beta1=0.166667, beta2=0.111111, delta=0, rate=0.5)

    Source:
        Cyrus, Hu, Van Scoy and Lessard, A robust accelerated optimization
        algorithm for strongly convex functions, 2018, arXiv:1710.04753.
    """
    largest, κ = _strict_range(mu, L)
    if rate is None:
        raise TypeError("rate is missing: give a factor per step in [1 - 1/√κ, 1 - 1/κ]")
    ρ = as_reals("rate", rate, "[0, 1)")
    κ, ρ = broadcast(L=κ, rate=ρ)
    low, high = 1 - 1 / np.sqrt(κ), 1 - 1 / κ
    slack = 1e-12  # A computed rate may differ in its last digits.
    if np.any((ρ < low - slack) | (ρ > high + slack)):
        raise ValueError(
            f"rate must be in [1 - 1/√κ, 1 - 1/κ] = [{low!s}, {high!s}] at κ = {κ!s}, got "
            f"{describe(rate)}"
        )
    factor = (1 - ρ) ** 2 * (1 + ρ)
    β2 = ρ**3 / ((κ - 1) * factor)
    return WorstCaseTuning(κ * factor / largest, κ * ρ**3 / (κ - 1), β2, 0 * ρ, ρ)


def _strict_range(mu: Any, L: ArrayLike | None) -> tuple[Reals, Reals]:
    """Return L and κ, broadcast; refuse κ = 1, for which these tunings are not defined."""
    μ, largest, κ = positive_ranges(mu, L)
    if np.any(κ == 1):
        raise ValueError(
            f"mu must be below L, got mu={describe(μ)} and L={describe(largest)}; where they are "
            "equal, plain descent with learning rate 1/L converges in one step"
        )
    return largest, κ
