"""Aggregated momentum: one velocity for each of several β, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._methods._keywords import explain_keywords


class AggregatedState(NamedTuple):
    """The state of aggregated momentum.

    count: updates made so far, a 0-d int32 array.
    velocity: the K velocities, stacked on a first axis before the parameters' own.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0
    leading_axes = 1


@explain_keywords
def aggregated(
    betas: Sequence[ScalarOrSchedule] | np.ndarray | jax.Array = (0.0, 0.9, 0.99),
    weights: Sequence[ScalarOrSchedule] | np.ndarray | jax.Array | None = None,
    *,
    gain: str = "sum",
) -> optax.GradientTransformationExtraArgs:
    """Move along a weighted sum of K velocities, each with its own β.

        gain="sum":        vᵢ_t = βᵢ vᵢ_{t-1} + g_t,               vᵢ_0 = 0,    i = 1 .. K
        gain="average":    vᵢ_t = βᵢ vᵢ_{t-1} + (1 - βᵢ) g_t
        d_t = Σᵢ wᵢ vᵢ_t

    The largest β makes the method fast, and the smaller ones damp its
    oscillations. The method of the paper is gain="sum" with wᵢ = 1/K, and its
    authors use βᵢ = 1 - 0.1^{i-1}. K = 1 is heavy ball, and betas (0, β) are
    `linear` with the weights (1/2, 1/2). With gain="average" each velocity is a
    running average, without debiasing, and the weights are the shares of the
    averages in the direction. β and w may be schedules, so that a mixture of
    averages can change during training. The velocities are stacked on a leading
    axis, which is not sharded.

    Args:
        betas: β1 .. βK in [0, 1), the share of each velocity kept each step: a
            sequence of numbers, 0-d arrays or schedules, or a 1-d array.
        weights: w1 .. wK, any real numbers, in the same forms; None is 1/K each.
        gain: "sum" or "average", what each velocity is.

    Raises:
        ValueError: A concrete β or weight lies outside its interval, betas is
            empty, there are not as many weights as betas, or gain is neither word.
        TypeError: betas or weights is neither a sequence nor a 1-d array.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.aggregated((0.0, 0.9, 0.99)))
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> mixture = momentax.aggregated((0.85, 0.98), (0.4385, 0.5615), gain="average")

    Source:
        Lucas, Sun, Zemel and Grosse, Aggregated momentum: stability through
        passive damping, 2019, arXiv:1804.00325; mixtures of averages: Pagliardini,
        Ablin and Grangier, The AdEMAMix optimizer: better, faster, older, 2024,
        arXiv:2409.03137.
    """
    β = _as_schedules("betas", betas, "numbers in [0, 1), one for each velocity", "[0, 1)")
    if weights is None:
        weights = (1 / len(β),) * len(β)
    w = _as_schedules("weights", weights, "numbers, one for each of betas", arguments.ANY_REAL)
    if len(w) != len(β):
        raise ValueError(
            f"weights must have one number for each of the {len(β)} betas, got {len(w)}"
        )
    arguments.as_option("gain", gain, ("sum", "average"))

    def init(params):
        stacked = jax.tree.map(lambda v: jnp.stack([v] * len(β)), arithmetic.zeros_like(params))
        return AggregatedState(first_count(*β, *w), stacked)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state
        _require_velocities(v, len(β))

        def accumulate(β: jax.Array, v: PyTree) -> PyTree:
            trees.require_gradients(updates, v)
            γ = 1.0 if gain == "sum" else 1 - β
            return arithmetic.combine((β, v), (γ, updates), like=v)

        v = jax.vmap(accumulate)(_stack(β, t), v)
        weighted = jax.vmap(lambda w, v: arithmetic.combine((w, v), like=v))(_stack(w, t), v)
        total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), weighted)
        d = arithmetic.combine((1.0, total), like=updates)
        return d, AggregatedState(optax.safe_increment(t), v)

    return method(init, update, AggregatedState)


def _as_schedules(name: str, values: Any, what: str, interval: str) -> list[Schedule]:
    """Return a sequence of hyperparameters as schedules, at least one."""
    wrong = f"{name} must be a sequence of {what}, got {arguments.describe(values)}"
    if isinstance(values, str | bytes) or not (
        isinstance(values, Sequence) or np.ndim(values) == 1
    ):
        raise TypeError(wrong)
    schedules = [as_schedule(f"{name}[{i}]", values[i], interval) for i in range(len(values))]
    if not schedules:
        raise ValueError(wrong)
    return schedules


def _stack(schedules: list[Schedule], count: Any) -> jax.Array:
    """Return the values of some schedules at a count as one array."""
    return jnp.stack([arithmetic.as_scalar(each(count)) for each in schedules])


def _require_velocities(v: PyTree, number: int) -> None:
    """Refuse the state of another number of velocities."""
    for leaf in jax.tree.leaves(v)[:1]:
        if leaf.shape[0] != number:
            raise ValueError(
                f"the state holds {leaf.shape[0]} velocities of each parameter where betas has "
                f"{number}; start with tx.init(params)"
            )
