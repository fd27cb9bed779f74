"""Paired comparisons, against enumerations and simulations."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from momentax.bench.statistics import (
    _paired,
    compare,
    compare_all,
    holm,
    interval,
    share_better,
    sign_flip,
)


def random_differences(n, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, n)


@pytest.mark.parametrize("n", [2, 3, 7, 10])
@pytest.mark.parametrize("has_ties", [False, True])
def test_sign_flip_counts_all_signs(n, has_ties):
    d = random_differences(n, seed=n)
    d = np.round(d) + 0.1 if has_ties else d
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=n)]
    expected = np.mean(np.array(sums) >= abs(d.sum()) - 1e-12)
    assert sign_flip(d) == expected


def test_sign_flip_agrees_with_scipy():
    d = random_differences(9, mean=0.5)
    peer = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(d) == pytest.approx(peer.pvalue, abs=1e-12)


def exact_p(d):
    """Return the p-value for whole numbers, by the distribution of the sums."""
    chances, size = np.ones(1), int(np.abs(d).sum())
    for each in np.abs(d):
        kernel = np.zeros(2 * each + 1)
        kernel[0] = kernel[-1] = 0.5
        if each == 0:
            kernel = np.ones(1)
        chances = np.convolve(chances, kernel)
    sums = np.arange(-size, size + 1)
    return chances[np.abs(sums) >= abs(d.sum())].sum()


@pytest.mark.parametrize("n", [16, 20, 21, 60])
def test_sign_flip_is_exact_up_to_20_and_close_above(n):
    d = np.random.default_rng(1).integers(-4, 6, n)
    p = exact_p(d)
    assert 0.001 < p < 0.9
    rounding = 1e-12 if n <= 20 else 4 * np.sqrt(p / 100_000)
    assert sign_flip(d) == pytest.approx(p, abs=rounding)
    assert sign_flip(d) == sign_flip(-d[::-1] * 1e300) or n > 20


def test_the_smallest_p_is_that_of_one_sign():
    assert sign_flip(np.linspace(0.1, 1, 16)) == 2 / 2**16
    assert 2 / 2**16 < 0.05 / 104  # The first step of Holm over 13 methods on 8 tasks.
    assert sign_flip(np.linspace(0.1, 1, 30)) == 1 / 100_001
    assert sign_flip(np.linspace(0.1, 1, 30), resamples=999) == 1 / 1000


def test_differences_of_zero_have_p_1():
    assert sign_flip(np.zeros(16)) == 1
    assert sign_flip(np.zeros(40)) == 1
    assert sign_flip([0.1, -0.1]) == 1


def test_the_seed_draws_the_signs():
    d = random_differences(40, mean=0.2)
    assert sign_flip(d, seed=1) == sign_flip(d, seed=1) != sign_flip(d, seed=2)


def closed_test(p):
    """Adjust by the closed test of all Bonferroni tests, which Holm's method is a shortcut of."""
    m = len(p)
    subsets = [s for r in range(1, m + 1) for s in itertools.combinations(range(m), r)]
    return [max(min(1, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(m)]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test(seed):
    p = np.random.default_rng(seed).choice([0.001, 0.01, 0.02, 0.04, 0.3, 1.0], 7)
    np.testing.assert_allclose(holm(p), closed_test(p), rtol=1e-12)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([[0.01, 0.04], [0.03, 0.005]]), [[0.03, 0.06], [0.06, 0.02]])
    assert holm([]).shape == (0,)
    assert holm(0.25) == 0.25


def test_holm_keeps_the_chance_of_any_false_rejection():
    rng = np.random.default_rng(0)
    rejected = [
        np.any(holm([sign_flip(d) for d in rng.normal(size=(12, 10))]) <= 0.05) for _ in range(200)
    ]
    assert np.mean(rejected) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def exact_bca(d, level):
    """Return the BCa interval of the mean from the means of all resamples."""
    n = len(d)
    means = np.sort(np.mean(np.array([*itertools.product(d, repeat=n)]), axis=1))
    below = (np.mean(means < d.mean() - 1e-12) + np.mean(means < d.mean() + 1e-12)) / 2
    z0 = stats.norm.ppf(below)
    jackknife = (d.sum() - d) / (n - 1)
    u = jackknife.mean() - jackknife
    a = np.sum(u**3) / (6 * np.sum(u**2) ** 1.5)
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    return np.quantile(means, stats.norm.cdf(z0 + z / (1 - a * z)))


def test_interval_is_the_bca_interval_of_all_resamples():
    d = np.array([0.3, 0.1, 0.25, 1.4, 0.6, 0.05])
    expected = exact_bca(d, 0.9)
    assert expected[1] - d.mean() > 1.3 * (d.mean() - expected[0])  # It is skewed as the data.
    np.testing.assert_allclose(interval(d, 0.9, resamples=100_000), expected, atol=0.01)


def test_interval_holds_the_mean_as_often_as_its_docstring_says():
    rng = np.random.default_rng(0)
    ends = np.array([interval(rng.normal(size=16), resamples=1000) for _ in range(250)])
    assert np.mean((ends[:, 0] < 0) & (ends[:, 1] > 0)) == pytest.approx(0.922, abs=0.04)


def test_interval_follows_shift_scale_level_and_seed():
    d = random_differences(16)
    low, high = interval(d, resamples=2000)
    np.testing.assert_allclose(interval(1e6 * d, resamples=2000), [1e6 * low, 1e6 * high])
    wider = interval(d, 0.99, resamples=2000)
    assert wider.low < low < high < wider.high
    assert interval(d, resamples=2000, seed=1) != (low, high)


@pytest.mark.parametrize("x", [0.0, 0.1, -3.0])
def test_equal_differences_have_an_interval_of_width_zero_without_a_warning(x):
    assert interval([x] * 7) == (x, x)
    nearly = np.array([x, x, x * (1 + 1e-15)])
    assert interval(nearly) == (nearly.min(), nearly.max())


@pytest.mark.parametrize("d", [[0.0, 1.0], [0.0] * 15 + [1.0], [1e300, -1e300, 1e299], [1, 1, 2]])
def test_an_interval_of_few_values_is_finite_and_raises_no_warning(d):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = interval(d, resamples=1000)
    assert min(d) <= low < np.mean(d) < high <= max(d)


def test_share_better_counts_lower_scores_without_ties():
    assert share_better([-1.0, 0.0, 2.0, -0.5, -0.1]) == 0.6


def test_verdicts_of_one_cell():
    control = random_differences(16)
    noise = random_differences(16, seed=1)
    better, same, worse = (compare(control + shift + 0.1 * noise, control) for shift in (-1, 0, 1))
    verdicts = better.verdict, same.verdict, worse.verdict
    assert verdicts == ("better", "not distinguishable", "worse")
    assert better.p_value == better.adjusted == 2 / 2**16
    assert (better.share_better, worse.share_better) == (1, 0)
    assert better.difference == pytest.approx(-1 + 0.1 * noise.mean())
    expected = interval(-1 + 0.1 * noise)
    np.testing.assert_allclose((better.low, better.high), expected, rtol=1e-12)


def test_a_copy_of_the_control_is_not_distinguishable():
    control = random_differences(16)
    found = compare(control.copy(), control)
    assert found[:1] + found[4:] == ("not distinguishable", 1, 1, 0)
    assert (found.low, found.high) == (0, 0)


def test_a_difference_must_exceed_the_smallest_that_matters():
    control = random_differences(16)
    y = control - 1e-6
    assert compare(y, control).verdict == "better"
    assert compare(y, control, smallest_difference=0.01).verdict == "not distinguishable"
    assert compare(control, y, smallest_difference=0.01).verdict == "not distinguishable"
    assert compare(control - 1, control, smallest_difference=0.01).verdict == "better"


def test_a_verdict_needs_the_test_and_the_interval(monkeypatch):
    control = np.zeros(16)
    d = random_differences(16, mean=1.0)
    assert compare(d, control).verdict == "worse"
    with monkeypatch.context() as patch:
        patch.setattr(_paired, "sign_flip", lambda d, seed: 0.06)
        assert compare(d, control).verdict == "not distinguishable"
    monkeypatch.setattr(_paired, "interval", lambda *args: (-0.01, 1.0))
    assert compare(d, control).verdict == "not distinguishable"


def table(methods, tasks, seeds=16):
    """Return scores in which the last method is better than all others on the first task."""
    rng = np.random.default_rng(0)
    scores = {
        f"task{t}": {f"m{m}": rng.normal(size=seeds) for m in range(methods)} for t in range(tasks)
    }
    scores["task0"][f"m{methods - 1}"] = scores["task0"]["m0"] - 0.1 - 0.01 * rng.random(seeds)
    return scores


def test_a_table_is_adjusted_over_all_its_comparisons():
    scores = table(4, 3)
    del scores["task2"]["m3"]  # It has no rank there.
    found = compare_all(scores, "m0", resamples=500)
    assert {task: [*cells] for task, cells in found.items()} == {
        "task0": ["m1", "m2", "m3"],
        "task1": ["m1", "m2", "m3"],
        "task2": ["m1", "m2"],
    }
    cells = [cell for row in found.values() for cell in row.values()]
    np.testing.assert_allclose([c.adjusted for c in cells], holm([c.p_value for c in cells]))
    alone = compare(scores["task1"]["m2"], scores["task1"]["m0"], resamples=500)
    assert found["task1"]["m2"]._replace(adjusted=0) == alone._replace(adjusted=0)
    verdicts = [cell.verdict for cell in cells]
    assert verdicts == ["not distinguishable"] * 2 + ["better"] + ["not distinguishable"] * 5


def test_a_claim_of_one_cell_can_fail_among_many():
    scores = table(6, 2, seeds=7)
    y, control = scores["task0"]["m5"], scores["task0"]["m0"]
    assert compare(y, control).verdict == "better"  # p = 2 / 2⁷ = 0.016.
    with pytest.warns(UserWarning, match=r"with 7 seeds the smallest p-value is 0.016, so that"):
        found = compare_all(scores, "m0", resamples=500)
    assert found["task0"]["m5"].verdict == "not distinguishable"


def test_the_warning_names_the_fewest_seeds_that_decide():
    scores = {"ridge": {"a": np.zeros(5), "b": np.ones(5)}}
    with pytest.warns(UserWarning, match="none of 1 comparison can be decided .* at least 6 seeds"):
        compare_all(scores, "a")
    ones = {"ridge": {"a": np.zeros(6), "b": np.ones(6)}}
    assert compare_all(ones, "a")["ridge"]["b"].verdict == "worse"
    with pytest.warns(UserWarning, match="at least 6 seeds"):
        compare(np.ones(3), np.zeros(3))


def test_eight_seeds_decide_nothing_among_104_comparisons_and_sixteen_do():
    scores = table(14, 8, seeds=8)
    with pytest.warns(UserWarning, match="none of 104 comparisons .* at least 13 seeds"):
        compare_all(scores, "m0", resamples=100)
    assert compare_all(table(14, 8), "m0", resamples=100)["task0"]["m13"].verdict == "better"


@pytest.mark.parametrize(
    ("scores", "control", "text"),
    [
        ({"ridge": {"a": [1.0, 2.0]}}, "b", "the task 'ridge' has no scores of 'b'; leave the"),
        (
            {"ridge": {"a": [1.0, np.nan]}},
            "a",
            r"scores\['ridge'\]\['a'\] must be finite.*diverged",
        ),
        ({"ridge": {"a": [1.0]}}, "a", r"scores\['ridge'\]\['a'\] must hold at least 2 numbers"),
        ({"ridge": {"a": [1, 2], "b": [1, 2, 3]}}, "a", "the same seeds .* a 2, b 3"),
        (
            {"ridge": [[1, 2]]},
            "a",
            "must map each task to a mapping from each method to its scores",
        ),
        ({}, "a", "at least one task, got an empty mapping"),
        ({3: {}}, "a", "names of tasks as keys, got 3"),
        ({"ridge": {3: [1, 2]}}, "a", r"scores\['ridge'\] must have the names of methods as keys"),
    ],
)
def test_wrong_tables_are_explained(scores, control, text):
    with pytest.raises((TypeError, ValueError), match=text):
        compare_all(scores, control)


def test_wrong_scores_are_explained():
    with pytest.raises(ValueError, match=r"score for each of the same seeds .* 3 and 2"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(
        ValueError, match=r"differences must be 1-D, .* got an array of shape \(1, 2"
    ):
        sign_flip([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"differences must hold at least 2 numbers, .* got 1"):
        interval([1.0])
    with pytest.raises(ValueError, match=r"p_values must be in \[0, 1\], got nan"):
        holm([0.1, np.nan])
