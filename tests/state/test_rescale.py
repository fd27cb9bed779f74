"""The velocity is rescaled when the learning rate changes."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import rescale_velocity
from momentax.conventions import import_torch_state
from tests.conventions import trajectories
from tests.conventions.checkpoints import FULL, MAPPING, PARAMS, PIPELINES

STEPS = 20  # Before the learning rate changes, and after it.
OLD, NEW = 0.02, 0.005


METHODS = {"heavy ball": momentax.heavy_ball(0.9), "nesterov": momentax.nesterov(0.9)}
OPTIMIZERS = {
    (name, units): momentax.sgd(
        lambda t: jnp.where(t < STEPS, OLD, NEW), method, velocity_units=units
    )
    for name, method in METHODS.items()
    for units in ("gradient", "parameter")
}


def scan(carry):
    """Make STEPS steps with each optimizer; return the last carry and the weights of each step."""

    def step(carry, _):
        after = {}
        for key, (params, state) in carry.items():
            grads = trajectories.gradient(**params, xp=jnp)
            updates, state = OPTIMIZERS[key[:2]].update(grads, state, params)
            after[key] = jax.tree.map(jnp.add, params, updates), state
        return after, {key: params["w"] for key, (params, _) in after.items()}

    return jax.lax.scan(step, carry, length=STEPS)


@pytest.fixture(scope="module")
def weights():
    """The weights of runs by method, units and whether the velocity is rescaled in the middle."""

    @jax.jit
    def run(params):
        start = {(*key, False): (params, tx.init(params)) for key, tx in OPTIMIZERS.items()}
        middle, first = scan(start)
        rescaled = {
            (name, units, True): (params, rescale_velocity(state, OLD, NEW, velocity_units=units))
            for (name, units, _), (params, state) in middle.items()
        }
        _, second = scan(middle | rescaled)
        return {key: jnp.concatenate([first[*key[:2], False], second[key]]) for key in second}

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, trajectories.START)))


@pytest.mark.parametrize("name", METHODS)
def test_a_rescaled_velocity_continues_as_one_in_the_other_units(weights, name):
    gradient, parameter = weights[name, "gradient", False], weights[name, "parameter", False]
    np.testing.assert_allclose(weights[name, "parameter", True], gradient, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights[name, "gradient", True], parameter, rtol=0, atol=1e-12)
    assert abs(gradient - parameter).max() > 1e-3


def test_only_the_velocity_of_a_pipeline_is_rescaled():
    states = {
        name: import_torch_state(FULL, PARAMS, MAPPING, state=tx.init(PARAMS))
        for name, tx in PIPELINES.items()
    }

    @jax.jit
    def rescale(states):
        return {
            name: rescale_velocity(state, 0.1, 0.2, velocity_units="parameter")
            for name, state in states.items()
        }

    for name, doubled in rescale(states).items():
        velocity = momentax.velocity(states[name])
        expected = jax.tree.map(lambda leaf: 2 * leaf, velocity)
        chex.assert_trees_all_close(momentax.velocity(doubled), expected)
        restored = momentax.replace_velocity(doubled, velocity)
        chex.assert_trees_all_close(restored, states[name])
        back = rescale_velocity(doubled, 0.1, 0.2)  # In gradient units.
        chex.assert_trees_all_close(back, states[name])


def test_traced_rates_are_accepted_and_a_new_rate_of_0_stops_a_velocity_of_steps():
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    state = momentax.heavy_ball().init(PARAMS)._replace(velocity=ones)

    def rescaled(new):
        return rescale_velocity(state, 0.2, new, velocity_units="parameter").velocity["bias"]

    many = jax.vmap(rescaled)(jnp.array([0.0, 0.1, 0.4]))
    np.testing.assert_allclose(many[:, 0], [0.0, 0.5, 2.0], rtol=1e-6)
    assert not rescaled(0.0).any()


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), jnp.zeros(())], ids=repr)
def test_a_rate_of_0_is_refused_where_there_is_no_correction(zero):
    state = momentax.heavy_ball().init(PARAMS)
    for units in ("parameter", "gradient"):
        with pytest.raises(
            ValueError, match=re.escape("old_learning_rate must be in (0, inf), got")
        ):
            rescale_velocity(state, zero, 0.1, velocity_units=units)
    with pytest.raises(ValueError, match=re.escape("new_learning_rate must be in (0, inf), got")):
        rescale_velocity(state, 0.1, zero)


def test_a_wrong_argument_is_explained():
    state = momentax.heavy_ball().init(PARAMS)
    with pytest.raises(TypeError, match="old_learning_rate must be a number or a 0-d array"):
        rescale_velocity(state, lambda _: 0.1, 0.1)
    for units, interval in (("gradient", "(0, inf)"), ("parameter", "[0, inf)")):
        message = f"new_learning_rate must be in {interval}, got -1"
        with pytest.raises(ValueError, match=re.escape(message)):
            rescale_velocity(state, 0.1, -1, velocity_units=units)
    with pytest.raises(ValueError, match="velocity_units must be one of 'gradient', 'parameter'"):
        rescale_velocity(state, 0.1, 0.1, velocity_units="steps")
