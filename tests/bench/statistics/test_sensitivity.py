"""Good regions, their intervals, and the width of the good learning rates."""

import numpy as np
import pytest
from scipy import stats

from momentax.bench.statistics import (
    chance_to_hit,
    good_region,
    rate_width,
    stuck_share,
    trials_to_hit,
)


def wilson(hits, n, level):
    """Return the interval of Wilson (1927), in his formula."""
    p, z = hits / n, stats.norm.ppf((1 + level) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("hits", [1, 5, 31, 32])
def test_good_region_is_a_share_with_its_wilson_interval(hits, level):
    S = np.r_[np.full(hits, 2.0), np.full(32 - hits, 1.0)]
    S[0] = 2.2
    found = good_region(np.random.default_rng(0).permutation(S), share=0.9, level=level)
    assert found.value == hits / 32
    np.testing.assert_allclose(found[1:], wilson(hits, 32, level), rtol=1e-9)


def test_the_best_trial_is_good_for_every_share():
    S = [1.0, 0.9, 0.7, 0.5]
    assert [good_region(S, share).value for share in (1, 0.9, 0.7, 0.4)] == [0.25, 0.5, 0.75, 1]


def test_over_several_tasks_a_trial_must_be_good_on_each():
    S = np.array([[1.0, 1.0, 0.5, 1.0], [4.0, 1.0, 4.0, 3.9]])
    assert good_region(S).value == 0.5
    assert good_region(S[:1]) == good_region(S[0])


def test_stuck_share_by_hand():
    found = stuck_share([1.0, 2.0, 1.0, 1.2, 1.5], plateau=1.5)
    assert found.share.value == 0.2
    np.testing.assert_allclose(found.share[1:], wilson(1, 5, 0.95), rtol=1e-9)
    assert (found.median, found.median_of_others) == (1.2, 1.1)
    everyone = stuck_share([2.0, 3.0], plateau=1.0)
    assert (everyone.share.value, everyone.median) == (1, 2.5)
    assert np.isnan(everyone.median_of_others)
    none = stuck_share([0.0, 0.5, 0.7], plateau=1.0)
    assert (none.share.value, none.share.low) == (0, 0)
    assert none.share.high == pytest.approx(wilson(0, 3, 0.95)[1])


def test_trials_to_hit_is_the_fewest_with_that_chance():
    A = np.array([0.01, 0.05, 0.3, 0.5, 0.75, 0.9, 0.95, 1.0])
    for p in (0.5, 0.75, 0.9, 0.99, 0.999):
        expected = [next(k for k in range(1, 999) if 1 - (1 - a) ** k >= p - 1e-12) for a in A]
        np.testing.assert_array_equal(trials_to_hit(A, p), expected)
    k = np.arange(1, 60)
    np.testing.assert_array_equal(trials_to_hit(1 - 0.1 ** (1 / k)), k)  # In spite of rounding.
    assert trials_to_hit(0.9) == 1
    assert trials_to_hit(0.0) == np.inf


def test_chance_to_hit():
    A = np.array([[0.0, 0.1], [0.5, 1.0]])
    np.testing.assert_allclose(chance_to_hit(A, 7), 1 - (1 - A) ** 7)
    np.testing.assert_allclose(chance_to_hit(1e-18, 10), 1e-17)


def test_rate_width_counts_the_bins_whose_best_trial_is_good():
    rng = np.random.default_rng(0)
    rates = 10 ** (-3 + 4.5 * (np.arange(240) + 0.5) / 240)  # 20 in each of 12 bins.
    speed = np.exp(-(np.log10(rates / 0.1) ** 2)) * rng.uniform(0.2, 1, 240)
    found = rate_width(rates, speed, limits=(1e-3, 10**1.5))
    best = speed.reshape(12, 20).max(axis=1)
    np.testing.assert_allclose(found.best, best)
    np.testing.assert_allclose(found.decades, 4.5 / 12 * np.sum(best >= 0.7 * speed.max()))
    np.testing.assert_allclose(found.edges[[0, -1]], [1e-3, 10**1.5])
    order = rng.permutation(240)
    assert rate_width(rates[order], speed[order], (1e-3, 10**1.5)).decades == found.decades


def test_a_bin_without_a_trial_does_not_count():
    found = rate_width([0.001, 1000.0], [1.0, 1.0], limits=[0.001, 1000], bins=6)
    assert found.decades == 2
    np.testing.assert_array_equal(np.isnan(found.best), [0, 1, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rates": [0.1, 20.0]}, "rates must lie between the limits 0.01 and 10, got 20"),
        ({"rates": [0.1]}, "speed_ups must hold one for each of 1 rates, got 2"),
        ({"limits": (10, 0.01)}, "limits must be two numbers, .* low < high"),
        ({"speed_ups": [1.0, np.nan]}, r"speed_ups must be in \(0, inf\), got nan"),
    ],
)
def test_wrong_rates_are_explained(change, text):
    given = {"rates": [0.1, 1.0], "speed_ups": [1.0, 2.0], "limits": (0.01, 10)}
    with pytest.raises(ValueError, match=text):
        rate_width(**given | change)
