"""A whole run in one compiled scan, with its trajectory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.typing import PyTree
from momentax._state._velocity import velocity

_RECORDS = ("loss", "params", "velocity", "gradient", "angle", "step")


class Rollout(NamedTuple):
    """Where a run ended and what was recorded on the way.

    params: θ_T, after the last step.
    state: the optimizer's, after the last step.
    history: a pytree per record, by its name, time on the leading axis.
    """

    params: PyTree
    state: PyTree
    history: dict[str, PyTree]


def _angle(v: PyTree, g: PyTree) -> jax.Array:
    """Degrees between two trees as vectors, by Kahan's formula: exact near 0 and 180 too."""
    g = trees.masked_like(v, g)
    remedy = 'record="angle" needs a velocity shaped like the parameters'
    trees.require_fit("the velocity", v, "the gradient", g, remedy)
    v, g = arithmetic.unit(v), arithmetic.unit(g)
    apart = arithmetic.norm(arithmetic.combine((1.0, v), (-1.0, g), like=v))
    along = arithmetic.norm(arithmetic.combine((1.0, v), (1.0, g), like=v))
    angle = jnp.rad2deg(2 * jnp.arctan2(apart, along))
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
    tx = optax.with_extra_args_support(tx)  # Made here, since jit looks for the caller's own.

    def step(carry: Any) -> tuple[Any, dict[str, PyTree]]:
        params, state = carry
        value, g = jax.value_and_grad(loss)(params)
        g = jax.tree.map(jnp.conj, g)  # For complex parameters JAX gives the conjugate.
        u, state = tx.update(g, state, params, value=value, grad=g, value_fn=loss)
        measures: dict[str, Callable[[], PyTree]] = {
            "loss": lambda: value,
            "params": lambda: params,
            "velocity": lambda: velocity(state),
            "gradient": lambda: g,
            "angle": lambda: _angle(velocity(state), g),
            "step": lambda: u,
        }
        row = {name: measures[name]() for name in record}
        return (optax.apply_updates(params, u), state), row

    def stretch(carry: Any, length: int) -> tuple[Any, dict[str, PyTree]]:
        """One step recorded, the rest of the stretch not."""
        carry, row = step(carry)
        if length > 1:  # Without jit a scan needs at least one step.
            carry, _ = jax.lax.scan(lambda c, _: (step(c)[0], None), carry, length=length - 1)
        return carry, row

    carry: Any = params, tx.init(params)
    rows, remainder = divmod(steps, every)
    parts = []
    if rows:
        carry, history = jax.lax.scan(lambda c, _: stretch(c, every), carry, length=rows)
        parts.append(history)
    if remainder:
        carry, last = stretch(carry, remainder)
        parts.append(jax.tree.map(lambda leaf: leaf[None], last))
    history = jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
    params, state = carry
    return Rollout(params, state, history)


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

    Row i of the history is of step t = 1 + i · every. What can be recorded:

        "loss"        f(θ_{t-1})
        "params"      θ_{t-1}
        "gradient"    g_t
        "velocity"    v_t, the velocity after g_t has entered it
        "angle"       between v_t and g_t, in degrees, over all leaves that the
                      velocity has: 0 is agreement for a velocity in gradient
                      units, 180 for one in parameter units; NaN where either is
                      zero
        "step"        u_t, the step with its learning rate

    `update` also gets value=f(θ_{t-1}), grad=g_t and value_fn=f, for the
    transformations that ask for them. For complex parameters g is the conjugate
    of what `jax.grad` returns, so that -g descends.

    Args:
        loss: f, from parameters to a real scalar. Calling again with the same
            function and `tx` reuses the compiled program; a callable that has
            no hash is compiled at each call.
        params: θ_0, any pytree. It is copied, and the copy donated.
        tx: Any Optax transformation from gradients to updates, such as `sgd`.
        steps: How many steps, at least 1.
        record: One of the names above, or several.
        every: Record the first step of every so many, at least 1.

    Returns:
        Rollout(params, state, history): θ and the state after the last step,
        and for each record a pytree with ⌈steps / every⌉ rows on its leading axis.

    Raises:
        ValueError: An unknown record, steps or every below 1, a loss that is
            no real scalar; or a velocity to record where `tx` keeps none, or an angle
            where it is not shaped like the parameters.
        TypeError: steps or every is no whole number, tx no transformation, or a
            parameter is neither floating nor complex.
    """
    record = (record,) if isinstance(record, str) else tuple(record)
    for name in record:
        arguments.as_option("record", name, _RECORDS)
    arguments.require_transformation("tx", tx)
    steps, every = arguments.as_count("steps", steps), arguments.as_count("every", every)
    trees.require_inexact(params)
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
    arguments.require_loss(loss, params)
    with warnings.catch_warnings():
        # Under vmap over a hyperparameter one θ_0 starts many runs: its buffer fits none of them.
        warnings.filterwarnings("ignore", "Some donated buffers were not usable")
        return _run(params, arguments.as_hashable(loss), tx, steps, record, every)
