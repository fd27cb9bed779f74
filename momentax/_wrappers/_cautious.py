"""Cautious updates: only the coordinates that agree with the gradient move."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._wrappers._orientation import oriented


def cautious(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Keep of each update u the coordinates that agree with the gradient g.

        φ_t = 1[u_t h_t > 0]
        u_t ← u_t φ_t / max(mean(φ_t), 10⁻³)

    The mean is over one leaf. Around a bare method, whose directions follow the
    gradient, h = g; around a complete optimizer, whose updates oppose it,
    h = -g. Which of the two tx is, each leaf finds out by itself, from how its
    update changes when the gradient alone changes its sign; until the first
    update that does change, as while a learning rate warms up from 0, updates
    pass as they are. For complex leaves u h is the real part of conj(u) h.

    Decay in tx is masked with the rest. The paper's C-AdamW is

        optax.chain(
            cautious(optax.scale_by_adam()),
            optax.add_decayed_weights(λ),
            optax.scale_by_learning_rate(α),
        )

    Args:
        tx: The transformation, a bare method or a complete optimizer.

    Returns:
        A transformation into updates of the shapes and dtypes of tx's. Its
        state, OrientedState(orientation, inner_state), holds one integer a
        leaf beside tx's state. A leaf whose gradient is None keeps the update
        that tx gives it.

    Raises:
        TypeError: tx is no gradient transformation.

    Source:
        Liang, Chen, Liu and Liu, Cautious optimizers: improving training with
        one line of code, 2024, arXiv:2411.16085, in the form of its second
        version's code; the first divided by the mean with one count more.
    """
    return oriented(tx, _masked)


def _masked(h: jax.Array, u: jax.Array) -> jax.Array:
    # Of the signs, so that no product underflows.
    agrees = jnp.real(jnp.conj(jnp.sign(u)) * jnp.sign(h)) > 0
    share = jnp.mean(agrees, dtype=u.real.dtype)
    return jnp.where(agrees, u, 0) / jnp.maximum(share, 1e-3).astype(u.dtype)
