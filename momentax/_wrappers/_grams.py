"""Grams: momentum says how far, the gradient alone says which way."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from momentax._wrappers._orientation import oriented


def grams(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give each coordinate of an update u the sign that the gradient g asks for.

        u_t ← sign(h_t) |u_t|

    Around a bare method, whose directions follow the gradient, h = g; around a
    complete optimizer, whose updates oppose it, h = -g; found out as in
    `cautious`. A coordinate whose gradient is 0 stays. For complex leaves
    sign(h) = h / |h|.

    Args:
        tx: The transformation, a bare method or a complete optimizer. Decay in
            it is signed with the rest; chain it behind.

    Returns:
        A transformation into updates of the shapes and dtypes of tx's. Its
        state, OrientedState(orientation, inner_state), holds one integer a
        leaf beside tx's state. A leaf whose gradient is None keeps the update
        that tx gives it.

    Raises:
        TypeError: tx is no gradient transformation.

    Source:
        Cao, Li and Song, Grams: gradient descent with adaptive momentum
        scaling, 2024, arXiv:2412.17107.
    """
    return oriented(tx, lambda h, u: jnp.sign(h) * jnp.abs(u).astype(h.dtype))
