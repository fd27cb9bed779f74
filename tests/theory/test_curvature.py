"""The record of momentax.curvature in the place of mu and L, in all of the theory."""

import numpy as np
import optax
import pytest

from momentax import theory
from tests.theory.systems import Record, linear

SYSTEM = linear(0.05, 0.0, 1.0, 0.5)
CALLS = {
    "rate": lambda *range: theory.rate(SYSTEM, *range),
    "analyze": lambda *range: theory.analyze(SYSTEM, *range).rate,
    "advise": lambda *range: theory.advise(SYSTEM, *range, certified=False).sentences,
    "certify": lambda *range: theory.certify(SYSTEM, *range).rate,
    "tune": lambda *range: theory.tune(optax.sgd, *range).hyperparameters,
    "trade_off": lambda *range: list(theory.trade_off(optax.sgd, *range, count=2).rate),
    "optimal_gradient_descent": lambda *range: theory.optimal_gradient_descent(*range),
    "optimal_heavy_ball": lambda *range: theory.optimal_heavy_ball(*range),
    "optimal_nesterov": lambda *range: theory.optimal_nesterov(*range),
    "triple_momentum": lambda *range: theory.triple_momentum(*range),
    "robust_momentum": lambda *range: theory.robust_momentum(*range, rate=0.8),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_record_replaces_both_curvatures(name):
    call = CALLS[name]
    assert call(Record(1.0, 10.0)) == call(1.0, 10.0)
    with pytest.raises(TypeError, match="L must be left out where mu is a Curvature"):
        call(Record(1.0, 10.0), 10.0)
    with pytest.raises(TypeError, match="L is missing"):
        call(1.0)


def test_records_of_arrays_broadcast():
    tuning = theory.optimal_heavy_ball(Record(np.ones((2, 1)), np.array([4.0, 9.0])))
    assert tuning.rate.shape == (2, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda λ: theory.rate_at(SYSTEM, λ),
        lambda λ: theory.closed_loop(SYSTEM, λ),
        lambda λ: theory.damping(SYSTEM, λ),
        lambda λ: theory.escape_rate(SYSTEM, λ),
        lambda λ: theory.stationary_variance(SYSTEM, λ, 1.0),
        lambda λ: theory.noise_floor(SYSTEM, λ, 1.0),
        lambda λ: theory.largest_learning_rate(optax.sgd, λ),
        lambda λ: theory.spectral_radius(0.1, λ, 0.9),
        lambda λ: theory.oscillator(0.1, λ, 0.9),
    ],
)
def test_a_record_in_place_of_one_eigenvalue_is_refused(call):
    with pytest.raises(TypeError, match=r"got a Curvature; give its \.L \(or its \.mu\)"):
        call(Record(1.0, 10.0))
