"""The transformation that computes a kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arithmetic, trees
from momentax._core.arguments import describe
from momentax._core.transformations import method as as_method
from momentax._core.typing import PyTree, Reals
from momentax._methods._aggregated import aggregated
from momentax.memory._kernel import Kernel
from momentax.memory._response import Exponentials, Taps


class FilterState(NamedTuple):
    """The state of a kernel that is no sum of exponentials.

    count: updates made so far, a 0-d int32 array.
    velocity: the state x of the filter, n buffers stacked on a first axis before the
        parameters' own. For a kernel of finitely many weights they are the last gradients.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0
    leading_axes = 1


def method(kernel: Kernel) -> optax.GradientTransformationExtraArgs:
    """Move along past gradients with the weights of a kernel.

        d_t = Σ_k w_k g_{t-k},    k = 0, 1, ...

    A sum of exponentials is `aggregated` with gain="average". Any other kernel is the filter
    x_t = F x_{t-1} + G g_t, d_t = H x_{t-1} + D g_t, which takes `Kernel.buffers` buffers of the
    parameters' size: one for each weight but the first in a kernel of finitely many weights. The
    kernel of a whole optimizer has negative weights and gives an optimizer again, which descends
    by itself; `sgd` refuses it.

    Args:
        kernel: A Kernel, as `Kernel.from_exponentials`, `memory.of` or `memory.fit` return it.

    Raises:
        TypeError: kernel is not a Kernel.

    Example:
        >>> kernel = momentax.memory.Kernel.from_exponentials([(0.85, 0.4385), (0.98, 0.5615)])
        >>> tx = momentax.sgd(0.1, momentax.memory.method(kernel))
        >>> updates, state = tx.update(grads, tx.init(params), params)
    """
    require_kernel("kernel", kernel)
    if isinstance(kernel._response, Exponentials):
        tx = aggregated(*(tuple(part.tolist()) for part in kernel._response), gain="average")
    else:
        tx = _filtered(kernel)
    # Only the directions of a Method are taken to follow the gradient without a look at them.
    return optax.GradientTransformationExtraArgs(*tx) if kernel.total < 0 else tx


def require_kernel(name: str, kernel: Any) -> None:
    """Refuse what is not a kernel, and say how to make one."""
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"{name} must be a Kernel, such as memory.Kernel.from_exponentials([(0.9, 1.0)]) or "
            f"memory.of(momentax.heavy_ball(0.9)), got {describe(kernel)}"
        )


def _filtered(kernel: Kernel) -> optax.GradientTransformationExtraArgs:
    """Return x_t = F x_{t-1} + G g_t, d_t = H x_{t-1} + D g_t as a transformation."""
    F, G, H, D = kernel._response.filter()
    shifts = isinstance(kernel._response, Taps)

    def init(params):
        zeros = arithmetic.zeros_like(params)
        stacked = jax.tree.map(lambda x: jnp.stack([x] * len(F)) if len(F) else x[None][:0], zeros)
        return FilterState(jnp.zeros((), jnp.int32), stacked)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, x = state
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
        trees.require_gradients(updates, like)
        seen = jax.tree.map(lambda leaf: _weigh(H[None], leaf)[0], x)
        d = arithmetic.combine((1.0, seen), (D, updates), like=updates)

        def advance(leaf: jax.Array, g: Any) -> jax.Array:
            if g is None:
                return leaf
            g = g.astype(leaf.dtype)
            if shifts:
                return jnp.concatenate([g[None], leaf])[: len(leaf)]
            return _weigh(F, leaf) + _weigh(G[:, None], g[None])

        x = jax.tree.map(advance, x, updates, is_leaf=trees.is_none)
        return d, FilterState(optax.safe_increment(t), x)

    return as_method(init, update, FilterState)


def _weigh(matrix: Reals, leaf: jax.Array) -> jax.Array:
    """Multiply the first axis of a leaf by a matrix."""
    weights = jnp.asarray(matrix, np.finfo(leaf.dtype).dtype).astype(leaf.dtype)
    return jnp.tensordot(weights, leaf, axes=1, precision="highest")
