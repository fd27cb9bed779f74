"""The folder of the argument `store`: a sweep's finished batches, from which it can continue."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from momentax._core.arguments import printable
from momentax._core.files import UNFINISHED, write_file
from momentax._core.sharding import Devices
from momentax._core.stores import OtherSweepError
from momentax._core.warn import warn
from momentax.sweeps._run._identity import FUNCTION_FILE, Identity, describe_differences
from momentax.sweeps._run._lock import LOCK_FILE, StoreLock

_FORMAT = 1
_ABOUT_FILE = "about.json"


class BatchFolder:
    """A folder with a file for each finished batch, and the identity of their sweep.

    about.json holds the identity, function.txt the jaxpr, and each batch is an
    .npz file whose name ends with the SHA-256 of its content. A batch also holds a digest of
    the identity and the batch size, from which a damaged about.json is written again.
    """

    def __init__(self, path: Path, identity: Identity, batch_size: int):
        self.path = path
        digest = _sha256(identity.function.encode())
        self._about = {"format": _FORMAT, **identity.about, "function": digest}
        self._digest = _sha256(json.dumps(self._about, sort_keys=True).encode())
        self._about["batch"] = int(batch_size)
        self.damaged: list[str] = []
        with self._explained():
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = StoreLock(self.path)
        try:
            self._open(identity.function)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.release()

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
            if (arrays := self._read_batch(path)) is None:
                damaged.append(path)
            else:
                count = sum(name.startswith("leaf ") for name in arrays)
                found.append((arrays["points"], [arrays[f"leaf {i}"] for i in range(count)]))
        if damaged:
            self._delete(damaged)
        return found

    def _read_batch(self, path: Path) -> dict[str, np.ndarray] | None:
        """Return the arrays of a batch, or None if the file is damaged."""
        with self._explained(path.name):  # A file that cannot be read may be intact.
            content = path.read_bytes()
        try:
            if _sha256(content) != path.name.split(".")[-2]:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file.items())
        except (ValueError, KeyError, zipfile.BadZipFile, IndexError):
            return None
        return arrays if "points" in arrays else None

    def write(self, index: np.ndarray, leaves: Sequence[np.ndarray], part: str = "") -> None:
        """Write the file of a finished batch."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            f"leaf {i}": _as_numpy_dtype(np.asarray(leaf)) for i, leaf in enumerate(leaves)
        }
        batch = np.asarray(self.batch_size)
        np.savez(buffer, points=index, identity=np.asarray(self._digest), batch=batch, **arrays)
        content = buffer.getvalue()
        name = f"batch-{part}{index[0]:08d}-{index[-1]:08d}.{_sha256(content)}"
        self._write(f"{name}.npz", content)

    def _open(self, function: str) -> None:
        with self._explained():
            if self._lock.is_held:  # Files that a killed process left.
                for path in self.path.glob(UNFINISHED):
                    path.unlink()
            names = {p.name for p in self.path.iterdir() if not p.name.endswith(".tmp")}
        names.discard(LOCK_FILE)
        old, damage = self._read_about(function) if _ABOUT_FILE in names else (None, "missing")
        batches = sorted(name for name in names if name.startswith("batch-"))
        foreign = sorted(names - {FUNCTION_FILE, _ABOUT_FILE} - set(batches))
        if old is not None:
            self._require_same_sweep(old, function)
        elif batches:
            self._mend(batches, damage, function)
        elif foreign:
            raise ValueError(
                f"the store {self.path} holds {printable(foreign[0])} and no {_ABOUT_FILE}, so it "
                "does not belong to a sweep; give a new or empty folder"
            )
        else:  # Nothing was finished. about.json is written last, so that both are complete then.
            self._write(FUNCTION_FILE, function.encode())
            self._write_about()

    def _read_about(self, function: str) -> tuple[dict[str, Any] | None, str]:
        """Return the identity in the folder, or None and what is wrong with the file.

        function: the jaxprs of this sweep's functions.
        """
        with self._explained(_ABOUT_FILE):
            content = (self.path / _ABOUT_FILE).read_bytes()
        try:
            old = json.loads(content)
            old["points"] = {dim: dict(axes) for dim, axes in old["points"].items()}
            self._require_plausible(old, function)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return None, f"damaged ({type(error).__name__}: {printable(str(error))})"
        return old, ""

    def _require_plausible(self, old: dict[str, Any], function: str) -> None:
        """Raise if an entry of about.json cannot be what this class wrote."""
        batch, axes = old["batch"], [v for axes in old["points"].values() for v in axes.values()]
        if type(batch) is not int or batch < 0:
            raise ValueError(f"batch must be a whole number >= 0, got {batch!r}")
        if not all(isinstance(values, list) for values in axes):
            raise ValueError("an axis of points is not a list")
        is_same = self._read_function() == function  # Then its digest is known.
        if is_same and old["function"] != self._about["function"]:
            raise ValueError(f"function is not the digest of {FUNCTION_FILE}")

    def _read_function(self) -> str:
        """Return the jaxprs in the folder; "" if the file cannot be read."""
        try:
            return (self.path / FUNCTION_FILE).read_bytes().decode(errors="replace")
        except OSError:  # It can be written again if its digest agrees.
            return ""

    def _mend(self, batches: Sequence[str], damage: str, function: str) -> None:
        """Write about.json again, if the batches say that they belong to this sweep."""
        intact = [self._read_batch(self.path / name) for name in batches]
        said = [(str(b.get("identity")), b.get("batch")) for b in intact if b is not None]
        if not said or any(identity != self._digest for identity, _ in said):
            why = "belong to another sweep" if said else "are damaged as well"
            raise OtherSweepError(
                f"{_ABOUT_FILE} in the store {self.path} is {damage}, and its batches {why}, so "
                "that they cannot be used; give another folder, or delete this one to start again"
            )
        sizes = {int(size) for _, size in said if size is not None}
        self._take_batch_size(max(sizes, default=0))
        self._write(FUNCTION_FILE, function.encode())
        self._write_about()
        warn(
            f"{_ABOUT_FILE} in the store {self.path} was {damage}; it was written again from the "
            "batches, which belong to this sweep"
        )

    def _require_same_sweep(self, old: dict[str, Any], function: str) -> None:
        """Raise if the folder belongs to another sweep; otherwise take over its batch size."""
        old_function = self._read_function()
        new = json.loads(json.dumps(self._about))
        if differences := describe_differences(old, new, old_function, function):
            raise OtherSweepError(
                f"the store {self.path} belongs to another sweep: {'; '.join(differences)}. Give "
                "another folder, or delete this one; nothing in it was changed"
            )
        kept = old.get("batch")
        self._take_batch_size(kept)
        if old_function != function:  # The digest agrees, so the file itself is damaged.
            self._write(FUNCTION_FILE, function.encode())
        if kept != self._about["batch"]:  # The process was killed before a batch size was chosen.
            self._write_about()

    def _take_batch_size(self, kept: Any) -> None:
        """Take over the batch size of the folder, if it has one."""
        given = self._about["batch"]
        if kept and given and kept != given:
            raise ValueError(
                f"the store {self.path} was started with batch_size={kept}, got {given}: pass "
                f"batch_size={kept}, or use another folder"
            )
        self._about["batch"] = kept or given

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        """Say in an error that the folder, or a file in it, cannot be used."""
        try:
            yield
        except BlockingIOError:  # Another process uses it, as the message says.
            raise
        except OSError as error:
            what = (
                f"{printable(name)} in the store {self.path}" if name else f"the store {self.path}"
            )
            reason = error.strerror or error
            if isinstance(error, FileExistsError | NotADirectoryError):
                reason = "there is a file where a folder must be"
            raise type(error)(error.errno, f"{what} cannot be used: {reason}") from error

    def _delete(self, damaged: Sequence[Path]) -> None:
        for path in damaged:
            with self._explained(path.name):
                path.unlink(missing_ok=True)
        self.damaged += [path.name for path in damaged]
        names = [printable(path.name) for path in damaged]
        warn(
            f"{len(names)} damaged file{'s' * (len(names) > 1)} in the store {self.path}; the "
            f"points in {'them' if len(names) > 1 else 'it'} run again: {', '.join(names)}"
        )

    def _write_about(self) -> None:
        self._write(_ABOUT_FILE, json.dumps(self._about, indent=1).encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_file(self.path / name, lambda file: file.write(content))
        except OSError as error:
            # The name has the digest of the content. Where the system has no locks, another process
            # that runs the same sweep may have written the same file.
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
        path: Path,
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

    def close(self) -> None:
        """Let another process use the folder."""
        if self._opened is not None:
            self._opened.close()

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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
