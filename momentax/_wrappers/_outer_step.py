"""One update of `outer`: an inner step, and an outer step where a period ends."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.typing import PyTree
from momentax._state._reset import reset_velocity
from momentax._state._velocity import velocities
from momentax._wrappers import _fragments
from momentax._wrappers._workers import Workers, as_participating


class OuterState(NamedTuple):
    """The state of an optimizer with outer steps.

    With several workers, inner_state and residual are those of one worker, and the other fields
    are equal on all of them.

    since: updates since the last outer step, a 0-d int32 array. With fragments, updates since the
        last outer step of the last fragment.
    slow: w, the slow parameters, shaped like the parameters, in float32 or wider.
    inner_state: the state of tx.
    outer_state: the state of the outer optimizer, made for the slow parameters. With fragments, a
        tuple of one state for each.
    residual: what the codes of a compression have left out so far, shaped like the slow
        parameters; None without compression.
    """

    since: Any
    slow: PyTree
    inner_state: Any
    outer_state: Any
    residual: Any = None


class Options(NamedTuple):
    """The checked arguments of `outer`."""

    tx: optax.GradientTransformationExtraArgs
    every: int
    outer: optax.GradientTransformationExtraArgs
    inner_state: str
    workers: Workers
    fragments: Any

    @property
    def fragment_count(self) -> int:
        return _fragments.count_fragments(self.fragments)

    def parts_of(self, tree: PyTree) -> list[Any]:
        """Return a function for each fragment, from a tree like this one to its leaves of it."""
        if self.fragment_count == 1:
            return [lambda tree: tree]
        numbers = _fragments.number_leaves(self.fragments, tree)
        return [partial(_fragments.select, numbers, i) for i in range(self.fragment_count)]


def update_with_outer_steps(
    options: Options,
    updates: PyTree,
    state: OuterState,
    params: PyTree,
    participating: Any,
    extra_args: dict[str, Any],
) -> tuple[PyTree, OuterState]:
    """Make an inner step, and an outer step of each fragment after every K of them."""
    since, slow, inner, outer_states, residual = state
    takes_part = as_participating(participating)
    if participating is not None:
        if not options.workers.axes:
            raise ValueError(
                "participating says whether one of several workers takes part in a round, and "
                'outer has one worker: name the mapped axis of the workers, as in axis="workers"'
            )
        extra_args = {**extra_args, "participating": participating}  # For an `outer` inside.
    options.workers.require_mapped()
    remedy = "pass gradients of the parameters that init was given"
    trees.require_fit("the gradient", updates, "the slow parameter", slow, remedy)
    if params is None and jax.tree.leaves(updates):
        raise ValueError("outer needs the parameters: call update(grads, state, params)")
    trees.require_params(updates, trees.absent_like(slow, params))
    u, inner = options.tx.update(updates, inner, params, **extra_args)
    since: Any = optax.safe_increment(since)
    count = options.workers.largest(since)

    parts = options.parts_of(slow)
    single = len(parts) == 1
    arrays, new_states = trees.masked_like(slow, params), []
    for i, part in enumerate(parts):
        lost = None if residual is None else part(residual)
        own = _Fragment(options, takes_part, part(updates), part(u), part(arrays), part(slow), lost)
        kept = own.kept(outer_states if single else outer_states[i], inner)
        fires = _fires(count, (i + 1) * options.every // len(parts), options.every)
        chosen = xla.choose(fires, partial(own.outer_step, kept, params), lambda kept=kept: kept)
        u = _fragments.merge(_where_given(chosen.u, own.u), u)
        slow, residual = (
            _fragments.merge(new, old)
            for new, old in ((chosen.slow, slow), (chosen.residual, residual))
        )
        new_states.append(chosen.outer_state)
        inner = inner if chosen.inner_state is None else chosen.inner_state
    since = jnp.where(_fires(count, options.every, options.every), 0, since)
    outer_state = new_states[0] if single else tuple(new_states)
    return u, OuterState(since, slow, inner, outer_state, residual)


def _fires(count: Any, turn: int, every: int) -> Any:
    """Return whether a fragment makes its outer step after so many updates of a period."""
    if every == 1:
        return True
    return count >= turn if turn == every else count == turn


class _Chosen(NamedTuple):
    """What an outer step may change; inner_state is None where it does not."""

    u: PyTree
    slow: PyTree
    outer_state: Any
    inner_state: Any
    residual: PyTree


class _Fragment(NamedTuple):
    """The leaves of a fragment: gradients, updates, parameters before them, slow parameters."""

    options: Options
    takes_part: jax.Array | None
    updates: PyTree
    u: PyTree
    params: PyTree
    slow: PyTree
    residual: PyTree

    def with_gradient(self, tree: PyTree) -> PyTree:
        """Return a tree like the slow parameters with None where there is no gradient."""
        return jax.tree.map(
            lambda g, leaf: None if g is None else leaf, self.updates, tree, is_leaf=trees.is_none
        )

    def kept(self, outer_state: Any, inner: Any) -> _Chosen:
        """Return what there is without an outer step."""
        # Updates without a gradient may be Python numbers, of which lax.cond would make arrays.
        u, residual = self.with_gradient(self.u), self.residual
        if self.options.workers.axes:
            u = jax.tree.map(_varying_like, u, self.with_gradient(self.params))
            if residual is not None:
                lost = jax.tree.map(_varying_like, self.with_gradient(residual), u)
                residual = _where_given(lost, residual)
        resets = self.options.inner_state != "keep"
        return _Chosen(u, self.slow, outer_state, inner if resets else None, residual)

    def outer_step(self, kept: _Chosen, params: PyTree) -> _Chosen:
        """Make an outer step, after which the parameters are the new slow ones."""
        w = self.with_gradient(self.slow)
        before = self.with_gradient(self.params)
        # The period has started at w in the precision of the parameters.
        start, u = _rounded(w, before), self.with_gradient(self.u)
        Δ = arithmetic.combine((1.0, start), (-1.0, before), (-1.0, u), like=w)
        residual, found = kept.residual, None
        if self.options.workers.axes:
            lost = None if residual is None else self.with_gradient(residual)
            Δ, lost, found = self.options.workers.mean(Δ, lost, self.takes_part)
            residual = residual if lost is None else _where_given(lost, residual)
        U, new = self.options.outer.update(Δ, kept.outer_state, self.slow)
        _require_same_types("outer", new, kept.outer_state)
        w = arithmetic.combine((1.0, self.slow), (1.0, self.with_gradient(U)), like=self.slow)
        if found is not None:
            w, new = _where(found, (w, new), (self.slow, kept.outer_state))
        end = _rounded(self.with_gradient(w), before)
        jump = arithmetic.combine((1.0, end), (-1.0, before), like=u)
        inner = kept.inner_state
        inner = None if inner is None else _restarted(self.options, inner, w, params)
        chosen = _Chosen(jump, w, new, inner, residual)
        return jax.tree.map(_varying_like, chosen, kept) if self.options.workers.axes else chosen


def _where_given(new: PyTree, old: PyTree) -> PyTree:
    """Return a tree with the leaves of another one in the places of None."""
    return jax.tree.map(
        lambda new, old: old if new is None else new, new, old, is_leaf=trees.is_none
    )


def _where(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def _varying_like(x: Any, like: Any) -> Any:
    """Return an array whose type says that it differs between devices if that of another does.

    The branches of `jax.lax.cond` must return the same types under `jax.shard_map`.
    """
    return jnp.where(False, like.astype(x.dtype), x)


def _rounded(slow: PyTree, params: PyTree) -> PyTree:
    """Return slow parameters in the precision of the parameters, and in their own dtypes.

    XLA may leave out a conversion to bfloat16 and back, and does not leave this out.
    """

    def round_to(w: jax.Array, x: Any) -> jax.Array:
        if (dtype := jnp.result_type(x)) == w.dtype:
            return w
        info = jnp.finfo(dtype)
        return jax.lax.reduce_precision(w, info.nexp, info.nmant)

    return jax.tree.map(round_to, slow, params)


def _restarted(options: Options, inner: Any, w: PyTree, params: PyTree) -> Any:
    """Return the inner state as an outer step leaves it that resets a part of it."""
    if options.inner_state == "reset_velocity":
        new = inner
        for path in velocities(inner):
            new = reset_velocity(new, path=path)
    else:
        at = jax.tree.map(
            lambda leaf, x: leaf if trees.is_absent(leaf) else leaf.astype(jnp.result_type(x)),
            w,
            params,
            is_leaf=trees.is_absent,
        )
        new = options.tx.init(at)
    _require_same_types("tx", new, inner)
    return jax.tree.map(lambda new, old: arithmetic.cast_like(new, old), new, inner)


def _require_same_types(name: str, new: Any, old: Any) -> None:
    """Refuse a new state whose structure, shapes or dtypes differ from those of the old one."""
    if found := trees.first_difference(new, old, compare_leaves=_difference):
        raise ValueError(
            f"{name} changes its state at {trees.path_name(found.path)}: {found.expected} becomes "
            f"{found.given}; outer needs a state whose structure, shapes and dtypes do not change. "
            "Some transformations of Optax drop a velocity where a gradient is None"
        )


def _difference(new: Any, old: Any, path: Any) -> trees.Difference | None:
    given, expected = (f"{jnp.result_type(x)} of shape {jnp.shape(x)}" for x in (new, old))
    return None if given == expected else trees.Difference(path, given, expected, ValueError)
