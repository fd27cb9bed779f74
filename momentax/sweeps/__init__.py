"""Sweeps: every setting at once, on every device, safe to interrupt."""

from momentax.sweeps._devices import use_all_cores
from momentax.sweeps._groups import Mean
from momentax.sweeps._halve import HalvingResult, halve
from momentax.sweeps._points import (
    Distribution,
    Points,
    grid,
    log_uniform,
    momentum_axis,
    momentum_uniform,
    random_points,
    repeat,
    uniform,
    zipped,
)
from momentax.sweeps._race import Mutation, mutate
from momentax.sweeps._result import Best, Report, SweepResult
from momentax.sweeps._sweep import sweep

__all__ = [
    "Best",
    "Distribution",
    "HalvingResult",
    "Mean",
    "Mutation",
    "Points",
    "Report",
    "SweepResult",
    "grid",
    "halve",
    "log_uniform",
    "momentum_axis",
    "momentum_uniform",
    "mutate",
    "random_points",
    "repeat",
    "sweep",
    "uniform",
    "use_all_cores",
    "zipped",
]
