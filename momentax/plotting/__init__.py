"""Plots; the only place that needs matplotlib, so import it by name: `import momentax.plotting`."""

from momentax.plotting._curves import curves
from momentax.plotting._heatmap import heatmap
from momentax.plotting._parallel import parallel
from momentax.plotting._theory_overlay import theory_overlay

__all__ = ["curves", "heatmap", "parallel", "theory_overlay"]
