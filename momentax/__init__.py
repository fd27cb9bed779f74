"""Momentum for JAX: methods to chain into Optax, and what is known about them.

tx = momentax.sgd(0.1, momentax.nesterov(0.9))
state = tx.init(params)
updates, state = tx.update(grads, state, params)
"""

from momentax import conventions, problems, schedules, theory
from momentax._eval_params import eval_params
from momentax._rollout import Rollout, rollout
from momentax._sgd import sgd
from momentax._velocity import replace_velocity, reset_velocity, velocity, velocity_norms
from momentax.methods import (
    AcceleratedState,
    AdanState,
    AggregatedState,
    AverageState,
    LinearState,
    PositiveNegativeState,
    ProportionalIntegralDerivativeState,
    QuasiHyperbolicAdamState,
    ShiftedState,
    TorqueAwareState,
    accelerated,
    accelerated_sgd,
    adan,
    aggregated,
    amplified,
    average,
    generalized_primal_averaging,
    heavy_ball,
    item,
    linear,
    mass,
    nesterov,
    overshoot,
    pid,
    positive_negative,
    primal_averaging,
    proportional_integral_derivative,
    quasi_hyperbolic,
    quasi_hyperbolic_adam,
    synthesized_nesterov,
    torque_aware,
)
from momentax.sweeps import Grid, grid, sweep
from momentax.wrappers import (
    OptimisticState,
    OrientedState,
    RestartState,
    cautious,
    grams,
    optimistic,
    restart,
)

__version__ = "0.1.0"

__all__ = [
    "AcceleratedState",
    "AdanState",
    "AggregatedState",
    "AverageState",
    "Grid",
    "LinearState",
    "OptimisticState",
    "OrientedState",
    "RestartState",
    "PositiveNegativeState",
    "ProportionalIntegralDerivativeState",
    "QuasiHyperbolicAdamState",
    "Rollout",
    "ShiftedState",
    "TorqueAwareState",
    "__version__",
    "accelerated",
    "accelerated_sgd",
    "adan",
    "aggregated",
    "amplified",
    "average",
    "cautious",
    "conventions",
    "eval_params",
    "generalized_primal_averaging",
    "grams",
    "grid",
    "heavy_ball",
    "item",
    "linear",
    "mass",
    "nesterov",
    "optimistic",
    "overshoot",
    "pid",
    "positive_negative",
    "primal_averaging",
    "problems",
    "proportional_integral_derivative",
    "quasi_hyperbolic",
    "quasi_hyperbolic_adam",
    "replace_velocity",
    "reset_velocity",
    "restart",
    "rollout",
    "schedules",
    "sgd",
    "sweep",
    "synthesized_nesterov",
    "theory",
    "torque_aware",
    "velocity",
    "velocity_norms",
]
