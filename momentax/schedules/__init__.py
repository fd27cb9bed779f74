"""β over time: schedules from a count, first 0, to β.

Each function returns a schedule, which maps a whole number or an array of them, traced or not, to
β in float32 or wider, of the same shape. When the function is called, a concrete argument outside
of its interval raises a ValueError, and an argument of another kind a TypeError.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.schedules._follow_learning_rate import matched as matched
    from momentax.schedules._follow_learning_rate import momentum_corrected as momentum_corrected
    from momentax.schedules._ramps import anneal_age as anneal_age
    from momentax.schedules._ramps import demon as demon
    from momentax.schedules._ramps import one_cycle as one_cycle
    from momentax.schedules._ramps import trapezoid as trapezoid
    from momentax.schedules._ramps import warmup as warmup
    from momentax.schedules._sequences import logarithmic as logarithmic
    from momentax.schedules._sequences import nesterov_sequence as nesterov_sequence
    from momentax.schedules._sequences import scheduled_restart as scheduled_restart
    from momentax.schedules._sequences import sutskever as sutskever

__getattr__, __dir__, __all__ = lazy_exports(__name__)
