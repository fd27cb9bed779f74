"""Plots; the only place that needs matplotlib, so import it by name: `import momentax.plotting`."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.plotting._curves import curves as curves
    from momentax.plotting._heatmap import heatmap as heatmap
    from momentax.plotting._parallel import parallel as parallel
    from momentax.plotting._theory_overlay import theory_overlay as theory_overlay

__getattr__, __dir__, __all__ = lazy_exports(__name__)
