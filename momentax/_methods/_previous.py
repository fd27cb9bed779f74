"""The gradient at the previous parameters, which variance-reduced methods need."""

from __future__ import annotations

import jax

from momentax._core import trees
from momentax._core.typing import PyTree


def previous(method: str, prev_grad: PyTree, updates: PyTree) -> PyTree:
    """Return the extra argument `prev_grad`, with None where the gradients are None.

    Optax passes extra arguments through `masked` and `partition` unchanged, so that `prev_grad`
    may have leaves that the gradients do not have.

    Args:
        method: The name of the method, for messages.
        prev_grad: The gradient at the previous parameters on the same batch.
        updates: The gradient at the parameters.

    Raises:
        ValueError: `prev_grad` is missing, or does not fit the gradients.
    """
    if prev_grad is None and jax.tree.leaves(updates):
        raise ValueError(
            f"{method} needs the gradient of this batch's loss at the previous parameters: "
            "call update(grads, state, params, prev_grad=jax.grad(loss)(prev_params, batch))"
        )

    prev_grad = trees.masked_like(updates, prev_grad)
    remedy = "take both gradients of one function, with respect to the same parameters"
    trees.require_fit("prev_grad", prev_grad, "the gradient", updates, remedy, none_fits=False)
    return prev_grad
