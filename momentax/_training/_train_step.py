"""A training step in one program: gradient, update and apply, in the buffers that it was given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental.shard_alike import shard_alike

from momentax._core import arguments, arithmetic, trees, xla
from momentax._core.typing import PyTree
from momentax._training._donation import KEEP, Donating, change, kind, named


def train_step(
    loss: Callable[..., Any],
    tx: optax.GradientTransformation,
    *,
    donate: bool = True,
    has_aux: bool = False,
    steps_per_call: int = 1,
    accumulation: int = 1,
) -> jax.stages.Wrapped:
    """Make one jitted function of a step: gradient, update and apply in one program.

        step(params, state, *batch, **extra) -> params, state, value

        g_t = ∇f(θ_{t-1}),    u_t, state = tx.update(g_t, state, θ_{t-1}),    θ_t = θ_{t-1} + u_t

    Make it once, before the loop, and call it with the same types of arguments:
    each new one is compiled.

        step = momentax.train_step(loss, tx)
        for x, y in data:
            params, state, value = step(params, state, x, y)

    The buffers of params and state are donated: new values are written over the
    old, and JAX raises where an old array is used again ("Array has been
    deleted"), here and elsewhere. Keep `jax.tree.map(jnp.copy, params)` where you need them, or
    give donate=False, which costs several times the time on large parameters.
    An array that stands at two places, such as a state that starts as the
    parameters themselves, or params that are in the batch too, is copied first.
    Types, structure and sharding of params and state stay as they are. Where
    `tx` changes those of its state, that buffer cannot be reused, and a
    UserWarning names it.

    With steps_per_call=k a call makes k steps in one `lax.scan`, which spares
    what a call costs: batch leaves and values have a leading axis of k. With
    accumulation=m the gradient of a step is the mean over m parts of its batch,
    summed in float32 or wider, and so is the value: batch leaves have a leading
    axis of m, (k, m, ...) with both. A loss without a batch needs no axis.

    `tx.update` also gets value=f(θ_{t-1}), grad=g_t and value_fn=f on this
    batch, as Polyak steps and line searches want, and all keyword arguments of
    the call, the same for each of its steps: these reach `tx` alone, and the loss
    gets its batch by position. For complex parameters g is the
    conjugate of what `jax.grad` returns, so that -g descends. For
    `optax.lookahead` params are its LookaheadParams, and loss takes the fast.

    Flax NNX. What a forward pass changes, such as batch statistics, returns by
    has_aux and goes into the next call, so that it needs steps_per_call=1:

        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params, rest, x, y):
            model = nnx.merge(graph, params, rest)
            value = error(model(x), y)
            return value, nnx.split(model, nnx.Param, ...)[2]

        step = momentax.train_step(loss, tx, has_aux=True)
        params, state, (value, rest) = step(params, state, rest, x, y)

    Flax Linen:

        def loss(params, stats, x, y):
            variables = {"params": params, "batch_stats": stats}
            out, changed = model.apply(variables, x, mutable="batch_stats")
            return error(out, y), changed["batch_stats"]

    Args:
        loss: f, from the parameters and a batch to a real scalar; with has_aux to
            a pair of it and anything else.
        tx: Any Optax transformation from gradients to updates that ignores extra
            arguments which it does not know, such as `sgd`.
        donate: Whether params and state are written over. Give False where
            `jax.vmap` maps something else than these, such as a learning rate.
        has_aux: Whether loss returns (value, aux).
        steps_per_call: k, at least 1.
        accumulation: m, at least 1.

    Returns:
        A function as `jax.jit` makes them, with `lower`, `trace` and
        `eval_shape`. It takes params and state as of `tx.init`, then the batch,
        any pytrees of arrays, random keys included; and returns both anew, and
        the value, or (value, aux) with has_aux. The value is f(θ_{t-1}), in the
        loss's dtype, of shape () or (k,); aux has the leading axes of the batch.

    Raises:
        ValueError: steps_per_call or accumulation is below 1; at the first call,
            a leaf of the batch lacks the leading axes, or the loss returns no
            real scalar.
        TypeError: An argument is of another kind; at the first call, a parameter
            is neither floating nor complex, the loss returns a tuple without
            has_aux or no pair with it, or `tx` changes the types of its state
            while steps_per_call is not 1.
        RuntimeError: At a call, an array was donated to an earlier one.
    """
    if not callable(loss):
        raise TypeError(
            "loss must be a function from params and a batch to a scalar, got "
            f"{arguments.describe(loss)}"
        )
    arguments.require_transformation("tx", tx)
    arguments.as_flag("donate", donate)
    arguments.as_flag("has_aux", has_aux)
    k = arguments.as_count("steps_per_call", steps_per_call)
    m = arguments.as_count("accumulation", accumulation)
    optimizer = optax.with_extra_args_support(tx)

    def value_and_aux(params: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree]:
        # A copy of its containers: Flax writes to variables of this trace only.
        batch = jax.tree.map(lambda leaf: leaf, batch)
        return _value_and_aux(loss(params, *batch), has_aux)

    def parts(visit: Callable[[Any, PyTree], Any], total: Any, batch: PyTree) -> Any:
        return jax.lax.scan(visit, total, batch, length=m)

    def gradient(
        params: PyTree, batch: PyTree, alone: bool
    ) -> tuple[tuple[jax.Array, PyTree], PyTree]:
        """((value, aux), g) on one batch."""
        if m == 1:
            return xla.value_and_grad_before_writes(
                lambda at: value_and_aux(at, batch), params, alone
            )
        differentiate = jax.value_and_grad(value_and_aux, has_aux=True)

        def add(total: PyTree, part: PyTree) -> tuple[PyTree, Any]:
            outcome, g = differentiate(params, part)
            return arithmetic.combine((1.0, total), (1.0, g), like=total), outcome

        total, (values, aux) = parts(add, arithmetic.zeros_like(params), batch)
        return (_mean(values), aux), arithmetic.combine((1 / m, total), like=params)

    def value(params: PyTree, batch: PyTree) -> jax.Array:
        if m == 1:
            return value_and_aux(params, batch)[0]
        return _mean(parts(lambda _, part: (None, value_and_aux(params, part)[0]), None, batch)[1])

    def step(carry: Any, batch: PyTree, extra: dict[str, Any], alone: bool) -> tuple[Any, Any]:
        params, state = carry
        outcome, g = gradient(_differentiated(params), batch, alone)
        g = jax.tree.map(jnp.conj, g)  # For complex parameters JAX gives the conjugate.
        known = {"value": outcome[0], "grad": g, "value_fn": lambda at: value(at, batch)}
        u, state = optimizer.update(g, state, params, **(known | extra))
        after = _as_weak(carry, (_applied(params, u), state))
        return after, outcome if has_aux else outcome[0]

    def program(alone: bool, params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
        _require_differentiable(params)
        _require_leading_axes(batch, steps_per_call=k, accumulation=m)
        carry = params, state
        if k == 1:
            after, outcome = step(carry, batch, extra, alone)
        else:

            def one(before: Any, part: PyTree) -> Any:
                after, outcome = step(before, part, extra, alone)
                if changed := change(before, after):
                    raise TypeError(f"{changed}, which steps_per_call={k} cannot carry on; {KEEP}")
                return after, outcome

            after, outcome = jax.lax.scan(one, carry, batch, length=k)
        return *_sharded_as(carry, after), outcome

    return Donating(program) if donate else jax.jit(named(partial(program, False)))


def _value_and_aux(returned: Any, has_aux: bool) -> tuple[jax.Array, PyTree]:
    """What a loss returned, if it is one real floating scalar, with aux where it should be."""
    if has_aux:
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                "with has_aux=True loss must return a pair (value, aux), got "
                f"{_described(returned)}"
            )
        value, aux = returned
    else:
        value, aux = returned, None
        if isinstance(returned, tuple):
            raise TypeError(
                f"loss must return one scalar, got {_described(returned)}; to return more beside "
                "it, as a pair (value, aux), give has_aux=True"
            )
    if not jax.tree_util.all_leaves([value]) or value is None:
        raise ValueError(f"loss must return one scalar, got {_described(value)}")
    if shape := jnp.shape(value):
        raise ValueError(
            f"loss must return one scalar, got an array of shape {shape}; return its mean or sum"
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(f"loss must return one real scalar, got {jnp.result_type(value)}")
    return jnp.asarray(value), aux


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, jax.Array):
        return f"an array of shape {value.shape}"
    return arguments.describe(value)


def _mean(values: jax.Array) -> jax.Array:
    return jnp.mean(values, dtype=arithmetic.compute_dtype(values)).astype(values.dtype)


def _applied(params: PyTree, updates: PyTree) -> PyTree:
    """Apply updates as Optax does; a parameter whose update is None stays as it is."""

    def apply(leaf: Any, u: Any) -> Any:
        return leaf if u is None else optax.apply_updates(leaf, u)

    return jax.tree.map(apply, params, updates, is_leaf=trees.is_none)


def _differentiated(params: PyTree) -> PyTree:
    return params.fast if isinstance(params, optax.LookaheadParams) else params


def _require_differentiable(params: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise TypeError(
                f"the parameter at {trees.path_name(path)} has dtype {leaf.dtype}, and only "
                "floating or complex ones have a gradient; keep it out of params and pass it with "
                "the batch, as nnx.split(model, nnx.Param, ...) divides a Flax model"
            )


def _require_leading_axes(batch: PyTree, **lengths: int) -> None:
    lengths = {name: length for name, length in lengths.items() if length > 1}
    axes = tuple(lengths.values())
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if leaf.shape[: len(axes)] != axes:
            asked = " and ".join(f"{name}={length}" for name, length in lengths.items())
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} has shape {leaf.shape}, and {asked} needs "
                f"leading axes of {axes}; stack as many batches with jnp.stack, divide one with "
                f"x.reshape({(*axes, -1)} + x.shape[1:]), or repeat what is the same for all with "
                f"jnp.broadcast_to(x, {axes} + x.shape)"
            )


def _sharded_as(before: PyTree, after: PyTree) -> PyTree:
    """New values in the sharding of the old, which the compiler else may choose anew."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after
    return jax.tree.map(
        lambda old, new: shard_alike(old, new)[1] if old.shape == new.shape else new, before, after
    )


def _as_weak(before: PyTree, after: PyTree) -> PyTree:
    """New values as weakly typed as the old, so that the next call finds its program."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after

    def typed(old: jax.Array, new: Any) -> Any:
        if kind(old) != kind(new) or old.weak_type == jax.typeof(new).weak_type:
            return new
        return arithmetic.cast_like(new, old)

    return jax.tree.map(typed, before, after)
