"""A whole run of an optimizer in one compiled scan, with its trajectory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.lazy import plot
from momentax._core.typing import PyTree
from momentax._state._velocity import velocity


class Rollout(NamedTuple):
    """The end of a run and what was recorded on the way.

    params: θ_T, the parameters after the last step.
    state: the state of the optimizer after the last step.
    history: for each record its pytree, by name, with time on the leading axis.
    """

    params: PyTree
    state: PyTree
    history: dict[str, PyTree]

    def plot(self, record: str | None = None, *, every: int = 1, ax: Any = None) -> Any:
        """Draw a record over the steps, by default the loss; see `plotting.history`.

        `plotting.trajectory`, which needs the loss function too, draws the path.

        Args:
            record: The name of a record, such as "angle"; None is the loss, or the first record.
            every: The argument `every` of the rollout, at least 1.
            ax: The matplotlib axes to draw on; None makes a new figure.

        Returns:
            The axes.
        """
        return plot("history", self, record, every=every, ax=ax)


def rollout(
    loss: Callable[[PyTree], jax.Array],
    params: PyTree,
    tx: optax.GradientTransformation,
    steps: int,
    *,
    record: str | Sequence[str] = ("loss",),
    every: int = 1,
) -> Rollout:
    """Run an optimizer on a loss in one compiled `lax.scan` and record its trajectory.

        g_t = ∇f(θ_{t-1}),    u_t, state = tx.update(g_t, state, θ_{t-1}),    θ_t = θ_{t-1} + u_t

    Row i of the history belongs to step t = 1 + i · every. These can be recorded:

        "loss"        f(θ_{t-1})
        "params"      θ_{t-1}
        "gradient"    g_t
        "velocity"    v_t, the velocity after step t
        "angle"       the angle between v_t and g_t in degrees, over all leaves that
                      the velocity has. Where they agree it is 0 for a velocity in
                      gradient units and 180 for one in parameter units. It is NaN
                      where v_t or g_t is zero.
        "step"        u_t, the update, which includes the learning rate

    `update` also receives value=f(θ_{t-1}), grad=g_t and value_fn=f, for
    transformations that use them. For complex parameters g is the conjugate of
    what `jax.grad` returns, so that -g descends.

    Args:
        loss: f, from parameters to a real scalar. Another call with the same
            function and the same `tx` reuses the compiled program; a callable
            without a hash is compiled at each call.
        params: θ_0, any pytree. It is copied, and the copy is donated.
        tx: Any Optax transformation from gradients to updates, such as `sgd`.
        steps: The number of steps, at least 1.
        record: One of the names above, or several.
        every: The first step of every so many is recorded, at least 1.

    Returns:
        Rollout(params, state, history): θ and the state after the last step, and
        for each record a pytree with ⌈steps / every⌉ rows on its leading axis.

    Raises:
        ValueError: A record is unknown, steps or every is below 1, or the loss
            does not return a real scalar; a velocity is to be recorded and `tx`
            keeps none, or an angle and the velocity is not shaped like the
            parameters.
        TypeError: loss is not a function, steps or every is not a whole number,
            tx is not a transformation, or a parameter is neither floating nor complex.

    Example:
        >>> run = momentax.rollout(lambda p: jnp.sum(p["w"] ** 2), params, momentax.sgd(0.1), 3)
        >>> run.history["loss"].shape
        (3,)
    """
    record = (record,) if isinstance(record, str) else record
    record = arguments.as_items("record", record, "names")
    record = tuple(arguments.as_option("record", name, _RECORDS) for name in record)
    arguments.require_function("loss", loss, "from params to a scalar", params)
    arguments.require_transformation("tx", tx)
    steps, every = arguments.as_count("steps", steps), arguments.as_count("every", every)
    need = "only floating or complex ones have a gradient"
    trees.require_kind(params, jnp.inexact, need, "have the loss close over it")
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
    arguments.require_loss(loss, params)
    with warnings.catch_warnings():
        # Under vmap over a hyperparameter one θ_0 starts many runs, so that none can reuse it.
        warnings.filterwarnings("ignore", "Some donated buffers were not usable")
        return _run(params, arguments.as_hashable(loss), tx, steps, record, every)


class _Task(NamedTuple):
    """What a run repeats at each step."""

    loss: Callable[[PyTree], jax.Array]
    tx: optax.GradientTransformationExtraArgs
    record: tuple[str, ...]


class _Moment(NamedTuple):
    """All that can be recorded of one step; state is that after it, params those before it."""

    loss: jax.Array
    params: PyTree
    gradient: PyTree
    state: PyTree
    step: PyTree


_RECORDS: dict[str, Callable[[_Moment], PyTree]] = {
    "loss": lambda now: now.loss,
    "params": lambda now: now.params,
    "velocity": lambda now: velocity(now.state),
    "gradient": lambda now: now.gradient,
    "angle": lambda now: _angle(velocity(now.state), now.gradient),
    "step": lambda now: now.step,
}


def _angle(v: PyTree, g: PyTree) -> jax.Array:
    """The angle between two trees as vectors, in degrees.

    Kahan's formula is accurate near 0 and near 180 too.
    """
    g = trees.masked_like(v, g)
    remedy = 'record="angle" needs a velocity shaped like the parameters'
    trees.require_fit("the velocity", v, "the gradient", g, remedy)
    v, g = arithmetic.unit(v), arithmetic.unit(g)
    difference = arithmetic.norm(arithmetic.combine((1.0, v), (-1.0, g), like=v))
    total = arithmetic.norm(arithmetic.combine((1.0, v), (1.0, g), like=v))
    angle = jnp.rad2deg(2 * jnp.arctan2(difference, total))
    return jnp.where(arithmetic.norm(v) > 0, angle, jnp.nan)


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), donate_argnums=0)
def _run(
    params: PyTree,
    loss: Callable[[PyTree], jax.Array],
    tx: optax.GradientTransformation,
    steps: int,
    record: tuple[str, ...],
    every: int,
) -> Rollout:
    """Scan over stretches of `every` steps, each with one row; the last may be shorter."""
    # The cache of jit is searched for the caller's own tx, so that it is adapted only here.
    task = _Task(loss, optax.with_extra_args_support(tx), record)
    carry: Any = params, task.tx.init(params)
    rows, remainder = divmod(steps, every)
    parts = []
    if rows:
        carry, part = jax.lax.scan(lambda c, _: _stretch(task, c, every), carry, length=rows)
        parts.append(part)
    if remainder:
        carry, row = _stretch(task, carry, remainder)
        parts.append(jax.tree.map(lambda leaf: leaf[None], row))
    history = jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
    params, state = carry
    return Rollout(params, state, history)


def _stretch(task: _Task, carry: Any, length: int) -> tuple[Any, dict[str, PyTree]]:
    """Make some steps and record the first."""
    carry, row = _step(task, carry)
    if length > 1:  # Without jit a scan needs at least one step.
        carry, _ = jax.lax.scan(lambda c, _: (_step(task, c)[0], None), carry, length=length - 1)
    return carry, row


def _step(task: _Task, carry: Any) -> tuple[Any, dict[str, PyTree]]:
    params, state = carry
    value, g = jax.value_and_grad(task.loss)(params)
    g = jax.tree.map(jnp.conj, g)  # For complex parameters JAX returns the conjugate.
    u, state = task.tx.update(g, state, params, value=value, grad=g, value_fn=task.loss)
    now = _Moment(value, params, g, state, u)
    row = {name: _RECORDS[name](now) for name in task.record}
    return (optax.apply_updates(params, u), state), row
