"""The settings of a family of transformations, and the best of them by one measure or another.

A setting is a vector x of coordinates, one for each axis.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from momentax._core.typing import Reals
from momentax.theory._properties._closed_loop import phase_loops, radius
from momentax.theory._properties._filter import system_impulse_response
from momentax.theory._properties._rate import worst_rate
from momentax.theory._reading._family import Family
from momentax.theory._system import LinearSystem
from momentax.theory._tuning._axes import Bounds, Factory, axes_of

# What a setting may raise that a factory refuses, or whose system cannot be read.
ERRORS = (ValueError, ArithmeticError, np.linalg.LinAlgError)
_RESPONSE_STEPS = 64  # Number of updates by which two systems are compared.
_SAME_RESPONSE = 1e-9


class Goal(NamedTuple):
    """What is minimized, the rate itself if there is no objective, and the largest rate allowed."""

    objective: Callable[[LinearSystem], float] | None = None
    limit: float = np.inf


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress warnings, since settings may overflow; the results are checked afterwards."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def response(system: LinearSystem) -> Reals:
    """Return the response to an impulse, by which systems are compared."""
    return system_impulse_response(system, _RESPONSE_STEPS)


def difference(system: LinearSystem, target: Reals) -> Reals:
    """Return the relative difference of a system's impulse response from another response."""
    return (response(system) - target) / np.linalg.norm(target)


def _root_gaps(system: LinearSystem, ρ: float, λ: Reals, unit: float) -> Reals:
    """Return smooth values that are not negative if no root lies outside |z| = ρ.

        Π_i (ρ - z_i),    Π_i (ρ + z_i),    Π_{i<j} (ρ² - z_i z_j)

    for the closed loop's roots z at each λ. The spectral radius is not even Lipschitz where two
    roots meet, which is where the best settings are. The first root to cross |z| = ρ makes one of
    these values negative: a real root one of the first two, a pair of complex roots the third.
    For a period, the roots are those of the product of its steps.
    """
    phases = system.phases
    product = reduce(lambda before, M: M @ before, phase_loops(phases, λ))
    z, ρ = np.linalg.eigvals(product) / unit ** len(phases), (ρ / unit) ** len(phases)
    i, j = np.triu_indices(z.shape[1], 1)
    gaps = [
        np.prod(ρ - z, axis=1),
        np.prod(ρ + z, axis=1),
        np.prod(ρ**2 - z[:, i] * z[:, j], axis=1),
    ]
    return np.real(np.concatenate(gaps))


def _worst_curvature(system: LinearSystem, μ: float, L: float) -> float:
    """Find the curvature at which the closed loop is slowest, approximately."""
    points = np.unique(np.concatenate([np.linspace(μ, L, 65), np.geomspace(μ, L, 65)]))
    for _ in range(6):
        at = int(np.argmax(radius(system, points)))
        low, high = points[max(at - 1, 0)], points[min(at + 1, len(points) - 1)]
        points = np.linspace(low, high, 17)
    return float(points[np.argmax(radius(system, points))])


def _slopes(f: Callable[[Reals], Any], x: Reals, high: Reals) -> Any:
    """Compute ∂f/∂x by differences inside the bounds, with x on the last axis."""
    value, columns = f(x), []
    for i, end in enumerate(high):
        moved = x.copy()
        moved[i] += 1e-7 if x[i] + 1e-7 <= end else -1e-7
        columns.append((f(moved) - value) / (moved[i] - x[i]))
    return np.stack(columns, axis=-1)


