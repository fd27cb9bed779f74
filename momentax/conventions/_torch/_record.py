"""The hyperparameters of PyTorch's SGD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from momentax.conventions._canonical import UNBOUNDED, Canonical, Record
from momentax.conventions._classical import classical_hyperparameters, classical_steps


@dataclass(frozen=True)
class Torch(Record):
    """The hyperparameters of `torch.optim.SGD`.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        b_t = μ b_{t-1} + (1 - τ) g_t,    b_1 = g_1
        θ_t = θ_{t-1} - α b_t,    or with nesterov    θ_t = θ_{t-1} - α (g_t + μ b_t)

    The canonical steps are (a, b, β) = (0, α (1 - τ), μ), or (α, α μ, μ) with
    nesterov, and b_t = (1 - τ) s_t. The first gradient enters undamped, hence
    `first_gain` = 1 / (1 - τ). With μ = 0 PyTorch keeps no buffer and ignores
    τ. With τ = 1 the buffer is a multiple of the first gradient for ever, and
    there is no canonical form.

    Args:
        lr: α in (0, inf).
        momentum: μ in [0, 1), although PyTorch also accepts 1 and more.
        dampening: τ, any real number; 0 with nesterov.
        weight_decay: λ in [0, inf), coupled (L2).
        nesterov: Whether to look ahead; it needs momentum > 0, as in PyTorch.
        maximize: Whether the sign of ∇f is minus; decay shrinks θ in either case.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = field(default=0.0, metadata=UNBOUNDED)
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False

    _expressible: ClassVar = ("weight_decay", "maximize", "first_gain")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0, as in PyTorch, got "
                f"momentum={self.momentum} and dampening={self.dampening}"
            )

    @property
    def velocity_scale(self) -> float:
        if self.momentum == 0:
            return 1.0
        if self.dampening == 1:
            raise ValueError(
                "dampening = 1 has no canonical form: only the first gradient enters the buffer"
            )
        return 1 - self.dampening

    def canonical(self) -> Canonical:
        scale = self.velocity_scale
        steps = classical_steps(self.lr * scale, self.momentum, self.nesterov)
        return Canonical(
            steps.gradient_step,
            steps.velocity_step,
            steps.beta,
            weight_decay=self.weight_decay,
            maximize=self.maximize,
            first_gain=1 / scale,
        )

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        lr, momentum, nesterov = classical_hyperparameters(steps)
        first = steps.first_gain
        if first != 1 and (nesterov or momentum == 0):
            raise ValueError(
                f"first_gain={first} means dampening, and PyTorch dampens only heavy ball"
            )
        return cls(
            lr * first, momentum, 1 - 1 / first, steps.weight_decay, nesterov, steps.maximize
        )
