"""The learning rate at which a family of transformations stops being stable."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core import arguments
from momentax._core.typing import Reals
from momentax.theory._curvature import require_eigenvalues
from momentax.theory._properties._rate import edge
from momentax.theory._reading._family import Family

_RANGE = np.log(1e9)  # How far from 1 / λ, either way and on the log scale, is searched.
_TOLERANCE = 1e-10


def largest_learning_rate(
    factory: Callable[..., optax.GradientTransformation],
    curvature: ArrayLike,
    **settings: ArrayLike,
) -> Reals:
    """Return the learning rate at which transformations stop being stable at a curvature.

        sharpness_limit(factory(learning_rate=α, ...)) = λ

    At α, the curvatures from 0 to λ are at the limit of stability. For plain transformations it
    is the edge at a learning rate of 1, divided by λ: 2 (1 + β) / λ for heavy ball. With weight
    decay or a second learning rate it differs, and is found by a search on the log scale. Systems
    are read, and nothing is run.

    Args:
        factory: A function from learning_rate and the settings, given by name, to a whole
            optimizer that `state_space` can read.
        curvature: λ in (0, inf), the largest eigenvalue of the Hessian.
        **settings: The other arguments of factory, such as beta: real numbers.

    Returns:
        α, float64, of the broadcast shape of curvature and settings, to 1e-10 of itself; where
        there are several such edges, one of them. It is infinite where 10⁹/λ is still stable,
        and 0 where even 10⁻⁹/λ is not.

    Raises:
        ValueError: An argument lies outside its interval, or as `state_space`.
        TypeError: factory is not a function or does not return a transformation, or as
            `state_space`.

    Example:
        >>> round(float(momentax.theory.largest_learning_rate(optax.sgd, 20.0, momentum=0.9)), 6)
        0.19

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    signature = "of learning_rate that returns a transformation"
    arguments.require_function("factory", factory, signature, learning_rate=1.0, **settings)
    require_eigenvalues("curvature", curvature)
    λ = arguments.as_reals("curvature", curvature, "(0, inf)")
    given = {name: arguments.as_reals(name, value) for name, value in settings.items()}
    λ, *columns = arguments.broadcast(curvature=λ, **given)
    family, x = Family(factory), 0.0
    found = np.empty(λ.shape)
    for index in np.ndindex(λ.shape):
        at = {name: float(values[index]) for name, values in zip(given, columns, strict=True)}

        def margin(x: float, at: dict[str, float] = at, λ: float = float(λ[index])) -> float:
            """Return how far the edge lies beyond λ where α = eˣ / λ, on the log scale."""
            with np.errstate(divide="ignore"):
                # A full reading, since the state may be smaller at some settings, such as β = 0.
                system = family({"learning_rate": np.exp(x) / λ, **at}, full=True)
                return float(np.log(edge(system) / λ))

        x = _sign_change(margin, x if np.isfinite(x) else 0.0)
        found[index] = np.exp(x) / λ[index]
    return found


def _sign_change(margin: Callable[[float], float], x: float) -> float:
    """Find where a function turns from positive to negative; ±inf where it does not.

    The search starts at x and expects a slope of -1.
    """
    low, high, slope = -np.inf, np.inf, -1.0
    before = np.nan, np.inf
    for tries in count():
        y = margin(x)
        if abs(y) <= _TOLERANCE / 10:
            return x
        if abs(x) == _RANGE and (x > 0) == (y > 0):
            return np.copysign(np.inf, x)
        low, high = (x, high) if y > 0 else (low, x)
        if high - low <= _TOLERANCE:  # The function jumps.
            return x
        if np.isfinite(before[1] + y):
            slope = min((y - before[1]) / (x - before[0]), -_TOLERANCE)
        before = x, y
        guess = x - y / slope
        if tries % 8 == 7 or not low < guess < high:
            guess = (low + high) / 2
        x = float(np.clip(guess, -_RANGE, _RANGE))
    raise AssertionError  # Every eighth try halves the interval.
