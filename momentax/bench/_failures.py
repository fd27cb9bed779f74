"""The rule for held-out variants: a method that fails a variant has failed its task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from momentax._core import arguments
from momentax.bench._differences import protocol_differences
from momentax.bench._held_out import BASES
from momentax.bench._protocol import Cell

_PLACES = ("in the result", "in variants")


def fail_where_variants_fail(result: Any, variants: Any, control: str | None, factor: float) -> Any:
    """Return a result, of type Result, in which cells whose variants failed are failures."""
    against: str = result._as_control(control)
    factor = arguments.as_real("factor", factor, "(1, inf)")
    if not isinstance(variants, type(result)):
        raise TypeError(f"variants must be a Result, got {arguments.describe(variants)}")
    known = [name for name in variants.tasks if BASES.get(name) in result.tasks]
    if not known:
        raise ValueError(
            f"variants must have held-out variants of {', '.join(result.tasks) or 'no task'}, as "
            f"momentax.bench.held_out has them, got {', '.join(variants.tasks) or 'no task'}"
        )
    if faults := protocol_differences(result.protocol, variants.protocol, places=_PLACES):
        raise ValueError(f"variants cannot be compared with the result: {'; '.join(faults)}")
    cells = dict(result.cells)
    for variant in known:
        for (task, method), cell in result.cells.items():
            if task == BASES[variant]:
                pair = [_cell_of(variants, variant, name) for name in (method, against)]
                base = [cell, result.cells.get((task, against))]
                if _fails(pair, base, factor):
                    cells[task, method] = _as_failed(cells[task, method], variant)
    return replace(result, cells=cells)


def _cell_of(variants: Any, variant: str, method: str) -> Cell:
    if (variant, method) not in variants.cells:
        raise ValueError(f"variants must have {method} on {variant}, and it has no such cell")
    return variants.cells[variant, method]


def _fails(variant: list[Cell], base: list[Any], factor: float) -> bool:
    """Return whether a method fails a variant.

    variant: its cell and that of the control on the variant.
    base: the same on the task; the control may lack there.
    """
    if 2 * variant[0].diverged[1] >= len(variant[0].evaluation):
        return True
    if base[1] is None or base[1].edge or variant[0].edge:
        return False
    relative = [np.median(own.evaluation - other.evaluation) for own, other in (variant, base)]
    return bool(relative[0] > relative[1] + np.log10(factor))


def _as_failed(cell: Cell, variant: str) -> Cell:
    """Return a cell with the score of the initial point on all seeds."""
    return cell._replace(
        evaluation=np.full_like(cell.evaluation, cell.checkpoints[0]),
        edge=[],  # A failure has a rank: the last.
        failed=(*cell.failed, variant),
    )
