"""Flax NNX, Flax Linen and Equinox make the steps that NumPy makes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import momentax
from tests.neighbours.regression import (
    BATCH,
    NESTEROV,
    STEPS,
    assert_trained,
    mean_squared_error,
    start,
)


def nnx_model(**options):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0), **options)
    kernel, bias = start()
    model.kernel[...] = kernel.astype(model.kernel.dtype)
    model.bias[...] = bias.astype(model.bias.dtype)
    return model


def nnx_step(model, optimizer, x, y):
    grads = nnx.grad(lambda model: mean_squared_error(model(x), y))(model)
    optimizer.update(model, grads)


def assert_trained_in_nnx(model, optimizer):
    velocity = momentax.velocity(optimizer.opt_state)
    leaves = [velocity[name][...] for name in ("kernel", "bias")]
    assert_trained(model.kernel[...], model.bias[...], leaves)


def test_the_optimizer_of_nnx_in_nnx_jit():
    model = nnx_model()
    optimizer = nnx.Optimizer(model, NESTEROV, wrt=nnx.Param)
    step = nnx.jit(nnx_step)
    for _ in range(STEPS):
        step(model, optimizer, *BATCH)
    assert_trained_in_nnx(model, optimizer)
    assert int(optimizer.step[...]) == STEPS


def test_the_optimizer_of_nnx_split_for_scan_and_merged():
    model = nnx_model()
    graph, state = nnx.split((model, nnx.Optimizer(model, NESTEROV, wrt=nnx.Param)))

    @jax.jit
    def run(state):
        def step(state, _):
            model, optimizer = nnx.merge(graph, state)
            nnx_step(model, optimizer, *BATCH)
            return nnx.state((model, optimizer)), None

        return jax.lax.scan(step, state, length=STEPS)[0]

    model, optimizer = nnx.merge(graph, run(state))
    assert_trained_in_nnx(model, optimizer)


@pytest.mark.parametrize(
    ("param_dtype", "dtype"), [(jnp.float32, jnp.bfloat16), (jnp.bfloat16, jnp.bfloat16)]
)
def test_mixed_precision_in_nnx_is_that_of_plain_trees(param_dtype, dtype):
    """The velocity is in float32 whether the parameters are, or only the arithmetic is not."""
    x, y = (part.astype(dtype) for part in BATCH)
    model = nnx_model(param_dtype=param_dtype, dtype=dtype)
    optimizer = nnx.Optimizer(model, NESTEROV, wrt=nnx.Param)
    graph, plain = nnx.split(model, nnx.Param)
    plain = jax.tree.map(jnp.copy, plain)
    state, step = NESTEROV.init(plain), nnx.jit(nnx_step)

    @jax.jit
    def plain_step(plain, state):
        def loss(plain):
            return mean_squared_error(nnx.merge(graph, plain)(x), y)

        updates, state = NESTEROV.update(jax.grad(loss)(plain), state, plain)
        return optax.apply_updates(plain, updates), state

    for _ in range(3):
        step(model, optimizer, x, y)
        plain, state = plain_step(plain, state)
    assert model.kernel.dtype == param_dtype
    velocity = momentax.velocity(optimizer.opt_state)["kernel"][...]
    assert velocity.dtype == jnp.float32
    np.testing.assert_array_equal(velocity, momentax.velocity(state)["kernel"][...])
    np.testing.assert_array_equal(model.kernel[...], plain["kernel"][...])


def test_the_train_state_of_linen():
    kernel, bias = start()
    model, params = linen.Dense(1), {"params": {"kernel": kernel, "bias": bias}}
    state = TrainState.create(apply_fn=model.apply, params=params, tx=NESTEROV)

    @jax.jit
    def step(state, x, y):
        def loss(params):
            return mean_squared_error(state.apply_fn(params, x), y)

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for _ in range(STEPS):
        state = step(state, *BATCH)
    velocity = momentax.velocity(state.opt_state)["params"]
    found = state.params["params"]
    assert_trained(found["kernel"], found["bias"], [velocity["kernel"], velocity["bias"]])
    assert state.step == STEPS


def test_a_module_of_equinox():
    kernel, bias = start()
    model = eqx.nn.Linear(3, 1, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: (m.weight, m.bias), model, (kernel.T, bias))
    state = NESTEROV.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, x, y):
        grads = eqx.filter_grad(lambda model: mean_squared_error(jax.vmap(model)(x), y))(model)
        updates, state = NESTEROV.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    for _ in range(STEPS):
        model, state = step(model, state, *BATCH)
    velocity = momentax.velocity(state)
    assert_trained(model.weight.T, model.bias, [velocity.weight.T, velocity.bias])
