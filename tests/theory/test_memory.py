"""How long a velocity remembers."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentax import heavy_ball, theory


def test_weights_are_the_response_of_the_velocity_to_one_gradient():
    tx = heavy_ball(0.8)
    state, left = tx.init(jnp.zeros(())), []
    for g in [1.0] + [0.0] * 9:
        d, state = tx.update(jnp.float32(g), state)
        left.append(d)
    np.testing.assert_allclose(theory.weights(0.8, 10), left, rtol=1e-5)


@given(β=st.floats(0.01, 0.999), mass=st.floats(0.01, 0.99))
def test_half_life_and_window_solve_their_equations(β, mass):
    np.testing.assert_allclose(β ** theory.half_life(β), 0.5, rtol=1e-12)
    np.testing.assert_allclose(1 - β ** theory.effective_window(β, mass), mass, rtol=1e-9)
    whole = int(np.ceil(theory.effective_window(β, mass)))
    held = theory.weights(β, whole).sum() * (1 - β)
    assert held >= mass - 1e-12
    assert theory.weights(β, max(whole - 1, 1)).sum() * (1 - β) < mass or whole == 1


def test_known_values_and_limits():
    np.testing.assert_allclose(theory.half_life([0.5, 0.9]), [1, 6.578813], rtol=1e-6)
    np.testing.assert_allclose(theory.effective_window(0.9), 21.854345, rtol=1e-7)
    assert theory.half_life(0.0) == 0
    assert theory.effective_window(0.0) == 0
    assert theory.effective_window(0.9, 0.0) == 0
    np.testing.assert_allclose(theory.effective_learning_rate(0.1, [0.0, 0.9]), [0.1, 1.0])


def test_shapes_broadcast():
    β = np.full((2, 1), 0.5)
    assert theory.weights(β, 4).shape == (2, 1, 4)
    assert theory.effective_window(β, [0.1, 0.2, 0.3]).shape == (2, 3)
    assert theory.effective_learning_rate([0.1, 0.2, 0.3], β).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: theory.half_life(1.0), r"beta must be in \[0, 1\), got 1.0"),
        (lambda: theory.effective_window(0.9, 1.0), r"mass must be in \[0, 1\), got 1.0"),
        (lambda: theory.weights([0.5, -0.1], 3), r"beta must be in \[0, 1\), got -0.1"),
        (lambda: theory.weights(0.5, 0), "steps must be a whole number, at least 1, got 0"),
        (lambda: theory.effective_learning_rate(0, 0.9), r"learning_rate must be in \(0, inf\)"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()
