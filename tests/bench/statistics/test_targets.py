"""Targets and the numbers of seeds, against published numbers and simulations."""

import numpy as np
import pytest
from scipy import stats

from momentax.bench.statistics import passes, robust_sd, seeds_needed, steps_to_target


def test_passing_is_the_rule_of_z():
    # The rule of modded-nanogpt: σ = 0.0013, (3.28 - mean) √n >= 0.004.
    for n in (1, 4, 16):
        margin = 3.09 * 0.0013 / np.sqrt(n)
        assert passes(np.full(n, 3.28 - margin - 1e-9), 3.28, 0.0013)
        assert not passes(np.full(n, 3.28 - margin + 1e-9), 3.28, 0.0013)
    assert stats.norm.sf(3.09) == pytest.approx(0.001, rel=0.01)
    assert passes([1.0, 3.0], target=2.0, sigma=0)
    assert passes([1.9, 1.9], target=2.0, sigma=0.1, z=1)
    assert not passes([1.9, 1.9], target=2.0, sigma=0.1, z=2)
    assert passes([1.0], 2.0, 0.1) is True


def test_the_first_passing_checkpoint_of_the_mean():
    means, steps = [-1.0, -2.06, -2.3, -1.0, -2.5], [25, 50, 75, 100, 125]
    assert steps_to_target(means, steps, seeds=16, target=-2.0, sigma=0.1) == 75
    assert steps_to_target(means, steps, seeds=100, target=-2.0, sigma=0.1) == 50
    assert steps_to_target(means, steps, seeds=16, target=-2.6, sigma=0.1) is None
    y = np.random.default_rng(0).normal(-2.1, 0.3, 16)
    for sigma in (0.05, 0.2):
        passed = steps_to_target([y.mean()], [10], 16, -2.0, sigma) == 10
        assert passed == passes(y, -2.0, sigma)


@pytest.mark.parametrize(
    ("means", "steps", "text"),
    [
        ([1.0, 2.0], [25], "steps must hold one for each of 2 means, got 1"),
        ([1.0, 2.0], [50, 25], "whole numbers in ascending order"),
        ([1.0, 2.0], [1, 2.5], "whole numbers in ascending order"),
        ([1.0, np.inf], [1, 2], "means must be finite, got .*; a run that diverged"),
        ([[1.0, 2.0]], [1, 2], "means must be 1-D, one number for each checkpoint"),
    ],
)
def test_wrong_checkpoints_are_explained(means, steps, text):
    with pytest.raises(ValueError, match=text):
        steps_to_target(means, steps, 16, 0.0, 0.1)


def test_robust_sd_is_that_of_a_normal_distribution_in_spite_of_outliers():
    x = np.random.default_rng(0).normal(3, 2, 100_000)
    assert robust_sd(x) == pytest.approx(2, rel=0.01)
    x[:100] = 1e9
    assert robust_sd(x) == pytest.approx(2, rel=0.01)
    assert robust_sd([1.0, 2.0, 4.0, 8.0]) == pytest.approx(1.4826 * 1.5, rel=1e-4)
    assert robust_sd([1.0, 1.0, 1.0, 8.0]) == 0


def test_seeds_needed_are_the_published_numbers():
    assert [seeds_needed(δ, 1.0) for δ in (1, 2, 3)] == [31, 8, 4]
    assert [seeds_needed(δ * 0.01, 0.01) for δ in (1, 2, 3)] == [31, 8, 4]
    # Pairing at a correlation of 0.62 saves 1 / (1 - 0.62) = 2.6 times the seeds.
    assert seeds_needed(1, 1, correlation=0.62) == np.ceil(30.92 * 0.38) == 12
    assert seeds_needed(100.0, 1.0) == 1


def test_so_many_seeds_have_the_power():
    rng, n = np.random.default_rng(0), seeds_needed(1.0, 1.0)
    difference = rng.normal(1, 1, (4000, n)).mean(1) - rng.normal(0, 1, (4000, n)).mean(1)
    found = np.mean(difference / np.sqrt(2 / n) >= stats.norm.isf(0.001))
    assert found == pytest.approx(0.8, abs=0.02)


def test_a_difference_that_no_number_of_seeds_can_show_is_refused():
    with pytest.raises(ValueError, match="delta must not be so small beside sigma"):
        seeds_needed(1e-300, 1.0)
