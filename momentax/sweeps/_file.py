"""One file for a result: an .npz that NumPy reads without momentax, whole or not at all."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.typing import PyTree
from momentax.sweeps._points import Points, objects

FORMAT = 1
_QUIET_NAN = 0x7FC00000  # Of float32, with 22 bits to spare.


def version() -> str:
    """The version of momentax, whose own module lies above this one."""
    return sys.modules["momentax"].__version__


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears at its path complete, or leaves what was there as it was."""
    place = Path(os.path.realpath(path))  # A link is followed, not replaced.
    beside = place.with_name(f".{place.name}.tmp")  # What a killed process left is overwritten.
    try:
        try:
            with open(beside, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, place)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        wrong = f"{os.fspath(path)} could not be written: {error.strerror or error}; "
        remedy = "what was there before is as it was, so make room or choose another path"
        raise OSError(error.errno, wrong + remedy) from error
    if hasattr(os, "O_DIRECTORY"):  # The name lasts when the folder is on the disk too.
        with suppress(OSError):
            folder = os.open(place.parent, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def write(
    path: str | os.PathLike[str],
    points: Points,
    values: PyTree,
    metrics: Mapping[str, Any],
    diverged: Any,
    modes: Mapping[str, str],
) -> None:
    """Write the parts of a result; metrics are the leaves of the values in order, by name."""
    # A zip file's names end at NUL, and are no text unless Unicode has them.
    names = [f"values/{name if name.isprintable() else ascii(name)}" for name in metrics]
    arrays = {f"axes/{name}": np.asarray(axis) for name, axis in points.axes.items()}
    arrays |= dict(zip(names, map(np.asarray, metrics.values()), strict=True))
    static = {name: words(points.axes[name]).tolist() for name in points.static}
    arrays |= {f"axes/{name}": np.array(list(map(str, axis))) for name, axis in static.items()}
    about = {
        "format": FORMAT,
        "momentax": version(),
        "dims": {dim: list(axes) for dim, axes in points.dims.items()},
        "static": static,
        "dtypes": {n: str(a.dtype) for n, a in arrays.items() if a.dtype.isbuiltin == 2},
        "tree": _outline(values, iter(names)),
        "modes": dict(modes),
    }
    members = {name: widened(array) for name, array in arrays.items()}
    members["diverged"] = np.asarray(diverged)
    _require_shapes(points, [members[name] for name in ["diverged", *names]])
    members["about"] = np.array(json.dumps(about, default=lambda scalar: scalar.item()))

    def archive(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", allowZip64=True) as zipped:
            for name, array in members.items():
                with zipped.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_whole(path, archive)


def read(path: str | os.PathLike[str]) -> tuple[Points, PyTree, np.ndarray, Any]:
    """The points, values, divergence and modes of a file, checked to the last byte."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as zipped:
                about = json.loads(_member(zipped, "about").item())
                parts = None if about["format"] > FORMAT else _parts(zipped, about)
        except Exception as error:  # Whatever a file of any other content leads to.
            raise ValueError(
                f"{os.fspath(path)} is not the result of a sweep, or is damaged "
                f"({type(error).__name__}: {error}); run the sweep again"
            ) from error
    if parts is None:
        raise ValueError(
            f"{os.fspath(path)} has format {about['format']}, of momentax {about.get('momentax')}, "
            f"and momentax {version()} reads format {FORMAT}; load it with that version"
        )
    return parts


def words(values: np.ndarray) -> np.ndarray:
    """A static axis as files and tables hold it: words, bools, numbers, None, other things' names.

    Things that differ have different names.
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
    return objects([named[type(value), value] for value in values.tolist()])


def _parts(zipped: zipfile.ZipFile, about: dict[str, Any]) -> tuple[Points, PyTree, Any, Any]:
    def stored(name: str) -> np.ndarray:
        array = _member(zipped, name)
        return _narrowed(array, about["dtypes"][name]) if name in about["dtypes"] else array

    static = {name: objects(values) for name, values in about["static"].items()}
    points = Points(
        {
            dim: {n: static[n] if n in static else stored(f"axes/{n}") for n in names}
            for dim, names in about["dims"].items()
        }
    )
    values, diverged = _built(about["tree"], stored), stored("diverged")
    _require_shapes(points, [diverged, *jax.tree.leaves(values)])
    return points, values, diverged, about["modes"]


def _require_shapes(points: Points, arrays: Iterable[np.ndarray]) -> None:
    for array in arrays:
        if array.shape[: len(points.dims)] != points.shape:
            raise ValueError(f"an array of shape {array.shape} for points of shape {points.shape}")


def _member(zipped: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of the file, read to the end, where its checksum is compared."""
    content = io.BytesIO(zipped.read(f"{name}.npy"))
    return np.lib.format.read_array(content, allow_pickle=False)


def _outline(node: PyTree, names: Iterator[str]) -> Any:
    """The containers of a tree as JSON, with the next name at each leaf."""
    if node is None:
        return None
    if jax.tree_util.all_leaves([node]):
        return next(names)
    inside, _ = jax.tree.flatten_with_path(node, is_leaf=lambda part: part is not node)
    parts = [(_field(path[0]), _outline(part, names)) for path, part in inside]
    if type(node) in (list, tuple):
        return {type(node).__name__: [part for _, part in parts]}
    return {"dict": parts}


def _field(key: Any) -> Any:
    """What a container calls its part: a dictionary's key itself, if JSON has such."""
    key = getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
    return key if isinstance(key, str | int | float | bool | None) else str(key)


def _built(outline: Any, stored: Callable[[str], np.ndarray]) -> PyTree:
    """The tree of an outline."""
    if outline is None:
        return None
    if isinstance(outline, str):
        return stored(outline)
    ((kind, parts),) = outline.items()
    if kind == "dict":
        return {key: _built(part, stored) for key, part in parts}
    return {"list": list, "tuple": tuple}[kind](_built(part, stored) for part in parts)


def _pattern(array: np.ndarray) -> np.ndarray:
    return array.view(f"uint{8 * array.dtype.itemsize}")


def widened(array: np.ndarray) -> np.ndarray:
    """An array in a dtype of NumPy's own that holds its values, a NaN with its bits as payload."""
    if array.dtype.isbuiltin != 2:
        return array
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(np.int8 if jnp.issubdtype(array.dtype, jnp.signedinteger) else np.uint8)
    wide = array.astype(np.float32)
    lost = np.isnan(wide)
    wide.view(np.uint32)[lost] = _QUIET_NAN | _pattern(array)[lost].astype(np.uint32)
    return wide


def _narrowed(wide: np.ndarray, dtype: str) -> np.ndarray:
    """The array that was widened."""
    array = wide.astype(jnp.dtype(dtype))
    if wide.dtype == np.float32:
        lost = np.isnan(wide)
        pattern = _pattern(array)
        pattern[lost] = wide.view(np.uint32)[lost].astype(pattern.dtype)  # Its lowest bits.
    return array
