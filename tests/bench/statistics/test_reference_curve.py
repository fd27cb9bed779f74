"""The reference curve: its inverse, noise, flat parts and ends."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from momentax.bench.statistics import ReferenceCurve

HORIZONS = np.array([250, 500, 1000, 2000, 4000])
SCORES = np.array([-0.4, -1.3, -1.7, -2.6, -2.9])


def curve(scores=SCORES, horizons=HORIZONS, steps=1000):
    return ReferenceCurve(horizons, scores, steps)


def test_speed_up_is_the_inverse_of_the_interpolant():
    f = PchipInterpolator(np.log(HORIZONS), SCORES)
    scores = np.linspace(-2.899, -0.401, 23)
    expected = [
        np.exp(brentq(lambda x, y=y: f(x) - y, np.log(250), np.log(4000), xtol=1e-14)) / 1000
        for y in scores
    ]
    np.testing.assert_allclose(curve().speed_up(scores), expected, rtol=1e-9)
    np.testing.assert_allclose(curve().score(1000 * np.array(expected)), scores, rtol=1e-9)


def test_the_measured_scores_have_the_speed_ups_of_their_horizons():
    np.testing.assert_allclose(curve().speed_up(SCORES), [0.25, 0.5, 1, 2, 4], rtol=1e-12)
    np.testing.assert_allclose(curve().score(HORIZONS), SCORES)
    np.testing.assert_array_equal(curve().beyond(SCORES), 0)
    np.testing.assert_array_equal(curve().pooled, False)


def test_a_power_law_of_the_loss_is_inverted_in_closed_form():
    power = curve(-1.5 * np.log10(HORIZONS))
    np.testing.assert_allclose(power.speed_up(-1.5 * np.log10([300, 700, 3100])), [0.3, 0.7, 3.1])


def test_multiples_and_steps_give_the_same():
    y = np.linspace(-3, 0, 9)
    multiples = ReferenceCurve(HORIZONS / 1000, SCORES)
    np.testing.assert_allclose(multiples.speed_up(y), curve().speed_up(y), rtol=1e-12)
    assert multiples.limits == curve().limits == (0.25, 4)


def test_scores_off_the_curve_are_clipped_and_named():
    y = np.array([[-9.0, -2.9], [-0.4, 5.0]])
    np.testing.assert_allclose(curve().speed_up(y), [[4, 4], [0.25, 0.25]], rtol=1e-12)
    np.testing.assert_array_equal(curve().beyond(y), [[1, 0], [0, -1]])
    labels = [curve().label(each) for each in (-9.0, -2.9, -1.7, -0.4, 5.0)]
    assert labels == [">4", "4", "1", "0.25", "<1/4"]
    other = ReferenceCurve([300, 1000, 2500], [0.0, -1.0, -2.0], 1000)
    assert [other.label(each) for each in (9.0, -9.0)] == ["<0.3", ">2.5"]


def test_one_score_gives_one_number():
    S = curve().speed_up(-1.7)
    assert np.ndim(S) == 0
    assert float(S) == pytest.approx(1)
    assert curve().beyond(-1.7) == 0


def test_noise_is_pooled_at_the_middle_of_its_horizons():
    noisy = curve([-0.4, -1.3, -1.7, -1.5, -2.9])
    np.testing.assert_array_equal(noisy.pooled, [0, 0, 1, 1, 0])
    f = PchipInterpolator(np.log([250, 500, np.sqrt(1000 * 2000), 4000]), [-0.4, -1.3, -1.6, -2.9])
    np.testing.assert_allclose(noisy.score([300, 1200, 3000]), f(np.log([300, 1200, 3000])))
    np.testing.assert_allclose(noisy.speed_up(-1.6), np.sqrt(2), rtol=1e-12)
    S = noisy.speed_up(np.linspace(0, -3, 301))
    assert np.all(np.diff(S) >= 0)
    assert np.max(np.diff(np.log(S))) < 0.12  # It does not jump where scores were pooled.


def test_equal_scores_at_a_floor_count_at_the_fewest_steps():
    floor = curve([-0.4, -1.3, -10.0, -10.0, -10.0])
    np.testing.assert_allclose(floor.speed_up([-10.0, -10.0 - 1e-12]), 1, rtol=1e-12)
    np.testing.assert_array_equal(floor.beyond([-10.0, -10.0 - 1e-12, -10.1]), [0, 0, 1])
    assert floor.speed_up(-10.1) == 4
    assert not floor.pooled.any()


def test_ends_that_were_pooled_keep_the_limits():
    noisy = curve([-1.0, -0.8, -1.7, -2.6, -2.4])
    labels = [noisy.label(each) for each in (-2.51, -2.5, -0.9, -0.89)]
    assert labels == [">4", "2.83", "0.354", "<1/4"]


@pytest.mark.parametrize("scores", [[-1.0] * 5, [-3.0, -2.0, -1.5, -1.2, -1.0], [0, 1, -1, 2, 1]])
def test_a_curve_that_does_not_fall_is_refused(scores):
    with pytest.raises(ValueError, match=r"scores must fall .* no score can be converted"):
        curve(scores)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"steps": 1.0},
            "steps must lie between .* 250 and 4000, got 1; horizons that are numbers",
        ),
        ({"steps": np.nan}, r"steps must be in \(0, inf\), got nan"),
        ({"horizons": HORIZONS[::-1]}, r"horizons must be in ascending order, got \[4000"),
        ({"horizons": HORIZONS[:4]}, "scores must hold one for each of 4 horizons, got 5"),
        ({"scores": [0, np.nan, 0, 0, 0]}, "scores must be finite"),
        ({"scores": SCORES[:, None]}, r"scores must be 1-D, .* got an array of shape \(5, 1\)"),
        ({"scores": [1.0], "horizons": [1000]}, "horizons must hold at least 2 numbers"),
    ],
)
def test_wrong_curves_are_explained(change, text):
    with pytest.raises(ValueError, match=text):
        curve(**change)


def test_scores_that_are_not_finite_are_refused():
    for method in (curve().speed_up, curve().beyond, curve().label):
        with pytest.raises(ValueError, match="must be finite, got nan; a run that diverged"):
            method(np.nan)


def test_a_curve_prints_what_it_was_made_of():
    text = repr(curve())
    assert text.startswith("ReferenceCurve(horizons=array([ 250.,")
    assert "steps=1000.0" in text
