"""Networks, data and training functions of one's own, named in the shell."""

import json
import os
import subprocess
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import momentax
from momentax.__main__ import main

MINE = """
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import momentax


def data():
    labels = np.arange(96) % 3
    around = np.random.default_rng(0).normal(size=(96, 2))
    inputs = np.array([[0, 5], [4, 0], [-4, 0]])[labels] + around
    return (inputs[:72], labels[:72]), (inputs[72:], labels[72:])


class Network(nnx.Module):
    def __init__(self, *, rngs):
        self.first, self.last = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.last(nnx.relu(self.first(inputs)))


def linear(rngs):
    return nnx.Linear(2, 3, rngs=rngs)


def too_few(rngs):
    return nnx.Linear(2, 2, rngs=rngs)


def number(rngs):
    return 3


def flat(rngs):
    return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), jnp.ravel)


def negative():
    (inputs, labels), test = data()
    return (inputs, -labels), test


def fractions():
    (inputs, labels), test = data()
    return (inputs, labels / 2), test


def uneven():
    (inputs, labels), test = data()
    return (inputs[:-1], labels), test


def one_part():
    return data()[0]


def descent(learning_rate, beta, start=1.0):
    tx = momentax.sgd(learning_rate, momentax.heavy_ball(beta))
    x = jnp.float32(start)
    state = tx.init(x)
    for _ in range(5):
        updates, state = tx.update(x, state, x)
        x = x + updates
    return {"loss": x**2, "distance": jnp.abs(x)}


def told(learning_rate, beta, *, seed, data, epochs, method):
    tx = momentax.sgd(learning_rate, method(beta))
    x = jnp.float32(1)
    _, state = tx.update(x, tx.init(x), x)
    d, _ = tx.update(x, state, x)
    return {"zeal": d, "seed": seed, "epochs": epochs, "size": len(data[0][1]), "diverged": d < -1}


def vague(learning_rate, beta):
    return {"reward": learning_rate * beta}


def wide(learning_rate, beta, width):
    return {"loss": learning_rate}


def branching(learning_rate, beta):
    return {"loss": 1.0 if learning_rate > 0.1 else 2.0}


def a_list(learning_rate, beta):
    return [learning_rate, beta]


def a_curve(learning_rate, beta):
    return {"loss": jnp.stack([learning_rate, beta])}


def nothing(learning_rate, beta):
    return {"diverged": beta > 0.5}


def broken(learning_rate, beta):
    raise ValueError("not enough sleep")


def two(rngs, width):
    return None


PI = 3.14
"""
GRID = ["sweep", "--learning-rates", "0.1", "0.5", "--betas", "0", "0.5"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder of a module mine, which is the current one."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(momentax, "use_all_cores", lambda count=None: jax.device_count())
    yield tmp_path
    plt.close("all")


def swept(capsys, folder, *arguments):
    """The rows that the command prints, and its report."""
    main([*GRID, *arguments])
    report = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return [line.split() for line in capsys.readouterr().out.splitlines()], report


def test_a_network_and_data_of_ones_own_from_the_folder_one_is_in(mine):
    """By a script, for which Python itself does not look there."""
    model = ["--model", "mine:Network", "--data", "mine:data", "--epochs", "3", "--seeds", "2"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "momentax", *GRID, *model], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((mine / "sweep.json").read_text(encoding="utf-8"))
    assert (report["model"], report["data"]) == ("mine:Network", "mine:data")
    assert np.shape(report["results"]["test_loss"]) == (2, 2, 2)
    assert report["best"]["test_accuracy"] > 0.9
    assert report["best"]["standard_error"] < 0.1
    assert " ± " in done.stdout
    assert os.path.getsize(mine / "sweep.png")


def test_halving_sends_the_best_third_on_and_seeds_go_together(mine, capsys):
    own = ["--model", "mine:Network", "--data", "mine:data", "--betas", "0.5", "--seeds", "2"]
    rates = ["--learning-rates", "0.001", "0.1", "1e30", "--epochs", "4"]
    rows, report = swept(capsys, mine, *own, *rates, "--halving", "1", "4")
    assert rows[0] == ["learning", "rate", "β", "effective", "epochs", "test_loss"]
    assert rows[1][:4] == ["0.1", "0.5", "0.2", "4"]
    assert rows[2][:4] == ["0.001", "0.5", "0.002", "1"]
    assert report["halving"] == [1, 4]
    assert report["results"]["advanced"] == [[[1, 1]], [[4, 4]], [[1, 1]]]
    assert (list(report["axes"]), report["seeds"]) == (["learning_rate", "beta", "seed"], 2)
    _, whole = swept(
        capsys, mine, *own, "--learning-rates", "0.1", "--epochs", "4", "--metric", "test_loss"
    )
    losses = np.ravel(whole["results"]["test_loss"])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(report["best"]["test_loss"], losses.mean(), rtol=1e-4)
    _, by_accuracy = swept(capsys, mine, *own, *rates, "--halving", "--metric", "test_accuracy")
    assert by_accuracy["mode"] == "max"
    np.testing.assert_allclose(
        by_accuracy["best"]["test_accuracy"], np.mean(whole["results"]["test_accuracy"]), atol=1e-6
    )


def test_a_training_function_is_ranked_by_the_first_number_that_it_returns(mine, capsys):
    rows, report = swept(capsys, mine, "--model", "mine:descent")
    assert rows[0] == ["learning", "rate", "β", "loss"]  # Not "distance", the first by name.
    assert rows[1][:2] == ["0.5", "0"]
    assert set(report["results"]) == {"loss", "distance", "diverged"}
    np.testing.assert_allclose(report["results"]["distance"][1][0], 0.5**5, rtol=1e-6)
    assert report["mode"] == "min"
    rows, report = swept(
        capsys, mine, "--model", "mine:descent", "--metric", "distance", "--mode", "max"
    )
    assert rows[1][:2] == ["0.1", "0"]
    np.testing.assert_allclose(report["best"]["distance"], 0.9**5, rtol=1e-6)


def test_a_training_function_is_told_what_it_has_arguments_for(mine, capsys):
    told = ["--model", "mine:told", "--mode", "min"]
    rows, report = swept(
        capsys, mine, *told, "--data", "mine:data", "--seed", "7", "--method", "average"
    )
    results = report["results"]
    assert rows[0] == ["learning", "rate", "β", "effective", "zeal"]
    np.testing.assert_allclose(results["zeal"], [[-0.1, -0.1], [-0.5, -0.5]], rtol=1e-6)
    for name, value in (("seed", 7), ("epochs", 12), ("size", 72)):
        np.testing.assert_array_equal(results[name], np.full((2, 2), value))
    _, report = swept(capsys, mine, *told, "--seeds", "2", "--epochs", "3")  # Of heavy ball.
    np.testing.assert_allclose(report["results"]["zeal"][0], [[-0.1, -0.1], [-0.15, -0.15]])
    np.testing.assert_array_equal(report["results"]["seed"], np.broadcast_to([0, 1], (2, 2, 2)))
    np.testing.assert_array_equal(report["results"]["epochs"], np.full((2, 2, 2), 3))
    np.testing.assert_array_equal(
        report["results"]["size"], np.full((2, 2, 2), 1437)
    )  # The digits.


NETWORK = ["--model", "mine:linear", "--data", "mine:data"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "mine"], "--model must be module:function, as mine:network, got 'mine'"),
        (["--data", "mine:"], "--data must be module:function"),
        (["--model", "yours:f"], "--model: yours cannot be imported: ModuleNotFoundError: No"),
        (["--model", "wrong:f"], "wrong cannot be imported: ZeroDivisionError: division by zero"),
        (["--data", "mine:missing"], "--data: mine has no missing"),
        (["--model", "mine:PI"], "--model mine:PI must be a function, got 3.14"),
        (["--model", "mine:two"], "--model mine:two must be a network, called with flax.nnx.Rngs"),
        (["--model", "mine:data"], "got one with the arguments ()"),
        (["--data", "mine:linear"], "--data mine:linear must be a function without arguments"),
        (["--data", "mine:data"], "inputs of shape (72, 2), and the network for digits takes"),
        ([*NETWORK, "--data", "mine:one_part"], "mine:one_part must return (train, test), each a"),
        ([*NETWORK, "--data", "mine:negative"], "labels of train must be whole numbers from 0"),
        ([*NETWORK, "--data", "mine:fractions"], "labels of train must be whole numbers from 0"),
        ([*NETWORK, "--data", "mine:uneven"], "has 72 labels, and inputs of shape (71, 2)"),
        ([*NETWORK, "--model", "mine:number"], "must return a flax.nnx module, got 3"),
        ([*NETWORK, "--model", "mine:flat"], "of shape (72, classes), got one to shape (216,)"),
        ([*NETWORK, "--model", "mine:too_few"], "has the label 2, and the network 2 classes, 0 to"),
        ([*NETWORK, "--metric", "loss"], "--metric must be one of test_accuracy, test_loss,"),
        (["--model", "mine:descent", "--metric", "x"], "must be one of loss, distance, got x"),
        (["--model", "mine:descent", "--halving"], "--halving needs a network: mine:descent is a"),
        (["--model", "mine:descent", "--method", "average"], "mine:descent has no argument method"),
        (["--model", "mine:descent", "--epochs", "2"], "--epochs is of no use"),
        (["--model", "mine:descent", "--data", "mine:data"], "--data is of no use"),
        (["--model", "mine:descent", "--seed", "0"], "--seed is of no use"),
        (["--model", "mine:descent", "--seeds", "2"], "--seeds is of no use"),
        (["--model", "mine:vague"], "--mode must say whether the least (min) or the greatest"),
        (["--model", "mine:wide"], "without a default, got (learning_rate, beta, width)"),
        (["--model", "mine:branching"], "--model mine:branching cannot be traced by JAX"),
        (
            ["--model", "mine:a_list"],
            "must return a dictionary of numbers by their names, got a list",
        ),
        (["--model", "mine:a_curve"], "of shape (2,) and dtype float32 for loss"),
        (["--model", "mine:nothing"], "must return a dictionary of numbers, got none"),
    ],
)
def test_mistakes_are_sentences_before_anything_runs(arguments, text, mine, monkeypatch, capsys):
    monkeypatch.setattr(momentax, "sweep", None)
    with pytest.raises(SystemExit) as exit_:
        main([*GRID, *arguments])
    assert exit_.value.code == 2
    assert text in capsys.readouterr().err


def test_what_ones_own_function_raises_shows_where(mine):
    with pytest.raises(ValueError, match="not enough sleep") as raised:
        main([*GRID, "--model", "mine:broken"])
    assert raised.traceback[-1].name == "broken"


def test_what_fails_at_a_point_shows_why(mine, monkeypatch):
    def sweep(run, points, **how):
        raise ValueError("at the point learning_rate=0.1") from KeyError("why")

    monkeypatch.setattr(momentax, "sweep", sweep)
    with pytest.raises(ValueError, match="at the point"):
        main([*GRID, "--model", "mine:descent"])
