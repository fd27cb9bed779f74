"""The expected best of k trials: curves, bands, marks, labels that do not overlap, and mistakes."""

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.text import Annotation

from momentax.plotting import expected_best
from momentax.plotting._methods import _spread

METHODS, K = ["nesterov", "adam", "sgd"], np.array([1, 2, 4, 8])
S = np.array([[0.5, 0.8, 1.0, 1.1], [0.3, 0.9, 1.5, 1.6], [0.2, 0.3, np.nan, np.nan]])


def test_curves_are_thin_beyond_half_of_the_trials():
    ax = expected_best(METHODS, K, S)
    thin, bold = ax.lines[:3], ax.lines[3:6]
    for line, row in zip(thin, S, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row[np.isfinite(row)])
    assert [line.get_xdata()[-1] for line in bold] == [4, 4, 4]
    assert bold[0].get_linewidth() > thin[0].get_linewidth()
    assert ax.get_yscale() == "log"
    wide = expected_best(METHODS, K, S, trusted=8)
    assert wide.lines[3].get_xdata()[-1] == 8


def test_marks_are_at_one_trial_and_at_the_default():
    ax = expected_best(METHODS, K, S, defaults=[0.7, 0.1, np.nan], highlight=["adam"])
    dot, diamond = ax.lines[6:]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1, 0.3)
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == (1, 0.1)
    assert ax.get_ylim()[0] < 0.1
    assert "the default" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_bands_belong_to_the_highlighted_methods():
    bands = np.stack([0.9 * S, 1.1 * S])
    ax = expected_best(METHODS, K, S, bands=bands, highlight=["adam"])
    (band,) = [each for each in ax.collections if isinstance(each, FillBetweenPolyCollection)]
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [0.9 * 0.3, 1.1 * 1.6])


def test_names_are_at_the_last_known_points():
    ax = expected_best(METHODS, K, S)
    notes = {a.get_text(): a.xy for a in ax.get_children() if isinstance(a, Annotation)}
    assert notes == {"adam": (8, 1.6), "nesterov": (8, 1.1), "sgd": (2, 0.3)}


def test_names_keep_a_distance_and_their_order():
    places = np.array([0.5, 0.51, 0.1, 0.5, 0.9])
    found = _spread(places, 0.1)
    assert np.diff(np.sort(found)).min() >= 0.1 - 1e-12
    np.testing.assert_array_equal(np.argsort(found, kind="stable"), [2, 0, 3, 1, 4])
    np.testing.assert_allclose(found[[2, 4]], [0.1, 0.9])
    np.testing.assert_allclose(np.mean(found[[0, 1, 3]]), np.mean(places[[0, 1, 3]]))


def test_scores_are_better_if_they_are_lower():
    ax = expected_best(METHODS, K, -S, logy=False, highlight=None)
    assert ax.get_yscale() == "linear"
    assert ax.get_ylabel() == "expected score of the best trial"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"trials": [1, 1, 2, 3]}, ValueError, "trials must be 1-D and ascending"),
        ({"values": S[:2]}, ValueError, r"values must hold .* shape \(3, 4\), got shape \(2, 4\)"),
        ({"values": -S}, ValueError, r"values must be in \(0, inf\)"),
        ({"bands": S}, ValueError, r"bands must hold .* shape \(2, 3, 4\)"),
        ({"defaults": [1.0]}, ValueError, "defaults must hold one value for each method"),
        ({"trusted": 0}, ValueError, r"trusted must be in \[1, inf\)"),
        ({"highlight": ["none"]}, ValueError, "highlight must have names of the methods"),
    ],
)
def test_mistakes_are_sentences(arguments, error, message):
    with pytest.raises(error, match=message):
        expected_best(**{"methods": METHODS, "trials": K, "values": S, **arguments})
