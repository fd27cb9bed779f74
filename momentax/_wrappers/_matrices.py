"""Which parameters are matrices, and how an array of more axes is a stack of matrices."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments, trees
from momentax._core.typing import PyTree
from momentax._state._names import leaf_names

# One letter for each axis: of inputs, of outputs, or of a batch of separate matrices.
_LETTERS = "iob"
_MOST_AXES = 32
_BY_NUMBER_OF_AXES = {2: "io", 3: "bio", 4: "iiio"}
# Kernels of Flax with three axes that are no stack of matrices (inputs, outputs), by a part of the
# name of their module, and how their axes may be meant.
_AMBIGUOUS = {
    **dict.fromkeys(
        ("query", "key", "value"), '"ibo" for one matrix a head or "ioo" for all heads'
    ),
    "out": '"bio" for one matrix a head or "iio" for all heads',
    "conv": '"iio"',
}


class Layout(NamedTuple):
    """How an array is a stack of matrices.

    axes: a letter for each axis: "i" for an axis of inputs, "o" for one of outputs, "b" for one
        along which there are separate matrices. Several axes of inputs are flattened to one, and so
        are those of outputs.
    sizes: the widths of the blocks into which the outputs are split.
    """

    axes: str
    sizes: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The axes in the order of the batch, the inputs and the outputs."""
        return tuple(sorted(range(len(self.axes)), key=lambda axis: "bio".index(self.axes[axis])))

    def length(self, letter: str, shape: Sequence[int]) -> int:
        """The number of entries along all axes of one letter."""
        return math.prod(n for n, each in zip(shape, self.axes, strict=True) if each == letter)


def blocks_of(array: jax.Array, layout: Layout) -> list[jax.Array]:
    """Return the blocks of an array, each a stack of matrices (count, inputs, outputs)."""
    count, inputs = (layout.length(letter, array.shape) for letter in "bi")
    stack = jax.lax.transpose(array, layout.order).reshape(count, inputs, -1)
    if len(layout.sizes) == 1:
        return [stack]
    ends = np.cumsum(layout.sizes)
    return [
        jax.lax.slice_in_dim(stack, int(end) - size, int(end), axis=2)
        for end, size in zip(ends, layout.sizes, strict=True)
    ]


def from_blocks(blocks: Sequence[jax.Array], layout: Layout, shape: Sequence[int]) -> jax.Array:
    """Return the array of a shape that has these blocks."""
    stack = blocks[0] if len(blocks) == 1 else jax.lax.concatenate(blocks, 2)
    ordered = stack.reshape([shape[axis] for axis in layout.order])
    return jax.lax.transpose(ordered, tuple(map(int, np.argsort(layout.order))))


def require_choices(where: Any, heads: Any, split: Any) -> None:
    """Refuse values that can be no choice of leaves, before the parameters are known."""
    for name, value, convert in (
        ("where", where, _as_axes),
        ("heads", heads, _as_axis),
        ("split", split, _as_sizes),
    ):
        if value is None:
            continue
        if callable(value):
            arguments.require_function(name, value, "from params to a tree", "params")
            continue
        for each in jax.tree.leaves(value, is_leaf=_is_end):
            if each is not None:
                convert(name, each)


def layouts_of(
    params: PyTree, where: Any, heads: Any, split: Any, *, complete: bool = True
) -> dict[Any, Layout]:
    """Return the layout of each leaf that holds matrices, by the leaf's path.

    `complete` is False for gradients, some of which may be None; then a pattern need not match.
    """
    arrays = {
        path: leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if trees.is_array(leaf)
    }
    axes = {} if where is None else _by_path("where", where, params, _as_axes, complete)
    head = {} if heads is None else _by_path("heads", heads, params, _as_axis, complete)
    sizes = {} if split is None else _by_path("split", split, params, _as_sizes, complete)
    names = dict(zip(_paths(params), leaf_names(params), strict=True))
    layouts = {}
    for path, leaf in arrays.items():
        at = _Place(path, names[path], np.shape(leaf))
        letters = at.axes(axes.get(path, where is None), head.get(path))
        if letters is not None:
            layouts[path] = at.layout(letters, sizes.get(path))
        else:
            at.require_absent(heads=head.get(path), split=sizes.get(path))
    return layouts


