"""The folder of the argument `store`: a sweep's finished batches, from which it can continue."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momentax._core.files import write_file
from momentax._core.sharding import Devices
from momentax.sweeps._run._identity import FUNCTION_FILE, Identity, describe_differences

_FORMAT = 1
_ABOUT_FILE = "about.json"


class BatchFolder:
    """A folder with a file for each finished batch, and the identity of their sweep.

    about.json holds the identity, function.txt the jaxpr, and each batch is an
    .npz file whose name ends with the SHA-256 of its content.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Identity, batch_size: int):
        self.path = Path(path)
        digest = hashlib.sha256(identity.function.encode()).hexdigest()
        self._about = {
            "format": _FORMAT,
            **identity.about,
            "function": digest,
            "batch": int(batch_size),
        }
        self.damaged: list[str] = []
        self._open(identity.function)

    @property
    def batch_size(self) -> int:
        """The batch size with which the sweep started; 0 if none is chosen yet."""
        return self._about["batch"]

    def record_batch_size(self, batch_size: int) -> None:
        """Keep the batch size, before the first batch is written."""
        self._about["batch"] = int(batch_size)
        self._write_about()

    def read(self, part: str = "") -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Return the points and leaves of each finished batch of a part; delete damaged files."""
        found, damaged = [], []
        for path in sorted(self.path.glob(f"batch-{part}*.npz")):
            try:
                content = path.read_bytes()
            except OSError as error:  # The file may be intact, so it stays.
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
            self._delete(damaged)
        return found

    def write(self, index: np.ndarray, leaves: Sequence[np.ndarray], part: str = "") -> None:
        """Write the file of a finished batch."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            f"leaf {i}": _as_numpy_dtype(np.asarray(leaf)) for i, leaf in enumerate(leaves)
        }
        np.savez(buffer, points=index, **arrays)
        content = buffer.getvalue()
        name = f"batch-{part}{index[0]:08d}-{index[-1]:08d}.{hashlib.sha256(content).hexdigest()}"
        self._write(f"{name}.npz", content)

    def _open(self, function: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {p.name for p in self.path.iterdir() if not p.name.endswith(".tmp")}
        except OSError as error:
            raise self._unusable(error) from error
        if _ABOUT_FILE in names:
            self._require_same_sweep(function)
        elif foreign := sorted(names - {FUNCTION_FILE}):
            raise ValueError(
                f"the store {self.path} holds {foreign[0]} and no {_ABOUT_FILE}, so it does not "
                "belong to a sweep; give a new or empty folder"
            )
        else:  # about.json is written last, so that both files are complete if it exists.
            self._write(FUNCTION_FILE, function.encode())
            self._write_about()

    def _require_same_sweep(self, function: str) -> None:
        """Raise if the folder belongs to another sweep; otherwise take over its batch size."""
        try:
            old = json.loads((self.path / _ABOUT_FILE).read_bytes())
            old_function = (self.path / FUNCTION_FILE).read_bytes().decode(errors="replace")
            old["points"] = {dim: dict(axes) for dim, axes in old["points"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the store {self.path} cannot be read ({type(error).__name__}: {error}); give "
                "another folder, or delete this one to start again"
            ) from None
        new = json.loads(json.dumps(self._about))
        if differences := describe_differences(old, new, old_function, function):
            raise ValueError(
                f"the store {self.path} belongs to another sweep: {'; '.join(differences)}. Give "
                "another folder, or delete this one; nothing in it was changed"
            )
        kept, given = old.get("batch"), self._about["batch"]
        if kept and given and kept != given:
            raise ValueError(
                f"the store {self.path} was started with batch_size={kept}, got {given}; "
                'batch_size="auto" continues with that of the store'
            )
        self._about["batch"] = kept or given
        if old_function != function:  # The digest agrees, so the file itself is damaged.
            self._write(FUNCTION_FILE, function.encode())
        if kept != self._about["batch"]:  # The process was killed before a batch size was chosen.
            self._write_about()

    def _unusable(self, error: OSError, name: str = "") -> OSError:
        what = f"{name} in the store {self.path}" if name else f"the store {self.path}"
        reason = error.strerror or error
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "there is a file where a folder must be"
        return type(error)(error.errno, f"{what} cannot be used: {reason}")

    def _delete(self, damaged: Sequence[Path]) -> None:
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
            stacklevel=_user_stacklevel(),
        )

    def _write_about(self) -> None:
        self._write(_ABOUT_FILE, json.dumps(self._about, indent=1).encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_file(self.path / name, lambda file: file.write(content))
        except OSError as error:
            # The name has the digest of the content, so another process that runs the same sweep
            # may have written the same file.
            if name.startswith("batch-") and (self.path / name).exists():
                return
            kept = "; the finished batches are kept, and the same call continues from them"
            raise type(error)(error.errno, f"{error.strerror}{kept}") from error


class SharedFolder:
    """The batch folder of all processes, which only the first process opens.

    If an operation fails in the first process, it raises in every process.
    """

    def __init__(
        self,
        devices: Devices,
        path: str | os.PathLike[str],
        identity: Identity,
        batch_size: int,
    ):
        self._devices = devices
        self._opened: BatchFolder | None = devices.run_in_first_process(
            lambda: BatchFolder(path, identity, batch_size)
        )
        own = self._opened.batch_size if self._opened else 0
        self.batch_size = int(devices.broadcast(own))  # Of the folder; 0 if not chosen yet.

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of the damaged files that were deleted; none in other processes."""
        return tuple(self._opened.damaged) if self._opened else ()

    def read(self, part: str = "") -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Return the finished batches of a part; none in other processes."""
        folder = self._opened
        batches = self._devices.run_in_first_process(lambda: folder.read(part) if folder else [])
        return batches or []

    def record_batch_size(self, batch_size: int) -> None:
        """Keep the batch size, before the first batch is written."""
        folder = self._opened
        self._devices.run_in_first_process(
            lambda: folder.record_batch_size(batch_size) if folder else None
        )

    def write(self, index: np.ndarray, leaves: Sequence[np.ndarray], part: str = "") -> None:
        """Write the file of a finished batch."""
        folder = self._opened
        self._devices.run_in_first_process(
            lambda: folder.write(index, leaves, part) if folder else None
        )


def _as_numpy_dtype(array: np.ndarray) -> np.ndarray:
    """Return an array's bits in a dtype that NumPy itself reads."""
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")


def _user_stacklevel() -> int:
    """Return the stacklevel, for `warnings.warn` in the caller, of the first frame of a user."""
    package, level = Path(__file__).parents[2], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and package in Path(frame.f_code.co_filename).parents:
        frame, level = frame.f_back, level + 1
    return level
