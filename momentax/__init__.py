"""Momentum for JAX: methods to chain into Optax, and what is known about them.

tx = momentax.sgd(0.1, momentax.nesterov(0.9))
state = tx.init(params)
updates, state = tx.update(grads, state, params)
"""

from momentax import problems, schedules, theory
from momentax._rollout import Rollout, rollout
from momentax._sgd import sgd
from momentax._velocity import replace_velocity, reset_velocity, velocity, velocity_norms
from momentax.methods import (
    AverageState,
    LinearState,
    average,
    heavy_ball,
    linear,
    nesterov,
    quasi_hyperbolic,
)
from momentax.sweeps import Grid, grid, sweep

__version__ = "0.1.0"

__all__ = [
    "AverageState",
    "Grid",
    "LinearState",
    "Rollout",
    "__version__",
    "average",
    "grid",
    "heavy_ball",
    "linear",
    "nesterov",
    "problems",
    "quasi_hyperbolic",
    "replace_velocity",
    "reset_velocity",
    "rollout",
    "schedules",
    "sgd",
    "sweep",
    "theory",
    "velocity",
    "velocity_norms",
]
