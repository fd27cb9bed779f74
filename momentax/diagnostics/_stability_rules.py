"""Rules on runs whose steps are too long: they oscillate, diverge or overflow."""

from __future__ import annotations

import numpy as np

from momentax.diagnostics._remedies import (
    beside_edge,
    change_beta,
    number,
    scale_learning_rate,
    with_memory,
    within_sentence,
)
from momentax.diagnostics._rule import Found, Rule, found_in
from momentax.diagnostics._views import (
    View,
    densest_span,
    runs_of,
    significant_hits,
)

# Gradients and velocities that are not finite.


def _nonfinite_gradients(view: View) -> Found | None:
    counts, entries = view.select("nonfinite")
    rows = np.flatnonzero(entries > 0)
    if not len(rows):
        return None
    series = view.series.get("velocity_norm")
    survived = series is not None and bool(np.isfinite(series[-1]))
    return Found(
        counts[rows[0]],
        counts[rows[-1]],
        {"hits": len(rows), "total": len(entries), "entries": entries[rows[0]]},
        "warning" if survived else None,
    )


def _skip_or_restart(view: View, found: Found) -> str:
    advice = (
        "Wrap tx in momentax.guard(tx), which skips such a gradient before it reaches velocity "
        "or parameters"
    )
    if found.severity == "warning":
        share = found.numbers["hits"] / found.numbers["total"]
        return f"{advice}, and find the batches that cause it, {share:.1%} of those read."
    again = f"{_start_again(found.first)} A velocity that is not finite stays so."
    counts, v = view.select("velocity_norm") if view.has("velocity_norm") else ([], np.array([]))
    v = v[(v > 0) & (np.asarray(counts) < found.first)]
    if len(v) and v[-1] > _GROWTH**2 * v[0]:
        return (
            f"First mend what made the velocity grow before step {found.first:.0f}, such as a "
            f"learning rate that is too large. {again}"
        )
    return f"{advice}. {again}"


def _start_again(step: float) -> str:
    return f"Start again from a step before {step:.0f}." if step > 0 else "Start again."


def _nonfinite_velocity(view: View) -> Found | None:
    series = view.series.get("velocity_norm")
    if series is None or np.all(np.isnan(series)):
        return None
    # A norm that is NaN or infinite is known not to be finite.
    rows = np.flatnonzero(~np.isfinite(series) & ~_is_unread(view))
    if not len(rows):
        return None
    counts = view.counts
    return Found(counts[rows[0]], counts[rows[-1]], {"hits": len(rows), "total": len(series)})


def _is_unread(view: View) -> np.ndarray:
    """Return the rows in which no norm is known, since the part had no gradient."""
    norms = [key for key in ("gradient_norm", "update_norm") if key in view.series]
    return np.all([np.isnan(view.series[key]) for key in norms], axis=0) if norms else np.array(0)


# Growth.

_GROWTH = 100.0


def _exploding_velocity(view: View) -> Found | None:
    counts, v = view.select("velocity_norm")
    counts, v = counts[v > 0], v[v > 0]
    if len(v) < 3:
        return None
    growth = v / np.minimum.accumulate(v)
    peak = int(np.argmax(growth))
    start = int(np.argmin(v[: peak + 1]))
    if growth[peak] < _GROWTH or not _is_harmful(view, counts[start], counts[peak]):
        return None
    steps = counts[peak] - counts[start]
    numbers = {
        "before": v[start],
        "after": v[peak],
        "growth": growth[peak],
        "rate": growth[peak] ** (1 / steps),
    }
    return Found(counts[start], counts[peak], numbers)


def _is_harmful(view: View, first: float, last: float) -> bool:
    """Return whether the loss rose as well, or if it is unknown, whether the steps became long."""
    if view.has("loss"):
        if np.any(np.isposinf(view.series["loss"][view.counts >= first])):
            return True
        counts, loss = view.select("loss")
        before = loss[counts <= first]
        after = loss[(counts >= first) & (counts <= last)]
        rose = len(after) and len(before) and np.max(after) > 2 * abs(before[-1])
        return bool(rose) and bool(np.max(after) > np.max(before))
    if view.has("update_ratio"):
        counts, ratio = view.select("update_ratio")
        if np.any(ratio[(counts >= first) & (counts <= last)][-3:] > 0.3):
            return True
    if view.has("headroom"):
        counts, room = view.select("headroom")
        return bool(np.any(room[counts <= last] < 25))
    return not view.has("update_ratio")


