"""A sweep's finished batches on the disk, so that a killed sweep goes on where it was."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from momentax import _check
from momentax.sweeps._file import version, write_whole
from momentax.sweeps._points import Points, shown_value
from momentax.sweeps._program import Traced

_FORMAT = 1
_ABOUT, _FUNCTION = "about.json", "function.txt"
_SHOWN = 6  # Lines of a difference between two functions.


def encoded(array: np.ndarray) -> np.ndarray:
    """An array in a dtype that NumPy itself reads, bit for bit."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


class Store:
    """A folder with a file for each finished batch, and what they belong to.

    about.json says which sweep it is, function.txt holds its jaxpr, and each
    batch is an .npz file whose name ends with the SHA-256 of its content.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: Mapping[str, Any],
        function: str,
        batch: int | None,
    ):
        self.path = Path(path)
        self._about = {"format": _FORMAT, **about, "batch": batch}
        self.damaged: list[str] = []
        self._open(function)

    def _open(self, function: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = sorted(p.name for p in self.path.iterdir() if not p.name.endswith(".tmp"))
        except OSError as error:
            raise type(error)(
                error.errno, f"the store {self.path} cannot be used: {error.strerror or error}"
            ) from error
        if _ABOUT in names:
            self._require_same(function)
        elif set(names) - {_FUNCTION}:
            raise ValueError(
                f"the store {self.path} holds files that are no sweep's, such as {names[0]}; give "
                "a new or empty folder"
            )
        else:  # The function first: where about.json is, all of a sweep's beginning is.
            self._write(_FUNCTION, function.encode())
            self._write_about()

    def _write_about(self) -> None:
        self._write(_ABOUT, json.dumps(self._about, indent=1).encode())

    def _require_same(self, function: str) -> None:
        try:
            stored = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
            kept = (self.path / _FUNCTION).read_text(encoding="utf-8")
            stored_points = stored["points"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the store {self.path} cannot be read ({error}); give another folder, or delete "
                "it to begin anew"
            ) from None
        new = json.loads(json.dumps(self._about))
        wrong = [
            f"{name} was {stored.get(name)!r} and is {new[name]!r}"
            for name in new
            if name not in ("points", "data", "batch") and stored.get(name) != new[name]
        ]
        wrong += _points_difference(stored_points, new["points"])
        if kept != function:
            wrong.append(_text_difference(kept, function))
        elif stored.get("data") != new["data"]:
            wrong.append("the arrays that run closes over are others")
        if wrong:
            raise ValueError(
                f"the store {self.path} belongs to another sweep: {'; '.join(wrong)}. Give another "
                "folder, or delete this one; nothing in it was touched"
            )
        batch, wanted = stored.get("batch"), self._about["batch"]
        if batch and wanted and batch != wanted:
            raise ValueError(
                f"the store {self.path} was begun with batches of {batch} points, and batch_size "
                f'makes them {wanted}; batch_size="auto" goes on with the store\'s'
            )
        self._about["batch"] = batch or wanted

    @property
    def batch(self) -> int | None:
        """The batch size that the sweep began with, and must keep for the same bits."""
        return self._about["batch"]

    def choose(self, batch: int) -> None:
        """Keep the batch size, before the first batch."""
        self._about["batch"] = batch
        self._write_about()

    def read(self, part: str = "") -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """The finished batches of a part: their points and their leaves; damaged files go."""
        found = []
        for path in sorted(self.path.glob(f"batch-{part}*.npz")):
            try:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != path.name.split(".")[-2]:
                    raise ValueError
                with np.load(io.BytesIO(content), allow_pickle=False) as file:
                    leaves = [file[f"leaf {i}"] for i in range(len(file.files) - 1)]
                    found.append((file["points"], leaves))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, IndexError):
                self.damaged.append(path.name)
                path.unlink(missing_ok=True)
        if self.damaged:
            warnings.warn(
                f"{len(self.damaged)} damaged file{'s' * (len(self.damaged) > 1)} in the store "
                f"{self.path}; their points run again: {', '.join(self.damaged)}",
                stacklevel=4,
            )
        return found

    def write(self, index: np.ndarray, leaves: Sequence[np.ndarray], part: str = "") -> None:
        """Keep a finished batch."""
        buffer = io.BytesIO()
        arrays = {f"leaf {i}": encoded(np.asarray(leaf)) for i, leaf in enumerate(leaves)}
        np.savez(buffer, allow_pickle=False, points=index, **arrays)
        content = buffer.getvalue()
        name = f"batch-{part}{index[0]:08d}-{index[-1]:08d}.{hashlib.sha256(content).hexdigest()}"
        self._write(f"{name}.npz", content)

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.path / name, lambda file: file.write(content))
        except OSError as error:
            kept = "; the finished batches are kept, and the same call goes on from them"
            raise type(error)(error.errno, f"{error.strerror}{kept}") from error


def identity(
    points: Points, traces: Sequence[Traced], **settings: Any
) -> tuple[dict[str, Any], str]:
    """What tells a sweep from others: its points, versions and data, and its functions' jaxprs."""
    prints = [trace.fingerprint() for trace in traces]
    about = {
        "momentax": version(),
        "jax": jax.__version__,
        "points": {
            dim: {name: [_plain(value) for value in values] for name, values in axes.items()}
            for dim, axes in points.dims.items()
        },
        "data": [fingerprint.data for fingerprint in prints],
        **settings,
    }
    return about, "\n\n".join(fingerprint.text for fingerprint in prints)


def _plain(value: Any) -> Any:
    """A value as JSON takes it, every digit kept."""
    return value.item() if isinstance(value, np.generic) else shown_value(value)


def _points_difference(stored: Any, new: Any) -> list[str]:
    """Which axis of the points is another, and at which index first."""
    was = {(dim, axis): v for dim, axes in stored.items() for axis, v in axes.items()}
    now = {(dim, axis): v for dim, axes in new.items() for axis, v in axes.items()}
    if list(was) != list(now):
        return [f"the axes were {[a for _, a in was]} and are {[a for _, a in now]}"]
    wrong = []
    for (_, axis), values in now.items():
        kept = was[_, axis]
        if len(kept) != len(values):
            wrong.append(f"axis {axis} had {len(kept)} values and has {len(values)}")
        elif kept != values:
            i = next(i for i, (a, b) in enumerate(zip(kept, values, strict=True)) if a != b)
            wrong.append(f"axis {axis} was {kept[i]} and is {values[i]} at index {i}")
    return wrong


def _text_difference(kept: str, new: str) -> str:
    lines = [
        line
        for line in difflib.unified_diff(kept.splitlines(), new.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    shown = "\n".join(f"  {_check.shown(line)[1:-1]}" for line in lines[:_SHOWN])
    return f"run computes something else ({len(lines)} lines of its jaxpr differ):\n{shown}\n "
