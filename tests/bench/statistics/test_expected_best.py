"""The expected best of k trials, against all subsets."""

import itertools

import numpy as np
import pytest

from momentax.bench.statistics import expected_best, trials_to_match, weights_of_best

NAN = np.nan
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=8)
SCORES = VALUES + RNG.normal(size=8)


def best_of(draws, n):
    """Return the share of the draws whose best has each rank."""
    return np.bincount([min(draw) for draw in draws], minlength=n) / len(draws)


@pytest.mark.parametrize("k", range(1, 9))
def test_weights_count_all_subsets(k):
    subsets = [*itertools.combinations(range(8), k)]
    np.testing.assert_allclose(weights_of_best(8, k), best_of(subsets, 8), atol=1e-15)


@pytest.mark.parametrize("k", range(1, 5))
def test_weights_with_replacement_count_all_tuples(k):
    tuples = [*itertools.product(range(5), repeat=k)]
    np.testing.assert_allclose(weights_of_best(5, k, True), best_of(tuples, 5), atol=1e-15)


@pytest.mark.parametrize("replacement", [False, True])
def test_weights_of_many_numbers_of_trials(replacement):
    k = np.array([[1, 2, 3], [100, 200, 300]])
    found = weights_of_best(300, k, replacement)
    assert found.shape == (2, 3, 300)
    np.testing.assert_allclose(found.sum(-1), 1)
    np.testing.assert_allclose(found[1, 0], weights_of_best(300, 100, replacement))


def test_the_best_8_of_32_have_93_percent_of_the_weight_at_8():
    assert weights_of_best(32, 8)[:8].sum() == pytest.approx(0.93, abs=0.005)


def test_expected_best_is_the_mean_over_all_subsets():
    k = np.arange(1, 9)
    of_values, of_scores = [], []
    for count in k:
        subsets = [list(s) for s in itertools.combinations(range(8), count)]
        of_values.append(np.mean([VALUES[s].min() for s in subsets]))
        of_scores.append(np.mean([SCORES[s][VALUES[s].argmin()] for s in subsets]))
    np.testing.assert_allclose(expected_best(VALUES, k).mean, of_values)
    np.testing.assert_allclose(expected_best(VALUES, k, SCORES).mean, of_scores)
    assert expected_best(VALUES, 8, SCORES).mean == SCORES[VALUES.argmin()]
    np.testing.assert_allclose(expected_best(VALUES, 1, SCORES).mean, SCORES.mean())


def test_with_replacement_it_is_the_mean_over_all_tuples():
    y, e = VALUES[:4], SCORES[:4]
    tuples = [list(t) for t in itertools.product(range(4), repeat=3)]
    found = expected_best(y, 3, e, replacement=True).mean
    assert found == pytest.approx(np.mean([e[t][y[t].argmin()] for t in tuples]))


def test_missing_scores_are_weighed_out_and_reported():
    best = np.argsort(VALUES)[:3]
    known = np.full(8, NAN)
    known[best] = SCORES[best]
    k = np.arange(1, 9)
    found = expected_best(VALUES, k, known, largest_missing=0.3)
    w = weights_of_best(8, k)[:, :3]
    np.testing.assert_allclose(found.missing, 1 - w.sum(1), atol=1e-12)
    expected = (w @ SCORES[best]) / w.sum(1)
    np.testing.assert_allclose(found.mean, np.where(found.missing <= 0.3, expected, NAN))
    assert np.isnan(found.mean).tolist() == [True, True, False, False] + [False] * 4
    np.testing.assert_array_equal(np.isnan(found.band.low), np.isnan(found.mean))
    default = expected_best(VALUES, k, known)
    np.testing.assert_array_equal(np.isnan(default.mean), found.missing > 0.1)


def test_the_best_8_of_32_are_enough_for_8_trials():
    y = np.random.default_rng(1).normal(size=32)
    e = np.where(np.argsort(np.argsort(y)) < 8, y, NAN)
    found = expected_best(y, [4, 8, 16, 32], e)
    np.testing.assert_array_equal(np.isnan(found.mean), [True, False, False, False])


