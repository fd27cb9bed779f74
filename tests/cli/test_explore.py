"""`momentax explore`: the page is written, or a sentence says why not."""

import os
import stat

import pytest

import momentax
from momentax.__main__ import main


def test_writes_the_page_and_says_how_to_open_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["explore"])
    assert (tmp_path / "explore.html").read_text(encoding="utf-8") == momentax.explorer.page()
    uri = (tmp_path / "explore.html").as_uri()
    assert capsys.readouterr().out == f"wrote explore.html; open it in a browser: {uri}\n"


def test_makes_the_folder_and_replaces_an_older_page(tmp_path, capsys):
    path = tmp_path / "a b" / "new" / "play.html"
    main(["explore", "--output", str(path)])
    path.write_text("older", encoding="utf-8")
    main(["explore", "--output", str(path)])
    assert path.read_text(encoding="utf-8") == momentax.explorer.page()
    assert "a%20b/new/play.html" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_refused_in_a_sentence(tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(momentax.explorer, "page", lambda: pytest.fail("the page was assembled"))
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for output, sentence in (
        (
            tmp_path,
            f"--output must be a file, and {tmp_path} is a folder; write {tmp_path}/explore",
        ),
        (
            tmp_path / "file" / "explore.html",
            f"--output {tmp_path / 'file'} must be a folder, but it is a file",
        ),
    ):
        refused = refuse("explore", "--output", str(output))
        assert refused.code == 2
        assert sentence in refused.err
        assert "Errno" not in refused.err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_file_that_is_not_writable_is_refused(tmp_path, refuse, monkeypatch):
    path = tmp_path / "explore.html"
    path.write_text("kept", encoding="utf-8")
    path.chmod(stat.S_IRUSR)
    # The superuser may write every file.
    monkeypatch.setattr(os, "access", lambda at, mode: str(at) != str(path))
    refused = refuse("explore", "--output", str(path))
    assert refused.code == 2
    assert f"{path} is not writable" in refused.err
    assert path.read_text(encoding="utf-8") == "kept"
