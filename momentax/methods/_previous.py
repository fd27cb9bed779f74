"""The gradient at the previous parameters, as variance-reduced methods are given it."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import optax

from momentax import _check
from momentax._typing import PyTree


def previous(method: str, prev_grad: PyTree, updates: PyTree) -> PyTree:
    """The extra argument `prev_grad` where there are gradients, None where they are None.

    Optax hands extra arguments through `masked` and `partition` as they are, so that it may
    have leaves which the gradients have not.
    """
    if prev_grad is None and jax.tree.leaves(updates):
        raise ValueError(
            f"{method} needs the gradient of the present batch's loss at the previous parameters: "
            "call update(grads, state, params, prev_grad=jax.grad(loss)(prev_params, batch))"
        )

    def select(gradient: Any, part: PyTree) -> PyTree:
        return gradient if _absent(gradient) else part

    with contextlib.suppress(ValueError):  # Of another structure: said below, with the path.
        prev_grad = jax.tree.map(select, updates, prev_grad, is_leaf=_absent)
    remedy = "take both gradients of one function, with respect to the same parameters"
    _check.require_fit("prev_grad", prev_grad, "the gradient", updates, remedy, none_fits=False)
    return prev_grad


def _absent(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)
