"""Heavy ball as the damped mass on a spring that it discretises."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_reals, broadcast
from momentax._core.typing import Reals
from momentax.theory._curvature import require_eigenvalues
from momentax.theory._printing import format_record


class Oscillator(NamedTuple):
    """A damped mass on a spring whose stiffness is the curvature, each float64.

    mass: m in [1/2, 1).
    friction: c, force per speed.
    time_step: h, the time that one step of the optimizer takes.
    damping_ratio: ζ; below 1 the mass swings past the minimum, above 1 it creeps, and at 1 it
        is as fast as it can be without swinging.
    """

    mass: Reals
    friction: Reals
    time_step: Reals
    damping_ratio: Reals

    def __repr__(self) -> str:
        return format_record(self)


def oscillator(learning_rate: ArrayLike, curvature: ArrayLike, beta: ArrayLike) -> Oscillator:
    """Return the damped mass on a spring that heavy ball discretises.

        m θ̈ + c θ̇ + λ θ = 0
        m (θ_{t+1} - 2 θ_t + θ_{t-1}) / h² + c (θ_{t+1} - θ_{t-1}) / 2h + λ θ_t = 0

        h = √α,    m = (1 + β) / 2,    c = (1 - β) / √α,    ζ = c / (2 √(m λ))

    The second line, with central differences, is heavy ball exactly and not an approximation to
    it. Time could be measured in other units; in these the mass depends on β alone. The
    equation's critical damping ζ = 1 tends to that of the iterates, β = (1 - √(α λ))², as
    α λ → 0.

    Args:
        learning_rate: α in (0, inf).
        curvature: λ in (0, inf), the spring's stiffness.
        beta: β in [0, 1).

    Returns:
        Oscillator(mass, friction, time_step, damping_ratio), each of the arguments' broadcast
        shape.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> momentax.theory.oscillator(0.01, 1.0, 0.9)
        Oscillator(mass=0.95, friction=1, time_step=0.1, damping_ratio=0.512989)

    Source:
        Qian, On the momentum term in gradient descent learning algorithms,
        Neural Networks 12(1), 1999, with differences of first order.
    """
    require_eigenvalues("curvature", curvature)
    α, λ, β = broadcast(
        learning_rate=as_reals("learning_rate", learning_rate, "(0, inf)"),
        curvature=as_reals("curvature", curvature, "(0, inf)"),
        beta=as_reals("beta", beta, "[0, 1)"),
    )
    h, m = np.sqrt(α), (1 + β) / 2
    c = (1 - β) / h
    return Oscillator(m, c, h, c / (2 * np.sqrt(m * λ)))


def from_oscillator(
    mass: ArrayLike, friction: ArrayLike, time_step: ArrayLike
) -> tuple[Reals, Reals]:
    """Return the heavy ball that discretises a damped mass on a spring.

        α = h² / (m + c h / 2),    β = (m - c h / 2) / (m + c h / 2)

    It is the inverse of `oscillator`. With fixed mass and friction, a smaller h gives a smaller
    α and a β nearer to 1, along the same path.

    Args:
        mass: m in (0, inf).
        friction: c in (0, inf), force per speed.
        time_step: h in (0, 2 m / c], the time that one step takes; beyond it β would be
            negative.

    Returns:
        (learning_rate, beta), each float64 of the arguments' broadcast shape.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> α, β = momentax.theory.from_oscillator(0.95, 1.0, 0.1)
        >>> round(float(α), 6), round(float(β), 6)
        (0.01, 0.9)

    Source:
        As of `oscillator`.
    """
    m = as_reals("mass", mass, "(0, inf)")
    c = as_reals("friction", friction, "(0, inf)")
    h = as_reals("time_step", time_step, "(0, inf)")
    m, c, h = broadcast(mass=m, friction=c, time_step=h)
    drag = c * h / 2
    if np.any(beyond := drag > m * (1 + 1e-12)):  # A computed time step may be off by rounding.
        raise ValueError(
            f"time_step must be at most 2 mass / friction = {(2 * m / c)[beyond].flat[0]!s}, "
            f"got {h[beyond].flat[0]!s}; beyond it beta would be negative"
        )
    return h**2 / (m + drag), np.maximum(m - drag, 0) / (m + drag)


def oscillator_path(
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    beta: ArrayLike,
    start: ArrayLike,
    steps: int,
) -> Reals:
    """Follow the damped mass on a spring at the times of heavy ball's steps.

        m θ̈ + c θ̇ + λ θ = 0,    θ(0) = θ_0,    θ̇(0) = 0
        θ((t + ½) h),    t = 0 .. T

    with the `oscillator` of these hyperparameters. Heavy ball starts with θ_0 = θ_{-1}, which
    is a mass at rest half a step earlier: this is where the half comes from. At these times the
    iterates differ from the path by O(h²).

    Args:
        learning_rate: α in (0, inf).
        curvature: λ in (0, inf), the spring's stiffness.
        beta: β in [0, 1).
        start: θ_0, counted from the minimizer.
        steps: T, at least 0.

    Returns:
        The positions that belong to θ_0 .. θ_T, float64 of shape (..., T + 1), where ... is the
        arguments' broadcast shape.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> np.round(momentax.theory.oscillator_path(0.01, 1.0, 0.9, 1.0, 2), 4)
        array([0.9987, 0.9888, 0.97  ])

    Source:
        As of `oscillator`.
    """
    m, c, h, _ = oscillator(learning_rate, curvature, beta)
    first = as_reals("start", start)
    broadcast(learning_rate=h, start=first)
    stiffness = as_reals("curvature", curvature)[..., None] / m[..., None]
    decay = c[..., None] / (2 * m[..., None])
    time = (np.arange(as_count("steps", steps, least=0) + 1) + 0.5) * h[..., None]
    # From the roots r of r² + 2 δ r + λ/m; their product keeps the digits of the slow one.
    half_gap = np.sqrt((decay**2 - stiffness).astype(np.complex128))
    fast = -decay - half_gap
    slow = stiffness / fast
    distance = -2 * half_gap * time
    meeting = distance == 0
    share = np.where(meeting, 1, np.expm1(distance) / np.where(meeting, 1, distance))
    unit = np.exp(slow * time) * (1 - slow * time * share)
    return first[..., None] * unit.real
