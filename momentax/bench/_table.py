"""The table of a result as text, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import numpy as np

from momentax.bench import statistics

UNDECIDED = "not distinguishable"


class Table(NamedTuple):
    """A table. `str` aligns its columns, and a notebook shows it as HTML.

    rows: the rows, the head first, each with as many texts.
    note: sentences below the table.
    """

    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in self.rows
        ]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(row: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in row) + "</tr>"

        head, *others = self.rows
        body = "".join(line(row, "td") for row in others)
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>{note}"


def make_table(result: Any, control: str) -> Table:
    """Make the table of a result, of type Result: a row for each method, a column for each task."""
    S = result.speed_ups
    # Without a task that has a reference curve, no method has a rank.
    mean = statistics.geometric_mean(S.values if S.tasks else [[np.nan]] * len(S.methods))
    verdicts = result.compare(control)
    overall = ["speed-up", "tasks"] if S.tasks else []
    rows = [["method", *overall, *map(partial(_head, result), result.tasks)]]
    for i in np.lexsort((-mean.value, -mean.tasks)):
        cells = [_describe(result, task, S.methods[i], verdicts) for task in result.tasks]
        speed_up = f"{mean.value[i]:.2f}" if mean.tasks[i] else ""
        overall = [speed_up, str(mean.tasks[i])] if S.tasks else []
        rows.append([S.methods[i], *overall, *cells])
    return Table(rows, _note(result, control))


def _head(result: Any, task: str) -> str:
    return task if task in result.speed_ups.tasks else f"{task} (log10 loss)"


def _describe(result: Any, task: str, method: str, verdicts: Mapping[str, Any]) -> str:
    """Return the text of a cell of the table."""
    cell = result.cells.get((task, method))
    if cell is None:
        return ""
    found = verdicts.get(task, {}).get(method)
    verdict = "" if found is None or found.verdict == UNDECIDED else f" {found.verdict}"
    S = result.speed_ups
    diverged = f" ({cell.diverged[1]} diverged)" if cell.diverged[1] else ""
    failed = " failed" if cell.failed else ""
    mark = f"{verdict}{failed}{' edge' if cell.edge else ''}{diverged}"
    if task not in S.tasks:
        return f"{np.mean(cell.evaluation):.2f}{mark}"
    at = S.methods.index(method), S.tasks.index(task)
    if np.isnan(S.values[at]):
        return mark.strip()
    sign = {1: ">", -1: "<"}.get(int(S.beyond[at]), "")
    return f"{sign}{S.values[at]:.2f}{mark}"


def _note(result: Any, control: str) -> str:
    sentences = [
        f"Better and worse: than {control}. Three conditions must hold: the p-value of a sign-flip "
        f"test over {result.protocol.seeds} paired seeds, adjusted by Holm's method for all "
        "comparisons, is at most 0.05; the 95 % bootstrap interval of the difference excludes 0; "
        "and the difference exceeds 0.2 % of the loss. Otherwise the method is not distinguishable "
        "from it. Edge: the best setting lies at an end of its search range, so that it has no "
        "rank."
    ]
    if any(cell.diverged[1] for cell in result.cells.values()):
        sentences.append(
            "(k diverged): k of the evaluation runs diverged, and each counts with the loss of its "
            "start."
        )
    if result.speed_ups.beyond.any():
        sentences.append("> and <: the speed-up was clipped at 4 (>) or at 1/4 (<).")
    if result.protocol.weight_decay:
        sentences.append("Every method searched a decoupled weight decay too.")
    wider = {method: cell.widened for (_, method), cell in result.cells.items() if cell.widened}
    if wider:
        ranges = "; ".join(f"{', '.join(names)} of {method}" for method, names in wider.items())
        sentences.append(f"Ranges were widened after a first pass with an edge: {ranges}.")
    if failed := sorted({name for cell in result.cells.values() for name in cell.failed}):
        sentences.append(f"Failed: the method failed on a held-out variant, {', '.join(failed)}.")
    if result.speed_ups.tasks:
        speed_up = (
            "tuned Nesterov would need S times the steps for the same loss; above 1 is faster."
        )
        sentences.insert(0, f"Speed-up S: {speed_up}")
    if without := [task for task in result.tasks if task not in result.speed_ups.tasks]:
        sentences.append(f"There is no reference curve for speed-ups on {', '.join(without)}.")
    return " ".join(sentences)


def rows_of_cells(result: Any) -> list[dict[str, Any]]:
    """Return a row for each cell of a result, of type Result, as a data frame takes them."""
    S = result.speed_ups
    rows = []
    for (task, method), cell in result.cells.items():
        y = np.asarray(cell.evaluation)
        at = S.methods.index(method), S.tasks.index(task) if task in S.tasks else None
        rows.append(
            {
                "task": task,
                "method": method,
                "score": y.mean(),
                "score_sd": y.std(ddof=1),
                "speed_up": np.nan if at[1] is None else S.values[at],
                "validation": np.mean(cell.validation),
                "chosen": cell.chosen,
                "diverged_trials": cell.diverged[0],
                "diverged_runs": cell.diverged[1],
                "edge": ", ".join(cell.edge),
                "widened": ", ".join(cell.widened),
                "failed": ", ".join(cell.failed),
                **cell.hyperparameters,
            }
        )
    return rows
