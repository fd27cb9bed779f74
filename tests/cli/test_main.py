"""The command line, run as a person would."""

import argparse
import io
import json
import os
import subprocess
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread

import momentax
from momentax import plotting
from momentax.__main__ import main
from momentax._cli import _sweep

SMALL = ["--learning-rates", "0.2", "30", "--betas", "0.0", "0.9", "--epochs", "2"]


@pytest.fixture(autouse=True)
def _devices_as_they_are(monkeypatch):
    """The command must not start JAX with other devices than the rest of the tests expect."""
    monkeypatch.setattr(momentax, "use_all_cores", lambda count=None: jax.device_count())
    yield
    plt.close("all")


def in_a_shell(*arguments, **how):
    """What `momentax sweep` prints in a process of its own."""
    command = [sys.executable, "-m", "momentax", "sweep", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The output of one small sweep: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "made" / "for it"
    return folder, in_a_shell(*SMALL, "--output", folder)


def test_prints_the_best_points_and_marks_the_diverged(small):
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
    assert accuracy[0].min() > 0.6  # Two epochs learn something at either β,
    assert accuracy[1].max() < 0.2  # and a learning rate of 30 nothing.
    best = report["best"]
    assert best["test_accuracy"] == accuracy.max()
    assert f"{best['test_accuracy']:.4g}" in printed.splitlines()[1]
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
        (["--seeds", "0"], "seeds must be a whole number, at least 1, got 0"),
        (["--seeds", "2", "--seed", str(2**31 - 1)], "a seed must be below 2**31, got 2147483648"),
        (["--batch-size", "0"], "must be auto or a whole number, at least 1, got '0'"),
        (["--batch-size", "half"], "must be auto or a whole number, at least 1, got 'half'"),
        (["--devices", "0"], "devices must be a whole number, at least 1, got 0"),
        (["--devices", "999"], "--devices must be at most 2, the cpu devices there are, got 999"),
        (["--metric", "loss"], "--metric must be one of test_accuracy, test_loss, train_loss, got"),
        (["--mode", "most"], "invalid choice: 'most'"),
        (["--halving", "3", "6"], "that end with --epochs, 12, got 3 6"),
        (["--halving", "6", "3", "12"], "must be growing numbers of epochs"),
        (["--halving", "0", "12"], "must be growing numbers of epochs"),
        (["--store", f"{__file__}/store"], f"{__file__} is not a directory"),
    ],
)
def test_mistakes_are_sentences_before_anything_runs(arguments, text, capsys, monkeypatch):
    monkeypatch.setattr(momentax, "sweep", None)  # Nothing is trained.
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", *arguments])
    assert exit_.value.code == 2
    assert text in capsys.readouterr().err


def test_a_missing_extra_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.delitem(sys.modules, "momentax._cli._digits", raising=False)
    monkeypatch.delattr(momentax, "_digits", raising=False)
    with pytest.raises(SystemExit):
        main(["sweep", *SMALL, "--output", str(tmp_path)])
    assert (
        "sklearn.datasets is not installed; pip install 'momentax[flax]'" in capsys.readouterr().err
    )


RESULTS = {  # The best accuracy is a diverged point's.
    "test_accuracy": np.array([[0.9, 0.95], [0.95, 0.99]], np.float32),
    "test_loss": np.array([[0.5, 0.4], [0.3, np.nan]], np.float32),
    "diverged": np.array([[False, False], [False, True]]),
}


def returns(values, **ran):
    """A stand-in for momentax.sweep that finds these values."""

    def sweep(run, points, **how):
        sweep.how = how
        report = momentax.sweeps.Report(
            **{"batch_size": 4, "devices": 2, "device_kind": "cpu"} | ran, programs=1
        )
        return momentax.sweeps.SweepResult(points, values, values["diverged"], report)

    return sweep


