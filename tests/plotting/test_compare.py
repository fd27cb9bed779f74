"""Dots that were measured over lines that were predicted, and figures of several axes."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from momentax.plotting import compare, panels

X = np.arange(1, 11)


def test_dots_and_lines_lie_at_their_values_and_share_the_colour_of_their_name():
    fine = np.linspace(1, 10, 50)
    measured = {"a": 0.5**X, "b": 0.9**X}
    ax = compare(X, measured, {"b": 0.9**fine, "a": 0.5**fine}, at=fine)
    *dots, line_b, line_a = ax.lines
    for each, line, base, name in zip(dots, (line_a, line_b), (0.5, 0.9), "ab", strict=True):
        np.testing.assert_array_equal(each.get_xdata(), X)
        np.testing.assert_allclose(each.get_ydata(), base**X)
        np.testing.assert_allclose(line.get_ydata(), base**fine)
        assert each.get_linestyle() == "None"
        assert each.get_marker() not in ("", "None")
        assert line.get_linestyle() == "-"
        assert to_rgba(each.get_color()) == to_rgba(line.get_color())
        assert each.get_label() == name
    assert to_rgba(line_a.get_color()) != to_rgba(line_b.get_color())
    assert dots[0].get_marker() != dots[1].get_marker()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_yscale() == "log"  # A factor of 900.
    assert ax.figure.get_dpi() >= 144


def test_a_prediction_without_a_measurement_is_dashed_and_named():
    ax = compare(X, {"a": X}, {"a": X, "wrong": 2 * X})
    right, wrong = ax.lines[1:]
    assert (right.get_linestyle(), wrong.get_linestyle()) == ("-", "--")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "wrong"]
    alone = compare(X, {}, {"a": X, "b": 2 * X}).lines
    assert [line.get_linestyle() for line in alone] == ["-", "--"]


def test_log_scales_have_plain_numbers_near_1_and_powers_of_ten_beyond():
    def labels(values, limits=None):
        ax = compare(X, {"a": values}, logy=True)
        if limits:
            ax.set_ylim(limits)
        ax.figure.canvas.draw()
        low, high = ax.get_ylim()
        ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
        shown = {tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high}
        return shown - {""}

    assert labels(np.geomspace(0.15, 3, 10)) == {"0.2", "0.5", "1", "2"}
    assert labels(np.geomspace(0.015, 30, 10)) == {"0.1", "1", "10"}
    far = labels(np.geomspace(0.15, 3, 10), limits=(3e-9, 3))
    assert all("10^" in label for label in far)


@pytest.mark.parametrize("logx", [False, True])
def test_few_of_many_dots_are_drawn_over_the_whole_axis(logx):
    x = np.arange(5000)
    ax = compare(x, {"a": x}, logx=logx)
    (dots,) = ax.lines
    drawn = dots.get_xdata()
    np.testing.assert_array_equal(dots.get_ydata(), drawn)
    assert 20 < len(drawn) <= 40
    assert drawn[0] == (1 if logx else 0)
    assert drawn[-1] > 4800
    assert ax.get_xscale() == ("log" if logx else "linear")
    places = np.log(drawn[drawn > 20]) if logx else drawn
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0], rtol=0.3)


def test_values_that_are_not_finite_leave_gaps():
    ax = compare(X, {"a": np.where(X < 9, X, np.inf)}, {"a": np.where(X < 9, X, np.nan)})
    for line in ax.lines:
        np.testing.assert_array_equal(np.isfinite(line.get_ydata()), X < 9)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match=r"measured\['a'\] must have a value for each of the 10"):
        compare(X, {"a": X[1:]})
    with pytest.raises(ValueError, match=r"predicted\['a'\] .* of the 3 in at, got shape \(10,\)"):
        compare(X, {"a": X}, {"a": X}, at=[1, 2, 3])
    with pytest.raises(ValueError, match="no x is positive"):
        compare(-X, {"a": X}, logx=True)
    with pytest.raises(ValueError, match="measured must name at least one measurement"):
        compare(X, {})
    with pytest.raises(TypeError, match="predicted must be a mapping from names"):
        compare(X, {"a": X}, X)


def test_panels_are_the_axes_of_one_figure_row_by_row():
    axes = panels(3, 2, width=4, height=3, sharey=True)
    figure = axes[0].figure
    assert list(axes) == figure.axes
    assert tuple(figure.get_size_inches()) == (12, 6)
    assert figure.get_dpi() >= 144
    figure.canvas.draw()
    positions = [ax.get_position() for ax in axes]
    assert positions[1].x0 > positions[0].x0
    assert positions[3].y0 < positions[0].y0
    axes[0].set_ylim(0, 7)
    assert axes[5].get_ylim() == (0, 7)
    assert compare(X, {"a": X}, ax=axes[4]) is axes[4]
