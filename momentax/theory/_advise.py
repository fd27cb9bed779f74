"""What a transformation will do on a loss of measured curvature, in sentences."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import ANY_REAL, as_curvature_range, as_flag
from momentax.theory._analyze import Analysis, analyze_system
from momentax.theory._certify import certify_system
from momentax.theory._closed_forms._quadratic import stability_edge
from momentax.theory._closed_forms._tunings import Tuning, optimal_heavy_ball
from momentax.theory._printing import format_record
from momentax.theory._properties._closed_loop import Damping, half_life_at, radius
from momentax.theory._properties._rate import edge, worst_rate
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, StateSpace


class Advice(NamedTuple):
    """What to expect of a transformation on a loss, and what to try instead.

    stable: whether an error decays along every positive curvature.
    edge: the largest curvature that it tolerates.
    margin: edge / L, the factor by which gradients may be larger.
    rate: worst factor per step by which an error along a positive curvature shrinks.
    half_life: steps in which that error halves; infinite if an error does not decay.
    stiffest: the Damping along L.
    escape: factor per step by which the distance along mu grows, at most 1 if weight decay holds
        the parameters back; None unless mu is negative.
    tuned: heavy ball's best Tuning for the positive curvatures; None if the smallest of them is
        not known.
    certified_rate: a rate proved for every smooth strongly convex function with these
        curvatures; None if no rate is proved.
    sentences: all of this in words, which `print` shows.
    """

    stable: bool
    edge: float
    margin: float
    rate: float
    half_life: float
    stiffest: Damping
    escape: float | None
    tuned: Tuning | None
    certified_rate: float | None
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return format_record(self, without=("sentences",))


def _smallest_positive(curvature: Any, μ: float, L: float) -> tuple[float, float]:
    """Return the smallest curvature that is surely positive, and the error of the smallest one.

    The smallest of a pair is exact; if it is not positive, L is the only one that is known.
    """
    if not hasattr(curvature, "spectrum"):
        return (μ if μ > 0 else L), 0.0
    error = float(curvature.history["mu_error"][-1])
    nodes = curvature.spectrum.nodes
    return float(nodes[nodes > error].min(initial=L)), error


def _stability(found: Analysis) -> str:
    """Say whether the system is stable, by what margin, and why not if it never is."""
    stable, low, L, limit = found.stable, found.mu, found.L, found.edge
    # Decay does not scale with the curvature, but the learning rate multiplies it too.
    scaled = "learning rate" if found.decay >= 1 else "gradients"
    if stable and limit == np.inf:
        return "Stable along curvatures of every size."
    if stable and limit > L:
        return (
            f"Stable: the largest curvature is {L:.4g} and the edge is at {limit:.4g}, so the "
            f"{scaled} may be up to {limit / L:.4g} times as large."
        )
    if stable:
        return f"Stable from {low:.4g} to {L:.4g}, but not along all curvatures below that."
    if limit > 0:
        return (
            f"Unstable: the largest curvature, {L:.4g}, is not below the edge at {limit:.4g}; the "
            f"{scaled} must be below {limit / L:.4g} times the present value."
        )
    A, B, C = found.system
    if not np.any(B):
        return "Not stable: no gradient moves the parameters; is the learning rate 0?"
    if edge(LinearSystem.from_state_space(StateSpace(A, -B, C))) > 0:
        return "Unstable: it ascends along every positive curvature; is a minus sign missing?"
    return "Unstable at every positive curvature."


def _pace(system: LinearSystem, found: Analysis) -> str:
    """Say how fast the slowest direction is."""
    low, L, worst, steps = found.mu, found.L, found.rate, found.half_life
    at = next((λ for λ in (low, L) if worst_rate(system, λ, λ) >= worst * (1 - 1e-9)), None)
    where = f"of curvature {at:.4g}" if at is not None else f"between {low:.4g} and {L:.4g}"
    pace = f"halves its error every {steps:.3g} steps"
    if not 0 < steps < np.inf:
        pace = "hardly ever halves its error" if steps else "ends its error in a few steps"
    return f"The slowest direction, {where}, {pace} (rate {worst:.6g})."


def _oscillation(stiffest: Damping) -> str:
    if stiffest.kind == "under":
        return f"The stiffest direction oscillates, once in {stiffest.period:.3g} steps."
    return "The stiffest direction does not oscillate."


def _saddle(μ: float, escape: float) -> str:
    growth = "does not grow"
    if escape > 1:
        doubling = half_life_at(1 / escape)
        growth = f"grows by {escape:.6g} a step, doubling every {doubling:.3g} steps"
    return (
        f"The loss curves down here, with curvature {μ:.4g} along one direction: this is no "
        f"minimum, and the distance along it {growth}."
    )


def _best_setting(tuned: Tuning, found: Analysis) -> str:
    """Say what heavy ball's best setting is, and how much faster it is."""
    best, steps = half_life_at(float(tuned.rate)), found.half_life
    pace = f"it halves an error every {best:.3g} steps" if best else "it ends it in a step"
    if found.stable and 0 < 1.01 * best < steps < np.inf:
        pace += f", {steps / best:.3g} times as fast as now"
    # The two modes of this setting meet along L, which is near the edge.
    near = found.L * tuned.learning_rate / stability_edge(tuned.beta)
    return (
        f"Heavy ball's best for curvatures from {found.mu:.4g} to {found.L:.4g} is learning_rate="
        f"{tuned.learning_rate:.6g} and beta={tuned.beta:.6g}: {pace}, at {near:.6g} of its own "
        "edge."
    )


