"""The hyperparameters of Keras's SGD."""

from __future__ import annotations

from dataclasses import dataclass

from momentax.conventions._classical import ClassicalRecord


@dataclass(frozen=True)
class Keras(ClassicalRecord):
    """The hyperparameters of `keras.optimizers.SGD`.

        v_t = μ v_{t-1} - α g_t
        θ_t = θ_{t-1} + v_t,    or with nesterov    θ_t = θ_{t-1} + μ v_t - α g_t

    The canonical steps are (a, b, β) = (0, α, μ), or (α, α μ, μ) with nesterov,
    and v_t = -α s_t. The learning rate is inside the velocity, so only a
    constant one can be converted.

    Args:
        learning_rate: α in (0, inf).
        momentum: μ in [0, 1), although Keras also accepts 1.
        nesterov: Whether to look ahead.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
