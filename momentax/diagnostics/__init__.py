"""Measurements of a training problem and of its optimizer: the curvature of the loss."""

from momentax.diagnostics._curvature import curvature as curvature
from momentax.diagnostics._spectrum import Curvature as Curvature
from momentax.diagnostics._spectrum import Spectrum as Spectrum

__all__ = ["Curvature", "Spectrum", "curvature"]
