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

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.theory._advise import Advice as Advice
    from momentax.theory._advise import advise as advise
    from momentax.theory._advise import sharpness_limit as sharpness_limit
    from momentax.theory._analyze import Analysis as Analysis
    from momentax.theory._analyze import Direction as Direction
    from momentax.theory._analyze import analyze as analyze
    from momentax.theory._certify import Certificate as Certificate
    from momentax.theory._certify import certify as certify
    from momentax.theory._closed_loop import Damping as Damping
    from momentax.theory._closed_loop import closed_loop as closed_loop
    from momentax.theory._closed_loop import damping as damping
    from momentax.theory._closed_loop import escape_rate as escape_rate
    from momentax.theory._closed_loop import rate as rate
    from momentax.theory._filter import frequency_response as frequency_response
    from momentax.theory._filter import impulse_response as impulse_response
    from momentax.theory._filter import signal_to_noise_gain as signal_to_noise_gain
    from momentax.theory._largest_learning_rate import (
        largest_learning_rate as largest_learning_rate,
    )
    from momentax.theory._memory import effective_learning_rate as effective_learning_rate
    from momentax.theory._memory import effective_window as effective_window
    from momentax.theory._memory import half_life as half_life
    from momentax.theory._memory import weights as weights
    from momentax.theory._noise import noise_floor as noise_floor
    from momentax.theory._noise import stationary_variance as stationary_variance
    from momentax.theory._oscillator import Oscillator as Oscillator
    from momentax.theory._oscillator import from_oscillator as from_oscillator
    from momentax.theory._oscillator import oscillator as oscillator
    from momentax.theory._oscillator import oscillator_path as oscillator_path
    from momentax.theory._quadratic import QuadraticPath as QuadraticPath
    from momentax.theory._quadratic import quadratic_path as quadratic_path
    from momentax.theory._quadratic import spectral_radius as spectral_radius
    from momentax.theory._quadratic import stability_edge as stability_edge
    from momentax.theory._rates import Tuning as Tuning
    from momentax.theory._rates import gradient_descent_rate as gradient_descent_rate
    from momentax.theory._rates import heavy_ball_rate as heavy_ball_rate
    from momentax.theory._rates import nesterov_rate as nesterov_rate
    from momentax.theory._rates import optimal_gradient_descent as optimal_gradient_descent
    from momentax.theory._rates import optimal_heavy_ball as optimal_heavy_ball
    from momentax.theory._rates import optimal_nesterov as optimal_nesterov
    from momentax.theory._state_space import state_space as state_space
    from momentax.theory._system import StateSpace as StateSpace
    from momentax.theory._tune import TradeOff as TradeOff
    from momentax.theory._tune import Tuned as Tuned
    from momentax.theory._tune import trade_off as trade_off
    from momentax.theory._tune import tune as tune
    from momentax.theory._worst_case import WorstCaseTuning as WorstCaseTuning
    from momentax.theory._worst_case import robust_momentum as robust_momentum
    from momentax.theory._worst_case import triple_momentum as triple_momentum

__getattr__, __dir__, __all__ = lazy_exports(__name__)
