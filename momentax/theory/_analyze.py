"""All that the theory knows of a transformation, in one record and one table."""

from __future__ import annotations

from collections.abc import Callable
from html import escape as escaped
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import as_real
from momentax.theory._closed_loop import (
    MARGINAL,
    Damping,
    damping,
    edge,
    escape_rate,
    halving,
    radius,
    rate,
)
from momentax.theory._filter import frequency_response, impulse_response, signal_to_noise_gain
from momentax.theory._noise import noise_floor, stationary_variance
from momentax.theory._oscillator import Oscillator, oscillator
from momentax.theory._state_space import read, state_space
from momentax.theory._system import StateSpace

_ALIKE = 1e-10  # What differs by less is the same, and decay by less is none.


class Direction(NamedTuple):
    """What an error along one curvature does.

    curvature: λ.
    radius: factor per step by which the error shrinks, or grows if above 1.
    damping: the Damping.
    variance: of the parameter about its mean, kept up by noisy gradients;
        infinite where no error dies out, None where no gradient_variance was
        given.
    oscillator: the Oscillator that the transformation discretises; None unless
        it is heavy ball and the curvature positive.
    """

    curvature: float
    radius: float
    damping: Damping
    variance: float | None
    oscillator: Oscillator | None


class Analysis(NamedTuple):
    """What a transformation does on a quadratic whose curvatures are in [mu, L].

    It is shown as a table, in plain text or HTML.

    system: the StateSpace that the rest is about.
    period: steps after which what it does repeats, 1 if all are the same.
    step: where coefficients were frozen, None for the long run.
    around: the point (θ, g) that it was linearised at, None if it is linear.
    mu: the smallest curvature; it may be negative, as beside a saddle, or 0.
    L: the largest curvature.
    gradient_variance: of the noise, None if none was given.
    stable: whether an error dies out along every positive curvature up to L,
        from mu on where that is positive.
    rate: worst factor per step by which an error along those curvatures
        shrinks, or grows if above 1. Where mu is not positive it is that along
        L alone: the smaller the curvature, the nearer it would be to 1.
    half_life: steps in which an error at that rate halves; infinite where none
        dies out, or so slowly that the rate rounds to 1.
    edge: the largest curvature up to which all positive ones are stable;
        infinite where all are, 0 where none is.
    margin: edge / L, how many times as large the learning rate may be; below 1
        how much smaller it must be.
    escape: factor per step by which the distance along mu grows; None where mu
        is not negative. Below 1 weight decay holds it back.
    decay: factor per step that is left of the parameters where there is no
        gradient: 1 without weight decay, above 1 if a velocity never forgets.
    effective_learning_rate: how far one gradient moves the parameters downhill
        over its whole life. It and the two gains are of gradients alone: weight
        decay, which answers to the parameters, is left out. They are None where
        a velocity never forgets, and of a transformation with both a period and
        weight decay.
    alternating_gain: size of the updates that gradients of size 1 lead to which
        flip their sign each step.
    signal_to_noise_gain: the number of gradients whose mean is as clean as the
        updates are; None also where no gradient gets through.
    lowest: the Direction of curvature mu.
    highest: the Direction of curvature L.
    noise_floor: the loss above the minimum at which noisy gradients hold the
        quadratic ½ (mu x² + L y²); infinite where it is not stable, None where
        mu is negative and as a Direction's variance.
    """

    system: StateSpace
    period: int
    step: int | None
    around: tuple[float, float] | None
    mu: float
    L: float
    gradient_variance: float | None
    stable: bool
    rate: float
    half_life: float
    edge: float
    margin: float
    escape: float | None
    decay: float
    effective_learning_rate: float | None
    alternating_gain: float | None
    signal_to_noise_gain: float | None
    lowest: Direction
    highest: Direction
    noise_floor: float | None

    def __repr__(self) -> str:
        rows = _rows(self)
        # Of the columns that another one follows.
        widths = [max((len(row[i]) for row in rows if row[i + 1 :]), default=0) for i in (0, 1)]
        return "\n".join("  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows)

    def _repr_html_(self) -> str:
        rows = _rows(self)
        columns = max(map(len, rows))
        lines = []
        for name, *cells in rows:
            wide = f' colspan="{columns - 1}"' if len(cells) < columns - 1 else ""
            inside = "".join(f"<td{wide}>{escaped(cell)}</td>" for cell in cells)
            lines.append(f"<tr><th>{escaped(name)}</th>{inside}</tr>")
        return "<table>\n" + "\n".join(lines) + "\n</table>"


def _rows(a: Analysis) -> list[tuple[str, ...]]:
    """The table: each row a name and what there is to say, once or for every direction."""

    def factor(ρ: float) -> str:
        return f"factor {ρ:.6g} per step"

    def steps(count: float) -> str:
        return f"{count:.6g} steps" if np.isfinite(count) else "none"

    def amount(value: float) -> str:
        return f"{value:.6g}" if np.isfinite(value) else "unbounded"

    rows: list[tuple[str, ...]] = [("curvatures", f"from mu = {a.mu:.6g} to L = {a.L:.6g}")]
    if a.step is not None:
        rows.append(("coefficients", f"those after {a.step} steps"))
    if a.around is not None:
        rows.append(("linearised at", f"parameter {a.around[0]:.6g}, gradient {a.around[1]:.6g}"))
    if a.period > 1:
        rows.append(("repeats itself", f"every {a.period} steps"))
    limit = f"curvature {a.edge:.6g}, {a.margin:.6g} times L"
    if a.edge in (0, np.inf):
        limit = f"none, {'every' if a.edge else 'no'} positive curvature is stable"
    rows += [
        ("stable", ("yes" if a.mu > 0 else "yes, along positive curvatures") if a.stable else "no"),
        ("stability edge", limit),
        ("rate", f"{factor(a.rate)}, {'the worst from mu to L' if a.mu > 0 else 'along L alone'}"),
        ("half-life", steps(a.half_life)),
    ]
    if a.escape is not None:
        rows.append(("escape, mu < 0", factor(a.escape)))
    if a.decay != 1:
        rows.append(("without gradients", factor(a.decay)))
    if a.effective_learning_rate is not None:
        rows.append(("effective learning rate", f"{a.effective_learning_rate:.6g}"))
        rows.append(("on alternating gradients", f"{a.alternating_gain:.6g}"))
    if a.signal_to_noise_gain is not None:
        rows.append(("signal to noise", f"{a.signal_to_noise_gain:.6g} times that of a gradient"))
    if a.noise_floor is not None:
        rows.append(("noise floor", f"{amount(a.noise_floor)} in the loss"))
    if spring := a.highest.oscillator:
        m, c, h, _ = spring
        rows.append(("mass on a spring", f"mass {m:.6g}, friction {c:.6g}, time step {h:.6g}"))

    def along(side: Direction) -> dict[str, str]:
        dies = side.radius < MARGINAL
        cells = {
            "error per step": f"factor {side.radius:.6g}",
            "half-life": steps(side.damping.half_life),
            "damping": side.damping.kind if dies else "none",
            "oscillation": steps(side.damping.period),
        }
        if side.variance is not None:
            cells["variance"] = amount(side.variance)
        if side.oscillator is not None:
            cells["damping ratio"] = f"{side.oscillator.damping_ratio:.6g}"
        return cells

    sides = {"along mu": along(a.lowest), "along L": along(a.highest)}
    if a.mu == a.L:
        sides = {"along mu = L": along(a.highest)}
    rows.append(("", *sides))
    for name in along(a.highest):
        rows.append((name, *(cells.get(name, "-") for cells in sides.values())))
    return rows


def _told(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function says of a system, and None of one that it refuses."""
    try:
        return function(*arguments)
    except ValueError:
        return None


def _gains(system: StateSpace, decay: float) -> tuple[float | None, float | None, float | None]:
    """The response downhill to a constant gradient, its size to an alternating one, and clarity."""
    if decay != 1:
        if system.B.ndim > 1:
            return None, None, None
        # The rest of the state is 0 at the start: without decay θ_0 alone would stay as it is.
        A = system.A.copy()
        A[:, 0] = np.eye(len(A))[0]
        system = system._replace(A=A)
    clean = _told(signal_to_noise_gain, system)
    response = _told(frequency_response, system, [0, 0.5])
    if clean is None or response is None:
        return None, None, None
    constant, alternating = response
    return 0.0 - float(constant.real), float(abs(alternating)), None if np.isnan(clean) else clean


def _heavy_ball(system: StateSpace) -> tuple[float, float] | None:
    """α and β where the updates that follow a gradient are those of heavy ball, -α βᵏ."""
    if len(system.A) > 2 or system.B.ndim > 1:
        return None
    first, second, third = impulse_response(system, 3)
    if first >= 0:
        return None
    β = second / first
    if not -_ALIKE < β < 1 or abs(third - β * second) > -_ALIKE * first:
        return None
    return float(-first), float(max(β, 0.0))


def analyze(
    tx: optax.GradientTransformation | StateSpace,
    mu: float,
    L: float,
    *,
    gradient_variance: float | None = None,
    step: int | None = None,
    around: tuple[float, float] | None = None,
) -> Analysis:
    """Work out all that is known of a transformation on curvatures from mu to L.

    The transformation is read once, by `state_space`; the rest follows from the
    system that it is.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.
        mu: μ, the smallest curvature; any real number.
        L: The largest curvature, in (0, inf) and not below μ.
        gradient_variance: σ² in [0, inf), of the noise of one gradient along
            each direction; None leaves out what noise does.
        step: As of `state_space`, where to freeze coefficients.
        around: As of `state_space`, a point (θ, g) to linearise at, for a
            transformation that is not linear.

    Returns:
        Analysis, which `print` shows as a table and a notebook as HTML.

    Raises:
        ValueError: An argument lies outside its interval, mu exceeds L, step or
            around is given with a StateSpace, or as `state_space`.
        TypeError: As `state_space`.
    """
    μ = as_real("mu", mu, "(-inf, inf)")
    L = as_real("L", L, "(0, inf)")
    if μ > L:
        raise ValueError(f"mu must not exceed L, got mu={μ} and L={L}; are they swapped?")
    σ2 = gradient_variance
    if σ2 is not None:
        σ2 = as_real("gradient_variance", σ2, "[0, inf)")
    if not isinstance(tx, StateSpace):
        system = state_space(tx, step=step, around=around)
    elif step is None and around is None:
        system = read(tx)
    else:
        raise ValueError("step and around must be None for a StateSpace, which was read already")
    period = system.B.shape[1] if system.B.ndim > 1 else 1

    worst, limit = rate(system, μ if μ > 0 else L, L), float(edge(system))
    decay = float(radius(system, 0.0))
    if abs(decay - 1) <= _ALIKE:
        decay = 1.0
    effective, alternating, clean = _gains(system, decay)
    ball = _heavy_ball(system)

    def along(λ: float) -> Direction:
        ρ, variance = float(radius(system, λ)), None
        if σ2 is not None:
            dies = ρ < MARGINAL or 0 < λ < limit  # However slowly, which ρ may round to 1.
            variance = stationary_variance(system, λ, σ2) if dies else np.inf
        return Direction(
            curvature=λ,
            radius=ρ,
            damping=damping(system, λ),
            variance=None if variance is None else float(variance),
            oscillator=oscillator(*ball, λ) if ball and λ > 0 else None,
        )

    stable = limit > L or (μ > 0 and worst < MARGINAL)
    floor = None
    if σ2 is not None and μ >= 0:
        floor = noise_floor(system, [μ, L], σ2) if stable else np.inf
    return Analysis(
        system=system,
        period=period,
        step=None if step is None else int(step),
        around=None if around is None else (float(around[0]), float(around[1])),
        mu=μ,
        L=L,
        gradient_variance=σ2,
        stable=stable,
        rate=worst,
        half_life=halving(worst),
        edge=limit,
        margin=limit / L,
        escape=float(escape_rate(system, μ)) if μ < 0 else None,
        decay=decay,
        effective_learning_rate=effective,
        alternating_gain=alternating,
        signal_to_noise_gain=clean,
        lowest=along(μ),
        highest=along(L),
        noise_floor=None if floor is None else float(floor),
    )
