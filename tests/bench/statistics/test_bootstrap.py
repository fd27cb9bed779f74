"""Resamples of seeds and of trials, against closed forms and enumerations."""

import itertools

import numpy as np
import pytest

from momentax.bench.statistics import (
    ReferenceCurve,
    Tuning,
    bootstrap_interval,
    bootstrap_seeds,
    bootstrap_trials,
    geometric_mean,
    speed_ups,
)

NAN = np.nan
# The score falls by 1 with each doubling, so that S = 2^(-y) as long as it is not clipped.
DOUBLING = ReferenceCurve(2.0 ** np.arange(-5, 6), -np.arange(-5.0, 6.0))
CURVES = {"a": DOUBLING, "b": DOUBLING}


def random_scores(seeds=12):
    rng = np.random.default_rng(0)
    return {task: {m: rng.normal(0, 1, seeds) for m in ("x", "y")} for task in ("a", "b")}


def test_the_speed_ups_of_resampled_seeds_have_the_spread_of_means():
    scores = random_scores()
    S = bootstrap_seeds(scores, CURVES, resamples=20_000)
    y = -np.log2(S)
    for row, method in enumerate(("x", "y")):
        for column, task in enumerate(("a", "b")):
            own = scores[task][method]
            np.testing.assert_allclose(y[:, row, column].mean(), own.mean(), atol=0.01)
            np.testing.assert_allclose(
                y[:, row, column].std(), own.std() / np.sqrt(len(own)), rtol=0.03
            )
    # The methods of a task share the seeds, and the tasks do not.
    pairing = np.corrcoef(y.reshape(len(y), 4).T)
    expected = np.corrcoef(scores["a"]["x"], scores["a"]["y"])[0, 1]
    np.testing.assert_allclose(pairing[0, 2], expected, atol=0.03)
    np.testing.assert_allclose(pairing[[0, 0], [1, 3]], 0, atol=0.03)


def test_methods_that_differ_by_a_constant_do_so_in_every_resample():
    y = random_scores()["a"]["x"]
    S = bootstrap_seeds({"a": {"x": y, "faster": y - 1, "copy": y}}, CURVES, resamples=500)
    np.testing.assert_allclose(S[:, 1] / S[:, 0], 2, rtol=1e-9)
    np.testing.assert_array_equal(S[:, 2], S[:, 0])


def test_a_method_without_a_rank_is_nan_and_in_the_order_of_speed_ups():
    scores = random_scores()
    del scores["a"]["x"]
    S, point = bootstrap_seeds(scores, CURVES, resamples=500), speed_ups(scores, CURVES)
    assert point.methods == ("y", "x")
    np.testing.assert_array_equal(np.isnan(S), np.isnan(point.values)[None].repeat(500, 0))
    low, high = bootstrap_interval(geometric_mean(S).value)
    G = geometric_mean(point.values).value
    assert np.all((low < G) & (high > G))


def test_resamples_follow_the_seed():
    scores = random_scores()
    first, again, other = (bootstrap_seeds(scores, CURVES, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


VALUES = np.array([0.5, -0.25, 1.0, -0.5, 0.0])
FINALS = np.array([NAN, -0.125, NAN, 0.0, 0.25])
EVALUATION = np.array([0.25, 0.5, 0.0, 0.25])


def chosen_scores(values, finals, evaluation):
    """Return the evaluation of each ordered resample, computed as the docstring says."""
    n, finalists = len(values), int(np.sum(~np.isnan(finals)))
    shift = np.nanmean(finals - values)
    s = [v + shift if np.isnan(f) else f for v, f in zip(values, finals, strict=True)]
    offset = np.mean(evaluation) - np.nanmin(finals)
    found = []
    for draw in itertools.product(range(n), repeat=n):
        second_stage = sorted(set(draw), key=lambda i: values[i])[:finalists]
        found.append(min(s[i] for i in second_stage) + offset)
    return np.array(found)


def test_resampled_trials_have_the_chances_of_all_resamples():
    exact = chosen_scores(VALUES, FINALS, EVALUATION)
    tuning = {"a": {"x": Tuning(VALUES, FINALS, EVALUATION)}}
    found = -np.log2(bootstrap_trials(tuning, CURVES, resamples=20_000)[:, 0, 0])
    levels = np.unique(exact)
    assert len(levels) == 5
    # The real choice is trial 1, whose mean evaluation is 0.25.
    assert levels[0] == 0.25
    for level in levels:
        share = np.mean(exact == level)
        error = 4 * np.sqrt(share / 20_000)
        assert np.mean(np.isclose(found, level, atol=1e-9)) == pytest.approx(share, abs=error)


def test_a_choice_of_one_stage_takes_the_lowest_value():
    tuning = {"a": {"x": Tuning(VALUES, None, EVALUATION)}}
    y = -np.log2(bootstrap_trials(tuning, CURVES, resamples=20_000)[:, 0, 0])
    levels = np.sort(VALUES) + 0.5 + 0.25
    chances = [((5 - i) / 5) ** 5 - ((4 - i) / 5) ** 5 for i in range(5)]
    for level, chance in zip(levels, chances, strict=True):
        assert np.mean(np.isclose(y, level, atol=1e-9)) == pytest.approx(chance, abs=0.01)


def test_trials_are_drawn_alike_for_all_cells():
    tuning = Tuning(VALUES, FINALS, EVALUATION)
    other = Tuning(np.arange(7.0), None, EVALUATION)
    cells = {"a": {"x": tuning, "y": tuning}, "b": {"y": tuning, "z": other}}
    S = bootstrap_trials(cells, CURVES, resamples=300)
    assert S.shape == (300, 3, 2)
    np.testing.assert_array_equal(S[:, 0, 0], S[:, 1, 0])
    np.testing.assert_array_equal(S[:, 0, 0], S[:, 1, 1])
    np.testing.assert_array_equal(np.isnan(S[0]), [[0, 1], [0, 0], [1, 0]])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ((VALUES, FINALS, EVALUATION), r"tuning\['a'\]\['x'\] must be a Tuning, got \("),
        (
            Tuning(VALUES, FINALS[:4], EVALUATION),
            r"\.finals must hold one number or NaN for each of",
        ),
        (Tuning(VALUES, FINALS[::-1], EVALUATION), "known for the trials with the lowest values"),
        (Tuning(VALUES, [NAN] * 5, EVALUATION), "known for the trials with the lowest values"),
        (Tuning([1.0, NAN], None, EVALUATION), r"\['x'\]\.values must be finite"),
        (Tuning(VALUES, FINALS, [NAN]), r"\['x'\]\.evaluation must be finite"),
    ],
)
def test_wrong_tunings_are_explained(cell, text):
    with pytest.raises((TypeError, ValueError), match=text):
        bootstrap_trials({"a": {"x": cell}}, CURVES)


def test_bootstrap_interval_is_that_of_percentiles():
    x = np.random.default_rng(0).permuted(np.arange(1001.0)[:, None] * [1, -2], axis=0)
    low, high = bootstrap_interval(x)
    np.testing.assert_allclose([low, high], [[25, -1950], [975, -50]])
    low, high = bootstrap_interval(np.where([True, False], x, NAN), level=0.5)
    np.testing.assert_allclose([low, high], [[250, NAN], [750, NAN]])
    with pytest.raises(ValueError, match="at least 100 resamples, got shape"):
        bootstrap_interval([1.0, 2.0])
