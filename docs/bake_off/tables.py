"""The tables of the page, as Markdown. Each function returns "" where nothing was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from docs.bake_off.record import CONTROL, TRIALS, Record
from docs.bake_off.words import escape, markdown, median, number, setting
from momentax.bench import target
from momentax.bench._held_out import BASES
from tests.benchmarks.made_worse import ORIGINALS

_VERDICTS = {"better": "better", "worse": "worse", "not distinguishable": "undecided"}


def tasks(record: Record) -> str:
    """Return the speed-up and the verdict of each method on each task."""
    return _with_note(record.results.table(CONTROL))


def overall(record: Record) -> str:
    """Return the means over all tasks."""
    return _with_note(record.overall.table())


def pairs(record: Record) -> str:
    """Return the ratios of all pairs of methods."""
    return _with_note(record.pairs.table()) if len(record.results.methods) > 1 else ""


def constant(record: Record) -> str:
    """Return the speed-ups at constant learning rates."""
    return "" if record.constant is None else _with_note(record.constant.table())


def decay(record: Record) -> str:
    """Return the speed-ups with weight decay."""
    return "" if record.decay is None else _with_note(record.decay.table())


def _with_note(table: Any) -> str:
    return "\n\n".join([markdown(table.rows), *([escape(table.note)] if table.note else [])])


def comparisons(record: Record) -> str:
    """Return each comparison with Nesterov's momentum: the ratio of losses with its interval."""
    names = [
        task for task in record.results.tasks if any(task in r for r in record.verdicts.values())
    ]
    rows = [["method", *names]]
    for method, row in record.verdicts.items():
        rows.append([method, *(_comparison(row.get(task)) for task in names)])
    return markdown(rows)


def _comparison(found: Any) -> str:
    if found is None:
        return ""
    ratios = [10.0**each for each in (found.difference, found.low, found.high)]
    middle, low, high = (f"{ratio:.3g}" for ratio in ratios)
    return f"{middle} ({low} to {high}) {_VERDICTS[found.verdict]}"


def trials(record: Record) -> str:
    """Return what each method is expected to reach after few trials."""
    if not record.common_tasks:
        return ""
    means, defaults = record.expected_overall
    counts = [k for k in TRIALS if k in record.counts]
    columns = [list(record.counts).index(k) for k in counts]
    rows = [["method", "default", *(f"k = {k}" for k in counts), "as good as tuned Nesterov"]]
    for i, method in enumerate(record.overall.methods):
        values = [_known(means[i, column]) for column in columns]
        rows.append([method, number(defaults[i]), *values, _matches(record, method)])
    return markdown(rows)


def _known(value: float) -> str:
    return number(value) if np.isfinite(value) else ""


def _matches(record: Record, method: str) -> str:
    """Return on how many tasks a method passes the tuned control, and after how many trials."""
    found = list(record.matches[method].values())
    reached = sum(k is not None for k in found)
    if not found:
        return ""
    middle = median(np.inf if k is None else k for k in found)
    after = f"; on half of all by k = {middle:.0f}" if np.isfinite(middle) else ""
    return f"on {reached} of {len(found)} tasks{after}"


def regions(record: Record) -> str:
    """Return how exact the hyperparameters of each method have to be."""
    rows = [
        ["method", "good share, 0.9", "good share, 0.7", "trials for 90 %", "decades of the rate"]
    ]
    for method, found in record.regions.items():
        shares = [median(each.regions[c].share.value for each in found) for c in (0.9, 0.7)]
        needed = median(each.regions[0.7].trials for each in found)
        widths = [each.width.decades for each in found if each.width is not None]
        width = f"{median(widths):.1f}" if widths else ""
        rows.append([method, *(f"{share:.0%}" for share in shares), _trials(needed), width])
    return markdown(rows)


def _trials(needed: float) -> str:
    return f"{needed:.0f}" if np.isfinite(needed) else "none was good"


def single(record: Record) -> str:
    """Return the best single setting of each method over all tasks."""
    rows = [["method", "the setting", "one setting", "tuned on each", "tasks"]]
    for method, found in record.single.items():
        means = (found.mean, found.tuned)
        edge = f" (edge: {', '.join(found.edge)})" if found.edge else ""
        chosen = setting(dict(found.hyperparameters)) + edge
        rows.append([method, chosen, *map(number, means), str(len(found.tasks))])
    return markdown(rows, texts=2)


