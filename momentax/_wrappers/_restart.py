"""Adaptive restart: the velocity restarts from zero when it leads in a wrong direction."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, hyperparameters, trees
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._state._reset import reinitialize_where
from momentax._state._velocity import velocity
from momentax._wrappers._loss import loss_value
from momentax._wrappers._orientation import negative

_NO_INNER_PRODUCT = (
    "when='gradient' needs the inner product of the gradients and the velocity, but the velocity "
    "is not shaped like the gradients; choose 'function', 'speed' or a whole number of updates"
)


class RestartState(NamedTuple):
    """The state of a restarted transformation.

    since: updates that the present run has made, a 0-d int32 array.
    restarts: restarts so far, a 0-d int32 array.
    previous: the loss or speed of the last update, with which the next one is
        compared, a 0-d array.
    inner_state: the state of tx.
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
    """Restart the velocity v from zero when a test on the gradients g asks for it.

        when="gradient":    ⟨g_t, v_t⟩ < 0, the step would go uphill
        when="function":    f_t > f_{t-1}, the loss has increased
        when="speed":       ‖v_{t-1}‖ < ‖v_{t-2}‖, the last step was slower
        when=k:             k updates were made since the last restart

    A restart sets the NamedTuple that contains the velocity, with its count,
    sequences and second moments, to what tx.init returns for the current
    parameters. Everything else is kept; a schedule of the learning rate goes
    on. With "function", "speed" and k, update t is the first update of the new
    run. With "gradient", update t is made from g_t alone, as a first update is,
    and the new run starts with update t + 1, which sets the velocity to zero
    once more: in the paper the new run starts at the point that the gradient
    step reaches. The first update of `nesterov` at a constant β looks ahead by
    β g_t, and so does this update.

    The step would go uphill if ⟨g, v⟩ < 0 for a velocity that sums gradients,
    and if ⟨g, v⟩ > 0 for one that sums steps (`sgd` in parameter units). Each
    update detects which of the two holds, from the velocity that -g leads to.
    The tests are those of the papers, with f evaluated at the parameters, where
    v is a constant times the step x_{t-1} - x_t between the base iterates x:
    around `nesterov` in parameter units, and in gradient units at a constant
    learning rate. Any other velocity is tested as the state keeps it.

    A whole number also gives the momentum resets of SPAM, which restart Adam's two moments and
    their count after k updates, with a learning rate that warms up again after each restart and
    a `guard` that skips spikes. SPAM itself shortens the entries of a spike, and does not skip it.

        def rate(count):
            share = jnp.minimum(count % 500 / 150, 1)
            return 1e-3 * (1 - jnp.cos(jnp.pi * share)) / 2

        tx = momentax.guard(momentax.restart(optax.adam(rate), 500), spike=6.0)

    Args:
        tx: The transformation to wrap, a method or a complete optimizer.
        when: "gradient", "function", "speed", or a whole number of updates.
        min_steps: The least number of updates in a run, a whole number. None
            means 10 for "speed", since an accelerated sequence starts without
            momentum and slows down at first, and 1 for the others.
        path: The path of the velocity in the state of tx, as in
            `momentax.velocity`.

    Returns:
        The updates of tx. The state counts the updates of the present run and
        the restarts. With "function", pass the loss at the parameters to
        update: update(grads, state, params, value=loss).

    Raises:
        ValueError: when is another word, or a number below 1; at init, the state
            of tx contains no velocity, or several and path is None; at update,
            `value` is missing, or params are missing where a gradient is None.
        TypeError: tx is not a gradient transformation, or a number is not whole.

    Example:
        >>> tx = momentax.restart(momentax.sgd(0.1, momentax.nesterov(0.9)))
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> int(state.restarts)
        0

    Source:
        O'Donoghue and Candès, Adaptive restart for accelerated gradient
        schemes, 2015, arXiv:1204.3982; speed: Su, Boyd and Candès, A
        differential equation for modeling Nesterov's accelerated gradient
        method, 2016, arXiv:1503.01243; momentum resets: Huang and others, SPAM:
        spike-aware Adam with momentum reset for stable LLM training, 2025,
        arXiv:2501.06842.
    """
    arguments.require_transformation("tx", tx)
    when, least = _as_condition(when, min_steps)
    if path is not None:
        arguments.as_text("path", path, '"[0].trace"')
    tx = optax.with_extra_args_support(tx)

    def init(params):
        inner = tx.init(params)
        velocity(inner, path=path)  # Raises if there is none, or several.
        start = jnp.full((), jnp.inf if when == "function" else 0, hyperparameters.float_dtype())
        return RestartState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), start, inner)

    def update(updates, state, params=None, **extra_args):
        since, restarts, previous, inner = state
        if params is not None and not isinstance(params, optax.LookaheadParams):
            trees.require_params(updates, params)
        run_length: Any = optax.safe_increment(since) if when == "gradient" else since

        def step(g: PyTree, inner: Any) -> tuple[PyTree, Any]:
            return tx.update(g, inner, params, **extra_args)

        def restart_where(condition: Any, inner: Any) -> Any:
            return reinitialize_where(condition, inner, tx.init, updates, params, path=path)

        current = previous
        if when == "gradient":
            inner = restart_where((since == 0) & (restarts > 0), inner)
            # Only the velocities of these two trials are used. Under jit, XLA drops the rest.
            ahead, back = (
                velocity(step(g, inner)[1], path=path) for g in (updates, negative(updates))
            )
            gained = arithmetic.combine((0.5, ahead), (-0.5, back), like=ahead)
            fires = _goes_uphill(updates, ahead, gained)
        elif when == "function":
            current = _loss(extra_args).astype(previous.dtype)
            fires = current > previous
        elif when == "speed":
            current = arithmetic.norm(velocity(inner, path=path))
            fires = current < previous
        else:
            fires = since >= when
        fires &= run_length >= least
        d, inner = step(updates, restart_where(fires, inner))
        if when == "speed":  # The first step of a run is not compared with an earlier one.
            current = jnp.where(fires, 0, current)
        first = 0 if when == "gradient" else 1
        since = jnp.where(fires, first, optax.safe_increment(since))
        restarts = jnp.where(fires, optax.safe_increment(restarts), restarts)
        return d, RestartState(since, restarts, current, inner)

    return transformation(init, update, RestartState)