SMALLEST = ["sweep", "--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]


def swept(capsys, folder, *arguments):
    """The rows that the command prints, and its report."""
    main([*SMALLEST, "--output", str(folder), *arguments])
    report = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return [line.split() for line in capsys.readouterr().out.splitlines()], report


def test_the_report_leaves_diverged_points_out_and_nan_becomes_null(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
    for method, effective in (("nesterov", "1"), ("average", "0.1")):
        rows, report = swept(capsys, tmp_path, "--method", method)
        assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
        best = report["best"]  # By accuracy, then by loss.
        assert best == {"learning_rate": 0.2, "beta": 0.0, "test_accuracy": 0.95}
        assert rows[1] == ["0.2", "0", "0.2", "0.95", "0.3"]
        assert rows[2] == ["0.1", "0.9", effective, "0.95", "0.4"]
    rows, report = swept(capsys, tmp_path, "--metric", "test_accuracy", "--mode", "min")
    assert report["best"] == {"learning_rate": 0.1, "beta": 0.0, "test_accuracy": 0.9}
    rows, report = swept(capsys, tmp_path, "--metric", "test_loss")
    assert report["best"] == {"learning_rate": 0.2, "beta": 0.0, "test_loss": 0.3}
    assert (report["metric"], report["mode"]) == ("test_loss", "min")
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS | {"diverged": np.ones((2, 2), bool)}))
    rows, report = swept(capsys, tmp_path)
    assert report["best"] is None
    assert rows[0] == ["4", "of", "4", "points", "diverged"]


def test_the_report_writes_every_number_as_short_as_it_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
    _, report = swept(capsys, tmp_path)
    assert report["axes"] == {"learning_rate": [0.1, 0.2], "beta": [0.0, 0.9]}
    assert report["results"]["test_accuracy"] == [[0.9, 0.95], [0.95, 0.99]]
    assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
    assert report["results"]["diverged"] == [[False, False], [False, True]]


def test_with_seeds_points_are_ranked_by_the_mean_and_its_standard_error_is_told(
    monkeypatch, tmp_path, capsys
):
    accuracy = np.array([[[0.8, 0.9], [0.95, 0.2]], [[0.86, 0.88], [0.1, 0.1]]], np.float32)
    lost = np.array([[[False, False], [False, True]], [[False, False], [True, True]]])
    values = {"test_accuracy": accuracy, "test_loss": 1 - accuracy, "diverged": lost}
    sweep = returns(values)
    monkeypatch.setattr(momentax, "sweep", sweep)
    rows, report = swept(capsys, tmp_path, "--seeds", "2", "--seed", "5")
    assert rows[1][:2] == ["0.1", "0.9"]  # One seed of it diverged, and is in no mean.
    assert rows[1][3:5] == ["0.95", "0.05"]
    assert rows[2][:6] == ["0.2", "0", "0.2", "0.87", "±", "0.01"]
    assert rows[3][3:6] == ["0.85", "±", "0.05"]
    text = "\n".join(map(" ".join, rows))
    assert "2 of 4 points diverged, 3 of 8 runs with their seeds" in text
    assert "✕ 0.9 at α = 0.1 (1 of 2), 0.2" in text
    assert report["axes"]["seed"] == [5, 6]
    assert (report["seed"], report["seeds"]) == (5, 2)
    assert report["best"]["standard_error"] is None  # Of a single number.
    np.testing.assert_array_equal(np.array(report["results"]["diverged"]), lost)


def test_how_it_ran_is_told_and_what_is_asked_for_reaches_the_engine(monkeypatch, tmp_path, capsys):
    store = tmp_path / "of the sweep"
    sweep = returns(RESULTS, resumed=3, damaged=("3.npz",))
    monkeypatch.setattr(momentax, "sweep", sweep)
    rows, report = swept(capsys, tmp_path, "--store", str(store), "--batch-size", "4")
    assert sweep.how == {"batch_size": 4, "mesh": None, "store": store}
    assert (report["batch_size"], report["devices"]) == (4, 2)
    text = "\n".join(map(" ".join, rows))
    assert "ran up to 4 points at once on 2 devices (cpu); 3 results were read from" in text
    assert "damaged and ran again: 3.npz" in text
    swept(capsys, tmp_path)
    assert sweep.how == {"batch_size": "auto", "mesh": None, "store": None}
    swept(capsys, tmp_path, "--devices", "1")
    assert sweep.how["mesh"].devices.tolist() == jax.devices()[:1]


