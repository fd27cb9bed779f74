"""Which array of another framework belongs to which leaf, and in which order its axes are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import trees
from momentax._core.arguments import as_count, as_items, describe
from momentax._core.sharding import place_like
from momentax._core.typing import PyTree
from momentax.conventions._arrays import as_numpy, require_dtype

# The axes of PyTorch's kernels in Flax's order: dense, and convolutions over 1, 2 and 3 axes.
_KERNELS = [(1, 0), (2, 1, 0), (2, 3, 1, 0), (2, 3, 4, 1, 0)]


@dataclass(frozen=True)
class Counterpart:
    """The array of another framework that corresponds to a leaf of the parameters.

    A name instead of a Counterpart means that the array has the same axes as
    the leaf. The kernels of PyTorch and Flax have different axes: `axes=(1, 0)`
    is a dense kernel, `(2, 3, 1, 0)` the kernel of a convolution over images. A
    leaf whose axes could be exchanged without a change of its shape, such as a
    square kernel, needs axes in any case. A dense layer after a flattened image
    also needs `shape`, because PyTorch flattens channels first and Flax
    channels last:
    `Counterpart("out.weight", (2, 3, 1, 0), shape=(10, (16, 7, 7)))`.

    Attributes:
        name: The name of the parameter in the other framework, or its number in
            the optimizer.
        axes: For each axis of the leaf the corresponding axis of the array, as
            in `np.transpose`. None means the same order.
        shape: The shape of the array, in which an axis that combines several is
            written as a tuple; `axes` counts these one by one. None means that
            no axis combines several.
    """

    name: str | int
    axes: tuple[int, ...] | None = None
    shape: tuple[int | tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, bool) or not isinstance(self.name, str | int):
            raise TypeError(
                f"the name of a counterpart must be a str or an int, got {describe(self.name)}"
            )
        if isinstance(self.name, int) and self.name < 0:
            raise ValueError(
                "the name of a counterpart must be a number of at least 0 if it is a number, got "
                f"{describe(self.name)}"
            )
        name = str(self.name) if isinstance(self.name, str) else int(self.name)
        object.__setattr__(self, "name", name)  # Without NumPy's types, which a repr would show.
        if self.axes is None:
            if self.shape is not None:
                raise ValueError(f"the counterpart {self.name!r} has a shape, so it needs axes too")
            return
        axes = as_items("axes", self.axes, "numbers of axes")
        axes = tuple(as_count(f"axes[{i}]", axis, least=0) for i, axis in enumerate(axes))
        rank = len(axes if self.shape is None else self._parts())
        if sorted(axes) != list(range(rank)):
            raise ValueError(
                f"the axes of the counterpart {self.name!r} must be a permutation of the numbers 0 "
                f"to {rank - 1}, got {describe(self.axes)}"
            )
        object.__setattr__(self, "axes", axes)

    def _parts(self) -> tuple[int, ...]:
        """Return the sizes of all axes of the array, combined ones split."""
        sizes = as_items("shape", self.shape, "sizes of axes")
        split = (size if isinstance(size, tuple) else (size,) for size in sizes)
        parts = itertools.chain.from_iterable(split)
        return tuple(as_count("each size in shape", size, least=0) for size in parts)

    def _combined(self) -> tuple[int, ...]:
        """Return the shape of the array, combined axes multiplied out."""
        return tuple(int(np.prod(size)) for size in self.shape or ())

    def _read(self, array: np.ndarray, like: Any, where: str) -> np.ndarray:
        """Return the array with the axes and the shape of a leaf."""
        given = array.shape
        if self.shape is not None:
            if given != self._combined():
                raise ValueError(
                    f"{where} has shape {given}, and its counterpart has {self._combined()}"
                )
            array = array.reshape(self._parts())
        if self.axes is not None:
            if array.ndim != len(self.axes):
                raise ValueError(f"{where} has shape {given}, and its axes are {self.axes}")
            array = array.transpose(self.axes)
        if self.shape is not None and array.size == like.size:
            array = array.reshape(like.shape)
        orders = _fitting_orders(given, like.shape)
        if array.shape != like.shape:
            changed = "" if array.shape == given else f", with axes={self.axes} {array.shape},"
            hint = f"; axes={orders[0]} would fit" if orders else ""
            raise ValueError(f"{where} has shape {given}{changed} where {like.shape} belongs{hint}")
        self._require_axes(orders, like.shape, where)
        return array

    def _write(self, leaf: np.ndarray, where: str) -> np.ndarray:
        """Return the leaf with the axes and the shape of the array: the inverse of `_read`."""
        self._require_axes(_fitting_orders(leaf.shape, leaf.shape), leaf.shape, where)
        if self.axes is None:
            return leaf
        if self.shape is not None:
            parts = self._parts()
            if leaf.size != np.prod(parts, dtype=int):
                raise ValueError(
                    f"{where} has shape {self.shape}, and the leaf has shape {leaf.shape}"
                )
            leaf = leaf.reshape([parts[axis] for axis in self.axes])
        elif leaf.ndim != len(self.axes):
            raise ValueError(f"{where} has axes {self.axes}, and the leaf has shape {leaf.shape}")
        leaf = leaf.transpose(np.argsort(self.axes))
        return leaf if self.shape is None else leaf.reshape(self._combined())

    def _require_axes(self, orders: list[Any], shape: tuple[int, ...], where: str) -> None:
        """Refuse axes left out where several orders fit, so that the shape shows no mistake."""
        if self.axes is None and len(orders) > 1:
            choices = " or ".join(f"axes={axes}" for axes in sorted(orders)[:2])
            raise ValueError(
                f"{where} could have its axes in several orders in the shape {shape}; pass one of "
                f"them: {choices}"
            )


def _fitting_orders(given: tuple[int, ...], wanted: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the orders of axes that turn one shape into another, the likeliest first."""
    if sorted(given) != sorted(wanted) or len(given) > 6:
        return []
    orders: dict[Any, tuple[int, ...]] = {}
    for axes in itertools.chain(_KERNELS, itertools.permutations(range(len(given)))):
        if len(axes) == len(given) and tuple(given[axis] for axis in axes) == wanted:
            # Orders that differ only in axes of size 1 give the same array.
            orders.setdefault(tuple(axis for axis in axes if given[axis] > 1), axes)
    return list(orders.values())


