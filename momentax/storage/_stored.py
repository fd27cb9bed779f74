"""A wrapper that keeps the velocity of any transformation in fewer bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType

from momentax._core import arguments, arithmetic, codecs, trees, xla
from momentax._core.codecs import EncodedArray, is_encoded
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._core.warn import warn
from momentax._state import _velocity
from momentax.storage._evaluate import evaluate_and_encode
from momentax.storage._random import hash_key, random_bits
from momentax.storage._storage import Storage


class StoredState(NamedTuple):
    """The state of a transformation whose velocity is kept in fewer bytes.

    wrapper_count: the number of updates so far, a 0-d int32 array. The name
        differs from that of the count of a method, so that
        `optax.tree_utils.tree_get(state, "count")` finds one count.
    seed: the seed of the random bits, a 0-d uint32 array; None if there are none.
    inner_state: the state of tx with the velocity encoded; `momentax.velocity`
        decodes it.
    """

    wrapper_count: Any
    seed: Any
    inner_state: Any


def stored(
    tx: optax.GradientTransformation,
    storage: Storage,
    *,
    min_size: int = 4096,
    where: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Keep the velocity of any transformation in fewer bytes.

        v = decode(c_{t-1})
        c_t = encode(v_t),    v_t the velocity that tx computes from v
        d_t = the update that tx computes from decode(c_t)

    The direction is computed from the velocity as it is stored. So the step that
    is applied agrees with the velocity that is kept, and the compiled program
    reads the old velocity once. Every velocity that `momentax.velocity` finds is
    encoded, at any depth: that of a momentax method, of `optax.sgd` and `optax.lion`,
    the first moment of `adam`. Velocities of float64 and complex parameters stay
    as they are.

    Some transformations compute their velocity in a loop, under `jax.checkpoint`
    or in a custom derivative, or choose it afterwards as `optax.MultiSteps` does.
    They compute the direction before the velocity is encoded: put such wrappers
    outside of `stored`. Random bits depend on the place of an entry in the array
    that update receives, so that under `jax.shard_map` each device needs a seed of
    its own.

    The derivative of an update with `bfloat16` is that without rounding, and is
    itself kept in bfloat16 along with the velocity: the derivative of a run of 100
    steps is exact within a percent. With `int8` an update whose velocity depends on
    what is differentiated raises a TypeError.

    Args:
        tx: The transformation, a bare method or a complete optimizer.
        storage: `momentax.storage.bfloat16(...)` or `momentax.storage.int8(...)`.
        min_size: A number of entries, at least 0; a velocity with fewer stays as
            it is.
        where: The parameters whose velocity is encoded: a tree of bools, a prefix
            of one, or a function from the parameters to one. None selects all.

    Returns:
        A transformation with updates of the same shapes and dtypes as those of
        tx. Its state, StoredState(wrapper_count, seed, inner_state), is that of
        tx with each velocity encoded; everything else is kept as in tx. A leaf
        whose gradient is None keeps its velocity to the bit.

    Raises:
        TypeError: tx is not a gradient transformation, storage is not a storage,
            or min_size is not a whole number; at init, a leaf of where is not a
            bool.
        ValueError: min_size is negative; at init, tx keeps no velocity, where
            does not fit the parameters, or the shards of a parameter on explicit
            mesh axes do not hold whole blocks; at update, tx changes the
            structure of its state.

    Warns:
        UserWarning: At init, β is known and too large for the storage.

    Example:
        >>> tx = momentax.stored(momentax.sgd(0.1), momentax.storage.bfloat16(), min_size=1)
        >>> updates, state = tx.update(grads, tx.init(params), params)
    """
    arguments.require_transformation("tx", tx)
    codecs.as_storage("storage", storage)
    # An empty array is never encoded: it has no blocks.
    least = max(arguments.as_count("min_size", min_size, least=0), 1)
    trees.require_mask("where", where)
    tx = optax.with_extra_args_support(tx)

    def init(params):
        inner = tx.init(params)
        mask = None if where is None else trees.as_mask("where", where, params)
        inner = _encode_velocities(inner, storage, least, mask)
        seed = None if storage.seed is None else jnp.asarray(storage.seed, jnp.uint32)
        _warn_if_beta_is_too_large(tx, _single_entries(params, least, mask), storage)
        return StoredState(jnp.zeros((), jnp.int32), seed, inner)

    def update(updates, state, params=None, **extra_args):
        _require_storage(state, storage)
        u, inner = _update_encoded(tx, updates, state, params, extra_args)
        return u, StoredState(optax.safe_increment(state.wrapper_count), state.seed, inner)

    return transformation(init, update, StoredState)


