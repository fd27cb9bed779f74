"""Sweeps: every setting at once, on every device, safe to interrupt."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.sweeps._distributions import Distribution as Distribution
    from momentax.sweeps._distributions import log_uniform as log_uniform
    from momentax.sweeps._distributions import momentum_axis as momentum_axis
    from momentax.sweeps._distributions import momentum_uniform as momentum_uniform
    from momentax.sweeps._distributions import uniform as uniform
    from momentax.sweeps._halve import halve as halve
    from momentax.sweeps._mutation import Mutation as Mutation
    from momentax.sweeps._mutation import mutate as mutate
    from momentax.sweeps._points import Points as Points
    from momentax.sweeps._points import grid as grid
    from momentax.sweeps._points import random_points as random_points
    from momentax.sweeps._points import repeat as repeat
    from momentax.sweeps._points import zipped as zipped
    from momentax.sweeps._result._halving_result import HalvingResult as HalvingResult
    from momentax.sweeps._result._records import Best as Best
    from momentax.sweeps._result._records import Mean as Mean
    from momentax.sweeps._result._records import Report as Report
    from momentax.sweeps._result._search_result import SearchResult as SearchResult
    from momentax.sweeps._result._sweep_result import SweepResult as SweepResult
    from momentax.sweeps._run._devices import use_all_cores as use_all_cores
    from momentax.sweeps._search import search as search
    from momentax.sweeps._sweep import sweep as sweep

__getattr__, __dir__, __all__ = lazy_exports(__name__)
