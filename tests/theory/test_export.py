"""Exports: python-control sees the poles and the steps of the transformation that runs."""

import sys

import control
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory import StateSpace
from momentax.theory._reading._steps import coefficients
from tests.theory.systems import read

NESTEROV = sgd(0.1, momentax.nesterov(0.8))
LOOKAHEAD = optax.lookahead(optax.sgd(0.1, momentum=0.5), 3, 0.5)


@pytest.mark.parametrize(
    ("tx", "period"),
    [(NESTEROV, 1), (optax.chain(optax.ema(0.9), optax.scale(-0.2)), 1), (LOOKAHEAD, 3)],
)
def test_the_largest_pole_of_the_loop_is_the_rate(tx, period):
    space = read(tx)
    system = theory.export(space, to="control")
    assert (system.ninputs, system.noutputs, system.dt) == (period, period, 1)
    for λ in (0.5, 3.0, 40.0):
        loop = control.feedback(system, λ * np.eye(period), sign=1)
        np.testing.assert_allclose(np.abs(loop.poles()).max(), theory.rate(space, λ, λ), rtol=1e-9)


def test_the_response_is_the_parameters_of_a_run(x64):
    """The output k is the parameter before the gradient k arrives."""
    gradients = np.random.default_rng(0).normal(size=8)
    tx, θ = sgd(0.1, momentax.quasi_hyperbolic(0.9, 0.7), weight_decay=0.1), jnp.zeros(())
    state, path = tx.init(θ), []
    for g in gradients:
        path.append(float(θ))
        updates, state = tx.update(jnp.asarray(g), state, θ)
        θ = optax.apply_updates(θ, updates)
    system = theory.export(tx, to="control")
    response = control.forced_response(system, np.arange(8), gradients)
    np.testing.assert_allclose(response.outputs, path, rtol=1e-6, atol=1e-9)


def test_a_state_space_read_at_a_step_is_exported_as_it_is():
    space = theory.state_space(optax.sgd(optax.linear_schedule(0.1, 0.2, 10)), step=5)
    system = theory.export(space, to="control")
    np.testing.assert_allclose(system.B, [[-0.15]], rtol=1e-6)


def test_the_coefficients_of_the_first_steps_are_those_of_a_schedule():
    learning_rate = optax.linear_schedule(0.1, 0.5, 4)
    rows = coefficients(optax.sgd(learning_rate, momentum=0.5), 3)
    expected = np.eye(1, 4).repeat(4, axis=0)
    for t in range(1, 4):
        for s in range(1, t + 1):  # Gradient s enters step k with the weight βᵏ⁻ˢ.
            steps = range(s, t + 1)
            expected[t, s] = -sum(float(learning_rate(k - 1)) * 0.5 ** (k - s) for k in steps)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


@pytest.mark.parametrize("tx", [NESTEROV, LOOKAHEAD], ids=["nesterov", "lookahead"])
def test_the_coefficients_of_a_system_are_those_of_its_transformation(tx):
    rows = coefficients(read(tx), 4)
    np.testing.assert_allclose(rows, coefficients(tx, 4), rtol=1e-6, atol=1e-9)


def test_what_is_linear_at_first_only_has_no_coefficients():
    """The first two steps are those of descent; then the sign of the gradient decides."""

    def update(updates, state, params=None):
        return {
            k: -0.1 * jnp.where(state < 2, g, jnp.sign(g)) for k, g in updates.items()
        }, state + 1

    tx = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    with pytest.raises(ValueError, match="tx is not linear over its first 4 steps"):
        coefficients(tx, 4)


NEVER_SETTLES = optax.sgd(lambda count: 0.1 / (1 + jnp.asarray(count, jnp.float32)) ** 0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"to": "matlab"}, ValueError, "to must be one of 'control', 'autolyap', 'pepit'"),
        ({"to": "control", "mu": 1.0}, ValueError, "mu describes a problem of PEPit"),
        ({"to": "autolyap", "steps": 3}, ValueError, 'left out with to="autolyap", got 3'),
        ({"to": "pepit"}, TypeError, "mu and L are missing"),
        ({"to": "pepit", "mu": 1.0}, TypeError, "L is missing"),
        ({"to": "pepit", "mu": 2.0, "L": 1.0}, ValueError, "mu must not exceed L"),
        ({"to": "pepit", "mu": 1.0, "L": 1.0}, ValueError, "mu must be below L"),
        ({"to": "pepit", "mu": 0.1, "L": 1.0, "steps": 0}, ValueError, "steps must be a whole"),
        ({"to": "pepit", "mu": 0.1, "L": 1.0, "measure": "x"}, ValueError, "measure must be one"),
        ({"tx": optax.adam(0.1), "to": "control"}, ValueError, "tx is not linear"),
        ({"tx": NEVER_SETTLES, "to": "control"}, ValueError, "give the step to freeze them at"),
        ({"tx": optax.sgd, "to": "control"}, TypeError, r"write optax.sgd\(...\)"),
    ],
)
def test_a_mistake_is_answered_by_a_sentence(arguments, error, text):
    space = StateSpace(np.eye(1), -np.ones(1), np.ones(1))
    with pytest.raises(error, match=text):
        theory.export(**({"tx": space} | arguments))


@pytest.mark.parametrize(
    ("to", "module", "pip"),
    [
        ("control", "control", "control"),
        ("autolyap", "autolyap", "autolyap"),
        ("pepit", "PEPit", "PEPit"),
    ],
)
def test_a_missing_package_is_named(to, module, pip, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    more = {"mu": 0.1, "L": 1.0} if to == "pepit" else {}
    with pytest.raises(ImportError, match=f"not installed; pip install {pip}$"):
        theory.export(NESTEROV, to=to, **more)
