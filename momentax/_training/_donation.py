"""Running a step in the buffers of its arguments, whatever they share and wherever they lie."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import arguments
from momentax._core.typing import PyTree

_NAMES = ("params", "state")
KEEP = "give init parameters, and update gradients, of the types in which tx keeps its state"


class _ChangeError(Exception):
    """What a step does not return in the type in which it was given; raised while tracing."""


class Donating:
    """A jitted program that donates params and state, whatever they share with each other."""

    def __init__(self, program: Callable[..., Any]) -> None:
        def changing(params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
            return program(self._alone, params, state, *batch, **extra)

        def unchanging(params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
            after = changing(params, state, *batch, **extra)
            if changed := change((params, state), after[:2]):
                raise _ChangeError(changed)
            return after

        self.__name__ = "train_step"
        self._jitted, self._changing = (
            jax.jit(named(each), donate_argnums=(0, 1), keep_unused=True)
            for each in (unchanging, changing)
        )
        self._alone = True  # Whether one device runs it.
        self._warned = False
        self._last: Callable[[], Any] = lambda: None

    def __call__(self, params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
        leaves = jax.tree.leaves((params, state, batch, extra))
        fresh = not leaves or leaves[0] is not self._last()
        if fresh:
            self._alone = all(map(_on_one_device, leaves))
        if fresh or len(set(map(id, leaves))) < len(leaves):
            params, state = _unshared((params, state), (batch, extra))
        try:
            after = self._run("__call__", params, state, *batch, **extra)
        except (RuntimeError, ValueError) as error:
            if "deleted" in str(error) and (place := _deleted(params, state, batch, extra)):
                raise RuntimeError(
                    f"{place} was donated to an earlier call, which wrote over it: go on with the "
                    "params and the state that it returned, or give donate=False"
                ) from error
            if fresh or "donate" not in str(error):
                raise
            self._last = lambda: None  # What came from one program has come to share since.
            return self(params, state, *batch, **extra)
        first = next(iter(jax.tree.leaves(after[0])), None)
        if isinstance(first, jax.Array):
            self._last = weakref.ref(first)  # These came from one program and share nothing.
        return after

    def lower(self, /, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        return self._run("lower", *args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        return self._run("trace", *args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run("eval_shape", *args, **kwargs)

    def _run(self, way: str, /, *args: Any, **kwargs: Any) -> Any:
        if way != "__call__":
            self._alone = all(map(_on_one_device, jax.tree.leaves((args, kwargs))))
        try:
            return getattr(self._jitted, way)(*args, **kwargs)
        except _ChangeError as changed:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"train_step cannot reuse a donated buffer, and compiles again: {changed}; "
                    f"{KEEP}",
                    stacklevel=3,
                )
        with warnings.catch_warnings():  # JAX would say so too, without the name.
            warnings.filterwarnings("ignore", "Some donated buffers were not usable")
            return getattr(self._changing, way)(*args, **kwargs)


def kind(leaf: Any) -> tuple[Any, Any]:
    aval = jax.typeof(leaf)
    return aval.shape, aval.dtype


def change(before: tuple[PyTree, PyTree], after: tuple[PyTree, PyTree]) -> str | None:
    """Say where params or state are first of another type than they were, if they are."""
    for name, old, new in zip(_NAMES, before, after, strict=True):
        olds, news = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (old, new))
        for path in [*olds, *news]:
            place = name + jax.tree_util.keystr(path)
            if path not in news:
                return f"{place} is given and not returned"
            if path not in olds:
                return f"{place} is returned and was not given"
            (shape, dtype), (shape_after, dtype_after) = kind(olds[path]), kind(news[path])
            if shape != shape_after:
                return f"{place} has shape {shape} and returns with {shape_after}"
            if dtype != dtype_after:
                return f"{place} has dtype {dtype} and returns with {dtype_after}"
        if jax.tree.structure(old) != jax.tree.structure(new):
            return f"{name} returns in other containers than it was given in"
    return None


def named(program: Callable[..., Any]) -> Callable[..., Any]:
    """A program by the name that a profile shows."""

    def train_step(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)

    train_step.__qualname__ = train_step.__name__  # As JAX's errors name it.
    return train_step


def _on_one_device(leaf: Any) -> bool:
    if arguments.is_traced(leaf):
        return False  # For all that is known.
    sharding = getattr(leaf, "sharding", None)
    return sharding is None or len(sharding.device_set) == 1


def _deleted(*given: PyTree) -> str | None:
    """The place of the first array whose buffer is gone."""
    for name, tree in zip((*_NAMES, "batch", "extra"), given, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(leaf, jax.Array) and not arguments.is_traced(leaf) and leaf.is_deleted():
                return name + jax.tree_util.keystr(path)
    return None


def _unshared(donated: PyTree, kept: PyTree) -> PyTree:
    """Copies of donated arrays in place of those whose buffers stand elsewhere too."""
    taken = {buffer for leaf in jax.tree.leaves(kept) for buffer in _buffers(leaf)}

    def own(leaf: Any) -> Any:
        buffers = _buffers(leaf)
        if taken.isdisjoint(buffers):
            taken.update(buffers)
            return leaf
        return jnp.copy(leaf)

    return jax.tree.map(own, donated)


def _buffers(leaf: Any) -> set[Any]:
    """The device memory that an array lies in; none for what is copied there at each call."""
    if not isinstance(leaf, jax.Array) or arguments.is_traced(leaf) or leaf.is_deleted():
        return set()
    try:
        return {(s.device, s.data.unsafe_buffer_pointer()) for s in leaf.addressable_shards}
    except (AttributeError, NotImplementedError, RuntimeError):  # Not every backend tells.
        return {id(leaf)}
