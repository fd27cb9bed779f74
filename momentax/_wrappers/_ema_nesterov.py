"""EMA-Nesterov: take gradients ahead of the iterate, along an average of the past steps."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._wrappers._complete import as_optimizer


class StepAverage(NamedTuple):
    """An average of the steps of an optimizer, and how far the parameters lie ahead along it.

    schedule_count: updates made so far, a 0-d int32 array. The name differs from that of the
        count of a method, so that `optax.tree_utils.tree_get(state, "count")` finds one count.
    velocity: m, shaped like the parameters, in float32 or wider.
    shift: β of the next step, a 0-d array in float32 or wider; `eval_params` reads it.
    """

    schedule_count: Any
    velocity: PyTree
    shift: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False
    units = "parameter"


class EmaNesterovState(NamedTuple):
    """The state of an optimizer that takes gradients ahead of its iterate.

    average: the average of its steps, a NamedTuple with the fields schedule_count, velocity and
        shift.
    inner_state: the state of tx.
    """

    average: StepAverage
    inner_state: Any


def ema_nesterov(
    tx: optax.GradientTransformation, beta: ScalarOrSchedule, gamma: ScalarOrSchedule = 0.99
) -> optax.GradientTransformationExtraArgs:
    """Take the gradients of any optimizer ahead of θ, along an average m of its past steps.

        y_{t-1} = θ_{t-1} + β_t m_{t-1},    m_0 = 0
        θ_t = y_{t-1} + u_t                               u_t from tx and the gradient at y_{t-1}
        m_t = γ_t m_{t-1} + (1 - γ_t) (θ_t - θ_{t-1})

    The parameters are y, the point where gradients are taken, as with `nesterov`, and
    `eval_params` returns θ. As θ_t - θ_{t-1} = u_t + β_t m_{t-1}, one array is enough:

        m_t = (γ_t + (1 - γ_t) β_t) m_{t-1} + (1 - γ_t) u_t
        y_t = y_{t-1} + u_t + β_{t+1} m_t

    For a constant u, m tends to u / (1 - β), with a time constant of 1 / ((1 - γ) (1 - β)) steps.
    γ = 0 with plain descent as tx is `sgd(α, nesterov(β))`, and β = 0 is tx itself.

    Args:
        tx: The optimizer to wrap, complete: its updates descend. Its weight decay acts on y.
        beta: β in [0, 1), how far gradients are taken ahead, in units of m. A schedule that is 0
            at first lets m gather steps before it is used.
        gamma: γ in [0, 1), the share of the average kept each step.

    Returns:
        A complete optimizer. It keeps one array like the parameters, m in float32 or wider, which
        `momentax.velocity` finds beside the velocities of tx.

    Raises:
        ValueError: beta or gamma lies outside its interval, or tx is a method or another
            transformation whose updates follow the gradient.
        TypeError: tx is not a gradient transformation, or beta or gamma is not a number.

    Example:
        >>> tx = momentax.ema_nesterov(momentax.sgd(0.1), beta=0.3)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)
        >>> base = momentax.eval_params(params, state)

    Source:
        EMA-Nesterov, 2026, arXiv:2605.25395.
    """
    tx = optax.with_extra_args_support(as_optimizer("tx", tx, may_ascend=True))
    β = as_schedule("beta", beta)
    γ = as_schedule("gamma", gamma, "[0, 1)")
    average = _look_ahead(β, γ)

    def init(params):
        inner, steps = tx.init(params), cast(StepAverage, average.init(params))
        return EmaNesterovState(steps, inner)

    def update(updates, state, params=None, **extra_args):
        trees.require_gradients(updates, state.average.velocity)
        u, inner = tx.update(updates, state.inner_state, params, **extra_args)
        # tx may have replaced a None gradient by zeros. Such a leaf keeps its average.
        moved = jax.tree.map(
            lambda g, u: None if g is None else u, updates, u, is_leaf=trees.is_none
        )
        moved, steps = average.update(moved, state.average)
        steps = cast(StepAverage, steps)
        moved = jax.tree.map(lambda d, u: u if d is None else d, moved, u, is_leaf=trees.is_none)
        return moved, EmaNesterovState(steps, inner)

    return transformation(init, update, EmaNesterovState)


def _look_ahead(β: Schedule, γ: Schedule) -> optax.GradientTransformationExtraArgs:
    """Return the transformation of the updates u of an optimizer into those of y."""

    def share_kept(t: jax.Array) -> Any:
        return γ(t) + (1 - γ(t)) * β(t)

    def init(params):
        count, m = first_count(β, γ), arithmetic.zeros_like(params)
        return StepAverage(count, m, arithmetic.as_scalar(β(count)))

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, m, _ = state
        after = optax.safe_increment(t)
        m = xla.decay_and_add(t, share_kept(t), m, (1 - γ(t), updates))
        moved = arithmetic.combine((1.0, updates), (β(after), m), like=updates)
        return moved, StepAverage(after, m, arithmetic.as_scalar(β(after)))

    return transformation(init, update, StepAverage, reads={"beta": share_kept})
