"""Rules on single leaves: sparse, dead or dominating ones."""

from __future__ import annotations

import numpy as np

from momentax.diagnostics._remedies import number, scale_learning_rate, within_sentence
from momentax.diagnostics._rule import Found, Rule
from momentax.diagnostics._views import View

# Sparse and dead leaves.


def _rarely_hit(view: View) -> Found | None:
    counts, g, v = view.select("gradient_norm", "velocity_norm")
    idle = (g == 0) & (v > 0)
    if len(g) < 20 or np.mean(idle) < 0.5 or not np.any(g[len(g) // 2 :] > 0):
        return None
    return Found(counts[0], counts[-1], {"hits": int(np.sum(idle)), "total": len(g)})


def _few_entries_hit(view: View) -> Found | None:
    """Few entries have a gradient: few oppose the velocity, although the cosine is low.

    Where both were Gaussian in all entries, a share of arccos(cos) / π would oppose.
    """
    counts, cos, opposing, g = view.select("cos", "opposing_share", "gradient_norm")
    low = (cos < 0.7) & (g > 0)
    if np.sum(low) < 20 or np.mean(low) < 0.6:
        return None
    active = np.median(opposing[low] / (np.arccos(cos[low]) / np.pi))
    if active > 0.15:
        return None
    rows = np.flatnonzero(low)
    return Found(
        counts[rows[0]],
        counts[rows[-1]],
        {
            "hits": len(rows),
            "total": len(cos),
            "cos": np.median(cos[low]),
            "opposing": np.median(opposing[low]),
            "active": active,
        },
    )


def _wait_for_gradients(view: View, _: Found) -> str:
    coast = number(view.memory - 1)
    return (
        "If it is an embedding, give it momentax.lazy(...) by optax.partition. Then a row waits "
        f"for its next gradient; now it moves on by {coast} times its last step without one. If it "
        "is another layer, most of its units are dead: lower the learning rate, or use an "
        "activation without zero slope (leaky ReLU, GELU)."
    )


def _dead_leaf(view: View) -> Found | None:
    counts, g = view.select("gradient_norm")
    nonzero = np.flatnonzero(g != 0)
    start = int(nonzero[-1]) + 1 if len(nonzero) else 0
    if len(g) - start < 20:
        return None
    if start and g[start - 1] < 1e-3 * np.max(g):  # It has converged, and rounds to 0.
        return None
    return Found(counts[start], counts[-1], {"total": len(g) - start})


def _revive(view: View, _: Found) -> str:
    return (
        "If its units are dead, go back to a step before, initialize it again, and "
        f"{within_sentence(scale_learning_rate(view, 0.3))} or use an activation without zero "
        "slope (leaky ReLU, GELU). If the loss does not depend on it, do not train it."
    )


# One leaf among others.


def _dominant_leaf(view: View) -> Found | None:
    if view.model is None or not view.model.has("gradient_norm"):
        return None
    counts, g = view.select("gradient_norm")
    model_counts, total = view.model.select("gradient_norm")
    common, i, j = np.intersect1d(counts, model_counts, return_indices=True)
    g, total = g[i], total[j]
    share = np.square(np.divide(g, total, out=np.zeros_like(g), where=total > 0))
    holds = share > _DOMINANT
    if len(share) < 20 or np.mean(holds) < 0.9:
        return None
    # Rounding may make the share of the only leaf exceed 1.
    numbers = {"share": min(1.0, np.median(share[holds]))}
    numbers |= {"hits": int(np.sum(holds)), "total": len(share)}
    return Found(common[0], common[-1], numbers)


_DOMINANT = 0.9


def _own_learning_rate(_: View, found: Found) -> str:
    share = found.numbers["share"]
    ratio = np.sqrt((1 - share) / share)
    return (
        "Normalize its inputs if they are not, or clip and scale it separately by "
        "optax.partition. A limit on the norm of the whole gradient also shortens the other "
        f"leaves, whose gradients together have only {ratio:.2g} of its norm."
    )


RULES = (
    Rule(
        "sparse_leaf",
        "note",
        "leaf",
        ("gradient_norm", "velocity_norm"),
        _rarely_hit,
        "The gradient was 0 in {hits} of the {total} readings between steps {first} and {last}, "
        "and the velocity went on without it.",
        _wait_for_gradients,
    ),
    Rule(
        "sparse_leaf",
        "note",
        "leaf",
        ("cos", "opposing_share", "gradient_norm"),
        _few_entries_hit,
        "Velocity and gradient have a cosine of {cos:.2f} (median between steps {first} and "
        "{last}) although only {opposing:.2g} of the entries oppose: about {active:.1%} of the "
        "entries have a gradient at a step, and the velocity of the others only decays.",
        _wait_for_gradients,
    ),
    Rule(
        "dead_leaf",
        "warning",
        "leaf",
        ("gradient_norm",),
        _dead_leaf,
        "The gradient was exactly 0 in all {total} readings from step {first} to {last}.",
        _revive,
    ),
    Rule(
        "dominant_leaf",
        "note",
        "leaf",
        ("gradient_norm",),
        _dominant_leaf,
        "It has {share:.1%} of the squared norm of the whole gradient (median), and more than 90% "
        "in {hits} of the {total} readings between steps {first} and {last}.",
        _own_learning_rate,
        unless=("dead_leaf",),
    ),
)