def test_scores_of_other_seeds_correct_the_luck_of_the_first():
    rng = np.random.default_rng(0)
    luck = []
    for _ in range(200):
        truth = rng.normal(size=32)
        y, e = truth + rng.normal(size=(2, 32))
        chosen = truth[y.argmin()]
        means = (
            expected_best(y, 32, resamples=100).mean,
            expected_best(y, 32, e, resamples=100).mean,
        )
        luck.append(np.array(means) - chosen)
    biased, corrected = np.mean(luck, axis=0)
    assert biased < -0.7
    assert abs(corrected) < 0.2


def test_the_order_of_trials_does_not_matter_even_where_they_tie():
    y = np.array([3.0, 1.0, 3.0, 2.0, 3.0, 1.0])
    e = np.array([9.0, 1.0, 5.0, 2.0, 7.0, 1.5])
    order = np.array([4, 1, 3, 5, 0, 2])
    k = np.arange(1, 7)
    first = expected_best(y, k, e).mean
    np.testing.assert_allclose(first, expected_best(y[order], k, e[order]).mean)
    assert first[-1] == 1.25  # Either of the two best may be chosen.


@pytest.mark.parametrize("scores", [None, SCORES, np.where(VALUES < 0.2, SCORES, NAN)])
def test_the_band_is_that_of_resampled_trials(scores):
    k, rng = [2, 4], np.random.default_rng(5)
    e = VALUES if scores is None else scores
    found = expected_best(VALUES, k, scores, replacement=True, largest_missing=0.9)
    samples = []
    for _ in range(500):
        draw = rng.integers(0, 8, 8)
        draw = draw[np.argsort(VALUES[draw], kind="stable")]
        w = weights_of_best(8, k, True) * ~np.isnan(e[draw])
        total = w.sum(1)
        if total.min() > 0:
            samples.append(w @ np.nan_to_num(e[draw]) / total)
    expected = np.quantile(samples, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(np.array(found.band), expected, atol=0.15)
    assert np.all((found.band.low < found.mean) & (found.mean < found.band.high))


def test_one_k_gives_numbers_and_an_empty_k_arrays():
    found = expected_best(VALUES, 3)
    assert np.ndim(found.mean) == np.ndim(found.missing) == np.ndim(found.band.low) == 0
    assert expected_best(VALUES, []).mean.shape == (0,)


def test_trials_to_match_is_the_first_k_whose_expectation_reaches_the_target():
    means = expected_best(VALUES, np.arange(1, 9)).mean
    assert trials_to_match(VALUES, means[4] + 1e-9) == 5
    assert trials_to_match(VALUES, means[4] - 1e-9) == 6
    assert trials_to_match(VALUES, 100.0) == 1
    assert trials_to_match(VALUES, VALUES.min() - 1e-9) is None
    corrected = expected_best(VALUES, np.arange(1, 9), SCORES).mean
    k = trials_to_match(VALUES, corrected[-1], SCORES)
    assert corrected[k - 1] <= corrected[-1] < min(corrected[: k - 1], default=np.inf)
    known = np.where(np.argsort(np.argsort(VALUES)) < 3, -9.0, NAN)
    assert trials_to_match(VALUES, 0.0, known) == 4  # Below, most weight has no score.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((VALUES, 9), "k must be whole numbers from 1 to 8 trials, got 9"),
        ((VALUES, 1.5), "k must be whole numbers from 1 to 8 trials, got 1.5"),
        ((VALUES, 0), r"k must be in \[1, inf\), got 0"),
        (
            (VALUES, 1, SCORES[:3]),
            r"scores must hold a number or NaN for each of 8 values, got shape",
        ),
        ((VALUES, 1, np.full(8, NAN)), "at least one trial, got only NaN"),
        ((np.full(8, NAN), 1), "values must be finite"),
    ],
)
def test_wrong_trials_are_explained(arguments, text):
    with pytest.raises(ValueError, match=text):
        expected_best(*arguments)
