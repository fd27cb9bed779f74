"""The state of a guard, and the errors of the guards that were asked to raise."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core.typing import PyTree


class GuardState(NamedTuple):
    """The state of a guarded transformation.

    skipped_nonfinite: steps skipped so far because a gradient, another array that update was
        given, the new state or the updates were not finite, a 0-d int32 array.
    skipped_norm: steps skipped because the gradient was longer than max_gradient_norm.
    skipped_spike: steps skipped because the gradient norm or the loss was a spike.
    zeroed: steps made with some entries of the gradient set to 0, with on_nonfinite="zero".
    failed: whether a step was not finite, with on_nonfinite="raise", a 0-d array of bool; None
        otherwise.
    recent: the norms and the losses of the last steps made, an array of shape (2, 128); None
        without `spike`.
    known: how many of each are known, at the end of `recent`; None without `spike`.
    streak: spikes since the last step made; None without `spike`.
    inner_state: the state of tx.
    """

    skipped_nonfinite: Any
    skipped_norm: Any
    skipped_spike: Any
    zeroed: Any
    failed: Any
    recent: Any
    known: Any
    streak: Any
    inner_state: Any


class SkippedStepError(FloatingPointError):
    """A step was not finite and was skipped, under `guard(..., on_nonfinite="raise")`.

    params, state: where `train_step` raises, the parameters and the state with which training
        can go on, or be looked into; None elsewhere.
    """

    params: PyTree = None
    state: PyTree = None


MESSAGE = (
    "a step was not finite and was skipped: an entry of the gradient, of another array that update "
    "was given, of the updates or of the new state is infinite or NaN. The state counts such steps "
    "as skipped_nonfinite; to find the entry, call tx.update outside of jit"
)


def _can_raise(node: Any) -> bool:
    return type(node) is GuardState and node.failed is not None


def nodes_that_raise(state: PyTree) -> list[GuardState]:
    """Return the states of the guards that were asked to raise."""
    return [node for node in jax.tree.leaves(state, is_leaf=_can_raise) if _can_raise(node)]


def raise_for_failures(state: PyTree) -> None:
    """Raise an error if one of these guards has skipped a step; wait for the state to be known."""
    if any(bool(jnp.any(node.failed)) for node in nodes_that_raise(state)):
        raise SkippedStepError(MESSAGE)


def forget_failures(state: PyTree) -> PyTree:
    """Return a state that `raise_for_failures` accepts, with everything else unchanged."""
    return jax.tree.map(
        lambda node: node._replace(failed=node.failed & False) if _can_raise(node) else node,
        state,
        is_leaf=_can_raise,
    )
