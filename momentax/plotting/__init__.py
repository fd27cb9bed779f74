"""Plots; the only place that needs matplotlib, so import it by name: `import momentax.plotting`."""

from momentax.plotting._heatmap import heatmap

__all__ = ["heatmap"]
