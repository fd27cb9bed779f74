"""One step of a transformation as a function of flat arrays, compiled in 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments, trees
from momentax._core.typing import PyTree, Reals

HISTORY_STEPS = 1024  # A period of the counters must show within so many steps.

# What a transformation raises that is given parameters, or gradients, it does not take.
_UNSUITABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Reader:
    """One step of a transformation as a function of flat arrays.

    The state is split in two. The continuous part is one vector x of float64: the parameters
    θ, then all floating-point leaves of the optimizer's state. The discrete part is a list of
    the other leaves: integers, booleans and random keys. A step maps y = (x, g), with g the
    gradient, and the discrete part to the next x and the next discrete part.

    `factory` makes the transformation from hyperparameters. These are arguments of the
    compiled functions, so that other values do not compile anything again. Everything must
    run inside `double_precision`.
    """

    def __init__(self, factory: Callable[..., Any], like: PyTree, **hyperparameters: float):
        self.factory, self.like, self.hyperparameters = factory, like, hyperparameters
        self.lookahead = _needs_lookahead_params(factory(**hyperparameters), like)
        self._describe_params()
        self._describe_state()
        self._trace()
        probe = jax.vmap(self._step_and_tangent, in_axes=(None, 0, 0, None))
        self._compiled_probe = jax.jit(probe, compiler_options=_compiler_options())
        self._compiled_history = jax.jit(self._history, compiler_options=_compiler_options())

    def _describe_params(self) -> None:
        named, _ = jax.tree_util.tree_flatten_with_path(self.like)
        sizes = [np.size(leaf) for _, leaf in named]
        self.paths = [trees.path_name(path) for path, _ in named]
        self.num_params = sum(sizes)  # Entries of all parameters together.
        self.first_entry = np.cumsum([0, *sizes[:-1]])  # Of each parameter.
        self.owner = np.repeat(np.arange(len(sizes)), sizes)  # The parameter of each entry.
        # Entries of x that are parameters.
        self.num_param_entries = self.num_params * (1 + self.lookahead)

    def _describe_state(self) -> None:
        try:
            θ = jnp.zeros(self.num_params)
            state = jax.eval_shape(self._init, self.hyperparameters, θ)[1]
        except _UNSUITABLE as error:
            # Later lines of JAX's message describe its trees.
            reason, _, _ = str(error).partition("\n")
            raise ValueError(
                f"tx does not take the parameters that it is read on, {', '.join(self.paths)}; "
                f"give theory.state_space params that it takes: {reason}"
            ) from error
        named, self.structure = jax.tree_util.tree_flatten_with_path(state)
        self.leaves = [leaf for _, leaf in named]
        self.continuous = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self.leaves]
        self.names = ["the parameters"] * self.num_param_entries
        eps = [float(np.finfo(np.float64).eps)] * self.num_param_entries
        self.discrete_paths = []
        for (path, leaf), continuous in zip(named, self.continuous, strict=True):
            name = trees.path_name(path)
            if continuous:
                self.names += [f"the state at {name}"] * leaf.size
                eps += [float(jnp.finfo(leaf.dtype).eps)] * leaf.size
            else:
                self.discrete_paths.append(name)
        self.eps = np.asarray(eps)  # The precision that each entry of x is stored in.
        self.size = len(self.names)
        self.batch = max(self.size + self.num_params + 1, 72)  # Rows of one call of the probe.

    def _trace(self) -> None:
        pairs = zip(self.leaves, self.continuous, strict=True)
        discrete = [leaf for leaf, continuous in pairs if not continuous]
        y = np.zeros(self.size + self.num_params)
        try:
            traced = jax.make_jaxpr(self._step)(self.hyperparameters, y, discrete)
        except _UNSUITABLE as error:
            raise ValueError(
                "tx does not update parameters from their gradients alone, as the theory requires; "
                f"leave out parts that need other arguments, such as the loss: {error}"
            ) from error
        if any(map(arguments.is_traced, traced.consts)):
            raise TypeError(
                "the hyperparameters of tx must be concrete: the theory runs in NumPy, outside "
                "of jit and vmap"
            )

    def _tree(self, flat: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(self.like)
        parts = zip(jnp.split(flat, self.first_entry[1:]), leaves, strict=True)
        return structure.unflatten([jnp.reshape(part, np.shape(leaf)) for part, leaf in parts])

    def _params(self, flat: jax.Array) -> PyTree:
        if not self.lookahead:
            return self._tree(flat)
        fast, slow = jnp.split(flat, 2)
        return optax.LookaheadParams(self._tree(fast), self._tree(slow))

    def _init(self, hyperparameters: Any, θ: jax.Array) -> tuple[PyTree, PyTree]:
        params = self._params(jnp.concatenate([θ, θ]) if self.lookahead else θ)
        return params, jax.tree.map(jnp.asarray, self.factory(**hyperparameters).init(params))

    def _flatten(self, params: PyTree, state: PyTree) -> tuple[jax.Array, list[Any]]:
        leaves = self.structure.flatten_up_to(state)
        parts, discrete = jax.tree.leaves(params), []
        for leaf, continuous in zip(leaves, self.continuous, strict=True):
            leaf = leaf if arguments.is_key(leaf) else jnp.asarray(leaf)
            (parts if continuous else discrete).append(leaf)
        return jnp.concatenate([jnp.ravel(part).astype(jnp.float64) for part in parts]), discrete

    def _unflatten(self, y: jax.Array, discrete: list[Any]) -> tuple[PyTree, PyTree, PyTree]:
        params, grads = self._params(y[: self.num_param_entries]), self._tree(y[self.size :])
        rest, others, leaves = y[self.num_param_entries : self.size], iter(discrete), []
        for like, continuous in zip(self.leaves, self.continuous, strict=True):
            if continuous:
                part, rest = rest[: like.size], rest[like.size :]
                leaves.append(jnp.reshape(part, like.shape).astype(like.dtype))
            else:
                leaves.append(next(others))
        return params, self.structure.unflatten(leaves), grads

    def _step(
        self, hyperparameters: Any, y: jax.Array, discrete: list[Any]
    ) -> tuple[jax.Array, list[Any]]:
        params, state, grads = self._unflatten(y, discrete)
        updates, state = self.factory(**hyperparameters).update(grads, state, params)
        x, new = self._flatten(optax.apply_updates(params, updates), state)
        return x, [
            part.astype(old.dtype) if hasattr(old, "astype") else part
            for part, old in zip(new, discrete, strict=True)
        ]

    def _step_and_tangent(
        self, hyperparameters: Any, y: jax.Array, direction: jax.Array, discrete: list[Any]
    ) -> Any:
        def step(y: jax.Array) -> tuple[jax.Array, list[Any]]:
            return self._step(hyperparameters, y, discrete)

        x, slope, new = jax.jvp(step, (y,), (direction,), has_aux=True)
        return x, slope, new

    def _history(self, hyperparameters: Any, steps: Any, θ: jax.Array, g: jax.Array) -> Any:
        params = jnp.tile(θ, 2) if self.lookahead else θ

        def start(θ: jax.Array) -> tuple[jax.Array, list[Any]]:
            return self._flatten(*self._init(hyperparameters, θ))

        def advance(i: Any, carried: Any) -> Any:
            now, history = carried
            at = jnp.maximum(i - steps, 0)
            history = jax.tree.map(
                lambda part, new: jax.lax.dynamic_update_index_in_dim(part, new, at, 0),
                history,
                now,
            )
            y = jnp.concatenate([jax.lax.dynamic_update_slice(now[0], params, (0,)), g])
            return self._step(hyperparameters, y, now[1]), history

        slope, discrete = jax.jacfwd(start, has_aux=True)(θ)
        first = start(θ)[0], discrete
        history = jax.tree.map(
            lambda part: jnp.broadcast_to(part, (HISTORY_STEPS, *part.shape)), first
        )
        return slope, jax.lax.fori_loop(0, steps + HISTORY_STEPS, advance, (first, history))[1]

    def history(self, steps: int, θ: float, g: float) -> tuple[Reals, Reals, list[Any]]:
        """Return ∂x_0/∂θ_0 and HISTORY_STEPS states from step `steps` on, at one θ and g."""
        ones = np.ones(self.num_params)
        found = self._compiled_history(self.hyperparameters, steps, θ * ones, g * ones)
        slope, (x, discrete) = found
        return np.asarray(slope), np.asarray(x), _to_host(discrete)

    def probe(self, y: Any, directions: Any, discrete: list[Any]) -> tuple[Reals, Reals, list[Any]]:
        """Return the next x, its derivatives along directions and the next discrete part."""
        rows = len(y)
        padded = np.zeros((2, self.batch, self.size + self.num_params))
        padded[0, :rows], padded[1, :rows] = y, directions
        x, slope, new = self._compiled_probe(self.hyperparameters, *padded, discrete)
        return np.asarray(x)[:rows], np.asarray(slope)[:rows], [p[:rows] for p in _to_host(new)]

    def values(self, y: Any, discrete: list[Any]) -> Reals:
        """Step from any number of rows of y, and return the next x."""
        parts = np.split(y, range(self.batch, len(y), self.batch))
        return np.concatenate([self.probe(part, 0 * part, discrete)[0] for part in parts])

    def jacobian(self, y: Any, discrete: list[Any]) -> Reals:
        """Return ∂x⁺/∂y at one point, of shape (size, size + num_params)."""
        return self.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), discrete)[1].T


@cache
def _compiler_options() -> dict[str, Any]:
    """Return options of XLA for programs that run a few times only and mainly cost compiling.

    Without fusion emitters, XLA's CPU backend compiles in half the time, but it contracts the
    products by reciprocals that the algebraic simplifier makes of divisions, so that 1 - 100 / 100
    is not 0 in float32. Hence that pass is left out too. A version of XLA that does not know an
    option refuses it, so the options are tried first.
    """
    basic = {"xla_backend_optimization_level": 0}
    quick = {"xla_cpu_use_fusion_emitters": False, "xla_disable_hlo_passes": "algsimp"}
    try:
        jax.jit(jnp.negative, compiler_options=basic | quick).lower(0.0).compile()
    except Exception:  # What an unknown option raises is up to XLA.
        return basic
    return basic | quick


def _needs_lookahead_params(tx: Any, like: PyTree) -> bool:
    """Return whether tx contains lookahead, which takes fast and slow parameters."""

    def is_lookahead(part: Any) -> bool:
        return isinstance(part, optax.LookaheadState)

    try:
        state = jax.eval_shape(tx.init, optax.LookaheadParams(like, like))
    except Exception:  # A mask, which fits single parameters only, may raise any error.
        return False
    return any(map(is_lookahead, jax.tree.leaves(state, is_leaf=is_lookahead)))


@contextmanager
def double_precision() -> Iterator[None]:
    """Run JAX on the CPU in 64 bits, whatever a program has set for its own arithmetic."""
    with ExitStack() as stack:
        with suppress(RuntimeError):  # JAX may have been restricted to an accelerator.
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        stack.enter_context(jax.ensure_compile_time_eval())  # Within jit too.
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(np.errstate(all="ignore"))
        yield


def _to_host(discrete: list[Any]) -> list[Any]:
    return [part if arguments.is_key(part) else np.asarray(part) for part in discrete]


def integer_histories(discrete: list[Any]) -> dict[int, NDArray[np.int64]]:
    """Return the integers and booleans among the discrete leaves, each as (steps, entries)."""
    return {
        i: np.asarray(part).astype(np.int64).reshape(len(part), -1)
        for i, part in enumerate(discrete)
        if not arguments.is_key(part)
    }
