"""Momentum for JAX: methods to chain into Optax, and what is known about them.

tx = momentax.sgd(0.1, momentax.nesterov(0.9))
state = tx.init(params)
updates, state = tx.update(grads, state, params)
"""

from momentax import (
    cautious,
    conventions,
    grams,
    optimistic,
    problems,
    restart,
    schedules,
    storage,
    theory,
)
from momentax._methods._accelerated import AcceleratedState, accelerated
from momentax._methods._accelerated_sgd import accelerated_sgd
from momentax._methods._adan import AdanState, adan
from momentax._methods._aggregated import AggregatedState, aggregated
from momentax._methods._amplified import amplified
from momentax._methods._average import AverageState, average
from momentax._methods._heavy_ball import heavy_ball
from momentax._methods._hypergradient import HypergradientState, hypergradient
from momentax._methods._item import item
from momentax._methods._lazy import LazyState, lazy
from momentax._methods._linear import LinearState, ShiftedState, linear
from momentax._methods._lion import lion
from momentax._methods._mars import MarsState, mars
from momentax._methods._mass import mass
from momentax._methods._momentum_polyak import momentum_polyak
from momentax._methods._nadam import NadamState, nadam
from momentax._methods._nesterov import nesterov
from momentax._methods._overshoot import overshoot
from momentax._methods._pid import pid
from momentax._methods._positive_negative import PositiveNegativeState, positive_negative
from momentax._methods._primal_averaging import generalized_primal_averaging, primal_averaging
from momentax._methods._proportional_integral_derivative import (
    ProportionalIntegralDerivativeState,
    proportional_integral_derivative,
)
from momentax._methods._quasi_hyperbolic import quasi_hyperbolic
from momentax._methods._quasi_hyperbolic_adam import QuasiHyperbolicAdamState, quasi_hyperbolic_adam
from momentax._methods._sign_average import sign_average
from momentax._methods._storm import RecursiveState, StormState, recursive_momentum, storm
from momentax._methods._synthesized_nesterov import synthesized_nesterov
from momentax._methods._torque_aware import TorqueAwareState, torque_aware
from momentax._methods._yellowfin import YellowFinState, yellowfin
from momentax._sgd import sgd
from momentax._state._catch_up import catch_up
from momentax._state._eval_params import eval_params
from momentax._state._velocity import replace_velocity, reset_velocity, velocity, velocity_norms
from momentax._training._rollout import Rollout, rollout
from momentax._training._train_step import train_step
from momentax.diagnostics._curvature import Curvature, Spectrum, curvature
from momentax.states import OptimisticState, OrientedState, RestartState
from momentax.storage import StoredState, bytes_per_parameter, stored
from momentax.sweeps import (
    Best,
    Distribution,
    HalvingResult,
    Mean,
    Mutation,
    Points,
    Report,
    SweepResult,
    grid,
    halve,
    log_uniform,
    momentum_axis,
    momentum_uniform,
    mutate,
    random_points,
    repeat,
    sweep,
    uniform,
    use_all_cores,
    zipped,
)

__version__ = "0.1.0"

__all__ = [
    "AcceleratedState",
    "AdanState",
    "AggregatedState",
    "AverageState",
    "Best",
    "Curvature",
    "Distribution",
    "HalvingResult",
    "HypergradientState",
    "LazyState",
    "LinearState",
    "MarsState",
    "Mean",
    "Mutation",
    "NadamState",
    "OptimisticState",
    "OrientedState",
    "Points",
    "PositiveNegativeState",
    "ProportionalIntegralDerivativeState",
    "QuasiHyperbolicAdamState",
    "RecursiveState",
    "Report",
    "RestartState",
    "Rollout",
    "ShiftedState",
    "Spectrum",
    "StoredState",
    "StormState",
    "SweepResult",
    "TorqueAwareState",
    "YellowFinState",
    "__version__",
    "accelerated",
    "accelerated_sgd",
    "adan",
    "aggregated",
    "amplified",
    "average",
    "bytes_per_parameter",
    "catch_up",
    "cautious",
    "conventions",
    "curvature",
    "eval_params",
    "generalized_primal_averaging",
    "grams",
    "grid",
    "halve",
    "heavy_ball",
    "hypergradient",
    "item",
    "lazy",
    "linear",
    "lion",
    "log_uniform",
    "mars",
    "mass",
    "momentum_axis",
    "momentum_polyak",
    "momentum_uniform",
    "mutate",
    "nadam",
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
    "random_points",
    "recursive_momentum",
    "repeat",
    "replace_velocity",
    "reset_velocity",
    "restart",
    "rollout",
    "schedules",
    "sgd",
    "sign_average",
    "storage",
    "stored",
    "storm",
    "sweep",
    "synthesized_nesterov",
    "theory",
    "torque_aware",
    "train_step",
    "uniform",
    "use_all_cores",
    "velocity",
    "velocity_norms",
    "yellowfin",
    "zipped",
]
