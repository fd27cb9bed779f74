"""The performance profile: its curves, its legend, and the mistakes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from momentax.plotting import profile
from momentax.plotting._style import COLORS

METHODS, RATIOS = ["fast", "even", "slow"], [1.0, 2.0, 4.0]
SHARES = np.array([[0.75, 0.75, 1.0], [0.25, 1.0, 1.0], [0.0, 0.25, 0.5]])


def test_each_curve_keeps_its_share_up_to_the_next_ratio():
    ax = profile(METHODS, RATIOS, SHARES)
    assert ax.get_xscale() == "log"
    for line, share in zip(ax.lines, SHARES, strict=True):
        assert line.get_drawstyle() == "steps-post"
        np.testing.assert_array_equal(line.get_xdata(), RATIOS)
        np.testing.assert_array_equal(line.get_ydata(), share)
    assert ax.get_xlim() == (1, 4)


def test_the_legend_has_the_areas_in_their_order():
    ax = profile(METHODS, RATIOS, SHARES, areas=[0.8, 0.9, 0.1])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["0.90  even", "0.80  fast", "0.10  slow"]
    assert ax.get_legend().get_title().get_text() == "area"


def test_only_highlighted_methods_have_colours():
    ax = profile(METHODS, RATIOS, SHARES, highlight=["slow"])
    colors = [to_hex(line.get_color()).upper() for line in ax.lines]
    assert colors == ["#BFBFBF", "#BFBFBF", COLORS[0]]
    many = profile([f"m{i}" for i in range(9)], RATIOS, np.tile(SHARES, (3, 1)))
    assert sum(line.get_color() != "0.75" for line in many.lines) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": []}, ValueError, "methods must have at least one name"),
        ({"ratios": [2.0, 1.0, 4.0]}, ValueError, "ratios must be 1-D and ascending"),
        ({"ratios": [0.5, 1.0, 4.0]}, ValueError, r"ratios must be in \[1, inf\), got 0.5"),
        ({"shares": SHARES.T[:2]}, ValueError, r"shares must hold .* shape \(3, 3\), got"),
        ({"shares": SHARES[:, ::-1]}, ValueError, "shares must not fall along the ratios"),
        ({"areas": [0.5]}, ValueError, "areas must hold one for each method"),
        ({"highlight": ["none"]}, ValueError, "highlight must have names of the methods"),
        ({"highlight": "fast"}, TypeError, "highlight must be a list of names"),
    ],
)
def test_mistakes_are_sentences(arguments, error, message):
    with pytest.raises(error, match=message):
        profile(**{"methods": METHODS, "ratios": RATIOS, "shares": SHARES, **arguments})
