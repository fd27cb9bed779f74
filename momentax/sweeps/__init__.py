"""Sweeps: every setting at once, in one compiled program."""

from momentax.sweeps._grid import Grid, grid
from momentax.sweeps._sweep import sweep

__all__ = ["Grid", "grid", "sweep"]