def _as_condition(when: Any, min_steps: Any) -> tuple[str | int, int]:
    """Return the condition and the least number of steps of a run, checked."""
    if isinstance(when, str):
        arguments.as_option("when", when, ("gradient", "function", "speed"))
    else:
        when = arguments.as_count("when", when)
    default = 10 if when == "speed" else 1
    return when, default if min_steps is None else arguments.as_count("min_steps", min_steps)


def _loss(extra_args: dict[str, Any]) -> jax.Array:
    value = extra_args.get("value")
    if value is None:
        raise ValueError(
            "when='function' needs the loss: call update(grads, state, params, value=loss)"
        )
    return loss_value(value)


def _goes_uphill(gradients: PyTree, ahead: PyTree, gained: PyTree) -> jax.Array:
    """Return whether the gradient has inner products of opposite signs with two velocities."""
    v, change = (_single_velocity(each, gradients) for each in (ahead, gained))
    g = trees.masked_like(v, gradients)
    along = arithmetic.sign_of_inner_product(g, v)
    # The change is divided in place of g, whose quotient XLA would keep in memory for both.
    return along * arithmetic.sign_of_inner_product(change, g, unit_of=g) < 0


def _single_velocity(velocity: PyTree, gradients: PyTree) -> PyTree:
    """Return the velocity of each leaf that both trees have, summed over stacked ones."""

    def total(v: Any, g: Any) -> Any:
        if trees.is_absent(v) or trees.is_absent(g):
            return None
        # Several velocities of one parameter are stacked on leading axes.
        axes = v.ndim - jnp.ndim(g) if jax.tree_util.all_leaves([g]) else -1
        if axes < 0 or v.shape[axes:] != jnp.shape(g):
            raise ValueError(_NO_INNER_PRODUCT)
        return v.sum(tuple(range(axes)))

    try:
        return jax.tree.map(total, velocity, gradients, is_leaf=trees.is_absent)
    except ValueError:
        raise ValueError(_NO_INNER_PRODUCT) from None
