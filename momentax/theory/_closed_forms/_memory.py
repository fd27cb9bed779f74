"""How long a velocity remembers a gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_reals, broadcast
from momentax._core.typing import Reals


def weights(beta: ArrayLike, steps: int) -> Reals:
    """List the weights of the last gradients in the velocity, the newest first.

        v_t = Σ_k βᵏ g_{t-k},    weight k = βᵏ,    k = 0 .. steps - 1

    Args:
        beta: β in [0, 1); any shape.
        steps: Number of gradients to look back, at least 1.

    Returns:
        float64 of shape (*beta.shape, steps). They sum to (1 - β^steps) / (1 - β).

    Raises:
        ValueError: beta lies outside its interval, or steps is below 1.

    Example:
        >>> momentax.theory.weights(0.5, 3)
        array([1.  , 0.5 , 0.25])

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    β = as_reals("beta", beta, "[0, 1)")
    return β[..., None] ** np.arange(as_count("steps", steps), dtype=np.float64)


def half_life(beta: ArrayLike) -> Reals:
    """Count the steps after which a gradient's weight has halved.

        βⁿ = 1/2,    n = log(1/2) / log β

    Args:
        beta: β in [0, 1); any shape.

    Returns:
        n in steps, float64, beta's shape: 6.58 at β = 0.9; 0 at β = 0.

    Raises:
        ValueError: beta lies outside its interval.

    Example:
        >>> round(float(momentax.theory.half_life(0.9)), 6)
        6.578813
    """
    return effective_window(beta, 0.5)


def effective_window(beta: ArrayLike, mass: ArrayLike = 0.9) -> Reals:
    """Count the last gradients that hold a share of all weight in the velocity.

        1 - βⁿ = m,    n = log(1 - m) / log β

    Args:
        beta: β in [0, 1); any shape.
        mass: m in [0, 1), the share of the weight.

    Returns:
        n in steps, a real number (round it up for whole steps), float64, of the arguments'
        broadcast shape: 21.85 at β = 0.9 and m = 0.9; 0 at β = 0.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> round(float(momentax.theory.effective_window(0.9)), 6)
        21.854345
    """
    β = as_reals("beta", beta, "[0, 1)")
    β, m = broadcast(beta=β, mass=as_reals("mass", mass, "[0, 1)"))
    with np.errstate(divide="ignore"):  # log 0 = -inf gives the limit n = 0 at β = 0.
        return np.log1p(-m) / np.log(β)


def effective_learning_rate(learning_rate: ArrayLike, beta: ArrayLike) -> Reals:
    """Return how far one gradient moves the parameters in the long run.

        α_e = α / (1 - β)

    It is the learning rate of plain descent with the same drift, if the gradients are
    consistent over the velocity's memory and α λ is small. It says nothing about stability: the
    edge moves from 2 / λ to 2 (1 + β) / λ, not by 1 / (1 - β).

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1).

    Returns:
        α_e, float64, of the arguments' broadcast shape.

    Raises:
        ValueError: An argument lies outside its interval.

    Example:
        >>> round(float(momentax.theory.effective_learning_rate(0.1, 0.9)), 6)
        1.0

    Source:
        Goh, Why momentum really works, Distill, 2017.
    """
    α = as_reals("learning_rate", learning_rate, "(0, inf)")
    α, β = broadcast(learning_rate=α, beta=as_reals("beta", beta, "[0, 1)"))
    return α / (1 - β)
