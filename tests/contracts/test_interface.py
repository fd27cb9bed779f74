"""The interface: Optax's protocol, purity, and the same numbers under `jax.jit`."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

import momentax
from tests.cases import TRANSFORMATIONS
from tests.compilation import fully_optimized
from tests.contracts.harness import build, every_transformation, tree


@every_transformation
def test_is_an_optax_transformation_that_ignores_unknown_arguments(name):
    tx, params = build(name), tree()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    state = tx.init(params)
    # A monitor keeps the value among its readings.
    known = {"value": jnp.float32(1)} if name.startswith("monitor") else {}
    plain = tx.update(params, state, params, **known)
    extra = tx.update(params, state, params, value=jnp.float32(1), unknown="ignored")
    chex.assert_trees_all_equal(plain, extra)


@every_transformation
def test_is_pure_and_does_not_call_jit(name):
    tx, params = build(name), tree()
    before = jax.tree.map(np.array, (params, tx.init(params)))
    state = tx.init(params)
    jaxpr = jax.make_jaxpr(tx.update)(params, state, params)
    jitted = {eqn.params["name"] for eqn in jaxpr.eqns if eqn.primitive.name in ("jit", "pjit")}
    assert jitted <= {"_where"}  # A part of jax.numpy that optax.safe_increment uses.
    first = tx.update(params, state, params)
    chex.assert_trees_all_equal(before, (params, state))
    chex.assert_trees_all_equal(first, tx.update(params, state, params))


class TestVariants(chex.TestCase):
    """The numbers are the same with and without jit, for JAX and NumPy arrays."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.named_parameters((name, name) for name in TRANSFORMATIONS)
    def test_init_and_update_agree(self, name):
        tx, params = build(name), tree()
        state = self.variant(tx.init)(params)
        chex.assert_trees_all_equal(state, tx.init(params))
        updates, state = self.variant(tx.update)(params, state, params)
        chex.assert_trees_all_close((updates, state), tx.update(params, tx.init(params), params))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_step_accesses_no_more_bytes_than_that_of_optax(nesterov, decay):
    method = momentax.nesterov(0.9) if nesterov else momentax.heavy_ball(0.9)
    peer = optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(0.1, momentum=0.9, nesterov=nesterov)
    )
    params, accessed = jnp.ones(1 << 16), []
    for tx in (momentax.sgd(0.1, method, weight_decay=decay), peer):

        def step(params, state, grads, tx=tx):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        jitted = jax.jit(step, donate_argnums=(0, 1))
        compiled = fully_optimized(jitted.lower(params, tx.init(params), params))
        accessed.append(compiled.cost_analysis()["bytes accessed"])
    assert accessed[0] <= accessed[1] + 1000  # The state holds a few counts.


def test_defaults_are_the_published_ones():
    assert defaults(momentax.heavy_ball) == {"beta": 0.9, "dampening": 0.0}
    assert defaults(momentax.nesterov) == {"beta": 0.9}
    assert defaults(momentax.average) == {"beta": 0.9, "debias": True}
    assert defaults(momentax.quasi_hyperbolic) == {"beta": 0.999, "nu": 0.7}
    assert list(defaults(momentax.aggregated).values()) == [(0.0, 0.9, 0.99), None, "sum"]
    assert list(defaults(momentax.proportional_integral_derivative).values()) == [0.9, 5.0, 10.0]
    assert defaults(momentax.positive_negative) == {"beta": 0.9, "beta0": 1.0}
    adam = momentax.quasi_hyperbolic_adam
    assert list(defaults(adam).values()) == [0.995, 0.999, 0.7, 1.0, 1e-8]
    assert defaults(momentax.torque_aware) == {"beta": 0.9, "gamma": 0.9, "eps": 1e-8}
    assert defaults(momentax.amplified) == {"beta": 0.98, "factor": 2.0}
    assert list(defaults(momentax.adan).values()) == [0.98, 0.92, 0.99, 1e-8]
    assert list(defaults(momentax.nadam).values()) == [0.9, 0.999, 1e-8, 0.004]


def defaults(method):
    return {name: p.default for name, p in inspect.signature(method).parameters.items()}