def chosen(record: Record) -> str:
    """Return the β that was chosen on each task, of methods that have one."""
    cells, names = record.results.cells, record.results.tasks
    rows = [["method", *names]]
    for method in record.overall.methods:
        row = [cells.get((task, method)) for task in names]
        if any(cell is not None and "beta" in cell.hyperparameters for cell in row):
            rows.append([method, *map(_beta, row)])
    return markdown(rows) if len(rows) > 1 else ""


def _beta(cell: Any) -> str:
    if cell is None or "beta" not in cell.hyperparameters:
        return ""
    β = cell.hyperparameters["beta"]
    return f"{1 - float(f'{1 - β:.2g}'):.5g}{' edge' if 'beta' in cell.edge else ''}"


def targets(record: Record) -> str:
    """Return the step at which each method passes the target of each task."""
    names = [task for task in record.results.speed_ups.tasks if _has_target(task)]
    rows = [["method", *names]]
    for method in record.overall.methods:
        rows.append([method, *(_steps(record, task, method) for task in names)])
    return markdown(rows) if names else ""


def _has_target(task: str) -> bool:
    try:
        target(task)
    except ValueError:
        return False
    return True


def _steps(record: Record, task: str, method: str) -> str:
    if (task, method) not in record.results.cells:
        return ""
    steps = record.results.steps_to_target(task, method)
    return "never" if steps is None else f"{steps:,}"


def costs(record: Record) -> str:
    """Return what a step of each method costs, as medians over the tasks."""
    if record.costs is None:
        return ""
    rows = [["method", "time of a step / SGD's", "least", "most", "bytes a parameter", "gradients"]]
    for method in record.costs.methods:
        own = [cost for (_, name), cost in record.costs.cells.items() if name == method]
        ratios = [cost.ratio for cost in own]
        numbers = (median(ratios), min(ratios), max(ratios))
        kept = median(cost.bytes_per_parameter for cost in own)
        gradients = max(cost.gradients for cost in own)
        rows.append([method, *map(number, numbers), f"{kept:.3g}", f"{gradients:.3g}"])
    return markdown(rows)


def repeat(record: Record) -> str:
    """Return the verdicts of the two runs with different seeds beside one another."""
    if record.repeat is None:
        return ""
    again = record.repeated
    names = [task for task in record.repeat.tasks if task in again]
    rows = [["method", *names]]
    for method in (name for name in record.repeat.methods if name != CONTROL):
        first = record.verdicts.get(method, {})
        rows.append([method, *(_both(first.get(t), again[t].get(method)) for t in names)])
    return markdown(rows)


def made_worse(record: Record) -> str:
    """Return the verdicts on methods that were made worse, against their originals."""
    if record.made_worse is None:
        return ""
    rows = [["method", "original", *record.made_worse.tasks]]
    for name, row in record.against_originals.items():
        original, shown = ORIGINALS[name], []
        for task, each in row.items():
            pair = record.made_worse.cells[task, name], record.results.cells[task, original]
            edge = " edge" if any(cell.edge for cell in pair) else ""
            shown.append(f"{_VERDICTS[each.verdict]} {10.0**each.difference:.3g}{edge}")
        rows.append([name, original, *shown])
    return markdown(rows, texts=2)


def held_out(record: Record) -> str:
    """Return the loss of each method relative to that of the control, on variants and tasks."""
    variants = record.held_out
    if variants is None:
        return ""
    rows = [["method", *variants.tasks]]
    for method in (name for name in record.overall.methods if name != CONTROL):
        row = []
        for variant in variants.tasks:
            places = ((variants, variant), (record.results, BASES[variant]))
            cells = [
                result.cells.get((task, name))
                for result, task in places
                for name in (method, CONTROL)
            ]
            fails = " fails" if (method, variant) in record.failures else ""
            row.append("" if None in cells else _on_variant(*cells) + fails)
        rows.append([method, *row])
    return markdown(rows)


def _on_variant(own: Any, control: Any, own_base: Any, control_base: Any) -> str:
    """Write the relative loss on a variant, and in parentheses that on its task."""
    pairs = ((own, control), (own_base, control_base))
    on_variant, on_task = (
        f"{10.0 ** np.median(first.evaluation - second.evaluation):.3g}" for first, second in pairs
    )
    edge = " edge" if own.edge or control_base.edge else ""
    return f"{on_variant} ({on_task}){edge}"


def _both(first: Any, second: Any) -> str:
    words = ["none" if each is None else _VERDICTS[each.verdict] for each in (first, second)]
    ratios = ["" if each is None else f" {10.0**each.difference:.3g}" for each in (first, second)]
    return ", then ".join(f"{word}{ratio}" for word, ratio in zip(words, ratios, strict=True))
