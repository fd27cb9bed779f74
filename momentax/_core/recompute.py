"""Compute some outputs of a traced function a second time, from other outputs of it.

An update is mostly an elementwise function of the new velocity, which XLA computes where it is
added to the parameters, without a buffer of its own. A branch of `jax.lax.cond` that reads the
update as an operand would need such a buffer at every step, also where the branch does not run.
Inside of the branch the update is computed once more instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from momentax._core import xla

_SMALL = 64  # Entries. Anything so small is computed again without a look at how.
# Operations that change the size of an array, and that XLA computes where the result is read.
_RESIZING = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims")


def recompute(
    closed_jaxpr: Any, args: Sequence[Any], known: dict[int, Any], wanted: range, hidden: set[int]
) -> list[Any] | None:
    """Return some outputs of a traced program, computed from others and from the arguments.

    Args:
        closed_jaxpr: The program.
        args: Its arguments.
        known: The values of some outputs, by their numbers.
        wanted: The numbers of the outputs to compute.
        hidden: The numbers of the arguments that may be overwritten before.

    Returns:
        The outputs, or None where a hidden argument is needed, or more than elementwise operations.
    """
    jaxpr = closed_jaxpr.jaxpr
    values = dict(zip(jaxpr.constvars, closed_jaxpr.consts, strict=True))
    for i, (var, value) in enumerate(zip(jaxpr.invars, args, strict=True)):
        if i not in hidden or _is_small(var):
            values[var] = value
    values |= {
        var: known[i] for i, var in enumerate(jaxpr.outvars) if i in known and not _is_literal(var)
    }
    eqns = _equations_for([jaxpr.outvars[i] for i in wanted], jaxpr, values)
    if eqns is None:
        return None
    for eqn in eqns:
        operands = [atom.val if _is_literal(atom) else values[atom] for atom in eqn.invars]
        values.update(zip(eqn.outvars, xla.run_equation(jaxpr, eqn, operands), strict=True))
    outputs = (jaxpr.outvars[i] for i in wanted)
    return [atom.val if _is_literal(atom) else values[atom] for atom in outputs]


def _equations_for(wanted: Sequence[Any], jaxpr: Any, values: dict[Any, Any]) -> list[Any] | None:
    """Return the equations between some values and what is wanted, in order, or None."""
    needed = {atom for atom in wanted if not _is_literal(atom) and atom not in values}
    found = []
    for eqn in reversed(jaxpr.eqns):
        if needed.isdisjoint(eqn.outvars):
            continue
        if not _is_elementwise(eqn):
            return None
        found.append(eqn)
        needed.difference_update(eqn.outvars)
        needed |= {atom for atom in eqn.invars if not _is_literal(atom) and atom not in values}
    return None if needed else found[::-1]


def _is_elementwise(eqn: Any) -> bool:
    """Whether XLA computes an equation where its result is read, or it is small throughout."""
    if all(map(_is_small, (*eqn.invars, *eqn.outvars))):
        return True
    if (body := xla.inlined_body(eqn)) is not None:
        return all(map(_is_elementwise, body.eqns))
    if eqn.primitive.name in _RESIZING:
        return True
    large = [atom for atom in eqn.invars if not _is_small(atom)]
    return bool(large) and all(xla.is_elementwise_at(eqn, atom) for atom in large)


def _is_small(atom: Any) -> bool:
    return getattr(atom.aval, "size", 0) <= _SMALL


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")
