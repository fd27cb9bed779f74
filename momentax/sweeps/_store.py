"""A sweep's finished batches on the disk, so that a killed sweep goes on where it was."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax.sweeps._file import version, write_whole
from momentax.sweeps._points import Points, shown_value
from momentax.sweeps._program import Traced

_FORMAT = 1
_ABOUT, _FUNCTION = "about.json", "function.txt"
_SHOWN = 6  # Lines of a difference between two functions.
_ELSEWHERE = ("points", "data", "batch", "function")  # What has sentences of its own.


def encoded(array: np.ndarray) -> np.ndarray:
    """An array in a dtype that NumPy itself reads, bit for bit."""
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")


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
        batch: int,
    ):
        self.path = Path(path)
        digest = hashlib.sha256(function.encode()).hexdigest()
        self._about = {"format": _FORMAT, **about, "function": digest, "batch": int(batch)}
        self.damaged: list[str] = []
        self._open(function)

    def _open(self, function: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {p.name for p in self.path.iterdir() if not p.name.endswith(".tmp")}
        except OSError as error:
            raise self._unusable(error) from error
        if _ABOUT in names:
            self._require_same(function)
        elif foreign := sorted(names - {_FUNCTION}):
            raise ValueError(
                f"the store {self.path} holds {foreign[0]} and no {_ABOUT}, so it is no sweep's; "
                "give a new or empty folder"
            )
        else:  # The function first: where about.json is, all of a sweep's beginning is.
            self._write(_FUNCTION, function.encode())
            self._write_about()

    def _unusable(self, error: OSError, name: str = "") -> OSError:
        what = f"{name} in the store {self.path}" if name else f"the store {self.path}"
        reason = error.strerror or error
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file stands where a folder must be"
        return type(error)(error.errno, f"{what} cannot be used: {reason}")

    def _write_about(self) -> None:
        self._write(_ABOUT, json.dumps(self._about, indent=1).encode())

    def _require_same(self, function: str) -> None:
        try:
            stored = json.loads((self.path / _ABOUT).read_bytes())
            kept = (self.path / _FUNCTION).read_bytes().decode(errors="replace")
            old_points = {dim: dict(axes) for dim, axes in stored["points"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the store {self.path} cannot be read ({type(error).__name__}: {error}); give "
                "another folder, or delete this one to begin anew"
            ) from None
        new = json.loads(json.dumps(self._about))
        wrong = []
        if ("rungs" in stored) != ("rungs" in new):
            names = ("halve", "sweep") if "rungs" in stored else ("sweep", "halve")
            wrong.append("it was begun by {} and is given to {}".format(*names))
        wrong += [
            f"{name} was {stored.get(name)!r} and is {new[name]!r}"
            for name in new
            if name not in _ELSEWHERE and name in stored and stored[name] != new[name]
        ]
        wrong += _points_difference(old_points, new["points"])
        # What follows says nothing new where that differs of which the jaxpr is made.
        if not wrong and stored.get("function") != new["function"]:
            wrong.append(_text_difference(kept, function))
        if not wrong and stored.get("data") != new["data"]:
            wrong.append("the arrays that its function closes over are others")
        if wrong:
            raise ValueError(
                f"the store {self.path} belongs to another sweep: {'; '.join(wrong)}. Give another "
                "folder, or delete this one; nothing in it was touched"
            )
        batch, wanted = stored.get("batch"), self._about["batch"]
        if batch and wanted and batch != wanted:
            raise ValueError(
                f"the store {self.path} was begun with batch_size={batch}, got {wanted}; "
                'batch_size="auto" goes on with the store\'s'
            )
        self._about["batch"] = batch or wanted
        if kept != function:  # It was damaged; about.json vouches for this one.
            self._write(_FUNCTION, function.encode())
        if batch != self._about["batch"]:  # Killed before it was chosen.
            self._write_about()

    @property
    def batch(self) -> int:
        """The batch size that the sweep began with, to keep for the same bits; 0 where none is."""
        return self._about["batch"]

    def choose(self, batch: int) -> None:
        """Keep the batch size, before the first batch."""
        self._about["batch"] = int(batch)
        self._write_about()

    def read(self, part: str = "") -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """The finished batches of a part: their points and their leaves; damaged files go."""
        found, damaged = [], []
        for path in sorted(self.path.glob(f"batch-{part}*.npz")):
            try:
                content = path.read_bytes()
            except OSError as error:  # It may be whole all the same, so it stays.
                raise self._unusable(error, path.name) from error
            try:
                if hashlib.sha256(content).hexdigest() != path.name.split(".")[-2]:
                    raise ValueError
                with np.load(io.BytesIO(content), allow_pickle=False) as file:
                    leaves = [file[f"leaf {i}"] for i in range(len(file.files) - 1)]
                    found.append((file["points"], leaves))
            except (ValueError, KeyError, zipfile.BadZipFile, IndexError):
                damaged.append(path)
        if damaged:
            self._discard(damaged)
        return found

    def _discard(self, damaged: Sequence[Path]) -> None:
        for path in damaged:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise self._unusable(error, path.name) from error
        names = [path.name for path in damaged]
        self.damaged += names
        warnings.warn(
            f"{len(names)} damaged file{'s' * (len(names) > 1)} in the store {self.path}; the "
            f"points in {'them' if len(names) > 1 else 'it'} run again: {', '.join(names)}",
            stacklevel=_outside(),
        )

    def write(self, index: np.ndarray, leaves: Sequence[np.ndarray], part: str = "") -> None:
        """Keep a finished batch."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            f"leaf {i}": encoded(np.asarray(leaf)) for i, leaf in enumerate(leaves)
        }
        np.savez(buffer, points=index, **arrays)
        content = buffer.getvalue()
        name = f"batch-{part}{index[0]:08d}-{index[-1]:08d}.{hashlib.sha256(content).hexdigest()}"
        self._write(f"{name}.npz", content)

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.path / name, lambda file: file.write(content))
        except OSError as error:
            # Its name tells its content: the same sweep, running twice at once, may have kept it.
            if name.startswith("batch-") and (self.path / name).exists():
                return
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
            dim: {name: [plain(value) for value in values] for name, values in axes.items()}
            for dim, axes in points.dims.items()
        },
        "data": [fingerprint.data for fingerprint in prints],
        **{name: plain(value) for name, value in settings.items()},
    }
    return about, "\n\n".join(fingerprint.text for fingerprint in prints)


