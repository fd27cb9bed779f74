"""The best hyperparameters of any family of transformations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core import arguments
from momentax._core.typing import Reals
from momentax.theory._certify import certify_system
from momentax.theory._closed_forms._tunings import (
    optimal_gradient_descent,
    optimal_heavy_ball,
    optimal_nesterov,
)
from momentax.theory._closed_forms._worst_case import triple_momentum
from momentax.theory._printing import format_value
from momentax.theory._properties._noise import system_noise_floor
from momentax.theory._properties._rate import worst_rate
from momentax.theory._system import LinearSystem, StateSpace
from momentax.theory._tuning._search import Goal, Search, difference, response


class Tuned(NamedTuple):
    """The best hyperparameters of a family, and what they reach.

    hyperparameters: name to number, the arguments of the factory.
    objective: the value that was minimized.
    rate: worst factor per step by which an error shrinks on quadratics.
    found: "closed form of heavy ball" or the like if the system is one that is known to be the
        best, "search" otherwise.
    tx: the transformation with these hyperparameters.
    system: its StateSpace.
    """

    hyperparameters: dict[str, float]
    objective: float
    rate: float
    found: str
    tx: optax.GradientTransformation
    system: StateSpace

    def __repr__(self) -> str:
        given = "".join(f"{name}={format_value(x)}, " for name, x in self.hyperparameters.items())
        return (
            f"Tuned({given}objective={format_value(self.objective)}, "
            f"rate={format_value(self.rate)}, found={self.found!r})"
        )


class _KnownSystem(NamedTuple):
    """A system that is known to be the best of its kind, and the value that it reaches."""

    name: str
    system: LinearSystem
    objective: float


def _recurrence(α: Any, a: Any, b: Any, β: Any) -> LinearSystem:
    """Return the system of v⁺ = β v + g, θ⁺ = θ - α (a g + b v⁺)."""
    A = np.array([[1.0, -α * b * β], [0.0, β]])
    return LinearSystem(A, np.array([[-α * (a + b)], [1.0]]), np.array([[1.0, 0.0]]))


def _fastest_on_quadratics(μ: float, L: float) -> list[_KnownSystem]:
    ball, nesterov = optimal_heavy_ball(μ, L), optimal_nesterov(μ, L, quadratic=True)
    descent, βn = optimal_gradient_descent(μ, L), nesterov.beta
    return [
        _KnownSystem(
            "heavy ball", _recurrence(ball.learning_rate, 0, 1, ball.beta), float(ball.rate)
        ),
        _KnownSystem(
            "Nesterov's momentum",
            _recurrence(nesterov.learning_rate, 1, βn, βn),
            float(nesterov.rate),
        ),
        _KnownSystem(
            "plain descent", _recurrence(descent.learning_rate, 1, 0, 0), float(descent.rate)
        ),
    ]


def _fastest_certified(μ: float, L: float) -> list[_KnownSystem]:
    if μ == L:  # Triple momentum needs μ < L.
        return []
    tuning = triple_momentum(μ, L)
    system = _recurrence(tuning.learning_rate, *tuning.weights, tuning.beta1)
    return [_KnownSystem("triple momentum", system, float(tuning.rate))]


def log_noise_floor(μ: float, L: float) -> Callable[[LinearSystem], float]:
    """Return the objective "noise", whose logarithm grows slowly near the edge of stability."""
    λ, one = np.array([μ, L]), np.asarray(1.0)
    return lambda system: float(np.log(system_noise_floor(system, λ, one)))


def _certified_rate(μ: float, L: float) -> Callable[[LinearSystem], float]:
    def objective(system: LinearSystem) -> float:
        proof = certify_system(system, μ, L)
        # Without a certificate the order is that of the rates, above all certified ones.
        return 1 + worst_rate(system, μ, L) if proof is None else proof.rate

    return objective


def _of_state_space(objective: Callable[[StateSpace], Any]) -> Callable[[LinearSystem], float]:
    """Return a user's function of a StateSpace as a function of a LinearSystem."""

    def of_system(system: LinearSystem) -> float:
        value = objective(system.state_space)
        if np.ndim(value) or not arguments.is_real(value):
            raise TypeError(
                f"objective must return one real number, got {arguments.describe(value)}"
            )
        return float(value)

    return of_system


def _keeps_parameters(search: Search) -> bool:
    """Return whether parameters stay as they are without gradients.

    Otherwise a family may be better than the closed forms.
    """
    return all(
        np.abs(np.linalg.eigvals(search.system(x).A) - 1).min() < 1e-9 for x in search.sample[:8]
    )


def _fastest(search: Search) -> Reals:
    """Return the setting of the best rate."""
    ball = _fastest_on_quadratics(search.μ, search.L)[0]
    fitted = search.fit(ball.system)
    if fitted and _keeps_parameters(search) and search.rate(fitted[0]) <= ball.objective + 1e-10:
        return fitted[0]
    starts = [*fitted, *search.by_rate()[:5]]
    return search.minimize(starts, Goal())[0]


def _least(search: Search, goal: Goal, *starts: Reals) -> Reals:
    """Return the setting of the least objective, from some starts and the best of the sample."""
    starts = (*starts, *sorted(search.sample, key=lambda x: search.cost(x, goal))[:5])
    for found in search.minimize(starts, goal):
        return found
    search.cost(starts[0], goal, strict=True)  # If this raises, its error says why.
    raise ValueError("the objective is infinite at every setting that was tried")


def fastest_within(search: Search, limit: float) -> Reals:
    """Return the setting of the best rate; raise if it exceeds the largest rate allowed."""
    fastest = search.snap_to_bounds(_fastest(search), Goal())
    if (reached := search.rate(fastest)) > limit:
        given = ", ".join(f"{name}={value:.6g}" for name, value in search.values(fastest).items())
        raise ValueError(
            f"max_rate={limit:.6g} is out of reach: the best rate within the bounds is "
            f"{reached:.10g}, at {given}"
        )
    return fastest


