"""What a rule of `explain` is: data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from momentax._core.typing import Reals
from momentax.diagnostics._views import Span, View

SEVERITIES = ("problem", "warning", "note")  # The most severe first.


class Found(NamedTuple):
    """Where a condition holds, and the numbers of its evidence.

    first: the count of the first update concerned.
    last: the count of the last one.
    numbers: the values that the template of the evidence names.
    severity: how severe it is; None stands for the severity of the rule.
    """

    first: Any
    last: Any
    numbers: dict[str, Any]
    severity: str | None = None


def found_in(counts: Reals, span: Span, **numbers: Any) -> Found:
    """Return where a condition holds in a span, with its hits among the numbers."""
    first, last = float(counts[span.start]), float(counts[span.stop - 1])
    return Found(first, last, numbers | {"hits": span.hits, "total": span.total})


class Rule(NamedTuple):
    """One thing that can be wrong with a run.

    name: what it is called; records of one name are several signs of one thing.
    severity: "problem", "warning" or "note".
    of: "model", or "leaf" for each leaf or label separately, where these were measured.
    needs: the readings without which it is not applied.
    condition: a function of a view to where it holds.
    evidence: a template of a sentence; the Found fills it in.
    remedy: a function of the view and of the Found to sentences.
    least: the number of readings below which it is not applied.
    unless: the rules whose findings, at the same time, make this one redundant.
    """

    name: str
    severity: str
    of: str
    needs: tuple[str, ...]
    condition: Callable[[View], Found | None]
    evidence: str
    remedy: Callable[[View, Found], str]
    least: int = 10
    unless: tuple[str, ...] = ()
