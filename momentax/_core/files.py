"""Writing a file: the one function through which the library and the command write."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".momentax-*.tmp"  # The names of files that are not complete, as a pattern.


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears complete at its path, or leave what was there unchanged.

    A link is followed and stays a link. An existing file keeps its permissions and its owner.
    A pipe, a terminal or another character device is written to and stays what it is. A folder,
    a disk or a socket is refused.
    """
    target = Path(os.path.realpath(path))
    existing = None
    try:
        existing = _status(target)
        if existing is None or stat.S_ISREG(existing.st_mode):
            _replace(target, existing, write)
        else:
            _write_into(target, existing, write)
    except OSError as error:
        wrong = f"{os.fspath(path)} could not be written: {error.strerror or error}"
        raise OSError(error.errno, f"{wrong}; {_remedy(target, existing, error)}") from error


def _remedy(target: Path, existing: os.stat_result | None, error: OSError) -> str:
    """Return what to do about an error of writing."""
    folder = target.parent
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        return f"the folder {folder} {what}, so make it or choose another path"
    if existing is not None and not stat.S_ISREG(existing.st_mode):
        return "choose the path of a file"
    kept = "" if existing is None else "what was there before is unchanged, so "
    is_full = error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
    return f"{kept}{'make room or ' if is_full else ''}choose another path"


def _status(target: Path) -> os.stat_result | None:
    """Return what is at a path; None if nothing is there."""
    try:
        return target.stat()
    except FileNotFoundError:
        return None


def _replace(
    target: Path, existing: os.stat_result | None, write: Callable[[BinaryIO], object]
) -> None:
    """Write a new file beside the target, and put it in the target's place once it is complete."""
    # Each call has a name of its own, since several processes may write the same file.
    temporary = target.with_name(UNFINISHED.replace("*", secrets.token_hex(8)))
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            if existing is not None:
                _copy_permissions(target, existing, temporary)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # The name is durable once the folder is on the disk too.
        with suppress(OSError):
            folder = os.open(target.parent, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _copy_permissions(source: Path, status: os.stat_result, copy: Path) -> None:
    """Give a new file the owner, the group, the permissions and the access list of another."""
    made = copy.stat()
    if hasattr(os, "chown") and (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.chown(copy, status.st_uid, status.st_gid)
        except PermissionError as error:
            raise PermissionError(
                error.errno, "it belongs to another user or group, which could not be kept"
            ) from error
    os.chmod(copy, stat.S_IMODE(status.st_mode))  # After chown, which may clear some bits.
    if hasattr(os, "listxattr"):
        with suppress(OSError):  # Not every file system has them.
            for name in os.listxattr(source):
                os.setxattr(copy, name, os.getxattr(source, name))


def _write_into(
    target: Path, existing: os.stat_result, write: Callable[[BinaryIO], object]
) -> None:
    """Write into a pipe or a character device, which must not be replaced by a file."""
    mode = existing.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise OSError(errno.EINVAL, "it is a disk, a socket or another thing that holds no file")
    content = io.BytesIO()  # A pipe cannot be rewound, as some writers need.
    write(content)
    with open(os.open(target, os.O_WRONLY), "wb") as file:
        file.write(content.getbuffer())