def leaf_path(path: Any) -> str:
    """Return a leaf's path as a string, without the `.value` of a Flax variable."""
    return jax.tree_util.keystr(path).removesuffix(".value")


def describe_path(path: str) -> str:
    return path or "the root"


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a tree by their paths."""
    return {leaf_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def masked_paths(tree: PyTree) -> tuple[str, ...]:
    """Return the paths at which another branch of a partition has the parameters."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=trees.is_masked)
    return tuple(leaf_path(path) for path, node in nodes if trees.is_masked(node))


def read_mapping(
    mapping: PyTree, paths: Iterable[str], elsewhere: tuple[str, ...] = ()
) -> dict[str, Counterpart]:
    """Return the counterpart of each leaf by the leaf's path, checked to be complete.

    The mapping may also name leaves whose paths start with one of `elsewhere`.
    """
    by_path = isinstance(mapping, Mapping) and all(
        isinstance(key, str) and key[:1] in ("[", ".") for key in mapping
    )
    given = {
        path.removesuffix(".value"): Counterpart(entry) if _is_name(entry) else entry
        for path, entry in (mapping if by_path else leaves_by_path(mapping)).items()
    }
    paths = list(paths)
    for path, entry in given.items():
        if not isinstance(entry, Counterpart):
            raise TypeError(
                f"mapping at {describe_path(path)} must be a name, a number or a Counterpart, got "
                f"{describe(entry)}"
            )
        if path not in paths and not path.startswith(elsewhere or ("\0",)):
            raise ValueError(
                f"mapping gives {describe_path(path)} the counterpart {entry.name!r}, and the "
                f"parameters have no such leaf; they have {', '.join(map(describe_path, paths))}"
            )
    for path in paths:
        if path not in given:
            raise ValueError(
                f"mapping has no counterpart for the parameter at {describe_path(path)}; it has "
                f"counterparts for {', '.join(map(describe_path, given)) or 'none'}"
            )
    _require_distinct(given)
    return given


