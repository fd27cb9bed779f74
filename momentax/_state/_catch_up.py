"""The steps that rows of a lazy method have waited, taken at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import arithmetic, trees
from momentax._core.typing import PyTree, Scalar
from momentax._methods._lazy import LazyState
from momentax._state._velocity import amend, holder, own_rate, pick, unmasked


def catch_up(
    params: PyTree,
    state: PyTree,
    rows: PyTree = None,
    *,
    learning_rate: Scalar | None = None,
    path: str | None = None,
) -> tuple[PyTree, PyTree]:
    """Take the steps that rows of `lazy` have waited for a gradient, all at once.

        θ ← θ - α b (β + β² + ... + βᵏ) v,    v ← βᵏ v    after k steps

    Call it on the rows that the next gradient will be taken at, and on all rows
    before the parameters are evaluated, saved or handed to another optimizer.

    Args:
        params: The parameters after the update that gave `state`.
        state: The optimizer's state, or a pytree that holds it.
        rows: Which rows: a tree like the parameters of 1-d integer arrays. A
            row may occur more than once; those beyond the last are ignored.
            None is all rows.
        learning_rate: α in (0, inf), the same at every step, for a velocity in
            gradient units. None where `sgd` keeps the velocity in parameter
            units; elsewhere give -1 for those.
        path: Which velocity, as in `velocity`.

    Returns:
        The parameters and the state with these rows caught up, of the
        structures, shapes and dtypes given.

    Raises:
        ValueError: As `velocity`; the velocity is not one of `lazy`'s;
            learning_rate is missing, or given for parameter units; rows or
            params do not fit the velocity.
        TypeError: learning_rate is no number; under a schedule rows cannot catch
            up in one step.
    """
    node, units = holder(state, path)
    if not isinstance(node, LazyState):
        raise ValueError(
            f"catch_up needs the state of momentax.lazy, got one that holds a {type(node).__name__}"
        )
    α = own_rate(learning_rate, units)
    unmasked(node.velocity, params)

    def caught_up(part: Any, v: Any, last: Any, index: Any) -> tuple[Any, ...]:
        if trees.is_masked(v):
            return part, v, last
        whole = part, v, last
        if index is not None:
            part, v, last = (arithmetic.read_rows(leaf, index) for leaf in whole)
        k = arithmetic.broadcast_rows(node.count - last, v).astype(node.kept.dtype)
        log = jnp.where(k == 0, 0, k * jnp.log1p(node.kept - 1))  # Of βᵏ; no digits cancel.
        coasted = -node.coast * jnp.expm1(log) / (1 - node.kept)
        new = (
            arithmetic.combine((1.0, part), (-α * coasted, v), like=part),
            arithmetic.combine((jnp.exp(log), v), like=v),
            jnp.full_like(last, node.count),
        )
        if index is None:
            return new
        return tuple(
            arithmetic.write_rows(*each) for each in zip(whole, (index,) * 3, new, strict=True)
        )

    leaves, structure = jax.tree.flatten(node.velocity, is_leaf=trees.is_masked)
    indices = [None] * len(leaves)
    if rows is not None:
        indices = structure.flatten_up_to(trees.as_rows(rows, node.velocity))
    columns = (structure.flatten_up_to(tree) for tree in (params, node.velocity, node.last))
    done = [caught_up(*each) for each in zip(*columns, indices, strict=True)]
    params, v, last = (structure.unflatten([new[i] for new in done]) for i in range(3))
    new = node._replace(velocity=v, last=last)
    return params, amend(state, pick(state, path)[0], lambda *_: new)