def plain(value: Any) -> Any:
    """A value as JSON takes it, every digit kept, and the same in every process."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | int | float | None):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", shown_value(value))


def _outside() -> int:
    """The stacklevel, for `warnings.warn` in the caller, of the first frame that is no sweep's."""
    here, level = Path(__file__).parent, 1
    frame = sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == here:
        frame, level = frame.f_back, level + 1
    return level


def _points_difference(stored: Any, new: Any) -> list[str]:
    """Which axis of the points is another, and at which index first."""
    was = {axis: values for axes in stored.values() for axis, values in axes.items()}
    now = {axis: values for axes in new.values() for axis, values in axes.items()}
    if list(was) != list(now):
        return [f"the axes were {list(was)} and are {list(now)}"]
    dims = [{dim: list(axes) for dim, axes in points.items()} for points in (stored, new)]
    if list(dims[0].items()) != list(dims[1].items()):
        return [f"the axes of each dimension were {dims[0]} and are {dims[1]}"]
    wrong = []
    for axis, values in now.items():
        kept = was[axis]
        if len(kept) != len(values):
            wrong.append(f"axis {axis} had {len(kept)} values and has {len(values)}")
        elif kept != values:
            i = next(i for i, (a, b) in enumerate(zip(kept, values, strict=True)) if a != b)
            old, other = _short(kept[i], values[i])
            wrong.append(f"axis {axis} was {old} and is {other} at index {i}")
    return wrong


def _short(*values: Any) -> list[str]:
    """Values in as few digits as float32 needs, where that tells them apart."""
    floats = all(isinstance(value, float) for value in values)
    short = [str(np.float32(v)) if floats else str(v) for v in values]
    return short if len(set(short)) == len(values) else [str(value) for value in values]


def _text_difference(kept: str, new: str) -> str:
    """Where two jaxprs differ first, a variable by another name being no difference if possible."""
    old, now = kept.splitlines(), new.splitlines()
    changes: list[tuple[list[str], list[str]]] = []
    for name in (r"\b[a-z]{1,2}\b", r"\b\B"):
        keys = [[re.sub(name, "", line) for line in lines] for lines in (old, now)]
        steps = difflib.SequenceMatcher(None, keys[0], keys[1]).get_opcodes()
        changes = [(old[i:k], now[j:m]) for tag, i, k, j, m in steps if tag != "equal"]
        if changes:
            break
    count = sum(max(len(was), len(is_)) for was, is_ in changes)
    lines = [
        f"{sign} {line.strip()}"
        for both in changes
        for sign, part in zip("-+", both, strict=True)
        for line in part[: _SHOWN // 2]
    ]
    shown = "\n".join(f"  {arguments.describe(line)[1:-1]}" for line in lines[:_SHOWN])
    where = f"{count} line{'s' * (count > 1)} of its jaxpr, in {_FUNCTION},"
    return f"its function is another; {where} differ{'s' * (count == 1)}:\n{shown}\n "
