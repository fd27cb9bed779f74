"""Adaptive restart: momentum starts again from rest when it leads the wrong way."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, hyperparameters, trees
from momentax._core.typing import PyTree
from momentax._state import _velocity
from momentax._wrappers._orientation import negative

_UNLIKE = (
    "the velocity is not shaped like the gradients, so that when='gradient' has no inner product; "
    "choose 'function', 'speed' or a whole number of updates"
)


class RestartState(NamedTuple):
    """The state of a restarted transformation.

    since: updates that the present run has made, a 0-d int32 array.
    restarts: restarts so far, a 0-d int32 array.
    previous: the loss or speed that the next one is compared with, a 0-d array.
    inner_state: tx's own.
    """

    since: Any
    restarts: Any
    previous: jax.Array
    inner_state: Any


def restart(
    tx: optax.GradientTransformation,
    when: str | int = "gradient",
    *,
    min_steps: int | None = None,
    path: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Start the velocity v again from rest when a test on the gradients g asks for it.

        when="gradient":    ⟨g_t, v_t⟩ < 0, v climbs
        when="function":    f_t > f_{t-1}, the loss rose
        when="speed":       ‖v_{t-1}‖ < ‖v_{t-2}‖, the last step was a slower one
        when=k:             k updates have been made since the last restart

    To start again is to put the NamedTuple that holds the velocity, with its
    count, sequences and second moments, to what tx.init gives at the current
    parameters. Nothing else changes: a learning rate's schedule goes on. Under
    "function", "speed" and k, update t itself is the first of the new run.
    Under "gradient" update t is made from g_t alone, as a first update is, and
    the new run begins with the next one, which drops the velocity held till
    then: the paper's new run starts at the point that the gradient step leads
    to. At a constant β the first update of `nesterov` looks ahead by β g_t as
    well, and so does this one.

    Where v sums gradients it climbs if ⟨g, v⟩ < 0, where it sums steps (`sgd`
    in parameter units) if ⟨g, v⟩ > 0; which of the two holds is seen at each
    update from what -g would have made of v. The tests are those of the papers,
    with f taken at the parameters, where v is a constant times the step
    x_{t-1} - x_t between the base iterates x: around `nesterov` in parameter
    units, and in gradient units at a constant learning rate. A velocity that
    is something else is tested as it is kept.

    Args:
        tx: The transformation, a bare method or a complete optimizer.
        when: "gradient", "function", "speed", or a whole number of updates.
        min_steps: The updates that a run makes at the least, a whole number;
            None is 10 for "speed", as an accelerated sequence starts without
            momentum and slows down at first, and 1 for the others.
        path: Which velocity of tx's state, as in `momentax.velocity`.

    Returns:
        A transformation into tx's updates. Its state, RestartState(since,
        restarts, previous, inner_state), counts the updates of the present run
        and the restarts. "function" needs the extra argument `value`, the
        loss at the parameters: update(grads, state, params, value=loss).

    Raises:
        ValueError: when is another word, or a number below 1; at init, tx holds
            no velocity, or several and no path picks one; at update, `value` is
            missing, or params are missing where a gradient is None.
        TypeError: tx is no gradient transformation, or a number is not whole.

    Source:
        O'Donoghue and Candès, Adaptive restart for accelerated gradient
        schemes, 2015, arXiv:1204.3982; speed: Su, Boyd and Candès, A
        differential equation for modeling Nesterov's accelerated gradient
        method, 2016, arXiv:1503.01243.
    """
    arguments.require_transformation("tx", tx)
    if isinstance(when, str):
        arguments.as_option("when", when, ("gradient", "function", "speed"))
    else:
        when = arguments.as_count("when", when)
    default = 10 if when == "speed" else 1
    least = default if min_steps is None else arguments.as_count("min_steps", min_steps)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        inner = tx.init(params)
        _velocity.velocity(inner, path=path)  # What is wrong with it is said now.
        start = jnp.full((), jnp.inf if when == "function" else 0, hyperparameters.float_dtype())
        return RestartState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), start, inner)

    def update(updates, state, params=None, **extra_args):
        since, restarts, previous, inner = state
        made: Any = optax.safe_increment(since) if when == "gradient" else since

        def step(g: PyTree, inner: Any) -> tuple[PyTree, Any]:
            return tx.update(g, inner, params, **extra_args)

        def renewed(inner: Any, where: Any) -> Any:
            return _velocity.renew(inner, tx.init, updates, params, where=where, path=path)

        current = previous
        if when == "gradient":
            inner = renewed(inner, (since == 0) & (restarts > 0))
            # Of these two trials only the velocity is read: the rest is never computed under jit.
            ahead, back = (
                _velocity.velocity(step(g, inner)[1], path=path)
                for g in (updates, negative(updates))
            )
            gained = arithmetic.combine((1.0, ahead), (-1.0, back), like=ahead)
            fires = _inner(updates, ahead) * jnp.sign(_inner(updates, gained)) < 0
        elif when == "function":
            current = _loss(extra_args).astype(previous.dtype)
            fires = current > previous
        elif when == "speed":
            current = arithmetic.norm(_velocity.velocity(inner, path=path))
            fires = current < previous
        else:
            fires = since >= when
        fires &= made >= least
        d, inner = step(updates, renewed(inner, fires))
        if when == "speed":  # A new run's first step has none to be slower than.
            current = jnp.where(fires, 0, current)
        first = 0 if when == "gradient" else 1
        since = jnp.where(fires, first, optax.safe_increment(since))
        return d, RestartState(since, restarts + fires.astype(jnp.int32), current, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _loss(extra_args: dict[str, Any]) -> jax.Array:
    value = extra_args.get("value")
    if value is None:
        raise ValueError(
            "when='function' needs the loss: call update(grads, state, params, value=loss)"
        )
    value = jnp.asarray(value)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"value must be a real scalar, the loss at params, got shape {value.shape} and "
            f"dtype {value.dtype}"
        )
    return value


def _inner(gradients: PyTree, velocity: PyTree) -> jax.Array:
    """The real inner product over all leaves that have both."""

    def real(v: Any, g: Any) -> Any:
        if trees.is_absent(v) or trees.is_absent(g):
            return None
        # Several velocities of one parameter are stacked in front.
        axes = v.ndim - jnp.ndim(g) if jax.tree_util.all_leaves([g]) else -1
        if axes < 0 or v.shape[axes:] != jnp.shape(g):
            raise ValueError(_UNLIKE)
        dtype = arithmetic.compute_dtype(v, g)
        v, g = jnp.asarray(v, dtype).sum(tuple(range(axes))), jnp.asarray(g, dtype)
        return jnp.sum(jnp.real(jnp.conj(g) * v)).astype(hyperparameters.float_dtype())

    try:
        products = jax.tree.map(real, velocity, gradients, is_leaf=trees.is_absent)
    except ValueError:
        raise ValueError(_UNLIKE) from None
    return sum(jax.tree.leaves(products), start=jnp.zeros((), hyperparameters.float_dtype()))
