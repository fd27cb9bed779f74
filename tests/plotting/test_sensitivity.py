"""The trials of a method: their places and colours, the good ones, the edge, and mistakes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from momentax import theory
from momentax.plotting import sensitivity

RATES, BETAS = np.array([0.01, 0.1, 1.0, 10.0]), np.array([0.0, 0.5, 0.9, 0.99])
S = np.array([0.02, 0.8, 1.0, np.nan])


def offsets(collection):
    return np.asarray(collection.get_offsets())


def test_trials_lie_at_their_rate_and_beta():
    ax = sensitivity(RATES, BETAS, S)
    others, good = ax.collections[:2]
    np.testing.assert_allclose(offsets(others), [[0.01, 1.0]])
    np.testing.assert_allclose(offsets(good), [[0.1, 0.5], [1.0, 0.1]])
    np.testing.assert_allclose(good.get_array(), [0.8, 1.0])
    crosses = ax.lines[0]
    np.testing.assert_allclose(crosses.get_xydata(), [[10.0, 0.01]])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low > high  # A larger β is higher.
    assert good.norm.vmin == pytest.approx(1 / 16)  # Worse trials have one colour.


def test_good_trials_are_near_the_best_one_whatever_the_unit():
    good = sensitivity(RATES, BETAS, 3 * S).collections[1]
    np.testing.assert_allclose(good.get_array(), [2.4, 3.0])


def test_the_vertical_axis_is_labelled_by_beta():
    ax = sensitivity(RATES, BETAS, S)
    ax.figure.canvas.draw()
    labels = {t.get_text(): t.get_position()[1] for t in ax.get_yticklabels()}
    assert {"0", "0.5", "0.9", "0.99"} <= set(labels)
    for text, place in labels.items():
        assert float(text) == pytest.approx(1 - place)


def test_the_colour_bar_has_plain_numbers():
    figure = sensitivity(RATES, BETAS, S).figure
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert {"0.1", "0.2", "0.5", "1"} <= set(labels)


def test_the_chosen_trial_and_the_edge_are_marked():
    β = np.linspace(0, 0.99, 5)
    edge = theory.stability_edge(β) / (1 - β)
    plain = sensitivity(RATES, BETAS, S, chosen=2)
    limits = plain.get_xlim(), plain.get_ylim()
    ax = sensitivity(RATES, BETAS, S, chosen=2, edge=[edge, β])
    star, line = ax.collections[2], ax.lines[-1]
    np.testing.assert_allclose(offsets(star), [[1.0, 0.1]])
    np.testing.assert_allclose(line.get_xydata(), np.stack([edge, 1 - β], 1))
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[-3:] == ["good: at least 0.7 of the best", "chosen", "stability edge"]


def test_given_axes_are_drawn_on():
    _, ax = plt.subplots()
    assert sensitivity(RATES[1:3], BETAS[1:3], [1.0, 1.0], ax=ax) is ax


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rates": 0.1}, ValueError, "rates must be 1-D"),
        ({"betas": [0.5]}, ValueError, r"betas must hold a number for each of rates, shape \(4,\)"),
        ({"betas": BETAS + 0.5}, ValueError, r"betas must be in \[0, 1\), got"),
        ({"values": -S}, ValueError, r"values must be in \(0, inf\)"),
        ({"values": np.full(4, np.nan)}, ValueError, "values must hold a number for at least one"),
        ({"chosen": 3}, ValueError, "chosen must be the index of a trial with a value, and 3 has"),
        ({"chosen": 4}, ValueError, "chosen must be at most 3"),
        ({"edge": RATES}, ValueError, r"edge must hold .* shape \(2, points\)"),
        ({"edge": [BETAS, RATES]}, ValueError, r"edge\[0\] must be in \(0, inf\), got 0.0"),
    ],
)
def test_mistakes_are_sentences(arguments, error, message):
    with pytest.raises(error, match=message):
        sensitivity(**{"rates": RATES, "betas": BETAS, "values": S, **arguments})
