"""The hyperparameters that a search varies: their names, bounds and scales."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core import arguments

Factory = Callable[..., optax.GradientTransformation]
Bounds = Mapping[str, tuple[float, float]]


class Axis(NamedTuple):
    """A hyperparameter between its bounds, on the scale on which it matters evenly."""

    name: str
    low: float
    high: float
    scale: str  # "log", "momentum" for log(1 - β), or "linear".

    @property
    def start(self) -> float:
        """The coordinate of a typical value to start from: β = 1/2, or midway."""
        ends = self.to_coordinate(self.low), self.to_coordinate(self.high)
        return float(np.clip(np.log(2), *ends)) if self.scale == "momentum" else sum(ends) / 2

    def to_coordinate(self, value: float) -> float:
        if self.scale == "log":
            return float(np.log(value))
        if self.scale == "momentum":
            return float(-np.log1p(-value))
        return (value - self.low) / (self.high - self.low)

    def to_value(self, x: float) -> float:
        if self.scale == "log":
            value = np.exp(x)
        elif self.scale == "momentum":
            value = -np.expm1(-x)
        else:
            value = self.low + x * (self.high - self.low)
        return float(np.clip(value, self.low, self.high))


def _is_momentum(name: str) -> bool:
    return name.startswith("beta") or name in ("b1", "b2", "momentum", "decay", "dampening")


def _axis(name: str, bounds: Bounds, L: float) -> Axis:
    if name in bounds:
        pair = arguments.as_reals(f"the bounds of {name}", bounds[name])
        if pair.shape != (2,) or pair[0] >= pair[1]:
            raise ValueError(
                f"the bounds of {name} must be a pair (low, high) with low below high, got "
                f"{arguments.describe(bounds[name])}"
            )
        low, high = map(float, pair)
    elif name == "learning_rate":
        low, high = 1e-6 / L, 1e6 / L
    elif _is_momentum(name):
        low, high = 0.0, 1 - 1e-6
    elif name == "nu":
        low, high = 0.0, 1.0
    else:
        raise ValueError(
            f"{name} has no default bounds; give bounds={{{name!r}: (low, high)}}, or fix it in "
            "the factory"
        )
    if name == "learning_rate" and low >= 0:
        return Axis(name, low or min(1e-6 / L, 1e-12 * high), high, "log")
    if _is_momentum(name) and high <= 1:
        return Axis(name, low, min(high, max(1 - 1e-9, (1 + low) / 2)), "momentum")
    return Axis(name, low, high, "linear")


def _names(factory: Factory, bounds: Bounds) -> list[str]:
    """The arguments that are tuned: those without a default, and those that have bounds."""
    taken = inspect.signature(factory).parameters.values()
    named = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind == p.VAR_KEYWORD for p in taken):
        unknown = [name for name in bounds if name not in {p.name for p in named}]
        if unknown:
            raise ValueError(
                f"bounds names {', '.join(unknown)}, but factory takes "
                f"{', '.join(p.name for p in named) or 'nothing'}"
            )
    names = [p.name for p in named if p.default is p.empty]
    names += [name for name in bounds if name not in names]
    if not names:
        raise ValueError(
            "factory has nothing to tune: no argument lacks a default and bounds names none"
        )
    return names


def require_factory(arguments: str, factory: Any) -> None:
    """Require a function that returns transformations, not one of these."""
    if not callable(factory) or isinstance(factory, optax.GradientTransformation):
        raise TypeError(
            f"factory must be a function of {arguments} that returns a transformation, got "
            f"{arguments.describe(factory)}"
        )


def axes_of(factory: Factory, bounds: Bounds | None, L: float) -> list[Axis]:
    """Return the axes of a search, with default bounds where none are given."""
    require_factory("hyperparameters", factory)
    if not isinstance(bounds, Mapping | None):
        raise TypeError(
            f"bounds must be a dictionary of name to (low, high), got {arguments.describe(bounds)}"
        )
    given = dict(bounds or {})
    return [_axis(name, given, L) for name in _names(factory, given)]