def _slow_down(view: View, found: Found) -> str:
    ρ, β = max(found.numbers["rate"], 1.0), view.beta or 0.0
    # Along a curvature λ beyond the edge the error of heavy ball grows by ρ per step, where
    # α λ = 1 + β + ρ + β / ρ. The edge is at α λ = 2 (1 + β).
    factor = (1 + β) / (1 + β + ρ + β / ρ)
    measured = beside_edge(view, found.first, found.last)
    factor = min(factor, measured or factor)
    growth = f"{100 * (ρ - 1):.2g}%" if ρ < 2 else f"a factor of {number(ρ)}"
    return (
        f"{scale_learning_rate(view, factor)}, half of that at which the velocity neither grows "
        f"nor shrinks: it grew by {growth} per step. {_start_again(found.first)}"
    )


# The stability edge and oscillation.

_NEAR_EDGE = 0.8


def _edge_of_stability(view: View) -> Found | None:
    counts, curvature, edge = view.select("curvature", "edge")
    if not len(counts):
        return None
    known = np.isfinite(edge) & (edge > 0)
    ratio = np.where(known, curvature / np.where(known, edge, 1), 0)
    span = densest_span(ratio >= _NEAR_EDGE, 0.6)
    if span is None or span.hits < significant_hits(len(ratio)):
        return None
    if _halves_fast(view, counts[span.start], counts[span.stop - 1]):
        return None
    return found_in(
        counts,
        span,
        curvature=np.median(curvature[span.rows]),
        edge=np.median(edge[span.rows]),
        ratio=np.median(ratio[span.rows]),
    )


def _leave_the_edge(view: View, found: Found) -> str:
    factor = 0.5 / found.numbers["ratio"]
    return (
        f"{scale_learning_rate(view, factor)}, at which the curvature is half of the stability "
        "edge. If the loss still falls, you may keep the learning rate, but no larger one is "
        "stable."
    )


# The angle in degrees, and the share of the readings beyond it. The second pair is for many
# directions that oscillate at different frequencies, whose angles partly cancel.
_OPPOSED = ((120.0, 0.2), (100.0, 0.3))


def _opposed(view: View) -> Found | None:
    counts, angle = view.select("angle")
    for limit, share in _OPPOSED:
        span = densest_span(angle > limit, share)
        if span is None or span.hits < 10:
            continue
        opposed = angle[span.rows] > limit
        runs = runs_of(opposed)
        if span.hits < 2.5 * runs:  # Noise does not last from one reading to the next.
            continue
        if runs == 1 and span.hits < 20:  # One swing is no oscillation.
            continue
        first, last = counts[span.start], counts[span.stop - 1]
        if _halves_fast(view, first, last, runs if runs > 1 else None):
            continue
        return found_in(counts, span, median=np.median(angle[span.rows][opposed]), limit=limit)
    return None


def _halves_fast(view: View, first: float, last: float, swings: int | None = None) -> bool:
    """Return whether the gradient halves within ten steps, or at each of some swings."""
    if not view.has("gradient_norm"):
        return False
    counts, g = view.select("gradient_norm")
    g = g[(counts >= first) & (counts <= last)]
    if len(g) < 4:
        return False
    quarter = len(g) // 4
    before, after = np.median(g[:quarter]), np.median(g[-quarter:])
    if not 0 < after < before:
        return bool(after == 0)
    halvings = np.log2(before / after) * 4 / 3  # The middles of these quarters are closer.
    return bool(halvings > (last - first) / 10 or (swings is not None and halvings > swings))


def _damp(view: View, found: Found) -> str:
    β = with_memory(view.memory / 3)
    slower = within_sentence(scale_learning_rate(view, 1 / 3))
    λ = _curvature_between(view, found.first, found.last)
    if λ is not None and view.learning_rate and (αλ := view.learning_rate * λ) < 1:
        critical = min((1 - np.sqrt(αλ)) ** 2, β)  # It rounds to 1 for a curvature near 0.
        β = min(β, with_memory(1 / (1 - critical)))
    sooner = f"{change_beta(view, max(β, 0.0))}, so that the oscillation dies out sooner"
    return f"{sooner}, or {slower}, so that it becomes slower."


