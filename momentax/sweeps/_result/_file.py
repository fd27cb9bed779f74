"""The file of a result: an .npz that NumPy reads without momentax."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.files import write_file
from momentax._core.typing import PyTree
from momentax.sweeps._axes import as_objects
from momentax.sweeps._points import Points
from momentax.sweeps._version import momentax_version

FORMAT = 1
_QUIET_NAN = 0x7FC00000  # In float32; its 22 low bits are free for a payload.


def write(
    path: str | os.PathLike[str],
    points: Points,
    values: PyTree,
    metrics: Mapping[str, Any],
    diverged: Any,
    modes: Mapping[str, str],
) -> None:
    """Write the parts of a result; metrics are the leaves of the values in order, by name."""
    # A zip file cuts a name at NUL, and only Unicode text can be a name.
    names = [f"values/{name if name.isprintable() else ascii(name)}" for name in metrics]
    arrays = {f"axes/{name}": np.asarray(axis) for name, axis in points.axes.items()}
    arrays |= dict(zip(names, map(np.asarray, metrics.values()), strict=True))
    static = {name: name_objects(points.axes[name]).tolist() for name in points.static}
    arrays |= {f"axes/{name}": np.array(list(map(str, axis))) for name, axis in static.items()}
    about = {
        "format": FORMAT,
        "momentax": momentax_version(),
        "dims": {dim: list(axes) for dim, axes in points.dims.items()},
        "static": static,
        "dtypes": {n: str(a.dtype) for n, a in arrays.items() if a.dtype.isbuiltin == 2},
        "tree": _outline(values, iter(names)),
        "modes": dict(modes),
    }
    members = {name: upcast_to_numpy(array) for name, array in arrays.items()}
    members["diverged"] = np.asarray(diverged)
    _require_shapes(points, [members[name] for name in ["diverged", *names]])
    members["about"] = np.array(json.dumps(about, default=lambda scalar: scalar.item()))

    def write_archive(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, array in members.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_file(path, write_archive)


def read(path: str | os.PathLike[str]) -> tuple[Points, PyTree, np.ndarray, Any]:
    """Return the points, values, divergence and modes of a file; every checksum is compared."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                about = json.loads(_read_member(archive, "about").item())
                parts = None if about["format"] > FORMAT else _read_parts(archive, about)
        except Exception as error:  # A file with other content can lead to any error.
            raise ValueError(
                f"{os.fspath(path)} is not the result of a sweep, or is damaged "
                f"({type(error).__name__}: {error}); run the sweep again"
            ) from error
    if parts is None:
        raise ValueError(
            f"{os.fspath(path)} has format {about['format']}, of momentax {about.get('momentax')}, "
            f"and momentax {momentax_version()} reads format {FORMAT}; load it with that version"
        )
    return parts


def name_objects(values: np.ndarray) -> np.ndarray:
    """Return a static axis as files and tables keep it.

    Words, bools, numbers and None stay; anything else is replaced by its name,
    and different objects have different names.
    """
    named: dict[Any, Any] = {}
    for value in values.tolist():
        plain = value.item() if isinstance(value, np.generic) else value
        if not isinstance(plain, str | bool | int | float | None):
            name = getattr(plain, "__name__", str(plain))
            further = (f"{name} ({n})" for n in itertools.count(2))
            taken = [other for thing, other in named.items() if thing != (type(value), value)]
            plain = next(n for n in itertools.chain([name], further) if n not in taken)
        named[type(value), value] = plain
    return as_objects([named[type(value), value] for value in values.tolist()])


def upcast_to_numpy(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype of NumPy that can represent its values.

    The bits of a NaN in a narrow floating dtype become the payload of one in float32.
    """
    if array.dtype.isbuiltin != 2:
        return array
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(np.int8 if jnp.issubdtype(array.dtype, jnp.signedinteger) else np.uint8)
    upcast = array.astype(np.float32)
    nans = np.isnan(upcast)
    upcast.view(np.uint32)[nans] = _QUIET_NAN | _bits(array)[nans].astype(np.uint32)
    return upcast


def _downcast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Undo `upcast_to_numpy`."""
    narrow = array.astype(jnp.dtype(dtype))
    if array.dtype == np.float32:
        nans = np.isnan(array)
        bits = _bits(narrow)
        bits[nans] = array.view(np.uint32)[nans].astype(bits.dtype)  # The lowest bits.
    return narrow


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"uint{8 * array.dtype.itemsize}")


def _read_parts(archive: zipfile.ZipFile, about: dict[str, Any]) -> tuple[Points, PyTree, Any, Any]:
    def read_array(name: str) -> np.ndarray:
        array = _read_member(archive, name)
        return _downcast(array, about["dtypes"][name]) if name in about["dtypes"] else array

    static = {name: as_objects(values) for name, values in about["static"].items()}
    points = Points(
        {
            dim: {n: static[n] if n in static else read_array(f"axes/{n}") for n in names}
            for dim, names in about["dims"].items()
        }
    )
    values, diverged = _build(about["tree"], read_array), read_array("diverged")
    _require_shapes(points, [diverged, *jax.tree.leaves(values)])
    return points, values, diverged, about["modes"]


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array of the file to its end, where zipfile compares the checksum."""
    content = io.BytesIO(archive.read(f"{name}.npy"))
    return np.lib.format.read_array(content, allow_pickle=False)


def _require_shapes(points: Points, arrays: Iterable[np.ndarray]) -> None:
    for array in arrays:
        if array.shape[: len(points.dims)] != points.shape:
            raise ValueError(f"an array of shape {array.shape} for points of shape {points.shape}")


def _outline(node: PyTree, names: Iterator[str]) -> Any:
    """Return the containers of a tree as JSON, with the next name for each leaf."""
    if node is None:
        return None
    if jax.tree_util.all_leaves([node]):
        return next(names)
    children, _ = jax.tree.flatten_with_path(node, is_leaf=lambda part: part is not node)
    parts = [(_key_name(path[0]), _outline(part, names)) for path, part in children]
    if type(node) in (list, tuple):
        return {type(node).__name__: [part for _, part in parts]}
    return {"dict": parts}


def _key_name(key: Any) -> Any:
    """Return the key of a container's child; a dictionary's key itself where JSON has its type."""
    key = getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
    return key if isinstance(key, str | int | float | bool | None) else str(key)


def _build(outline: Any, read_array: Callable[[str], np.ndarray]) -> PyTree:
    """Build the tree of an outline."""
    if outline is None:
        return None
    if isinstance(outline, str):
        return read_array(outline)
    ((kind, parts),) = outline.items()
    if kind == "dict":
        return {key: _build(part, read_array) for key, part in parts}
    return {"list": list, "tuple": tuple}[kind](_build(part, read_array) for part in parts)
