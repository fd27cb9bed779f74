"""Heavy ball and Nesterov's momentum, which four conventions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from momentax.conventions._canonical import Canonical, Record


def classical_steps(learning_rate: float, momentum: float, nesterov: bool) -> Canonical:
    """Return the steps of heavy ball or of Nesterov's momentum."""
    α, β = learning_rate, momentum
    return Canonical(α, α * β, β) if nesterov else Canonical(0.0, α, β)


def classical_hyperparameters(steps: Canonical) -> tuple[float, float, bool]:
    """Return the learning rate, the momentum and nesterov that give these steps."""
    a, b, β = steps.gradient_step, steps.velocity_step, steps.beta
    if steps._is_plain_descent():
        return steps._effective_learning_rate(), 0.0, False
    if steps._is_negligible(a):
        return b, β, False
    if steps._is_negligible(b - a * β):
        return a, β, True
    raise ValueError(
        "the steps must have gradient_step = 0 (heavy ball) or velocity_step = "
        "beta * gradient_step (Nesterov's momentum)"
    )


@dataclass(frozen=True)
class ClassicalRecord(Record):
    """Heavy ball or Nesterov's momentum whose velocity, by default, is -α s_t."""

    learning_rate: float
    momentum: float
    nesterov: bool = False

    @property
    def velocity_scale(self) -> float:
        return -self.learning_rate

    def canonical(self) -> Canonical:
        return classical_steps(self.learning_rate, self.momentum, self.nesterov)

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        return cls(*classical_hyperparameters(steps))
