"""The lock of a store: one process at a time writes into it."""

from __future__ import annotations

import errno
import os
import platform
import threading
from contextlib import suppress
from pathlib import Path

from momentax._core.arguments import printable

try:
    import fcntl
except ModuleNotFoundError:  # Windows has none. Two processes then do the same work twice.
    fcntl = None

LOCK_FILE = ".momentax.lock"
_GUARD = threading.Lock()
_HELD: dict[Path, int] = {}  # The locks of this process, which a fork of it inherits, by its id.


class StoreLock:
    """A lock that the system releases when the process ends, however it ends.

    is_held: whether the lock could be taken. It is False where the folder cannot be written, and
        on file systems without locks.

    Raises:
        BlockingIOError: Another process has the lock; the message names it.
    """

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder.resolve() / LOCK_FILE
        with _GUARD:
            # The system's locks do not tell two threads of one process apart.
            if _HELD.get(self._path) == os.getpid():
                raise self._in_use(f"another sweep of this process, {os.getpid()}")
            self._file = self._take()
            _HELD[self._path] = os.getpid()

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        """Let other processes take the lock."""
        with _GUARD:
            _HELD.pop(self._path, None)
            if self._file is not None:
                with suppress(OSError):
                    self._path.unlink()
                os.close(self._file)
                self._file = None

    def _take(self) -> int | None:
        """Return the descriptor of the locked file, or None if it cannot be locked."""
        while fcntl is not None:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:  # Nobody can write here, so there is nothing to lock.
                return None
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The process that had the lock deleted its file when it ended.
                if os.path.samestat(os.fstat(file), self._path.stat()):
                    with suppress(OSError):  # Only a message needs the name of the process.
                        os.ftruncate(file, 0)
                        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
                    return file
            except FileNotFoundError:
                pass
            except OSError as error:
                holder = os.read(file, 200).decode(errors="replace")
                os.close(file)
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise self._in_use(printable(holder) or "another process") from None
                return None
            os.close(file)
        return None

    def _in_use(self, holder: str) -> BlockingIOError:
        return BlockingIOError(
            errno.EAGAIN,
            f"the store {self._folder} is in use by {holder}; wait until it has finished, and the "
            "same call reads its results, or give another folder",
        )
