"""What a method does, in float64 on the host and independent of the methods' code.

Everything here speaks of the constant-coefficient recurrence

    v_t = β v_{t-1} + g_t
    θ_t = θ_{t-1} - α (a g_t + b v_t)

of `momentax.linear` at gain 1. A method with another gain γ is the same at
velocity_weight γ b: quasi-hyperbolic momentum has a = 1 - ν, b = ν (1 - β).
Arguments broadcast as NumPy arrays do.
"""

from momentax.theory._memory import effective_learning_rate, effective_window, half_life, weights
from momentax.theory._quadratic import (
    QuadraticPath,
    quadratic_path,
    spectral_radius,
    stability_edge,
)
from momentax.theory._rates import (
    Tuning,
    gradient_descent_rate,
    heavy_ball_rate,
    nesterov_rate,
    optimal_gradient_descent,
    optimal_heavy_ball,
    optimal_nesterov,
)
from momentax.theory._worst_case import WorstCaseTuning, robust_momentum, triple_momentum

__all__ = [
    "QuadraticPath",
    "Tuning",
    "WorstCaseTuning",
    "effective_learning_rate",
    "effective_window",
    "gradient_descent_rate",
    "half_life",
    "heavy_ball_rate",
    "nesterov_rate",
    "optimal_gradient_descent",
    "optimal_heavy_ball",
    "optimal_nesterov",
    "quadratic_path",
    "robust_momentum",
    "spectral_radius",
    "stability_edge",
    "triple_momentum",
    "weights",
]
