"""The settings of a family of transformations, and the best of them by one measure or another."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments
from momentax.theory._closed_loop import loops, radius, rate
from momentax.theory._filter import impulse_response
from momentax.theory._state_space import Family
from momentax.theory._system import StateSpace, phases

_Reals = NDArray[np.float64]
Factory = Callable[..., optax.GradientTransformation]
Bounds = Mapping[str, tuple[float, float]]

ERRORS = (ValueError, ArithmeticError, np.linalg.LinAlgError)
_RESPONSE = 64  # Updates by which two systems are told apart.
_ALIKE = 1e-9


class Goal(NamedTuple):
    """What is to be small, the rate itself if nothing else, and the largest rate allowed."""

    cost: Callable[[StateSpace], float] | None = None
    limit: float = np.inf


class _Axis(NamedTuple):
    """A hyperparameter between its bounds, on the scale where it matters evenly."""

    name: str
    low: float
    high: float
    scale: str  # "log", "memory" for log(1 - β), or "linear".

    @property
    def home(self) -> float:
        """A setting like others, to begin with: β = 1/2, or midway."""
        ends = self.into(self.low), self.into(self.high)
        return float(np.clip(np.log(2), *ends)) if self.scale == "memory" else sum(ends) / 2

    def into(self, value: float) -> float:
        if self.scale == "log":
            return float(np.log(value))
        if self.scale == "memory":
            return float(-np.log1p(-value))
        return (value - self.low) / (self.high - self.low)

    def out(self, x: float) -> float:
        if self.scale == "log":
            value = np.exp(x)
        elif self.scale == "memory":
            value = -np.expm1(-x)
        else:
            value = self.low + x * (self.high - self.low)
        return float(np.clip(value, self.low, self.high))


def _axis(name: str, bounds: Bounds, L: float) -> _Axis:
    remembers = name.startswith("beta") or name in ("b1", "b2", "momentum", "decay", "dampening")
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
    elif remembers:
        low, high = 0.0, 1 - 1e-6
    elif name == "nu":
        low, high = 0.0, 1.0
    else:
        raise ValueError(
            f"{name} has no bounds that would go without saying; give bounds={{{name!r}: (low, "
            "high)}, or fix it in the factory"
        )
    if name == "learning_rate" and low >= 0:
        return _Axis(name, low or min(1e-6 / L, 1e-12 * high), high, "log")
    if remembers and high <= 1:
        return _Axis(name, low, min(high, max(1 - 1e-9, (1 + low) / 2)), "memory")
    return _Axis(name, low, high, "linear")


def _names(factory: Factory, bounds: Bounds) -> list[str]:
    """What is tuned: arguments without a default, and those that have bounds."""
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


@contextmanager
def _quiet() -> Iterator[None]:
    """A search may try what overflows; what it finds is looked at afterwards."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def difference(system: StateSpace, other: StateSpace) -> _Reals:
    """How far apart two systems are, by their responses to an impulse."""
    aim = impulse_response(other, _RESPONSE)
    return (impulse_response(system, _RESPONSE) - aim) / np.linalg.norm(aim)


def _gaps(system: StateSpace, ρ: float, λ: _Reals, unit: float) -> _Reals:
    """What is not negative where no root lies beyond |z| = ρ, and is smooth where roots meet.

        Π_i (ρ - z_i),    Π_i (ρ + z_i),    Π_{i<j} (ρ² - z_i z_j)

    of the closed loop's roots z at each λ. The spectral radius is not even
    Lipschitz where two meet, and that is where the best settings are. The
    first root to cross |z| = ρ turns one of these negative: a real one one of
    the first two, a pair of complex ones the third. Of a period they are those of
    all of its steps together, for each has a root per step that is as large.
    """
    steps, _ = phases(system)
    whole = reduce(lambda before, M: M @ before, loops(steps, λ))
    z, ρ = np.linalg.eigvals(whole) / unit ** len(steps), (ρ / unit) ** len(steps)
    i, j = np.triu_indices(z.shape[1], 1)
    gaps = [
        np.prod(ρ - z, axis=1),
        np.prod(ρ + z, axis=1),
        np.prod(ρ**2 - z[:, i] * z[:, j], axis=1),
    ]
    return np.real(np.concatenate(gaps))


def _worst(system: StateSpace, μ: float, L: float) -> float:
    """The curvature at which the closed loop is slowest, near enough."""
    points = np.unique(np.concatenate([np.linspace(μ, L, 65), np.geomspace(μ, L, 65)]))
    for _ in range(6):
        at = int(np.argmax(radius(system, points)))
        low, high = points[max(at - 1, 0)], points[min(at + 1, len(points) - 1)]
        points = np.linspace(low, high, 17)
    return float(points[np.argmax(radius(system, points))])