def _least_certified(search: Search, goal: Goal, known: list[_KnownSystem]) -> Reals:
    """Return the setting of the best certified rate."""
    if _keeps_parameters(search):
        for each in known:
            for x in search.fit(each.system):
                return x
    # A certificate takes a hundred times as long as a rate, and is never below it.
    best = _fastest(search)
    for x in search.by_rate()[:8]:
        if search.rate(x) < search.cost(best, goal)[1]:
            best = search.best(goal, best, x)
    for size in (0.03, 0.003):
        best = search.nelder_mead(best, goal, size, 30 * (len(best) + 1), 1e-5)
    return best


def _solve(
    search: Search, objective: str | Callable[[StateSpace], Any], limit: float
) -> tuple[Reals, Goal, list[_KnownSystem]]:
    """Return the best setting, its goal, and the systems that are known to be the best."""
    μ, L = search.μ, search.L
    if objective == "rate":
        return _fastest(search), Goal(), _fastest_on_quadratics(μ, L)
    if objective == "certified_rate":
        goal, known = Goal(_certified_rate(μ, L)), _fastest_certified(μ, L)
        return _least_certified(search, goal, known), goal, known
    start = [] if limit == np.inf else [fastest_within(search, limit)]
    if isinstance(objective, str):
        goal = Goal(log_noise_floor(μ, L), min(limit, 1.0))
        return _least(search, goal, *start), goal, []
    goal = Goal(_of_state_space(objective), limit)
    x = _least(search, goal, *start)
    for size in (0.01, 0.001):
        x = search.nelder_mead(x, goal, size, 100 * len(x), 1e-12)
    return x, goal, []


def _check_objective(objective: Any, max_rate: float | None) -> float:
    """Check the objective, and return the largest rate allowed."""
    if isinstance(objective, str) or not callable(objective):
        arguments.as_option("objective", objective, ("rate", "certified_rate", "noise"))
    else:
        arguments.require_function("objective", objective, "of a StateSpace", "system")
    if max_rate is None:
        return np.inf
    if objective in ("rate", "certified_rate"):
        raise ValueError(
            f"max_rate goes with objective='noise' or a function; {objective!r} is a rate itself, "
            "and is minimized"
        )
    return arguments.as_real("max_rate", max_rate, "(0, 1)")


def tune(
    factory: Callable[..., optax.GradientTransformation],
    mu: Any,
    L: float | None = None,
    *,
    objective: str | Callable[[StateSpace], Any] = "rate",
    bounds: Mapping[str, tuple[float, float]] | None = None,
    max_rate: float | None = None,
) -> Tuned:
    """Find the best hyperparameters of any family of linear transformations.

    The system is read and analysed at one setting after another; nothing is run. Among linear
    methods that do not move parameters where gradients are 0, none is faster on quadratics than
    heavy ball and none has a better certificate than triple momentum. A family that contains
    these is tuned by their closed forms. If a search ends at the best plain descent or Nesterov's
    momentum, the field found names it.

    Args:
        factory: A function from hyperparameters, given by name, to a whole optimizer that
            `state_space` can read. Arguments without a default are tuned, and those that
            `bounds` names.
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.
        objective: What is minimized. "rate": the worst factor per step by which an error
            shrinks on quadratics. "certified_rate": what `certify` proves, with the extra
            `certify`. "noise": the `noise_floor` for the curvatures μ and L and gradients of
            variance 1, which without max_rate leads to the smallest learning rate. Or a
            function of a StateSpace.
        bounds: name to (low, high), both included. By default learning_rate is in
            [10⁻⁶/L, 10⁶/L], nu in [0, 1], and arguments whose name begins with beta or is b1,
            b2, momentum, decay or dampening are in [0, 1 - 10⁻⁶]; other names need bounds.
        max_rate: The largest rate allowed, in (0, 1), for "noise" or a function.

    Returns:
        Tuned(hyperparameters, objective, rate, found, tx, system). If several settings are the
        best, one of them.

    Raises:
        ValueError: An argument lies outside its interval; bounds are missing, empty or of what
            factory does not take; max_rate is out of reach; or the transformations are not
            linear.
        TypeError: factory is not a function or does not return a transformation, objective does
            not return a real number, or L is missing or given twice.
        ImportError: As `certify`.

    Example:
        >>> momentax.theory.tune(optax.sgd, 1.0, 9.0)
        Tuned(learning_rate=0.2, objective=0.8, rate=0.8, found='closed form of plain descent')

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964; Lessard, Recht and Packard, 2016, arXiv:1408.3595; Van Scoy,
        Freeman and Lynch, The fastest known globally convergent first-order
        method, IEEE Control Systems Letters 2(1), 2018.
    """
    μ, largest = arguments.as_curvature_range(mu, L)
    limit = _check_objective(objective, max_rate)
    search = Search(factory, bounds, μ, largest)
    x, goal, known = _solve(search, objective, limit)
    values = search.values(search.snap_to_bounds(x, goal))
    system = search.family(values, full=True)
    reached, tx = worst_rate(system, μ, largest), factory(**values)
    for each in known:
        if system.period == 1 and np.linalg.norm(difference(system, response(each.system))) < 1e-8:
            reached = each.objective if objective == "rate" else reached
            found = f"closed form of {each.name}"
            return Tuned(values, each.objective, reached, found, tx, system.state_space)
    value = reached if goal.objective is None else goal.objective(system)
    if objective == "noise":
        value = float(np.exp(value))
    return Tuned(values, value, reached, "search", tx, system.state_space)
