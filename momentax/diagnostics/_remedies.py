"""Sentences about hyperparameters, with their numbers where these are known."""

from __future__ import annotations

import numpy as np

from momentax.diagnostics._views import View


def number(value: float) -> str:
    """Format a number with three digits, or so that 1 - β has two, as of β = 0.9995."""
    if 0.99 < value < 1:
        decimals = int(np.ceil(-np.log10(1 - value))) + 1
        return f"{value:.{decimals}f}".rstrip("0")
    return f"{value:.3g}"


def in_steps(value: float) -> str:
    """Return a number of steps with its noun."""
    text = number(value)
    return f"{text} step" if text == "1" else f"{text} steps"


def within_sentence(text: str) -> str:
    """Return a sentence as it is written after "or" or a colon."""
    return text[0].lower() + text[1:]


def scale_learning_rate(view: View, factor: float) -> str:
    """Say by how much to change the learning rate, as the beginning of a sentence."""
    verb = "Lower" if factor < 1 else "Raise"
    if view.learning_rate:
        old, new = number(view.learning_rate), number(_round(view.learning_rate * factor))
        return f"{verb} the learning rate from {old} to {new}"
    return f"Multiply the learning rate by {number(_round(factor))}"


def change_beta(view: View, new: float) -> str:
    """Say to what to change β, as the beginning of a sentence."""
    memory = f"a memory 1/(1 − β) of {in_steps(1 / (1 - new))}"
    if view.beta is None:
        return f"Choose β = {number(new)}, {memory}"
    verb = "Lower" if new < view.beta else "Raise"
    return f"{verb} β from {number(view.beta)} to {number(new)}, {memory}"


def with_memory(steps: float) -> float:
    """Return the β whose velocity remembers a number of steps, with two digits of 1 - β."""
    return 1 - _round(1 / max(steps, 1.0))


def _round(value: float) -> float:
    """Round to two digits, since a remedy is not more precise."""
    return float(f"{value:.2g}") if np.isfinite(value) else value


def beside_edge(view: View, first: float, last: float) -> float | None:
    """Return half the ratio of stability edge to curvature, by which to scale a learning rate."""
    if not view.has("curvature", "edge"):
        return None
    counts, curvature, edge = view.select("curvature", "edge")
    used = (curvature > 0) & np.isfinite(edge) & (counts >= first) & (counts <= last)
    return float(np.median(edge[used] / curvature[used])) / 2 if used.any() else None
