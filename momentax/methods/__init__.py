"""Methods map gradients to directions; everything else composes."""

from momentax.methods._accelerated import AcceleratedState, accelerated
from momentax.methods._accelerated_sgd import accelerated_sgd
from momentax.methods._adan import AdanState, adan
from momentax.methods._aggregated import AggregatedState, aggregated
from momentax.methods._amplified import amplified
from momentax.methods._average import AverageState, average
from momentax.methods._heavy_ball import heavy_ball
from momentax.methods._hypergradient import HypergradientState, hypergradient
from momentax.methods._item import item
from momentax.methods._lazy import LazyState, lazy
from momentax.methods._linear import LinearState, ShiftedState, linear
from momentax.methods._lion import lion
from momentax.methods._mars import MarsState, mars
from momentax.methods._mass import mass
from momentax.methods._momentum_polyak import momentum_polyak
from momentax.methods._nadam import NadamState, nadam
from momentax.methods._nesterov import nesterov
from momentax.methods._overshoot import overshoot
from momentax.methods._pid import pid
from momentax.methods._positive_negative import PositiveNegativeState, positive_negative
from momentax.methods._primal_averaging import generalized_primal_averaging, primal_averaging
from momentax.methods._proportional_integral_derivative import (
    ProportionalIntegralDerivativeState,
    proportional_integral_derivative,
)
from momentax.methods._quasi_hyperbolic import quasi_hyperbolic
from momentax.methods._quasi_hyperbolic_adam import QuasiHyperbolicAdamState, quasi_hyperbolic_adam
from momentax.methods._sign_average import sign_average
from momentax.methods._storm import RecursiveState, StormState, recursive_momentum, storm
from momentax.methods._synthesized_nesterov import synthesized_nesterov
from momentax.methods._torque_aware import TorqueAwareState, torque_aware
from momentax.methods._yellowfin import YellowFinState, yellowfin

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
