"""Schedules that increase β with the number of steps, without an end."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from momentax._core import arguments
from momentax._core.typing import Scalar, Schedule
from momentax.schedules._values import as_constant, as_float, as_integer, below_one


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
    limit = as_constant("beta_max", beta_max)

    def schedule(count: ArrayLike) -> jax.Array:
        return jnp.minimum(1 - 0.5 / (as_float(as_integer(count) // 250) + 1), limit(count))

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
    δ = as_constant("delta", delta, "(0, inf)")

    def schedule(count: ArrayLike) -> jax.Array:
        t = as_float(as_integer(count)) + 1
        return below_one(t / (δ(count) + t))

    return schedule


def _nesterov_beta(k: jax.Array) -> jax.Array:
    return below_one(as_float(k) / (as_float(k) + 3))


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
        return _nesterov_beta(jnp.maximum(as_integer(count) - 1, 0))

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
        t = jnp.maximum(as_integer(count) - 1, 0)
        i = jnp.searchsorted(starts, t, side="right", method="compare_all") - 1
        return _nesterov_beta((t - jnp.asarray(starts)[i]) % jnp.asarray(lengths)[i])

    return schedule
