"""Which array of another framework belongs to which leaf, and how its axes lie."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import trees
from momentax._core.typing import PyTree

# Kernels as torch keeps them and as Flax does: dense, and convolutions over 1, 2 and 3 axes.
_KERNELS = [(1, 0), (2, 1, 0), (2, 3, 1, 0), (2, 3, 4, 1, 0)]


@dataclass(frozen=True)
class Counterpart:
    """The array of another framework that a leaf of the parameters corresponds to.

    A name alone stands for an array with the leaf's own axes. PyTorch's kernels
    have others than Flax's: `axes=(1, 0)` for a dense kernel, `(2, 3, 1, 0)` for
    one of a convolution over images. A leaf whose axes could be swapped unseen,
    as of a square kernel, needs its axes even where they agree. A dense layer
    after a flattened image also needs `shape`, since PyTorch flattens channels
    first and Flax last:
    `Counterpart("out.weight", (2, 3, 1, 0), shape=(10, (16, 7, 7)))`.

    Attributes:
        name: The parameter's name there, or its number in the optimizer.
        axes: For each axis of the leaf the axis that it is there, as in
            `np.transpose`. None is the order they have.
        shape: The shape there, an axis that holds several written as a tuple;
            `axes` counts those singly. None is no such axis.
    """

    name: str | int
    axes: tuple[int, ...] | None = None
    shape: tuple[int | tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, bool) or not isinstance(self.name, str | int):
            raise TypeError(f"a counterpart's name must be a str or an int, got {self.name!r}")
        if self.axes is None:
            if self.shape is not None:
                raise ValueError(f"the counterpart {self.name!r} has a shape and needs axes too")
            return
        rank = len(self.axes if self.shape is None else self._parts())
        if sorted(self.axes) != list(range(rank)):
            raise ValueError(
                f"axes of the counterpart {self.name!r} must order the numbers 0 to {rank - 1}, "
                f"got {self.axes}"
            )

    def _parts(self) -> tuple[int, ...]:
        """The sizes of all axes there, counted singly."""
        split = (size if isinstance(size, tuple) else (size,) for size in self.shape or ())
        return tuple(itertools.chain.from_iterable(split))

    def read(self, array: np.ndarray, like: Any, where: str) -> np.ndarray:
        """The array with the axes of the leaf `like`."""
        given = array.shape
        if self.shape is not None:
            merged = tuple(int(np.prod(size)) for size in self.shape)
            if given != merged:
                raise ValueError(f"{where} has shape {given}, and its counterpart says {merged}")
            array = array.reshape(self._parts())
        if self.axes is not None:
            if array.ndim != len(self.axes):
                raise ValueError(f"{where} has shape {given}, and its axes are {self.axes}")
            array = array.transpose(self.axes)
        if self.shape is not None and array.size == like.size:
            array = array.reshape(like.shape)
        fitting = _fitting(given, like.shape)
        if array.shape != like.shape:
            became = "" if array.shape == given else f", with axes={self.axes} {array.shape},"
            hint = f"; axes={fitting[0]} would fit" if fitting else ""
            raise ValueError(f"{where} has shape {given}{became} where {like.shape} belongs{hint}")
        self._require_axes(fitting, like.shape, where)
        return array

    def write(self, leaf: np.ndarray, where: str) -> np.ndarray:
        """The leaf with the axes of its counterpart: `read` backwards."""
        self._require_axes(_fitting(leaf.shape, leaf.shape), leaf.shape, where)
        if self.axes is None:
            return leaf
        if self.shape is not None:
            if leaf.size != np.prod(self._parts(), dtype=int):
                raise ValueError(f"{where} has shape {self.shape}, and the leaf {leaf.shape}")
            parts = self._parts()
            leaf = leaf.reshape([parts[axis] for axis in self.axes])
        elif leaf.ndim != len(self.axes):
            raise ValueError(f"{where} has axes {self.axes}, and the leaf shape {leaf.shape}")
        leaf = leaf.transpose(np.argsort(self.axes))
        if self.shape is not None:
            leaf = leaf.reshape([int(np.prod(size)) for size in self.shape])
        return leaf

    def _require_axes(self, fitting: list[Any], shape: tuple[int, ...], where: str) -> None:
        # A transposition left out is seen by its shape, but for axes of equal size.
        if self.axes is None and len(fitting) > 1:
            choices = " or ".join(f"axes={axes}" for axes in sorted(fitting)[:2])
            raise ValueError(f"{where} could lie several ways in {shape}; say which: {choices}")


def _fitting(given: tuple[int, ...], wanted: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The orders of axes that make one shape the other, the likeliest first."""
    if sorted(given) != sorted(wanted) or len(given) > 6:
        return []
    fits: dict[Any, tuple[int, ...]] = {}
    for axes in itertools.chain(_KERNELS, itertools.permutations(range(len(given)))):
        if len(axes) == len(given) and tuple(given[axis] for axis in axes) == wanted:
            moved = tuple(axis for axis in axes if given[axis] > 1)  # Axes of size 1 hold nothing.
            fits.setdefault(moved, axes)
    return list(fits.values())


def leaves(tree: PyTree) -> dict[str, Any]:
    """A tree's leaves by their paths; Flax's variables are the leaves, not their values."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def name_of(path: Any) -> str:
    return jax.tree_util.keystr(path).removesuffix(".value")


def shown(name: str) -> str:
    return name or "the root"


def masked(tree: PyTree) -> tuple[str, ...]:
    """The paths at which another branch of a partition owns the parameters."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=trees.is_masked)
    return tuple(name_of(path) for path, node in nodes if trees.is_masked(node))


