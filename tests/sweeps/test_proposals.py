"""The model of a search and the points of its design."""

import numpy as np
import pytest
import scipy.stats

from momentax.sweeps._proposals import Model, draw_design, expected_improvement, levels_of
from momentax.sweeps._space import as_space
from tests.sweeps.test_search import SQUARE


def test_expected_improvement_is_the_mean_of_the_positive_part():
    gain, deviation = np.array([-1.0, 0.0, 0.5]), np.array([0.5, 1.0, 2.0])
    draws = gain + deviation * scipy.stats.norm.ppf((np.arange(200_000)[:, None] + 0.5) / 200_000)
    np.testing.assert_allclose(
        expected_improvement(gain, deviation), np.maximum(draws, 0).mean(0), rtol=1e-4
    )


def test_the_model_is_the_same_for_every_unit_and_expects_what_it_believes():
    rng = np.random.default_rng(0)
    features, cost = rng.random((12, 2)), rng.normal(size=12)
    cost[3] = np.inf
    asked = rng.random((5, 2))
    one, other = (Model(features, each).value(asked) for each in (cost, 1000 * cost + 7))
    np.testing.assert_allclose(one, other, rtol=1e-3)
    believed = Model(features, cost)
    believed.believe(asked[:1])
    assert believed.value(asked[:1]) < one[0]


def test_costs_far_above_the_median_are_compressed_and_a_diverged_run_is_above_all():
    level = levels_of(np.array([0.0, 1.0, 2.0, 3.0, 1e30, np.inf, 1e300]))
    assert (np.argsort(level) == [0, 1, 2, 3, 4, 6, 5]).all()
    np.testing.assert_allclose(level.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(level.std(), 1)
    # The median of the finite costs is 2.5, and 0.5 above it is log(1.2) where 0.5 below is -0.2.
    ratio = (level[3] - level[2]) / (level[2] - level[1])
    assert ratio == pytest.approx((np.log(1.2) + 0.2) / 0.4)


def test_a_model_of_many_results_keeps_the_best():
    rng = np.random.default_rng(0)
    features = rng.random((1000, 1))
    cost = (features[:, 0] - 0.7) ** 2
    model = Model(features, cost)
    assert len(model._features) == 400
    assert model._features[np.argmin(model._level)] == features[np.argmin(cost)]


def test_the_design_is_even_and_a_shorter_one_is_its_beginning():
    space = as_space(SQUARE)
    design = draw_design(space, 64, [7])
    np.testing.assert_array_equal(design[:10], draw_design(space, 10, [7]))
    counts, *_ = np.histogram2d(*design.T, bins=4, range=[(0, 1)] * 2)
    assert counts.min() >= 2
    assert not np.array_equal(design, draw_design(space, 64, [8]))
