"""A wrapper that keeps the velocity of any transformation in fewer bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, trees
from momentax._core.codecs import (
    is_encoded,
    is_packed,
    key_of,
    packed,
    packed_like,
    random_bits,
    unpacked,
)
from momentax._core.typing import PyTree
from momentax._state import _velocity
from momentax.storage._intercept import intercepted
from momentax.storage._storages import Storage

_Where = PyTree | Callable[[PyTree], PyTree] | None


class StoredState(NamedTuple):
    """The state of a transformation whose velocity is kept in fewer bytes.

    count: updates made so far, a 0-d int32 array.
    seed: of the random bits, a 0-d uint32 array; None without any.
    inner_state: tx's own, with the velocity encoded; `momentax.velocity` decodes it.
    """

    count: Any
    seed: Any
    inner_state: Any


def stored(
    tx: optax.GradientTransformation,
    storage: Storage,
    *,
    min_size: int = 4096,
    where: _Where = None,
) -> optax.GradientTransformationExtraArgs:
    """Keep the velocity of any transformation in fewer bytes.

        v = decode(c_{t-1})
        c_t = encode(v_t),    v_t the velocity after v that tx computes
        d_t = what tx makes of decode(c_t)

    The direction is made from the velocity as it is stored, so that what is
    applied is what is remembered, and the compiled step reads the old velocity
    once. Every velocity that `momentax.velocity` knows is encoded, at any depth:
    of momentax's methods, `optax.sgd`, `lion`, the first moment of `adam`.
    Velocities of float64 and complex parameters stay as they are.

    Where tx computes its velocity in a loop, under `jax.checkpoint` or a custom
    derivative, or chooses it afterwards, as `optax.MultiSteps` does, it makes the
    direction first: put such wrappers outside. Rounding has no derivative:
    `jax.grad` through update sees nothing of the velocity, but with bfloat16 to
    the nearest. Random bits depend on the place in the array that update is
    given, so that under `jax.shard_map` each device needs a seed of its own.

    Args:
        tx: The transformation, a bare method or a complete optimizer.
        storage: `momentax.storage.bfloat16(...)` or `momentax.storage.int8(...)`.
        min_size: Entries, at least 0; a velocity of fewer stays as it is.
        where: Whose velocity is encoded: a tree of bools, a prefix of one, or a
            function from the parameters to one. None is all of them.

    Returns:
        A transformation into updates of the shapes and dtypes of tx's. Its
        state, StoredState(count, seed, inner_state), is tx's with each velocity
        encoded; all else is kept as tx keeps it. A leaf whose gradient is None
        keeps its velocity to the bit.

    Raises:
        TypeError: tx is no gradient transformation, storage is no storage, or
            min_size is no whole number; at init, an entry of where is no bool.
        ValueError: min_size is negative; at init, tx keeps no velocity, or
            where does not fit the parameters; at update, tx changes the
            structure of its state.

    Warns:
        UserWarning: At init, β is known and too large for the storage.
    """
    arguments.require_transformation("tx", tx)
    if not isinstance(storage, Storage):
        raise TypeError(
            "storage must be what momentax.storage.bfloat16() or momentax.storage.int8() returns, "
            f"got {arguments.describe(storage)}"
        )
    least = max(
        arguments.as_count("min_size", min_size, least=0), 1
    )  # Of nothing there is no block.
    tx = optax.with_extra_args_support(tx)

    @jax.jit  # One operation after the other would take seconds to compile,
    def encoded(leaf: jax.Array) -> Any:
        # and to know that it is constant, all zeros, as long again as XLA folds it.
        return storage.encode(jax.lax.optimization_barrier(leaf), None)

    def init(params):
        inner = tx.init(params)
        places = _velocity.velocities(inner)
        if not places:
            raise ValueError(
                "tx keeps no velocity to store: wrap a method of momentax, optax.sgd with "
                "momentum, optax.adam, or a chain that holds one"
            )
        if any(map(is_packed, jax.tree.leaves(inner, is_leaf=is_packed))):
            raise ValueError("tx holds a stored velocity already: wrap it once, outermost")
        chosen = None if where is None else trees.as_mask("where", where, params)

        def encode(leaf: Any, keep: bool = True) -> Any:
            return encoded(leaf) if keep and _encodable(leaf, least) else leaf

        def within(node: Any, field: str) -> Any:
            v = getattr(node, field)
            flags = () if chosen is None else (trees.masked_like(v, chosen),)
            return node._replace(**{field: packed(jax.tree.map(encode, v, *flags))})

        for place in places:
            inner = _velocity.map_encoded_node(inner, place, within)
        seed = None if storage.seed is None else jnp.asarray(storage.seed, jnp.uint32)
        _caution(tx, _probes(params, chosen, least), storage)
        return StoredState(jnp.zeros((), jnp.int32), seed, inner)

    def update(updates, state, params=None, **extra_args):
        count, seed, inner = state
        kept, structure = jax.tree.flatten(unpacked(inner), is_leaf=is_encoded)
        own = _own_dtypes(tx, updates if params is None else params, structure)
        read = [
            leaf.decode().astype(dtype) if is_encoded(leaf) else leaf
            for leaf, dtype in zip(kept, own, strict=True)
        ]
        args = updates, structure.unflatten(read), params
        closed, (u, after) = jax.make_jaxpr(
            lambda *args: tx.update(*args, **extra_args), return_shape=True
        )(*args)
        if jax.tree.structure(after) != structure:
            raise ValueError(
                f"tx changed the structure of its state from {structure} to "
                f"{jax.tree.structure(after)}; stored needs one that stays"
            )
        ahead = len(jax.tree.leaves(u))

        def encoder(leaf: Any, number: int) -> Callable[[jax.Array], Any]:
            def encode(x: jax.Array) -> Any:
                if seed is None:
                    return leaf.encode(x)
                return leaf.encode(x, random_bits(key_of(seed, count, np.uint32(number)), x.shape))

            return encode

        encoders = {ahead + i: encoder(leaf, i) for i, leaf in enumerate(kept) if is_encoded(leaf)}
        given = [jnp.asarray(leaf) for leaf in jax.tree.leaves(args)]
        before = given[len(jax.tree.leaves(updates)) :]
        results = intercepted(closed, given, encoders)
        for i, encode in encoders.items():
            if results[i] is before[i - ahead]:
                results[i] = kept[i - ahead]  # As it was, without a gradient for one.
            elif not is_encoded(results[i]):  # Another input, or a constant.
                results[i] = encode(results[i])
        u = jax.tree.unflatten(jax.tree.structure(u), results[:ahead])
        inner = packed_like(structure.unflatten(results[ahead:]), inner)
        return u, StoredState(optax.safe_increment(count), seed, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _encodable(leaf: Any, least: int) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 4 and jnp.size(leaf) >= least


def _own_dtypes(
    tx: optax.GradientTransformationExtraArgs, params: PyTree, structure: Any
) -> list[Any]:
    """The dtypes in which tx itself keeps its state: float32 wherever the parameters are."""
    float32 = [jnp.float32] * structure.num_leaves
    if all(jnp.result_type(leaf) == jnp.float32 for leaf in jax.tree.leaves(params)):
        return float32
    state = jax.eval_shape(tx.init, params)
    if jax.tree.structure(state) != structure:  # Of gradients that lack some, in place of params.
        return float32
    return [leaf.dtype for leaf in jax.tree.leaves(state)]


def _probes(params: PyTree, flags: PyTree | None, least: int) -> PyTree:
    """One entry of each parameter whose velocity is encoded; the others masked."""

    def probe(leaf: Any, keep: bool = True) -> Any:
        encoded = keep and _encodable(leaf, least)
        return (
            jnp.zeros((1,) * jnp.ndim(leaf), jnp.result_type(leaf))
            if encoded
            else optax.MaskedNode()
        )

    return jax.tree.map(probe, params, *(() if flags is None else (flags,)))


def _shares_kept(tx: optax.GradientTransformationExtraArgs, params: PyTree) -> list[Any]:
    """β as a step without a gradient shows it, at the first step and at a late one."""
    state, shares = tx.init(params), []

    def ones(node: Any, field: str) -> Any:
        v = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), getattr(node, field))
        return node._replace(**{field: v})

    for place in _velocity.velocities(state):
        state = _velocity.map_encoded_node(state, place, ones)
    for count in (0, 10**6):
        late = jax.tree.map(
            lambda leaf, count=count: leaf + count if leaf.dtype == jnp.int32 else leaf, state
        )
        _, after = tx.update(params, late, params)
        shares += [jnp.max(leaf) for leaf in jax.tree.leaves(_velocity.velocities(after))]
    return shares


def _caution(tx: optax.GradientTransformationExtraArgs, params: PyTree, storage: Storage) -> None:
    """Warn where β is known and larger than the storage can follow."""
    if storage.limit >= 1:
        return
    try:
        with jax.ensure_compile_time_eval():
            shares = _shares_kept(tx, params)
    except Exception:  # Whatever tx needs besides gradients; the warning is a courtesy.
        return
    if any(map(arguments.is_traced, shares)):
        return
    β = max(map(float, shares), default=0.0)
    if storage.limit + 1e-6 < β < 1:  # A float32 away from the number that was given.
        warnings.warn(
            f"beta = {β:.7g} is too large for this storage: {storage.advice}", stacklevel=3
        )
