"""What speed costs in noise, for any family of transformations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core import arguments
from momentax._core.typing import Reals
from momentax.theory._printing import format_record
from momentax.theory._tuning._search import Goal, Search
from momentax.theory._tuning._tune import fastest_within, log_noise_floor


class TradeOff(NamedTuple):
    """Settings of a family of which none is both faster and less noisy than another.

    rate: worst factor per step by which an error shrinks on quadratics, ascending.
    noise_floor: the loss above the minimum at which noise holds it, descending.
    hyperparameters: name to its values, arguments of the factory.
    """

    rate: Reals
    noise_floor: Reals
    hyperparameters: dict[str, Reals]

    def __repr__(self) -> str:
        return format_record(self)


def _pareto_front(rates: Reals, floors: Reals) -> list[int]:
    """Return the indices of the Pareto-optimal settings, one of each group of equals."""
    return [
        i
        for i in range(len(rates))
        if not np.any((rates <= rates[i]) & (floors < floors[i] * (1 - 1e-9)))
        and i == np.flatnonzero((rates == rates[i]) & (floors == floors[i]))[0]
    ]


def trade_off(
    factory: Callable[..., optax.GradientTransformation],
    mu: Any,
    L: float | None = None,
    *,
    gradient_variance: float = 1.0,
    count: int = 16,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    max_rate: float | None = None,
) -> TradeOff:
    """Compute the Pareto front of rate and noise floor of a family of transformations.

    The first rate is the best that can be reached. Along the curve 1 - ρ decreases by equal
    factors, to max_rate or to where the noise no longer decreases within the bounds.

    Args:
        factory: As in `tune`.
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest. The noise floor is that of the loss with these two
            curvatures.
        gradient_variance: σ² in (0, inf), of one gradient's noise along each.
        count: Number of rates, at least 2.
        bounds: As in `tune`.
        max_rate: The largest rate, in (0, 1). None is the rate that takes a hundred times as
            many steps as the best: 1 - ρ is a hundredth.

    Returns:
        TradeOff(rate, noise_floor, hyperparameters), arrays of shape (count,), shorter where a
        slower setting is not less noisy.

    Raises:
        ValueError: As `tune`, or no setting converges.
        TypeError: As `tune`, or count is not a whole number.

    Example:
        >>> curve = momentax.theory.trade_off(optax.sgd, 1.0, 9.0, count=2, max_rate=0.9)
        >>> np.round(curve.rate, 6)
        array([0.8, 0.9])
    """
    μ, largest = arguments.as_curvature_range(mu, L)
    σ2 = arguments.as_real("gradient_variance", gradient_variance, "(0, inf)")
    count = arguments.as_count("count", count, least=2)
    limit = np.inf if max_rate is None else arguments.as_real("max_rate", max_rate, "(0, 1)")
    search, objective = Search(factory, bounds, μ, largest), log_noise_floor(μ, largest)
    x = fastest_within(search, limit)
    gap = 1 - search.rate(x)
    if gap <= 0:
        raise ValueError("no setting within the bounds converges")
    chosen: list[Reals] = []
    for each in np.geomspace(gap, gap / 100 if max_rate is None else 1 - limit, count):
        goal = Goal(objective, max(1 - each, search.rate(x)))
        likely = min(search.sample, key=lambda x: search.cost(x, goal))
        tried = [search.descend(start, goal) for start in (x, search.best(goal, x, likely))]
        x = search.snap_to_bounds(search.best(goal, *tried), goal)
        chosen.append(x)
    rates = np.array([search.rate(x) for x in chosen])
    floors = np.exp([search.cost(x, Goal(objective))[1] for x in chosen])
    kept = _pareto_front(rates, floors)
    settings = [search.values(chosen[i]) for i in kept]
    return TradeOff(
        rates[kept],
        σ2 * floors[kept],
        {name: np.array([each[name] for each in settings]) for name in settings[0]},
    )
