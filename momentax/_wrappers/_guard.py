"""A guard around any transformation: steps that would do harm are skipped to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, codecs, hyperparameters, trees, xla
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree, Scalar, Schedule
from momentax._state._velocity import describe_paths, limit_velocities, velocities
from momentax._wrappers import _spike
from momentax._wrappers._failures import MESSAGE, GuardState, SkippedStepError
from momentax._wrappers._finite import (
    describe_not_finite,
    is_finite,
    require_gradients,
    with_zeros,
)
from momentax._wrappers._loss import loss_value


class _Options(NamedTuple):
    """The checked arguments of `guard`; each limit is a function of the count, or None."""

    on_nonfinite: str
    max_gradient_norm: Schedule | None
    spike: Schedule | None
    max_velocity_norm: Schedule | None


def guard(
    tx: optax.GradientTransformation,
    *,
    on_nonfinite: str = "skip",
    max_gradient_norm: Scalar | None = None,
    spike: Scalar | None = None,
    max_velocity_norm: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Skip the steps that would do harm: those that are not finite, too long, or spikes.

    A skipped step returns updates of zero and the state of tx to the bit, with its counts and
    schedules, as if update had not been called. The updates are -0.0, so that
    `optax.apply_updates` keeps parameters to the bit too. The state counts the skipped steps by
    their reason.

    Not finite. A step is skipped if an entry is infinite or NaN in the gradient, in another array
    that update is given (`value`, `prev_grad`, ...), in the updates, or in the new state. So an
    overflow inside of a method is kept out as well. Only numbers of the state that are infinite
    at first, such as the best loss so far, may stay so.

        on_nonfinite="skip":     the step is skipped
        on_nonfinite="zero":     entries of the gradient (and of grad=) that are not finite become
                                 0, and the step is made unless something else is not finite
        on_nonfinite="raise":    the step is skipped, and a FloatingPointError is raised

    Outside of jit, update itself raises. A function under `jax.jit` cannot. There `train_step`
    raises after the call that contained the step; in loops of your own call
    `momentax.diagnostics.require_finite(state)` as often as you like, or wrap the function in
    `jax.experimental.checkify.checkify`, for which the guard has a check.

    Too long. A step is skipped if ‖g_t‖ > max_gradient_norm, over all leaves. To shorten the
    gradient instead, chain `optax.clip_by_global_norm` before the method.

    Spikes. The gradient norm is tested, and if update is given `value=loss`, as `train_step` does,
    the loss as well. Let x be one of the two, and m_t and s_t its mean and its standard deviation
    over the last 128 steps made before step t. A step is skipped if, for one of the two,

        x_t > m_t + spike · max(s_t, |m_t| / 100)

    No step is a spike before 16 values are known, or while all of them are 0. Skipped values do
    not enter m and s, and neither do gradients of 0. After 10 spikes without a step in between,
    the level is taken to have changed: the next step is made, and the statistics start again
    with it.

    Velocity. After a step, a velocity longer than max_velocity_norm is scaled to that length. The
    norm is over all leaves and all velocities in the state together, each in its own units, as
    `momentax.velocity` returns them, and leaves without a gradient are scaled with the others.
    The update of that step is not changed.

    Put the guard outermost: what is outside of it, such as a schedule or weight decay of `sgd`,
    goes on at a skipped step. Around `stored`, a NaN costs none of the other entries of its block.
    Around `optax.MultiSteps`, a gradient that is not finite is left out of the sum. Inside of it,
    a guard sees only the sum of gradients, in which MultiSteps keeps a NaN for ever, so that every
    later step is skipped; to test the sum as well, use a guard inside and another one outside.

    Args:
        tx: The transformation to wrap, a method or a complete optimizer.
        on_nonfinite: "skip", "zero" or "raise".
        max_gradient_norm: A number in (0, inf), in units of the gradient. None means no limit.
        spike: A number of standard deviations in (0, inf), such as 6. None means that no step is
            a spike.
        max_velocity_norm: A number in (0, inf), in units of the velocity. None means no limit.

    Returns:
        The updates of tx, in their shapes and dtypes. The state has the counts skipped_nonfinite,
        skipped_norm, skipped_spike and zeroed; a step counts once, by the first reason that
        holds. Every leaf of the state of tx keeps the dtype that it has at init.

    Raises:
        ValueError: on_nonfinite is another word, or a number lies outside of its interval; at
            init, the state has no velocity to limit; at update, gradients do not fit the
            parameters, tx changes the structure of its state, or `value` is no real scalar while
            spike is given.
        TypeError: tx is not a gradient transformation, or an argument is not a number; at update,
            a gradient is neither floating nor complex, or it is complex where its parameter is
            real or the other way around.
        FloatingPointError: With on_nonfinite="raise", at an update outside of jit that is not
            finite; a subclass of it, with the step's params and state in `train_step`.

    Example:
        >>> tx = momentax.guard(momentax.sgd(0.1), spike=6.0)
        >>> state = tx.init(params)
        >>> updates, state = tx.update({"w": jnp.full(3, jnp.nan)}, state, params)
        >>> int(state.skipped_nonfinite)
        1

    Source:
        Skipping steps whose gradient is a spike: Chowdhery et al., PaLM: scaling language
        modeling with pathways, 2022, arXiv:2204.02311, who restart before a spike of the loss
        and skip batches.
    """
    arguments.require_transformation("tx", tx)
    options = _Options(
        arguments.as_option("on_nonfinite", on_nonfinite, ("skip", "zero", "raise")),
        _as_limit("max_gradient_norm", max_gradient_norm),
        _as_limit("spike", spike),
        _as_limit("max_velocity_norm", max_velocity_norm),
    )
    tx = optax.with_extra_args_support(tx)

    def init(params):
        inner = tx.init(params)
        if options.max_velocity_norm is not None and not velocities(inner):
            raise ValueError(f"max_velocity_norm needs a velocity, and {describe_paths({})}")
        failed = jnp.array(False) if options.on_nonfinite == "raise" else None
        nonfinite, norm, spike, zeroed = (jnp.zeros((), jnp.int32) for _ in range(4))
        recent, known, streak = _spike.no_history() if options.spike else (None, None, None)
        return GuardState(nonfinite, norm, spike, zeroed, failed, recent, known, streak, inner)

    def update(updates, state, params=None, **extra_args):
        return _update(tx, options, updates, state, params, extra_args)

    return transformation(init, update, GuardState)


