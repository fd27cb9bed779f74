"""Measurements of a training problem and of its optimizer: the curvature of the loss."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.diagnostics._curvature import Curvature as Curvature
    from momentax.diagnostics._curvature import curvature as curvature
    from momentax.diagnostics._require_finite import require_finite as require_finite
    from momentax.diagnostics._spectrum import Spectrum as Spectrum

__getattr__, __dir__, __all__ = lazy_exports(__name__)
