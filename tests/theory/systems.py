"""Linear systems written by hand, for the tests of what is made of them."""

import numpy as np

from momentax.theory import StateSpace


def linear(α, a, b, β, decay=0.0):
    """v⁺ = β v + g, θ⁺ = (1 - decay) θ - α (a g + b v⁺)."""
    A = np.array([[1.0 - decay, -α * b * β], [0.0, β]])
    return StateSpace(A, np.array([-α * (a + b), 1.0]), np.array([1.0, 0.0]))


def lookahead_steps(α, β, period, slow):
    """A and B of each step of heavy ball with `optax.lookahead`, on (fast, slow, v)."""
    A, B = np.array([[1, 0, -α * β], [0, 1, 0], [0, 0, β]]), np.array([-α, 0.0, 1.0])
    back = np.array([[slow, 1 - slow, 0], [slow, 1 - slow, 0], [0, 0, 1]])
    return [*[(A, B)] * (period - 1), (back @ A, back @ B)]