def _curvature_between(view: View, first: float, last: float) -> float | None:
    if not view.has("curvature"):
        return None
    counts, λ = view.select("curvature")
    λ = λ[(counts >= first) & (counts <= last)]
    median = float(np.median(λ)) if len(λ) else 0.0
    return median if median > 0 else None


_OTHER_SIDE = 0.8


def _overshoots(view: View) -> Found | None:
    counts, alpha = view.select("alpha")
    span = densest_span((alpha > _OTHER_SIDE) & (alpha < 1 / _OTHER_SIDE**3), 0.6)
    if span is None or span.hits < significant_hits(len(alpha)):
        return None
    if _halves_fast(view, counts[span.start], counts[span.stop - 1]):
        return None
    return found_in(counts, span, median=np.median(alpha[span.rows]), limit=_OTHER_SIDE)


# ⟨g, g'⟩ = -½ ‖g‖ ‖g'‖, at equal norms.
_FLIPPED = -1 / 3


def _flips(view: View) -> Found | None:
    counts, snr = view.select("gradient_snr")
    span = densest_span(snr < _FLIPPED, 0.6)
    if span is None or span.hits < significant_hits(len(snr)):
        return None
    if _halves_fast(view, counts[span.start], counts[span.stop - 1]):
        return None
    return found_in(counts, span, median=np.median(snr[span.rows]))


def _shorten(view: View, found: Found) -> str:
    factor = min(beside_edge(view, found.first, found.last) or 0.5, 0.5)
    return (
        f"{scale_learning_rate(view, factor)}: each step crosses the minimum along the steepest "
        "direction. A smaller β does not help here, since the edge 2(1 + β)/α falls with β."
    )


RULES = (
    Rule(
        "nonfinite_gradients",
        "problem",
        "leaf",
        ("nonfinite",),
        _nonfinite_gradients,
        "{hits} of the {total} gradients that were read had infinite or NaN entries, the first at "
        "step {first} (number of such entries: {entries:.0f}).",
        _skip_or_restart,
        least=1,
    ),
    Rule(
        "nonfinite_gradients",
        "problem",
        "leaf",
        (),
        _nonfinite_velocity,
        "The velocity was infinite or NaN in {hits} of the {total} readings, first at step "
        "{first}.",
        _skip_or_restart,
        least=1,
    ),
    Rule(
        "exploding_velocity",
        "problem",
        "model",
        ("velocity_norm",),
        _exploding_velocity,
        "The norm of the velocity grew from {before:.3g} at step {first} to {after:.3g} at step "
        "{last}, by a factor of {growth:.3g}.",
        _slow_down,
        least=3,
    ),
    Rule(
        "edge_of_stability",
        "warning",
        "model",
        ("curvature", "edge"),
        _edge_of_stability,
        "The curvature along the steps was at least 0.8 of the stability edge in {hits} of the "
        "{total} readings between steps {first} and {last} (median {curvature:.3g}, edge "
        "{edge:.3g}).",
        _leave_the_edge,
    ),
    Rule(
        "oscillation",
        "warning",
        "model",
        ("angle",),
        _opposed,
        "The angle between velocity and gradient exceeded {limit:.0f}° in {hits} of the {total} "
        "readings between steps {first} and {last} (median of these {median:.0f}°).",
        _damp,
        unless=("stale_velocity", "beta_too_large"),
    ),
    Rule(
        "oscillation",
        "warning",
        "model",
        ("gradient_snr",),
        _flips,
        "Successive gradients pointed against each other in {hits} of the {total} readings between "
        "steps {first} and {last} (median signal-to-noise ratio {median:.2f}; -0.5 is a gradient "
        "that only changes its sign).",
        _shorten,
    ),
    Rule(
        "oscillation",
        "warning",
        "model",
        ("alpha",),
        _overshoots,
        "The steps crossed the minimum along their direction and landed about as high as they "
        "started in {hits} of the {total} readings between steps {first} and {last} (median alpha "
        "{median:.2f}; 0 is the minimum and 1 is equally high on the other side).",
        _shorten,
    ),
)
