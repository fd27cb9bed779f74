"""Raise for the steps that a guard has skipped within jit."""

from __future__ import annotations

from momentax._core.transformations import describe_state
from momentax._core.typing import PyTree
from momentax._wrappers._failures import nodes_that_raise, raise_for_failures


def require_finite(state: PyTree) -> None:
    """Raise an error if a guard has skipped a step for which it was asked to raise.

    Call it between the steps of a loop of your own, as often as you like: the state keeps the
    fault. It waits for the step that made the state. `momentax.train_step` does this by itself.

    Args:
        state: The state of a transformation that contains
            `momentax.guard(..., on_nonfinite="raise")`, or a pytree that contains one.

    Raises:
        FloatingPointError: A step was not finite. It was skipped, so that it has changed neither
            the parameters nor the state of the guarded transformation.
        TypeError: state contains no guard that was asked to raise.

    Example:
        >>> tx = momentax.guard(momentax.sgd(0.1), on_nonfinite="raise")
        >>> updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
        >>> momentax.diagnostics.require_finite(state)
    """
    if not nodes_that_raise(state):
        raise TypeError(
            'state must contain that of momentax.guard(..., on_nonfinite="raise"), got '
            f"{describe_state(state)}"
        )
    raise_for_failures(state)
