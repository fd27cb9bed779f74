"""The convention of Optax."""

from __future__ import annotations

from dataclasses import dataclass

from momentax.conventions._classical import ClassicalRecord


@dataclass(frozen=True)
class Optax(ClassicalRecord):
    """The hyperparameters of `optax.sgd`.

        v_t = μ v_{t-1} + g_t
        θ_t = θ_{t-1} - α v_t,    or with nesterov    θ_t = θ_{t-1} - α (g_t + μ v_t)

    The canonical steps are (a, b, β) = (0, α, μ), or (α, α μ, μ) with nesterov,
    and v_t = s_t.

    Args:
        learning_rate: α in (0, inf).
        momentum: μ in [0, 1); 0 is Optax's None.
        nesterov: Whether to look ahead.
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def velocity_scale(self) -> float:
        return 1.0