def _as_limit(name: str, value: Any) -> Schedule | None:
    return None if value is None else hyperparameters.as_constant(name, value, "(0, inf)")


def _update(
    tx: optax.GradientTransformationExtraArgs,
    options: _Options,
    updates: PyTree,
    state: GuardState,
    params: PyTree,
    extra_args: dict[str, Any],
) -> tuple[PyTree, GuardState]:
    """Make the step or skip it, and count."""
    _require_same_options(state, options)
    require_gradients(updates, state.inner_state, params)
    has_zeros = jnp.array(False)
    if options.on_nonfinite == "zero":
        updates, extra_args, has_zeros = with_zeros(updates, extra_args)
    step = _Step(tx, updates, state.inner_state, params, extra_args)
    (u, inner), repeat = step.try_once()
    finite = is_finite(updates, *_others(updates, extra_args), u, *_new_parts(state, inner))
    made, counted = finite, {"skipped_nonfinite": ~finite}
    history = state.recent, state.known, state.streak
    if options.max_gradient_norm or options.spike:
        size = arithmetic.norm(updates)
        if options.max_gradient_norm:
            too_long = made & (size > options.max_gradient_norm(0))
            made, counted["skipped_norm"] = made & ~too_long, too_long
        if options.spike:
            loss = loss_value(extra_args["value"]) if _is_given("value", extra_args) else None
            spikes, history = _spike.judge(history, size, loss, options.spike(0), made)
            made, counted["skipped_spike"] = made & ~spikes, spikes
    counted["zeroed"] = made & has_zeros
    failed = state.failed
    if failed is not None:
        _raise_if_known(finite, updates, extra_args)
        failed = failed | ~finite

    def make() -> tuple[PyTree, Any]:
        u, new = repeat()
        limit = options.max_velocity_norm
        return u, new if limit is None else limit_velocities(new, limit(0))

    u, inner = xla.choose(made, make, lambda: (jax.tree.map(_nothing, u), state.inner_state))
    counts = {
        name: jnp.where(happened, optax.safe_increment(getattr(state, name)), getattr(state, name))
        for name, happened in counted.items()
    }
    recent, known, streak = history
    return u, state._replace(
        **counts, failed=failed, recent=recent, known=known, streak=streak, inner_state=inner
    )


def _require_same_options(state: GuardState, options: _Options) -> None:
    """Refuse the state of a guard that keeps other things."""
    can_raise, has_history = state.failed is not None, state.recent is not None
    if can_raise != (options.on_nonfinite == "raise") or has_history != bool(options.spike):
        own = f"{'with' if has_history else 'without'} spike=" + (
            ', with on_nonfinite="raise"' if can_raise else ""
        )
        raise TypeError(
            f"state must be that of a guard with the same options, got one of a guard {own}; start "
            "with tx.init(params), and give the new state the inner_state of the old one with "
            "new._replace(inner_state=old.inner_state)"
        )


