"""Sweeps: every setting at once, on every device, safe to interrupt."""

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
from momentax.sweeps._result import Report, SweepResult
from momentax.sweeps._sweep import sweep

__all__ = [
    "Distribution",
    "Points",
    "Report",
    "SweepResult",
    "grid",
    "log_uniform",
    "momentum_axis",
    "momentum_uniform",
    "random_points",
    "repeat",
    "sweep",
    "uniform",
    "zipped",
]
