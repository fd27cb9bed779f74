"""The points that share a program, and that program traced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._devices import Devices
from momentax.sweeps._keys import is_key
from momentax.sweeps._points import Points, described
from momentax.sweeps._program import Program, Traced

_DIVERGED = "diverged"  # The entry of a result by which `run` itself says so.
_programs: WeakKeyDictionary[Any, dict[Any, Program]] = WeakKeyDictionary()


class Group(NamedTuple):
    """The points that share their static values, and so a program."""

    fixed: dict[str, Any]
    places: np.ndarray  # Their places among all points, flat.
    columns: dict[str, np.ndarray]  # Of all points.

    def take(self, where: Devices) -> Callable[[np.ndarray], PyTree]:
        def points(index: np.ndarray) -> PyTree:
            batch = {name: where.place(values[index]) for name, values in self.columns.items()}
            return where.place(index.astype(np.int32)), batch

        return points

    def one(self) -> PyTree:
        """The shapes of a point: its index, so that there always is a leaf, and its numbers."""
        columns = {
            name: jax.ShapeDtypeStruct((), values.dtype) for name, values in self.columns.items()
        }
        return jax.ShapeDtypeStruct((), np.int32), columns


def groups(points: Points, static: Sequence[str]) -> list[Group]:
    axes = points.axes
    static = (static,) if isinstance(static, str) else tuple(static)
    for name in static:
        if name not in axes:
            raise ValueError(f"static must name axes of the points, {list(axes)}, got {name!r}")
    fixed = [name for name in axes if name in static or name in points.static]
    columns = points.columns()
    every = np.arange(len(points))
    moving = {name: values for name, values in columns.items() if name not in fixed}
    if not fixed:
        return [Group({}, every, moving)]
    places = [_places(columns[name]) for name in fixed]
    _, first, group = np.unique(np.stack(places), axis=1, return_index=True, return_inverse=True)
    group = group.ravel()
    return [
        Group({name: _plain(columns[name][start]) for name in fixed}, every[group == g], moving)
        for g, start in sorted(enumerate(first), key=lambda each: each[1])
    ]


def _places(values: np.ndarray) -> np.ndarray:
    """Each value as a number of its own; 1, 1.0 and True are three values."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault((type(v), v), len(seen)) for v in values.tolist()])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def program(function: Any, key: Any, make: Callable[[Callable[[], Any]], Any]) -> Program:
    """The program that `make` builds of a function, the same one at the next call.

    It gets the function by a weak reference, so that the program goes with it.
    """
    try:
        known = _programs.setdefault(function, {})
        alive: Callable[[], Any] = ref(function)
    except TypeError:  # Without a hash, or beyond weak references: nothing is kept.
        known, alive = {}, lambda: function
    if key not in known:
        known[key] = Program(make(alive))
    return known[key]


def traced(
    program: Program,
    shared: PyTree,
    one: PyTree,
    what: str,
    point: Mapping[str, Any],
    fixed: Collection[str] | None = None,
) -> Traced:
    """A program traced for one point; an error says of what, and at which point.

    fixed are the axes whose values it has, where it could have those of others too.
    """
    try:
        return program.trace(shared, one)
    except Exception as error:  # Whatever the caller's function raises.
        # Its kind is kept where that is a built-in, as callers may know it by that.
        kind = next((k for k in (TypeError, ValueError) if isinstance(error, k)), RuntimeError)
        text = f"{what} failed at the point {described(point)}: {type(error).__name__}: {error}"
        if fixed is not None and isinstance(error, jax.errors.JAXTypeError):
            # A tracer stood where a value must.
            moving = [name for name in point if name not in fixed]
            text += f"\nIf it needs the very value of an axis, name the axis: static={moving[:1]!r}"
        raise kind(text) from error


def traced_run(run: Any, reduce: Any, group: Group, points: Points) -> Traced:
    """What a sweep runs for the points of a group: (point) -> what run returns, has it diverged."""

    def make(alive: Callable[[], Any]) -> Any:
        def one(shared: PyTree, point: PyTree) -> PyTree:
            del shared
            value = alive()(**point[1], **group.fixed)
            kept = value if reduce is None else reduce(value)
            return arrays(kept), _has_diverged(value)

        return one

    key = (
        arguments.as_hashable(reduce),
        tuple((name, type(v), v) for name, v in group.fixed.items()),
    )
    point = points[int(group.places[0])]
    return traced(program(run, key, make), (), group.one(), "run", point, group.fixed)


def arrays(tree: PyTree) -> PyTree:
    """A result whose leaves NumPy can hold."""
    tree = jax.tree.map(jnp.asarray, tree)
    for path, leaf in jax.tree.leaves_with_path(tree):
        if is_key(leaf):
            raise TypeError(
                f"random keys at result{jax.tree_util.keystr(path)}; return "
                "jax.random.key_data(key) instead"
            )
    return tree


def _has_diverged(value: PyTree) -> jax.Array:
    if isinstance(value, Mapping) and _DIVERGED in value:
        return jnp.asarray(value[_DIVERGED]).astype(bool).any()
    lost = jnp.zeros((), bool)
    for leaf in map(jnp.asarray, jax.tree.leaves(value)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            lost |= ~jnp.isfinite(leaf).all()
    return lost


def require_alike(traces: Sequence[Traced], groups: Sequence[Group], points: Points) -> None:
    """Refuse results that do not stack."""
    first = _shapes(traces[0].out[0])
    for trace, group in zip(traces[1:], groups[1:], strict=True):
        other = _shapes(trace.out[0])
        same = jax.tree.structure(trace.out[0]) == jax.tree.structure(traces[0].out[0])
        if other == first and same:
            continue
        here, there = (described(points[int(g.places[0])]) for g in (groups[0], group))
        paths = [p for p in {**first, **other} if first.get(p) != other.get(p)]
        what = (
            f"result{paths[0]} is {first.get(paths[0], 'missing')} and "
            f"{other.get(paths[0], 'missing')}"
            if paths
            else f"{jax.tree.structure(traces[0].out[0])} and {jax.tree.structure(trace.out[0])}"
        )
        raise ValueError(
            f"run must return the same structure, shapes and dtypes at every point; at the points "
            f"{here} and {there} it does not: {what}"
        )


def _shapes(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
