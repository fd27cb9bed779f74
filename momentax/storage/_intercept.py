"""Run a traced function with some of its results encoded as soon as they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.core import eval_jaxpr

from momentax._core.codecs import is_encoded

Encoders = Mapping[int, Callable[[jax.Array], Any]]  # By the number of the output.


def intercepted(closed: Any, args: Sequence[Any], encoders: Encoders) -> list[Any]:
    """The outputs of a jaxpr, some encoded: what reads such a result reads it decoded.

    An output that is an input is no result and is returned as it is. Jitted
    functions and the branches of conditionals are entered. A loop runs as it is,
    and what it returns is encoded.
    """
    jaxpr, known = closed.jaxpr, {}
    awaited = {jaxpr.outvars[i]: encode for i, encode in encoders.items() if _is_var(jaxpr, i)}

    def read(atom: Any) -> Any:
        value = atom.val if hasattr(atom, "val") else known[atom]
        return value.decode().astype(atom.aval.dtype) if is_encoded(value) else value

    known.update(zip(jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        inside = {i: awaited[var] for i, var in enumerate(eqn.outvars) if var in awaited}
        results = _results(jaxpr, eqn, [read(atom) for atom in eqn.invars], inside)
        known.update(zip(eqn.outvars, results, strict=True))
    return [
        known[atom] if i in encoders and atom in awaited else read(atom)
        for i, atom in enumerate(jaxpr.outvars)
    ]


def _is_var(jaxpr: Any, output: int) -> bool:
    return not hasattr(jaxpr.outvars[output], "val")


def _results(jaxpr: Any, eqn: Any, values: list[Any], encoders: Encoders) -> list[Any]:
    def encoded(results: Sequence[Any]) -> list[Any]:
        return [
            encoders[i](x) if i in encoders and not is_encoded(x) else x
            for i, x in enumerate(results)
        ]

    if encoders and eqn.primitive.name in ("jit", "pjit"):
        return encoded(intercepted(eqn.params["jaxpr"], values, encoders))
    if encoders and eqn.primitive.name == "cond":

        def enter(branch: Any) -> Callable[..., list[Any]]:
            return lambda *operands: encoded(intercepted(branch, operands, encoders))

        index, *operands = values
        return jax.lax.switch(
            index, [enter(branch) for branch in eqn.params["branches"]], *operands
        )
    inputs = [atom for atom in eqn.invars if not hasattr(atom, "val")]
    alone = jaxpr.replace(constvars=[], invars=inputs, outvars=eqn.outvars, eqns=[eqn])
    values = [x for x, atom in zip(values, eqn.invars, strict=True) if not hasattr(atom, "val")]
    return encoded(eval_jaxpr(alone, [], *values))