def _require_storage(state: StoredState, storage: Storage) -> None:
    """Refuse a state whose velocities are encoded in another way."""
    nodes = jax.tree.leaves(state.inner_state, is_leaf=codecs.is_packed)
    packed = {type(node) for node in nodes if codecs.is_packed(node)}
    others = sorted(kind.__name__ for kind in packed - {storage.packed_type})
    if others or (state.seed is None) != (storage.seed is None):
        seed = "without a seed" if state.seed is None else "with a seed"
        raise TypeError(
            f"state must be one of {storage}, got one {seed} that holds a "
            f"{others[0] if others else storage.packed_type.__name__}; start with tx.init(params), "
            "and give it the velocity with momentax.replace_velocity"
        )


# At init: encode the velocities.


def _encode_velocities(state: Any, storage: Storage, least: int, mask: PyTree) -> Any:
    """Encode each velocity in a state of tx; a mask selects leaves, None all."""
    places = _velocity.velocities(state)
    if not places:
        raise ValueError(
            "tx keeps no velocity to store: wrap a method of momentax, optax.sgd with "
            "momentum, optax.adam, or a chain that holds one"
        )
    if any(map(codecs.is_packed, jax.tree.leaves(state, is_leaf=codecs.is_packed))):
        raise ValueError("tx holds a stored velocity already: wrap it once, outermost")

    def encode(path: Any, leaf: Any, selected: bool = True) -> Any:
        if selected and _is_encodable(leaf, least):
            _require_whole_blocks(path, leaf, storage)
            return _encode_initial(leaf, storage.encode)
        return leaf

    def encode_field(node: Any, field: str) -> Any:
        v = getattr(node, field)
        selected = () if mask is None else (trees.masked_like(v, mask),)
        v = jax.tree_util.tree_map_with_path(encode, v, *selected)
        return node._replace(**{field: codecs.pack(v, storage.packed_type)})

    for place in places:
        state = _velocity.map_encoded_node(state, place, encode_field)
    return state


@partial(jax.jit, static_argnums=1)  # One program: operation by operation compiles for seconds.
def _encode_initial(leaf: jax.Array, encode: Callable[..., EncodedArray]) -> EncodedArray:
    # The leaf is a constant of zeros. Without the barrier XLA evaluates the constant while
    # compiling, which doubles the compile time.
    return encode(xla.hide_constant(leaf), None)


def _require_whole_blocks(path: Any, leaf: Any, storage: Storage) -> None:
    """Refuse a leaf whose shards do not hold whole blocks, on a mesh of explicit axes.

    JAX then cannot derive the sharding of the blocks from that of the leaf.
    """
    sharding = jax.typeof(leaf).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types or all(
        names is None for names in sharding.spec
    ):
        return

    def encode_twice(leaf: jax.Array) -> jax.Array:
        encoded = storage.encode(leaf, None)
        return encoded.encode(encoded.decode(), random_bits(jnp.uint32(0), leaf.shape)).decode()

    try:
        jax.eval_shape(encode_twice, leaf)
    except Exception as error:  # JAX has several kinds for shardings that it cannot derive.
        raise ValueError(
            f"the velocity at {trees.path_name(path)} has the shape {jnp.shape(leaf)} and the "
            f"sharding {sharding.spec} over explicit mesh axes, so that its shards do not hold "
            "whole blocks of this storage: shard other axes of the parameter or make the blocks "
            "smaller, as in momentax.storage.int8(64), leave it out with where=, use "
            "momentax.storage.bfloat16(), or make the mesh axes automatic"
        ) from error


def _is_encodable(leaf: Any, least: int) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 4 and np.size(leaf) >= least


# At update: run tx on the decoded velocity and encode the new one before the direction reads it.


def _update_encoded(
    tx: optax.GradientTransformationExtraArgs,
    updates: PyTree,
    state: StoredState,
    params: PyTree,
    extra_args: dict[str, Any],
) -> tuple[PyTree, Any]:
    """The updates of tx and its new state with the velocity encoded."""
    kept, structure = jax.tree.flatten(codecs.unpack(state.inner_state), is_leaf=is_encoded)
    dtypes = _dtypes_of_state(tx, updates if params is None else params, structure)
    inner = structure.unflatten(map(_decode, kept, dtypes))
    args = updates, inner, _without_numbers(trees.only_arrays(params))
    numbers: list[Any] = []

    def run(updates: PyTree, inner: PyTree, arrays: PyTree) -> tuple[PyTree, Any]:
        u, inner = tx.update(updates, inner, trees.with_others(arrays, params), **extra_args)
        numbers[:] = (leaf if _is_number(leaf) else None for leaf in jax.tree.leaves(u))
        return u, inner

    closed, (u, after) = jax.make_jaxpr(run, return_shape=True)(*args)
    _require_structure(inner, after)
    inputs = [arithmetic.own(leaf) for leaf in jax.tree.leaves(args)]
    given = inputs[len(jax.tree.leaves(updates)) :]  # The decoded state, then the parameters.
    first = len(jax.tree.leaves(u))  # Outputs are the updates, then the state.
    encoders = {
        first + i: partial(_encode_like, leaf, state, i)
        for i, leaf in enumerate(kept)
        if is_encoded(leaf)
    }
    outputs = evaluate_and_encode(closed, inputs, encoders)
    for i, encode in encoders.items():
        if outputs[i] is given[i - first]:
            outputs[i] = kept[i - first]  # tx returned it unchanged: there was no gradient.
        elif not is_encoded(outputs[i]):
            outputs[i] = encode(outputs[i])  # It is another input or a constant.
    leaves = [x if number is None else number for x, number in zip(outputs, numbers, strict=False)]
    u = jax.tree.unflatten(jax.tree.structure(u), leaves)
    return u, codecs.pack_like(structure.unflatten(outputs[first:]), state.inner_state)


