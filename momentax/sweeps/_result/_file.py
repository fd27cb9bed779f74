"""The file of a result: an .npz that NumPy reads without momentax."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.arguments import describe, is_real, printable
from momentax._core.files import write_file
from momentax._core.typing import PyTree
from momentax._core.version import momentax_version
from momentax.sweeps._axes import as_objects
from momentax.sweeps._points import Points

FORMAT = 1
_QUIET_NAN = 0x7FC00000  # In float32; its 22 low bits are free for a payload.


def write(
    path: Path,
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
    require_shapes(points, values, diverged)
    members["about"] = np.array(json.dumps(about, default=lambda scalar: scalar.item()))

    def write_archive(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, array in members.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_file(path, write_archive)


def read(path: Path) -> tuple[Points, PyTree, np.ndarray, Any]:
    """Return the points, values, divergence and modes of a file; every checksum is compared."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _require_uncompressed(archive, os.fstat(file.fileno()).st_size)
                about = json.loads(_read_member(archive, "about").item())
                number, version = _version(about)
                parts = None if number > FORMAT else _read_parts(archive, about)
        except Exception as error:  # A file with other content can lead to any error.
            reason = f"{type(error).__name__}: {printable(str(error))}"
            raise ValueError(
                f"{path} is not the result of a sweep, or is damaged ({reason}); run the sweep "
                "again"
            ) from error
    if parts is None:
        raise ValueError(
            f"{path} has format {number}, of momentax {version}, and momentax "
            f"{momentax_version()} reads format {FORMAT}; load it with that version"
        )
    return parts


def _require_uncompressed(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose members hold more bytes than its file, as compressed ones can."""
    members = archive.infolist()
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > size:
        raise ValueError("it is compressed or repeats an array; SweepResult.save writes neither")


def _version(about: Any) -> tuple[int, str]:
    """Return the format of a file, and the version of momentax that wrote it."""
    if not isinstance(about, dict):
        raise ValueError(f"about must be a dictionary, got {describe(about)}")
    number, version = about["format"], about["momentax"]
    if type(number) is not int or number < 1:
        raise ValueError(f"format must be a whole number >= 1, got {describe(number)}")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]+(\.[0-9A-Za-z.+!-]+)?", version):
        raise ValueError(f"{describe(version)} is no version of momentax")
    return number, version


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
    unread = set(archive.namelist())

    def read_array(name: str) -> np.ndarray:
        unread.remove(f"{name}.npy")  # Each array once, so that no small file makes large results.
        array = _read_member(archive, name)
        return _downcast(array, about["dtypes"][name]) if name in about["dtypes"] else array

    static = _static_axes(about["static"])
    modes = about["modes"]
    if not isinstance(modes, dict) or any(mode not in ("min", "max") for mode in modes.values()):
        raise ValueError(f"modes must hold min or max for each metric, got {describe(modes)}")
    if not isinstance(about["dims"], dict):
        raise ValueError(f"dims must be a dictionary, got {describe(about['dims'])}")
    points = Points(
        {
            dim: {n: static[n] if n in static else read_array(f"axes/{n}") for n in names}
            for dim, names in about["dims"].items()
        }
    )
    for name, axis in points.axes.items():
        if name not in static and not is_real(axis):
            raise ValueError(f"the axis {describe(name)} holds {axis.dtype} and not numbers")
    values, diverged = _build(about["tree"], read_array), read_array("diverged")
    require_shapes(points, values, diverged)
    return points, values, diverged, modes


def _static_axes(entry: Any) -> dict[str, np.ndarray]:
    """Return the static axes from their entry in the file."""
    if not isinstance(entry, dict):
        raise ValueError(f"static must be a dictionary of axes, got {describe(entry)}")
    for name, values in entry.items():
        if not isinstance(values, list):
            raise ValueError(f"the axis {describe(name)} must be a list, got {describe(values)}")
        if not all(isinstance(value, str | int | float | None) for value in values):
            raise ValueError(f"the static axis {describe(name)} holds more than words and numbers")
    return {name: as_objects(values) for name, values in entry.items()}


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array of the file to its end, where zipfile compares the checksum."""
    content = io.BytesIO(archive.read(f"{name}.npy"))
    version = np.lib.format.read_magic(content)
    read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, _, dtype = read_header(content)
    if math.prod(shape) * dtype.itemsize != len(content.getbuffer()) - content.tell():
        raise ValueError(f"{name} has another size than its shape {shape} and dtype {dtype} say")
    content.seek(0)
    return np.lib.format.read_array(content, allow_pickle=False)


def require_shapes(points: Points, values: PyTree, diverged: Any) -> None:
    """Raise if an array of a result has another shape than its points, or flags are no bools."""
    for name, array in [("diverged", diverged), *(("values", v) for v in jax.tree.leaves(values))]:
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise TypeError(f"{name} must hold arrays, got {describe(array)}")
        if array.shape[: len(points.dims)] != points.shape:
            raise ValueError(
                f"{name} holds an array of shape {array.shape} for points of shape {points.shape}"
            )
    if diverged.shape != points.shape or diverged.dtype != bool:
        raise ValueError(
            f"diverged must be bools of the points' shape {points.shape}, got {diverged.dtype} of "
            f"shape {diverged.shape}"
        )


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
    kind, parts = next(iter(outline.items()), ("", None)) if isinstance(outline, dict) else ("", 0)
    if kind not in ("dict", "list", "tuple") or not isinstance(parts, list) or len(outline) > 1:
        raise ValueError(
            f"a node of the tree must be the name of an array, null, or one list under dict, list "
            f"or tuple, got {describe(outline)}"
        )
    if kind != "dict":
        return {"list": list, "tuple": tuple}[kind](_build(part, read_array) for part in parts)
    if not all(isinstance(part, list) and len(part) == 2 for part in parts):
        raise ValueError(f"a dict of the tree must hold pairs of key and node, got {parts!r}")
    return {key: _build(part, read_array) for key, part in parts}
