"""The PID controller: its derivative in closed form, and the kernel as its limit."""

import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import proportional_integral_derivative
from momentax.states import ProportionalIntegralDerivativeState
from tests.methods.runs import draw, follow


@pytest.mark.usefixtures("x64")
def test_the_derivative_is_the_gradient_minus_the_previous_average():
    g, β = draw(40, 3), 0.9
    tx = proportional_integral_derivative(β)
    state, integral = tx.init(g[0]), np.zeros(3)
    for t, each in enumerate(g):
        _, state = tx.update(each, state)
        expected = (1 - β) * (each - (1 - β) * integral) - (1 - β) * β**t * g[0]
        np.testing.assert_allclose(state.derivative, expected, atol=1e-14)
        integral = β * integral + each
    assert isinstance(state, ProportionalIntegralDerivativeState)
    np.testing.assert_allclose(state.rest + state.derivative, g[-1], atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_after_a_first_gradient_of_zero_it_is_an_instance_of_the_kernel():
    β, kI, kD = 0.8, 3.0, 7.0
    g = draw(300, 3)
    g[0] = 0
    ours, _ = follow(proportional_integral_derivative(β, kI, kD), g)
    a, b = 1 + kD * (1 - β) / β, kI - kD * (1 - β) ** 2 / β
    row, _ = follow(momentax.linear(a, b, β), g)
    np.testing.assert_allclose(ours, row, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_without_gains_it_is_plain_descent_and_without_the_derivative_an_instance_of_the_kernel():
    g = draw(40, 3)
    np.testing.assert_allclose(follow(proportional_integral_derivative(0.9, 0, 0), g)[0], g)
    row, _ = follow(momentax.linear(1.0, 5.0, 0.9), g)
    np.testing.assert_allclose(follow(proportional_integral_derivative(0.9, 5, 0), g)[0], row)


def test_a_missing_gradient_keeps_the_previous_one():
    tx = proportional_integral_derivative(0.5, 0.0, 1.0)
    state = tx.init({"a": jnp.ones(1)})
    for g in (jnp.full(1, 3.0), None):
        _, state = tx.update({"a": g}, state)
    d, _ = tx.update({"a": jnp.full(1, 5.0)}, state)
    np.testing.assert_allclose(d["a"], 5 + 0.5 * (5 - 3))


def test_the_velocity_is_the_integral():
    _, state = follow(proportional_integral_derivative(), np.ones((3, 2), np.float32))
    np.testing.assert_allclose(momentax.velocity(state), 1 + 0.9 + 0.81, rtol=1e-6)
