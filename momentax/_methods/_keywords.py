"""What to write in place of a keyword that a method does not take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from momentax._core import keywords

_OF_SGD = {"learning_rate", "lr", "weight_decay", "decoupled", "mask", "maximize", "velocity_units"}

# The directions of these methods are whole steps, so that the learning rate of sgd is 1.
_WHOLE_STEPS = {"hypergradient", "momentum_polyak", "storm", "yellowfin"}


def _suggest(method: Callable[..., Any], keyword: str, given: Mapping[str, Any]) -> str | None:
    if keyword == "nesterov":
        return "write momentax.nesterov(0.9)"
    if remedy := keywords.suggest_synonym(method, keyword, given):
        return remedy
    if keyword in _OF_SGD:
        is_rate = keyword in ("learning_rate", "lr")
        option = "" if is_rate else f", {keyword}=..."
        rate = keywords.source_of(given[keyword], "learning_rate") if is_rate else "0.1"
        call = f"momentax.{method.__name__}(...)"
        if method.__name__ in _WHOLE_STEPS:
            reason = "the method computes the whole step" if is_rate else "sgd takes it"
            return f"{reason}: write momentax.sgd(1.0, {call}{option})"
        return f"sgd takes it: write momentax.sgd({rate}, {call}{option})"
    return None


explain_keywords = keywords.explain_keywords(_suggest)
