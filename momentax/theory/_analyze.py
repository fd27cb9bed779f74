"""All properties of a transformation, in one record and one table."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core import lazy
from momentax._core.arguments import ANY_REAL, as_curvature_range, as_real
from momentax.theory._closed_forms._oscillator import Oscillator, oscillator
from momentax.theory._printing import format_record
from momentax.theory._properties._closed_loop import (
    MARGINAL,
    Damping,
    half_life_at,
    radius,
    system_damping,
)
from momentax.theory._properties._filter import (
    system_frequency_response,
    system_impulse_response,
    system_signal_to_noise_gain,
)
from momentax.theory._properties._noise import system_noise_floor, system_variance
from momentax.theory._properties._rate import edge, worst_rate
from momentax.theory._reading._state_space import as_system, read_system
from momentax.theory._system import LinearSystem, StateSpace

_TOLERANCE = 1e-10  # Differences and decay per step below this are rounding errors.


class Direction(NamedTuple):
    """What an error along one curvature does.

    curvature: λ.
    radius: factor per step by which the error shrinks, or grows if above 1.
    damping: the Damping.
    variance: of the parameter about its mean, sustained by noisy gradients; infinite where an
        error does not decay, None if no gradient_variance was given.
    oscillator: the Oscillator that the transformation discretises; None unless it is heavy ball
        and the curvature positive.
    """

    curvature: float
    radius: float
    damping: Damping
    variance: float | None
    oscillator: Oscillator | None

    def __repr__(self) -> str:
        return format_record(self)


class Analysis(NamedTuple):
    """What a transformation does on a quadratic whose curvatures are in [mu, L].

    It prints as a table, in plain text or HTML.

    system: the StateSpace that was analysed.
    period: steps after which the transformation repeats itself, 1 if all steps are the same.
    step: where coefficients were frozen, None for the long run.
    around: the point (θ, g) that it was linearised at, None if it is linear.
    mu: the smallest curvature; it may be negative, as beside a saddle, or 0.
    L: the largest curvature.
    gradient_variance: of the noise, None if none was given.
    stable: whether an error decays along every positive curvature up to L, from mu on if mu
        is positive.
    rate: worst factor per step by which an error along those curvatures shrinks, or grows if
        above 1. If mu is not positive it is the factor along L only, since the factor tends to
        1 with the curvature to 0.
    half_life: steps in which an error at that rate halves; infinite if an error does not decay,
        or decays so slowly that the rate rounds to 1.
    edge: the largest curvature up to which all positive ones are stable; infinite if every
        curvature is, 0 if no curvature is.
    margin: edge / L, the factor by which the learning rate may be larger, or must be smaller if
        it is below 1.
    escape: factor per step by which the distance along mu grows; None unless mu is negative. It
        is below 1 if weight decay holds the parameters back.
    decay: factor per step by which the parameters shrink without a gradient: 1 without weight
        decay, above 1 if the velocity does not decay.
    effective_learning_rate: how far one gradient moves the parameters downhill in the long run.
        It and the two gains describe the response to gradients, without weight decay, which
        responds to the parameters. They are None if the velocity does not decay, and for a
        transformation with both a period and weight decay.
    alternating_gain: size of the updates that follow from gradients of size 1 whose sign
        changes at each step.
    signal_to_noise_gain: the number of gradients whose mean has the same signal-to-noise ratio
        as the updates; None also if the updates are always 0.
    lowest: the Direction of curvature mu.
    highest: the Direction of curvature L.
    noise_floor: the loss above the minimum at which noisy gradients hold the quadratic
        ½ (mu x² + L y²); infinite if it is not stable, None if mu is negative or no
        gradient_variance was given.
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

    def plot(self, **options: Any) -> Any:
        """Draw the factor per step along every curvature with `momentax.plotting.analysis`.

        Args:
            **options: The keywords of `momentax.plotting.analysis`.

        Returns:
            The matplotlib axes.
        """
        return lazy.plot("analysis", self, **options)

    def __repr__(self) -> str:
        rows = _rows(self)
        # Padding is for columns that another one follows.
        widths = [max((len(row[i]) for row in rows if row[i + 1 :]), default=0) for i in (0, 1)]
        return "\n".join("  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows)

    def _repr_html_(self) -> str:
        rows = _rows(self)
        columns = max(map(len, rows))
        lines = []
        for name, *cells in rows:
            span = f' colspan="{columns - 1}"' if len(cells) < columns - 1 else ""
            inside = "".join(f"<td{span}>{escape(cell)}</td>" for cell in cells)
            lines.append(f"<tr><th>{escape(name)}</th>{inside}</tr>")
        return "<table>\n" + "\n".join(lines) + "\n</table>"


def _factor(ρ: float) -> str:
    return f"factor {ρ:.6g} per step"


def _steps(steps: float) -> str:
    return f"{steps:.6g} steps" if np.isfinite(steps) else "none"


def _amount(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else "unbounded"


def _rows(a: Analysis) -> list[tuple[str, ...]]:
    """Return the rows of the table: a name, and one cell for all directions or one for each."""
    rows = [*_setting_rows(a), *_stability_rows(a), *_response_rows(a)]
    sides = {"along mu": _cells(a.lowest), "along L": _cells(a.highest)}
    if a.mu == a.L:
        sides = {"along mu = L": _cells(a.highest)}
    rows.append(("", *sides))
    for name in _cells(a.highest):
        rows.append((name, *(cells.get(name, "-") for cells in sides.values())))
    return rows


def _setting_rows(a: Analysis) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("curvatures", f"from mu = {a.mu:.6g} to L = {a.L:.6g}")]
    if a.step is not None:
        rows.append(("coefficients", f"those after {a.step} steps"))
    if a.around is not None:
        rows.append(("linearised at", f"parameter {a.around[0]:.6g}, gradient {a.around[1]:.6g}"))
    if a.period > 1:
        rows.append(("repeats itself", f"every {a.period} steps"))
    return rows


def _stability_rows(a: Analysis) -> list[tuple[str, ...]]:
    limit = f"curvature {a.edge:.6g}, {a.margin:.6g} times L"
    if a.edge in (0, np.inf):
        limit = f"none, {'every' if a.edge else 'no'} positive curvature is stable"
    stable = ("yes" if a.mu > 0 else "yes, along positive curvatures") if a.stable else "no"
    where = "the worst from mu to L" if a.mu > 0 else "along L alone"
    rows: list[tuple[str, ...]] = [
        ("stable", stable),
        ("stability edge", limit),
        ("rate", f"{_factor(a.rate)}, {where}"),
        ("half-life", _steps(a.half_life)),
    ]
    if a.escape is not None:
        rows.append(("escape, mu < 0", _factor(a.escape)))
    if a.decay != 1:
        rows.append(("without gradients", _factor(a.decay)))
    return rows


def _response_rows(a: Analysis) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if a.effective_learning_rate is not None:
        rows.append(("effective learning rate", f"{a.effective_learning_rate:.6g}"))
        rows.append(("on alternating gradients", f"{a.alternating_gain:.6g}"))
    if a.signal_to_noise_gain is not None:
        rows.append(("signal to noise", f"{a.signal_to_noise_gain:.6g} times that of a gradient"))
    if a.noise_floor is not None:
        rows.append(("noise floor", f"{_amount(a.noise_floor)} in the loss"))
    if spring := a.highest.oscillator:
        m, c, h, _ = spring
        rows.append(("mass on a spring", f"mass {m:.6g}, friction {c:.6g}, time step {h:.6g}"))
    return rows


def _cells(side: Direction) -> dict[str, str]:
    cells = {
        "error per step": f"factor {side.radius:.6g}",
        "half-life": _steps(side.damping.half_life),
        "damping": side.damping.kind if side.radius < MARGINAL else "none",
        "oscillation": _steps(side.damping.period),
    }
    if side.variance is not None:
        cells["variance"] = _amount(side.variance)
    if side.oscillator is not None:
        cells["damping ratio"] = f"{side.oscillator.damping_ratio:.6g}"
    return cells


def _gains(system: LinearSystem, decay: float) -> tuple[float | None, float | None, float | None]:
    """Return the effective learning rate, the alternating gain and the signal-to-noise gain."""
    if decay != 1:
        if system.period > 1:
            return None, None, None
        # The rest of the state is 0 at the start, so without decay θ_0 alone would not change.
        A = system.A.copy()
        A[:, 0] = np.eye(len(A))[0]
        system = LinearSystem(A, system.B, system.C)
    try:
        gain = system_signal_to_noise_gain(system)
        constant, alternating = system_frequency_response(system, np.array([0, 0.5]))
    except ValueError:  # If the velocity does not decay, the filter is unstable.
        return None, None, None
    return 0.0 - float(constant.real), float(abs(alternating)), None if np.isnan(gain) else gain


def _heavy_ball(system: LinearSystem) -> tuple[float, float] | None:
    """Return (α, β) if the impulse response is that of heavy ball, -α βᵏ, and None otherwise."""
    if len(system.A) > 2 or system.period > 1:
        return None
    first, second, third = system_impulse_response(system, 3)
    if first >= 0:
        return None
    β = second / first
    if not -_TOLERANCE < β < 1 or abs(third - β * second) > -_TOLERANCE * first:
        return None
    return float(-first), float(max(β, 0.0))


def _direction(
    system: LinearSystem,
    λ: float,
    σ2: float | None,
    limit: float,
    ball: tuple[float, float] | None,
) -> Direction:
    ρ, variance = float(radius(system, λ)), None
    if σ2 is not None:
        # An error may decay so slowly that ρ rounds to 1.
        decays = ρ < MARGINAL or 0 < λ < limit
        variance = (
            float(system_variance(system, np.asarray(λ), np.asarray(σ2))) if decays else np.inf
        )
    return Direction(
        curvature=λ,
        radius=ρ,
        damping=system_damping(system, λ),
        variance=variance,
        oscillator=oscillator(ball[0], λ, ball[1]) if ball and λ > 0 else None,
    )


def analyze_system(
    system: LinearSystem,
    μ: float,
    L: float,
    σ2: float | None = None,
    step: int | None = None,
    around: tuple[float, float] | None = None,
) -> Analysis:
    """Analyse a system as `analyze` does; step and around are kept for the table."""
    worst, limit = worst_rate(system, μ if μ > 0 else L, L), edge(system)
    decay = float(radius(system, 0.0))
    if abs(decay - 1) <= _TOLERANCE:
        decay = 1.0
    effective, alternating, gain = _gains(system, decay)
    ball = _heavy_ball(system)
    stable = limit > L or (μ > 0 and worst < MARGINAL)
    floor = None
    if σ2 is not None and μ >= 0:
        λ = np.array([μ, L])
        floor = float(system_noise_floor(system, λ, np.asarray(σ2))) if stable else np.inf
    return Analysis(
        system=system.state_space,
        period=system.period,
        step=step,
        around=around,
        mu=μ,
        L=L,
        gradient_variance=σ2,
        stable=stable,
        rate=worst,
        half_life=half_life_at(worst),
        edge=limit,
        margin=limit / L,
        escape=float(radius(system, μ)) if μ < 0 else None,
        decay=decay,
        effective_learning_rate=effective,
        alternating_gain=alternating,
        signal_to_noise_gain=gain,
        lowest=_direction(system, μ, σ2, limit, ball),
        highest=_direction(system, L, σ2, limit, ball),
        noise_floor=floor,
    )


def analyze(
    tx: optax.GradientTransformation | StateSpace,
    mu: Any,
    L: float | None = None,
    *,
    gradient_variance: float | None = None,
    step: int | None = None,
    around: tuple[float, float] | None = None,
) -> Analysis:
    """Analyse a transformation on curvatures from mu to L.

    The transformation is read once, by `state_space`; everything else follows from its system.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        mu: μ, the smallest curvature, any real number; or a Curvature, which gives L too.
        L: The largest curvature, in (0, inf) and not below μ.
        gradient_variance: σ² in [0, inf), of the noise of one gradient along each direction;
            None leaves out the effects of noise.
        step: As in `state_space`, where to freeze coefficients.
        around: As in `state_space`, a point (θ, g) to linearise at, for a transformation that
            is not linear.

    Returns:
        Analysis, which prints as a table, and in a notebook as HTML.

    Raises:
        ValueError: An argument lies outside its interval, mu exceeds L, step or around is given
            with a StateSpace, or as `state_space`.
        TypeError: L is missing or given twice, or as `state_space`.

    Example:
        >>> analysis = momentax.theory.analyze(optax.sgd(0.1, momentum=0.9), 1.0, 30.0)
        >>> round(analysis.edge, 6), round(analysis.rate, 6)
        (38.0, 0.948683)
    """
    μ, largest = as_curvature_range(mu, L, interval=ANY_REAL)
    σ2 = gradient_variance
    if σ2 is not None:
        σ2 = as_real("gradient_variance", σ2, "[0, inf)")
    if not isinstance(tx, StateSpace):
        system = read_system(tx, step=step, around=around)
    elif step is None and around is None:
        system = as_system(tx)
    else:
        raise ValueError("step and around must be None for a StateSpace, which was read already")
    return analyze_system(
        system,
        μ,
        largest,
        σ2,
        step=None if step is None else int(step),
        around=None if around is None else (float(around[0]), float(around[1])),
    )
