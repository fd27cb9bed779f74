"""Nesterov's accelerated gradient and its optimal refinement, with growing β."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.typing import PyTree


class AcceleratedState(NamedTuple):
    """The state of a method that follows a sequence of its own.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    shift: s, a 0-d array; `eval_params` reads it.
    sequence: what the sequence has reached, a 0-d array in float32 or wider.
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


def accelerated(
    sequence: str = "nesterov", *, horizon: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Accelerate descent on convex functions by a velocity that is kept ever longer.

        β_t = (θ_{t-1} - 1) / θ_t,    θ_0 = 1

        "nesterov":    θ_t = θ_{t-1} + 1/2, so that β_t = (t - 1) / (t + 2)
        "fista":       θ_t = (1 + √(1 + 4 θ²_{t-1})) / 2
                       both v_t = β_{t-1} v_{t-1} + g_t,    d_t = g_t + β_t v_t
        "ogm":         θ_t as "fista", but at the horizon with 8 in place of 4
                       v_t = β_t v_{t-1} + (β_t + θ_{t-1} / θ_t) g_t,    d_t = g_t + v_t

    Take the learning rate 1/L, for gradients with the Lipschitz constant L.
    Then f(x_t) - f* is at most c L ‖x_0 - x*‖² with c = 2 / (t² + 5t + 6),
    2 / (t + 1)² and, at the horizon, 1 / (2 θ²_t): no first-order method has a
    smaller bound. The parameters are the extrapolated point y; `eval_params`
    gives x_t = y_{t-1} - α g_t. At OGM's horizon the parameters themselves
    carry the bound, and `eval_params` gives them.

    Args:
        sequence: "nesterov", "fista" or "ogm".
        horizon: For "ogm", the number of the step that is the last, at least 1.
            None never comes to it; steps after it carry no guarantee.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds one velocity, in float32 or wider.

    Raises:
        ValueError: An unknown sequence, a horizon below 1 or for another
            sequence than "ogm".
        TypeError: horizon is no whole number.

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
        else:  # Until now the shift is the last step's β.
            kept, gain, b, shift = shift, 1.0, β, β
        v = arithmetic.combine((kept, v), (gain, updates), like=v)
        d = arithmetic.combine((1.0, updates), (b, v), like=updates)
        return d, AcceleratedState(optax.safe_increment(t), v, shift, θ_next)

    return optax.GradientTransformationExtraArgs(init, update)
