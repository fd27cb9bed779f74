"""Run a traced function and encode some of its outputs as soon as they are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import xla
from momentax._core.codecs import EncodedArray, is_encoded

Encoders = Mapping[int, Callable[[jax.Array], EncodedArray]]  # By the number of the output.


def evaluate_and_encode(closed_jaxpr: Any, args: Sequence[Any], encoders: Encoders) -> list[Any]:
    """Return the outputs of a traced function, those with an encoder encoded.

    Every later operation that uses an encoded output reads it decoded. An output
    that is one of the inputs is returned as it is. Jitted functions and the
    branches of conditionals are entered. A loop runs as a whole, and its results
    are encoded afterwards.
    """
    jaxpr = closed_jaxpr.jaxpr
    pending = {
        jaxpr.outvars[i]: encode
        for i, encode in encoders.items()
        if not _is_literal(jaxpr.outvars[i])
    }
    values = dict(zip(jaxpr.constvars, closed_jaxpr.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        operands = [_read(values, atom) for atom in eqn.invars]
        inner = {i: pending[var] for i, var in enumerate(eqn.outvars) if var in pending}
        results = _run(jaxpr, eqn, operands, inner)
        values.update(zip(eqn.outvars, results, strict=True))
    outputs = [
        values[atom] if i in encoders and not _is_literal(atom) else _read(values, atom)
        for i, atom in enumerate(jaxpr.outvars)
    ]
    return [
        x if is_encoded(x) or isinstance(x, jax.Array) else jnp.asarray(x, atom.aval.dtype)
        for x, atom in zip(outputs, jaxpr.outvars, strict=True)
    ]


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")


def _read(values: Mapping[Any, Any], atom: Any) -> Any:
    """The value of a variable or literal, decoded if it is encoded."""
    value = atom.val if _is_literal(atom) else values[atom]
    return value.decode().astype(atom.aval.dtype) if is_encoded(value) else value


def _run(jaxpr: Any, eqn: Any, operands: list[Any], encoders: Encoders) -> list[Any]:
    """Run one equation and encode some of its results, inside of it where that is possible."""
    if encoders and eqn.primitive.name in ("jit", "pjit"):
        return _enter(eqn.params["jaxpr"], encoders, *operands)
    if encoders and eqn.primitive.name == "cond":
        index, *operands = operands
        branches = [partial(_enter, branch, encoders) for branch in eqn.params["branches"]]
        return jax.lax.switch(index, branches, *operands)
    return _encode(xla.run_equation(jaxpr, eqn, operands), encoders)


def _enter(closed_jaxpr: Any, encoders: Encoders, *operands: Any) -> list[Any]:
    return _encode(evaluate_and_encode(closed_jaxpr, operands, encoders), encoders)


def _encode(results: Sequence[Any], encoders: Encoders) -> list[Any]:
    """Encode those results that have an encoder and are not encoded yet."""
    return [
        encoders[i](x) if i in encoders and not is_encoded(x) else x for i, x in enumerate(results)
    ]