def _is_name(entry: Any) -> bool:
    """Return whether an entry of a mapping is the name or the number of a parameter."""
    is_number = isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0
    return isinstance(entry, str) or is_number


def _require_distinct(given: dict[str, Counterpart]) -> None:
    """Refuse a mapping that gives two leaves the same counterpart."""
    owners: dict[str | int, str] = {}
    for path, entry in given.items():
        if (other := owners.setdefault(entry.name, path)) != path:
            raise ValueError(
                f"mapping gives {entry.name!r} to both {describe_path(other)} and "
                f"{describe_path(path)}"
            )


def read_array(value: Any, counterpart: Counterpart, like: Any, where: str) -> np.ndarray:
    """Return an array of another framework with the axes of a leaf, checked to fit it."""
    array = as_numpy(value)
    require_dtype(array, like, where)
    return counterpart._read(array, like, where)


def write_array(leaf: Any, counterpart: Counterpart, where: str) -> np.ndarray:
    """Return a copy of a leaf with the axes of its counterpart, which may be written to."""
    return np.array(counterpart._write(np.asarray(leaf), where), order="C")


def import_params(arrays: Mapping[Any, Any], params: PyTree, mapping: PyTree) -> PyTree:
    """Replace parameters with those of another framework.

    For PyTorch: `import_params(model.state_dict(), params, mapping)`. For Keras:
    `import_params({v.path: v for v in model.weights}, params, mapping)`.

    Args:
        arrays: A dict from names to tensors, variables or arrays; entries that
            the mapping does not name are ignored.
        params: The parameters to replace, or what `jax.eval_shape` returns for
            them.
        mapping: For each leaf its name in the other framework or a
            `Counterpart`: a pytree like params, or a dict with paths as keys, such
            as "['dense']['kernel']".

    Returns:
        A pytree like params.

    Raises:
        ValueError: A leaf has no counterpart, arrays have none of that name, or
            its shape does not fit; the message names the leaf and the array.
        TypeError: An array has a dtype that the parameter's cannot represent
            without loss.

    Example:
        >>> weights = {"fc.weight": np.array([4.0, 5.0, 6.0], np.float32)}
        >>> momentax.conventions.import_params(weights, params, {"w": "fc.weight"})
        {'w': Array([4., 5., 6.], dtype=float32)}
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays must be a dict from names to arrays, got {describe(arrays)}")
    given = read_mapping(mapping, leaves_by_path(params))

    def read(at: Any, leaf: Any) -> jax.Array:
        path = leaf_path(at)
        entry = given[path]
        where = f"{entry.name!r} for the parameter at {describe_path(path)}"
        if entry.name not in arrays:
            known = ", ".join(map(repr, arrays)) or "none"
            raise ValueError(f"{where} is missing in arrays, which has {known}")
        array = read_array(arrays[entry.name], entry, leaf, where)
        return place_like(jnp.array(array, leaf.dtype), leaf)

    return jax.tree_util.tree_map_with_path(read, params)


def export_params(params: PyTree, mapping: PyTree) -> dict[str | int, np.ndarray]:
    """Convert parameters to the arrays that another framework keeps.

    In PyTorch, `model.load_state_dict({name: torch.from_numpy(array) for name,
    array in exported.items()}, strict=False)` reads them; a Keras variable
    assigns the array as it is.

    Args:
        params: The parameters.
        mapping: As in `import_params`.

    Returns:
        A dict from the name of each counterpart to a NumPy array, which is a copy.

    Raises:
        ValueError: A leaf has no counterpart or does not have its shape.

    Example:
        >>> momentax.conventions.export_params(params, {"w": "fc.weight"})
        {'fc.weight': array([1., 2., 3.], dtype=float32)}
    """
    leaves = leaves_by_path(params)
    given = read_mapping(mapping, leaves)
    return {
        given[path].name: write_array(
            leaf, given[path], f"{given[path].name!r} for {describe_path(path)}"
        )
        for path, leaf in leaves.items()
    }
