"""The trade-off between speed and noise, against closed forms and a grid."""

from functools import partial

import numpy as np
import optax
import pytest

from momentax import theory
from momentax.theory import TradeOff, trade_off
from tests.theory.systems import ball_grid, ball_noise, ball_rate, heavy_ball


def test_no_setting_is_better_than_the_curve():
    curve = trade_off(heavy_ball, 0.01, 1.0, gradient_variance=4.0, count=5)
    assert isinstance(curve, TradeOff)
    assert curve.rate.shape == curve.noise_floor.shape == (5,)
    assert np.all(np.diff(curve.rate) > 0)
    assert np.all(np.diff(curve.noise_floor) < 0)
    fastest = theory.optimal_heavy_ball(0.01, 1.0).rate
    np.testing.assert_allclose(curve.rate[0], fastest, rtol=1e-9)
    np.testing.assert_allclose(1 - curve.rate[-1], (1 - fastest) / 100, rtol=1e-6)
    α, β = curve.hyperparameters["learning_rate"], curve.hyperparameters["beta"]
    np.testing.assert_allclose(ball_noise(α, β, 0.01, 1.0) * 4, curve.noise_floor, rtol=1e-9)
    np.testing.assert_allclose(ball_rate(α, β, 0.01, 1.0), curve.rate, rtol=1e-6)
    # Along it the roots at μ meet: no other setting is as fast and less noisy.
    np.testing.assert_allclose(α[1:], (1 - curve.rate[1:]) ** 2 / 0.01, rtol=1e-5)
    for rate, noise in zip(curve.rate[1:4], curve.noise_floor[1:4], strict=True):
        assert noise <= 4 * ball_grid(0.01, 1.0, rate)


def test_the_curve_ends_at_max_rate_or_where_slower_is_not_less_noisy():
    descent = partial(heavy_ball, beta=0.0)
    curve = trade_off(descent, 0.1, 1.0, count=3, max_rate=0.99)
    α = curve.hyperparameters["learning_rate"]
    np.testing.assert_allclose(α[1:], (1 - curve.rate[1:]) / 0.1, rtol=1e-6)
    np.testing.assert_allclose(curve.rate[[0, -1]], (9 / 11, 0.99), rtol=1e-7)
    short = trade_off(descent, 0.1, 1.0, count=5, bounds={"learning_rate": (0.5, 2.0)})
    np.testing.assert_allclose(short.rate[-1], 0.95, rtol=1e-12)
    assert len(short.rate) == len(short.hyperparameters["learning_rate"]) < 5


def test_errors_of_bad_arguments():
    with pytest.raises(ValueError, match=r"^no setting within the bounds converges"):
        trade_off(optax.sgd, 0.5, 1.0, bounds={"learning_rate": (3.0, 5.0)})
    with pytest.raises(ValueError, match=r"^count must be a whole number, at least 2"):
        trade_off(optax.sgd, 0.5, 1.0, count=1)
