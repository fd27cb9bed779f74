"""Rules on the length of gradients and updates: clipping, and the ratio to the parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from momentax.diagnostics._remedies import number, scale_learning_rate, within_sentence
from momentax.diagnostics._rule import Found, Rule, found_in
from momentax.diagnostics._views import Span, View, densest_span, significant_hits

# The length of updates.

_LARGE, _SMALL = 0.1, 1e-5


def _update_ratio_too_large(view: View) -> Found | None:
    counts, ratio, size = view.select("update_ratio", "parameter_norm")
    if not len(counts):
        return None
    # Parameters that tend to 0, or that start there, make the ratio large without harm.
    settled = (size >= 0.25 * size.max()) & (size >= 0.5 * size[0])
    span = densest_span((ratio > _LARGE) & settled, 0.6)
    if span is None or span.hits < max(20, significant_hits(len(ratio))):
        span = densest_span(ratio > _LARGE, 0.6)
        if span is None or span.hits < 5 or size[span.stop - 1] < 2 * size[span.start]:
            return None
        if not _loss_rises(view, counts[span.start], counts[span.stop - 1]):
            return None
    return found_in(counts, span, median=np.median(ratio[span.rows]), limit=_LARGE)


def _loss_rises(view: View, first: float, last: float) -> bool:
    if not view.has("loss"):
        return False
    counts, loss = view.select("loss")
    loss = loss[(counts >= first) & (counts <= last)]
    return bool(len(loss) and np.max(loss) > loss[0] + 0.3 * abs(loss[0]))


def _update_ratio_too_small(view: View) -> Found | None:
    counts, ratio, g = view.select("update_ratio", "gradient_norm")
    holds = ratio < _SMALL
    if len(ratio) < 20 or np.mean(holds) < 0.9 or np.median(g) == 0:
        return None
    if view.has("loss"):
        _, loss = view.select("loss")
        part = max(1, len(loss) // 10)
        if np.median(loss[-part:]) < 0.95 * np.median(loss[:part]):
            return None
    elif counts[0] > 0:  # A run that has converged makes small updates too.
        return None
    span = Span(0, len(ratio), int(np.sum(holds)))
    return found_in(counts, span, median=np.median(ratio), limit=_SMALL)


def _to_ratio(target: float) -> Callable[[View, Found], str]:
    def remedy(view: View, found: Found) -> str:
        if (median := found.numbers["median"]) < 1e-6 * target:
            return (
                "Find out why the updates are almost 0: the learning rate or its schedule may be "
                "0, a mask may leave out all parameters, or a guard may skip each step."
            )
        factor = target / median
        return (
            f"{scale_learning_rate(view, factor)}, at which an update has about {target:g} of the "
            "norm of the parameters."
        )

    return remedy


# Clipping.


def _always_clipped(view: View) -> Found | None:
    counts, clipped, g = view.select("clipped_gradient_norm", "gradient_norm")
    holds = (clipped > 0) & (clipped < 0.99 * g)
    if len(g) < 20 or np.mean(holds) < 0.9:
        return None
    numbers = {
        "hits": int(np.sum(holds)),
        "total": len(g),
        "before": np.median(g[holds]),
        "after": np.median(clipped[holds]),
        "high": np.quantile(g, 0.95),
    }
    return Found(counts[0], counts[-1], numbers)


def _clip_rarely(view: View, found: Found) -> str:
    n = found.numbers
    slower = within_sentence(scale_learning_rate(view, n["after"] / n["before"]))
    return (
        f"Raise the limit from {number(n['after'])} to {number(n['high'])}, the 95th percentile of "
        f"the norms, and {slower} so that the steps keep their length. Now the length of the "
        "gradient has no influence on the step."
    )


RULES = (
    Rule(
        "update_ratio_too_large",
        "warning",
        "model",
        ("update_ratio", "parameter_norm"),
        _update_ratio_too_large,
        "The norm of the updates exceeded {limit:g} of that of the parameters in {hits} of the "
        "{total} readings between steps {first} and {last} (median {median:.2g}).",
        _to_ratio(0.01),
        unless=("exploding_velocity",),
    ),
    Rule(
        "update_ratio_too_small",
        "warning",
        "model",
        ("update_ratio", "gradient_norm"),
        _update_ratio_too_small,
        "The norm of the updates was below {limit:g} of that of the parameters in {hits} of the "
        "{total} readings between steps {first} and {last} (median {median:.2g}), and the loss did "
        "not fall.",
        _to_ratio(0.003),
        unless=("dead_leaf",),
    ),
    Rule(
        "clipping_always_active",
        "warning",
        "model",
        ("clipped_gradient_norm", "gradient_norm"),
        _always_clipped,
        "The gradient was clipped in {hits} of the {total} readings between steps {first} and "
        "{last}, from a norm of {before:.3g} to {after:.3g} (medians).",
        _clip_rarely,
    ),
)
