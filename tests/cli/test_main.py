"""The command line in separate processes, as a person runs it."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import momentax
from momentax.__main__ import main
from momentax._cli import _sweep
from tests.cli.results import RESULTS, returns


def run_python(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done


def test_help_version_and_mistakes_load_neither_jax_nor_numpy():
    code = """if True:
        import sys
        from momentax.__main__ import main
        for arguments in sys.argv[1:]:
            try:
                main(arguments.split())
            except SystemExit as exit:
                print("status", exit.code)
        print("loaded", {"jax", "numpy", "optax", "flax", "matplotlib"} & set(sys.modules))
        """
    lines = [
        "",
        "--help",
        "--version",
        "sweep --help",
        "analyze -h",
        "race -h",
        "bench -h",
        "explore -h",
        "sweep --batch-size 0",
        "sweep --betas 2",
        "sweep --output /proc/new",
        "rest",
        "analize",
        "--lr",
    ]
    done = run_python("-c", code, *lines, text=True)
    assert [line for line in done.stdout.splitlines() if "status" in line] == [
        *["status 0"] * 7,
        *["status 2"] * 6,
    ]
    assert done.stdout.endswith("loaded set()\n")
    assert f"momentax {momentax.__version__}\n" in done.stdout
    assert "--betas" in done.stdout
    assert "--gradient-variance" in done.stdout
    assert "--methods" in done.stdout
    for command in ("sweep", "analyze", "race"):  # Of `momentax` alone, and of the command.
        assert done.stdout.count(f"\n  momentax {command} --") >= 3
    assert done.stderr.splitlines() == [
        "momentax sweep: error: --batch-size must be auto or a whole number, at least 1, got '0'",
        "momentax sweep: error: --betas must be in [0, 1), got 2.0",
        "momentax sweep: error: --output /proc/new cannot be written to: No such file or "
        "directory; give another folder",
        "momentax: error: there is no command 'rest'; the commands are sweep, analyze, race, "
        "bench, explore",
        "momentax: error: there is no command 'analize'; did you mean analyze?",
        "momentax: error: there is no option --lr; momentax --help lists all options",
    ]
    usages = re.findall(r"^usage: .*?\n\n", done.stdout, re.DOTALL | re.MULTILINE)
    assert len(usages) == 7
    assert all(usage.isascii() for usage in usages)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The output of one small sweep of the digits: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "made" / "for it"
    grid = ["--learning-rates", "0.2", "30", "--betas", "0.0", "0.9", "--epochs", "2"]
    done = run_python("-m", "momentax", "sweep", *grid, "--output", folder, text=True)
    return folder, done.stdout


def test_prints_the_best_points_and_marks_those_that_diverged(small):
    _, printed = small
    header, first, *rest = printed.splitlines()
    assert header.split() == ["learning", "rate", "β", "effective", "test_accuracy", "test_loss"]
    assert first.split()[0] == "0.2"
    assert "2 of 4 points diverged" in rest
    assert [line.split() for line in rest if "✕" in line] == [
        ["✕", "0", "at", "α", "=", "30"],
        ["✕", "0.9", "at", "α", "=", "30"],
    ]
    # By default each core is a device.
    report = json.loads((small[0] / "sweep.json").read_text(encoding="utf-8"))
    assert report["devices"] == len(os.sched_getaffinity(0))
    assert f"points at once on {report['devices'] if report['devices'] > 1 else 'one'}" in printed


def test_writes_what_it_prints(small):
    folder, printed = small
    report = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert report["axes"] == {"learning_rate": [0.2, 30.0], "beta": [0.0, 0.9]}
    assert (report["method"], report["epochs"], report["seed"]) == ("heavy_ball", 2, 0)
    assert (report["seeds"], report["metric"], report["mode"]) == (1, "test_accuracy", "max")
    assert report["momentax"] == momentax.__version__
    assert report["batch_size"] >= 1
    results = report["results"]
    assert set(results) == {"train_loss", "test_loss", "test_accuracy", "diverged"}
    assert results["diverged"] == [[False, False], [True, True]]
    accuracy = np.array(results["test_accuracy"])
    assert accuracy.shape == (2, 2)
    assert accuracy[0].min() > 0.6  # Two epochs at a learning rate of 0.2 learn something,
    assert accuracy[1].max() < 0.2  # and two at a learning rate of 30 nothing.
    best = report["best"]
    assert best["test_accuracy"] == accuracy.max()
    assert f"{best['test_accuracy']:.4g}" in printed.splitlines()[1]
    picture = imread(folder / "sweep.png")
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.1


ANALYZE = ["analyze", "--learning-rate", "0.1", "--beta", "0.9", "--mu", "1", "--L", "100"]


def test_analyze_prints_the_table_without_loading_flax_or_matplotlib():
    code = (
        "import sys; from momentax.__main__ import main; main(sys.argv[1:]); "
        "assert not {'flax', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    ascii_terminal = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run_python("-c", code, *ANALYZE, env=ascii_terminal)
    printed = done.stdout.decode("ascii")
    assert done.stderr == b""
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    assert printed == f"{momentax.theory.analyze(tx, 1.0, 100.0)!r}\n"
    assert "stability edge            curvature 38, 0.38 times L\n" in printed


def test_an_output_without_greek_letters_gets_question_marks(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    grid = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]
    main(["sweep", *grid, "--output", str(tmp_path)])
    assert "1 of 4 points diverged" in raw.getvalue().decode()
    assert "0.9  at ? = 0.2" in raw.getvalue().decode()
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", "-h"])
    assert exit_.value.code == 0


@pytest.mark.parametrize("command", ["sweep", "analyze"])
def test_an_output_on_a_full_disk_is_reported(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    grid = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]
    arguments = {"sweep": ["sweep", *grid, "--output", str(tmp_path)], "analyze": ANALYZE}
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as exit_:
            main(arguments[command])
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert "momentax: the table was not printed: No space left on device" in error
    written = {"sweep": {"sweep.json", "sweep.png"}, "analyze": set()}
    assert {file.name for file in tmp_path.iterdir()} == written[command]
