"""Refuse a method in the place of a complete optimizer, whose updates descend."""

from __future__ import annotations

from typing import Any

import numpy as np

from momentax._core import arguments
from momentax._core.transformations import Method
from momentax._core.typing import PyTree
from momentax._wrappers import _direction


def as_optimizer(name: str, tx: Any, *, may_ascend: bool = False) -> Any:
    """Return a complete optimizer, checked as far as it can be without parameters."""
    arguments.require_transformation(name, tx, example="momentax.sgd(0.1)")
    sample = np.ones((2, 2), np.float32)
    require_descent(name, tx, sample, may_ascend=may_ascend, start_devices=False)
    return tx


def require_descent(
    name: str, tx: Any, params: PyTree, *, may_ascend: bool = False, start_devices: bool = True
) -> None:
    """Refuse a transformation of gradients into directions, if this can be found out.

    With `may_ascend` an optimizer that was made with maximize=True is not refused.
    """
    if isinstance(tx, Method):
        found = "a method"
    elif path := _direction.followed_parameter(tx, params, start_devices=start_devices):
        if may_ascend and _direction.scales_by_learning_rate(tx, params):
            return
        at = "" if path == "the root" else f" of the parameter at {path}"
        found = f"a transformation whose updates{at} follow the gradient"
    else:
        return
    raise ValueError(
        f"{name} must be a complete optimizer, whose updates descend, got {found}: give it a "
        "learning rate, such as momentax.sgd(0.1, momentax.nesterov(0.9)) in place of "
        "momentax.nesterov(0.9), or optax.adam(1e-3) in place of optax.scale_by_adam()"
    )
