"""Rules on runs that make no progress, and on the memory of the velocity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from momentax._core.typing import Reals
from momentax.diagnostics._remedies import (
    beside_edge,
    change_beta,
    in_steps,
    number,
    scale_learning_rate,
    with_memory,
    within_sentence,
)
from momentax.diagnostics._rule import Found, Rule, found_in
from momentax.diagnostics._views import Span, View, densest_span, log_slopes, shifted, spacing

# A loss that does not fall.


class _Standstill(NamedTuple):
    """A loss that falls no more: the first and the last count of it, and its median."""

    first: float
    last: float
    level: float


def _standstill(view: View, least: float, order: float) -> _Standstill | None:
    """Return the end of the history if the loss no longer falls there.

    The end is the last three quarters or the last half, at least a hundred readings and one and a
    half memories of the velocity. The ranks of the medians of its eight blocks must have a
    correlation with time above `order`, and the median of the second half must be above `least`
    times that of the first.
    """
    counts, loss = view.select("loss")
    for share in (0.75, 0.5):
        start = int(len(loss) * (1 - share))
        tail = loss[start:]
        if len(tail) < 100 or counts[-1] - counts[start] < 1.5 * view.memory:
            return None
        ranks = np.argsort(np.argsort([np.median(each) for each in np.array_split(tail, 8)]))
        early, late = (np.median(each) for each in np.array_split(tail, 2))
        if np.corrcoef(ranks, np.arange(8))[0, 1] > order and late > shifted(early, least - 1):
            return _Standstill(counts[start], counts[-1], float(np.median(tail)))
    return None


def _between(view: View, first: float, last: float, key: str) -> Reals:
    counts, values = view.select(key)
    return values[(counts >= first) & (counts <= last)]


def _noise_floor(view: View, least: float, order: float) -> _Standstill | None:
    """Return the standstill of a run that noise keeps above its minimum.

    Its velocity points in no lasting direction: if all gradients were noise, its cosine with the
    gradient would be √(1 - β²).
    """
    if (found := _standstill(view, least, order)) is None:
        return None
    first, last, level = found
    update = _between(view, first, last, "update_norm")
    early, late = (np.median(each) for each in np.array_split(update, 2))
    is_plain = view.beta is not None and view.beta < 0.5  # Its cosine is always large.
    noisy = is_plain or np.median(_between(view, first, last, "cos")) < 0.8
    has_fallen = view.counts[0] > 0 or level < shifted(view.select("loss")[1][0], -0.3)
    return found if noisy and late > 0.5 * early and has_fallen else None


def _beta_too_large(view: View) -> Found | None:
    if view.memory < 20 or (floor := _noise_floor(view, 0.75, -0.8)) is None:
        return None
    first, last, level = floor
    angle = _between(view, first, last, "angle")
    hits = int(np.sum(angle > 90))
    if hits < 0.15 * len(angle):
        return None
    numbers = {"level": level, "hits": hits, "total": len(angle), "median": np.median(angle)}
    return Found(first, last, numbers)


def _shorten_memory(view: View, _: Found) -> str:
    shorter = with_memory(max(10.0, view.memory / 10))
    factor = (1 - (view.beta or 0.9)) / (1 - shorter)
    slower = within_sentence(scale_learning_rate(view, factor))
    return (
        f"{change_beta(view, shorter)}. The noise keeps the loss above its minimum in proportion "
        f"to α/(1 − β), which falls to {number(factor)} of its value. You may instead {slower}, "
        "for example by a schedule: α/(1 − β) falls as much."
    )


def _residual_velocity(view: View) -> Found | None:
    # The medians of few readings are less certain.
    least = 0.97 if len(view.counts) < 500 else 0.9
    if (floor := _noise_floor(view, least, -0.5)) is None:
        return None
    first, last, level = floor
    numbers = {
        "level": level,
        "update": np.median(_between(view, first, last, "update_norm")),
        "angle": np.median(_between(view, first, last, "angle")),
    }
    return Found(first, last, numbers)


def _decay(view: View, _: Found) -> str:
    return (
        f"{scale_learning_rate(view, 0.1)} by a schedule, such as optax.cosine_decay_schedule: "
        "what noise adds to the loss falls in proportion, here to about a tenth."
    )


def _let_it_die_out(view: View, _: Found) -> str:
    return (
        "Call momentax.reset_velocity(state) once, or "
        f"{within_sentence(scale_learning_rate(view, 0.1))} by a schedule, so that what is left of "
        "the velocity moves the parameters a tenth as far."
    )


def _coasting(view: View) -> Found | None:
    """The velocity is longer than steady gradients of the present size could make it."""
    counts, gain, g = view.select("gain", "gradient_norm")
    holds = (gain > 2 * view.memory) & (g < 0.1 * np.maximum.accumulate(g))
    span = densest_span(holds, 0.6)
    if span is None or span.hits < max(10, view.memory / spacing(counts) / 2):
        return None
    numbers = {"gain": np.median(gain[span.rows]), "memory": view.memory}
    return found_in(counts, span, **numbers)


# A plateau.

_FLAT = 0.02  # The largest relative change of the loss, besides noise.


def _plateau(view: View) -> Found | None:
    counts, loss, g, cos = view.select("loss", "gradient_norm", "cos")
    span = _longest_flat(loss)
    if span is None:
        return None
    rows, gradients = span.rows, g[span.rows]
    half = len(gradients) // 2
    level, size, aligned = np.median(loss[rows]), np.median(gradients), np.median(cos[rows])
    # At a minimum the gradient dies out, on a plateau it does not.
    lasts = np.median(gradients[half:]) > 0.7 * np.median(gradients[:half]) > 0
    later = loss[span.stop :]
    fell_later = len(later) >= 10 and np.median(later) < level - 0.2 * abs(level)
    fell_before = np.max(loss[: span.start], initial=-np.inf) > level + 0.5 * abs(level)
    is_small = size < 0.3 * np.max(g)
    crossed = fell_later and is_small
    crosses = aligned > 0.9 and not fell_before
    if not lasts or not (crossed or crosses):
        return None
    return _on_plateau(counts, span, loss, size, aligned)


def _on_plateau(counts: Reals, span: Span, loss: Reals, size: float, cos: float) -> Found:
    numbers = {"before": loss[span.start], "after": loss[span.stop - 1], "gradient": size}
    return Found(counts[span.start], counts[span.stop - 1], numbers | {"cos": cos})


def _longest_flat(loss: Reals) -> Span | None:
    """Return the longest stretch over which the loss hardly changes, a fifth of all at least."""
    if len(loss) < 20:
        return None
    blocks = np.array_split(np.arange(len(loss)), min(40, len(loss) // 4))
    levels = np.array([np.median(loss[block]) for block in blocks])
    noise = 2 * np.std(np.diff(loss)) / np.sqrt(len(blocks[0]))
    best = Span(0, 0, 0)
    for i, block in enumerate(blocks):
        near = np.abs(levels[i:] - levels[i]) <= min(
            max(_FLAT * abs(levels[i]), noise), 0.1 * abs(levels[i])
        )
        length = len(near) if near.all() else int(np.argmin(near))
        stop = int(blocks[i + length - 1][-1]) + 1 if length else int(block[0])
        best = max(best, Span(int(block[0]), stop, 0), key=lambda each: each.total)
    return best if best.total >= max(20, 0.2 * len(loss)) else None


def _steady_slope(view: View) -> Found | None:
    """The gradient hardly changes over many memories, so that the curvature is almost 0."""
    counts, loss, g, cos = view.select("loss", "gradient_norm", "cos")
    change = np.abs(log_slopes(counts, g))
    span = densest_span((change < 0.02 / view.memory) & (cos[1:] > 0.99) & (g[1:] > 0), 0.9)
    if span is None or span.total < max(30, 3 * view.memory / spacing(counts)):
        return None
    span = Span(span.start, span.stop + 1, span.hits)
    if np.max(g[span.rows]) > np.exp(0.2) * np.min(g[span.rows]):
        return None
    return _on_plateau(counts, span, loss, np.median(g[span.rows]), np.median(cos[span.rows]))


def _cross_sooner(view: View, found: Found) -> str:
    remedy = change_beta(view, with_memory(3 * view.memory))
    # A curvature near 0 would allow any learning rate, and says nothing of what comes after.
    factor = min(beside_edge(view, found.first, found.last) or 3.0, 10.0)
    if factor > 1:
        faster = within_sentence(scale_learning_rate(view, factor))
        remedy += f", or {faster} while the plateau lasts"
    return f"{remedy}: the parameters cross it at a speed of α/(1 − β) times the gradient."


# A change of the data.


_WINDOW = 10  # Readings before a change of the data, to compare with.


def _stale_velocity(view: View) -> Found | None:
    what = "loss" if view.has("loss") else "gradient_norm"
    if not view.has(what):
        return None
    counts, angle, size = view.select("angle", what)
    for i in _jumps(size, 1.3 if what == "loss" else 1.8):
        before, after = np.median(angle[i - _WINDOW : i]), angle[i:]
        # One reading in four may be noise.
        turned = np.median(sliding_window_view(after, 4), axis=1) <= 90
        length = 3 + int(np.argmax(turned)) if turned.any() else len(after)
        after = after[:length]
        if length < 4 or before > 80 or np.max(after) < 95:
            continue
        numbers = {
            "what": "loss" if what == "loss" else "norm of the gradient",
            "low": size[i - 1],
            "high": np.max(size[i : i + length]),
            "before": before,
            "after": np.max(after),
            "hits": int(np.sum(after > 90)),
            "total": length,
        }
        return Found(counts[i], counts[i + length - 1], numbers)
    return None


def _jumps(size: Reals, rise: float) -> NDArray[np.intp]:
    """Return the rows at which a reading rises at once and stays there.

    The rise is twice as large as each of the last ten changes, so that neither noise nor an
    oscillation makes one.
    """
    if len(size) < _WINDOW + 5:
        return np.array([], np.intp)
    change = np.diff(size, prepend=size[0])
    usual = sliding_window_view(np.abs(change), _WINDOW).max(axis=1)[:-5]
    after = np.median(sliding_window_view(size, 5), axis=1)[_WINDOW:]
    before, now = size[_WINDOW - 1 : -5], size[_WINDOW:-4]
    holds = (change[_WINDOW:-4] > 2 * usual) & (np.minimum(now, after) > shifted(before, rise - 1))
    return np.flatnonzero(holds) + _WINDOW


def _forget(view: View, found: Found) -> str:
    remedy = (
        f"Call momentax.reset_velocity(state) when the data change, here before step "
        f"{found.first:.0f}, or wrap tx in momentax.restart(tx)."
    )
    β = with_memory(view.memory / 4)
    if view.beta is not None and view.beta <= β:
        return remedy
    return f"{remedy} If the data change often, {within_sentence(change_beta(view, β))}."


# A memory that is too short.


def _beta_too_small(view: View) -> Found | None:
    counts, angle, snr, g = view.select("angle", "gradient_snr", "gradient_norm")
    steady = (angle < 15) & (snr > 10) & (g > 0)
    span = densest_span(steady, 0.9)
    if span is None or view.beta is None or span.hits < 20:
        return None
    first, last = counts[span.start], counts[span.stop - 1]
    if last - first < 20 * view.memory:
        return None
    slopes = log_slopes(counts[span.rows], g[span.rows])
    rate = min(1.0, float(np.exp(np.median(slopes))))
    better = _best_for(rate, view.beta)
    if rate ** (10 * view.memory) < 0.5 or 1 - better > (1 - view.beta) / 2:
        return None
    half_life = np.log(0.5) / np.log(rate) if rate < 1 else np.inf
    pace = "did not shrink" if half_life > 1e6 else f"took {half_life:.3g} steps to halve"
    numbers = {"hits": span.hits, "total": span.total, "pace": pace}
    numbers |= {"memory": in_steps(view.memory), "better": better}
    return Found(first, last, numbers)


def _best_for(rate: float, beta: float) -> float:
    """Return the β that damps a slow direction critically, (1 - √(α λ))², at most 0.99.

    Along it an error shrinks by 1 - α λ / (1 - β) per step.
    """
    αλ = (1 - rate) * (1 - beta)
    return min(0.99, (1 - np.sqrt(min(αλ, 1.0))) ** 2)


def _lengthen_memory(view: View, found: Found) -> str:
    return (
        f"{change_beta(view, round(found.numbers['better'], 3))}, at which such a slow direction "
        "is damped critically, (1 − √(α λ))²."
    )


_PLATEAU_UNLESS = ("dead_leaf", "exploding_velocity", "update_ratio_too_small")

RULES = (
    Rule(
        "stale_velocity",
        "warning",
        "model",
        ("angle",),
        _stale_velocity,
        "At step {first} the {what} rose from {low:.3g} to {high:.3g} and the angle between "
        "velocity and gradient from {before:.0f}° to {after:.0f}°. It exceeded 90° in {hits} of "
        "{total} readings: the velocity still pointed where the earlier data led.",
        _forget,
    ),
    Rule(
        "plateau",
        "warning",
        "model",
        ("loss", "gradient_norm", "cos"),
        _plateau,
        "The loss stayed between {before:.3g} and {after:.3g} from step {first} to {last}, with "
        "gradients of norm {gradient:.2g} that point along the velocity (median cosine {cos:.2f}).",
        _cross_sooner,
        unless=_PLATEAU_UNLESS,
    ),
    Rule(
        "plateau",
        "warning",
        "model",
        ("loss", "gradient_norm", "cos"),
        _steady_slope,
        "The gradient kept its norm of {gradient:.2g} and its direction from step {first} to "
        "{last}, while the loss went from {before:.3g} to {after:.3g}: the slope is constant.",
        _cross_sooner,
        unless=_PLATEAU_UNLESS,
    ),
    Rule(
        "beta_too_large",
        "warning",
        "model",
        ("loss", "cos", "angle", "update_norm"),
        _beta_too_large,
        "The loss no longer fell between steps {first} and {last} (median {level:.3g}), and the "
        "velocity, mostly averaged noise, pointed uphill in {hits} of the {total} readings.",
        _shorten_memory,
        unless=("exploding_velocity", "nonfinite_gradients"),
    ),
    Rule(
        "residual_velocity",
        "note",
        "model",
        ("loss", "cos", "angle", "update_norm"),
        _residual_velocity,
        "The loss no longer fell between steps {first} and {last} (median {level:.3g}), but the "
        "updates kept a norm of {update:.2g} (median angle between velocity and gradient "
        "{angle:.0f}°): noise moves the parameters about their minimum.",
        _decay,
        unless=("exploding_velocity", "nonfinite_gradients"),
    ),
    Rule(
        "residual_velocity",
        "note",
        "model",
        ("gain", "gradient_norm"),
        _coasting,
        "The velocity was {gain:.3g} times as long as the gradient in {hits} of the {total} "
        "readings between steps {first} and {last}, and steady gradients make it at most "
        "{memory:.3g} times as long: it is left over from larger gradients.",
        _let_it_die_out,
        unless=("exploding_velocity", "nonfinite_gradients", "stale_velocity"),
    ),
    Rule(
        "beta_too_small",
        "note",
        "model",
        ("angle", "gradient_snr", "gradient_norm"),
        _beta_too_small,
        "The gradient kept its direction in {hits} of the {total} readings between steps {first} "
        "and {last} and {pace}, while the memory 1/(1 − β) is {memory}.",
        _lengthen_memory,
        unless=("plateau", "oscillation"),
    ),
)
