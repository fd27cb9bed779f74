"""Leaves: all of a state are JAX arrays, and parameters that are no arrays stay as they are."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax.conventions import from_torch
from tests.cases import OPTIMIZERS, TRANSFORMATIONS
from tests.contracts.harness import build, every_transformation


@every_transformation
def test_every_leaf_of_a_state_and_of_an_update_is_a_jax_array(name):
    tx, params = build(name), {"a": jnp.ones(2), "b": jnp.ones((3, 2))}
    state = tx.init(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    for update in (tx.update, jax.jit(tx.update)):
        for g in (params, {"a": params["a"], "b": None}):
            returned = update(g, state, params)
            assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(returned))
            assert all(leaf.sharding and leaf.devices() for leaf in jax.tree.leaves(returned))


class Opaque:
    pass


OTHERS = {"function": jax.nn.relu, "text": "tanh", "object": Opaque(), "nothing": None}


@every_transformation
@pytest.mark.parametrize("filtered", [True, False])
def test_what_is_no_array_stays_as_it_is(name, filtered):
    tx, arrays = build(name), {"w": jnp.ones((3, 2))}
    params = arrays | OTHERS
    g = arrays | dict.fromkeys(OTHERS)
    state = tx.init(g if filtered else params)
    plain = tx.init(arrays)
    for _ in range(2):
        u, state = tx.update(g, state, params)
        expected, plain = tx.update(arrays, plain, arrays)
    chex.assert_trees_all_equal(u, expected | dict.fromkeys(OTHERS))
    chex.assert_trees_all_equal(momentax.velocity(state)["w"], momentax.velocity(plain)["w"])


@pytest.mark.parametrize("when", ["gradient", "function", "speed", 1])
def test_a_restart_leaves_out_what_is_no_array(when):
    tx = momentax.restart(momentax.sgd(0.1), when, min_steps=1)
    params, g = {"w": jnp.ones(2), "f": jnp.sin, "flag": True}, {"w": jnp.ones(2)}
    state = tx.init({"w": params["w"], "f": None, "flag": None})
    for sign in (1, -1, 1):
        gradients = {"w": sign * g["w"], "f": None, "flag": None}
        u, state = tx.update(gradients, state, params, value=jnp.float32(-sign))
    assert u["f"] is None


def test_python_numbers_without_a_gradient_stay_python_numbers():
    params = {"w": jnp.ones(2), "rate": 0.5, "size": 3, "training": True}
    g = {"w": jnp.ones(2), "rate": None, "size": None, "training": None}
    tx = momentax.sgd(0.1)
    u, _ = tx.update(g, tx.init(g), params)
    assert u["rate"] == 0.0
    assert type(u["rate"]) is float
    assert type(u["size"]) is int
    assert u["training"] is None


class Model(eqx.Module):
    weight: jax.Array
    steps: jax.Array
    activation: object = jax.nn.tanh
    name: str = "model"
    rate: float = 0.5
    training: bool = True

    def __call__(self, x):
        return self.activation(self.weight @ x)


COMPLETE = {
    "from_torch": from_torch(lr=0.1, momentum=0.9, weight_decay=0.1),
    "damped": from_torch(lr=0.1, momentum=0.9, dampening=0.5),
    "restart": momentax.restart(momentax.sgd(0.1)),
    "optimistic": momentax.optimistic(momentax.sgd(0.1)),
    "cautious": momentax.cautious(momentax.sgd(0.1)),
    "grams": momentax.grams(momentax.sgd(0.1)),
    "outer": momentax.outer(momentax.sgd(0.1), 2, inner_state="reset"),
    "ema_nesterov": momentax.ema_nesterov(momentax.sgd(0.1), 0.5),
    **{name: build(name) for name in TRANSFORMATIONS if "stored" in name or name in OPTIMIZERS},
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_whole_module_of_equinox_is_given_as_params(name):
    tx = COMPLETE[name]
    model = Model(jnp.array([[1.0, 2.0, -1.0], [0.5, 1.0, 3.0]]), jnp.arange(2))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        g = eqx.filter_grad(lambda model: jnp.sum(model(jnp.ones(3)) ** 2))(model)
        u, state = tx.update(g, state, model)
        return eqx.apply_updates(model, u), state

    after, state = step(model, state)
    after, state = step(after, state)
    assert (after.activation, after.name, after.training) == (jax.nn.tanh, "model", True)
    assert type(after.rate) is float
    assert jnp.array_equal(after.steps, model.steps)
    assert not jnp.array_equal(after.weight, model.weight)


def test_tools_take_a_whole_module():
    model = Model(jnp.ones((2, 3)), jnp.arange(2))
    tx = momentax.sgd(0.1, momentax.nesterov(0.9))
    g = eqx.filter(model, eqx.is_inexact_array)
    _, state = tx.update(g, tx.init(g), model)
    base = momentax.eval_params(model, state, learning_rate=0.1)
    assert base.activation is jax.nn.tanh
    tx = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.9)))
    _, state = tx.update(g, tx.init(g), model)
    model, _ = momentax.catch_up(model, state, learning_rate=0.1)
    assert model.activation is jax.nn.tanh


WRAPPERS = {
    "none": lambda tx: tx,
    "stored": lambda tx: momentax.stored(tx, momentax.storage.bfloat16(), min_size=1),
    "optimistic": momentax.optimistic,
    "restart": momentax.restart,
    "cautious": momentax.cautious,
    "ema_nesterov": lambda tx: momentax.ema_nesterov(tx, 0.5),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_count_of_an_optimizer_is_found_by_optax(wrapper):
    params = {"w": jnp.ones(2)}
    tx = momentax.sgd(optax.linear_schedule(0.1, 0.0, 10), weight_decay=0.1)
    tx = WRAPPERS[wrapper](tx)
    _, state = tx.update(params, tx.init(params), params)
    assert optax.tree_utils.tree_get(state, "count") == 1


def torch_sgd(lr, momentum, dampening, nesterov=False):
    """Return from_torch without its last argument, whose entries Optax cannot bind."""
    return from_torch(lr, momentum, dampening, nesterov=nesterov)


@pytest.mark.parametrize(
    ("make", "hyperparameters"),
    [
        (momentax.hypergradient, {"learning_rate": 0.1, "beta_step": 0.0}),
        (momentax.linear, {"gradient_weight": 1.0, "velocity_weight": 0.0, "beta": 0.9,
                           "shift": 0.0}),
        (momentax.synthesized_nesterov, {"beta1": 0.9, "beta2": 0.0}),
        (momentax.heavy_ball, {"beta": 0.0, "dampening": 0.0}),
        (momentax.sgd, {"learning_rate": 0.0, "weight_decay": 0.0}),
        (torch_sgd, {"lr": 0.1, "momentum": 0.0, "dampening": 0.0}),
        (torch_sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": True}),
        (momentax.mass, {"beta": 0.0, "compensation": 0.0}),
        (momentax.lion, {"beta1": 0.0, "beta2": 0.0}),
        (momentax.mars, {"beta": 0.0, "gamma": 0.0}),
        (momentax.positive_negative, {"beta": 0.0, "beta0": 0.0}),
    ],
)  # fmt: skip
def test_an_injected_zero_does_not_change_the_structure_of_the_state(make, hyperparameters):
    tx, params = optax.inject_hyperparams(make)(**hyperparameters), {"w": jnp.ones(2)}
    state = tx.init(params)
    for update in (tx.update, jax.jit(tx.update)):
        _, after = update(params, state, params)
        assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_learning_rate_of_0_leaves_the_parameters_as_they_are():
    params = {"w": jnp.ones(2)}
    for tx in (
        momentax.sgd(0),
        momentax.sgd(0.0, weight_decay=0.1, decoupled=True),
        momentax.sgd(0.0, velocity_units="parameter"),
        momentax.sgd(1.0, momentax.hypergradient(0.0, learning_rate_step=0.0)),
        optax.partition({"frozen": momentax.sgd(0.0)}, {"w": "frozen"}),
    ):
        u, _ = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_equal(optax.apply_updates(params, u), params)
