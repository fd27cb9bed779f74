"""Kernels of momentum: how much each past gradient weighs, and which weights to choose.

A linear momentum is a filter. Its kernel is the list of its weights over lag, and everything about
it follows from the kernel: how old the gradients in a step are, how much noise it removes, how it
responds to oscillations, and at which learning rate it is stable.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.memory._design import Design as Design
    from momentax.memory._design import design as design
    from momentax.memory._fit import Fit as Fit
    from momentax.memory._fit import fit as fit
    from momentax.memory._kernel import Kernel as Kernel
    from momentax.memory._kernel import of as of
    from momentax.memory._method import method as method
    from momentax.memory._optimal import Autocorrelation as Autocorrelation
    from momentax.memory._optimal import measure as measure
    from momentax.memory._optimal import optimal as optimal

__getattr__, __dir__, __all__ = lazy_exports(__name__)