def _is_number(leaf: Any) -> bool:
    return type(leaf) in (bool, int, float, complex)


def _without_numbers(params: PyTree) -> PyTree:
    """Return parameters with None in place of Python's numbers.

    Tracing would make arrays of them, and a module may need its numbers as they are.
    """
    return jax.tree.map(lambda leaf: None if _is_number(leaf) else leaf, params)


def _decode(leaf: Any, dtype: Any) -> Any:
    return leaf.decode().astype(dtype) if is_encoded(leaf) else leaf


def _encode_like(old: EncodedArray, state: StoredState, number: int, x: jax.Array) -> EncodedArray:
    """Encode x like `old`, with random bits for this step and the leaf of this number."""
    if state.seed is None:
        return codecs.encode(x, old)
    key = hash_key(state.seed, state.wrapper_count, np.uint32(number))
    return codecs.encode(x, old, random_bits(key, x.shape))


def _dtypes_of_state(
    tx: optax.GradientTransformationExtraArgs, params: PyTree, structure: Any
) -> list[Any]:
    """The dtypes in which tx keeps its state: float32 if the parameters are in float32.

    Where the gradients stand in for the parameters and some are None, the
    structure of the state may differ. Then float32 is assumed.
    """
    float32 = [jnp.float32] * structure.num_leaves
    params = trees.only_arrays(params)
    if all(jnp.result_type(leaf) == jnp.float32 for leaf in jax.tree.leaves(params)):
        return float32
    try:
        state = jax.eval_shape(tx.init, params)
    except TypeError:  # At init, parameters that have no gradient may have been left out.
        return float32
    if jax.tree.structure(state) != structure:
        return float32
    return [leaf.dtype for leaf in jax.tree.leaves(state)]


def _require_structure(before: Any, after: Any) -> None:
    """Refuse a transformation that changes the structure of its state."""
    if jax.tree.structure(before) == jax.tree.structure(after):
        return
    found = trees.first_difference(after, before, compare_leaves=lambda *_: None)
    change = f"{found.expected} becomes {found.given}" if found else "its nodes have other data"
    place = trees.path_name(found.path if found else ())
    raise ValueError(
        f"tx changes the structure of its state at {place}: {change}; stored needs a state whose "
        "structure does not change"
    )


# The warning: β is measured on one entry of each parameter.


def _warn_if_beta_is_too_large(
    tx: optax.GradientTransformationExtraArgs, params: PyTree, storage: Storage
) -> None:
    if storage.limit >= 1:
        return
    try:
        with jax.ensure_compile_time_eval():
            shares = _shares_kept(tx, params)
    except Exception:  # tx may need more than gradients, and init must not fail for a warning.
        return
    if any(map(arguments.is_traced, shares)):
        return
    β = max(map(float, shares), default=0.0)
    if storage.limit + 1e-6 < β < 1:  # In float32 β may differ from the given number.
        warn(f"beta = {β:.7g} is too large for this storage: {storage.advice}")


def _single_entries(params: PyTree, least: int, mask: PyTree) -> PyTree:
    """One entry of each parameter whose velocity is encoded; the others are masked."""

    def reduce(leaf: Any, selected: bool = True) -> Any:
        if trees.is_array(leaf) and selected and _is_encodable(leaf, least):
            return jnp.zeros((1,) * jnp.ndim(leaf), jnp.result_type(leaf))
        return optax.MaskedNode()

    return jax.tree.map(reduce, params, *(() if mask is None else (mask,)))


def _shares_kept(tx: optax.GradientTransformationExtraArgs, params: PyTree) -> list[Any]:
    """The share of a velocity of ones that a step without a gradient keeps.

    It is measured at the first step and at a late one, since β may follow a schedule.
    """
    state, shares = _velocity.fill_velocities(tx.init(params), 1.0), []
    for count in (0, 10**6):
        late = jax.tree.map(
            lambda leaf, count=count: leaf + count if leaf.dtype == jnp.int32 else leaf, state
        )
        _, after = tx.update(params, late, params)
        shares += [jnp.max(leaf) for leaf in jax.tree.leaves(_velocity.velocities(after))]
    return shares
