"""bytes_per_parameter on states that are not stored; test_stored.py has the others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax.storage import bytes_per_parameter

PARAMS = {"large": jnp.zeros((2, 2500)), "small": jnp.zeros(7)}


def test_all_arrays_of_a_state_count():
    assert bytes_per_parameter(optax.adam(0.1).init(PARAMS), params=PARAMS) == pytest.approx(
        8, abs=0.01
    )
    assert bytes_per_parameter(optax.sgd(0.1).init(PARAMS), params=PARAMS) == 0


def test_without_parameters_the_entries_are_those_of_the_velocity():
    state = momentax.aggregated().init(PARAMS)  # Three velocities.
    assert bytes_per_parameter(state) == pytest.approx(4, abs=0.01)
    assert bytes_per_parameter(state, params=PARAMS) == pytest.approx(12, abs=0.01)


@pytest.mark.parametrize("given", ["no velocity", "no entries"])
def test_a_state_without_entries_is_refused(given):
    state, params = {
        "no velocity": (optax.sgd(0.1).init(PARAMS), None),
        "no entries": (momentax.aggregated().init(PARAMS), {}),
    }[given]
    with pytest.raises(ValueError, match="give params, the parameters"):
        bytes_per_parameter(state, params=params)


def test_params_that_do_not_fit_the_state_are_refused():
    state = momentax.heavy_ball().init({"w": jnp.ones(3)})
    with pytest.raises(ValueError, match="params do not fit the velocity"):
        bytes_per_parameter(state, params={"b": jnp.ones(3)})


def test_what_is_no_tree_of_arrays_is_refused():
    state = momentax.heavy_ball().init(PARAMS)
    for bad in ("0.9", 0.9, lambda: 0, [object()], {"w": "x"}):
        with pytest.raises(TypeError, match="state must be an optimizer state, as "):
            bytes_per_parameter(bad)
        for given in (state, optax.sgd(0.1).init(PARAMS)):
            with pytest.raises(TypeError, match="params must be the parameters that the state"):
                bytes_per_parameter(given, params=bad)
    with pytest.raises(TypeError, match=r"pass its state, tx\.init\(params\)"):
        bytes_per_parameter(momentax.sgd(0.1))


def test_of_a_module_only_the_arrays_count():
    module = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    state = momentax.heavy_ball().init(eqx.filter(module, eqx.is_inexact_array))
    assert bytes_per_parameter(state, params=module) == bytes_per_parameter(state)
    with pytest.raises(TypeError, match="params must be the parameters"):
        bytes_per_parameter(state, params={"w": "x"})