def advise(
    tx: optax.GradientTransformation | StateSpace,
    mu: Any,
    L: float | None = None,
    *,
    certified: bool = True,
) -> Advice:
    """Say what a transformation will do on a loss, and which settings would do better.

    The loss is replaced by its quadratic model at the point where the curvature was measured.
    The slowest direction, the stiffest and the tuning are those of the positive curvatures, from
    the smallest that is surely positive up to L; a negative curvature is reported separately. If
    mu is a number that is not positive, L is the only positive curvature that is known. The
    margin is a factor of all gradients, which is a factor of the learning rate too unless there
    is weight decay.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        mu: The record of `momentax.curvature`; or μ, the smallest curvature, any real number.
        L: The largest curvature, in (0, inf) and not below μ; None with a record.
        certified: Whether to look for a certificate too, if the loss is strongly convex and the
            extra "certify" is installed.

    Returns:
        Advice, whose `sentences` say it in words.

    Raises:
        ValueError: L is not positive, mu exceeds it, or as `state_space`.
        TypeError: L is missing or given twice, or certified is not a bool.

    Example:
        >>> advice = momentax.theory.advise(optax.sgd(0.1, 0.9), 2.0, 20.0, certified=False)
        >>> print(advice.sentences[2])
        The stiffest direction oscillates, once in 3.87 steps.
    """
    as_flag("certified", certified)
    μ, largest = as_curvature_range(mu, L, interval=ANY_REAL)
    low, error = _smallest_positive(mu, μ, largest)
    system = as_system(tx)
    found = analyze_system(system, low, largest)
    escape = float(radius(system, μ)) if μ < -error else None
    tuned = optimal_heavy_ball(low, largest) if hasattr(mu, "spectrum") or μ > 0 else None
    proof = None
    if certified and found.stable and μ > error and find_spec("cvxpy"):
        proof = certify_system(system, low, largest)
    sentences = [_stability(found)]
    if found.stable:
        sentences.append(_pace(system, found))
    sentences.append(_oscillation(found.highest.damping))
    if escape is not None:
        sentences.append(_saddle(μ, escape))
    if tuned is not None:
        sentences.append(_best_setting(tuned, found))
    if proof is not None:
        sentences.append(
            f"The rate {proof.rate:.6g} is also proved for every smooth strongly convex function "
            "with these curvatures."
        )
    return Advice(
        stable=found.stable,
        edge=found.edge,
        margin=found.margin,
        rate=found.rate,
        half_life=found.half_life,
        stiffest=found.highest.damping,
        escape=escape,
        tuned=tuned,
        certified_rate=None if proof is None else proof.rate,
        sentences=tuple(sentences),
    )
