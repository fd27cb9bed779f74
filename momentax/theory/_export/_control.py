"""A linear system as a `control.StateSpace`."""

from __future__ import annotations

from typing import Any

import numpy as np

from momentax.theory._system import LinearSystem


def to_control(control: Any, system: LinearSystem) -> Any:
    """Return the system from gradients to parameters in discrete time."""
    A, B, C = system.A, system.B, system.C

    def names(kind: str) -> list[str]:
        return [kind] if system.period == 1 else [f"{kind}[{i}]" for i in range(system.period)]

    D = np.zeros((system.period, system.period))
    return control.ss(A, B, C, D, dt=1, inputs=names("gradient"), outputs=names("parameter"))