class _Place(NamedTuple):
    """A leaf of the parameters: its path, the parts of its name and its shape."""

    path: Any
    name: tuple[str, ...]
    shape: tuple[int, ...]

    def axes(self, given: Any, head: int | None) -> str | None:
        """Return a letter for each axis, or None if the leaf is no matrix."""
        dims = len(self.shape)
        if given is False or (given is True and dims < 2) or math.prod(self.shape) == 0:
            return None
        if head is not None and not -dims <= head < dims:
            self._refuse("heads", head, f"one of its {dims} axes")
        if isinstance(given, str):
            if len(given) != dims:
                self._refuse("where", repr(given), f"one letter for each of its {dims} axes")
        else:
            given = self._usual_axes(head)
        if head is None:
            return given
        head %= dims
        letters = given[:head] + "b" + given[head + 1 :]
        if not {"i", "o"} <= set(letters):
            self._refuse("heads", head, "an axis beside those of the inputs and outputs")
        return letters

    def _usual_axes(self, head: int | None) -> str:
        """Return the axes of a kernel of Flax by their number, with one of heads put in."""
        dims = len(self.shape)
        if head is not None:
            usual = _BY_NUMBER_OF_AXES.get(dims - 1)
            if usual is not None:
                head %= dims
                return usual[:head] + "b" + usual[head:]
        elif usual := _BY_NUMBER_OF_AXES.get(dims):
            self._require_stack()
            return usual
        raise ValueError(
            f"the parameter at {trees.path_name(self.path)} has shape {self.shape}, from which its "
            "axes of inputs and outputs are not known: say what its axes are with "
            f'where={{"{"/".join(self.name)}": "{"bb" if dims > 4 else ""}iiio", "*": True}}, a '
            "letter for each axis, or leave it out with False"
        )

    def _require_stack(self) -> None:
        """Refuse a kernel of three axes whose name says that it is no stack of matrices."""
        module = self.name[-2].lower() if len(self.name) > 1 else ""
        for part, remedy in _AMBIGUOUS.items():
            if len(self.shape) == 3 and (module == part or (part == "conv" and part in module)):
                raise ValueError(
                    f"the parameter at {trees.path_name(self.path)} has 3 axes, which would be "
                    "taken as (batch, inputs, outputs), and its name says that they are others: "
                    f'say what they are with where={{"{"/".join(self.name)}": ..., "*": True}}, '
                    f"where ... is {remedy}"
                )

    def layout(self, axes: str, sizes: Any) -> Layout:
        outputs = Layout(axes, ()).length("o", self.shape)
        if sizes is None:
            return Layout(axes, (outputs,))
        if isinstance(sizes, int):
            if outputs % sizes:
                self._refuse("split", sizes, f"a divisor of its {outputs} outputs")
            return Layout(axes, (outputs // sizes,) * sizes)
        if sum(sizes) != outputs:
            self._refuse("split", sizes, f"widths whose sum is {outputs}, the number of outputs")
        return Layout(axes, sizes)

    def require_absent(self, **given: Any) -> None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{name} has {value} for the parameter at {trees.path_name(self.path)}, which "
                    f"is not orthogonalized: leave it out of {name}, or choose it with where"
                )

    def _refuse(self, name: str, value: Any, need: str) -> None:
        raise ValueError(
            f"{name} must be, for the parameter at {trees.path_name(self.path)} of shape "
            f"{self.shape}, {need}, got {value}"
        )


# Values of where, heads and split, and to which leaves they belong.


def _as_axes(name: str, value: Any) -> bool | str:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and {"i", "o"} <= set(value) <= set(_LETTERS):
        return value
    raise TypeError(
        f"{name} must have a bool for each parameter, or a letter for each of its axes, such as "
        f'"io" or "bio" (i: inputs, o: outputs, b: a batch), got {arguments.describe(value)}'
    )


def _as_axis(name: str, value: Any) -> int:
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_number and -_MOST_AXES <= value < _MOST_AXES:
        return int(value)
    raise TypeError(
        f"{name} must have the number of an axis for each parameter that has heads, got "
        f"{arguments.describe(value)}"
    )


def _as_sizes(name: str, value: Any) -> int | tuple[int, ...]:
    if isinstance(value, list | tuple):
        return tuple(arguments.as_count(f"each width in {name}", each) for each in value)
    return arguments.as_count(name, value)


def _is_end(value: Any) -> bool:
    """Return whether a node is one value: None, or the widths of blocks."""
    return value is None or (
        type(value) in (tuple, list)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )


def _paths(params: PyTree) -> list[Any]:
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def _by_path(
    name: str, value: Any, params: PyTree, convert: Callable[[str, Any], Any], complete: bool
) -> dict[Any, Any]:
    """Return the value for each leaf that has one, by the leaf's path."""
    if callable(value):
        value = value(params)
    if _holds_patterns(value, params):
        return _by_pattern(name, value, params, convert, complete)
    found = _by_structure(value, params, trees.is_none)
    if not isinstance(found, dict):
        # Widths of blocks are a tuple or a list, which is no part of the structure of params.
        found = _by_structure(value, params, _is_end)
    if not isinstance(found, dict):
        raise ValueError(
            f"{name} must be a tree with the structure of params, a prefix of it, a function from "
            f"params to one, or a dict from patterns of names to values: {found}"
        )
    return {path: convert(name, each) for path, each in found.items() if each is not None}


def _by_structure(
    value: Any, params: PyTree, is_leaf: Callable[[Any], bool]
) -> dict[Any, Any] | Exception:
    """Return the value for each leaf by its path, or why the structures differ."""
    found = {}

    def visit(at: Any, each: Any, part: PyTree) -> None:
        found.update({(*at, *path): each for path in _paths(part)})

    try:
        jax.tree_util.tree_map_with_path(visit, value, params, is_leaf=is_leaf)
    except (ValueError, TypeError) as error:
        return error
    return found


def _holds_patterns(value: Any, params: PyTree) -> bool:
    """Return whether a dict is from patterns, and not a tree with the keys of the parameters."""
    return (
        isinstance(value, Mapping)
        and not (isinstance(params, Mapping) and set(params) == set(value))
        and all(isinstance(key, str) for key in value)
        and not any(isinstance(each, Mapping) for each in value.values())
    )


def _by_pattern(
    name: str,
    patterns: Mapping[str, Any],
    params: PyTree,
    convert: Callable[[str, Any], Any],
    complete: bool,
) -> dict[Any, Any]:
    """Return for each leaf the value of the first pattern that matches its name."""
    found, matched = {}, set()
    names = ["/".join(parts) for parts in leaf_names(params)]
    for path, leaf in zip(_paths(params), names, strict=True):
        hits = [pattern for pattern in patterns if fnmatch.fnmatchcase(leaf, pattern)]
        matched.update(hits)
        if hits and patterns[hits[0]] is not None:
            found[path] = convert(name, patterns[hits[0]])
    unmatched = [pattern for pattern in patterns if pattern not in matched]
    if unmatched and complete:
        listed = ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")
        raise ValueError(
            f"{name} has the pattern {unmatched[0]!r}, which matches no parameter; their names are "
            f"{listed or 'none'}"
        )
    return found
