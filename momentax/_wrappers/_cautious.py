"""Cautious updates: only the coordinates that agree with the gradient move."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._wrappers._orientation import orient_updates


def cautious(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Set the coordinates of an update u that disagree with the gradient g to zero.

        φ_t = 1[u_t h_t > 0]
        u_t ← u_t φ_t / max(mean(φ_t), 10⁻³)

    The mean is over one leaf. Around a method, whose directions follow the
    gradient, h = g. Around a complete optimizer, whose updates oppose the
    gradient, h = -g. The wrapper detects for each leaf which of the two holds,
    from the change of the update when only the gradient changes its sign. It
    returns updates unchanged until the first update that changes, for example
    while a learning rate of 0 warms up. For complex leaves u h is the real part
    of conj(u) h. A coordinate of u that is infinite or NaN is returned as it is:
    otherwise the mask would hide that the velocity is no longer finite.

    Weight decay in tx is masked as well. The paper's C-AdamW does not mask it:

        optax.chain(
            cautious(optax.scale_by_adam()),
            optax.add_decayed_weights(λ),
            optax.scale_by_learning_rate(α),
        )

    Args:
        tx: The transformation to wrap, a method or a complete optimizer.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.cautious(momentax.heavy_ball(0.9)))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Liang, Chen, Liu and Liu, Cautious optimizers: improving training with
        one line of code, 2024, arXiv:2411.16085, as in the code of its second
        version. The first version divides by the mean of one more coordinate.
    """
    return orient_updates(tx, _mask_disagreement)


def _mask_disagreement(h: jax.Array, u: jax.Array) -> jax.Array:
    # A product of signs does not underflow, as a product of u and h may.
    agreement = jnp.real(jnp.conj(jnp.sign(u)) * jnp.sign(h))
    share = jnp.mean(agreement > 0, dtype=u.real.dtype)
    shown = (agreement > 0) | ~jnp.isfinite(u)
    return jnp.where(shown, u, 0) / jnp.maximum(share, 1e-3).astype(u.dtype)
