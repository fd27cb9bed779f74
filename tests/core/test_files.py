"""Files are written whole or not at all, and nothing but a file is replaced by one."""

import os
import socket
import stat
import threading

import pytest

from momentax._core.files import write_file


def write(path, content=b"new"):
    write_file(path, lambda file: file.write(content))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755, 0o444])
def test_an_existing_file_keeps_its_permissions_and_a_new_one_has_the_usual_ones(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    before = path.stat()
    write(path)
    after = path.stat()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    (tmp_path / "usual").touch()
    write(tmp_path / "made")
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["file", "made", "usual"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root can give files")
def test_an_existing_file_keeps_its_owner(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    path.chmod(0o4750)
    write(path)
    after = path.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (12345, 54321, 0o4750)


def test_a_file_whose_owner_cannot_be_kept_is_left_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    status = path.stat()
    others = os.stat_result((*status[:4], status.st_uid + 1, *status[5:]))
    monkeypatch.setattr(
        "momentax._core.files._status", lambda target: others if target == path else None
    )

    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(OSError, match="belongs to another user or group, which could not be kept"):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_links_are_followed_and_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "link to link").symlink_to("link")
    (tmp_path / "dangling").symlink_to(tmp_path / "folder" / "made")
    write(tmp_path / "link to link")
    write(tmp_path / "dangling")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "folder" / "made").read_bytes() == b"new"
    assert all((tmp_path / name).is_symlink() for name in ("link", "link to link", "dangling"))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle could not be written"):
        write(tmp_path / "circle")
    assert (tmp_path / "circle").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path, linked):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(path, b"all of it")
    reader.join(60)
    assert read == [b"all of it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert path.is_symlink() == linked


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root makes devices")
@pytest.mark.parametrize(
    ("kind", "error"), [(stat.S_IFCHR, None), (stat.S_IFBLK, "could not be written: it is a disk")]
)
def test_a_device_is_written_to_or_refused_and_stays_a_device(tmp_path, kind, error):
    path = tmp_path / "device"
    numbers = os.makedev(1, 3) if kind == stat.S_IFCHR else os.makedev(240, 240)  # As /dev/null.
    try:
        os.mknod(path, kind | 0o666, numbers)
        if error is None:
            os.close(os.open(path, os.O_WRONLY))
    except OSError:
        pytest.skip("the system allows no devices here")
    if error is None:
        write(path)
    else:
        with pytest.raises(OSError, match=error):
            write(path)
    assert stat.S_IFMT(path.lstat().st_mode) == kind
    assert path.stat().st_rdev == numbers
    assert os.listdir(tmp_path) == ["device"]


def test_a_folder_and_a_socket_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        for name, text in (("folder", "Is a directory"), ("socket", "a socket or another thing")):
            with pytest.raises(OSError, match=f"{name} could not be written: .*{text}.*; choose"):
                write(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["folder", "socket"]


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path, contents = tmp_path / "file", [bytes([i]) * 100_000 for i in range(8)]
    writers = [threading.Thread(target=write, args=(path, each)) for each in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]
