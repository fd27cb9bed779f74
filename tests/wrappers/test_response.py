"""The age and the stability edge that a monitor reads from single entries."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import measurements, monitor, sgd, theory
from momentax._wrappers._response import find_responses
from tests.contracts.harness import build, every_transformation


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing mixes dtypes.
        yield


EDGES = {
    "sgd": (optax.sgd(0.1), 0),
    "nesterov": (sgd(0.1, momentax.nesterov(0.9)), 9),
    "decayed": (sgd(0.1, weight_decay=0.1), 9),
    "parameter units": (sgd(0.1, velocity_units="parameter"), 9),
    "average": (sgd(0.1, momentax.average(0.9, debias=False)), 9),
    "aggregated": (sgd(0.1, momentax.aggregated((0.5, 0.9))), (1 / 0.5**2 * 0.5 + 90) / (2 + 10)),
    "injected": (optax.inject_hyperparams(optax.sgd)(0.1, 0.9), 9),
    "adam": (optax.adam(0.1), 9),
    "sign": (sgd(0.1, momentax.lion()), 99),
}


@pytest.mark.parametrize("name", EDGES)
def test_age_and_edge_are_those_of_the_theory(name):
    tx, age = EDGES[name]
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(())}
    watched = monitor(tx, curvature=True)
    _, state = jax.jit(watched.update)(params, watched.init(params), params)
    measured = measurements(state)
    if age:
        assert measured["age"] == pytest.approx(age, rel=1e-4)
    else:
        assert not {"age", "cos", "angle", "gain", "velocity_norm"} & set(measured)
    try:
        expected = theory.sharpness_limit(tx)
    except ValueError:
        assert "edge" not in measured
    else:
        assert measured["edge"] == pytest.approx(expected, rel=1e-4)


def test_the_edge_is_that_of_the_present_learning_rate_and_beta():
    α, β = (lambda t: 0.1 / (1.0 + t)), (lambda t: 0.5 + 0.1 * t)
    tx = monitor(sgd(α, momentax.heavy_ball(β)), curvature=True, history=5)
    state = tx.init(jnp.ones(3))
    state = jax.lax.scan(lambda s, g: (tx.update(g, s)[1], None), state, jnp.ones((5, 3)))[0]
    t = np.arange(5)
    betas = np.asarray([β(jnp.int32(i)) for i in t])
    history = measurements(state).history
    np.testing.assert_allclose(history["edge"], 2 * (1 + betas) * (1 + t) / 0.1, rtol=1e-4)
    np.testing.assert_allclose(history["age"], betas / (1 - betas), rtol=1e-3)


@pytest.mark.parametrize("per", ["model", "leaf"])
def test_leaves_without_a_velocity_and_frozen_leaves_have_their_own_edges(per):
    params, labels = {"w": jnp.ones(2), "b": jnp.ones(2)}, {"w": "a", "b": "c"}
    momentum = sgd(0.02, momentax.heavy_ball(0.9))
    for other, edge in ((optax.sgd(0.005), 400), (optax.set_to_zero(), np.inf)):
        tx = monitor(optax.partition({"a": momentum, "c": other}, labels), per=per, curvature=True)
        _, state = tx.update(params, tx.init(params), params)
        measured = measurements(state)
        if per == "model":
            assert measured["edge"] == pytest.approx(190, rel=1e-4)
            assert measured["age"] == pytest.approx(9, rel=1e-4)
        else:
            assert measured["w/edge"] == pytest.approx(190, rel=1e-4)
            assert measured["b/edge"] == pytest.approx(edge, rel=1e-4)
            assert measured["w/age"] == pytest.approx(9, rel=1e-4)
            assert "b/age" not in measured


def test_every_curvature_is_stable_at_a_learning_rate_of_0():
    tx = monitor(sgd(optax.linear_schedule(0.0, 0.1, 2)), curvature=True, history=3)
    params = jnp.ones(3)
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(params, state, params)
    np.testing.assert_allclose(measurements(state).history["edge"], [np.inf, 76, 38], rtol=1e-4)


# Cases whose update refuses single entries, each with its reason.
WITHOUT_RESPONSES = dict.fromkeys(
    ("hyperball", "muon"), "it is chosen by the axes of a parameter, which single entries have not"
)


@every_transformation
def test_single_entries_of_every_transformation_have_responses(name):
    tx, params = build(name), {"matrix": jnp.ones((2, 3)), "number": jnp.ones(())}
    found = jax.eval_shape(lambda: find_responses(tx, tx.init(params), params, {}))
    assert (found is None) == (name in WITHOUT_RESPONSES)
