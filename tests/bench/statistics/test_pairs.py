"""All pairs of methods, and the group of those that lead."""

import itertools

import numpy as np
import pytest

from momentax.bench.statistics import compare_pairs, holm, leading_group

NAN = np.nan


def resamples(S, scale=0.1, count=4000, seed=0):
    S = np.asarray(S)
    noise = np.random.default_rng(seed).normal(scale=scale, size=(count, *S.shape))
    return S * np.exp(noise)


def test_pairs_by_loops():
    S = np.array([[1.0, 1.0, 2.0], [1.1, 1.2, 2.0], [1.05, 1.0, 2.05], [4.0, 3.0, 1.0]])
    draws = resamples(S)
    found = compare_pairs(S, draws)
    p = []
    for a, b in itertools.combinations(range(4), 2):
        ratios = np.array([np.prod(row[a] / row[b]) ** (1 / 3) for row in draws])
        assert found.ratios[a, b] == pytest.approx(np.prod(S[a] / S[b]) ** (1 / 3))
        assert found.ratios[a, b] * found.ratios[b, a] == pytest.approx(1)
        expected = np.quantile(ratios, [0.025, 0.975])
        np.testing.assert_allclose([found.low[a, b], found.high[a, b]], expected)
        np.testing.assert_allclose([1 / found.high[b, a], 1 / found.low[b, a]], expected)
        tail = min(sum(ratios <= 1), sum(ratios >= 1))
        p.append(min(1, 2 * (1 + tail) / 4001))
    above = np.triu_indices(4, 1)
    np.testing.assert_allclose(found.adjusted[above], holm(p))
    np.testing.assert_array_equal(found.adjusted, found.adjusted.T)
    decided = found.decided[above]
    np.testing.assert_array_equal(decided, [False, False, True, False, True, True])
    np.testing.assert_array_equal(np.diag(found.ratios), 1)
    assert not np.diag(found.decided).any()


def test_a_copy_is_never_told_from_its_original():
    S = np.array([[1.3, 0.9], [1.3, 0.9]])
    draws = np.repeat(resamples(S)[:, :1], 2, axis=1)
    found = compare_pairs(S, draws)
    assert found.adjusted[0, 1] == 1
    assert not found.decided.any()


def test_methods_are_compared_on_their_common_tasks():
    S = np.array([[1.0, 8.0, NAN], [2.0, NAN, 1.0], [NAN, NAN, 3.0]])
    found = compare_pairs(S, resamples(S))
    np.testing.assert_allclose(found.ratios, [[1, 0.5, NAN], [2, 1, 1 / 3], [NAN, 3, 1]])
    np.testing.assert_array_equal(np.isnan(found.low), np.isnan(found.ratios))
    np.testing.assert_array_equal(found.decided, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(found.adjusted[0, 1], 2 * 2 / 4001)  # Two pairs could be compared.


def test_too_few_resamples_are_refused():
    S = np.ones((14, 2))
    with pytest.raises(ValueError, match="at least 3640 resamples to decide between 91 pairs"):
        compare_pairs(S, resamples(S, count=3000))


def test_samples_of_another_table_are_refused():
    S = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"of shape \(resamples, 3, 2\) and with NaN at the same"):
        compare_pairs(S, resamples(np.ones((3, 3))))
    with pytest.raises(ValueError, match=r"with NaN at the same places"):
        compare_pairs(S, resamples([[1, NAN], [1, 1], [1, 1]]))
    with pytest.raises(ValueError, match=r"samples must .* shape \(resamples, methods, tasks\)"):
        compare_pairs(S, S)


def test_leading_group_by_hand():
    means, high = [1.0, 1.3, 1.5, NAN, 1.2], [1.2, 1.6, 1.49, NAN, 1.5]
    np.testing.assert_array_equal(leading_group(means, high), [0, 1, 1, 0, 1])
    np.testing.assert_array_equal(leading_group([NAN, NAN], [NAN, NAN]), [0, 0])
    with pytest.raises(ValueError, match="high must hold a number for each of 2 means, got 1"):
        leading_group([1.0, 2.0], [1.0])
