"""Arguments whose shapes do not fit each other are named in the error."""

from typing import Any

import numpy as np
import optax
import pytest

from momentax import theory
from momentax.theory import StateSpace
from tests.theory.systems import Record, linear

SYSTEM = linear(0.05, 0.0, 1.0, 0.5)
TWO, THREE = np.array([0.1, 0.2]), np.array([0.1, 0.2, 0.3])
CALLS = {
    "effective_window": (lambda: theory.effective_window(TWO, THREE), "beta", "mass"),
    "effective_learning_rate": (
        lambda: theory.effective_learning_rate(TWO, THREE),
        "learning_rate",
        "beta",
    ),
    "spectral_radius": (lambda: theory.spectral_radius(TWO, THREE, 0.9), "rate", "curvature"),
    "stability_edge": (
        lambda: theory.stability_edge(TWO, gradient_weight=THREE),
        "beta",
        "gradient_weight",
    ),
    "quadratic_path": (
        lambda: theory.quadratic_path([[1.0]], [1.0], 2, TWO, THREE),
        "learning_rate",
        "beta",
    ),
    "oscillator": (lambda: theory.oscillator(TWO, 1.0, THREE), "learning_rate", "beta"),
    "oscillator_path": (lambda: theory.oscillator_path(TWO, 1.0, 0.9, THREE, 2), "rate", "start"),
    "from_oscillator": (lambda: theory.from_oscillator(TWO, THREE, 0.1), "mass", "friction"),
    "optimal_heavy_ball": (lambda: theory.optimal_heavy_ball(TWO, THREE), "mu", "L"),
    "triple_momentum": (lambda: theory.triple_momentum(TWO, 9 * THREE), "mu", "L"),
    "robust_momentum": (lambda: theory.robust_momentum(TWO, 9.0, THREE), "L", "rate"),
    "stationary_variance": (
        lambda: theory.stationary_variance(SYSTEM, TWO, THREE),
        "curvature",
        "gradient_variance",
    ),
    "noise_floor": (
        lambda: theory.noise_floor(SYSTEM, TWO, THREE),
        "curvatures",
        "gradient_variance",
    ),
    "largest_learning_rate": (
        lambda: theory.largest_learning_rate(optax.sgd, TWO, momentum=THREE),
        "curvature",
        "momentum",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_do_not_broadcast_are_named(name):
    call, first, second = CALLS[name]
    with pytest.raises(
        ValueError, match=rf"broadcast, got .*{first} of shape \(2,\), .*{second} of shape \(3,\)"
    ):
        call()


@pytest.mark.parametrize(
    ("system", "error", "text"),
    [
        (StateSpace(np.eye(1), np.ones(2), np.ones(1)), ValueError, "shapes .* got"),
        (StateSpace(np.ones(()), *np.ones((2, 1))), ValueError, r"got \(\), \(1,\) and \(1,\)"),
        (StateSpace(np.eye(2), *np.ones((2, 2, 3))), ValueError, "with a period"),
        (StateSpace(*np.array("abc").reshape(1, 1).repeat(3, 0)), TypeError, "A of the StateSpace"),
        (StateSpace(np.eye(1), np.full(1, np.nan), np.ones(1)), ValueError, "B of the StateSpace"),
        (np.eye(2), TypeError, "tx must be a gradient transformation .* or its StateSpace, got"),
    ],
)
def test_an_invalid_system_is_refused(system, error, text):
    with pytest.raises(error, match=text):
        theory.closed_loop(system, 1.0)


def test_a_system_is_not_read_again():
    system: Any = SYSTEM
    with pytest.raises(TypeError, match="tx is already a StateSpace; use it directly"):
        theory.state_space(system)


def test_a_record_without_a_positive_curvature_is_named():
    with pytest.raises(ValueError, match=r"mu is a Curvature without a positive .* L=0.0: the"):
        theory.advise(SYSTEM, Record(0.0, 0.0), certified=False)
    with pytest.raises(ValueError, match=r"L must be in \(0, inf\), got 0.0"):
        theory.advise(SYSTEM, 0.0, 0.0, certified=False)
