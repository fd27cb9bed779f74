"""Findings: what the readings of a monitor say about a run, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import numpy as np
import optax

from momentax._core.arguments import describe, require_transformation
from momentax.diagnostics._measurements import Measurements, holds_monitor
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
        return f"{self.severity.upper()}: {self._name()}, {self._steps()}"

    def _name(self) -> str:
        return self.rule.replace("_", " ")

    def _steps(self) -> str:
        first, last = self.steps
        return f"step {first}" if first == last else f"steps {first} to {last}"

    def _row(self) -> str:
        text = 'style="text-align: left"'
        return (
            f"<tr><td><b>{escape(self.severity)}</b><br>{escape(self._name())}<br>{self._steps()}"
            "</td>"
            f"<td {text}>{escape(self.evidence)}</td><td {text}>{escape(self.remedy)}</td></tr>"
        )


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
        return "\n".join(
            ["<table>", f"<tr>{head}</tr>", *(each._row() for each in self), "</table>"]
        )


def explain(
    measurements: Measurements, tx: optax.GradientTransformation | None = None
) -> list[Finding]:
    """Say what the readings of a run mean: what is wrong, the evidence, and a remedy.

    The rules are below, with the thresholds and the reason for each. A rule is applied only where
    its readings are known, and where there are enough of them. It looks for the stretch of
    readings in which its condition holds most often, and tells its steps and numbers. With a
    monitor of leaves or labels the rules marked by * look at each of these.

    nonfinite_gradients*     An entry of a gradient, or the velocity, is infinite or NaN; one is
                             enough, since a velocity keeps a NaN for ever. A warning if the
                             velocity is finite in the end, as behind `guard`.
    exploding_velocity       The velocity grows 100 times and the loss doubles above all earlier
                             ones. Unknown loss: an update exceeds 0.3 of the parameters, or an
                             entry is within 25 powers of ten of overflow. Growth to full speed
                             is at most 1/(1 − β), and the loss falls meanwhile.
    edge_of_stability        The curvature along the steps is at least 0.8 of the stability edge in
                             60% of a stretch; the curvature of a minibatch is noisy by about 0.2.
    oscillation              The angle exceeds 120° in 20% of a stretch (in one direction an
                             underdamped velocity opposes the gradient for up to half of the time),
                             or 100° in 30%, and stays there for 2.5 readings on average, longer
                             than noise does. Or gradient_snr < -1/3 (a cosine of successive
                             gradients below -1/2), or alpha within 0.8 to 2, in 60%. Not if the
                             gradient halves within ten steps or with each swing.
    update_ratio_too_large   update_ratio > 0.1 in 60% of a stretch of 20 readings, or of 5 in which
                             the norm of the parameters doubles and the loss rises by 30%. Usual
                             are 10⁻⁴ to 10⁻², and more in the first steps.
    update_ratio_too_small   update_ratio < 10⁻⁵ in 90% of all readings, without a gradient of 0,
                             and the loss fell by less than 5%.
    stale_velocity           The loss (without it the gradient) rises at once by 30% (80%), by
                             twice each of the ten changes before, and the angle leaves its usual
                             values below 80° for four or more readings with a median above 90°.
    plateau                  The loss stays within 2% for a fifth of all readings, while the
                             gradient does not die out as at a minimum and has a cosine of 0.9 with
                             the velocity, or is small and the loss falls later. Or gradient and
                             direction stay the same for three memories 1/(1 − β).
    beta_too_large           The loss no longer falls, 1/(1 − β) is 20 steps or more, and the angle
                             exceeds 90° in 15% of the readings. At β = 0.9 noise does this in
                             few; then a decaying learning rate is the remedy.
    residual_velocity        The loss has fallen and no longer does, while the updates keep half
                             of their norm and the gradients have no lasting direction. Or the
                             velocity is twice as long as steady gradients could make it.
    beta_too_small           Angles below 15° and gradient_snr above 10 for 20 memories 1/(1 − β),
                             in which the gradient falls by less than half in ten, so that another β
                             at least halves 1 − β.
    sparse_leaf*             A gradient of 0 in half of the readings. Or a cosine below 0.7 although
                             at most 0.15 times as many entries oppose as would if all had a
                             gradient: for Gaussian entries that is arccos(cos)/π.
    dead_leaf*               A gradient of exactly 0 in the last 20 readings or more, which it did
                             not approach gradually.
    dominant_leaf*           One leaf has 90% of the squared gradient norm, in 90% of the readings.
    clipping_always_active   The gradient arrives shorter at the method in 90% of the readings.
    too_few_readings         The history has fewer than 10 rows. Without a history the latest
                             readings are its only row.

    Args:
        measurements: What `momentax.measurements` reads from the state of a monitor with a history.
        tx: The transformation of the run, whose learning rate and β the remedies then state. None
            takes β from the age of the velocity, and remedies scale the learning rate.

    Returns:
        A list of Finding(rule, severity, evidence, remedy, steps), the most severe first, and then
        by the first step. It is empty if nothing is found. It prints as sentences, and shows as a
        table in a notebook.

    Raises:
        TypeError: measurements is not a Measurements, or tx is not a gradient transformation.

    Example:
        >>> tx = momentax.sgd(0.6, momentax.heavy_ball(0.5))
        >>> monitored = momentax.monitor(tx, history=100, curvature=True)
        >>> run = momentax.rollout(lambda p: 3 * jnp.sum(p["w"] ** 2), params, monitored, 40)
        >>> print(momentax.explain(momentax.measurements(run.state), tx)[0].remedy)
        Lower the learning rate from 0.6 to 0.25...
    """
    if tx is not None:
        require_transformation("tx", tx, " or None")
    _require_measurements(measurements)
    counts, history = _rows_of(measurements)
    views = _views(counts, history, settings_of(tx, measurements.count))
    found = [each for rule in RULES for each in _apply(rule, views)]
    findings = _merge(_without_redundant(found))
    if len(counts) < _FEW:
        findings.append(_too_few(len(counts), measurements.count))
    order = {severity: i for i, severity in enumerate(SEVERITIES)}
    return Findings(sorted(findings, key=lambda each: (order[each.severity], each.steps[0])))


_FEW = 10


def _require_measurements(value: Any) -> None:
    if isinstance(value, Measurements):
        return
    given = describe(value)
    if holds_monitor(value):
        given = (
            f"an object of type {type(value).__name__} that holds the state of a monitor; write "
            "momentax.explain(momentax.measurements(state))"
        )
    raise TypeError(f"measurements must be what momentax.measurements(state) returns, got {given}")


def _rows_of(measurements: Measurements) -> tuple[np.ndarray, dict[str, np.ndarray]]:
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
        f"The number of readings is {readings}; most rules need {_FEW} or more.",
        "Let the monitor keep a history, momentax.monitor(tx, history=1000), and run longer.",
        (max(count, 0), max(count, 0)),
    )


def _views(
    counts: np.ndarray, history: dict[str, np.ndarray], settings: dict[str, Settings]
) -> list[View]:
    """Return the view of the model, and then those of its parts."""
    views: list[View] = []
    for name, series in split_by_part(history).items():
        α, β = settings.get(name) or settings.get("") or Settings(None, None)
        if β is None and "age" in series:
            β = age_to_beta(series["age"])
        views.append(View(name, counts, series, α, β, views[0] if views else None))
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
    model, *parts = views
    of = parts if rule.of == "leaf" and parts else [model]
    hits = []
    for view in of:
        if len(view.counts) < rule.least or not view.has(*rule.needs):
            continue
        with np.errstate(all="ignore"):
            found = rule.condition(view)
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
