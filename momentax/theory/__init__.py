"""What an optimizer does, in float64 on the host and independent of the methods' code.

There are three families of functions.

Closed forms take hyperparameters. They describe the recurrence with constant coefficients

    v_t = β v_{t-1} + g_t
    θ_t = θ_{t-1} - α (a g_t + b v_t)

of `momentax.linear` at gain 1, by default heavy ball: a = 0, b = 1. A method with another gain γ
is the same at velocity_weight γ b: quasi-hyperbolic momentum has a = 1 - ν, b = ν (1 - β).
Arguments broadcast as NumPy arrays do.

    weights, half_life, effective_window, effective_learning_rate
    spectral_radius, stability_edge, quadratic_path
    oscillator, from_oscillator, oscillator_path
    gradient_descent_rate, heavy_ball_rate, nesterov_rate
    optimal_gradient_descent, optimal_heavy_ball, optimal_nesterov
    triple_momentum, robust_momentum

Readings take a transformation `tx`. `state_space` reads the linear system that it is, and the
others analyse that system. In place of tx they take the StateSpace itself, which may have been
read at a `step`, `around` a point, or of the parameter at a `path`.

    state_space, closed_loop, trajectory
    rate, rate_at, sharpness_limit, damping, escape_rate
    stationary_variance, noise_floor
    impulse_response, frequency_response, signal_to_noise_gain, mean_age
    certify, analyze, advise, export

Searches take a factory, a function from hyperparameters to transformations.

    tune, trade_off, largest_learning_rate

Where a function takes mu and L, the smallest and the largest curvature, it also takes the record of
`momentax.curvature` in place of both. It raises a ValueError if they lie outside their intervals or
mu exceeds L, and a TypeError if L is missing or given twice. Arguments whose shapes do not
broadcast raise a ValueError that names them.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.theory._advise import Advice as Advice
    from momentax.theory._advise import advise as advise
    from momentax.theory._analyze import Analysis as Analysis
    from momentax.theory._analyze import Direction as Direction
    from momentax.theory._analyze import analyze as analyze
    from momentax.theory._certify import Certificate as Certificate
    from momentax.theory._certify import certify as certify
    from momentax.theory._closed_forms._memory import (
        effective_learning_rate as effective_learning_rate,
    )
    from momentax.theory._closed_forms._memory import effective_window as effective_window
    from momentax.theory._closed_forms._memory import half_life as half_life
    from momentax.theory._closed_forms._memory import weights as weights
    from momentax.theory._closed_forms._oscillator import Oscillator as Oscillator
    from momentax.theory._closed_forms._oscillator import from_oscillator as from_oscillator
    from momentax.theory._closed_forms._oscillator import oscillator as oscillator
    from momentax.theory._closed_forms._oscillator import oscillator_path as oscillator_path
    from momentax.theory._closed_forms._quadratic import QuadraticPath as QuadraticPath
    from momentax.theory._closed_forms._quadratic import quadratic_path as quadratic_path
    from momentax.theory._closed_forms._quadratic import spectral_radius as spectral_radius
    from momentax.theory._closed_forms._quadratic import stability_edge as stability_edge
    from momentax.theory._closed_forms._tunings import NesterovTuning as NesterovTuning
    from momentax.theory._closed_forms._tunings import Tuning as Tuning
    from momentax.theory._closed_forms._tunings import (
        gradient_descent_rate as gradient_descent_rate,
    )
    from momentax.theory._closed_forms._tunings import heavy_ball_rate as heavy_ball_rate
    from momentax.theory._closed_forms._tunings import nesterov_rate as nesterov_rate
    from momentax.theory._closed_forms._tunings import (
        optimal_gradient_descent as optimal_gradient_descent,
    )
    from momentax.theory._closed_forms._tunings import optimal_heavy_ball as optimal_heavy_ball
    from momentax.theory._closed_forms._tunings import optimal_nesterov as optimal_nesterov
    from momentax.theory._closed_forms._worst_case import WorstCaseTuning as WorstCaseTuning
    from momentax.theory._closed_forms._worst_case import robust_momentum as robust_momentum
    from momentax.theory._closed_forms._worst_case import triple_momentum as triple_momentum
    from momentax.theory._export._export import export as export
    from momentax.theory._properties._closed_loop import Damping as Damping
    from momentax.theory._properties._closed_loop import closed_loop as closed_loop
    from momentax.theory._properties._closed_loop import damping as damping
    from momentax.theory._properties._closed_loop import escape_rate as escape_rate
    from momentax.theory._properties._closed_loop import rate_at as rate_at
    from momentax.theory._properties._closed_loop import trajectory as trajectory
    from momentax.theory._properties._filter import frequency_response as frequency_response
    from momentax.theory._properties._filter import impulse_response as impulse_response
    from momentax.theory._properties._filter import mean_age as mean_age
    from momentax.theory._properties._filter import signal_to_noise_gain as signal_to_noise_gain
    from momentax.theory._properties._noise import noise_floor as noise_floor
    from momentax.theory._properties._noise import stationary_variance as stationary_variance
    from momentax.theory._properties._rate import rate as rate
    from momentax.theory._properties._rate import sharpness_limit as sharpness_limit
    from momentax.theory._reading._state_space import StateSpace as StateSpace
    from momentax.theory._reading._state_space import state_space as state_space
    from momentax.theory._tuning._largest_learning_rate import (
        largest_learning_rate as largest_learning_rate,
    )
    from momentax.theory._tuning._trade_off import TradeOff as TradeOff
    from momentax.theory._tuning._trade_off import trade_off as trade_off
    from momentax.theory._tuning._tune import Tuned as Tuned
    from momentax.theory._tuning._tune import tune as tune

__getattr__, __dir__, __all__ = lazy_exports(__name__)
