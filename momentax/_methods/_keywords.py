"""What to write in place of a keyword that a method does not take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from momentax._core import keywords

_OF_SGD = {"learning_rate", "lr", "weight_decay", "decoupled", "mask", "maximize", "velocity_units"}


def _suggest(method: Callable[..., Any], keyword: str, given: Mapping[str, Any]) -> str | None:
    if keyword == "nesterov":
        return "write momentax.nesterov(0.9)"
    if remedy := keywords.suggest_synonym(method, keyword, given):
        return remedy
    if keyword in _OF_SGD:
        option = "" if keyword in ("learning_rate", "lr") else f", {keyword}=..."
        name = f"momentax.{method.__name__}"
        return f"sgd takes it: write momentax.sgd(0.1, {name}(...){option})"
    return None


explain_keywords = keywords.explain_keywords(_suggest)
