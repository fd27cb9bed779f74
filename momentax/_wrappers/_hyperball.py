"""Hyperball: each matrix keeps the norm that it had at the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.transformations import Method, transformation
from momentax._core.typing import PyTree
from momentax._state._role_rules import Leaf
from momentax._state._roles import find_roles, require_overrides

# The roles that have a norm of their own: all but vectors and depthwise convolutions.
_MATRICES = ("hidden", "convolution", "embedding", "head", "router")


class HyperballState(NamedTuple):
    """The state of a wrapper that keeps norms.

    radii: for each chosen parameter the norm that it keeps, in float32 or wider: a 0-d array,
        or one norm for each layer of a stack, with axes of size 1 for the others; None for the
        parameters that are not chosen.
    inner_state: the state of tx.
    """

    radii: PyTree
    inner_state: Any


def hyperball(
    tx: optax.GradientTransformation,
    *,
    where: PyTree | Callable[[PyTree], PyTree] | None = None,
    roles: Mapping[str, str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Keep the norm R of each matrix θ at what it is when the training starts.

        θ_t = R (θ_{t-1} + u_t) / ‖θ_{t-1} + u_t‖,    R = ‖θ_0‖

    u is the update of tx. The wrapper returns θ_t - θ_{t-1}, so that
    `optax.apply_updates` arrives at θ_t. The norm is that of all entries of one matrix; the
    matrices of a stack of layers have one each. R is stored and never measured again, so
    that rounding does not accumulate. An update of length α R at a right angle to θ turns
    θ by the angle atan α, whatever its norm is. Weight decay in tx makes no matrix
    smaller, but makes the angle larger; leave it out.

    A matrix whose update is 0 does not change, and neither does one whose gradient is None or
    whose sum with the update is exactly 0.

    Args:
        tx: The optimizer to wrap: `momentax.sgd`, `momentax.muon`, `optax.adam` or another
            complete optimizer. The direction of a method is no step and is refused.
        where: The parameters that keep their norm: a tree of bools, a prefix of one, or a
            function from the parameters to one. None selects the matrices of
            `momentax.roles`: hidden ones, convolutions, embeddings and the head.
        roles: A dict from names to roles that corrects the table of `momentax.roles`. None
            corrects nothing.

    Raises:
        TypeError: tx is not a gradient transformation, or it is a method.
        ValueError: At init, a chosen matrix consists of zeros, so that it has no direction;
            under `jax.jit`, where its entries are not known, its updates are NaN instead.
            At update, `params` are missing.

    Example:
        >>> tx = momentax.hyperball(momentax.sgd(0.1))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Hyperball, 2026, arXiv:2606.16899. Other programs measure R again before each step, so
        that it drifts by rounding.
    """
    _require_optimizer(tx)
    trees.require_mask("where", where)
    if roles is not None:
        require_overrides("roles", roles)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        trees.require_inexact(trees.only_arrays(params))
        return HyperballState(_radii(params, where, roles), tx.init(params))

    def update(updates, state, params=None, **extra_args):
        radii, inner = state
        if params is None and jax.tree.leaves(updates):
            raise ValueError("hyperball needs the parameters: call update(grads, state, params)")
        trees.require_params(updates, params)
        u, inner = tx.update(updates, inner, params, **extra_args)

        def keep_norm(R: Any, g: Any, u: Any, θ: Any) -> Any:
            return u if R is None or g is None or u is None else _to_sphere(R, u, θ)

        kept = jax.tree.map(keep_norm, radii, updates, u, params, is_leaf=trees.is_none)
        return kept, HyperballState(radii, inner)

    return transformation(init, update, HyperballState)


def _require_optimizer(tx: Any) -> None:
    arguments.require_transformation("tx", tx, example="momentax.sgd(0.1)")
    if isinstance(tx, Method):
        raise TypeError(
            "tx must be a complete optimizer, got a method, whose directions are no steps; write "
            "momentax.hyperball(momentax.sgd(0.1, method))"
        )


def _radii(params: PyTree, where: Any, roles: Mapping[str, str] | None) -> PyTree:
    """Return the norm of each chosen parameter, and None for the others."""
    arrays = trees.only_arrays(params)
    found = find_roles("roles", params, roles)
    if where is None:
        chosen = [leaf.role in _MATRICES for leaf in found]
    else:
        mask = trees.as_mask("where", where, params)
        chosen = jax.tree.leaves(
            jax.tree.map(lambda leaf, keep: None if leaf is None else keep, arrays, mask,
                         is_leaf=trees.is_none)
        )  # fmt: skip
    named, structure = jax.tree_util.tree_flatten_with_path(arrays)
    rows = zip(named, found, chosen, strict=True)
    radii = [
        trees.computed(partial(_radius, path, leaf), x) if keep else None
        for (path, x), leaf, keep in rows
    ]
    return jax.tree.unflatten(structure, radii)


def _radius(path: Any, leaf: Leaf, x: Any) -> jax.Array:
    """Return the norm of a parameter, or those of the matrices that are stacked in it."""
    is_stack = "b" in leaf.axes and leaf.role != "vector"
    own = tuple(i for i, letter in enumerate(leaf.axes) if letter != "b") if is_stack else None
    scale, norm = _norm(jnp.asarray(x, arithmetic.compute_dtype(x)), own)
    radius = scale * norm if is_stack else jnp.reshape(scale * norm, ())
    if arguments.is_traced(radius):
        return jnp.where(radius > 0, radius, jnp.nan)
    if not np.all(np.isfinite(radius) & (np.asarray(radius) > 0)):
        number = "" if radius.ndim == 0 else f" in matrix {int(np.argmin(radius))}"
        raise ValueError(
            f"the parameter at {trees.path_name(path)} has the norm {float(np.min(radius)):g}"
            f"{number}, so that it has no direction to keep the length of; initialize it with "
            "other values, or leave it out with where="
        )
    return radius


def _norm(x: jax.Array, axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array]:
    """Return two factors of the norm, which keep its squares in range."""
    size = jnp.abs(x)
    scale = jnp.max(size, axis=axes, keepdims=True, initial=0)
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1))
    return scale, jnp.sqrt(jnp.sum(jnp.square(size / scale), axis=axes, keepdims=True))


def _to_sphere(R: jax.Array, u: Any, θ: Any) -> jax.Array:
    """Return the update to the point of norm R in the direction of θ + u; 0 if u or θ + u is 0."""
    dtype = arithmetic.compute_dtype(u, θ)
    wide, step = jnp.asarray(θ, dtype), jnp.asarray(u, dtype)
    axes = None if R.ndim == 0 else tuple(i for i, size in enumerate(R.shape) if size == 1)
    p = wide + step
    scale, norm = _norm(p, axes)
    new = R.astype(dtype) * (
        (p / scale.astype(dtype)) / jnp.where(norm == 0, 1, norm).astype(dtype)
    )
    moves = jnp.any(step != 0, axis=axes, keepdims=True) & (norm != 0)
    return jnp.where(moves, new - wide, 0).astype(jnp.result_type(u))
