"""The best hyperparameters of any family of transformations, and what speed costs in noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments
from momentax.theory._certify import certify
from momentax.theory._closed_loop import rate
from momentax.theory._noise import noise_floor
from momentax.theory._rates import (
    condition,
    optimal_gradient_descent,
    optimal_heavy_ball,
    optimal_nesterov,
)
from momentax.theory._search import Bounds, Factory, Goal, Search, difference
from momentax.theory._system import StateSpace
from momentax.theory._worst_case import triple_momentum

_Reals = NDArray[np.float64]
_Form = tuple[StateSpace, float]  # A system whose tuning is known, and its rate.


class Tuned(NamedTuple):
    """The best hyperparameters of a family, and what they reach.

    hyperparameters: name to number, the arguments of the factory.
    objective: the value that was made as small as could be.
    rate: worst factor per step by which an error shrinks on quadratics.
    found: "closed form of heavy ball" or the like where the system is one that
        is known to be the best, "search" else.
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
        given = "".join(f"{name}={value:.6g}, " for name, value in self.hyperparameters.items())
        return (
            f"Tuned({given}objective={self.objective:.6g}, rate={self.rate:.6g}, "
            f"found={self.found!r})"
        )


class TradeOff(NamedTuple):
    """Settings of a family of which none is both faster and quieter than another.

    rate: worst factor per step by which an error shrinks on quadratics, rising.
    noise_floor: the loss above the minimum at which noise holds it, falling.
    hyperparameters: name to its values, arguments of the factory.
    """

    rate: _Reals
    noise_floor: _Reals
    hyperparameters: dict[str, _Reals]


def _linear(α: Any, a: Any, b: Any, β: Any) -> StateSpace:
    """v⁺ = β v + g, θ⁺ = θ - α (a g + b v⁺)."""
    A = np.array([[1.0, -α * b * β], [0.0, β]])
    return StateSpace(A, np.array([-α * (a + b), 1.0]), np.array([1.0, 0.0]))


def _forms_on_quadratics(μ: float, L: float) -> dict[str, _Form]:
    ball, nesterov = optimal_heavy_ball(μ, L), optimal_nesterov(μ, L, quadratic=True)
    descent, βn = optimal_gradient_descent(μ, L), nesterov.beta
    return {
        "heavy ball": (_linear(ball.learning_rate, 0, 1, ball.beta), float(ball.rate)),
        "Nesterov's momentum": (_linear(nesterov.learning_rate, 1, βn, βn), float(nesterov.rate)),
        "plain descent": (_linear(descent.learning_rate, 1, 0, 0), float(descent.rate)),
    }


def _forms_certified(μ: float, L: float) -> dict[str, _Form]:
    if μ == L:  # Triple momentum is for more curvatures than one.
        return {}
    α, β1, β2, _, ρ = triple_momentum(μ, L)
    return {"triple momentum": (_linear(α, β2 / β1, 1 + β2 - β2 / β1, β1), float(ρ))}


def _noise(μ: float, L: float) -> Callable[[StateSpace], float]:
    """The noise floor's logarithm, as a search likes it."""
    return lambda system: float(np.log(noise_floor(system, np.array([μ, L]), 1.0)))


def _certified(μ: float, L: float) -> Callable[[StateSpace], float]:
    def cost(system: StateSpace) -> float:
        proof = certify(system, μ, L)
        return 1 + rate(system, μ, L) if proof is None else proof.rate  # In order, too.

    return cost


def _given(objective: Callable[[StateSpace], Any]) -> Callable[[StateSpace], float]:
    def cost(system: StateSpace) -> float:
        value = objective(system)
        if np.ndim(value) or not arguments.is_real(value):
            raise TypeError(
                f"objective must return one real number, got {arguments.describe(value)}"
            )
        return float(value)

    return cost


def _stays(search: Search) -> bool:
    """Whether parameters stay where gradients are 0, without which no closed form is the best."""
    return all(
        np.abs(np.linalg.eigvals(search.system(x).A) - 1).min() < 1e-9 for x in search.sample[:8]
    )


def _fastest(search: Search) -> _Reals:
    """The best rate."""
    ball, least = _forms_on_quadratics(search.μ, search.L)["heavy ball"]
    fitted = search.fit(ball)
    if fitted and _stays(search) and search.rate(fitted[0]) <= least + 1e-10:
        return fitted[0]
    starts = [*fitted, *sorted(search.sample, key=search.rate)[:5]]
    return search.explore(starts, Goal())[0]


