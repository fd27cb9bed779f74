"""What XLA must be told, so that a donated step updates its buffers without copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core.arithmetic import as_scalar, combine, is_known
from momentax._core.typing import PyTree, Scalar

# Calls that XLA inlines, and what it does not fuse although it may keep the size of an operand.
_INLINED = ("jit", "pjit", "closed_call", "checkpoint", "remat2", "custom_jvp_call")
_CONTRACTIONS = ("dot_general", "conv_general_dilated")
_LARGE = 4096  # Elements; to copy fewer costs next to nothing.
_MOST = 64  # Parameters that are waited for; in a loop, compiling takes their number squared.


def decay_and_add(count: jax.Array, β: Scalar, v: PyTree, *terms: tuple[Scalar, PyTree]) -> PyTree:
    """Return β v + Σ γ g over the terms (γ, g), in the dtypes of v, so that v's buffer is reused.

    XLA rewrites v/2 + g/2 as (v + g)/2 and computes that again for every reader, from the
    old v, which it then copies. So it must not see that β and γ are the same number: β is
    hidden behind a condition on the count (or another scalar that is never negative) that
    is never true.
    """
    if any(is_known(β, γ) and β == γ != 0 for γ, _ in terms):
        β = jnp.where(count < 0, 0, as_scalar(β))
    return combine((β, v), *terms, like=v)


def computed_after(count: jax.Array, tree: PyTree, *earlier: PyTree) -> PyTree:
    """Return `tree` unchanged, but make it depend on `earlier`, which has the same shapes.

    XLA then does not overwrite a buffer with `tree` while `earlier` is still to be computed
    from that buffer, for which it would copy the buffer. The dependency is a condition on
    the count that is never true.
    """

    def wait(leaf: jax.Array, *others: jax.Array) -> jax.Array:
        return jnp.where(count < 0, sum(other.astype(leaf.dtype) for other in others), leaf)

    return jax.tree.map(wait, tree, *earlier)


class _Known(NamedTuple):
    """What is known of a variable of a program."""

    owners: frozenset[int] = frozenset()  # The parameters of which it is an elementwise image.
    reads: int = 0  # The reads of parameters that it waits for, as bits.
    time: int = -1  # When it is computed.


def value_and_grad_before_writes(
    function: Callable[[PyTree], tuple[jax.Array, PyTree]], params: PyTree, alone: bool
) -> tuple[tuple[jax.Array, PyTree], PyTree]:
    """`jax.value_and_grad(function, has_aux=True)(params)` with gradients that wait.

    XLA keeps no order between the write of a parameter and a read that the write
    does not depend on, such as the value's, or the one that takes the error back
    through a layer: it copies the parameter first. So each large gradient is made to
    depend on the value, and on the first of the other gradients that shows that
    such a read is done. The program takes no barrier for an order, only data.
    Unless it runs alone, on one device, it waits for the value only: to show an
    entry of a gradient to all devices costs more.
    """
    from jax.extend.core import jaxpr_as_fun  # When it is needed: import momentax stays quick.

    differentiate = jax.value_and_grad(function, has_aux=True)
    if not alone:
        outcome, g = differentiate(params)
        leaves, structure = jax.tree.flatten(g)
        for i in _largest(leaves):
            leaves[i] = _after([outcome[0]], leaves[i])
        return outcome, jax.tree.unflatten(structure, leaves)
    closed, shapes = jax.make_jaxpr(differentiate, return_shape=True)(params)
    outcome, g = jax.tree.unflatten(
        jax.tree.structure(shapes), jaxpr_as_fun(closed)(*jax.tree.leaves(params))
    )
    leaves, structure = jax.tree.flatten(g)
    results = [outcome[0], *leaves]
    variables = closed.jaxpr.outvars
    waits = _waits(closed.jaxpr, [variables[0], *variables[len(variables) - len(leaves) :]])
    for i in _largest(leaves):
        leaves[i] = _after([results[k] for k in (0, *waits[i])], leaves[i])
    return outcome, jax.tree.unflatten(structure, leaves)


def _largest(leaves: list[Any]) -> list[int]:
    """Which of these are worth a wait."""
    large = [i for i, leaf in enumerate(leaves) if leaf.size >= _LARGE]
    return sorted(large, key=lambda i: -leaves[i].size)[:_MOST]


def _after(results: list[jax.Array], leaf: jax.Array) -> jax.Array:
    """A leaf as it is, once the results are there: XLA does not see that nothing equals NaN.

    The code that it generates does, so that this costs nothing.
    """
    first = [
        jax.lax.slice(x, (0,) * x.ndim, (1,) * x.ndim)
        for x in map(jnp.asarray, results)
        if jnp.size(x)
    ]
    seen = sum(jnp.real(x).reshape(()).astype(jnp.float32) for x in first)
    return jnp.where(seen == jnp.float32(jnp.nan), jnp.zeros_like(leaf), leaf)


def _waits(jaxpr: Any, results: list[Any]) -> list[list[int]]:
    """For each parameter, the results to wait for; the first is the value, then the gradients."""
    known: dict[Any, _Known] = {}
    readers: list[frozenset[int]] = []  # The parameters of each read.

    def of(var: Any) -> _Known:
        return _Known() if hasattr(var, "val") else known.get(var, _Known())  # Or a literal.

    def rename(old: Any, new: Any) -> None:
        known.update(zip(new, [of(var) for var in old], strict=True))

    def walk(jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            body = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            if body is not None and eqn.primitive.name in _INLINED:
                body = getattr(body, "jaxpr", body)
                rename(eqn.invars, body.invars)
                walk(body)
                rename(body.outvars, eqn.outvars)
                continue
            owners, reads = frozenset(), 0
            for var in eqn.invars:
                reads |= of(var).reads
                if of(var).owners and _fuses(eqn, var):
                    owners |= of(var).owners
                elif of(var).owners:
                    reads |= 1 << len(readers)
                    readers.append(of(var).owners)
            time = len(known)
            known.update({var: _Known(owners, reads, time) for var in eqn.outvars})

    large = _largest([var.aval for var in jaxpr.invars])
    known.update({jaxpr.invars[i]: _Known(frozenset([i])) for i in large})
    walk(jaxpr)
    found = [of(var) for var in results]
    earliest = sorted(range(len(found)), key=lambda k: found[k].time)
    waits: list[set[int]] = [set() for _ in jaxpr.invars]
    for read, owners in enumerate(readers):
        shown = next((k for k in earliest if found[k].reads >> read & 1), None)
        for i in owners:
            if shown is not None and not found[i + 1].reads >> read & 1:
                waits[i].add(shown)
    return [sorted(wait) for wait in waits]


def _fuses(eqn: Any, var: Any) -> bool:
    """Whether an equation is computed element by element of a variable, inside of its readers."""
    bodies = any(hasattr(value, "eqns") or hasattr(value, "jaxpr") for value in eqn.params.values())
    same = all(out.aval.size == var.aval.size for out in eqn.outvars)
    return same and not bodies and eqn.primitive.name not in _CONTRACTIONS