class _Step(NamedTuple):
    """One update of the wrapped transformation, with what it is given."""

    tx: optax.GradientTransformationExtraArgs
    updates: PyTree
    inner: Any
    params: PyTree
    extra_args: dict[str, Any]

    def run(self) -> tuple[PyTree, Any]:
        u, new = self.tx.update(self.updates, self.inner, self.params, **self.extra_args)
        _require_same_shapes(new, self.inner)
        return u, jax.tree.map(_in_type_of, new, self.inner)

    def try_once(self) -> tuple[tuple[PyTree, Any], Callable[[], tuple[PyTree, Any]]]:
        """Return the updates and the new state, and a function that returns them once more.

        Under jit, a step of which every entry is quickly computed is computed twice, once to be
        tested and once to be kept. That reads less memory than keeping what was tested, and the
        new state may be written over the old one. A step with products of matrices, loops or
        side effects is computed once.
        """
        leaves = jax.tree.leaves((self.updates, self.inner, self.extra_args))
        if not any(map(arguments.is_traced, leaves)):
            result = self.run()
            return result, lambda: result
        closed, shapes = jax.make_jaxpr(self.run, return_shape=True)()
        structure = jax.tree.structure(shapes)

        def run() -> tuple[PyTree, Any]:
            return jax.tree.unflatten(structure, xla.evaluate(closed))

        result = run()
        return result, run if xla.is_elementwise(closed.jaxpr) else lambda: result


def _require_same_shapes(new: Any, old: Any) -> None:
    """Refuse a new state of tx whose structure or shapes differ from those of the old one."""
    if found := trees.first_difference(new, old, compare_leaves=_shape_difference):
        raise ValueError(
            f"tx changes its state at {trees.path_name(found.path)}: {found.expected} becomes "
            f"{found.given}; guard needs a state whose structure and shapes do not change"
        )


def _shape_difference(new: Any, old: Any, path: Any) -> trees.Difference | None:
    if jnp.shape(new) == jnp.shape(old):
        return None
    return trees.Difference(path, f"shape {jnp.shape(new)}", f"shape {jnp.shape(old)}", ValueError)


def _in_type_of(new: Any, old: Any) -> Any:
    """Return a leaf in the type of another; `optax.trace` takes the dtype of the gradient."""
    types = [(aval.dtype, aval.weak_type) for aval in map(jax.typeof, (new, old))]
    return new if types[0] == types[1] else arithmetic.cast_like(new, old)


def _others(updates: PyTree, extra_args: dict[str, Any]) -> list[Any]:
    """Return the arrays among the extra arguments, without the gradient itself."""
    known = set(map(id, jax.tree.leaves(updates)))
    return [
        leaf
        for leaf in jax.tree.leaves(extra_args)
        if arguments.is_a(jnp.inexact, leaf) and id(leaf) not in known
    ]


def _new_parts(state: GuardState, inner: Any) -> list[Any]:
    """Return the leaves of the new state, with 0 for a number that was not finite before."""
    old, new = (jax.tree.leaves(codecs.decode(each)) for each in (state.inner_state, inner))
    return [
        jnp.where(jnp.isfinite(before), leaf, 0)
        if not jnp.ndim(leaf) and arguments.is_a(jnp.inexact, leaf)
        else leaf
        for before, leaf in zip(old, new, strict=True)
    ]


def _is_given(name: str, extra_args: dict[str, Any]) -> bool:
    return extra_args.get(name) is not None


def _nothing(u: Any) -> Any:
    """Return what changes no bit of a parameter to which it is added: x + 0.0 is 0.0 for -0.0."""
    if not arguments.is_a(jnp.inexact, u):
        return jnp.zeros_like(u)
    return -jnp.zeros_like(u)


def _raise_if_known(finite: Any, updates: PyTree, extra_args: dict[str, Any]) -> None:
    """Raise an error for a step that is not finite, at once or under checkify."""
    if arguments.is_traced(finite):
        from jax.experimental import checkify  # It loads slowly.

        checkify.debug_check(finite, MESSAGE)
    elif not finite:
        raise SkippedStepError(
            f"{describe_not_finite(updates, extra_args)}; the step was not made, so that you can "
            'go on with the params and the state from before it, or give on_nonfinite="skip"'
        )
