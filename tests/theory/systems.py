"""Linear systems written by hand, for the tests of what is made of them."""

import numpy as np

from momentax.theory import StateSpace


def linear(α, a, b, β, decay=0.0):
    """v⁺ = β v + g, θ⁺ = (1 - decay) θ - α (a g + b v⁺)."""
    A = np.array([[1.0 - decay, -α * b * β], [0.0, β]])
    return StateSpace(A, np.array([-α * (a + b), 1.0]), np.array([1.0, 0.0]))
