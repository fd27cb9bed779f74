"""Methods map gradients to directions; everything else composes."""

from momentax.methods._average import AverageState, average
from momentax.methods._heavy_ball import heavy_ball
from momentax.methods._linear import LinearState, linear
from momentax.methods._nesterov import nesterov
from momentax.methods._quasi_hyperbolic import quasi_hyperbolic

__all__ = [
    "AverageState",
    "LinearState",
    "average",
    "heavy_ball",
    "linear",
    "nesterov",
    "quasi_hyperbolic",
]
