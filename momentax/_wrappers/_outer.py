"""Steps of steps: after every few inner steps, an outer optimizer moves slow parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, codecs, trees
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._methods._linear import LinearState, linear
from momentax._state._velocity import describe_paths, velocities
from momentax._wrappers import _fragments
from momentax._wrappers._complete import as_optimizer, require_descent
from momentax._wrappers._outer_step import Options, OuterState, update_with_outer_steps
from momentax._wrappers._workers import Workers, as_axes

_INNER_STATES = ("keep", "reset_velocity", "reset")


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


def outer(
    tx: optax.GradientTransformation,
    every: int,
    outer: optax.GradientTransformation = _NESTEROV,
    *,
    inner_state: str = "keep",
    axis: str | tuple[str, ...] | None = None,
    fragments: int | PyTree = 1,
    compression: codecs.Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Move slow parameters w by an outer optimizer after every K steps of an inner optimizer.

        θ_t = θ_{t-1} + u_t                                 u_t from tx and the gradient at θ_{t-1}
        after t = K, 2K, ...:    Δ = w - θ_t                minus the sum of the last K steps
                                 w ← w + outer(Δ at w)      Δ takes the place of the gradient
                                 θ_t ← w

    The parameters are θ, where gradients are taken, and `eval_params` returns w. The outer
    optimizer sees Δ as a gradient at w and no other argument, and its schedules count outer steps.

        SNOO         outer=sgd(η, nesterov(μ)):      b ← μ b + Δ,    w ← w - η (Δ + μ b)
        DiLoCo       SNOO with AdamW as tx, on several workers
        Lookahead    outer=sgd(η, heavy_ball(0)):    w ← w + η (θ_t - w)
        SlowMo       outer=sgd(η, heavy_ball(μ)):    b ← μ b + Δ,    w ← w - η b
        BMUF         SlowMo, with η the block learning rate and μ the block momentum

    Lookahead takes the steps of `optax.lookahead`, without its pairs of fast and slow parameters.
    SlowMo divides Δ by the inner learning rate and multiplies the step of w by it. Both cancel
    while that rate is constant. With K = 1 and plain descent at a rate α as tx, Δ = α g, so that
    SNOO is `sgd(η α, nesterov(μ))`. With η = 1 and μ = 0 the updates are those of tx.

    On a quadratic of curvature λ, plain descent as tx gives Δ = (1 - q) (w - w*) with
    q = (1 - αλ)ᴷ, so the outer optimizer sees the curvature 1 - q. SNOO is stable there if
    η < 2 (1 + μ) / ((1 + 2μ) (1 - q)).

    With `axis` there are several workers, one for each entry of a mapped axis: of the mesh axis of
    a `jax.shard_map`, or of a `jax.vmap` with that `axis_name`. Each worker makes inner steps on
    its own θ, with its own gradients and state of tx, and sends nothing. After K updates

        Δ = mean of w - θ_t over the workers

    and all of them go on from the new w. The collectives are in a branch of `jax.lax.cond`. All
    workers must start from the same parameters and make every update together. So put `guard`
    around tx, not around this wrapper. Each worker has its own θ, and its own `inner_state` and
    `residual` in the state. The other fields are equal on all workers and need not be mapped over:

        own = momentax.states.OuterState(None, None, 0, None, 0)      in_axes and out_axes of vmap
        own = momentax.states.OuterState(P(), P(), P("workers"), P(), P("workers"))    specs

    If `jax.vmap` maps over these fields too, the workers compare their counts at each update.

    A worker may miss a round. `update(grads, state, params, participating=False)` at the K-th
    update leaves its Δ out of the mean, and it goes on from the new w like all others. If no worker
    takes part, w and the state of the outer optimizer stay as they are. If the parameters of a
    worker are NaN, adding an update leaves them NaN: replace them by `eval_params(params, state)`.

    With n fragments, groups of leaves have their outer steps in turn: fragment i of 0, ..., n - 1
    after the updates t = ⌊(i + 1) K / n⌋ + jK, j = 0, 1, .... Each leaf then has one outer step in
    K updates, and one update sends about 1/n of the bytes.

    With a compression, a worker sends codes of Δ + e, where e is the rounding error that it has not
    sent yet. Each worker receives its part of these arrays from all others, and sends codes of the
    mean of this part to them. Each leaf is flattened for this. So the `jax.shard_map` must also map
    over all mesh axes along which parameters are split. Under `jax.vmap` the steps are the same,
    and XLA chooses whether devices send codes.

    The first outer step follows update K. The SNOO class of the authors tests its counter before
    raising it, so its first outer step follows update 1, and the next ones 1 + K, 1 + 2K, ....
    Start with `tx.init(params)._replace(since=jnp.int32(K - 1))` to do the same.

    Where the gradient of a leaf is None, its θ, w and outer velocity stay as they are. If that is
    so at an outer step, the next outer step of the leaf covers both periods.

    `every` counts calls of update. Put `optax.MultiSteps` around this wrapper, so that K counts
    steps; inside, K would count gradients. A step that a `guard` around this wrapper skips does
    not count.

    Args:
        tx: The inner optimizer, complete: its updates descend.
        every: K, the updates from one outer step to the next, at least 1.
        outer: The outer optimizer, complete: its updates descend. The default is that of DiLoCo.
        inner_state: What an outer step does to the state of tx. "keep": nothing, as SNOO, DiLoCo
            and `optax.lookahead` do. "reset_velocity": the velocities are set to zero, as by
            `momentax.reset_velocity`; schedules and second moments go on. "reset": the state
            starts again as tx.init(w), with its counts and schedules. Nothing of the old
            values survives a reset, not even a NaN.
        axis: The mapped axis of the workers, or a tuple of such axes. None: one worker.
        fragments: n, in [1, K], for n groups of leaves of about the same size. Or a tree like the
            parameters, or a prefix of one, with the number of each leaf's fragment.
        compression: `momentax.storage.int8()`, about 1 byte an entry, or
            `momentax.storage.bfloat16()`, 2 bytes; None sends the dtype of w. Both round to the
            nearest value here, and not randomly.

    Returns:
        A complete optimizer, whose update needs the parameters. It keeps two arrays like the
        parameters, w and the velocity of the default outer optimizer, in float32 or wider, and
        with a compression e as a third.

    Raises:
        ValueError: every is below 1, inner_state is another word, or not "keep" with fragments;
            tx or outer is a method or another transformation whose updates follow the gradient;
            fragments are more than every or leave out a number; compression has no axis; at
            init, there is no velocity to reset, or fragments do not fit the parameters; at
            update, axis is not mapped over, participating has no axis, params are missing, or
            trees do not fit each other.
        TypeError: tx or outer is not a gradient transformation, every is not a whole number, axis
            is not a name, fragments are not whole numbers, or compression is not a storage; at
            init, a parameter is neither floating nor complex; at update, participating is not
            one bool.

    Example:
        >>> slow = momentax.sgd(0.7, momentax.nesterov(0.9))
        >>> tx = momentax.outer(momentax.sgd(0.1), every=30, outer=slow)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)
        >>> averaged = momentax.eval_params(params, state)

        Four workers, each with a copy of the parameters and its own gradients:

        >>> tx = momentax.outer(momentax.sgd(0.1), every=30, outer=slow, axis="workers")
        >>> copies = jax.tree.map(lambda x: jnp.stack([x] * 4), (params, grads))
        >>> state = jax.vmap(tx.init)(copies[0])
        >>> update = jax.vmap(lambda θ, g, state: tx.update(g, state, θ), axis_name="workers")
        >>> updates, state = update(*copies, state)

    Source:
        Kallusky, Rao, Nandavar and Shi, SNOO: step-K Nesterov outer optimizer, 2025,
        arXiv:2510.15830; Zhang, Lucas, Hinton and Ba, Lookahead optimizer: k steps forward,
        1 step back, 2019, arXiv:1907.08610; Wang, Tantia, Ballas and Rabbat, SlowMo: improving
        communication-efficient distributed SGD with slow momentum, 2020, arXiv:1910.00643;
        Douillard et al., DiLoCo: distributed low-communication training of language models,
        2023, arXiv:2311.08105; Chen and Huo, Scalable training of deep learning machines by
        incremental block training with intra-block parallel optimization and blockwise
        model-update filtering, 2016; Douillard et al., Streaming DiLoCo with overlapping
        communication: towards a distributed free lunch, 2025, arXiv:2501.18512.
    """
    every = arguments.as_count("every", every)
    workers = Workers(
        as_axes("axis", axis),
        None if compression is None else codecs.as_storage("compression", compression),
    )
    options = Options(
        optax.with_extra_args_support(as_optimizer("tx", tx, may_ascend=True)),
        every,
        optax.with_extra_args_support(as_optimizer("outer", outer)),
        arguments.as_option("inner_state", inner_state, _INNER_STATES),
        workers,
        _fragments.as_fragments("fragments", fragments, every),
    )
    if compression is not None and not workers.axes:
        raise ValueError(
            "compression needs several workers, which send each other their pseudo-gradients: name "
            'their mapped axis, as in axis="workers"'
        )
    if options.fragment_count > 1 and options.inner_state != "keep":
        raise ValueError(
            'inner_state must be "keep" with fragments, since an outer step of one fragment leaves '
            f"the others within their periods, got {inner_state!r}"
        )

    def init(params):
        return _init(options, params)

    def update(updates, state, params=None, *, participating=None, **extra_args):
        return update_with_outer_steps(options, updates, state, params, participating, extra_args)

    return transformation(init, update, OuterState)


def _copy(x: Any) -> jax.Array:
    return jnp.array(x, arithmetic.compute_dtype(x))


def _init(options: Options, params: PyTree) -> OuterState:
    arrays = trees.only_arrays(params)
    trees.require_inexact(arrays)
    # A copy, since one buffer cannot be donated both as parameters and as a part of the state.
    slow = jax.tree.map(partial(trees.computed, _copy), arrays)
    require_descent("tx", options.tx, params, may_ascend=True)
    require_descent("outer", options.outer, slow)
    inner = options.tx.init(params)
    if options.inner_state == "reset_velocity" and not velocities(inner):
        raise ValueError(f'inner_state="reset_velocity" needs a velocity, and {describe_paths({})}')
    parts = [part(slow) for part in options.parts_of(slow)]
    outer_states = tuple(map(options.outer.init, parts))
    outer_state = outer_states[0] if len(parts) == 1 else outer_states
    residual = None
    if options.workers.compression is not None:
        residual = jax.tree.map(partial(trees.computed, jnp.zeros_like), slow)
    return OuterState(jnp.zeros((), jnp.int32), slow, inner, outer_state, residual)
