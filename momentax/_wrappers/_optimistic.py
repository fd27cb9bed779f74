"""Optimism: updates extrapolated by their last change."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees, xla
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree


class OptimisticState(NamedTuple):
    """The state of an optimistic transformation.

    wrapper_count: updates made so far, a 0-d int32 array. The name
        differs from that of the count of a method, so that
        `optax.tree_utils.tree_get(state, "count")` finds one count.
    previous: the last update of tx, in float32 or wider.
    inner_state: the state of tx.
    """

    wrapper_count: Any
    previous: PyTree
    inner_state: Any


def optimistic(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Extrapolate the updates u of a transformation by their last change.

        d_t = 2 u_t - u_{t-1},    u_0 = u_1

    The wrapper extrapolates the updates, as the paper's Optimistic Adam does, and
    not the gradients that tx gets; for plain descent both are the same. On the
    bilinear game x y the iterates of plain descent by both players diverge, and
    those of this method converge. The first update is that of tx, as in
    `optax.optimistic_gradient_descent`; u_0 = 0 would double it.

    Args:
        tx: The transformation to wrap, a method or a complete optimizer. Under a
            schedule of the learning rate, the last update of a complete
            optimizer contains the learning rate of its own step. A leaf whose
            gradient is None keeps its last update, which is 0 before its first
            gradient.

    Raises:
        TypeError: tx is not a gradient transformation; at init, a parameter is
            neither floating nor complex.

    Example:
        >>> tx = momentax.optimistic(optax.sgd(0.1))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with optimism,
        2018, arXiv:1711.00141.
    """
    arguments.require_transformation("tx", tx)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        count = jnp.zeros((), jnp.int32)
        return OptimisticState(count, arithmetic.zeros_like(params), tx.init(params))

    def update(updates, state, params=None, **extra_args):
        t, last, inner = state
        trees.require_gradients(updates, last)
        raw, inner = tx.update(updates, inner, params, **extra_args)
        # tx may have replaced a None gradient by zeros. Such a leaf is not extrapolated.
        u = jax.tree.map(lambda g, u: None if g is None else u, updates, raw, is_leaf=trees.is_none)
        current = arithmetic.combine((1.0, u), like=last)
        last = jax.tree.map(lambda new, old: jnp.where(t == 0, new, old), current, last)
        d = arithmetic.combine((2.0, u), (-1.0, last), like=u)
        d = jax.tree.map(lambda d, r: r if d is None else d, d, raw, is_leaf=trees.is_none)
        current = xla.computed_after(t, current, last)  # The direction reads the old update.
        return d, OptimisticState(optax.safe_increment(t), current, inner)

    return transformation(init, update, OptimisticState)