def _slopes(f: Callable[[_Reals], Any], x: _Reals, high: _Reals) -> Any:
    """∂f/∂x by differences inside the bounds, x on the last axis."""
    value, columns = f(x), []
    for i, end in enumerate(high):
        moved = x.copy()
        moved[i] += 1e-7 if x[i] + 1e-7 <= end else -1e-7
        columns.append((f(moved) - value) / (moved[i] - x[i]))
    return np.stack(columns, axis=-1)


class Search:
    """The settings of a family, each read once, and the best of them."""

    def __init__(self, factory: Factory, bounds: Bounds | None, μ: float, L: float):
        if not callable(factory) or isinstance(factory, optax.GradientTransformation):
            raise TypeError(
                "factory must be a function of hyperparameters that returns a transformation, "
                f"got {arguments.describe(factory)}"
            )
        if not isinstance(bounds, Mapping | None):
            raise TypeError(
                "bounds must be a dictionary of name to (low, high), got "
                f"{arguments.describe(bounds)}"
            )
        given = dict(bounds or {})
        self.axes = [_axis(name, given, L) for name in _names(factory, given)]
        self.low = np.array([axis.into(axis.low) for axis in self.axes])
        self.high = np.array([axis.into(axis.high) for axis in self.axes])
        self.family, self.μ, self.L = Family(factory), μ, L
        self.read: dict[bytes, tuple[StateSpace, float]] = {}
        self.costs: dict[bytes, float] = {}  # Of the one cost that a search has.
        self.sample = self._sample()

    def _sample(self) -> list[_Reals]:
        """Points that fill the bounds evenly, those of them that can be read."""
        d = len(self.axes)
        root = 2.0
        for _ in range(60):
            root = (1 + root) ** (1 / (d + 1))
        steps = root ** -np.arange(1.0, d + 1)
        unit = (0.5 + np.arange(min(8 * 2**d, 256))[:, None] * steps) % 1
        points = self.low + (self.high - self.low) * unit
        points[0] = [axis.home for axis in self.axes]
        kept: list[_Reals] = []
        failed: list[Exception] = []
        for x in points:
            try:
                self.system(x)
            except ERRORS as error:
                failed.append(error)
                if len(failed) > 2 and not kept:
                    raise failed[0] from None
            else:
                kept.append(x)
        return kept

    def values(self, x: _Reals) -> dict[str, float]:
        return {axis.name: axis.out(each) for axis, each in zip(self.axes, x, strict=True)}

    def system(self, x: _Reals) -> StateSpace:
        return self._read(x)[0]

    def rate(self, x: _Reals) -> float:
        return self._read(x)[1]

    def _read(self, x: _Reals) -> tuple[StateSpace, float]:
        if (key := x.tobytes()) not in self.read:
            with _quiet():
                system = self.family(self.values(x))
                self.read[key] = system, rate(system, self.μ, self.L)
        return self.read[key]

    def price(self, x: _Reals, goal: Goal, strict: bool = False) -> tuple[float, float]:
        """How far beyond the limit the rate is, and then the cost: the less, the better."""
        try:
            ρ = self.rate(x)
            if not ρ <= goal.limit:
                return ρ - goal.limit, np.inf
            return 0.0, self._cost(x, goal)
        except ERRORS:
            if strict:
                raise
            return np.inf, np.inf

    def _cost(self, x: _Reals, goal: Goal) -> float:
        if goal.cost is None:
            return self.rate(x)
        if (key := x.tobytes()) not in self.costs:
            with _quiet():
                value = goal.cost(self.system(x))
            self.costs[key] = np.inf if np.isnan(value) else value
        return self.costs[key]

    def better(self, goal: Goal, *settings: _Reals) -> _Reals:
        """The best of some settings; the first of equals."""
        return min(settings, key=lambda x: self.price(x, goal))

    def fit(self, target: StateSpace) -> list[_Reals]:
        """The setting that responds to an impulse as a system does, if there is one."""
        from scipy.optimize import least_squares  # Not on importing momentax.

        def miss(x: _Reals) -> _Reals:
            return difference(self.system(x), target)

        def size(x: _Reals) -> float:
            return float(np.linalg.norm(miss(x)))

        slopes: Any = partial(_slopes, miss, high=self.high)

        with suppress(*ERRORS), _quiet():  # It has a period, or what was tried cannot be read.
            for start in [self.sample[0], *sorted(self.sample[1:], key=size)[:2]]:
                # What does not end at 0 soon stops getting nearer by as much as ftol.
                found = least_squares(
                    miss,
                    start,
                    slopes,
                    (self.low, self.high),
                    "dogbox",
                    ftol=1e-4,
                    xtol=1e-15,
                    gtol=1e-15,
                    max_nfev=60,
                )
                if size(found.x) < _ALIKE:
                    return [found.x]
        return []

    def descend(self, x: _Reals, goal: Goal) -> _Reals:
        """What sequential quadratic programming makes of a setting; the setting if nothing better.

        Without a cost the variables are x and ρ, and ρ falls while no root at any
        of some curvatures may lie beyond it. With one, ρ is the limit. The
        curvature that turns out the worst then joins them.
        """
        from scipy.optimize import minimize  # Not on importing momentax.

        d, best, margin = len(x), x, 1e-9
        λ = np.unique(np.append(np.geomspace(self.μ, self.L, 12), (self.μ + self.L) / 2))
        own = goal.cost is None  # Whether ρ is a variable of its own.
        start, unit = self.rate(x), float(np.clip(self.rate(x), 1e-3, 1e3))
        scale = 1 / max(1.0, abs(self.price(x, goal)[1]))

        def fall(y: _Reals) -> float:
            try:
                return y[d] if own else scale * self._cost(y, goal)
            except ERRORS:
                return np.inf

        def gaps(y: _Reals) -> _Reals:
            ρ = y[d] if own else goal.limit - margin * (1 - goal.limit)
            try:
                return _gaps(self.system(y[:d]), ρ, λ, unit)
            except ERRORS:
                return np.full(3 * len(λ), -1.0)

        low, high = self.low, self.high
        if own:
            low, high = np.append(low, 1e-9), np.append(high, np.inf)
        for _ in range(4):
            y = np.append(best, min(start, self.rate(best))) if own else best
            inside = {"type": "ineq", "fun": gaps, "jac": lambda y: _slopes(gaps, y, high)}
            with _quiet():
                y = minimize(
                    fall,
                    y,
                    jac=lambda y: _slopes(fall, y, high),
                    method="SLSQP",
                    bounds=list(zip(low, high, strict=True)),
                    constraints=[inside] if own or goal.limit < np.inf else [],
                    options={"ftol": 1e-15 if own else 1e-12, "maxiter": 60},
                ).x
            if not np.all(np.isfinite(y)):
                break
            found = np.clip(y[:d], self.low, self.high)
            if (excess := self.price(found, goal)[0]) == np.inf:
                break
            last, best = best, self.better(goal, best, found)
            if excess > 0:
                margin *= 100
            elif best is last:
                break
            λ = np.append(λ, _worst(self.system(found), self.μ, self.L))
        return best

    def shrink(self, x: _Reals, goal: Goal, step: float, times: int, digits: float) -> _Reals:
        """What Nelder and Mead's simplex makes of a setting: for costs that are not smooth."""
        from scipy.optimize import minimize  # Not on importing momentax.

        def one_number(x: _Reals) -> float:
            excess, value = self.price(x, goal)
            return 1e300 * (1 + excess) if excess > 0 else min(value, 1e299)

        span = step * (self.high - self.low)
        away = np.where(x + span <= self.high, span, -span)
        corners = np.clip(x + np.vstack([0 * x, np.diag(away)]), self.low, self.high)
        options = {"initial_simplex": corners, "maxfev": times, "xatol": digits, "fatol": digits}
        bounds = list(zip(self.low, self.high, strict=True))
        with _quiet():
            found = minimize(one_number, x, method="Nelder-Mead", bounds=bounds, options=options).x
        return self.better(goal, x, found)

    def tidy(self, x: _Reals, goal: Goal) -> _Reals:
        """A setting put on the bounds that it all but touches, where that is no worse."""
        for i, ends in enumerate(zip(self.low, self.high, strict=True)):
            for end in ends:
                moved = x.copy()
                moved[i] = end
                (excess, value), now = self.price(moved, goal), self.price(x, goal)[1]
                if abs(x[i] - end) < 1e-6 and not excess and value <= now + 1e-12 * abs(now):
                    x = moved
        return x

    def explore(self, starts: Iterable[_Reals], goal: Goal) -> list[_Reals]:
        """The best that some settings lead to, until two of them have led to the same; or none.

        The simplex gets over what a descent is held up by, and a descent to the last digits.
        """
        found: list[_Reals] = []
        for x in starts:
            if self.price(x, goal)[1] == np.inf:
                continue
            for step in (0.1, 0.03, 0.03)[: len(x) + 1]:
                last, x = x, self.shrink(x, goal, step, 50 * len(x), 1e-6)
                x = self.descend(x, goal)
                before, after = self.price(last, goal)[1], self.price(x, goal)[1]
                if after >= before - 1e-9 * abs(before):
                    break
            found.append(x)
            first, *others = sorted(self.price(x, goal)[1] for x in found)
            if others and others[0] - first <= 1e-9 * abs(first):
                break
        return [self.better(goal, *found)] if found else []
