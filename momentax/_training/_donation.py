"""Calling a jitted step that writes over its arguments, whatever buffers these share."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core.arguments import describe, is_traced
from momentax._core.trees import ARRAYS, Difference, first_difference, is_array
from momentax._core.typing import PyTree
from momentax._core.warn import warn
from momentax._wrappers._failures import (
    SkippedStepError,
    forget_failures,
    nodes_that_raise,
    raise_for_failures,
)

# program(single_device, params, state, *batch, **extra) -> params, state, outcome
Program = Callable[..., tuple[PyTree, PyTree, Any]]

_NAMES = ("params", "state")
KEEP_TYPES = "give init parameters, and update gradients, of the types in which tx keeps its state"


class _TypeChangedError(Exception):
    """Raised while tracing: the step returns params or state in another type than given."""


class _LastCall(NamedTuple):
    """What the next call can rely on if it continues from the last one.

    first: the first array that the last call returned, as a weak reference. What one call
        returns shares no buffers.
    single_device: whether that call ran on one device.
    """

    first: Callable[[], Any]
    single_device: bool


class DonatingStep:
    """A jitted step whose params and state are donated, with the methods of `jax.jit`'s result."""

    def __init__(self, program: Program) -> None:
        self.__name__ = "train_step"
        self._program = program
        # Each by whether the program runs on a single device.
        self._jitted = _jit_donating(partial(_run_unchanged, program))
        self._jitted_changing = _jit_donating(program)
        self._has_warned = False
        self._last_call = _LastCall(lambda: None, True)

    def __repr__(self) -> str:
        return repr(self._program)

    def __call__(self, params: PyTree, state: PyTree, /, *batch: PyTree, **extra: Any) -> Any:
        leaves = jax.tree.leaves((params, state, batch, extra))
        first, single_device = self._last_call
        continues = bool(leaves) and leaves[0] is first()
        if not continues:
            single_device = _is_on_single_device(leaves)
        if not continues or len(set(map(id, leaves))) < len(leaves):
            params, state = _copy_shared((params, state), (batch, extra))
        try:
            after = self._run("__call__", single_device, params, state, *batch, **extra)
        except (RuntimeError, ValueError) as error:
            if "deleted" in str(error) and (place := _find_deleted(params, state, batch, extra)):
                raise RuntimeError(
                    f"{place} was donated to an earlier call, which wrote over it: continue with "
                    "the params and the state that it returned, or give donate=False"
                ) from error
            if not continues or "donate" not in str(error):
                raise
            # Since the last call an argument has come to share a buffer with another.
            self._last_call = _LastCall(lambda: None, single_device)
            return self(params, state, *batch, **extra)
        returned = next(iter(jax.tree.leaves(after[0])), None)
        if isinstance(returned, jax.Array):
            self._last_call = _LastCall(weakref.ref(returned), single_device)
        _raise_for_guard(after)
        return after

    def lower(self, /, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        return self._inspect("lower", *args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        return self._inspect("trace", *args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._inspect("eval_shape", *args, **kwargs)

    def _inspect(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        single_device = _is_on_single_device(jax.tree.leaves((args, kwargs)))
        return self._run(method, single_device, *args, **kwargs)

    def _run(self, method: str, single_device: bool, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the jitted step, with a warning where types change."""
        try:
            return call_naming_leaves(getattr(self._jitted[single_device], method), *args, **kwargs)
        except _TypeChangedError as changed:
            if not self._has_warned:
                self._has_warned = True
                warn(
                    f"train_step cannot reuse a donated buffer, and compiles again: {changed}; "
                    f"{KEEP_TYPES}"
                )
        with warnings.catch_warnings():  # JAX would warn too, but without the name of the leaf.
            warnings.filterwarnings("ignore", "Some donated buffers were not usable")
            return getattr(self._jitted_changing[single_device], method)(*args, **kwargs)


class PlainStep:
    """A jitted step that donates nothing, with the methods of `jax.jit`'s result."""

    def __init__(self, program: Program) -> None:
        self.__name__ = "train_step"
        self._program = program
        self._jitted = jax.jit(name_step(partial(program, False)))

    def __repr__(self) -> str:
        return repr(self._program)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        after = call_naming_leaves(self._jitted, *args, **kwargs)
        _raise_for_guard(after)
        return after

    def lower(self, /, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        return self._jitted.lower(*args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        return self._jitted.trace(*args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._jitted.eval_shape(*args, **kwargs)


def _jit_donating(program: Program) -> dict[bool, Any]:
    """The jitted program for several devices and for a single one."""
    return {
        single_device: jax.jit(
            name_step(partial(program, single_device)), donate_argnums=(0, 1), keep_unused=True
        )
        for single_device in (False, True)
    }


def _run_unchanged(
    program: Program,
    single_device: bool,
    params: PyTree,
    state: PyTree,
    /,
    *batch: PyTree,
    **extra: Any,
) -> Any:
    """Run the program; raise if it returns params or state in other types than given."""
    after = program(single_device, params, state, *batch, **extra)
    if changed := describe_change((params, state), after[:2]):
        raise _TypeChangedError(changed)
    return after


def _raise_for_guard(after: tuple[PyTree, PyTree, Any]) -> None:
    """Raise an error if a guard in the returned state asks for one.

    The params and the state that a call returned are in the error: those that were given have
    been donated.
    """
    params, state, _ = after
    leaves, structure = jax.tree.flatten(state)
    flags = [leaves[i] for i in _places_of_failures(structure)]
    if not flags or any(map(is_traced, flags)):
        return
    try:
        raise_for_failures(state)
    except SkippedStepError as error:
        error.params, error.state = params, forget_failures(state)
        raise


@functools.lru_cache(maxsize=64)  # A call should not walk a large state in Python.
def _places_of_failures(structure: Any) -> list[int]:
    """Return where a state has the flags of guards that raise, as numbers of its leaves."""
    numbered = structure.unflatten(range(structure.num_leaves))
    return [node.failed for node in nodes_that_raise(numbered)]


def call_naming_leaves(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a jitted step; where a leaf is no array, raise an error that names it."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        trees = {**dict(zip(_NAMES, args, strict=False)), "batch": args[2:], "extra": kwargs}
        for name, tree in trees.items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                if not is_array(leaf):
                    raise TypeError(
                        f"{name}{jax.tree_util.keystr(path)} must be an array, got "
                        f"{describe(leaf)}; {ARRAYS}"
                    ) from error
        raise


def name_step(program: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a program in a function called train_step, the name that profiles show."""

    def train_step(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)

    train_step.__qualname__ = train_step.__name__  # The name in JAX's errors.
    return train_step


# Types.


def shape_and_dtype(leaf: Any) -> tuple[Any, Any]:
    aval = jax.typeof(leaf)
    return aval.shape, aval.dtype


def describe_change(before: tuple[PyTree, PyTree], after: tuple[PyTree, PyTree]) -> str | None:
    """Describe the first place where params or state have changed their type; None without any."""
    for name, old, new in zip(_NAMES, before, after, strict=True):
        if found := first_difference(new, old, compare_leaves=_type_difference):
            place = name + jax.tree_util.keystr(found.path)
            if found.given == "nothing":
                return f"{place} is given and not returned"
            if found.expected == "nothing":
                return f"{place} is returned and was not given"
            return f"{place} has {found.expected} and returns with {found.given}"
    return None


def _type_difference(new: Any, old: Any, path: Any) -> Difference | None:
    (new_shape, new_dtype), (shape, dtype) = map(shape_and_dtype, (new, old))
    if new_shape != shape:
        return Difference(path, f"shape {new_shape}", f"shape {shape}", TypeError)
    if new_dtype != dtype:
        return Difference(path, f"dtype {new_dtype}", f"dtype {dtype}", TypeError)
    return None


# Devices and buffers.


def _is_on_single_device(leaves: list[Any]) -> bool:
    """Whether all arrays lie on one device; False where a leaf is traced and so unknown."""
    for leaf in leaves:
        if is_traced(leaf):
            return False
        sharding = getattr(leaf, "sharding", None)
        if sharding is not None and len(sharding.device_set) > 1:
            return False
    return True


def _find_deleted(*trees: PyTree) -> str | None:
    """The place of the first array that was deleted."""
    for name, tree in zip((*_NAMES, "batch", "extra"), trees, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(leaf, jax.Array) and not is_traced(leaf) and leaf.is_deleted():
                return name + jax.tree_util.keystr(path)
    return None


def _copy_shared(donated: PyTree, others: PyTree) -> PyTree:
    """Copy each donated array whose buffer is also that of another argument."""
    taken = {buffer for leaf in jax.tree.leaves(others) for buffer in _buffers(leaf)}

    def own(leaf: Any) -> Any:
        buffers = _buffers(leaf)
        if taken.isdisjoint(buffers):
            taken.update(buffers)
            return leaf
        return jnp.copy(leaf)

    return jax.tree.map(own, donated)


def _buffers(leaf: Any) -> set[Any]:
    """The device buffers of an array; none for a value that is sent to the device at each call."""
    if not isinstance(leaf, jax.Array) or is_traced(leaf) or leaf.is_deleted():
        return set()
    try:
        return {(s.device, s.data.unsafe_buffer_pointer()) for s in leaf.addressable_shards}
    except (AttributeError, NotImplementedError, RuntimeError):  # Some backends have no pointers.
        return {id(leaf)}
