"""The hyperparameters that a search varies: their names, bounds and scales."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import optax

from momentax._core import arguments, hyperparameters

Factory = Callable[..., optax.GradientTransformation]
Bounds = Mapping[str, tuple[float, float]]


class Axis(NamedTuple):
    """A hyperparameter between its bounds, on the scale on which equal steps have equal effect."""

    name: str
    low: float
    high: float
    scale: str  # A key of hyperparameters.SCALES.

    @property
    def start(self) -> float:
        """Return the coordinate to start from, of β = 1/2 or the middle of the axis."""
        ends = self.to_coordinate(self.low), self.to_coordinate(self.high)
        return float(np.clip(np.log(2), *ends)) if self.scale == "momentum" else sum(ends) / 2

    def to_coordinate(self, value: float) -> float:
        if self.scale == "linear":  # In units of the interval, since the table knows no other.
            return (value - self.low) / (self.high - self.low)
        return float(hyperparameters.SCALES[self.scale].forward(value))

    def to_value(self, x: float) -> float:
        if self.scale == "linear":
            value = self.low + x * (self.high - self.low)
        else:
            value = hyperparameters.SCALES[self.scale].inverse(x)
        return float(np.clip(value, self.low, self.high))


def _scale(name: str) -> str:
    """Return the name of the scale on which an argument of a factory is searched.

    The table has the names that momentax uses. The arguments of a user's factory may also be named
    as those of `optax.trace`, decay, or begin with beta, such as beta_slow.
    """
    is_beta = name.startswith("beta") or name == "decay"
    return "momentum" if is_beta else hyperparameters.scale_of(name)


def _default_bounds(name: str, L: float) -> tuple[float, float]:
    scale = _scale(name)
    if scale == "log":
        return 1e-6 / L, 1e6 / L
    if scale == "momentum":
        return 0.0, 1 - 1e-6
    if hyperparameters.interval_of(name) == "[0, 1]":
        return 0.0, 1.0
    raise ValueError(
        f"{name} has no default bounds; give bounds={{{name!r}: (low, high)}}, or fix it in the "
        "factory"
    )


def _axis(name: str, bounds: Bounds, L: float) -> Axis:
    if name in bounds:
        pair = arguments.as_reals(f"the bounds of {name}", bounds[name])
        if pair.shape != (2,) or pair[0] >= pair[1]:
            raise ValueError(
                f"the bounds of {name} must be a pair (low, high) with low below high, got "
                f"{arguments.describe(bounds[name])}"
            )
        low, high = map(float, pair)
    else:
        low, high = _default_bounds(name, L)
    scale = _scale(name)
    if scale == "log" and low >= 0:
        return Axis(name, low or min(1e-6 / L, 1e-12 * high), high, scale)
    if scale == "momentum" and high <= 1:
        return Axis(name, low, min(high, max(1 - 1e-9, (1 + low) / 2)), scale)
    return Axis(name, low, high, "linear")


def _names(factory: Factory, bounds: Bounds) -> list[str]:
    """Return the arguments to tune, which are those without a default and those with bounds."""
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
            "factory has nothing to tune: every argument has a default and bounds is empty"
        )
    return names


def axes_of(factory: Factory, bounds: Bounds | None, L: float) -> list[Axis]:
    """Return the axes of a search, with default bounds where none are given."""
    signature = "of hyperparameters that returns a transformation"
    arguments.require_function("factory", factory, signature)
    if not isinstance(bounds, Mapping | None):
        raise TypeError(
            f"bounds must be a dictionary of name to (low, high), got {arguments.describe(bounds)}"
        )
    given = dict(bounds or {})
    return [_axis(name, given, L) for name in _names(factory, given)]
