"""Aggregated momentum: one velocity for each of several β, and their mean."""

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
from momentax._core.typing import PyTree, ScalarOrSchedule
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
) -> optax.GradientTransformationExtraArgs:
    """Move along the mean of K velocities, each with its own β.

        vᵢ_t = βᵢ vᵢ_{t-1} + g_t,    vᵢ_0 = 0,    i = 1 .. K
        d_t = (1/K) Σᵢ vᵢ_t

    The largest β makes the method fast, and the smaller ones damp its
    oscillations. K = 1 is heavy ball, and betas (0, β) are `linear` with the
    weights (1/2, 1/2). The authors use βᵢ = 1 - 0.1^{i-1}. The velocities are
    stacked on a leading axis, which is not sharded.

    Args:
        betas: β1 .. βK in [0, 1), the share of each velocity kept each step: a
            sequence of numbers, 0-d arrays or schedules, or a 1-d array.

    Raises:
        ValueError: A concrete β lies outside its interval, or betas is empty.
        TypeError: betas is neither a sequence nor a 1-d array.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.aggregated((0.0, 0.9, 0.99)))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Lucas, Sun, Zemel and Grosse, Aggregated momentum: stability through
        passive damping, 2019, arXiv:1804.00325.
    """
    wrong = (
        "betas must be a sequence of numbers in [0, 1), one for each velocity, got "
        f"{arguments.describe(betas)}"
    )
    if isinstance(betas, str) or not (isinstance(betas, Sequence) or np.ndim(betas) == 1):
        raise TypeError(wrong)
    β = [as_schedule(f"betas[{i}]", betas[i], "[0, 1)") for i in range(len(betas))]
    if not β:
        raise ValueError(wrong)

    def init(params):
        stacked = jax.tree.map(lambda v: jnp.stack([v] * len(β)), arithmetic.zeros_like(params))
        return AggregatedState(first_count(*β), stacked)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state
        _require_velocities(v, len(β))

        def accumulate(β: jax.Array, v: PyTree) -> PyTree:
            trees.require_gradients(updates, v)
            return arithmetic.combine((β, v), (1.0, updates), like=v)

        v = jax.vmap(accumulate)(jnp.stack([arithmetic.as_scalar(each(t)) for each in β]), v)
        total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), v)
        d = arithmetic.combine((1 / len(β), total), like=updates)
        return d, AggregatedState(optax.safe_increment(t), v)

    return method(init, update, AggregatedState)


def _require_velocities(v: PyTree, number: int) -> None:
    """Refuse the state of another number of velocities."""
    for leaf in jax.tree.leaves(v)[:1]:
        if leaf.shape[0] != number:
            raise ValueError(
                f"the state holds {leaf.shape[0]} velocities of each parameter where betas has "
                f"{number}; start with tx.init(params)"
            )
