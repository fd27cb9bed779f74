"""Findings: what the readings of a monitor say about a run, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import describe, require_transformation
from momentax.diagnostics._rule import SEVERITIES, Found, Rule
from momentax.diagnostics._rules import RULES
from momentax.diagnostics._settings import Settings, settings_of
from momentax.diagnostics._views import View, age_to_beta, split_by_part


class Finding(NamedTuple):
    """One thing that is wrong with a run, or could be better.

    rule: the name of the rule, such as "oscillation"; `explain` lists them.
    severity: "problem", "warning" or "note".
    evidence: what was read, with steps and numbers.
    remedy: what to do, with numbers.
    steps: the counts of the first and of the last update concerned.
    """

    rule: str
    severity: str
    evidence: str
    remedy: str
    steps: tuple[int, int]

    def __str__(self) -> str:
        return "\n".join(
            [self._title(), f"    Evidence: {self.evidence}", f"    Remedy: {self.remedy}"]
        )

    def _title(self) -> str:
        first, last = self.steps
        steps = f"step {first}" if first == last else f"steps {first} to {last}"
        return f"{self.severity.upper()}: {self.rule.replace('_', ' ')}, {steps}"


class Findings(list[Finding]):
    """A list of findings that prints as sentences, and in a notebook as a table."""

    def __str__(self) -> str:
        if not self:
            return "No findings: none of the rules holds for these readings."
        return "\n\n".join(map(str, self))

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escape(str(self))}</p>"
        head = "".join(f"<th>{name}</th>" for name in ("finding", "evidence", "remedy"))
        rows = [
            f"<tr><td><b>{escape(each.severity)}</b><br>{escape(each.rule.replace('_', ' '))}<br>"
            f"steps {each.steps[0]} to {each.steps[1]}</td>"
            f'<td style="text-align: left">{escape(each.evidence)}</td>'
            f'<td style="text-align: left">{escape(each.remedy)}</td></tr>'
            for each in self
        ]
        return "\n".join(["<table>", f"<tr>{head}</tr>", *rows, "</table>"])


def explain(measurements: Any, tx: optax.GradientTransformation | None = None) -> list[Finding]:
    """Say what the readings of a run mean, as sentences with evidence and remedy."""
    if tx is not None:
        require_transformation("tx", tx, " or None")
    if not hasattr(measurements, "history"):
        raise TypeError(
            "measurements must be what momentax.measurements(state) returns, got "
            f"{describe(measurements)}"
        )
    counts, history = _rows_of(measurements)
    views = _views(counts, history, settings_of(tx, measurements.count))
    found = [each for rule in RULES for each in _apply(rule, views)]
    findings = _merge(_without_redundant(found))
    if len(counts) < _FEW:
        findings.append(_too_few(len(counts), measurements.count))
    order = {severity: i for i, severity in enumerate(SEVERITIES)}
    return Findings(sorted(findings, key=lambda each: (order[each.severity], each.steps[0])))


_FEW = 10


def _rows_of(measurements: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the counts and the history; without one, the latest readings are its only row."""
    if len(measurements.counts):
        history = {k: np.asarray(v, np.float64) for k, v in measurements.history.items()}
        return np.asarray(measurements.counts, np.float64), history
    latest = {key: np.array([value], np.float64) for key, value in measurements.items()}
    return np.full(1 if latest else 0, measurements.count, np.float64), latest


def _too_few(readings: int, count: int) -> Finding:
    return Finding(
        "too_few_readings",
        "note",
        f"The history holds {readings} readings; most rules need {_FEW} or more.",
        "Let the monitor keep a history, momentax.monitor(tx, history=1000), and run longer.",
        (int(count), int(count)),
    )


def _views(
    counts: np.ndarray, history: dict[str, np.ndarray], settings: dict[str, Settings]
) -> list[View]:
    """Return the view of the model, and then those of its parts."""
    views = []
    for name, series in split_by_part(history).items():
        α, β = settings.get(name) or settings.get("") or Settings(None, None)
        if β is None and "age" in series:
            β = age_to_beta(series["age"])
        views.append(View(name, counts, series, α, β))
    return views


class _Hit(NamedTuple):
    """A rule and a view for which its condition holds."""

    rule: Rule
    view: View
    found: Found

    @property
    def severity(self) -> str:
        return self.found.severity or self.rule.severity

    @property
    def evidence(self) -> str:
        steps = {"first": f"{self.found.first:.0f}", "last": f"{self.found.last:.0f}"}
        sentence = self.rule.evidence.format(**self.found.numbers, **steps)
        return f"{self.view.name}: {sentence}" if self.view.name else sentence


def _apply(rule: Rule, views: list[View]) -> list[_Hit]:
    """Return where a rule holds. A rule whose readings are missing is not applied."""
    model, parts = views[0], views[1:]
    of = parts if rule.of == "leaf" and parts else [model]
    hits = []
    for view in of:
        if len(view.counts) < rule.least or not view.has(*rule.needs):
            continue
        with np.errstate(all="ignore"):
            found = rule.condition(view, model)
        if found is not None:
            hits.append(_Hit(rule, view, found))
    return hits


def _without_redundant(hits: list[_Hit]) -> list[_Hit]:
    """Leave out what another finding explains that overlaps it in time."""

    def is_explained(hit: _Hit) -> bool:
        return any(
            other.rule.name in hit.rule.unless
            and other.found.first <= hit.found.last
            and hit.found.first <= other.found.last
            for other in hits
        )

    return [hit for hit in hits if not is_explained(hit)]


def _merge(hits: Iterable[_Hit]) -> list[Finding]:
    """Make one finding of all signs of one thing, and of all leaves that show it."""
    groups: dict[str, list[_Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.rule.name, []).append(hit)
    return [_finding(name, group) for name, group in groups.items()]


def _finding(name: str, hits: list[_Hit]) -> Finding:
    first = hits[0]
    signs = [hit for hit in hits if hit.view is first.view]
    evidence = " ".join(hit.evidence for hit in signs)
    others = sorted({hit.view.name for hit in hits} - {first.view.name})
    if others:
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        evidence += f" The same holds for {listed}."
    return Finding(
        name,
        min((hit.severity for hit in hits), key=SEVERITIES.index),
        evidence,
        first.rule.remedy(first.view, first.found),
        (
            int(min(hit.found.first for hit in hits)),
            int(max(hit.found.last for hit in hits)),
        ),
    )