def counterparts(mapping: PyTree, names: dict[str, Any], elsewhere: tuple[str, ...] = ()) -> Any:
    """The mapping as a dict from each leaf's path to its counterpart, checked to be complete."""
    by_path = isinstance(mapping, Mapping) and all(
        isinstance(key, str) and key[:1] in ("[", ".") for key in mapping
    )
    given = {
        path.removesuffix(".value"): Counterpart(entry) if isinstance(entry, str | int) else entry
        for path, entry in (mapping if by_path else leaves(mapping)).items()
    }
    for path, entry in given.items():
        if not isinstance(entry, Counterpart):
            raise TypeError(
                f"mapping at {shown(path)} must be a name, a number or a Counterpart, got {entry!r}"
            )
        if path not in names and not path.startswith(elsewhere or ("\0",)):
            raise ValueError(
                f"mapping names {shown(path)} as {entry.name!r}, and the parameters have no such "
                f"leaf; they have {', '.join(map(shown, names))}"
            )
    for path in names:
        if path not in given:
            raise ValueError(
                f"mapping has no counterpart for the parameter at {shown(path)}; it names "
                f"{', '.join(map(shown, given)) or 'none'}"
            )
    owners: dict[str | int, str] = {}
    for path, entry in given.items():
        if (other := owners.setdefault(entry.name, path)) != path:
            raise ValueError(
                f"mapping gives {entry.name!r} to both {shown(other)} and {shown(path)}"
            )
    return given


def to_numpy(value: Any) -> np.ndarray:
    """Any framework's array in NumPy: a tensor wherever it lives, a variable's value."""
    value = _value(value)
    if not hasattr(value, "detach"):
        return np.asarray(value)
    if getattr(value, "is_sparse", False):  # As an embedding's of sparse gradients.
        value = value.to_dense()
    if str(value.dtype) == "torch.bfloat16":  # NumPy has no such dtype of its own.
        return value.float().numpy(force=True).astype(jnp.bfloat16)
    return value.numpy(force=True)


def number(value: Any) -> Any:
    """A tensor or variable of one element as a number, anything else as it is."""
    value = _value(value)
    return value.item() if hasattr(value, "detach") else value


def _value(variable: Any) -> Any:
    """What a variable of Keras's holds, of anything else the thing itself."""
    return variable.value if hasattr(variable, "assign") else variable


def fit(value: Any, counterpart: Counterpart, like: Any, where: str) -> np.ndarray:
    """An array of another framework in the axes of a leaf, where that holds its every digit."""
    array = to_numpy(value)
    dtype = jnp.result_type(like)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"{where} has dtype {array.dtype} where {dtype} belongs")
    if not np.can_cast(array.dtype, dtype):
        raise TypeError(
            f"{where} has dtype {array.dtype}, which {dtype} does not hold; convert it first, or "
            f"keep the parameters in {array.dtype}"
        )
    return counterpart.read(array, like, where)


def import_params(arrays: Mapping[str, Any], params: PyTree, mapping: PyTree) -> PyTree:
    """Put another framework's parameters into the place of these.

    `import_params(model.state_dict(), params, mapping)` with PyTorch,
    `import_params({v.path: v for v in model.weights}, params, mapping)` with
    Keras.

    Args:
        arrays: A dict from names to tensors, variables or arrays; those that the
            mapping does not name are left alone.
        params: The parameters to replace, or what `jax.eval_shape` says of them.
        mapping: Each leaf's name there or `Counterpart`: a pytree like params, or
            a dict from paths as `velocity_norms` writes them.

    Returns:
        A pytree like params.

    Raises:
        ValueError: A leaf has no counterpart, arrays hold none of that name, or
            its shape does not fit; the message names the leaf and the array.
        TypeError: A dtype does not fit, or is wider than the parameter's.
    """
    held = leaves(params)
    given = counterparts(mapping, held)

    def read(path: Any, leaf: Any) -> jax.Array:
        path = name_of(path)
        entry = given[path]
        where = f"{entry.name!r} for the parameter at {shown(path)}"
        if entry.name not in arrays:
            raise ValueError(f"{where} is missing; there are {', '.join(map(repr, arrays))}")
        return placed(fit(arrays[entry.name], entry, leaf, where), leaf)

    return jax.tree_util.tree_map_with_path(read, params)


def placed(array: np.ndarray, leaf: Any) -> jax.Array:
    """An array in a leaf's dtype and, where the leaf is bound to devices, on them."""
    value = jnp.asarray(array, leaf.dtype)
    bound = isinstance(leaf, jax.Array) and leaf.committed
    return jax.device_put(value, leaf.sharding) if bound else value


def export_params(params: PyTree, mapping: PyTree) -> dict[str | int, np.ndarray]:
    """Lay parameters out as another framework keeps them.

    For PyTorch, `model.load_state_dict({name: torch.from_numpy(array) for name,
    array in exported.items()}, strict=False)`; a Keras variable assigns the
    array as it is.

    Args:
        params: The parameters.
        mapping: As in `import_params`.

    Returns:
        A dict from each counterpart's name to a NumPy array of its own.

    Raises:
        ValueError: A leaf has no counterpart or does not have its shape.
    """
    held = leaves(params)
    given = counterparts(mapping, held)
    return {
        given[path].name: written(leaf, given[path], f"{given[path].name!r} for {shown(path)}")
        for path, leaf in held.items()
    }


def written(leaf: Any, counterpart: Counterpart, where: str) -> np.ndarray:
    """A leaf in the axes of its counterpart, as an array that others may write to."""
    return np.array(counterpart.write(np.asarray(leaf), where), order="C")
