"""Nesterov's accelerated gradient and its optimal refinement, with growing β."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.transformations import method
from momentax._core.typing import PyTree
from momentax._methods._keywords import explain_keywords


class AcceleratedState(NamedTuple):
    """The state of a method whose coefficients come from a sequence.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    shift: s, a 0-d array; `eval_params` reads it.
    sequence: the current term of the sequence, a 0-d array in float32 or wider.
    """

    count: Any
    velocity: PyTree
    shift: jax.Array
    sequence: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False


def _root(θ: jax.Array, factor: float = 4.0) -> jax.Array:
    return (1 + jnp.sqrt(1 + factor * θ * θ)) / 2


_SEQUENCES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "nesterov": lambda θ: θ + 0.5,
    "fista": _root,
    "ogm": _root,
}


@explain_keywords
def accelerated(
    sequence: str = "nesterov", *, horizon: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Accelerate descent on convex functions with a β that grows towards 1.

        β_t = (θ_{t-1} - 1) / θ_t,    θ_0 = 1

        "nesterov":    θ_t = θ_{t-1} + 1/2, so that β_t = (t - 1) / (t + 2)
        "fista":       θ_t = (1 + √(1 + 4 θ²_{t-1})) / 2
                       both v_t = β_{t-1} v_{t-1} + g_t,    d_t = g_t + β_t v_t
        "ogm":         θ_t as "fista", but with 8 in place of 4 at the horizon
                       v_t = β_t v_{t-1} + (β_t + θ_{t-1} / θ_t) g_t,    d_t = g_t + v_t

    For gradients with the Lipschitz constant L, use the learning rate 1/L. Then
    f(x_t) - f* is at most c L ‖x_0 - x*‖², where c is 2 / (t² + 5t + 6) for
    "nesterov", 2 / (t + 1)² for "fista" and 1 / (2 θ²_t) for "ogm" at the
    horizon, which is the smallest bound of all first-order methods. The
    parameters are the extrapolated point y, and `eval_params` returns
    x_t = y_{t-1} - α g_t. At the horizon of "ogm" the bound holds for the
    parameters, and `eval_params` returns them.

    Args:
        sequence: "nesterov", "fista" or "ogm".
        horizon: For "ogm", the number of the last step, at least 1; the bound
            does not hold for later steps. None means that no step is the last.

    Raises:
        ValueError: The sequence is unknown, the horizon is below 1, or a
            horizon is given for another sequence than "ogm".
        TypeError: horizon is not a whole number.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.accelerated("fista"))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Nesterov, A method of solving a convex programming problem with
        convergence rate O(1/k²), 1983; Beck and Teboulle, A fast iterative
        shrinkage-thresholding algorithm, SIAM Journal on Imaging Sciences 2(1),
        2009; Kim and Fessler, Optimized first-order methods for smooth convex
        minimization, 2016, arXiv:1406.5468.
    """
    grow = _SEQUENCES[arguments.as_option("sequence", sequence, _SEQUENCES)]
    if horizon is not None:
        horizon = arguments.as_count("horizon", horizon)
        if sequence != "ogm":
            raise ValueError(f"horizon is for sequence='ogm', got {sequence!r}; leave it out")

    def init(params):
        count, v = jnp.zeros((), jnp.int32), arithmetic.zeros_like(params)
        return AcceleratedState(
            count, v, arithmetic.as_scalar(sequence == "ogm"), arithmetic.as_scalar(1)
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, shift, θ = state
        trees.require_gradients(updates, v)
        θ_next = grow(θ)
        if horizon is not None:
            last = t + 1 == horizon
            θ_next = jnp.where(last, _root(θ, 8.0), θ_next)
            shift = jnp.where(last, 0.0, arithmetic.as_scalar(1))
        β = (θ - 1) / θ_next
        if sequence == "ogm":
            kept, gain, b = β, β + θ / θ_next, 1.0
        else:  # The state keeps the β of the last step as the shift.
            kept, gain, b, shift = shift, 1.0, β, β
        v = arithmetic.combine((kept, v), (gain, updates), like=v)
        d = arithmetic.combine((1.0, updates), (b, v), like=updates)
        return d, AcceleratedState(optax.safe_increment(t), v, shift, θ_next)

    return method(init, update, AcceleratedState)
