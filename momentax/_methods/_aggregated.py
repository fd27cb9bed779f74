"""Aggregated momentum: one velocity for each of several β, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule


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


def aggregated(
    betas: Sequence[ScalarOrSchedule] | np.ndarray | jax.Array = (0.0, 0.9, 0.99),
) -> optax.GradientTransformationExtraArgs:
    """Move along the mean of K velocities, each with its own β.

        vᵢ_t = βᵢ vᵢ_{t-1} + g_t,    vᵢ_0 = 0,    i = 1 .. K
        d_t = (1/K) Σᵢ vᵢ_t

    The largest β gives the speed and the others damp its oscillations. K = 1 is
    heavy ball; betas (0, β) are `linear` at weights (1/2, 1/2). The authors take
    βᵢ = 1 - 0.1^{i-1}.

    Args:
        betas: β1 .. βK in [0, 1), the share of each velocity kept each step: a
            sequence of numbers, 0-d arrays or schedules, or an array of one axis.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds K velocities, in float32 or wider, on a leading
        axis that is not sharded.

    Raises:
        ValueError: A concrete β lies outside its interval, or there is none.
        TypeError: betas is no sequence and no array.

    Source:
        Lucas, Sun, Zemel and Grosse, Aggregated momentum: stability through
        passive damping, 2019, arXiv:1804.00325.
    """
    wrong = f"betas must be a sequence of numbers in [0, 1), one for each velocity, got {betas!r}"
    if isinstance(betas, str) or not (isinstance(betas, Sequence) or np.ndim(betas) == 1):
        raise TypeError(wrong)
    β = [as_schedule(f"betas[{i}]", betas[i], "[0, 1)") for i in range(len(betas))]
    if not β:
        raise ValueError(wrong)

    def init(params):
        stacked = jax.tree.map(lambda v: jnp.stack([v] * len(β)), arithmetic.zeros_like(params))
        return AggregatedState(jnp.zeros((), jnp.int32), stacked)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state

        def accumulate(β: jax.Array, v: PyTree) -> PyTree:
            trees.require_gradients(updates, v)
            return arithmetic.combine((β, v), (1.0, updates), like=v)

        v = jax.vmap(accumulate)(jnp.stack([arithmetic.as_scalar(each(t)) for each in β]), v)
        total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), v)
        d = arithmetic.combine((1 / len(β), total), like=updates)
        return d, AggregatedState(optax.safe_increment(t), v)

    return optax.GradientTransformationExtraArgs(init, update)
