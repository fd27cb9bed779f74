"""The linear pipelines of a picture: read once, each with its name and the sign that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import describe, require_transformation
from momentax._core.typing import Reals
from momentax.memory import Kernel, of
from momentax.plotting._style import COLORS, DASHES
from momentax.theory import (
    StateSpace,
    frequency_response,
    impulse_response,
    mean_age,
    state_space,
)

_NONE = 1e-12  # A share of all weight below this is due to rounding.
_AGES = 40  # After this many mean ages the weights are rounding.
_MOST = 2**15


class Pipeline(NamedTuple):
    """A linear pipeline as a filter of gradients.

    name: in the legend; empty where it is the only one.
    system: its StateSpace without weight decay.
    sign: 1 if its updates follow the gradients, as those of a method do, and -1 if they descend.
    total: the response to a constant gradient of 1, downhill; infinite if the velocity does not
        decay.
    kernel: its memory.Kernel, whose weights may have the other sign; None if the velocity does
        not decay.
    """

    name: str
    system: StateSpace
    sign: int
    total: float
    kernel: Kernel | None

    def weights(self, steps: int) -> Reals:
        """Return the weights of the last gradients, the newest first."""
        return self.sign * impulse_response(self.system, steps)


def read_pipelines(tx: Any) -> list[Pipeline]:
    """Read a transformation, or each one of a mapping from names."""
    if not isinstance(tx, Mapping):
        return [_read("", _as_linear("tx", tx))]
    if not tx:
        raise ValueError("tx must be a transformation, or a mapping with at least one, got none")
    for name in tx:
        if not isinstance(name, str):
            raise TypeError(f"the names in tx must be text, got {describe(name)}")
    # All are checked before the first one is read, which compiles its update.
    given = {name: _as_linear(f"tx[{name!r}]", each) for name, each in tx.items()}
    return [_read(name, each) for name, each in given.items()]


def _as_linear(name: str, tx: Any) -> optax.GradientTransformation | StateSpace | Kernel:
    """Return what can be read as a linear pipeline, checked by its type."""
    if isinstance(tx, optax.MultiSteps):
        return tx.gradient_transformation()
    if not isinstance(tx, StateSpace | Kernel):
        require_transformation(
            name, tx, ", its StateSpace, a memory.Kernel, or a mapping from names to such"
        )
    return tx


def _read(name: str, tx: optax.GradientTransformation | StateSpace | Kernel) -> Pipeline:
    given = None
    if isinstance(tx, Kernel):
        given, tx = tx, tx.state_space
    system = _without_decay(tx if isinstance(tx, StateSpace) else state_space(tx))
    total = float(frequency_response(system, 0.0).real)
    first = impulse_response(system, 64)
    moved = total if np.isfinite(total) and abs(total) > _NONE else first[np.abs(first).argmax()]
    sign = -1 if moved < 0 else 1
    return Pipeline(name, system, sign, sign * total, given or _kernel_of(system))


def _kernel_of(system: StateSpace) -> Kernel | None:
    """Return the kernel of a pipeline, of one with a period the mean over its phases."""
    try:
        age = abs(mean_age(system))
    except ValueError:  # The velocity does not decay.
        return None
    if np.ndim(system.B) == 1:
        return of(system)
    steps = min(_AGES * (1 + age), _MOST) if np.isfinite(age) else _MOST
    return Kernel.from_weights(impulse_response(system, int(steps)))


def _without_decay(space: StateSpace) -> StateSpace:
    """Return the response to gradients alone, without that to the parameters.

    At the start the state is (θ, 0, ..., 0), so that without weight decay a step leaves it as it
    is. The states before each step of a period share entries, so that their decay remains.
    """
    frequency_response(space, 0.0)  # It refuses a StateSpace that is none.
    A = np.array(space.A, np.float64)
    if np.ndim(space.B) > 1:
        return space
    A[:, 0] = np.eye(len(A))[0]
    return StateSpace(A, space.B, space.C)


def subject(pipelines: list[Pipeline]) -> str:
    """Return what the gradients have their weights in, for the label of an axis."""
    signs = {each.sign for each in pipelines}
    if len(signs) > 1:
        return "update (positive along a direction, or downhill in a step)"
    return "step, positive downhill" if signs == {-1} else "direction"


def line_style(i: int) -> dict[str, Any]:
    """Return the colour and the dashes of the i-th of several lines."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i % len(DASHES)]}
