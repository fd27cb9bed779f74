"""The learning rate at which a family of transformations stops being stable."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core import arguments
from momentax.theory._closed_loop import edge
from momentax.theory._state_space import Family

_Reals = NDArray[np.float64]

_FAR = np.log(1e9)  # From 1 / λ, either way.
_MEET = 1e-10


def largest_learning_rate(
    factory: Callable[..., optax.GradientTransformation],
    curvature: ArrayLike,
    **settings: ArrayLike,
) -> _Reals:
    """Give the learning rate at which transformations stop being stable at a curvature.

        stability_edge(factory(learning_rate=α, ...)) = λ

    At α all curvatures from 0 to λ are about to be stable no more. For plain
    transformations it is `stability_edge` at a learning rate of 1, divided by λ:
    2 (1 + β) / λ for heavy ball. With weight decay or a second learning rate it
    is not, and is sought on a log scale from there on; systems are read, and
    nothing is run.

    Args:
        factory: A function from learning_rate and the settings, given by name,
            to a whole optimizer that `state_space` can read.
        curvature: λ in (0, inf), the largest eigenvalue of the Hessian.
        **settings: The other arguments of factory, such as beta: real numbers.

    Returns:
        α, float64, of the broadcast shape of curvature and settings, to 1e-10 of
        itself; where several are such edges, one of them. It is infinite where
        10⁹/λ is stable still, and 0 where not even 10⁻⁹/λ is.

    Raises:
        ValueError: An argument lies outside its interval, or as `state_space`.
        TypeError: factory is no function or returns no transformation, or as
            `state_space`.

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    if not callable(factory) or isinstance(factory, optax.GradientTransformation):
        raise TypeError(
            "factory must be a function of learning_rate that returns a transformation, got "
            f"{arguments.describe(factory)}"
        )
    λ = arguments.as_reals("curvature", curvature, "(0, inf)")
    given = {name: arguments.as_reals(name, value) for name, value in settings.items()}
    λ, *columns = np.broadcast_arrays(λ, *given.values())
    family, x = Family(factory), 0.0
    found = np.empty(λ.shape)
    for place in np.ndindex(λ.shape):
        at = {name: float(values[place]) for name, values in zip(given, columns, strict=True)}

        def margin(x: float, at: dict[str, float] = at, λ: float = float(λ[place])) -> float:
            """How far the edge lies beyond λ where α = eˣ / λ, on the log scale."""
            with np.errstate(divide="ignore"):
                # In full: at β = 0 less is state than elsewhere.
                system = family({"learning_rate": np.exp(x) / λ, **at}, full=True)
                return float(np.log(edge(system) / λ))

        x = _crossing(margin, x if np.isfinite(x) else 0.0)
        found[place] = np.exp(x) / λ[place]
    return found


def _crossing(margin: Callable[[float], float], x: float) -> float:
    """Where a function, likely of slope -1, turns from positive to negative; ±inf where nowhere."""
    low, high, slope = -np.inf, np.inf, -1.0
    before = np.nan, np.inf
    for tries in count():
        y = margin(x)
        if abs(y) <= _MEET / 10:
            return x
        if abs(x) == _FAR and (x > 0) == (y > 0):
            return np.copysign(np.inf, x)
        low, high = (x, high) if y > 0 else (low, x)
        if high - low <= _MEET:  # It jumps.
            return x
        if np.isfinite(before[1] + y):
            slope = min((y - before[1]) / (x - before[0]), -_MEET)
        before = x, y
        guess = x - y / slope
        if tries % 8 == 7 or not low < guess < high:
            guess = (low + high) / 2
        x = float(np.clip(guess, -_FAR, _FAR))
    raise AssertionError  # Every eighth try halves what is left.
