"""Tunings of `synthesized_nesterov` for the worst smooth strongly convex function."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_reals
from momentax.theory._rates import condition

_Reals = NDArray[np.float64]


class WorstCaseTuning(NamedTuple):
    """Hyperparameters of `synthesized_nesterov` and the rate they reach, each float64.

    learning_rate: α, in parameters per gradient.
    beta1: β1 in (0, 1), the share of the velocity kept each step.
    beta2: β2, how far along the velocity gradients are taken.
    delta: δ, how far along it the output lies.
    rate: ρ in [0, 1), the worst factor by which an error shrinks per step.
    """

    learning_rate: _Reals
    beta1: _Reals
    beta2: _Reals
    delta: _Reals
    rate: _Reals


def triple_momentum(mu: ArrayLike, L: ArrayLike) -> WorstCaseTuning:
    """Tune for the fastest worst case over smooth strongly convex functions.

        ρ = 1 - 1/√κ,    κ = L / μ
        α = (1 + ρ) / L,    β1 = ρ² / (2 - ρ),    β2 = ρ² / ((1 + ρ)(2 - ρ))
        δ = ρ² / (1 - ρ²)

    ρ is that of Nesterov's momentum on quadratics, here on every function with
    curvatures from μ to L. It is `robust_momentum` at its smallest rate, with
    an output.

    Args:
        mu: μ in (0, L), the smallest curvature.
        L: L in (μ, inf), the largest.

    Returns:
        WorstCaseTuning(learning_rate, beta1, beta2, delta, rate) of the
        arguments' broadcast shape, for
        `sgd(learning_rate, synthesized_nesterov(beta1, beta2, delta=delta))`.

    Raises:
        ValueError: mu is not positive or not below L.

    Source:
        Van Scoy, Freeman and Lynch, The fastest known globally convergent
        first-order method, IEEE Control Systems Letters 2(1), 2018.
    """
    L, κ = _spread(mu, L)
    ρ = 1 - 1 / np.sqrt(κ)
    β2 = ρ**2 / ((1 + ρ) * (2 - ρ))
    return WorstCaseTuning((1 + ρ) / L, β2 * (1 + ρ), β2, ρ**2 / (1 - ρ**2), ρ)


def robust_momentum(mu: ArrayLike, L: ArrayLike, rate: ArrayLike) -> WorstCaseTuning:
    """Trade rate for robustness to gradient noise, from triple momentum to plain descent's rate.

        α = κ (1 - ρ)² (1 + ρ) / L,    κ = L / μ
        β1 = κ ρ³ / (κ - 1),    β2 = ρ³ / ((κ - 1)(1 - ρ)² (1 + ρ))

    Args:
        mu: μ in (0, L), the smallest curvature.
        L: L in (μ, inf), the largest.
        rate: ρ in [1 - 1/√κ, 1 - 1/κ], the worst factor by which an error
            shrinks per step; the larger, the more noise is borne.

    Returns:
        WorstCaseTuning(learning_rate, beta1, beta2, delta, rate) of the
        arguments' broadcast shape, with δ = 0.

    Raises:
        ValueError: mu is not positive or not below L, or rate lies outside its
            interval.

    Source:
        Cyrus, Hu, Van Scoy and Lessard, A robust accelerated optimization
        algorithm for strongly convex functions, 2018, arXiv:1710.04753.
    """
    L, κ = _spread(mu, L)
    ρ = as_reals("rate", rate, "[0, 1)")
    low, high = 1 - 1 / np.sqrt(κ), 1 - 1 / κ
    slack = 1e-12  # A rate that the caller worked out may differ in the last digits.
    if np.any((ρ < low - slack) | (ρ > high + slack)):
        raise ValueError(
            f"rate must be in [1 - 1/√κ, 1 - 1/κ] = [{low!s}, {high!s}] at κ = {κ!s}, got {rate!r}"
        )
    L, κ, ρ = np.broadcast_arrays(L, κ, ρ)
    factor = (1 - ρ) ** 2 * (1 + ρ)
    β2 = ρ**3 / ((κ - 1) * factor)
    return WorstCaseTuning(κ * factor / L, κ * ρ**3 / (κ - 1), β2, 0 * ρ, ρ)


def _spread(mu: ArrayLike, L: ArrayLike) -> tuple[_Reals, _Reals]:
    """L and κ, broadcast; κ = 1 has no such tuning."""
    _, L, κ = condition(mu, L)
    if np.any(κ == 1):
        raise ValueError(
            f"mu must be below L, got mu={mu!r} and L={L!s}; where they are equal plain descent "
            "with learning rate 1/L arrives in one step"
        )
    return np.broadcast_to(L, κ.shape), κ
