"""β over time: schedules `count -> β`, the first count being 0."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from momentax._core import arguments, hyperparameters
from momentax._core.typing import Scalar, ScalarOrSchedule, Schedule

__all__ = [
    "demon",
    "matched",
    "momentum_corrected",
    "nesterov_sequence",
    "one_cycle",
    "scheduled_restart",
    "sutskever",
    "warmup",
]


def __dir__() -> list[str]:
    return __all__


_RATES = hyperparameters.interval_of("learning_rate")
_LARGEST_COUNT = 2**31 - 1  # Counts are int32.


def _constant(
    name: str, value: Scalar, interval: str = hyperparameters.interval_of("beta")
) -> Schedule:
    return hyperparameters.as_constant(name, value, interval)


def _steps(name: str, value: Any) -> int:
    """Return a number of steps that a count can reach."""
    if (steps := arguments.as_count(name, value)) > _LARGEST_COUNT:
        raise ValueError(
            f"{name} must be at most {_LARGEST_COUNT}, the largest int32 count, got {steps}"
        )
    return steps


def _whole(count: ArrayLike) -> jax.Array:
    return jnp.asarray(count, jnp.int32)


def _real(count: ArrayLike) -> jax.Array:
    return jnp.asarray(count, hyperparameters.float_dtype())


def _below_one(β: jax.Array) -> jax.Array:
    """The value, where the dtype rounds it to 1 the largest number below 1."""
    return jnp.minimum(β, 1 - jnp.finfo(β.dtype).epsneg)


def warmup(start: Scalar = 0.5, end: Scalar = 0.9, steps: int = 1000) -> Schedule:
    """Raise β on a line from one value to another and keep it there.

        β_t = start + (end - start) min(t / steps, 1),    t = 0, 1, ...

    Args:
        start: β at count 0, in [0, 1).
        end: β from count `steps` on, in [0, 1).
        steps: The number of steps that the line takes, at least 1.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: start or end lies outside its interval, or steps below 1.
        TypeError: start or end is no number, or steps no whole one.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013, raise β during training; the
        line is the plainest way to.
    """
    first, last = _constant("start", start), _constant("end", end)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        share = jnp.minimum(_real(count) / steps, 1)
        return first(count) * (1 - share) + last(count) * share

    return schedule


def sutskever(beta_max: Scalar = 0.99) -> Schedule:
    """Raise β towards 1 every 250 steps, as far as a limit.

        β_t = min(1 - 2^(-1 - log₂(⌊t / 250⌋ + 1)), beta_max)
            = min(1 - 1 / (2 ⌊t / 250⌋ + 2), beta_max),    t = 0, 1, ...

    The paper's t is the count: its v_{t+1} = β_t v_t - ε_t g is the update at
    count t, and 250 updates share each value: ½, ¾, ⅚, ⅞, 0.9, ... The paper
    scales gradients on their way into the velocity (velocity_units="parameter"
    of `sgd`) and uses β with both `heavy_ball` and `nesterov`.

    Args:
        beta_max: The limit, in [0, 1). The paper tries 0.9, 0.99, 0.995 and 0.999.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: A concrete beta_max lies outside its interval.
        TypeError: beta_max is no number.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013, equation 5.
    """
    limit = _constant("beta_max", beta_max)

    def schedule(count: ArrayLike) -> jax.Array:
        return jnp.minimum(1 - 0.5 / (_real(_whole(count) // 250) + 1), limit(count))

    return schedule


def demon(beta: Scalar, steps: int) -> Schedule:
    """Let β decay to 0 so that what a gradient adds to all later updates falls on a line.

        β_t / (1 - β_t) = (1 - t / T) β / (1 - β),    t = 0, 1, ..., T
        β_t = β (1 - t / T) / ((1 - β) + β (1 - t / T)), and 0 from T on

    The paper's t is the count: the first of the T updates uses β itself, and
    the update after the last would use 0. The paper's step, θ_{t+1} = θ_t -
    η_t g_t + β_t v_t, is `heavy_ball` with velocity_units="parameter" of `sgd`;
    for a constant learning rate the units make no difference.

    Args:
        beta: β at count 0, in [0, 1).
        steps: T, the number of steps until β is 0, at least 1.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: A concrete beta lies outside its interval; steps is below 1
            or above the largest count.
        TypeError: beta is no number, or steps no whole one.

    Source:
        Chen, Wolfe, Li and Kyrillidis, Demon: improved neural network training
        with momentum decay, 2019, arXiv:1910.04952.
    """
    first = _constant("beta", beta)
    steps = _steps("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        left = _real(jnp.maximum(steps - _whole(count), 0)) / steps
        kept = first(count) * left
        return kept / ((1 - first(count)) + kept)

    return schedule


def one_cycle(
    steps: int,
    high: Scalar = 0.95,
    low: Scalar = 0.85,
    *,
    pct_start: float = 0.3,
    pct_final: float = 1.0,
    anneal: str = "cosine",
) -> Schedule:
    """Lower β while the learning rate rises, raise it again while that falls.

        β_t = high - (high - low) s(x_t),    t = 0, 1, ...

    x_t rises on a line from 0 at count 0 to 1 at int(pct_start steps), falls to
    0 at int(pct_final steps) and stays there. s(x) = x for anneal="linear" and
    (1 - cos πx) / 2 for "cosine".

    `steps` and `pct_start` are those of Optax's learning rates: beside
    `optax.cosine_onecycle_schedule(steps, peak)`, and with anneal="linear" and
    pct_final=0.85 beside `optax.linear_onecycle_schedule(steps, peak)`, β is
    lowest where the learning rate is highest. PyTorch's OneCycleLR with
    `total_steps` n ends at count n - 1 and turns at pct_start n - 1; in steps
    of n - 1 it is the same, its three phases with pct_final at the second turn.

    Args:
        steps: The number of steps that the cycle takes, at least 1.
        high: β at both ends, in [0, 1).
        low: β at the turn, in [0, 1), at most `high`.
        pct_start: Where the turn is, in [0, 1], as a share of `steps`.
        pct_final: Where β is `high` again, in [pct_start, 1], as a share of `steps`.
        anneal: "linear" or "cosine", the shape of both halves.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: A concrete argument lies outside its interval, low is above
            high, or anneal is neither word.
        TypeError: high or low is no number, or steps no whole one; pct_start or
            pct_final is traced.

    Source:
        Smith and Topin, Super-convergence: very fast training of neural
        networks using large learning rates, 2017, arXiv:1708.07120, for the
        cycle; Smith, A disciplined approach to neural network hyper-parameters,
        2018, arXiv:1803.09820, for β opposite to the learning rate.
    """
    steps = _steps("steps", steps)
    top, bottom = _constant("high", high), _constant("low", low)
    if not (arguments.is_traced(high) or arguments.is_traced(low)) and float(low) > float(high):
        raise ValueError(f"low must be at most high, got {low} and {high}")
    pct_start = arguments.as_real("pct_start", pct_start, "[0, 1]")
    pct_final = arguments.as_real("pct_final", pct_final, f"[{pct_start}, 1]")
    arguments.as_option("anneal", anneal, ("linear", "cosine"))
    turn, final = int(pct_start * steps), int(pct_final * steps)  # Truncated, as Optax does.

    def schedule(count: ArrayLike) -> jax.Array:
        t = _whole(count)
        rising = _real(t) / max(turn, 1)
        falling = _real(jnp.maximum(final - t, 0)) / max(final - turn, 1)
        share = jnp.where(t < turn, rising, falling)
        if anneal == "cosine":
            share = (1 - jnp.cos(math.pi * share)) / 2
        return top(count) - (top(count) - bottom(count)) * share

    return schedule


def _sequence(k: jax.Array) -> jax.Array:
    return _below_one(_real(k) / (_real(k) + 3))


def nesterov_sequence() -> Schedule:
    """Raise β as Nesterov's method for convex functions does, for ever.

        β_t = max(t - 1, 0) / (t + 2),    t = 0, 1, ...

    It is made for `nesterov`, whose update at count t weighs the velocity by
    β_{t+1} = t / (t + 3): the papers' (k - 1) / (k + 2) at step k = t + 1, so
    that the first update is a plain one; `accelerated()` takes the same steps.
    Where the dtype rounds β to 1 it is the largest number below. The parameters
    are the look-ahead points y, and the guarantee is for x_N = y_{N-1} - α g_N:
    where the loss f is convex, its gradient L-Lipschitz and α = 1 / L,
    f(x_N) - f* ≤ 2 L ‖x_0 - x*‖² / (N + 1)².

    Args:
        None: The sequence has no parameters.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        Nothing.

    Source:
        Nesterov, A method of solving a convex programming problem with
        convergence rate O(1/k²), 1983, in the simpler form of Su, Boyd and
        Candès, 2016, arXiv:1503.01243.
    """

    def schedule(count: ArrayLike) -> jax.Array:
        return _sequence(jnp.maximum(_whole(count) - 1, 0))

    return schedule


def scheduled_restart(
    steps: int, boundaries: Iterable[int] = (), *, growth: str = "linear", ratio: float = 2.0
) -> Schedule:
    """Run Nesterov's sequence in cycles, each starting from 0 again.

        β_{t+1} = k / (k + 3),    k = (t - b_i) mod F_i,    t = 0, 1, ...
        F_i = F (1 + (r - 1) i)  for growth="linear",    F rⁱ  for "exponential"

    and β_0 = 0. Stage i lasts from count b_i to b_{i+1} - 1, with b_0 = 0; the
    paper starts one at each drop of the learning rate. Every cycle takes
    exactly F_i updates, rounded to a whole number, halves up, and a stage
    starts a cycle. The authors' code has F_i - 1, and does not start one at a
    stage. One boundary at the end of each cycle makes every cycle longer than
    the one before.

    It is made for `nesterov`, whose update at count t weighs the velocity by
    β_{t+1}: with velocity_units="parameter" of `sgd`, and for a constant
    learning rate in either units, the iterates are the paper's.

    Args:
        steps: F, the number of steps in a cycle of the first stage, at least 1.
        boundaries: b_1 < b_2 < ..., the counts at which the next stage starts,
            such as those of `optax.piecewise_constant_schedule`.
        growth: "linear" or "exponential", how F_i grows from stage to stage.
        ratio: r in [1, inf), F_1 / F. The paper's best for CIFAR-10 are F = 30
            and r = 2 linear, F = 40 and r = 1.25 exponential.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: steps, a boundary or ratio lies outside its interval, the
            boundaries do not increase, or growth is neither word.
        TypeError: steps or a boundary is no whole number, or ratio is traced.

    Source:
        Wang, Nguyen, Bertozzi, Baraniuk and Osher, Scheduled restart momentum
        for accelerated stochastic gradient descent, 2020, arXiv:2002.10583.
    """
    steps = _steps("steps", steps)
    if not isinstance(boundaries, Iterable):
        raise TypeError(f"boundaries must be a sequence of counts, got {boundaries!r}")
    starts = np.array([0, *(_steps("each boundary", b) for b in boundaries)], np.int32)
    if np.any(np.diff(starts) <= 0):
        raise ValueError(f"boundaries must increase, got {starts[1:].tolist()}")
    arguments.as_option("growth", growth, ("linear", "exponential"))
    ratio = arguments.as_real("ratio", ratio, "[1, inf)")
    stages = np.arange(len(starts))
    with np.errstate(over="ignore"):
        factors = 1 + (ratio - 1) * stages if growth == "linear" else ratio**stages
        lengths = np.floor(np.minimum(steps * factors, _LARGEST_COUNT) + 0.5).astype(np.int32)

    def schedule(count: ArrayLike) -> jax.Array:
        t = jnp.maximum(_whole(count) - 1, 0)
        i = jnp.searchsorted(starts, t, side="right", method="compare_all") - 1
        return _sequence((t - jnp.asarray(starts)[i]) % jnp.asarray(lengths)[i])

    return schedule


def matched(learning_rate_schedule: ScalarOrSchedule, effective: Scalar) -> Schedule:
    """Choose the β that keeps the effective learning rate α_t / (1 - β_t) constant.

        β_t = 1 - α_t / effective,    t = 0, 1, ...

    A smaller learning rate means a longer memory. No β in [0, 1) matches a
    learning rate above `effective`, where β_t is 0 and the effective rate that
    of plain descent, α_t; nor a learning rate of 0, where β_t is the largest
    number below 1.

    Args:
        learning_rate_schedule: α, the learning rate that `sgd` is given: a
            schedule, or a number in (0, inf).
        effective: α / (1 - β) in (0, inf), by which a gradient that stays the
            same moves the parameters each step.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: A concrete argument lies outside its interval.
        TypeError: effective is no number.

    Source:
        The effective learning rate: Sutskever, Martens, Dahl and Hinton, On the
        importance of initialization and momentum in deep learning, ICML 2013.
    """
    α = hyperparameters.as_schedule("learning_rate_schedule", learning_rate_schedule, _RATES)
    target = _constant("effective", effective, "(0, inf)")

    def schedule(count: ArrayLike) -> jax.Array:
        t = _whole(count)
        return _below_one(jnp.maximum(1 - _real(α(t)) / target(t), 0))

    return schedule


def momentum_corrected(
    learning_rate_schedule: ScalarOrSchedule,
    beta: ScalarOrSchedule,
    velocity_units: str = "parameter",
) -> Schedule:
    """Correct β so that one velocity's iterates are those of the other with plain β.

        velocity_units="parameter":    β'_t = β_t α_t / α_{t-1},    t = 1, 2, ...
        velocity_units="gradient":     β'_t = β_t α_{t-1} / α_t

    and β'_0 meets a velocity of zero. Under a schedule α of the learning rate
    these two take the same steps, to rounding, for every sequence of gradients:

        sgd(α, heavy_ball(momentum_corrected(α, β)), velocity_units="parameter")
        sgd(α, heavy_ball(β), velocity_units="gradient")

    and so do these:

        corrected = momentum_corrected(α, β, "gradient")
        sgd(α, heavy_ball(corrected), velocity_units="gradient")
        sgd(α, heavy_ball(β), velocity_units="parameter")

    Only the velocity's own decay is corrected. A method that uses β elsewhere
    keeps the plain one there: Nesterov's momentum is then
    `linear(1.0, lambda t: β(t + 1), beta=corrected)`.

    Where α rises (in parameter units; falls, in gradient units) by a factor of
    1 / β or more in one step, β' is 1 or above, and it is returned as it is: no
    other β' gives the same iterates, and the velocity stays bounded, for the
    one of parameters is always -α_t times the one of gradients.

    A divisor of 0 leaves nothing to correct: a velocity of parameters has
    forgotten the gradients that a learning rate of 0 scaled, and a velocity of
    gradients cannot coast through one. Where the divisor is traced, β' is 0
    there: the velocity starts afresh. A warm-up from 0 is exact in gradient
    units, for α_0 divides nothing there.

    Args:
        learning_rate_schedule: α, the learning rate that `sgd` is given: a
            schedule, or a number in (0, inf).
        beta: β in [0, 1), the share of the other velocity kept each step.
        velocity_units: "parameter" or "gradient", the units of the `sgd` that
            is given the corrected schedule.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: A concrete argument lies outside its interval, velocity_units
            is neither word; when called, a concrete learning rate to divide by
            is 0.

    Source:
        Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1
        hour, 2017, arXiv:1706.02677, remark 2, for velocity_units="parameter".
    """
    α = hyperparameters.as_schedule("learning_rate_schedule", learning_rate_schedule, _RATES)
    β = hyperparameters.as_schedule("beta", beta)
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))

    def schedule(count: ArrayLike) -> jax.Array:
        t = _whole(count)
        before = jnp.maximum(t - 1, 0)
        above, below = (t, before) if velocity_units == "parameter" else (before, t)
        divisor = _real(α(below))
        if not (arguments.is_traced(t) or arguments.is_traced(divisor)) and divisor == 0 < t:
            raise ValueError(
                f"learning_rate_schedule is 0 at count {below}, which no beta corrects the "
                "velocity for; keep it above 0"
            )
        ratio = jnp.where(divisor == 0, 0, α(above) / jnp.where(divisor == 0, 1, divisor))
        return β(t) * ratio

    return schedule
