"""Schedules that move β from one value to another within a number of steps."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from momentax._core import arguments
from momentax._core.typing import Scalar, Schedule
from momentax.schedules._values import as_constant, as_float, as_integer, below_one


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
    first, last = as_constant("start", start), as_constant("end", end)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        share = jnp.minimum(as_float(as_integer(count)) / steps, 1)
        return first(count) * (1 - share) + last(count) * share

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
        as_constant(name, value) for name, value in (("start", start), ("peak", peak), ("end", end))
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
        t = as_integer(count)
        risen = jnp.where(t < rise, as_float(t) / max(rise, 1), 1)
        left = jnp.minimum(as_float(jnp.maximum(steps - t, 0)) / max(fall, 1), 1)
        rising = first(count) * (1 - risen) + top(count) * risen
        falling = last(count) * (1 - left) + top(count) * left
        return jnp.where(t < steps - fall, rising, falling)

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
    top, bottom = as_constant("high", high), as_constant("low", low)
    if not (arguments.is_traced(high) or arguments.is_traced(low)) and float(low) > float(high):
        raise ValueError(f"low must be at most high, got low={low} and high={high}")
    pct_start = arguments.as_real("pct_start", pct_start, "[0, 1]")
    pct_final = arguments.as_real("pct_final", pct_final, f"[{pct_start}, 1]")
    arguments.as_option("anneal", anneal, ("linear", "cosine"))
    turn, final = int(pct_start * steps), int(pct_final * steps)  # Truncated, as Optax does.

    def schedule(count: ArrayLike) -> jax.Array:
        t = as_integer(count)
        rising = as_float(t) / max(turn, 1)
        falling = as_float(jnp.maximum(final - t, 0)) / max(final - turn, 1)
        share = jnp.where(t < turn, rising, falling)
        if anneal == "cosine":
            share = (1 - jnp.cos(math.pi * share)) / 2
        return top(count) - (top(count) - bottom(count)) * share

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
    first = as_constant("beta", beta)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        left = as_float(jnp.maximum(steps - as_integer(count), 0)) / steps
        kept = first(count) * left
        return kept / ((1 - first(count)) + kept)

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
    first, last = as_constant("start", start, interval), as_constant("end", end, interval)
    steps = arguments.as_count("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        x = jnp.minimum(as_float(as_integer(count)) / steps, 1)
        if shape == "exponential":
            age = jnp.exp((1 - x) * jnp.log(first(count)) + x * jnp.log(last(count)))
        else:
            x = (1 - jnp.cos(math.pi * x)) / 2 if shape == "cosine" else x
            age = first(count) * (1 - x) + last(count) * x
        return below_one(age / (1 + age))

    return schedule
