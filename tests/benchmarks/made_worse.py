"""A copy of a method and three methods made worse on purpose, which show what verdicts are worth.

The protocol of `momentax.bench` has to find the copy undecided against its original, and the others
worse than theirs, unless the fault does not matter on a task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax.bench import Entry
from momentax.bench._horizon import Horizon

ORIGINALS = {
    "copy_of_heavy_ball": "heavy_ball",
    "negative_beta": "heavy_ball",
    "noisy_heavy_ball": "heavy_ball",
    "adam_without_debiasing": "adam",
}
DESCRIPTIONS = {
    "copy_of_heavy_ball": "heavy ball under another name",
    "negative_beta": "heavy ball with −β in place of β and the same learning rate",
    "noisy_heavy_ball": "heavy ball whose gradients are multiplied entry by entry by 1 + ξ with a "
    "standard normal ξ, which about doubles the variance of noisy gradients",
    "adam_without_debiasing": "Adam whose averages start at 0 and are not divided by the sum of "
    "their weights",
}


def made_worse(originals: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the methods, each with the search space of its original."""
    heavy_ball = originals["heavy_ball"].make

    def negative_beta(horizon: Horizon, effective_rate: jax.Array, beta: jax.Array) -> Any:
        α = horizon.learning_rate(effective_rate * (1 - beta))
        return optax.chain(optax.trace(-beta), optax.scale_by_learning_rate(α))

    def noisy_heavy_ball(horizon: Horizon, **hyperparameters: jax.Array) -> Any:
        return optax.chain(multiplied_by_noise(), heavy_ball(horizon, **hyperparameters))

    makers = {
        "copy_of_heavy_ball": heavy_ball,
        "negative_beta": negative_beta,
        "noisy_heavy_ball": noisy_heavy_ball,
        "adam_without_debiasing": adam_without_debiasing,
    }
    return {
        name: dataclasses.replace(
            originals[original], name=name, make=makers[name], description=DESCRIPTIONS[name]
        )
        for name, original in ORIGINALS.items()
    }


def adam_without_debiasing(
    horizon: Horizon, learning_rate: jax.Array, beta1: jax.Array, beta2: jax.Array, eps: jax.Array
) -> optax.GradientTransformation:
    """m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²,  u = -α m / (√v + ε)."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, (params, params))

    def update(updates, state, params=None):
        del params
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state[0], updates)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, state[1], updates)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), (m, v)

    direction = optax.GradientTransformation(init, update)
    α = horizon.learning_rate(learning_rate)
    return optax.chain(direction, optax.scale_by_learning_rate(α))


def multiplied_by_noise() -> optax.GradientTransformation:
    """g ← g (1 + ξ) with ξ ~ N(0, 1) for each entry, drawn anew in each step.

    The random key comes from the count and from the gradients, so that runs with different seeds
    have different noise.
    """

    def init(params):
        del params
        return jnp.zeros((), jnp.uint32)

    def update(updates, count, params=None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        total = sum(jnp.sum(each, dtype=jnp.float32) for each in leaves)
        key = jax.random.fold_in(jax.random.key(0), count)
        key = jax.random.fold_in(key, jax.lax.bitcast_convert_type(total, jnp.uint32))
        keys = jax.random.split(key, len(leaves))
        noisy = [
            g * (1 + jax.random.normal(k, g.shape, g.dtype))
            for g, k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(structure, noisy), count + 1

    return optax.GradientTransformation(init, update)
