"""Grams: the magnitude of momentum with the sign of the gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._wrappers._orientation import orient_updates


def grams(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give each coordinate of an update u the sign of the gradient g.

        u_t ← sign(h_t) |u_t|

    Around a method, whose directions follow the gradient, h = g. Around a
    complete optimizer, whose updates oppose the gradient, h = -g. The wrapper
    detects which of the two holds, as `cautious` does. A coordinate whose
    gradient is 0 does not move, and neither does one whose gradient is NaN if tx
    kept the NaN out of its update. A NaN in u stays NaN. For complex leaves
    sign(h) = h / |h|.

    Args:
        tx: The transformation to wrap, a method or a complete optimizer. Weight
            decay in it gets the sign of the gradient as well; chain the decay
            after the wrapper to prevent this.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.grams(momentax.heavy_ball(0.9)))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Cao, Li and Song, Grams: gradient descent with adaptive momentum
        scaling, 2024, arXiv:2412.17107.
    """
    return orient_updates(tx, _with_sign_of)


def _with_sign_of(h: jax.Array, u: jax.Array) -> jax.Array:
    sign = jnp.where(jnp.isnan(h), 0, jnp.sign(h))
    return sign * jnp.abs(u).astype(h.dtype)
