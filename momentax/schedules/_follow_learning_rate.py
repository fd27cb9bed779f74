"""Schedules of β that follow a learning rate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from momentax._core import arguments, hyperparameters
from momentax._core.typing import Scalar, ScalarOrSchedule, Schedule
from momentax.schedules._values import (
    as_constant,
    as_float,
    as_integer,
    as_learning_rate,
    below_one,
)


def matched(learning_rate_schedule: ScalarOrSchedule, effective: Scalar) -> Schedule:
    """Choose the β that keeps the effective learning rate α_t / (1 - β_t) constant.

        β_t = 1 - α_t / effective,    t = 0, 1, ...

    A smaller learning rate gives a longer memory. Two learning rates have no β in
    [0, 1). Above `effective`, β_t is 0 and the effective learning rate is α_t,
    that of plain descent. At a learning rate of 0, β_t is the largest number
    below 1.

    Args:
        learning_rate_schedule: α, the learning rate that `sgd` is given: a
            schedule, or a number in (0, inf).
        effective: α / (1 - β) in (0, inf), by which a constant gradient of 1
            moves the parameters each step in the long run.

    Example:
        >>> learning_rate = optax.cosine_decay_schedule(0.1, 1000)
        >>> beta = momentax.schedules.matched(learning_rate, effective=1.0)
        >>> tx = momentax.sgd(learning_rate, momentax.heavy_ball(beta))

    Source:
        The effective learning rate: Sutskever, Martens, Dahl and Hinton, On the
        importance of initialization and momentum in deep learning, ICML 2013.
    """
    α = as_learning_rate(learning_rate_schedule)
    target = as_constant("effective", effective, "(0, inf)")

    def schedule(count: ArrayLike) -> jax.Array:
        t = as_integer(count)
        return below_one(jnp.maximum(1 - as_float(α(t)) / target(t), 0))

    return schedule


def momentum_corrected(
    learning_rate_schedule: ScalarOrSchedule,
    beta: ScalarOrSchedule,
    velocity_units: str = "gradient",
) -> Schedule:
    """Correct β so that a velocity in one kind of units gives the iterates of the other kind.

        velocity_units="gradient":     β'_t = β_t α_{t-1} / α_t,    t = 1, 2, ...
        velocity_units="parameter":    β'_t = β_t α_t / α_{t-1}

    β'_0 has no effect, since the velocity is 0. Under a schedule α of the learning
    rate these two take the same steps, up to rounding, for every sequence of
    gradients:

        sgd(α, heavy_ball(momentum_corrected(α, β)), velocity_units="gradient")
        sgd(α, heavy_ball(β), velocity_units="parameter")

    and so do these two:

        corrected = momentum_corrected(α, β, "parameter")
        sgd(α, heavy_ball(corrected), velocity_units="parameter")
        sgd(α, heavy_ball(β), velocity_units="gradient")

    Only the decay of the velocity is corrected. A method that uses β elsewhere
    needs the original β there: Nesterov's momentum is then
    `linear(1.0, lambda t: β(t + 1), beta=corrected)`.

    β' is 1 or larger where α changes by a factor of 1 / β or more in one step:
    where it decreases in gradient units, and where it increases in parameter
    units. No other β' gives the same iterates. The velocity stays bounded, since
    the velocity in parameter units is always -α_t times that in gradient units.

    Where the divisor is 0, no β' is correct: a velocity in parameter units does
    not contain the gradients that a learning rate of 0 multiplied, and a velocity
    in gradient units does not move the parameters. If the divisor is traced, β'
    is 0 there, so that the velocity starts from 0. In gradient units a warm-up
    from 0 is exact, since α_0 is never a divisor.

    Args:
        learning_rate_schedule: α, the learning rate that `sgd` is given: a
            schedule, or a number in (0, inf).
        beta: β in [0, 1), the share of the other velocity kept each step.
        velocity_units: "gradient" or "parameter", the units of the `sgd` that
            is given the corrected schedule.

    Raises:
        ValueError: When the schedule is called, a concrete learning rate that is
            a divisor is 0.

    Example:
        >>> learning_rate = optax.exponential_decay(0.1, 1, 0.5)
        >>> beta = momentax.schedules.momentum_corrected(learning_rate, 0.4)
        >>> float(beta(1))
        0.8...

    Source:
        Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1
        hour, 2017, arXiv:1706.02677, remark 2, for velocity_units="parameter".
    """
    α = as_learning_rate(learning_rate_schedule)
    β = hyperparameters.as_schedule("beta", beta)
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))

    def schedule(count: ArrayLike) -> jax.Array:
        t = as_integer(count)
        before = jnp.maximum(t - 1, 0)
        above, below = (t, before) if velocity_units == "parameter" else (before, t)
        divisor = as_float(α(below))
        if not (arguments.is_traced(t) or arguments.is_traced(divisor)) and divisor == 0 < t:
            raise ValueError(
                f"learning_rate_schedule is 0 at count {below}, which no beta corrects; keep it "
                "above 0"
            )
        ratio = jnp.where(divisor == 0, 0, α(above) / jnp.where(divisor == 0, 1, divisor))
        return β(t) * ratio

    return hyperparameters.with_interval("[0, inf)", schedule)
