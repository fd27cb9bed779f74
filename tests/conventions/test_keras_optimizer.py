"""from_keras against the steps of keras.optimizers.SGD that record_keras.py recorded."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.conventions import from_keras
from tests.conventions import trajectories
from tests.conventions.trajectories import KERAS, RECORDED_STEPS, as_schedule, deviation

RECORDED = trajectories.read("keras.json")
PARAMS = {"w": jnp.ones((2, 3)), "b": None}
# What keras.optimizers.SGD(0.1, momentum=0.9).get_config() returns.
CONFIG = {
    "name": "SGD",
    "learning_rate": 0.1,
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "momentum": 0.9,
    "nesterov": False,
}


@pytest.fixture(scope="module")
def paths():
    """The path of from_keras in each case, and of a velocity in gradient units."""
    with jax.enable_x64(True):
        optimizers = {
            name: from_keras(**{key: as_schedule(value) for key, value in options.items()})
            for name, options in KERAS.items()
        }
        rate = as_schedule(trajectories.decreasing_rate)
        other = {"gradient units": momentax.sgd(rate, momentax.heavy_ball(0.9))}
        return trajectories.run(optimizers | other)


def test_every_case_is_recorded_with_the_version():
    assert RECORDED["cases"].keys() == KERAS.keys()
    assert RECORDED["versions"]["keras"].startswith("3.15.")


@pytest.mark.parametrize("name", KERAS)
def test_the_steps_are_kerass(paths, name):
    for key, expected in RECORDED["cases"][name].items():
        np.testing.assert_allclose(paths[name][key][RECORDED_STEPS], expected, rtol=0, atol=1e-12)


def test_the_cases_distinguish_parameter_units_from_gradient_units(paths):
    assert deviation(paths["gradient units"], RECORDED["cases"]["schedule"]) > 1e-3


def test_a_config_is_accepted_unchanged():
    tx, plain = from_keras(**CONFIG), from_keras(0.1, 0.9)
    updates = [tx.update(PARAMS, tx.init(PARAMS), PARAMS) for tx in (tx, plain)]
    chex.assert_trees_all_equal(*updates)


def limited_updates(grads, value):
    """Return the first updates under each limit on the gradient."""

    def update(limit):
        tx = from_keras(0.1, **{limit: value})
        return tx.update(grads, tx.init(PARAMS), PARAMS)[0]

    limits = ("clipnorm", "clipvalue", "global_clipnorm")
    return jax.jit(lambda: {limit: update(limit) for limit in limits})()


def test_a_limit_of_zero_is_no_limit_as_in_keras():
    for updates in limited_updates(PARAMS, 0.0).values():
        np.testing.assert_allclose(updates["w"], -0.1)


def test_a_limit_accepts_zero_gradients_and_missing_ones():
    grads = {"w": jnp.zeros((2, 3)), "b": None}
    for updates in limited_updates(grads, 1.0).values():
        assert not updates["w"].any()


def test_the_state_keeps_its_structure_under_jit_and_vmap():
    def run(momentum, rate):
        tx = from_keras(rate, momentum, nesterov=True, weight_decay=rate, clipnorm=1.0)
        state = tx.init(PARAMS)
        state, _ = jax.lax.scan(
            lambda state, _: (tx.update(PARAMS, state, PARAMS)[1], None), state, length=3
        )
        return optax.apply_updates(PARAMS, tx.update(PARAMS, state, PARAMS)[0])

    batched = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.9]), jnp.array([0.1, 0.2]))
    single = jax.jit(lambda: run(0.9, 0.2))()
    np.testing.assert_allclose(batched["w"][1], single["w"], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be in [0, inf), got -0.1"),
        ({"momentum": 1.0}, ValueError, "momentum must be in [0, 1), got 1.0"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be in [0, inf), got -0.1"),
        ({"nesterov": 0.9}, TypeError, "nesterov must be True or False, got 0.9"),
        ({"clipnorm": -1.0}, ValueError, "clipnorm must be in [0, inf), got -1.0"),
        ({"dampening": 0.1}, TypeError, "from_keras has no argument 'dampening'"),
        (
            {"clipnorm": 1.0, "clipvalue": 2.0},
            ValueError,
            "only one limit on the gradient can be set, got clipnorm and clipvalue",
        ),
        ({"use_ema": True}, ValueError, "use_ema=True is not reproduced; "),
        ({"loss_scale_factor": 8.0}, ValueError, "loss_scale_factor=8.0 is not reproduced; "),
        (
            {"gradient_accumulation_steps": 4},
            ValueError,
            "gradient_accumulation_steps=4 is not reproduced; wrap the optimizer in",
        ),
    ],
)
def test_a_wrong_argument_is_explained(options, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        from_keras(**options)
