"""One step of a transformation as a function of flat arrays, compiled in 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments, trees
from momentax._core.typing import PyTree

_Reals = NDArray[np.float64]

WATCHED = 1024  # Steps in which a period has to show.


class Reader:
    """One step of a transformation as a function of flat arrays.

    y = (θ, the inexact leaves of the state, g), in float64; whole numbers, flags
    and random keys of the state apart. Everything runs inside `double`.
    The transformation is what a factory makes of hyperparameters, which are
    arguments of what is compiled: set others and nothing is compiled anew.
    """

    def __init__(self, factory: Callable[..., Any], like: PyTree, **hyperparameters: float):
        self.pair = _wants_pair(factory(**hyperparameters), like)
        self.factory, self.like, self.hyperparameters = factory, like, hyperparameters
        named, _ = jax.tree_util.tree_flatten_with_path(like)
        self.paths = [trees.path_name(path) for path, _ in named]
        sizes = [np.size(leaf) for _, leaf in named]
        self.num_params = sum(sizes)
        self.first = np.cumsum([0, *sizes[:-1]])  # Of the entries of each parameter.
        self.owner = np.repeat(np.arange(len(sizes)), sizes)  # Which parameter an entry is of.
        try:
            state = jax.eval_shape(self._init, hyperparameters, jnp.zeros(self.num_params))[1]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            told, _, _ = str(error).partition("\n")  # JAX goes on about its trees.
            raise ValueError(
                f"tx does not take the parameters that it is read on, {', '.join(self.paths)}; "
                f"give theory.state_space params that it takes: {told}"
            ) from error
        paths, self.structure = jax.tree_util.tree_flatten_with_path(state)
        self.leaves = [leaf for _, leaf in paths]
        self.moving = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self.leaves]
        self.held = self.num_params * (1 + self.pair)  # Entries that are parameters.
        self.names, ε = ["the parameters"] * self.held, [np.finfo(np.float64).eps] * self.held
        for (path, leaf), moving in zip(paths, self.moving, strict=True):
            if moving:
                self.names += [f"the state at {trees.path_name(path)}"] * leaf.size
                ε += [float(jnp.finfo(leaf.dtype).eps)] * leaf.size
        self.whole = [
            trees.path_name(path)
            for (path, leaf), moving in zip(paths, self.moving, strict=True)
            if not moving
        ]
        self.eps = np.asarray(ε)
        self.size = len(self.names)
        self.batch = max(self.size + self.num_params + 1, 72)
        still = [leaf for leaf, moving in zip(self.leaves, self.moving, strict=True) if not moving]
        y = np.zeros(self.size + self.num_params)
        try:
            traced = jax.make_jaxpr(self._step)(hyperparameters, y, still)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "tx does not update parameters from their gradients alone, as the theory has it "
                f"do; leave out what needs more, such as the loss: {error}"
            ) from error
        if any(map(arguments.is_traced, traced.consts)):
            raise TypeError(
                "the hyperparameters of tx must be concrete: the theory runs in NumPy, outside "
                "of jit and vmap"
            )
        # Each runs a few times: it is compiling that takes the time.
        quick = {"xla_backend_optimization_level": 0}
        probe = jax.vmap(self._tangent, in_axes=(None, 0, 0, None))
        self._probe = jax.jit(probe, compiler_options=quick)
        self._watch = jax.jit(self._history, compiler_options=quick)

    def _tree(self, flat: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(self.like)
        parts = zip(jnp.split(flat, self.first[1:]), leaves, strict=True)
        return structure.unflatten([jnp.reshape(part, np.shape(leaf)) for part, leaf in parts])

    def _params(self, flat: jax.Array) -> PyTree:
        if not self.pair:
            return self._tree(flat)
        fast, slow = jnp.split(flat, 2)
        return optax.LookaheadParams(self._tree(fast), self._tree(slow))

    def _init(self, given: Any, θ: jax.Array) -> tuple[PyTree, PyTree]:
        params = self._params(jnp.concatenate([θ, θ]) if self.pair else θ)
        return params, jax.tree.map(jnp.asarray, self.factory(**given).init(params))

    def _flat(self, params: PyTree, state: PyTree) -> tuple[jax.Array, list[Any]]:
        leaves = self.structure.flatten_up_to(state)
        parts = jax.tree.leaves(params)
        still = []
        for leaf, old, moving in zip(leaves, self.leaves, self.moving, strict=True):
            leaf = leaf if _is_key(old) else jnp.asarray(leaf)
            (parts if moving else still).append(leaf)
        return jnp.concatenate([jnp.ravel(part).astype(jnp.float64) for part in parts]), still

    def _step(self, given: Any, y: jax.Array, still: list[Any]) -> tuple[jax.Array, list[Any]]:
        params, grads = self._params(y[: self.held]), self._tree(y[self.size :])
        rest, kept, leaves = y[self.held : self.size], iter(still), []
        for leaf, moving in zip(self.leaves, self.moving, strict=True):
            if moving:
                part, rest = rest[: leaf.size], rest[leaf.size :]
                leaves.append(jnp.reshape(part, leaf.shape).astype(leaf.dtype))
            else:
                leaves.append(next(kept))
        state = self.structure.unflatten(leaves)
        updates, state = self.factory(**given).update(grads, state, params)
        x, new = self._flat(optax.apply_updates(params, updates), state)
        return x, [
            part.astype(old.dtype) if hasattr(old, "astype") else part
            for part, old in zip(new, still, strict=True)
        ]

    def _tangent(self, given: Any, y: jax.Array, along: jax.Array, still: list[Any]) -> Any:
        def step(y: jax.Array) -> tuple[jax.Array, list[Any]]:
            return self._step(given, y, still)

        x, slope, new = jax.jvp(step, (y,), (along,), has_aux=True)
        return x, slope, new

    def _history(self, given: Any, steps: Any, θ: jax.Array, g: jax.Array) -> Any:
        held = jnp.tile(θ, 2) if self.pair else θ

        def start(θ: jax.Array) -> tuple[jax.Array, list[Any]]:
            return self._flat(*self._init(given, θ))

        def next_(i: Any, carried: Any) -> Any:
            now, seen = carried
            at = jnp.maximum(i - steps, 0)
            seen = jax.tree.map(
                lambda part, new: jax.lax.dynamic_update_index_in_dim(part, new, at, 0), seen, now
            )
            y = jnp.concatenate([jax.lax.dynamic_update_slice(now[0], held, (0,)), g])
            return self._step(given, y, now[1]), seen

        slope, still = jax.jacfwd(start, has_aux=True)(θ)
        first = start(θ)[0], still
        seen = jax.tree.map(lambda part: jnp.broadcast_to(part, (WATCHED, *part.shape)), first)
        return slope, jax.lax.fori_loop(0, steps + WATCHED, next_, (first, seen))[1]

    def history(self, steps: int, θ: float, g: float) -> tuple[_Reals, _Reals, list[Any]]:
        """∂x_0/∂θ_0, and the states after `steps` steps and more at one point and gradient."""
        fill = np.ones(self.num_params)
        slope, (x, still) = self._watch(self.hyperparameters, steps, θ * fill, g * fill)
        return np.asarray(slope), np.asarray(x), _host(still)

    def probe(self, y: Any, along: Any, still: list[Any]) -> tuple[_Reals, _Reals, list[Any]]:
        """Values and derivatives at rows of points along rows of directions."""
        rows = len(y)
        fill = ((0, self.batch - rows), (0, 0))
        rows_of = (np.pad(y, fill), np.pad(along, fill))
        x, slope, new = self._probe(self.hyperparameters, *rows_of, still)
        return np.asarray(x)[:rows], np.asarray(slope)[:rows], [part[:rows] for part in _host(new)]

    def values(self, y: Any, still: list[Any]) -> _Reals:
        parts = np.split(y, range(self.batch, len(y), self.batch))
        return np.concatenate([self.probe(part, 0 * part, still)[0] for part in parts])

    def jacobian(self, y: Any, still: list[Any]) -> _Reals:
        """∂x⁺/∂y at one point, shape (size, size + num_params)."""
        return self.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), still)[1].T


def _wants_pair(tx: Any, like: PyTree) -> bool:
    """Whether lookahead is in tx: it wants two of each parameter, fast and slow."""

    def is_lookahead(part: Any) -> bool:
        return isinstance(part, optax.LookaheadState)

    try:
        state = jax.eval_shape(tx.init, optax.LookaheadParams(like, like))
    except Exception:  # Masks and much else that fits single parameters alone.
        return False
    return any(map(is_lookahead, jax.tree.leaves(state, is_leaf=is_lookahead)))


@contextmanager
def double() -> Iterator[None]:
    """64 bits, and none of the checks that a program may have set on its own arithmetic."""
    with ExitStack() as stack:
        with suppress(RuntimeError):  # JAX may have been told of an accelerator alone.
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        stack.enter_context(jax.ensure_compile_time_eval())  # Within jit too.
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(np.errstate(all="ignore"))
        yield


def _is_key(part: Any) -> bool:
    return jnp.issubdtype(part.dtype, jax.dtypes.prng_key)


def _host(still: list[Any]) -> list[Any]:
    return [part if _is_key(part) else np.asarray(part) for part in still]


def whole_numbers(still: list[Any]) -> dict[int, NDArray[np.int64]]:
    """The whole numbers and flags among the still leaves, each as (steps, entries)."""
    return {
        i: np.asarray(part).astype(np.int64).reshape(len(part), -1)
        for i, part in enumerate(still)
        if not _is_key(part)
    }
