"""A training step in one program: gradient, update and apply, written over the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees, xla
from momentax._core.sharding import place_like
from momentax._core.transformations import Observed
from momentax._core.typing import PyTree
from momentax._training._donation import (
    KEEP_TYPES,
    DonatingStep,
    PlainStep,
    describe_change,
    shape_and_dtype,
)
from momentax._wrappers._monitor import monitor as monitor_of
from momentax._wrappers._monitor_state import MonitorState


def train_step(
    loss: Callable[..., Any],
    tx: optax.GradientTransformation,
    *,
    donate: bool = True,
    has_aux: bool = False,
    steps_per_call: int = 1,
    accumulation: int = 1,
    monitor: bool | Mapping[str, Any] | None = None,
) -> jax.stages.Wrapped:
    """Compile gradient, update and apply into one jitted function, a training step.

        step(params, state, *batch, **extra) -> params, state, value

    The step computes

        g_t = ∇f(θ_{t-1}),    u_t, state = tx.update(g_t, state, θ_{t-1}),    θ_t = θ_{t-1} + u_t

    Make the step once, before the loop. It is compiled at the first call, and
    again for arguments of other shapes or dtypes.

        step = momentax.train_step(loss, tx)
        for x, y in data:
            params, state, value = step(params, state, x, y)

    Donation. The new params and state are written over the old ones, whose
    arrays JAX deletes: using them again raises "Array has been deleted". Keep
    `jax.tree.map(jnp.copy, params)` if you need them, or give donate=False, which
    takes several times as long on large parameters. An array that occurs twice
    in the arguments is copied first: a state may start as the parameters
    themselves, and params may be in the batch too. Types, structure and sharding
    of params and state do not change. If `tx` changes the type of a leaf of its
    state, then the buffer of that leaf cannot be reused, and a UserWarning names
    the leaf.

    Several steps a call. With steps_per_call=k a call makes k steps in one
    `lax.scan`, which saves the cost of k - 1 calls. Leaves of the batch and the
    values then have a leading axis of k. With accumulation=m the gradient of a
    step is the mean over m parts of its batch, summed in float32 or wider, and
    the value is the mean of the m values. Leaves of the batch then have a leading
    axis of m, or leading axes of (k, m) with both. A loss without a batch needs
    no axis.

    Extra arguments. `tx.update` also receives value=f(θ_{t-1}), grad=g_t and
    value_fn=f on the batch, for Polyak steps and line searches, and all keyword
    arguments of the call. These are the same for each step of a call, and the
    loss does not receive them. For complex parameters g is the conjugate of what
    `jax.grad` returns, so that -g descends. For `optax.lookahead`, params are its
    LookaheadParams, and the loss receives the fast ones.

    Monitor. With monitor=True or a mapping of the options of `momentax.monitor`,
    `tx` is measured, and `momentax.measurements(state)` returns the readings of the
    state that a call returns. The state may start as that of `tx` or of
    `momentax.monitor(tx, ...)`. With steps_per_call=k the history holds k readings
    unless the mapping says otherwise, those of every step of the call. With one step
    per call there is no history unless you ask for it, as in monitor={"history": 100}.

    Flax NNX. What a forward pass changes, such as batch statistics, is returned
    as aux and passed to the next call, which needs steps_per_call=1:

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
        loss: f, a function of the parameters and a batch that returns a real
            scalar; with has_aux a pair of that and anything else.
        tx: Any Optax transformation from gradients to updates that ignores extra
            arguments it does not use, such as `sgd`.
        donate: Whether params and state are written over. Give False under
            `jax.vmap` over something else, such as a learning rate.
        has_aux: Whether loss returns (value, aux).
        steps_per_call: k, the steps of a call, at least 1.
        accumulation: m, the parts of a step's batch, at least 1.
        monitor: True, or a mapping of the options of `momentax.monitor`, such as
            {"every": 10}, to measure tx; None or False does not.

    Returns:
        A function as `jax.jit` returns it, with `lower`, `trace` and
        `eval_shape`. It takes params, state as from `tx.init`, and the batch: any
        pytrees of arrays, which may be random keys. It returns the new params,
        the new state, and the value or with has_aux (value, aux). The value is
        f(θ_{t-1}) in the dtype of the loss, of shape () or (k,); aux has the
        leading axes of the batch.

    Raises:
        ValueError: steps_per_call or accumulation is below 1; at the first call,
            a leaf of the batch lacks the leading axes, or the loss does not
            return one real scalar.
        TypeError: An argument has another type; at the first call, a parameter is
            neither floating nor complex, the loss returns a tuple without has_aux
            or no pair with it, or `tx` changes the types of its state and
            steps_per_call is not 1.
        RuntimeError: At a call, an array was donated to an earlier call.
        FloatingPointError: At a call, `tx` contains `guard(..., on_nonfinite="raise")` and a step
            was not finite. The attributes params and state of the error are those to go on with.
            Each call then waits for its steps.

    Example:
        >>> tx, w = momentax.sgd(0.1), jnp.zeros(3)
        >>> step = momentax.train_step(lambda w, x: jnp.sum((w - x) ** 2), tx)
        >>> w, state, value = step(w, tx.init(w), jnp.ones(3))
    """
    signature = "from params and a batch to a scalar"
    arguments.require_function("loss", loss, signature, "params", ...)
    arguments.require_transformation("tx", tx)
    steps_per_call = arguments.as_count("steps_per_call", steps_per_call)
    adopt = None
    if options := _as_options(monitor, steps_per_call):
        tx = _monitored(tx, options)
        adopt = tx.adopt
    program = _TrainStep(
        loss,
        optax.with_extra_args_support(tx),
        has_aux=arguments.as_flag("has_aux", has_aux),
        steps_per_call=steps_per_call,
        accumulation=arguments.as_count("accumulation", accumulation),
    )
    step = (DonatingStep if arguments.as_flag("donate", donate) else PlainStep)(program)
    return step if adopt is None else _AdoptingStep(step, adopt)


def _as_options(value: Any, steps_per_call: int) -> dict[str, Any] | None:
    """Return the options of the monitor, or None without one."""
    if value is None or value is False:
        return None
    if value is not True and not isinstance(value, Mapping):
        raise TypeError(
            'monitor must be True, None or a mapping of options such as {"every": 10}, got '
            f"{arguments.describe(value)}"
        )
    given = {} if value is True else dict(value)
    known = [name for name in inspect.signature(monitor_of).parameters if name != "tx"]
    for name in given:
        if name not in known:
            raise TypeError(
                f"monitor has no option {arguments.describe(name)}; its options are "
                f"{', '.join(known)}"
            )
    return {"history": steps_per_call if steps_per_call > 1 else 0} | given


def _monitored(tx: optax.GradientTransformation, options: dict[str, Any]) -> Observed:
    if isinstance(tx, Observed):
        raise ValueError(
            "tx is a momentax.monitor already, which works without monitor=; leave monitor out, or "
            "give the transformation that it measures"
        )
    return monitor_of(tx, **options)


class _AdoptingStep:
    """A step of a monitored transformation that also takes states of the transformation alone."""

    def __init__(self, step: DonatingStep | PlainStep, adopt: Callable[[PyTree, Any], Any]) -> None:
        self.__name__ = step.__name__
        self._step, self._adopt = step, adopt

    def __repr__(self) -> str:
        return repr(self._step)

    def __call__(self, params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
        return self._step(params, self._monitored(params, state), *batch, **extra)

    def lower(self, params: PyTree, state: PyTree, /, *batch: Any, **extra: Any) -> Any:
        return self._step.lower(params, self._monitored(params, state), *batch, **extra)

    def trace(self, params: PyTree, state: PyTree, /, *batch: Any, **extra: Any) -> Any:
        return self._step.trace(params, self._monitored(params, state), *batch, **extra)

    def eval_shape(self, params: PyTree, state: PyTree, /, *batch: Any, **extra: Any) -> Any:
        return self._step.eval_shape(params, self._monitored(params, state), *batch, **extra)

    def _monitored(self, params: PyTree, state: PyTree) -> PyTree:
        return state if isinstance(state, MonitorState) else self._adopt(params, state)


@dataclass(frozen=True, eq=False)
class _TrainStep:
    """The program of a step, and what it is made of.

    A carry is a pair (params, state). An outcome is the value, or with has_aux a
    pair (value, aux).
    """

    loss: Callable[..., Any]
    tx: optax.GradientTransformationExtraArgs
    has_aux: bool
    steps_per_call: int
    accumulation: int

    def __repr__(self) -> str:
        options = f"steps_per_call={self.steps_per_call}, accumulation={self.accumulation}"
        return (
            f"train_step({arguments.describe(self.loss)}, {arguments.describe(self.tx)}, "
            f"has_aux={self.has_aux}, {options})"
        )

    def __call__(
        self, single_device: bool, params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any
    ) -> Any:
        """Make all steps of a call."""
        trees.require_kind(
            params,
            jnp.inexact,
            "only floating or complex ones have a gradient",
            "keep it out of params and pass it with the batch, as nnx.split(model, nnx.Param, ...) "
            "divides a Flax model",
        )
        _require_leading_axes(
            batch, steps_per_call=self.steps_per_call, accumulation=self.accumulation
        )
        carry = params, state
        if self.steps_per_call == 1:
            after, outcome = self._step(single_device, extra, carry, batch)
        else:
            step = partial(self._step_unchanged, single_device, extra)
            after, outcome = jax.lax.scan(step, carry, batch, length=self.steps_per_call)
        return *_keep_sharding(carry, after), outcome

    def _step_unchanged(
        self, single_device: bool, extra: dict[str, Any], carry: Any, batch: PyTree
    ) -> tuple[Any, Any]:
        """Make one step of a scan, whose carry cannot change its type."""
        after, outcome = self._step(single_device, extra, carry, batch)
        if changed := describe_change(carry, after):
            raise TypeError(
                f"{changed}, which steps_per_call={self.steps_per_call} cannot carry on; "
                f"{KEEP_TYPES}"
            )
        return after, outcome

    def _step(
        self, single_device: bool, extra: dict[str, Any], carry: Any, batch: PyTree
    ) -> tuple[Any, Any]:
        """Make one step: gradient, update and apply."""
        params, state = carry
        outcome, g = self._gradient(single_device, _params_of_loss(params), batch)
        g = jax.tree.map(jnp.conj, g)  # For complex parameters JAX returns the conjugate.
        known = {"value": outcome[0], "grad": g, "value_fn": lambda at: self._value(at, batch)}
        u, state = self.tx.update(g, state, params, **(known | extra))
        after = _keep_weak_types(carry, (_apply_updates(params, u), state))
        return after, outcome if self.has_aux else outcome[0]

    def _gradient(
        self, single_device: bool, params: PyTree, batch: PyTree
    ) -> tuple[tuple[jax.Array, PyTree], PyTree]:
        """Return ((value, aux), g) for one batch, or for the mean over its parts."""
        if self.accumulation == 1:
            return xla.value_and_grad_before_writes(
                lambda at: self._value_and_aux(at, batch), params, single_device
            )
        differentiate = jax.value_and_grad(self._value_and_aux, has_aux=True)

        def add(total: PyTree, part: PyTree) -> tuple[PyTree, Any]:
            outcome, g = differentiate(params, part)
            return arithmetic.combine((1.0, total), (1.0, g), like=total), outcome

        zeros = arithmetic.zeros_like(params)
        total, (values, aux) = jax.lax.scan(add, zeros, batch, length=self.accumulation)
        g = arithmetic.combine((1 / self.accumulation, total), like=params)
        return (_mean(values), aux), g

    def _value(self, params: PyTree, batch: PyTree) -> jax.Array:
        if self.accumulation == 1:
            return self._value_and_aux(params, batch)[0]

        def visit(_: None, part: PyTree) -> tuple[None, jax.Array]:
            return None, self._value_and_aux(params, part)[0]

        return _mean(jax.lax.scan(visit, None, batch, length=self.accumulation)[1])

    def _value_and_aux(self, params: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree]:
        # Flax writes to variables of the present trace only, so that containers are made anew.
        batch = jax.tree.map(lambda leaf: leaf, batch)
        return _split_aux(self.loss(params, *batch), self.has_aux)


def _split_aux(returned: Any, has_aux: bool) -> tuple[jax.Array, PyTree]:
    """Return (value, aux) from what a loss returned, checked to be one real floating scalar."""
    if has_aux:
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                "with has_aux=True loss must return a pair (value, aux), got "
                f"{arguments.describe_returned(returned)}"
            )
        value, aux = returned
    else:
        value, aux = returned, None
        if isinstance(returned, tuple):
            raise TypeError(
                f"loss must return one scalar, got {arguments.describe_returned(returned)}; to "
                "return more beside it, as a pair (value, aux), give has_aux=True"
            )
    arguments.require_loss_value(value)
    return jnp.asarray(value), aux


def _mean(values: jax.Array) -> jax.Array:
    return jnp.mean(values, dtype=arithmetic.compute_dtype(values)).astype(values.dtype)


def _apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """Apply updates as Optax does; a parameter whose update is None does not change."""

    def apply(leaf: Any, u: Any) -> Any:
        return leaf if u is None else optax.apply_updates(leaf, u)

    return jax.tree.map(apply, params, updates, is_leaf=trees.is_none)


def _params_of_loss(params: PyTree) -> PyTree:
    """The parameters at which the gradient is taken."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params


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


def _keep_sharding(before: PyTree, after: PyTree) -> PyTree:
    """Give new values the sharding of the old ones; the compiler might choose another one."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after
    return jax.tree.map(
        lambda old, new: place_like(new, old) if old.shape == new.shape else new,
        before,
        after,
    )


def _keep_weak_types(before: PyTree, after: PyTree) -> PyTree:
    """Give new values the weak types of the old ones, so that the next call compiles nothing."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after

    def keep(old: jax.Array, new: Any) -> Any:
        if shape_and_dtype(old) != shape_and_dtype(new):
            return new
        if old.weak_type == jax.typeof(new).weak_type:
            return new
        return arithmetic.cast_like(new, old)

    return jax.tree.map(keep, before, after)