def _cheapest(search: Search, goal: Goal, *starts: _Reals) -> _Reals:
    """The least of a cost, from some settings and the best of the sample."""
    starts = (*starts, *sorted(search.sample, key=lambda x: search.price(x, goal))[:5])
    for found in search.explore(starts, goal):
        return found
    search.price(starts[0], goal, strict=True)  # Whose error says why.
    raise ValueError("the objective is infinite at every setting that was tried")


def _within(search: Search, limit: float) -> _Reals:
    """The fastest setting, which keeps within the largest rate allowed if any does."""
    fastest = search.tidy(_fastest(search), Goal())
    if (reached := search.rate(fastest)) > limit:
        given = ", ".join(f"{name}={value:.6g}" for name, value in search.values(fastest).items())
        raise ValueError(
            f"max_rate={limit:.6g} is out of reach: the best rate within the bounds is "
            f"{reached:.10g}, at {given}"
        )
    return fastest


def _safest(search: Search, goal: Goal, forms: dict[str, _Form]) -> _Reals:
    """The best certified rate."""
    if _stays(search):
        for form, _ in forms.values():
            for x in search.fit(form):
                return x
    # A certificate takes a hundred times as long as a rate, and is never below it.
    best = _fastest(search)
    for x in sorted(search.sample, key=search.rate)[:8]:
        if search.rate(x) < search.price(best, goal)[1]:
            best = search.better(goal, best, x)
    for step in (0.03, 0.003):
        best = search.shrink(best, goal, step, 30 * (len(best) + 1), 1e-5)
    return best


def tune(
    factory: Factory,
    mu: float,
    L: float,
    *,
    objective: str | Callable[[StateSpace], Any] = "rate",
    bounds: Bounds | None = None,
    max_rate: float | None = None,
) -> Tuned:
    """Find the best hyperparameters of any family of linear transformations.

    Its system is read and analysed at one setting after another; nothing is run.
    Of linear methods that leave parameters alone where gradients are 0, none is
    faster on quadratics than heavy ball and none has a better certificate than
    triple momentum: a family that contains these is tuned by their closed forms.
    A search that ends at the best plain descent or Nesterov's momentum says so.

    Args:
        factory: A function from hyperparameters, given by name, to a whole
            optimizer that `state_space` can read. Arguments without a default
            are tuned, and those that `bounds` names.
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest.
        objective: What is to be small. "rate": the worst factor per step by
            which an error shrinks on quadratics. "certified_rate": what
            `certify` proves, with the extra `certify`. "noise": the
            `noise_floor` for the curvatures μ and L and gradients of variance 1,
            which without max_rate asks for the smallest learning rate. Or a
            function of a StateSpace.
        bounds: name to (low, high), both included. If not given, learning_rate
            is in [10⁻⁶/L, 10⁶/L], nu in [0, 1], and what is called beta, b1, b2,
            momentum, decay or dampening in [0, 1 - 10⁻⁶]; other names need them.
        max_rate: The largest rate allowed, in (0, 1), for "noise" or a function.

    Returns:
        Tuned(hyperparameters, objective, rate, found, tx, system). Where several
        settings are the best, one of them.

    Raises:
        ValueError: An argument lies outside its interval, bounds are missing,
            empty or of what factory does not take, max_rate is out of reach, or
            the transformations are not linear.
        TypeError: factory is no function or returns no transformation, or
            objective no real number.
        ImportError: As `certify`.

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964; Lessard, Recht and Packard, 2016, arXiv:1408.3595; Van Scoy,
        Freeman and Lynch, The fastest known globally convergent first-order
        method, IEEE Control Systems Letters 2(1), 2018.
    """
    μ, L = arguments.as_real("mu", mu, "(0, inf)"), arguments.as_real("L", L, "(0, inf)")
    condition(μ, L)
    if isinstance(objective, str) or not callable(objective):
        arguments.as_option("objective", objective, ("rate", "certified_rate", "noise"))
    limit = np.inf
    if max_rate is not None:
        limit = arguments.as_real("max_rate", max_rate, "(0, 1)")
        if objective in ("rate", "certified_rate"):
            raise ValueError(
                f"max_rate goes with objective='noise' or a function; {objective!r} is a rate "
                "itself, and made as small as can be"
            )
    search, goal, forms = Search(factory, bounds, μ, L), Goal(), {}
    if not isinstance(objective, str):
        start = [] if max_rate is None else [_within(search, limit)]
        goal = Goal(_given(objective), limit)
        x = _cheapest(search, goal, *start)
        for step in (0.01, 0.001):
            x = search.shrink(x, goal, step, 100 * len(x), 1e-12)
    elif objective == "rate":
        forms = _forms_on_quadratics(μ, L)
        x = _fastest(search)
    elif objective == "certified_rate":
        forms, goal = _forms_certified(μ, L), Goal(_certified(μ, L))
        x = _safest(search, goal, forms)
    else:
        start = [] if max_rate is None else [_within(search, limit)]
        goal = Goal(_noise(μ, L), min(limit, 1.0))
        x = _cheapest(search, goal, *start)
    x = search.tidy(x, goal)
    values = search.values(x)
    system = search.family(values, full=True)
    reached = rate(system, μ, L)
    for name, (form, known) in forms.items():
        if system.B.ndim == 1 and np.linalg.norm(difference(system, form)) < 1e-8:
            found, reached = f"closed form of {name}", known if objective == "rate" else reached
            return Tuned(values, known, reached, found, factory(**values), system)
    if objective == "noise":
        value = float(noise_floor(system, np.array([μ, L]), 1.0))
    else:
        value = reached if goal.cost is None else goal.cost(system)
    return Tuned(values, value, reached, "search", factory(**values), system)


