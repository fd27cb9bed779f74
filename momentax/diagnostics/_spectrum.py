"""The distribution of the curvatures of a loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from momentax._core import lazy
from momentax._core.arguments import as_count, as_real, as_reals


class Spectrum(NamedTuple):
    """The distribution of the curvatures, as a quadrature.

    The mean of a function φ over the n curvatures is about Σ weights · φ(nodes) / starts,
    summed over both axes.

    nodes: the Ritz values of each random start, float64, shape (starts, iterations), ascending.
    weights: of each node, shape (starts, iterations); those of a start sum to 1. Where the
        process of a start ended early, its last node is repeated with weight 0.
    size: n, the number of parameters.
    """

    nodes: np.ndarray
    weights: np.ndarray
    size: int

    def density(self, curvatures: Any, width: float) -> np.ndarray:
        """Return the density at some curvatures, with each node blurred to a Gaussian.

        Args:
            curvatures: Where to compute the density, of any shape.
            width: The standard deviation of the Gaussians, in (0, inf).
        """
        λ = as_reals("curvatures", curvatures)[..., None, None]
        σ = as_real("width", width, "(0, inf)")
        bumps = np.exp(-(((λ - self.nodes) / σ) ** 2) / 2) / (σ * np.sqrt(2 * np.pi))
        return np.sum(self.weights * bumps, (-2, -1)) / len(self.nodes)

    def below(self, curvatures: Any) -> np.ndarray:
        """Return the share of all curvatures that lies below each of those given.

        Args:
            curvatures: Real numbers, of any shape.
        """
        λ = as_reals("curvatures", curvatures)[..., None, None]
        return np.sum(self.weights * (self.nodes < λ), (-2, -1)) / len(self.nodes)

    def moment(self, power: int) -> tuple[float, float]:
        """Return Σ λ^power over all n curvatures, and its standard error.

        Power 1 is the trace of the Hessian, power 2 its squared Frobenius norm. The error is
        NaN for a single start.

        Args:
            power: A whole number, at least 0.
        """
        power = as_count("power", power, least=0)
        estimates = self.size * np.sum(self.weights * self.nodes**power, axis=-1)
        starts = len(estimates)
        error = np.std(estimates, ddof=1) / np.sqrt(starts) if starts > 1 else np.nan
        return float(np.mean(estimates)), float(error)

    def plot(self, **options: Any) -> Any:
        """Draw the spectrum with `momentax.plotting.spectrum`, which takes the options.

        Args:
            **options: The keywords of `momentax.plotting.spectrum`.

        Returns:
            The matplotlib axes.
        """
        return lazy.plot("spectrum", self, **options)

    def __repr__(self) -> str:
        starts, iterations = self.nodes.shape
        return (
            f"Spectrum({starts} × {iterations} nodes from {self.nodes.min():.6g} to "
            f"{self.nodes.max():.6g}, at {self.size} parameters)"
        )
