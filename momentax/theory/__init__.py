"""What a method does, in float64 on the host and independent of the methods' code.

Transformations are arguments: `state_space` reads the linear system that one is, and
what takes a `tx` analyses it. In its place goes the `StateSpace` itself, read once: at a
`step`, `around` a point, or of the parameter at a `path`. `tune` and `trade_off` take a
function from hyperparameters to transformations. All else speaks of the constant-coefficient
recurrence

    v_t = β v_{t-1} + g_t
    θ_t = θ_{t-1} - α (a g_t + b v_t)

of `momentax.linear` at gain 1. A method with another gain γ is the same at
velocity_weight γ b: quasi-hyperbolic momentum has a = 1 - ν, b = ν (1 - β).
Arguments broadcast as NumPy arrays do.
"""

from momentax.theory._advise import Advice, advise, sharpness_limit
from momentax.theory._analyze import Analysis, Direction, analyze
from momentax.theory._certify import Certificate, certify
from momentax.theory._closed_loop import Damping, closed_loop, damping, escape_rate, rate
from momentax.theory._filter import frequency_response, impulse_response, signal_to_noise_gain
from momentax.theory._largest_learning_rate import largest_learning_rate
from momentax.theory._memory import effective_learning_rate, effective_window, half_life, weights
from momentax.theory._noise import noise_floor, stationary_variance
from momentax.theory._oscillator import Oscillator, from_oscillator, oscillator, oscillator_path
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
from momentax.theory._state_space import state_space
from momentax.theory._system import StateSpace
from momentax.theory._tune import TradeOff, Tuned, trade_off, tune
from momentax.theory._worst_case import WorstCaseTuning, robust_momentum, triple_momentum

__all__ = [
    "Advice",
    "Analysis",
    "Certificate",
    "Damping",
    "Direction",
    "Oscillator",
    "QuadraticPath",
    "StateSpace",
    "TradeOff",
    "Tuned",
    "Tuning",
    "WorstCaseTuning",
    "advise",
    "analyze",
    "certify",
    "closed_loop",
    "damping",
    "effective_learning_rate",
    "effective_window",
    "escape_rate",
    "frequency_response",
    "from_oscillator",
    "gradient_descent_rate",
    "half_life",
    "heavy_ball_rate",
    "impulse_response",
    "largest_learning_rate",
    "nesterov_rate",
    "noise_floor",
    "optimal_gradient_descent",
    "optimal_heavy_ball",
    "optimal_nesterov",
    "oscillator",
    "oscillator_path",
    "quadratic_path",
    "rate",
    "robust_momentum",
    "sharpness_limit",
    "signal_to_noise_gain",
    "spectral_radius",
    "stability_edge",
    "state_space",
    "stationary_variance",
    "trade_off",
    "triple_momentum",
    "tune",
    "weights",
]
