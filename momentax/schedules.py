"""β over time: schedules from a count, first 0, to β.

Each function returns a schedule, which maps a whole number or an array of them, traced or not, to
β in float32 or wider, of the same shape. When the function is called, a concrete argument outside
of its interval raises a ValueError, and an argument of another kind a TypeError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from momentax._core import arguments, hyperparameters
from momentax._core.typing import Scalar, ScalarOrSchedule, Schedule

__all__ = [
    "anneal_age",
    "demon",
    "logarithmic",
    "matched",
    "momentum_corrected",
    "nesterov_sequence",
    "one_cycle",
    "scheduled_restart",
    "sutskever",
    "trapezoid",
    "warmup",
]


def __dir__() -> list[str]:
    return __all__


def _as_constant(
    name: str, value: Scalar, interval: str = hyperparameters.interval_of("beta")
) -> Schedule:
    return hyperparameters.as_constant(name, value, interval)


def _as_learning_rate(value: ScalarOrSchedule) -> Schedule:
    """Return a learning rate: a constant is not 0; a schedule may return 0, as a warm-up does."""
    interval = "[0, inf)" if callable(value) else "(0, inf)"
    return hyperparameters.as_schedule("learning_rate_schedule", value, interval)


def _as_integer(count: ArrayLike) -> jax.Array:
    if not arguments.is_a(jnp.integer, count):
        raise TypeError(f"count must be a whole number, got {arguments.describe(count)}")
    if isinstance(count, int | np.integer):
        return jnp.asarray(arguments.as_count("count", count, least=0), jnp.int32)
    return jnp.asarray(count, jnp.int32)


def _as_float(value: ArrayLike) -> jax.Array:
    return jnp.asarray(value, hyperparameters.float_dtype())


def _below_one(β: jax.Array) -> jax.Array:
    """Return β, or the largest number below 1 where the dtype rounded β to 1."""
    return jnp.minimum(β, 1 - jnp.finfo(β.dtype).epsneg)


def warmup(start: Scalar = 0.5, end: Scalar = 0.9, steps: int = 1000) -> Schedule:
    """Increase β linearly from one value to another and keep it there.

        β_t = start + (end - start) min(t / steps, 1),    t = 0, 1, ...

    Args:
        start: β at count 0, in [0, 1).
        end: β from count `steps` on, in [0, 1).
        steps: The number of steps of the increase, at least 1.

    Example:
        >>> beta = momentax.schedules.warmup(0.0, 0.5, steps=1000)
        >>> float(beta(500))
        0.25

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013, increase β during training; a
        linear increase is the simplest choice.
    """
    first, last = _as_constant("start", start), _as_constant("end", end)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        share = jnp.minimum(_as_float(_as_integer(count)) / steps, 1)
        return first(count) * (1 - share) + last(count) * share

    return schedule


def sutskever(beta_max: Scalar = 0.99) -> Schedule:
    """Increase β towards 1 every 250 steps, up to a limit.

        β_t = min(1 - 2^(-1 - log₂(⌊t / 250⌋ + 1)), beta_max)
            = min(1 - 1 / (2 ⌊t / 250⌋ + 2), beta_max),    t = 0, 1, ...

    The t of the paper is the count: its v_{t+1} = β_t v_t - ε_t g is the update
    at count t. Each value is used for 250 updates: ½, ¾, ⅚, ⅞, 0.9, ... In the
    paper the learning rate multiplies gradients before they enter the velocity
    (velocity_units="parameter" of `sgd`), and β is used with both `heavy_ball`
    and `nesterov`.

    Args:
        beta_max: The limit, in [0, 1). The paper tries 0.9, 0.99, 0.995 and 0.999.

    Example:
        >>> beta = momentax.schedules.sutskever(0.99)
        >>> float(beta(250))
        0.75

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013, equation 5.
    """
    limit = _as_constant("beta_max", beta_max)

    def schedule(count: ArrayLike) -> jax.Array:
        return jnp.minimum(1 - 0.5 / (_as_float(_as_integer(count) // 250) + 1), limit(count))

    return schedule


def demon(beta: Scalar, steps: int) -> Schedule:
    """Decrease β to 0 so that the total weight of a gradient in later updates decreases linearly.

        β_t / (1 - β_t) = (1 - t / T) β / (1 - β),    t = 0, 1, ..., T
        β_t = β (1 - t / T) / ((1 - β) + β (1 - t / T)), and 0 from T on

    The t of the paper is the count: the first of the T updates uses β itself, and
    the update after the last one would use 0. The step of the paper, θ_{t+1} =
    θ_t - η_t g_t + β_t v_t, is `heavy_ball` with velocity_units="parameter" of
    `sgd`. For a constant learning rate the units make no difference.

    Args:
        beta: β at count 0, in [0, 1).
        steps: T, the number of steps until β is 0, at least 1.

    Example:
        >>> beta = momentax.schedules.demon(0.9, steps=1000)
        >>> float(beta(1000))
        0.0

    Source:
        Chen, Wolfe, Li and Kyrillidis, Demon: improved neural network training
        with momentum decay, 2019, arXiv:1910.04952.
    """
    first = _as_constant("beta", beta)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        left = _as_float(jnp.maximum(steps - _as_integer(count), 0)) / steps
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
    """Decrease β and increase it again, opposite to the learning rate.

        β_t = high - (high - low) s(x_t),    t = 0, 1, ...

    x_t increases linearly from 0 at count 0 to 1 at int(pct_start steps), then
    decreases linearly to 0 at int(pct_final steps), and stays 0. s(x) = x for
    anneal="linear" and (1 - cos πx) / 2 for "cosine".

    `steps` and `pct_start` mean what they mean for Optax's learning rates: with
    `optax.cosine_onecycle_schedule(steps, peak)`, and with anneal="linear" and
    pct_final=0.85 with `optax.linear_onecycle_schedule(steps, peak)`, β is
    lowest where the learning rate is highest. PyTorch's OneCycleLR with
    `total_steps` n ends at count n - 1 and turns at pct_start n - 1. Its cycle is
    this one with steps = n - 1, and its three phases with pct_final at the
    second turn.

    Args:
        steps: The number of steps of the cycle, at least 1.
        high: β at both ends, in [0, 1).
        low: β at the turn, in [0, 1), at most `high`.
        pct_start: The position of the turn, in [0, 1], as a share of `steps`.
        pct_final: Where β is `high` again, in [pct_start, 1], as a share of `steps`.
        anneal: "linear" or "cosine", the shape of both halves.

    Raises:
        ValueError: low is above high, where both are concrete.
        TypeError: pct_start or pct_final is traced.

    Example:
        >>> beta = momentax.schedules.one_cycle(1000, high=0.95, low=0.85)
        >>> float(beta(300))
        0.85...

    Source:
        Smith and Topin, Super-convergence: very fast training of neural
        networks using large learning rates, 2017, arXiv:1708.07120, for the
        cycle; Smith, A disciplined approach to neural network hyper-parameters,
        2018, arXiv:1803.09820, for β opposite to the learning rate.
    """
    steps = arguments.as_count("steps", steps)
    top, bottom = _as_constant("high", high), _as_constant("low", low)
    if not (arguments.is_traced(high) or arguments.is_traced(low)) and float(low) > float(high):
        raise ValueError(f"low must be at most high, got low={low} and high={high}")
    pct_start = arguments.as_real("pct_start", pct_start, "[0, 1]")
    pct_final = arguments.as_real("pct_final", pct_final, f"[{pct_start}, 1]")
    arguments.as_option("anneal", anneal, ("linear", "cosine"))
    turn, final = int(pct_start * steps), int(pct_final * steps)  # Truncated, as Optax does.

    def schedule(count: ArrayLike) -> jax.Array:
        t = _as_integer(count)
        rising = _as_float(t) / max(turn, 1)
        falling = _as_float(jnp.maximum(final - t, 0)) / max(final - turn, 1)
        share = jnp.where(t < turn, rising, falling)
        if anneal == "cosine":
            share = (1 - jnp.cos(math.pi * share)) / 2
        return top(count) - (top(count) - bottom(count)) * share

    return schedule


def _nesterov_beta(k: jax.Array) -> jax.Array:
    return _below_one(_as_float(k) / (_as_float(k) + 3))


def nesterov_sequence() -> Schedule:
    """Increase β as Nesterov's method for convex functions does.

        β_t = max(t - 1, 0) / (t + 2),    t = 0, 1, ...

    The schedule is made for `nesterov`, whose update at count t multiplies the
    velocity by β_{t+1} = t / (t + 3). That is (k - 1) / (k + 2) at step k = t + 1
    of the papers, so that the first update is a plain one. `accelerated()` takes
    the same steps. Where the dtype would round β to 1, β is the largest number
    below 1. The parameters are the look-ahead points y, and the guarantee is for
    x_N = y_{N-1} - α g_N: where the loss f is convex, its gradient is L-Lipschitz
    and α = 1 / L, f(x_N) - f* ≤ 2 L ‖x_0 - x*‖² / (N + 1)².

    Example:
        >>> tx = momentax.sgd(0.1, momentax.nesterov(momentax.schedules.nesterov_sequence()))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Nesterov, A method of solving a convex programming problem with
        convergence rate O(1/k²), 1983, in the simpler form of Su, Boyd and
        Candès, 2016, arXiv:1503.01243.
    """

    def schedule(count: ArrayLike) -> jax.Array:
        return _nesterov_beta(jnp.maximum(_as_integer(count) - 1, 0))

    return schedule


def scheduled_restart(
    steps: int, boundaries: Iterable[int] = (), *, growth: str = "linear", ratio: float = 2.0
) -> Schedule:
    """Run Nesterov's sequence in cycles, each of which starts from 0 again.

        β_{t+1} = k / (k + 3),    k = (t - b_i) mod F_i,    t = 0, 1, ...
        F_i = F (1 + (r - 1) i)  for growth="linear",    F rⁱ  for "exponential"

    and β_0 = 0. Stage i lasts from count b_i to b_{i+1} - 1, with b_0 = 0. The
    paper starts a stage at each decrease of the learning rate. Every cycle takes
    exactly F_i updates, rounded to a whole number, halves up, and each stage
    starts with a new cycle. The authors' code has F_i - 1 and starts no cycle at
    a stage. With one boundary at the end of each cycle, every cycle is longer
    than the one before.

    The schedule is made for `nesterov`, whose update at count t multiplies the
    velocity by β_{t+1}. With velocity_units="parameter" of `sgd`, and for a
    constant learning rate in both units, the iterates are those of the paper.

    Args:
        steps: F, the number of steps in a cycle of the first stage, at least 1.
        boundaries: b_1 < b_2 < ..., the counts at which the next stage starts,
            such as those of `optax.piecewise_constant_schedule`.
        growth: "linear" or "exponential", how F_i grows from stage to stage.
        ratio: r in [1, inf), F_1 / F. The best values in the paper for CIFAR-10
            are F = 30 and r = 2 linear, F = 40 and r = 1.25 exponential.

    Raises:
        ValueError: The boundaries do not increase.
        TypeError: ratio is traced.

    Example:
        >>> beta = momentax.schedules.scheduled_restart(30, boundaries=[90, 150])
        >>> float(beta(30)) > 0.9, float(beta(31))
        (True, 0.0)

    Source:
        Wang, Nguyen, Bertozzi, Baraniuk and Osher, Scheduled restart momentum
        for accelerated stochastic gradient descent, 2020, arXiv:2002.10583.
    """
    steps = arguments.as_count("steps", steps)
    counts = arguments.as_items("boundaries", boundaries, "counts")
    counts = [arguments.as_count(f"boundaries[{i}]", each) for i, each in enumerate(counts)]
    starts = np.array([0, *counts], np.int32)
    if np.any(np.diff(starts) <= 0):
        raise ValueError(f"boundaries must increase, got {starts[1:].tolist()}")
    arguments.as_option("growth", growth, ("linear", "exponential"))
    ratio = arguments.as_real("ratio", ratio, "[1, inf)")
    stages = np.arange(len(starts))
    with np.errstate(over="ignore"):
        factors = 1 + (ratio - 1) * stages if growth == "linear" else ratio**stages
        lengths = np.minimum(steps * factors, arguments.LARGEST_COUNT)
        lengths = np.floor(lengths + 0.5).astype(np.int32)

    def schedule(count: ArrayLike) -> jax.Array:
        t = jnp.maximum(_as_integer(count) - 1, 0)
        i = jnp.searchsorted(starts, t, side="right", method="compare_all") - 1
        return _nesterov_beta((t - jnp.asarray(starts)[i]) % jnp.asarray(lengths)[i])

    return schedule


def trapezoid(
    start: Scalar = 0.85,
    peak: Scalar = 0.95,
    end: Scalar = 0.85,
    warmup_steps: int = 300,
    total_steps: int = 3000,
    cooldown_steps: int = 50,
) -> Schedule:
    """Increase β linearly, keep it, and decrease it linearly at the end of training.

        β_t = start + (peak - start) t / W           for t ≤ W
        β_t = peak                                   for W ≤ t ≤ T - C
        β_t = end + (peak - end) (T - t) / C         for T - C ≤ t ≤ T, and end from T on

    with t = 0, 1, ..., W = warmup_steps, T = total_steps and C = cooldown_steps.

    Args:
        start: β at count 0, in [0, 1).
        peak: β between warm-up and cool-down, in [0, 1).
        end: β from count T on, in [0, 1).
        warmup_steps: W, at least 0.
        total_steps: T, at least 1.
        cooldown_steps: C, at least 0. W + C is at most T.

    Raises:
        ValueError: warmup_steps + cooldown_steps is above total_steps.

    Example:
        >>> beta = momentax.schedules.trapezoid(0.85, 0.95, 0.85, 300, total_steps=3000)
        >>> round(float(beta(150)), 6), round(float(beta(1000)), 6), round(float(beta(3000)), 6)
        (0.9, 0.95, 0.85)

    Source:
        Jordan et al., modded-nanogpt, 2024: speed records for training GPT-2,
        in which momentum of 0.85 is increased to 0.95 within 300 steps and
        decreased to 0.85 within the last 50.
    """
    first, top, last = (
        _as_constant(name, value)
        for name, value in (("start", start), ("peak", peak), ("end", end))
    )
    rise = arguments.as_count("warmup_steps", warmup_steps, least=0)
    steps = arguments.as_count("total_steps", total_steps)
    fall = arguments.as_count("cooldown_steps", cooldown_steps, least=0)
    if rise + fall > steps:
        raise ValueError(
            f"warmup_steps + cooldown_steps must be at most total_steps, got {rise} + {fall} and "
            f"{steps}"
        )

    def schedule(count: ArrayLike) -> jax.Array:
        t = _as_integer(count)
        risen = jnp.minimum(_as_float(t) / max(rise, 1), 1) if rise else _as_float(t) * 0 + 1
        left = jnp.minimum(_as_float(jnp.maximum(steps - t, 0)) / max(fall, 1), 1)
        rising = first(count) * (1 - risen) + top(count) * risen
        falling = last(count) * (1 - left) + top(count) * left
        return jnp.where(t < steps - fall, rising, falling)

    return schedule


def logarithmic(delta: Scalar = 8.0) -> Schedule:
    """Increase β so that the velocity remembers a fixed share of all steps so far.

        β_t = (t + 1) / (δ + t + 1),    t = 0, 1, ...

    For a running average, `average(beta, debias=False)`, the mean age of the
    gradients after T updates is exactly T / (δ + 1), if the weight of the velocity's
    start, 0, counts as a gradient of age T. Where the dtype would round β to 1, β is
    the largest number below 1.

    Args:
        delta: δ in (0, inf). The paper uses 8.

    Example:
        >>> beta = momentax.schedules.logarithmic(8.0)
        >>> round(float(beta(71)), 6)
        0.9

    Source:
        Ferbach, Paquette, Gidel, Everett and Paquette, Logarithmic-time schedules
        for scaling language models with momentum, 2026, arXiv:2602.05298, whose step
        t is the update at count t - 1.
    """
    δ = _as_constant("delta", delta, "(0, inf)")

    def schedule(count: ArrayLike) -> jax.Array:
        t = _as_float(_as_integer(count)) + 1
        return _below_one(t / (δ(count) + t))

    return schedule


_AGE_SHAPES = ("linear", "cosine", "exponential")


def anneal_age(start: Scalar, end: Scalar, steps: int, *, shape: str = "linear") -> Schedule:
    """Move the mean age of the gradients in the velocity from one value to another.

        β_t = a_t / (1 + a_t),    t = 0, 1, ...

        shape="linear":         a_t = start + (end - start) x
        shape="cosine":         a_t = end + (start - end) (1 + cos πx) / 2
        shape="exponential":    a_t = start^(1-x) end^x

    with x = min(t / steps, 1). a = β / (1 - β) is the mean age of the gradients in a
    velocity with a constant β, in steps. It is 9 at β = 0.9 and 99 at β = 0.99.

    Args:
        start: The mean age at count 0, in [0, inf), in steps.
        end: The mean age from count `steps` on, in [0, inf), in steps.
        steps: The number of steps of the change, at least 1.
        shape: "linear", "cosine" or "exponential"; the last one needs ages above 0.

    Raises:
        ValueError: shape is "exponential" and a concrete age is 0.

    Example:
        >>> beta = momentax.schedules.anneal_age(9.0, 99.0, steps=1000)
        >>> round(float(beta(0)), 6), round(float(beta(1000)), 6)
        (0.9, 0.99)
    """
    arguments.as_option("shape", shape, _AGE_SHAPES)
    interval = "(0, inf)" if shape == "exponential" else "[0, inf)"
    first, last = _as_constant("start", start, interval), _as_constant("end", end, interval)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        x = jnp.minimum(_as_float(_as_integer(count)) / steps, 1)
        if shape == "exponential":
            age = jnp.exp((1 - x) * jnp.log(first(count)) + x * jnp.log(last(count)))
        else:
            x = (1 - jnp.cos(math.pi * x)) / 2 if shape == "cosine" else x
            age = first(count) * (1 - x) + last(count) * x
        return _below_one(age / (1 + age))

    return schedule


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
    α = _as_learning_rate(learning_rate_schedule)
    target = _as_constant("effective", effective, "(0, inf)")

    def schedule(count: ArrayLike) -> jax.Array:
        t = _as_integer(count)
        return _below_one(jnp.maximum(1 - _as_float(α(t)) / target(t), 0))

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
    α = _as_learning_rate(learning_rate_schedule)
    β = hyperparameters.as_schedule("beta", beta)
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))

    def schedule(count: ArrayLike) -> jax.Array:
        t = _as_integer(count)
        before = jnp.maximum(t - 1, 0)
        above, below = (t, before) if velocity_units == "parameter" else (before, t)
        divisor = _as_float(α(below))
        if not (arguments.is_traced(t) or arguments.is_traced(divisor)) and divisor == 0 < t:
            raise ValueError(
                f"learning_rate_schedule is 0 at count {below}, which no beta corrects; keep it "
                "above 0"
            )
        ratio = jnp.where(divisor == 0, 0, α(above) / jnp.where(divisor == 0, 1, divisor))
        return β(t) * ratio

    return hyperparameters.with_interval("[0, inf)", schedule)
