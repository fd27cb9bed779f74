"""The command line, run as a person would."""

import argparse
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import momentax
from momentax import __main__ as command
from momentax import plotting
from momentax.__main__ import main

SMALL = ["--learning-rates", "0.2", "30", "--betas", "0.0", "0.9", "--epochs", "2"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The output of one small sweep: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "made" / "for it"
    command = [sys.executable, "-m", "momentax", "sweep", *SMALL, "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return folder, done.stdout, done.stderr


def test_prints_the_best_points_and_marks_the_diverged(small):
    _, printed, progress = small
    header, first, *rest = printed.splitlines()
    assert header.split() == ["learning", "rate", "β", "effective", "accuracy", "loss", "(test)"]
    assert first.split()[0] == "0.2"
    assert "2 of 4 points diverged" in rest
    assert [line.split() for line in rest if "✕" in line] == [
        ["✕", "0", "at", "α", "=", "30"],
        ["✕", "0.9", "at", "α", "=", "30"],
    ]
    assert "2/2" in progress  # The bar came to its end.
    assert "4 points" in progress


def test_writes_what_it_prints(small):
    folder, printed, _ = small
    report = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert report["axes"] == {"learning_rate": [0.2, 30.0], "beta": [0.0, 0.9]}
    assert (report["method"], report["epochs"], report["seed"]) == ("heavy_ball", 2, 0)
    assert report["momentax"] == momentax.__version__
    results = report["results"]
    assert set(results) == {"train_loss", "test_loss", "test_accuracy", "diverged"}
    assert results["diverged"] == [[False, False], [True, True]]
    accuracy = np.array(results["test_accuracy"])
    assert accuracy.shape == (2, 2)
    assert accuracy[0].min() > 0.6  # Two epochs learn something at either β,
    assert accuracy[1].max() < 0.2  # and a learning rate of 30 nothing.
    best = report["best"]
    assert best["test_accuracy"] == accuracy.max()
    assert f"{best['test_accuracy']:.2%}" in printed.splitlines()[1]
    picture = imread(folder / "sweep.png")
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.1


@pytest.mark.parametrize("method", ["nesterov", "average", "quasi_hyperbolic"])
def test_every_method_in_this_process(method, tmp_path, capsys):
    """Under strict promotion, as everything of momentax's must run."""
    main(
        [
            "sweep",
            "--method",
            method,
            *SMALL[3:],
            "--learning-rates",
            "0.2",
            "--output",
            str(tmp_path),
        ]
    )
    assert "0 of 2 points diverged" in capsys.readouterr().out
    assert (tmp_path / "sweep.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--betas", "1.5"], "axis beta must be in [0, 1), got 1.5 at index 0"),
        (["--learning-rates", "0.1", "-1"], "axis learning_rate must be in (0, inf), got -1.0"),
        (["--learning-rates", "fast"], "invalid float value: 'fast'"),
        (["--learning-rates", "0.1", "0.1"], "must not repeat a value"),
        (["--epochs", "0"], "epochs must be a whole number, at least 1, got 0"),
        (["--seed", "-1"], "seed must be a whole number, at least 0, got -1"),
        (["--method", "adam"], "invalid choice: 'adam'"),
        (["--seed", str(2**32)], "seed must be below 2**32, got 4294967296"),
        (["--seed", "9" * 400], "seed must be below 2**32, got an integer of"),
        (["--output", __file__], "File exists"),
    ],
)
def test_mistakes_are_sentences_before_anything_runs(arguments, text, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", *arguments])
    assert exit_.value.code == 2
    assert text in capsys.readouterr().err


def test_a_missing_extra_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(SystemExit):
        main(["sweep", *SMALL, "--output", str(tmp_path)])
    assert "tqdm is not installed; pip install 'momentax[flax]'" in capsys.readouterr().err


RESULTS = {  # The best accuracy is a diverged point's.
    "test_accuracy": np.array([[0.9, 0.95], [0.95, 0.99]]),
    "test_loss": np.array([[0.5, 0.4], [0.3, np.nan]]),
    "diverged": np.array([[False, False], [False, True]]),
}


def test_the_report_leaves_diverged_points_out_and_nan_becomes_null():
    points = momentax.grid(learning_rate=[0.1, 0.2], beta=[0.0, 0.9])
    options = argparse.Namespace(method="nesterov", epochs=1, seed=0)
    report = json.loads(json.dumps(command._report(options, points, RESULTS), allow_nan=False))
    assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
    best = report["best"]  # By accuracy, then by loss.
    assert best == {"learning_rate": 0.2, "beta": 0.0, "test_accuracy": 0.95}
    for method, effective in (("nesterov", "1"), ("average", "0.1")):
        rows = [row.split() for row in command._table(method, points, RESULTS).splitlines()[1:4]]
        assert rows[0][:3] == ["0.2", "0", "0.2"]
        assert rows[1][:3] == ["0.1", "0.9", effective]
    lost = RESULTS | {"diverged": np.ones((2, 2), bool)}
    assert command._report(options, points, lost)["best"] is None


def test_the_report_writes_every_number_as_short_as_it_is():
    points = momentax.grid(learning_rate=[0.1, 0.7], beta=[0.0, 0.9])
    options = argparse.Namespace(method="nesterov", epochs=1, seed=0)
    narrow = {name: np.asarray(value) for name, value in RESULTS.items()}
    narrow |= {name: narrow[name].astype(np.float32) for name in ("test_accuracy", "test_loss")}
    report = command._report(options, points, narrow)
    assert report["axes"] == {"learning_rate": [0.1, 0.7], "beta": [0.0, 0.9]}
    assert report["results"]["test_accuracy"] == [[0.9, 0.95], [0.95, 0.99]]
    assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
    assert report["results"]["diverged"] == [[False, False], [False, True]]
    assert report["best"] == {"learning_rate": 0.7, "beta": 0.0, "test_accuracy": 0.95}


def test_the_map_marks_the_diverged_points(monkeypatch, tmp_path):
    drawn, draw = {}, plotting.heatmap

    def heatmap(points, values, **options):
        drawn.update(options, values=values)
        return draw(points, values, **options)

    monkeypatch.setattr("momentax.plotting.heatmap", heatmap)
    monkeypatch.setattr(momentax, "sweep", lambda run, points: RESULTS)
    arguments = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9", "--output", str(tmp_path)]
    main(["sweep", *arguments])
    np.testing.assert_array_equal(drawn["diverged"], RESULTS["diverged"])
    assert drawn["effective"]
    main(["sweep", "--method", "average", *arguments])
    assert not drawn["effective"]
    np.testing.assert_array_equal(drawn["values"], 100 * RESULTS["test_accuracy"])


def test_version_and_help(capsys):
    for arguments, text in (
        (["--version"], momentax.__version__),
        (["sweep", "-h"], "--betas"),
        (["analyze", "-h"], "--gradient-variance"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert text in capsys.readouterr().out


SMALLEST = ["sweep", "--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]


@pytest.mark.parametrize("name", ["sweep.json", "sweep.png"])
def test_a_file_that_cannot_be_written_is_found_before_training(
    name, tmp_path, monkeypatch, capsys
):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(momentax, "sweep", None)  # Nothing is trained.
    with pytest.raises(SystemExit) as exit_:
        main([*SMALLEST, "--output", str(tmp_path)])
    assert exit_.value.code == 2
    assert f"{tmp_path / name} is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sweep.json", "sweep.png"])
def test_a_file_that_fails_after_training_loses_nothing(name, tmp_path, monkeypatch, capsys):
    def sweep(run, points):
        (tmp_path / name).mkdir()  # As a disk may fill up while the sweep runs.
        return RESULTS

    monkeypatch.setattr(momentax, "sweep", sweep)
    with pytest.raises(SystemExit) as exit_:
        main([*SMALLEST, "--output", str(tmp_path)])
    assert exit_.value.code == 1
    out, err = capsys.readouterr()
    assert f"momentax: {tmp_path / name} was not written: Is a directory" in err
    assert "1 of 4 points diverged" in out
    if name == "sweep.json":  # The report stands in the output instead.
        report = json.loads(out[out.index("{") : out.rindex("}") + 1])
        assert (tmp_path / "sweep.png").is_file()
    else:
        report = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert report["results"]["test_accuracy"] == RESULTS["test_accuracy"].tolist()


def test_an_output_of_ascii_alone_shows_the_rest_as_question_marks(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(momentax, "sweep", lambda run, points: RESULTS)
    main([*SMALLEST, "--output", str(tmp_path)])
    assert "1 of 4 points diverged" in raw.getvalue().decode()
    assert "0.9  at ? = 0.2" in raw.getvalue().decode()
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", "-h"])
    assert exit_.value.code == 0


def test_a_full_device_for_the_output_is_a_sentence_and_the_files_are_there(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(momentax, "sweep", lambda run, points: RESULTS)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as exit_:
            main([*SMALLEST, "--output", str(tmp_path)])
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "momentax: the table was not printed: No space left on device" in said
    assert {file.name for file in tmp_path.iterdir()} == {"sweep.json", "sweep.png"}


HEAVY_BALL = ["analyze", "--learning-rate", "0.1", "--beta", "0.9", "--mu", "1", "--L", "100"]


def test_analyze_prints_the_table_without_loading_what_trains_or_draws():
    code = (
        "import sys; from momentax.__main__ import main; main(sys.argv[1:]); "
        "assert not {'flax', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, *HEAVY_BALL]
    terminal = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=terminal, check=True)
    printed = done.stdout.decode("ascii")
    assert done.stderr == b""
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    assert printed == f"{momentax.theory.analyze(tx, 1.0, 100.0)!r}\n"
    assert "stability edge            curvature 38, 0.38 times L\n" in printed


@pytest.mark.parametrize(
    ("method", "edge"),  # methods.md: 2 (1 + β) / (1 + β (1 - 2ν)) in units of a running average.
    [
        (["--method", "nesterov", "--beta", "0.9"], 2 * 1.9 / 2.8 / 0.1),
        (["--method", "average", "--beta", "0.9"], 2 * 1.9 / 0.1 / 0.1),
        (["--method", "quasi_hyperbolic", "--beta", "0.9"], 2 * 1.9 / (1 - 0.9 * 0.4) / 0.1),
        (["--method", "gradient_descent"], 2 / 0.1),
        (["--method", "gradient_descent", "--weight-decay", "0.5"], 2 / 0.1 - 0.5),
    ],
)
def test_analyze_takes_every_method_and_weight_decay(method, edge, capsys):
    main(["analyze", "--learning-rate", "0.1", "--mu", "1", "--L", "10", "--json", *method])
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == method[1]
    np.testing.assert_allclose(report["analysis"]["edge"], edge, rtol=1e-9)


def test_analyze_writes_json_in_which_nothing_is_infinite(capsys):
    main([*HEAVY_BALL, "--gradient-variance", "1", "--json"])
    report = json.loads(capsys.readouterr().out)
    analysis = report.pop("analysis")
    assert report == {
        "momentax": momentax.__version__,
        "method": "heavy_ball",
        "learning_rate": 0.1,
        "beta": 0.9,
        "weight_decay": 0.0,
    }
    assert analysis["stable"] is False
    assert (analysis["half_life"], analysis["noise_floor"]) == (None, None)
    np.testing.assert_allclose(analysis["system"]["A"], [[1, -0.09], [0, 0.9]], rtol=1e-15)
    assert analysis["system"]["C"] == [1, 0]
    assert analysis["lowest"]["damping"]["kind"] == "under"
    assert round(analysis["lowest"]["variance"], 6) == 0.513514
    np.testing.assert_allclose(analysis["lowest"]["oscillator"]["mass"], 0.95, rtol=1e-12)
    assert analysis["highest"]["variance"] is None
    assert set(analysis) == set(momentax.theory.Analysis._fields)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--beta", "1.5"], "error: beta must be in [0, 1), got 1.5"),
        (["--learning-rate", "nan"], "learning_rate must be in (0, inf), got nan"),
        (["--learning-rate", "fast"], "argument --learning-rate: invalid float value: 'fast'"),
        (["--mu", "200"], "mu must not exceed L, got mu=200.0 and L=100.0; are they swapped?"),
        (["--mu", "nan"], "mu must be in (-inf, inf), got nan"),
        (["--L", "0"], "L must be in (0, inf), got 0.0"),
        (["--weight-decay", "-1"], "weight_decay must be in [0, inf), got -1.0"),
        (["--gradient-variance", "inf"], "gradient_variance must be in [0, inf), got inf"),
        (["--method", "adam"], "argument --method: invalid choice: 'adam'"),
        (["--method", "gradient_descent"], "--beta is not allowed with gradient_descent"),
    ],
)
def test_mistakes_in_analyze_are_sentences(arguments, text, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*HEAVY_BALL, *arguments])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err


def test_what_is_missing_in_analyze_is_named(capsys):
    for arguments, text in (
        (HEAVY_BALL[:-2], "the following arguments are required: --L"),
        (["analyze"], "arguments are required: --learning-rate, --mu, --L"),
        (HEAVY_BALL[:3] + HEAVY_BALL[5:], "--beta is required for heavy_ball"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert text in capsys.readouterr().err


def test_a_table_that_cannot_be_printed_is_a_sentence(monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as exit_:
            main(HEAVY_BALL)
    assert exit_.value.code == 1
    assert "momentax: the table was not printed: No space left" in capsys.readouterr().err
