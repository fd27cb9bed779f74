"""Distributions of the values on an axis, against their closed forms."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

import momentax
from momentax import grid
from momentax.sweeps import (
    Distribution,
    log_uniform,
    momentum_axis,
    momentum_uniform,
    uniform,
)


@given(
    st.sampled_from(["linear", "log", "momentum"]),
    st.floats(0, 0.9999),
    st.floats(1e-6, 1),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_quantiles_stay_inside_the_bounds_and_reach_them(scale, low, width, shares):
    low = max(low, 1e-30) if scale == "log" else low
    inside = Distribution(low, low + (0.99999 - low) * width, scale)
    drawn = inside.quantile(np.array([0.0, *shares, 1.0]))
    assert ((drawn >= inside.low) & (drawn <= inside.high)).all()
    np.testing.assert_allclose(drawn[[0, -1]], [inside.low, inside.high], rtol=1e-12, atol=1e-15)
    order = np.argsort(shares, kind="stable")
    assert (np.diff(drawn[1:-1][order]) >= 0).all()
    # Rounding to float32 keeps the values between the rounded bounds.
    axis = grid(beta=np.unique(drawn.astype(np.float32))).axes["beta"]
    assert (axis >= np.float32(inside.low)).all()
    assert (axis <= np.float32(inside.high)).all()


@given(st.floats(0, 0.99), st.floats(1e-6, 1), st.integers(2, 30))
def test_a_momentum_axis_is_its_closed_form(low, width, count):
    high = low + (1 - low) * width * 0.99999
    axis = momentum_axis(low, high, count)
    assert axis.dtype == np.float64
    assert axis[0] == low
    assert axis[-1] == high
    assert (np.diff(axis) > 0).all()
    part = np.arange(count) / (count - 1)
    expected = (1 - low) ** (1 - part) * (1 - high) ** part
    np.testing.assert_allclose(1 - axis, expected, rtol=1e-9)


def test_a_momentum_axis_is_an_axis_of_a_grid():
    axis = momentum_axis(0.9, 0.999, 3)
    np.testing.assert_allclose(axis, [0.9, 0.99, 0.999], rtol=1e-15)
    assert len(grid(beta=axis)) == 3
    for low, high in np.sort(np.random.default_rng(0).uniform(0, 1, (500, 2)), axis=1):
        axis = momentum_axis(low, high, 2)  # Exact, although logarithms round.
        np.testing.assert_array_equal(axis, [low, high])


def test_distributions_are_values():
    assert uniform(0, 1) == Distribution(0.0, 1.0, "linear")
    assert log_uniform(0.1, 1).scale == "log"
    assert momentum_uniform(0, 0.5).scale == "momentum"
    assert hash(uniform(0, 1)) == hash(uniform(0, 1))
    assert momentax.sweeps.uniform(0, 1) != log_uniform(0.5, 1)
