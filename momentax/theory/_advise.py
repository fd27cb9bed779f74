"""What a transformation will do on a loss of measured curvature, in sentences."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import as_flag, as_real
from momentax.theory._analyze import Analysis, analyze
from momentax.theory._certify import certify
from momentax.theory._closed_loop import Damping, edge, escape_rate, halving, rate
from momentax.theory._quadratic import stability_edge
from momentax.theory._rates import Tuning, optimal_heavy_ball
from momentax.theory._state_space import read
from momentax.theory._system import StateSpace


class Advice(NamedTuple):
    """What to expect of a transformation on a loss, and what to try instead.

    stable: whether an error dies out along every positive curvature.
    edge: the largest curvature that it tolerates.
    margin: edge / L, how many times as large gradients may be.
    rate: worst factor per step by which an error along a positive curvature shrinks.
    half_life: steps in which that halves; infinite where none dies out.
    stiffest: the Damping along L.
    escape: factor per step by which the distance along mu grows, at most 1 where
        weight decay holds it back; None where mu is not negative.
    tuned: heavy ball's best Tuning for the positive curvatures; None where the
        smallest is not known.
    certified_rate: one proved for every function of these curvatures; None
        where none is.
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


def sharpness_limit(tx: optax.GradientTransformation | StateSpace) -> float:
    """Give the sharpness at which a transformation is at its edge of stability.

    It is 2 / α for plain descent, 2 (1 + β) / α for heavy ball. Full-batch
    training of neural networks often raises the largest curvature up to about
    this number and holds it there: an observation, and no law.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.

    Returns:
        The largest λ up to which all curvatures in (0, λ) are stable; infinite
        where all are, 0 where none is.

    Raises:
        ValueError: As `state_space`.
        TypeError: As `state_space`.

    Source:
        Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural
        networks typically occurs at the edge of stability, 2021, arXiv:2103.00065.
    """
    return float(edge(read(tx)))


def _slowest(curvature: Any, μ: float, L: float) -> tuple[float, float]:
    """The smallest curvature that can be told from 0, and how well any is known."""
    if not hasattr(curvature, "spectrum"):
        return (μ if μ > 0 else L), 0.0
    known = float(curvature.history["mu_error"][-1])
    nodes = curvature.spectrum.nodes
    return float(nodes[nodes > known].min(initial=L)), known


def _stability(found: Analysis) -> str:
    """Whether it is stable, by what margin, and if it can never be, why."""
    system, stable, low, L, limit = found.system, found.stable, found.mu, found.L, found.edge
    # Decay does not scale with the curvature, as all else that the learning rate multiplies does.
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
            f"{scaled} must be below {limit / L:.4g} times what it is."
        )
    if not np.any(system.B):
        return "Not stable: no gradient moves the parameters; is the learning rate 0?"
    if edge(system._replace(B=-system.B)) > 0:
        return "Unstable: it ascends along every positive curvature; is a minus sign missing?"
    return "Unstable, at however small a curvature."


def advise(
    tx: optax.GradientTransformation | StateSpace, curvature: Any, *, certified: bool = True
) -> Advice:
    """Say what a transformation will do on a loss, and which settings would do better.

    The loss is taken for the quadratic that it is near the point where its
    curvature was measured. Slow, stiff and tuned speak of the positive
    curvatures, from the smallest that can be told from 0 up to L; a negative
    one is spoken of apart. Of a pair whose mu is not positive, L is the only
    one that is known. The margin is a factor of all gradients: of the learning
    rate too, but for weight decay.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.
        curvature: What `momentax.curvature` returns, or a pair (mu, L).
        certified: Whether to look for a certificate too, where the loss is
            strongly convex and the extra `certify` is installed.

    Returns:
        Advice, whose `sentences` say it in words.

    Raises:
        ValueError: L is not positive, mu exceeds it, or as `state_space`.
        TypeError: curvature is none of these, or certified no flag.
    """
    measured = hasattr(curvature, "spectrum")
    if not (measured or (isinstance(curvature, tuple) and len(curvature) == 2)):
        raise TypeError(f"curvature must be a Curvature or a pair (mu, L), got {curvature!r}")
    as_flag("certified", certified)
    μ = as_real("mu", curvature[0], "(-inf, inf)")
    L = as_real("L", curvature[1], "(0, inf)")
    if μ > L:
        raise ValueError(f"mu must not exceed L, got mu={μ} and L={L}; are they swapped?")
    low, known = _slowest(curvature, μ, L)
    found = analyze(tx, low, L)
    system, stable, worst, steps = found.system, found.stable, found.rate, found.half_life
    stiffest = found.highest.damping
    escape = float(escape_rate(system, μ)) if μ < -known else None
    tuned = optimal_heavy_ball(low, L) if measured or μ > 0 else None
    proof = None
    if certified and stable and μ > known and find_spec("cvxpy"):
        proof = certify(system, low, L)

    said = [_stability(found)]
    if stable:
        at = next((λ for λ in (low, L) if rate(system, λ, λ) >= worst * (1 - 1e-9)), None)
        where = f"of curvature {at:.4g}" if at is not None else f"between {low:.4g} and {L:.4g}"
        pace = f"halves its error every {steps:.3g} steps"
        if not 0 < steps < np.inf:
            pace = "hardly ever halves its error" if steps else "ends its error in a few steps"
        said.append(f"The slowest direction, {where}, {pace} (rate {worst:.6g}).")
    if stiffest.kind == "under":
        said.append(f"The stiffest direction oscillates, once in {stiffest.period:.3g} steps.")
    else:
        said.append("The stiffest direction does not oscillate.")
    if escape is not None:
        growth = "does not grow"
        if escape > 1:
            growth = f"grows by {escape:.6g} a step, doubling every {halving(1 / escape):.3g} steps"
        said.append(
            f"The loss curves down here, with curvature {μ:.4g} along one direction: this is no "
            f"minimum, and the distance along it {growth}."
        )
    if tuned is not None:
        best = halving(float(tuned.rate))
        pace = f"it halves an error every {best:.3g} steps" if best else "it ends it in a step"
        if stable and 0 < 1.01 * best < steps < np.inf:
            pace += f", {steps / best:.3g} times as fast as now"
        # Its two modes along L meet, and that is near the edge.
        near = L * tuned.learning_rate / stability_edge(0, 1, tuned.beta)
        said.append(
            f"Heavy ball's best for curvatures from {low:.4g} to {L:.4g} is learning_rate="
            f"{tuned.learning_rate:.6g} and beta={tuned.beta:.6g}: {pace}, at "
            f"{near:.6g} of its own edge."
        )
    if proof is not None:
        said.append(
            f"Not only on quadratics: for every function of these curvatures the rate "
            f"{proof.rate:.6g} is proved."
        )
    certified_rate = None if proof is None else proof.rate
    return Advice(
        stable=stable,
        edge=found.edge,
        margin=found.margin,
        rate=worst,
        half_life=steps,
        stiffest=stiffest,
        escape=escape,
        tuned=tuned,
        certified_rate=certified_rate,
        sentences=tuple(said),
    )
