"""What can be measured of a loss and of a training run."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.diagnostics._curvature import Curvature as Curvature
    from momentax.diagnostics._curvature import Spectrum as Spectrum
    from momentax.diagnostics._curvature import curvature as curvature

__getattr__, __dir__, __all__ = lazy_exports(__name__)
