"""The information-theoretic exact method: no first-order method contracts faster."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, hyperparameters, trees
from momentax._core.transformations import method
from momentax._core.typing import PyTree, Scalar
from momentax._methods._keywords import explain_keywords


class ItemState(NamedTuple):
    """The state of the information-theoretic exact method.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    shift: s, a 0-d array; `eval_params` reads it.
    sequence: p, from which the coefficients follow, a 0-d array in float32 or wider.
    """

    count: Any
    velocity: PyTree
    shift: jax.Array
    sequence: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False


@explain_keywords
def item(mu: Any, L: Scalar | None = None) -> optax.GradientTransformationExtraArgs:
    """Contract the distance to the minimizer of a strongly convex function at the best rate.

        A_{t+1} = ((1 + q) A_t + 2 (1 + √((1 + A_t)(1 + q A_t)))) / (1 - q)²,    A_0 = 0
        b_t = A_t / ((1 - q) A_{t+1})
        δ_t = ((1 - q)² A_{t+1} - (1 + q) A_t) / (2 (1 + q + q A_t)),    q = μ / L
        v_t = b_t ((1 - q δ_{t-1}) v_{t-1} + (δ_{t-1} - 1) g_t),    v_0 = 0
        d_t = g_t + (1 / b_t - 1) v_t

    Use the learning rate 1/L. The parameters are the point y_t where gradients
    are taken. `eval_params` returns z_t = y_t - α v_t, for which ‖z_t - x*‖² is
    at most ‖z_0 - x*‖² / (1 + q A_t). A grows geometrically. The state keeps
    1 / (1 + A_t), which cannot overflow.

    Args:
        mu: μ in (0, L), the smallest curvature, not a schedule; or what
            `momentax.curvature` returns, which holds both.
        L: L in (0, inf), the largest curvature, not a schedule. Leave it out
            where mu holds both.

    Example:
        >>> tx = momentax.sgd(1 / 100.0, momentax.item(mu=1.0, L=100.0))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Taylor and Drori, An optimal gradient method for smooth strongly convex
        minimization, 2021, arXiv:2101.09741.
    """
    μ, upper = arguments.split_curvature(mu, L)
    smallest = hyperparameters.as_constant("mu", μ, "(0, inf)")
    largest = hyperparameters.as_constant("L", upper, "(0, inf)")
    if not (arguments.is_traced(μ) or arguments.is_traced(upper)) and not smallest(0) < largest(0):
        raise ValueError(f"mu must be in (0, L), got {smallest(0)} with L = {largest(0)}")

    def coefficients(q: Any, p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return b, δ and the next p, where p = 1 / (1 + A) and ratio = A_{t+1} / (1 + A_t)."""
        ratio = ((1 + q) * (1 - p) + 2 * (p + jnp.sqrt(p + q * (1 - p)))) / (1 - q) ** 2
        b = (1 - p) / ((1 - q) * ratio)
        δ = ((1 - q) ** 2 * ratio - (1 + q) * (1 - p)) / (2 * ((1 + q) * p + q * (1 - p)))
        return b, δ, p / (p + ratio)

    def init(params):
        v = arithmetic.zeros_like(params)
        return ItemState(
            jnp.zeros((), jnp.int32), v, arithmetic.as_scalar(-1), arithmetic.as_scalar(1)
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, shift, p = state
        trees.require_gradients(updates, v)
        q = smallest(t) / largest(t)  # Computed here in the precision that JAX has now.
        _, δ, p = coefficients(q, p)
        b, _, _ = coefficients(q, p)
        v = arithmetic.combine((b * (1 - q * δ), v), (b * (δ - 1), updates), like=v)
        d = arithmetic.combine((1.0, updates), (1 / b - 1, v), like=updates)
        return d, ItemState(optax.safe_increment(t), v, shift, arithmetic.as_scalar(p))

    return method(init, update, ItemState)
