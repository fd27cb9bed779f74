"""The lines of the explorer's charts: they are cut where they leave a chart, and nowhere else."""

import numpy as np
import pytest

from tests.explorer.engine import Formulas

# A path that remembers where it goes.
PATH = """
globalThis.Path2D = class {
  parts = [];
  moveTo(x, y) { this.at = [x, y]; }
  lineTo(x, y) { this.parts.push([...this.at, x, y]); this.at = [x, y]; }
};
const plain = (value) => value;
const drawn = (box, xs, ys, until) =>
  pathThrough(box, plain, plain, xs, ys.map(Number), until).parts;
"""
BOX = {"left": 50.0, "right": 400.0, "top": 20.0, "bottom": 200.0}
BEYOND = 8.0  # Half of the widest line, and more.
LEAST, MOST = np.array([42.0, 12.0]), np.array([408.0, 208.0])


@pytest.fixture(scope="module")
def drawn():
    engine = Formulas(("charts.js",))
    engine.engine.eval(PATH)

    def drawn(xs, ys, until=10**9):
        # JSON has no word for what is not finite.
        texts = [str(y).replace("inf", "Infinity").replace("nan", "NaN") for y in ys]
        found = engine("drawn", BOX, [float(x) for x in xs], texts, until)
        return np.array(found, float).reshape(-1, 4)

    return drawn


def along(parts, count=400):
    """Points along lines [x0, y0, x1, y1]."""
    share = np.linspace(0, 1, count)[:, None, None]
    return (parts[:, :2] + share * (parts[:, 2:] - parts[:, :2])).reshape(-1, 2)


def distance(points, parts):
    """The distance of each point to the nearest of some lines."""
    start, step = parts[:, :2], parts[:, 2:] - parts[:, :2]
    length = np.maximum((step**2).sum(1), 1e-300)
    share = np.clip(((points[:, None] - start) * step).sum(2) / length, 0, 1)
    return np.linalg.norm(points[:, None] - start - share[:, :, None] * step, axis=2).min(1)


@pytest.mark.parametrize("reach", [1.0, 3.0, 30.0])
def test_a_line_is_drawn_where_it_is_within_the_chart(drawn, reach):
    rng = np.random.default_rng(0)
    rounding = 1e-6 * reach
    for _ in range(8):
        xs, ys = rng.uniform(-1, 1, (2, 12)) * reach * 100 + [[225], [110]]
        whole = np.column_stack([xs[:-1], ys[:-1], xs[1:], ys[1:]])
        parts = drawn(xs, ys)
        ends = parts.reshape(-1, 2)
        assert np.all((ends >= LEAST - rounding) & (ends <= MOST + rounding))
        points = along(whole, 1500)
        seen = points[np.all((points > LEAST) & (points < MOST), axis=1)]
        assert len(parts) or not len(seen)
        if len(parts):
            assert np.all(distance(along(parts), whole) < rounding)
            assert np.all(distance(seen, parts) < rounding)


def test_a_line_within_the_chart_is_drawn_as_it_is(drawn):
    xs, ys = np.linspace(60, 390, 9), 100 + 80 * np.sin(np.arange(9.0))
    whole = np.column_stack([xs[:-1], ys[:-1], xs[1:], ys[1:]])
    np.testing.assert_array_equal(drawn(xs, ys), whole)
    np.testing.assert_array_equal(drawn(xs, ys, until=4), whole[:3])


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
def test_a_line_has_gaps_where_a_value_is_not_finite(drawn, gap):
    parts = drawn([60, 100, 140, 180, 220], [30, 40, gap, 50, 60])
    np.testing.assert_array_equal(parts, [[60, 30, 100, 40], [180, 50, 220, 60]])
    assert not len(drawn([60, 100, 140], [30, gap, 50]))


def test_a_line_that_leaves_the_chart_ends_soon_after_it(drawn):
    parts = drawn([100, 100, 300], [100, 1e12, 100])
    np.testing.assert_allclose(parts, [[100, 100, 100, 208], [300, 208, 300, 100]], atol=1e-6)