class Search:
    """The settings of a family, each read once, and the best of them."""

    def __init__(self, factory: Factory, bounds: Bounds | None, μ: float, L: float):
        self.axes = axes_of(factory, bounds, L)
        self.low = np.array([axis.to_coordinate(axis.low) for axis in self.axes])
        self.high = np.array([axis.to_coordinate(axis.high) for axis in self.axes])
        self.family, self.μ, self.L = Family(factory), μ, L
        self._systems: dict[bytes, LinearSystem] = {}
        self._rates: dict[bytes, float] = {}
        self._objectives: dict[bytes, float] = {}  # A search has one objective only.
        self.sample = self._sample()

    def _sample(self) -> list[Reals]:
        """Return points that fill the bounds evenly, without those that cannot be read."""
        d = len(self.axes)
        root = 2.0
        for _ in range(60):
            root = (1 + root) ** (1 / (d + 1))
        steps = root ** -np.arange(1.0, d + 1)
        unit = (0.5 + np.arange(min(8 * 2**d, 256))[:, None] * steps) % 1
        points = self.low + (self.high - self.low) * unit
        points[0] = [axis.start for axis in self.axes]
        kept: list[Reals] = []
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

    def values(self, x: Reals) -> dict[str, float]:
        return {axis.name: axis.to_value(each) for axis, each in zip(self.axes, x, strict=True)}

    def system(self, x: Reals) -> LinearSystem:
        if (key := x.tobytes()) not in self._systems:
            with _no_warnings():
                self._systems[key] = self.family(self.values(x))
        return self._systems[key]

    def rate(self, x: Reals) -> float:
        if (key := x.tobytes()) not in self._rates:
            with _no_warnings():
                self._rates[key] = worst_rate(self.system(x), self.μ, self.L)
        return self._rates[key]

    def by_rate(self) -> list[Reals]:
        """Return the sample with the fastest settings first."""
        return sorted(self.sample, key=lambda x: self.cost(x, Goal()))

    def cost(self, x: Reals, goal: Goal, strict: bool = False) -> tuple[float, float]:
        """Return the rate's excess over the limit and the objective, compared in this order."""
        try:
            ρ = self.rate(x)
            if not ρ <= goal.limit:
                return ρ - goal.limit, np.inf
            return 0.0, self._objective(x, goal)
        except ERRORS:
            if strict:
                raise
            return np.inf, np.inf

    def _objective(self, x: Reals, goal: Goal) -> float:
        if goal.objective is None:
            return self.rate(x)
        if (key := x.tobytes()) not in self._objectives:
            with _no_warnings():
                value = goal.objective(self.system(x))
            self._objectives[key] = np.inf if np.isnan(value) else value
        return self._objectives[key]

    def best(self, goal: Goal, *settings: Reals) -> Reals:
        """Return the best of some settings, and of equal ones the first."""
        return min(settings, key=lambda x: self.cost(x, goal))

    def fit(self, target: LinearSystem) -> list[Reals]:
        """Find the setting that has a system's impulse response, if there is one."""
        from scipy.optimize import (
            least_squares,
        )  # Imported here, since SciPy is needed for searches only.

        aim = response(target)

        def residual(x: Reals) -> Reals:
            return difference(self.system(x), aim)

        def size(x: Reals) -> float:
            return float(np.linalg.norm(residual(x)))

        slopes: Any = partial(_slopes, residual, high=self.high)

        with suppress(*ERRORS), _no_warnings():  # A setting on the way may be unreadable.
            for start in [self.sample[0], *sorted(self.sample[1:], key=size)[:2]]:
                # A search that does not end at 0 soon improves by less than ftol.
                found = least_squares(
                    residual,
                    start,
                    slopes,
                    (self.low, self.high),
                    "dogbox",
                    ftol=1e-4,
                    xtol=1e-15,
                    gtol=1e-15,
                    max_nfev=60,
                )
                if size(found.x) < _SAME_RESPONSE:
                    return [found.x]
        return []

    def descend(self, x: Reals, goal: Goal) -> Reals:
        """Improve a setting by sequential quadratic programming; return it if nothing is better.

        Without an objective the variables are x and ρ, and ρ falls while no root at any of some
        curvatures may lie beyond it. With an objective, ρ is the limit. The curvature that turns
        out to be the worst then joins the others.
        """
        best, margin = x, 1e-9
        λ = np.unique(np.append(np.geomspace(self.μ, self.L, 12), (self.μ + self.L) / 2))
        for _ in range(4):
            y = self._quadratic_program(x, best, goal, λ, margin)
            if not np.all(np.isfinite(y)):
                break
            found = np.clip(y[: len(x)], self.low, self.high)
            if (excess := self.cost(found, goal)[0]) == np.inf:
                break
            last, best = best, self.best(goal, best, found)
            if excess > 0:
                margin *= 100
            elif best is last:
                break
            λ = np.append(λ, _worst_curvature(self.system(found), self.μ, self.L))
        return best

    def _quadratic_program(
        self, start: Reals, x: Reals, goal: Goal, λ: Reals, margin: float
    ) -> Reals:
        """Run the solver once from x, in the units of `start`."""
        from scipy.optimize import (
            minimize,
        )  # Imported here, since SciPy is needed for searches only.

        d, by_rate = len(x), goal.objective is None  # By rate, ρ is a variable of its own.
        first = self.rate(start)
        unit, scale = float(np.clip(first, 1e-3, 1e3)), 1 / max(1.0, abs(self.cost(start, goal)[1]))

        def objective(y: Reals) -> float:
            try:
                return y[d] if by_rate else scale * self._objective(y, goal)
            except ERRORS:
                return np.inf

        def gaps(y: Reals) -> Reals:
            ρ = y[d] if by_rate else goal.limit - margin * (1 - goal.limit)
            try:
                return _root_gaps(self.system(y[:d]), ρ, λ, unit)
            except ERRORS:
                return np.full(3 * len(λ), -1.0)

        low, high, y = self.low, self.high, x
        if by_rate:
            low, high = np.append(low, 1e-9), np.append(high, np.inf)
            y = np.append(x, min(first, self.rate(x)))
        inside = {"type": "ineq", "fun": gaps, "jac": lambda y: _slopes(gaps, y, high)}
        with _no_warnings():
            return minimize(
                objective,
                y,
                jac=lambda y: _slopes(objective, y, high),
                method="SLSQP",
                bounds=list(zip(low, high, strict=True)),
                constraints=[inside] if by_rate or goal.limit < np.inf else [],
                options={"ftol": 1e-15 if by_rate else 1e-12, "maxiter": 60},
            ).x

    def nelder_mead(
        self, x: Reals, goal: Goal, size: float, evaluations: int, tolerance: float
    ) -> Reals:
        """Improve a setting by the Nelder-Mead method, for objectives that are not smooth."""
        from scipy.optimize import (
            minimize,
        )  # Imported here, since SciPy is needed for searches only.

        def one_number(x: Reals) -> float:
            excess, value = self.cost(x, goal)
            return 1e300 * (1 + excess) if excess > 0 else min(value, 1e299)

        span = size * (self.high - self.low)
        away = np.where(x + span <= self.high, span, -span)
        corners = np.clip(x + np.vstack([0 * x, np.diag(away)]), self.low, self.high)
        options = {
            "initial_simplex": corners,
            "maxfev": evaluations,
            "xatol": tolerance,
            "fatol": tolerance,
        }
        bounds = list(zip(self.low, self.high, strict=True))
        with _no_warnings():
            found = minimize(one_number, x, method="Nelder-Mead", bounds=bounds, options=options).x
        return self.best(goal, x, found)

    def snap_to_bounds(self, x: Reals, goal: Goal) -> Reals:
        """Move a setting onto the bounds that it nearly reaches, if it is no worse there."""
        for i, ends in enumerate(zip(self.low, self.high, strict=True)):
            for end in ends:
                moved = x.copy()
                moved[i] = end
                (excess, value), now = self.cost(moved, goal), self.cost(x, goal)[1]
                if abs(x[i] - end) < 1e-6 and not excess and value <= now + 1e-12 * abs(now):
                    x = moved
        return x

    def minimize(self, starts: Iterable[Reals], goal: Goal) -> list[Reals]:
        """Return the best setting found from some starts; the list is empty if all fail.

        The search ends once two starts agree. Nelder-Mead leaves the points at which `descend`
        stops, and `descend` gives the last digits.
        """
        found: list[Reals] = []
        for x in starts:
            if self.cost(x, goal)[1] == np.inf:
                continue
            for size in (0.1, 0.03, 0.03)[: len(x) + 1]:
                last, x = x, self.nelder_mead(x, goal, size, 50 * len(x), 1e-6)
                x = self.descend(x, goal)
                before, after = self.cost(last, goal)[1], self.cost(x, goal)[1]
                if after >= before - 1e-9 * abs(before):
                    break
            found.append(x)
            first, *others = sorted(self.cost(x, goal)[1] for x in found)
            if others and others[0] - first <= 1e-9 * abs(first):
                break
        return [self.best(goal, *found)] if found else []
