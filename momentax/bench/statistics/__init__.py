"""The statistics of a comparison of methods, in NumPy and SciPy.

A score y is the logarithm of a final loss, so that lower is better, and every run has a finite
one: a run that diverged counts with the score of its initial point. A table of scores maps each
task to a mapping from each method to the scores of its runs, one for each evaluation seed and in
the same order of seeds for all methods of the task:

    {"ridge": {"nesterov": [-3.1, -3.0], "adam": [-3.4, -3.2]}, "curves": {...}}

A method without a valid result on a task, for example because its best setting lies at the edge
of its search range, is left out of that task. It has no rank there, and every number over all
tasks says on how many tasks it rests.

A speed-up S says that the reference method would need S times the steps for the same score. Arrays
of speed-ups have a row for each method and a column for each task, and NaN where a method has no
rank.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.bench.statistics._bootstrap import Tuning as Tuning
    from momentax.bench.statistics._bootstrap import bootstrap_interval as bootstrap_interval
    from momentax.bench.statistics._bootstrap import bootstrap_seeds as bootstrap_seeds
    from momentax.bench.statistics._bootstrap import bootstrap_trials as bootstrap_trials
    from momentax.bench.statistics._expected_best import ExpectedBest as ExpectedBest
    from momentax.bench.statistics._expected_best import expected_best as expected_best
    from momentax.bench.statistics._expected_best import trials_to_match as trials_to_match
    from momentax.bench.statistics._expected_best import weights_of_best as weights_of_best
    from momentax.bench.statistics._overall import GeometricMean as GeometricMean
    from momentax.bench.statistics._overall import LeaveOneOut as LeaveOneOut
    from momentax.bench.statistics._overall import SpeedUps as SpeedUps
    from momentax.bench.statistics._overall import geometric_mean as geometric_mean
    from momentax.bench.statistics._overall import leave_one_out as leave_one_out
    from momentax.bench.statistics._overall import performance_profile as performance_profile
    from momentax.bench.statistics._overall import profile_area as profile_area
    from momentax.bench.statistics._overall import speed_ups as speed_ups
    from momentax.bench.statistics._paired import Comparison as Comparison
    from momentax.bench.statistics._paired import Interval as Interval
    from momentax.bench.statistics._paired import compare as compare
    from momentax.bench.statistics._paired import compare_all as compare_all
    from momentax.bench.statistics._paired import holm as holm
    from momentax.bench.statistics._paired import interval as interval
    from momentax.bench.statistics._paired import share_better as share_better
    from momentax.bench.statistics._paired import sign_flip as sign_flip
    from momentax.bench.statistics._pairs import Pairs as Pairs
    from momentax.bench.statistics._pairs import compare_pairs as compare_pairs
    from momentax.bench.statistics._pairs import leading_group as leading_group
    from momentax.bench.statistics._reference_curve import ReferenceCurve as ReferenceCurve
    from momentax.bench.statistics._sensitivity import RateWidth as RateWidth
    from momentax.bench.statistics._sensitivity import chance_to_hit as chance_to_hit
    from momentax.bench.statistics._sensitivity import good_region as good_region
    from momentax.bench.statistics._sensitivity import rate_width as rate_width
    from momentax.bench.statistics._sensitivity import trials_to_hit as trials_to_hit
    from momentax.bench.statistics._shares import Share as Share
    from momentax.bench.statistics._shares import Stuck as Stuck
    from momentax.bench.statistics._shares import stuck_share as stuck_share
    from momentax.bench.statistics._targets import passes as passes
    from momentax.bench.statistics._targets import robust_sd as robust_sd
    from momentax.bench.statistics._targets import seeds_needed as seeds_needed
    from momentax.bench.statistics._targets import steps_to_target as steps_to_target

__getattr__, __dir__, __all__ = lazy_exports(__name__)
