"""`momentax bench`: a table of methods, and a method of one's own beside recorded results."""

import json
from types import MappingProxyType

import numpy as np
import pytest

import momentax
from momentax import bench
from momentax.__main__ import main
from momentax.bench import Entry, Result, _files, _result, _run
from momentax.bench._facts import task_hash
from momentax.sweeps import log_uniform
from tests.bench import tiny

TASKS = {name: tiny.make(name=name) for name in ("ridge", "spiral_deep")}


def copy_of_heavy_ball(learning_rate, beta=0.9):
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta))


def worse(learning_rate, beta=0.9):
    """Heavy ball that moves by a tenth of the learning rate, within a narrow range."""
    return momentax.sgd(lambda t: 0.01 * learning_rate(t), momentax.heavy_ball(beta))


def ignores_beta(learning_rate, beta=0.9):
    return momentax.sgd(learning_rate, momentax.heavy_ball(0.9))


def decides(learning_rate, beta=0.9):
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta if beta < 0.95 else 0.95))


def make_deciding(horizon, learning_rate):
    return momentax.sgd(horizon.learning_rate(max(learning_rate, 0.1)))


undecided = Entry(
    "undecided", make_deciding, {"learning_rate": log_uniform(0.1, 1)}, {"learning_rate": 0.1}
)
entry = Entry.of(worse, name="entry", space={"learning_rate": log_uniform(0.01, 0.1)})
NOTHING = 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Replace the tasks by problems that train in a millisecond, with a curve for one of them."""
    monkeypatch.setattr(_run, "all_tasks", MappingProxyType(TASKS))
    monkeypatch.setattr(_result, "tasks", MappingProxyType(TASKS))
    line = {
        "hash": task_hash(TASKS["ridge"]),
        "horizons": [10, 20, 40, 80, 160],
        "scores": [-0.5, -0.8, -1.1, -1.4, -1.7],
    }
    recorded = {"reference": {"tasks": {"ridge": line}}}
    monkeypatch.setattr(_files, "recorded", lambda name: recorded[name])
    return recorded


def run(*arguments):
    main(["bench", *arguments])


def test_a_table_of_methods_is_printed_and_written(tmp_path, capsys):
    run(
        "--tasks", "ridge,spiral_deep", "--methods", "sgd,nesterov", "--trials", "4", "--seeds",
        "8", "--output", str(tmp_path),
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert out.split()[:3] == ["method", "speed-up", "tasks"]
    assert "ridge" in out
    assert "spiral_deep (log10 loss)" in out
    assert f"wrote {tmp_path / 'bench.json'} and {tmp_path / 'bench.png'}" in out
    assert "4 of 4: nesterov on spiral_deep" in err
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    result = Result.load(tmp_path / "bench.json")
    assert result.methods == ["sgd", "nesterov"]
    assert result.protocol.trials == 4


def test_a_copy_of_heavy_ball_is_undecided_and_a_slower_one_worse(tmp_path, capsys):
    common = ["--rerun", "--against", "heavy_ball", "--tasks", "ridge", "--output", str(tmp_path)]
    run("tests.cli.test_bench:copy_of_heavy_ball", "--trials", "8", *common)
    out = capsys.readouterr().out
    assert "copy_of_heavy_ball is better than heavy_ball on 0, worse on 0 and undecided on 1" in out
    run("tests.cli.test_bench:entry", "--trials", "8", *common)
    out, err = capsys.readouterr()
    assert "entry is better than heavy_ball on 0, worse on 1 and undecided on 0 of 1 tasks" in out
    row = next(line for line in out.splitlines() if line.startswith("ridge"))
    assert float(row.split()[2]) < 1
    assert "warning" not in err


@pytest.fixture
def calls(monkeypatch):
    """The calls of `bench.run`, none of which runs anything."""
    seen = []
    monkeypatch.setattr(bench, "run", lambda *given, **options: seen.append((given, options)))
    return seen


def test_ranges_are_widened_and_weight_decay_is_searched_if_asked(tmp_path, calls):
    with pytest.raises(AttributeError):  # There is no result.
        run(
            "tests.cli.test_bench:copy_of_heavy_ball", "--rerun", "--weight-decay", "--widen",
            "--output", str(tmp_path),
        )  # fmt: skip
    ((methods, _), options) = calls[0]
    assert list(methods[0].space) == ["effective_rate", "beta", "weight_decay"]
    assert options["widen"]
    assert options["weight_decay"]
    assert options["seeds"] == 16


def test_the_command_without_arguments_needs_as_few_runs_as_its_verdicts_allow(tmp_path, calls):
    with pytest.raises(AttributeError):
        run("--output", str(tmp_path))
    ((methods, chosen), options) = calls[0]
    assert (len(methods), len(chosen)) == (4, 3)
    assert (options["trials"], options["seeds"]) == (12, 12)
    assert 2 / 2 ** options["seeds"] < 0.05 / 9  # Holm's first step for the nine comparisons.
    assert not options["widen"]
    assert not options["weight_decay"]


def test_faults_of_a_method_are_named_before_the_runs(tmp_path, capsys):
    run(
        "tests.cli.test_bench:ignores_beta", "--rerun", "--tasks", "ridge", "--trials", "4",
        "--output", str(tmp_path),
    )  # fmt: skip
    err = capsys.readouterr().err
    assert "warning: ignores_beta: its hyperparameter beta changes nothing" in err
    assert err.index("warning") < err.index("1 of 2")


def test_recorded_results_are_used_if_versions_and_tasks_agree(tmp_path, capsys, small):
    options = ["--methods", "heavy_ball", "--tasks", "ridge", "--trials", "8"]
    run(*options, "--against", "heavy_ball", "--output", str(tmp_path))
    content = json.loads((tmp_path / "bench.json").read_text())
    small["results"] = content
    mine = ["tests.cli.test_bench:copy_of_heavy_ball", "--against", "heavy_ball", "--trials", "8"]
    capsys.readouterr()
    run(*mine, "--output", str(tmp_path))
    out, err = capsys.readouterr()
    assert "undecided on 1 of 1 tasks" in out
    assert "1 of 1: copy_of_heavy_ball on ridge" in err
    content["about"]["versions"]["jax"] = "0.1"
    with pytest.raises(SystemExit):
        run(*mine, "--output", str(tmp_path))
    err = capsys.readouterr().err
    assert "the recorded results were made in another way: jax: 0.1 in the result, " in err
    assert "--anyway compares in spite of that, and --rerun runs heavy_ball here too" in err
    run(*mine, "--anyway", "--output", str(tmp_path))
    assert "undecided on 1 of 1 tasks" in capsys.readouterr().out


def test_an_interrupted_command_continues_from_its_store(tmp_path, capsys):
    options = ["--methods", "sgd", "--against", "sgd", "--tasks", "ridge", "--trials", "4"]
    where = ["--store", str(tmp_path / "store"), "--output", str(tmp_path)]
    run(*options, *where)
    first = Result.load(tmp_path / "bench.json")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("batch-*")}
    run(*options, *where)
    again = Result.load(tmp_path / "bench.json")
    np.testing.assert_array_equal(
        first.cells["ridge", "sgd"].evaluation, again.cells["ridge", "sgd"].evaluation
    )
    assert files
    assert files == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("batch-*")
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--tasks", "ridg"],
            "--tasks must be names of tasks with commas between them, got 'ridg'",
        ),
        (["--methods", "sgd,sgd"], "--methods must name each method once"),
        (["--learning-rates", "3", "1"], "--learning-rates needs a METHOD"),
        (["--rerun"], "--rerun needs a METHOD, as in mine:method"),
        (["--methods", "sgd,adam"], "--against must be one of the methods that run, sgd, adam"),
        (["tests.cli.test_bench:worse", "--rerun", "--anyway"], "--anyway has no effect"),
        (["tests.cli.test_bench:missing"], "has no missing"),
        (["tests.cli.test_bench:NOTHING"], "must be a function or a value of type Entry, got 3"),
        (
            ["tests.cli.test_bench:worse", "--learning-rates", "3", "1"],
            "must be a range, LOW below",
        ),
        (["tests.cli.test_bench:worse", "--methods", "sgd"], "exclude each other"),
        (["tests.cli.test_bench:worse"], "--rerun runs nesterov here too"),
        (["tests.cli.test_bench:entry", "--learning-rates", "1", "3"], "is for functions"),
        (["tests.cli.test_bench:decides", "--rerun"], "Use jnp.where and jax.numpy instead of if"),
        (
            ["tests.cli.test_bench:undecided", "--rerun"],
            "undecided uses a traced array as a Python",
        ),
        (
            ["tests.cli.test_bench:main"],
            "function must have an argument named learning_rate; it has ",
        ),
    ],
)
def test_mistakes_are_sentences(arguments, sentence, capsys, small, monkeypatch, tmp_path):
    def recorded(name):
        if name not in small:
            raise FileNotFoundError(f"this version of momentax has no recorded {name}")
        return small[name]

    monkeypatch.setattr(_files, "recorded", recorded)
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, "--output", str(tmp_path))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
