"""Composition: every transformation inside of Optax's own."""

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from tests.cases import TRANSFORMATIONS
from tests.contracts.harness import build, every_transformation, types, with_extra_args


def three_steps(tx, grads, params):
    """Return the updates of three steps with the same gradients."""

    def step(state, _):
        updates, state = tx.update(grads, state, params)
        return state, updates

    with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides a float by an int.
        return jax.lax.scan(step, tx.init(params), length=3)[1]


@every_transformation
def test_composes_with_the_transformations_of_optax(name):
    tx, params = build(name), {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}
    clip, labels = optax.clip_by_global_norm(1.0), {"a": "momentum", "b": "plain"}
    wrapped = {
        "chain": optax.chain(clip, tx, optax.scale(-0.1)),
        "masked": optax.masked(tx, {"a": True, "b": False}),
        "partition": optax.partition({"momentum": tx, "plain": optax.sgd(0.1)}, labels),
        "MultiSteps": optax.MultiSteps(tx, 2).gradient_transformation(),
        "apply_if_finite": optax.apply_if_finite(tx, 3),
        "flatten": optax.flatten(tx),
    }

    @jax.jit  # All in one program, as each compilation takes longer than its run.
    def run(params):
        plain, only = three_steps(tx, params, params), {"a": params["a"]}
        a, b = three_steps(tx, only, only)["a"], jnp.stack([params["b"]] * 3)
        vector, unravel = jax.flatten_util.ravel_pytree(params)
        clipped = three_steps(tx, clip.update(params, clip.init(params))[0], params)
        expected = {
            "chain": jax.tree.map(lambda leaf: -0.1 * leaf, clipped),
            "masked": {"a": a, "b": b},
            "partition": {"a": a, "b": -0.1 * b},
            "MultiSteps": jax.tree.map(lambda leaf: jnp.zeros_like(leaf).at[1].set(leaf[0]), plain),
            "apply_if_finite": plain,
            "flatten": jax.vmap(unravel)(three_steps(tx, vector, vector)),
        }
        return {key: three_steps(outer, params, params) for key, outer in wrapped.items()}, expected

    found, expected = run(params)
    for key in wrapped:
        chex.assert_trees_all_close(found[key], expected[key], rtol=1e-6)


@every_transformation
def test_inject_hyperparams_keeps_the_types_of_the_state_on_bfloat16(name):
    case, params = TRANSFORMATIONS[name], jnp.ones(3, jnp.bfloat16)
    tx = with_extra_args(name, optax.inject_hyperparams(case.make)(**case.hyperparameters))
    state = tx.init(params)

    def step(state, _):
        updates, state = tx.update(params, state, params)
        return state, updates

    after, _ = jax.lax.scan(step, state, length=3)
    assert types(after) == types(state)
