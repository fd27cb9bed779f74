"""What `momentax sweep` says before it loads JAX, and its line on a terminal."""

import subprocess
import sys

import pytest

from momentax._cli._display import open_display
from momentax._cli._parser import make_parser
from momentax._cli._plan import announce, make_plan
from momentax._cli._table import aligned


def test_the_plan_is_said_before_jax_is_imported(tmp_path):
    code = """if True:
        import sys
        from momentax.__main__ import main
        class Finder:
            def find_spec(name, path=None, target=None):
                if name in ("jax", "numpy", "flax"):
                    sys.exit(f"{name} is imported")
        sys.meta_path.insert(0, Finder)
        main(sys.argv[1:])
        """
    command = [sys.executable, "-c", code, "sweep", "--epochs", "3", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said, imported = done.stderr.splitlines()
    assert said.startswith("64 networks")
    assert said.endswith("compiling …")
    assert imported in ("jax is imported", "numpy is imported", "flax is imported")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "64 networks on 3 cores, compiling …\n"),
        (["--devices", "2", "--seeds", "3"], "192 networks on 2 cores, compiling …\n"),
        (["--devices", "4"], "64 networks, compiling …\n"),  # JAX knows whether there are so many.
        (["--betas", "0.5", "--model", "mine:f"], "8 runs of mine:f on 3 cores, compiling …\n"),
    ],
)
def test_the_plan_names_the_networks_and_the_cores(arguments, said, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("momentax._cli._plan.count_cores", lambda: 3)
    options = make_parser().parse_args(["sweep", "--output", str(tmp_path), *arguments])
    announce(options, make_plan(options)).close()
    assert capsys.readouterr().err == said


def test_a_terminal_shows_a_line_that_changes_and_disappears(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    display = open_display("networks", 64, " on 2 cores")
    display.open(64, 8)
    display.compiling(True, 0.0)
    display.compiling(False, 3.0)
    display.update(24, 75.0, "best test accuracy 0.97")
    display.close()
    display.close()  # As the command does where it fails.
    shown = capsys.readouterr().err
    steps = ["64 networks on 2 cores, compiling …", "8 of 64 networks", "24 of 64 networks"]
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    assert "0:01:15 left" in shown
    assert "best test accuracy 0.97" in shown


def test_an_output_without_its_characters_gets_a_plain_line(monkeypatch, capsys):
    monkeypatch.setattr("momentax._cli._display._encodes", lambda text: False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    open_display("networks", 64, "").close()
    assert capsys.readouterr().err == "64 networks, compiling ...\n"


def test_a_table_is_aligned_plain_in_a_file_and_coloured_on_a_terminal(monkeypatch):
    rows = [["learning rate", "β"], ["0.1", "0.95"], ["10", "[bold]\x1b[2J"]]
    assert aligned(rows).splitlines() == [
        "learning rate              β",
        "          0.1           0.95",
        "           10  [bold]\\x1b[2J",
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = aligned(rows)
    assert "\x1b[1m" in coloured
    assert "\x1b[32m" in coloured
    assert "\x1b[2J" not in coloured
    assert aligned([]) == ""
