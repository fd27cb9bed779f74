"""Steps of steps: after every few inner steps, an outer optimizer moves slow parameters."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees, xla
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._methods._linear import LinearState, linear
from momentax._state._reset import reset_velocity
from momentax._state._velocity import describe_paths, velocities
from momentax._wrappers._complete import as_optimizer, require_descent

_INNER_STATES = ("keep", "reset_velocity", "reset")


class OuterState(NamedTuple):
    """The state of an optimizer with outer steps.

    since: updates since the last outer step, a 0-d int32 array.
    slow: w, the slow parameters, shaped like the parameters, in float32 or wider.
    inner_state: the state of tx.
    outer_state: the state of the outer optimizer, made for the slow parameters.
    """

    since: Any
    slow: PyTree
    inner_state: Any
    outer_state: Any


class _Nesterov(optax.GradientTransformationExtraArgs):
    """The steps of `momentax.sgd(0.7, momentax.nesterov(0.9))`, and its name in signatures.

    This room cannot import `sgd`. The state of `optax.scale` is one that `jax.export` does not
    serialize, so that the learning rate is in the coefficients.
    """

    def __repr__(self) -> str:
        return "sgd(0.7, nesterov(0.9))"


def _default_outer(α: float, β: float) -> _Nesterov:
    init, update = linear(gradient_weight=-α, velocity_weight=-α * β, beta=β)
    reads = {"learning_rate": lambda _: α, "beta": lambda _: β}
    return _Nesterov(*transformation(init, update, LinearState, reads=reads))


_NESTEROV = _default_outer(0.7, 0.9)


class _Options(NamedTuple):
    """The checked arguments of `outer`."""

    tx: optax.GradientTransformationExtraArgs
    every: int
    outer: optax.GradientTransformationExtraArgs
    inner_state: str


def outer(
    tx: optax.GradientTransformation,
    every: int,
    outer: optax.GradientTransformation = _NESTEROV,
    *,
    inner_state: str = "keep",
) -> optax.GradientTransformationExtraArgs:
    """Move slow parameters w by an outer optimizer after every K steps of an inner optimizer.

        θ_t = θ_{t-1} + u_t                                 u_t from tx and the gradient at θ_{t-1}
        after t = K, 2K, ...:    Δ = w - θ_t                how far the last K steps have come
                                 w ← w + outer(Δ at w)      Δ takes the place of the gradient
                                 θ_t ← w

    The parameters are θ, where gradients are taken, and `eval_params` returns w. The outer
    optimizer sees Δ as a gradient at w and no other argument, and its schedules count outer steps.

        SNOO         outer=sgd(η, nesterov(μ)):      b ← μ b + Δ,    w ← w - η (Δ + μ b)
        DiLoCo       SNOO with AdamW as tx, on one worker
        Lookahead    outer=sgd(η, heavy_ball(0)):    w ← w + η (θ_t - w)
        SlowMo       outer=sgd(η, heavy_ball(μ)):    b ← μ b + Δ,    w ← w - η b

    Lookahead is `optax.lookahead` without its pairs of parameters. SlowMo divides Δ by the inner
    learning rate and multiplies w's step by it, which cancels while that rate is constant. With
    K = 1 and plain descent at a rate α as tx, Δ = α g, so that SNOO is
    `sgd(η α, nesterov(μ))`. With η = 1 and μ = 0 the updates are those of tx.

    On a quadratic of curvature λ, plain descent as tx gives Δ = (1 - q) (w - w*) with
    q = (1 - αλ)ᴷ: an outer optimizer runs on the curvature 1 - q. SNOO is stable there for
    η < 2 (1 + μ) / ((1 + 2μ) (1 - q)).

    The first outer step follows update K. The authors' class for SNOO tests its counter before
    raising it, so that its first outer step follows update 1 and the others 1 + K, 1 + 2K, ...:
    `tx.init(params)._replace(since=jnp.int32(K - 1))` starts like it.

    A gradient of None keeps its leaf as it is: θ, w and the outer velocity. Where an outer step
    finds no gradient, the leaf's next outer step covers both periods.

    `every` counts calls of update. Put `optax.MultiSteps` around this wrapper, where K counts the
    steps that are made. Inside, K would count gradients. A step that `guard` skips around
    this wrapper does not count.

    Args:
        tx: The inner optimizer, complete: its updates descend.
        every: K, the updates from one outer step to the next, at least 1.
        outer: The outer optimizer, complete: its updates descend.
        inner_state: What an outer step does to the state of tx. "keep": nothing, as SNOO, DiLoCo
            and `optax.lookahead` do. "reset_velocity": the velocities are set to zero, as by
            `momentax.reset_velocity`; schedules and second moments go on. "reset": the state
            starts again as tx.init(w), with its counts and schedules. Nothing of the old
            values survives a reset, not even a NaN.

    Returns:
        A complete optimizer, whose update needs the parameters. It keeps two arrays like the
        parameters, w and the velocity of the default outer optimizer, in float32 or wider.

    Raises:
        ValueError: every is below 1, inner_state is another word, tx or outer is a method or
            another transformation whose updates follow the gradient; at init, there is no
            velocity to reset; at update, params are missing, or trees do not fit each other.
        TypeError: tx or outer is not a gradient transformation, or every is not a whole number;
            at init, a parameter is neither floating nor complex.

    Example:
        >>> slow = momentax.sgd(0.7, momentax.nesterov(0.9))
        >>> tx = momentax.outer(momentax.sgd(0.1), every=30, outer=slow)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)
        >>> averaged = momentax.eval_params(params, state)

    Source:
        Kallusky, Rao, Nandavar and Shi, SNOO: step-K Nesterov outer optimizer, 2025,
        arXiv:2510.15830; Zhang, Lucas, Hinton and Ba, Lookahead optimizer: k steps forward,
        1 step back, 2019, arXiv:1907.08610; Wang, Tantia, Ballas and Rabbat, SlowMo: improving
        communication-efficient distributed SGD with slow momentum, 2020, arXiv:1910.00643;
        Douillard et al., DiLoCo: distributed low-communication training of language models,
        2023, arXiv:2311.08105.
    """
    options = _Options(
        optax.with_extra_args_support(as_optimizer("tx", tx, may_ascend=True)),
        arguments.as_count("every", every),
        optax.with_extra_args_support(as_optimizer("outer", outer)),
        arguments.as_option("inner_state", inner_state, _INNER_STATES),
    )

    def init(params):
        return _init(options, params)

    def update(updates, state, params=None, **extra_args):
        return _update(options, updates, state, params, extra_args)

    return transformation(init, update, OuterState)


def _copy(x: Any) -> jax.Array:
    return jnp.array(x, arithmetic.compute_dtype(x))


def _init(options: _Options, params: PyTree) -> OuterState:
    arrays = trees.only_arrays(params)
    trees.require_inexact(arrays)
    # A copy, since one buffer cannot be donated both as parameters and as a part of the state.
    slow = jax.tree.map(partial(trees.computed, _copy), arrays)
    require_descent("tx", options.tx, params, may_ascend=True)
    require_descent("outer", options.outer, slow)
    inner = options.tx.init(params)
    if options.inner_state == "reset_velocity" and not velocities(inner):
        raise ValueError(f'inner_state="reset_velocity" needs a velocity, and {describe_paths({})}')
    return OuterState(jnp.zeros((), jnp.int32), slow, inner, options.outer.init(slow))


def _update(
    options: _Options,
    updates: PyTree,
    state: OuterState,
    params: PyTree,
    extra_args: dict[str, Any],
) -> tuple[PyTree, OuterState]:
    """Make an inner step, and an outer step after every K of them."""
    since, slow, inner, outer_state = state
    remedy = "pass gradients of the parameters that init was given"
    trees.require_fit("the gradient", updates, "the slow parameter", slow, remedy)
    if params is None and jax.tree.leaves(updates):
        raise ValueError("outer needs the parameters: call update(grads, state, params)")
    trees.require_params(updates, trees.absent_like(slow, params))
    u, inner = options.tx.update(updates, inner, params, **extra_args)
    since: Any = optax.safe_increment(since)
    fires = since >= options.every if options.every > 1 else True
    moved = _Moved(options, updates, u, params, slow)

    resets = options.inner_state != "keep"
    # Updates without a gradient may be Python numbers, of which lax.cond would make arrays.
    kept = moved.with_gradient(u), slow, outer_state, inner if resets else None

    def outer_step() -> tuple[Any, ...]:
        jump, w, new = moved.outer_step(outer_state)
        return jump, w, new, _restarted(options, inner, w, params) if resets else None

    chosen, slow, outer_state, restarted = xla.choose(fires, outer_step, lambda: kept)
    u = jax.tree.map(lambda new, u: u if new is None else new, chosen, u, is_leaf=trees.is_none)
    inner = restarted if resets else inner
    since = jnp.where(fires, 0, since)
    return u, OuterState(since, slow, inner, outer_state)


class _Moved(NamedTuple):
    """An inner step: gradients, updates, the parameters before it, and the slow parameters."""

    options: _Options
    updates: PyTree
    u: PyTree
    params: PyTree
    slow: PyTree

    def with_gradient(self, tree: PyTree) -> PyTree:
        """Return a tree like the slow parameters with None where there is no gradient."""
        return jax.tree.map(
            lambda g, leaf: None if g is None else leaf, self.updates, tree, is_leaf=trees.is_none
        )

    def outer_step(self, outer_state: Any) -> tuple[PyTree, PyTree, Any]:
        """Return the update from the parameters to w, the new w and the new outer state."""
        w = self.with_gradient(self.slow)
        before = self.with_gradient(trees.masked_like(self.slow, self.params))
        # The period has started at w in the precision of the parameters.
        start, u = _rounded(w, before), self.with_gradient(self.u)
        Δ = arithmetic.combine((1.0, start), (-1.0, before), (-1.0, u), like=w)
        U, new = self.options.outer.update(Δ, outer_state, self.slow)
        _require_same_types("outer", new, outer_state)
        w = arithmetic.combine((1.0, self.slow), (1.0, self.with_gradient(U)), like=self.slow)
        end = _rounded(self.with_gradient(w), before)
        return arithmetic.combine((1.0, end), (-1.0, before), like=u), w, new


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


def _restarted(options: _Options, inner: Any, w: PyTree, params: PyTree) -> Any:
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
            f"{found.given}; outer needs a state whose structure, shapes and dtypes do not change, "
            "and Optax's drop a velocity where a gradient is None"
        )


def _difference(new: Any, old: Any, path: Any) -> trees.Difference | None:
    given, expected = (f"{jnp.result_type(x)} of shape {jnp.shape(x)}" for x in (new, old))
    return None if given == expected else trees.Difference(path, given, expected, ValueError)
