"""Methods map gradients to directions; everything else composes."""

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

__all__ = [
    "AcceleratedState",
    "AdanState",
    "AggregatedState",
    "AverageState",
    "HypergradientState",
    "LazyState",
    "LinearState",
    "MarsState",
    "NadamState",
    "PositiveNegativeState",
    "ProportionalIntegralDerivativeState",
    "QuasiHyperbolicAdamState",
    "RecursiveState",
    "ShiftedState",
    "StormState",
    "TorqueAwareState",
    "YellowFinState",
    "accelerated",
    "accelerated_sgd",
    "adan",
    "aggregated",
    "amplified",
    "average",
    "generalized_primal_averaging",
    "heavy_ball",
    "hypergradient",
    "item",
    "lazy",
    "linear",
    "lion",
    "mars",
    "mass",
    "momentum_polyak",
    "nadam",
    "nesterov",
    "overshoot",
    "pid",
    "positive_negative",
    "primal_averaging",
    "proportional_integral_derivative",
    "quasi_hyperbolic",
    "quasi_hyperbolic_adam",
    "recursive_momentum",
    "sign_average",
    "storm",
    "synthesized_nesterov",
    "torque_aware",
    "yellowfin",
]
