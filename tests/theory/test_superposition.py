"""What is refused because it is not linear, and what the error says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory

NONLINEAR = {
    "sign": (
        optax.sign_sgd(0.1),
        "not linear: a step from twice the .* does not give twice the parameters",
    ),
    "adam": (
        optax.adam(0.1),
        "not linear: a step from zero .* does not leave the parameters at zero",
    ),
    "lion": (optax.lion(0.1), "not linear: a step from twice the"),
    "normalized": (
        optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
        "not linear: a step from twice the",
    ),
    "clip": (
        optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9)),
        "linear only within a range.* for gradients from rest up to about 0.5. Beyond it, a step",
    ),
    "clip after": (
        optax.chain(optax.trace(0.9), optax.scale(-0.1), optax.clip(0.5)),
        "linear only within a range.* for gradients from rest up to about 5. Beyond it, a step",
    ),
    "global norm": (
        optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(0.1)),
        "linear only within a range.* for gradients from rest up to about 2. Beyond it, a step",
    ),
    "far clip": (
        optax.chain(optax.clip(1e6), optax.sgd(0.1)),
        r"linear only within a range.* for gradients from rest up to about 1e\+06. Beyond it, ",
    ),
    "adaptive clip": (
        optax.chain(optax.adaptive_grad_clip(100.0), optax.sgd(0.1)),
        "linear only within a range.* for gradients from rest up to about 0.1. Beyond it, a step",
    ),
    "mars": (
        sgd(0.1, momentax.mars(0.9, 0.025)),
        "linear only within a range.* for gradients from rest up to about 0.8163. Beyond it, a st",
    ),
    "restart": (
        sgd(0.1, momentax.restart(momentax.heavy_ball(0.9))),
        "not linear: a step from the sum of two sets of .* does not give the sum",
    ),
    "cautious": (
        sgd(0.1, momentax.cautious(momentax.heavy_ball(0.9))),
        "not linear: a step from the sum of two sets of .* does not give the sum",
    ),
    "noise": (
        optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)),
        "a step from zero .* does not leave the parameters at zero",
    ),
    "torque": (sgd(0.1, momentax.torque_aware()), "not linear: "),
    "centralized": (
        optax.chain(optax.centralize(), optax.sgd(0.1)),
        "couples the entries of a parameter: the gradient of one moves another",
    ),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_error_says_how_superposition_fails(name):
    tx, text = NONLINEAR[name]
    with pytest.raises(ValueError, match=text):
        theory.state_space(tx)


def test_a_state_of_low_precision_does_not_hide_a_nonlinearity():
    tx = optax.chain(
        optax.stateless(lambda g, _: jax.tree.map(lambda u: u * (1 + 0.1 * jnp.tanh(u) ** 2), g)),
        optax.sgd(0.1, 0.9, accumulator_dtype=jnp.bfloat16),
    )
    with pytest.raises(ValueError, match="linear only within a range"):
        theory.state_space(tx)
    coarse = theory.state_space(optax.sgd(0.1, 0.9, accumulator_dtype=jnp.bfloat16))
    np.testing.assert_allclose(coarse.A[1, 1], 0.9, rtol=1e-2)


def test_integers_that_depend_on_gradients_raise():
    def counting(g, state, params=None):
        signs = [jnp.sum(leaf > 0) for leaf in jax.tree.leaves(g)]
        return jax.tree.map(lambda leaf: -0.1 * leaf, g), {"seen": state["seen"] + sum(signs)}

    tx = optax.GradientTransformation(lambda params: {"seen": jnp.zeros((), jnp.int32)}, counting)
    with pytest.raises(ValueError, match=r"state at \['seen'\] holds whole numbers that depend"):
        theory.state_space(tx)


def test_the_error_names_the_arguments_that_tx_needs_besides_gradients():
    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    for tx, needed in ((plateau, "value"), (optax.lbfgs(0.1), "value_fn"), (optax.sm3(0.1), "")):
        with pytest.raises(ValueError, match=f"from their gradients alone, as.*such as.*{needed}"):
            theory.state_space(tx)