def test_cores_that_cannot_be_had_any_more_matter_only_to_who_asks(monkeypatch, tmp_path, capsys):
    def use_all_cores(count=None):
        raise RuntimeError("JAX has already started with 2 devices")

    monkeypatch.setattr(momentax, "use_all_cores", use_all_cores)
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
    swept(capsys, tmp_path)
    with pytest.raises(SystemExit) as exit_:
        swept(capsys, tmp_path, "--devices", "1")
    assert exit_.value.code == 2
    assert "error: --devices 1: JAX has already started with 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("store is of other points"), 2), (OSError(28, "No space left on device"), 1)],
)
def test_a_store_that_does_not_do_is_a_sentence(error, code, monkeypatch, tmp_path, capsys):
    def sweep(run, points, **how):
        raise error

    monkeypatch.setattr(momentax, "sweep", sweep)
    with pytest.raises(SystemExit) as exit_:
        swept(capsys, tmp_path, "--store", str(tmp_path / "store"))
    assert exit_.value.code == code
    assert str(error) in capsys.readouterr().err


def test_what_was_halved_away_comes_after_what_trained_on(monkeypatch, tmp_path, capsys):
    """A score of fewer epochs is another, however good it is."""
    score = np.array([[0.5, 0.1], [0.6, np.nan]], np.float32)
    values = {
        "score": score,
        "advanced": np.array([[12, 4], [12, 1]], np.int32),
        "history": np.stack([score, score], -1),
    }

    def halve(init, advance, score, points, **how):
        halve.how = how
        return momentax.sweeps.SweepResult(points, values, np.isnan(values["score"]), None)

    monkeypatch.setattr(momentax, "halve", halve)
    rows, report = swept(capsys, tmp_path, "--halving", "4", "12", "--batch-size", "2")
    how = {"rungs": [4, 12], "mode": "min", "batch_size": 2, "mesh": None, "store": None}
    assert halve.how == how
    assert [row[3:] for row in rows[1:4]] == [["12", "0.5"], ["12", "0.6"], ["4", "0.1"]]
    assert report["best"] == {"learning_rate": 0.1, "beta": 0.0, "test_loss": 0.5}
    assert report["results"]["history"][1][1] == [None, None]
    swept(capsys, tmp_path, "--halving", "--metric", "test_accuracy")
    assert (halve.how["rungs"], halve.how["mode"]) == ([1, 4, 12], "max")


def test_halving_by_itself_goes_by_thirds():
    for epochs, rungs in ((12, [1, 4, 12]), (90, [10, 30, 90]), (2, [1, 2]), (1, [1])):
        options = argparse.Namespace(halving=[], epochs=epochs)
        assert _sweep._rungs(options) == rungs
    assert _sweep._rungs(argparse.Namespace(halving=[5, 12], epochs=None)) == [5, 12]


def test_the_map_is_of_the_metric_and_the_lines_are_of_methods_that_have_them(
    monkeypatch, tmp_path, capsys
):
    drawn, draw = {}, plotting.heatmap

    def heatmap(result, metric, **options):
        drawn.update(options, result=result, metric=metric)
        return draw(result, metric, **options)

    monkeypatch.setattr("momentax.plotting.heatmap", heatmap)
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
    swept(capsys, tmp_path)
    assert drawn["effective"]
    assert (drawn["metric"], drawn["mode"]) == ("test_accuracy", "max")
    np.testing.assert_array_equal(drawn["result"].diverged, RESULTS["diverged"])
    swept(capsys, tmp_path, "--method", "average", "--metric", "test_loss")
    assert not drawn["effective"]
    assert (drawn["metric"], drawn["mode"]) == ("test_loss", "min")


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
    def sweep(run, points, **how):
        (tmp_path / name).mkdir()  # As a disk may fill up while the sweep runs.
        return returns(RESULTS)(run, points)

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
    assert report["results"]["test_accuracy"] == [[0.9, 0.95], [0.95, 0.99]]


def test_an_output_of_ascii_alone_shows_the_rest_as_question_marks(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
    main([*SMALLEST, "--output", str(tmp_path)])
    assert "1 of 4 points diverged" in raw.getvalue().decode()
    assert "0.9  at ? = 0.2" in raw.getvalue().decode()
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", "-h"])
    assert exit_.value.code == 0


def test_a_full_device_for_the_output_is_a_sentence_and_the_files_are_there(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(momentax, "sweep", returns(RESULTS))
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