def trade_off(
    factory: Factory,
    mu: float,
    L: float,
    *,
    gradient_variance: float = 1.0,
    count: int = 16,
    bounds: Bounds | None = None,
    max_rate: float | None = None,
) -> TradeOff:
    """List what speed costs in noise: the quietest settings of a family at one rate after another.

    The first is as fast as any; along the curve 1 - ρ falls by equal factors, to
    max_rate or to where it gets no quieter within the bounds.

    Args:
        factory: As for `tune`.
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest. The noise floor is that of the loss with
            these two.
        gradient_variance: σ² in (0, inf), of one gradient's noise along each.
        count: How many rates, at least 2.
        bounds: As for `tune`.
        max_rate: The largest rate, in (0, 1). None is a hundred times as many
            steps as the fastest takes: 1 - ρ is a hundredth.

    Returns:
        TradeOff(rate, noise_floor, hyperparameters), arrays of shape (count,),
        shorter where slower is not quieter.

    Raises:
        ValueError: As `tune`, or no setting converges.
        TypeError: As `tune`, or count is no whole number.
    """
    μ, L = arguments.as_real("mu", mu, "(0, inf)"), arguments.as_real("L", L, "(0, inf)")
    condition(μ, L)
    σ2 = arguments.as_real("gradient_variance", gradient_variance, "(0, inf)")
    count = arguments.as_count("count", count, least=2)
    limit = np.inf if max_rate is None else arguments.as_real("max_rate", max_rate, "(0, 1)")
    search, cost = Search(factory, bounds, μ, L), _noise(μ, L)
    x = _within(search, limit)
    gap = 1 - search.rate(x)
    if gap <= 0:
        raise ValueError("no setting within the bounds converges")
    chosen: list[_Reals] = []
    for each in np.geomspace(gap, gap / 100 if max_rate is None else 1 - limit, count):
        goal = Goal(cost, max(1 - each, search.rate(x)))
        likely = min(search.sample, key=lambda x: search.price(x, goal))
        tried = [search.descend(start, goal) for start in (x, search.better(goal, x, likely))]
        x = search.tidy(search.better(goal, *tried), goal)
        chosen.append(x)
    rates = np.array([search.rate(x) for x in chosen])
    floors = np.exp([search.price(x, Goal(cost))[1] for x in chosen])
    kept = [
        i
        for i in range(count)
        if not np.any((rates <= rates[i]) & (floors < floors[i] * (1 - 1e-9)))
        and i == np.flatnonzero((rates == rates[i]) & (floors == floors[i]))[0]
    ]
    settings = [search.values(chosen[i]) for i in kept]
    return TradeOff(
        rates[kept],
        σ2 * floors[kept],
        {name: np.array([each[name] for each in settings]) for name in settings[0]},
    )
