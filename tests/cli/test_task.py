"""`momentax sweep` with networks, data and training functions of the user."""

import json
import os
import sys

import jax
import numpy as np
import pytest

from momentax.__main__ import main
from momentax._cli import _sweep
from momentax._cli._parser import METHODS, make_parser
from momentax._cli._task import make_task
from momentax._cli._training import METRICS

GRID = ["sweep", "--learning-rates", "0.1", "0.5", "--betas", "0", "0.5"]
NETWORK = ["--model", "mine:linear", "--data", "mine:data"]
REGRESSION = ["--model", "mine:scalar", "--data", "mine:regression"]
OWN = ["--model", "mine:Network", "--data", "mine:data", "--batch-size", "8"]


@pytest.fixture
def sweep(mine, capsys):
    """Run `momentax sweep` in the user's folder; return its lines and its report."""

    def run(*arguments):
        main([*GRID, *arguments])
        report = json.loads((mine / "sweep.json").read_text(encoding="utf-8"))
        return capsys.readouterr().out.splitlines(), report

    return run


def test_a_network_and_data_in_the_current_directory_are_swept_and_halved(mine, sweep):
    assert not {"", os.getcwd()} & set(sys.path)  # As for an installed script.
    lines, whole = sweep(*OWN, "--epochs", "4", "--seeds", "2", "--metric", "test_loss")
    assert (whole["model"], whole["data"]) == ("mine:Network", "mine:data")
    assert np.shape(whole["results"]["test_accuracy"]) == (2, 2, 2)
    assert np.max(whole["results"]["test_accuracy"]) > 0.9
    assert whole["best"]["standard_error"] < 0.1
    assert " ± " in "\n".join(lines)
    assert os.path.getsize(mine / "sweep.png")

    grid = ["--learning-rates", "0.001", "0.1", "1e30", "--betas", "0.5", "--epochs", "4"]
    lines, halved = sweep(*OWN, *grid, "--seeds", "2", "--halving", "1", "4", "--batch-size", "2")
    rows = [line.split() for line in lines]
    assert rows[0] == ["learning", "rate", "β", "effective", "epochs", "test_loss"]
    assert rows[1][:4] == ["0.1", "0.5", "0.2", "4"]
    assert rows[2][:4] == ["0.001", "0.5", "0.002", "1"]
    assert halved["halving"] == [1, 4]
    assert halved["results"]["advanced"] == [
        [[1, 1]],
        [[4, 4]],
        [[1, 1]],
    ]  # By setting.
    assert (list(halved["axes"]), halved["seeds"]) == (["learning_rate", "beta", "seed"], 2)
    losses = whole["results"]["test_loss"][0][1]  # At the same point, which trained to the end.
    assert losses[0] != losses[1]
    np.testing.assert_allclose(halved["best"]["test_loss"], np.mean(losses), rtol=1e-4)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_traced_under_strict_promotion(method):
    options = make_parser().parse_args(["sweep", "--method", method, *NETWORK])
    point = {"learning_rate": np.float32(0.1), "beta": np.float32(0.5)}
    task = make_task(options, point)
    assert set(jax.eval_shape(task.run, point["learning_rate"], point["beta"])) == {
        *METRICS,
        "diverged",
    }
    assert task.averages == (method in ("average", "quasi_hyperbolic"))


def test_real_labels_are_regression_and_the_command_says_what_it_hands_over(mine, capsys):
    """The best loss is that of least squares, whose residuals have a variance of 0.01."""
    main([*GRID, *REGRESSION, "--epochs", "4", "--batch-size", "4"])
    printed = capsys.readouterr()
    report = json.loads((mine / "sweep.json").read_text(encoding="utf-8"))
    assert set(report["results"]) == {"test_loss", "train_loss", "diverged"}
    assert (report["metric"], report["mode"]) == ("test_loss", "min")
    assert printed.out.splitlines()[0].split() == [
        "learning",
        "rate",
        "β",
        "effective",
        "test_loss",
    ]
    assert 0.002 < report["best"]["test_loss"] < 0.03
    announced, handed = printed.err.splitlines()
    assert announced.startswith("4 runs of mine:scalar")
    assert handed == (
        "momentax: mine:scalar is called with inputs of shape (n, 2) and dtype float32, and its "
        "outputs are compared with labels of shape (n,) and dtype float32"
    )


def test_an_averaging_method_trains(mine, sweep):
    options = ["--method", "average", "--epochs", "2", "--batch-size", "4"]
    lines, _ = sweep(*NETWORK, *options)
    assert "0 of 4 points diverged" in lines
    assert (mine / "sweep.png").stat().st_size > 0


def test_a_training_function_is_ranked_by_the_first_number_that_it_returns(sweep):
    lines, report = sweep("--model", "mine:descent", "--batch-size", "4")
    assert lines[0].split() == ["learning", "rate", "β", "loss"]  # Not "distance", first by name.
    assert lines[1].split()[:2] == ["0.5", "0"]
    assert set(report["results"]) == {"loss", "distance", "diverged"}
    np.testing.assert_allclose(report["results"]["distance"][1][0], 0.5**5, rtol=1e-6)
    assert report["mode"] == "min"
    lines, report = sweep("--model", "mine:descent", "--metric", "distance", "--mode", "max")
    assert lines[1].split()[:2] == ["0.1", "0"]
    np.testing.assert_allclose(report["best"]["distance"], 0.9**5, rtol=1e-6)


def test_a_training_function_gets_the_options_that_it_has_arguments_for(sweep):
    model = ["--model", "mine:with_options", "--mode", "min", "--batch-size", "8"]
    lines, report = sweep(*model, "--data", "mine:data", "--seed", "7", "--method", "average")
    results = report["results"]
    assert lines[0].split() == ["learning", "rate", "β", "effective", "zeal"]
    np.testing.assert_allclose(results["zeal"], [[-0.1, -0.1], [-0.5, -0.5]], rtol=1e-6)
    for name, value in (("seed", 7), ("epochs", 12), ("size", 72)):
        np.testing.assert_array_equal(results[name], np.full((2, 2), value))
    _, report = sweep(*model, "--seeds", "2", "--epochs", "3")  # With heavy ball and the digits.
    np.testing.assert_allclose(report["results"]["zeal"][0], [[-0.1, -0.1], [-0.15, -0.15]])
    np.testing.assert_array_equal(report["results"]["seed"], np.broadcast_to([0, 1], (2, 2, 2)))
    np.testing.assert_array_equal(report["results"]["epochs"], np.full((2, 2, 2), 3))
    np.testing.assert_array_equal(report["results"]["size"], np.full((2, 2, 2), 1437))


REFUSED = [
    (["--model", "mine"], "--model must be module:function, as mine:network, got 'mine'"),
    (["--data", "mine:"], "--data must be module:function"),
    (["--model", "yours:f"], "--model: yours cannot be imported: ModuleNotFoundError: No"),
    (["--model", "wrong:f"], "wrong cannot be imported: ZeroDivisionError: division by zero"),
    (["--data", "mine:missing"], "--data: mine has no missing"),
    (["--model", "mine:Netwrk"], "--model: mine has no Netwrk; did you mean Network?"),
    (["--model", "mine:PI"], "--model mine:PI must be a function, got 3.14"),
    (["--model", "mine:two_arguments"], "mine:two_arguments must be a network, called with flax."),
    (["--model", "mine:data"], "got one with the arguments ()"),
    (["--data", "mine:linear"], "--data mine:linear must be a function without arguments"),
    (["--data", "mine:data"], "inputs of shape (72, 2), and the network for digits takes"),
    ([*NETWORK, "--data", "mine:one_part"], "mine:one_part must return (train, test), each a"),
    ([*NETWORK, "--data", "mine:negative_labels"], "labels of train must be whole numbers from 0"),
    ([*NETWORK, "--data", "mine:fractional_labels"], "labels of train and test must be of one kin"),
    ([*NETWORK, "--data", "mine:infinite_labels"], "or finite real numbers, 1-D or 2-D, got ["),
    (["--data", "mine:regression"], "inputs of shape (72, 2), and the network for digits takes"),
    ([*REGRESSION, "--metric", "test_accuracy"], "--metric must be one of test_loss, train_loss"),
    (
        [*REGRESSION, "--model", "mine:linear"],
        "--model mine:linear must return outputs of the labels' shape, (72,), for inputs of shape "
        "(n, 2) and dtype float32, got shape (72, 3)",
    ),
    (
        [*NETWORK, "--model", "mine:wide"],
        "--model mine:wide fails on inputs of shape (n, 2) and dtype float32, where n is 72: "
        "dot_general requires contracting dimensions to have the same shape, got (2,) and (64,)",
    ),
    ([*NETWORK, "--model", "mine:Reshaping"], "mine.py, line "),
    ([*NETWORK, "--data", "mine:unequal_inputs"], "train and test must have the same"),
    (
        ["--model", "mine:misshapen"],
        "mine:misshapen is given data of the shapes and dtypes (Digits(images=(1437, 8, 8, 1) "
        "float32, labels=(1437,) int32), Digits(images=(360, 8, 8, 1) float32, labels=(360,) "
        "int32)); it fails: ",
    ),
    ([*NETWORK, "--model", "mine:pair"], "from inputs to an array, got one to a tuple"),
    ([*NETWORK, "--data", "mine:fewer_inputs"], "has 72 labels, but inputs of shape (71, 2)"),
    ([*NETWORK, "--model", "mine:number"], "must return a flax.nnx module, got 3"),
    ([*NETWORK, "--model", "mine:flat"], "of shape (72, classes), got one to shape (216,)"),
    ([*NETWORK, "--model", "mine:two_classes"], "has the label 2, and the network 2 classes, 0 to"),
    ([*NETWORK, "--metric", "loss"], "--metric must be one of test_accuracy, test_loss,"),
    (["--model", "mine:descent", "--metric", "x"], "must be one of loss, distance, got x"),
    (["--model", "mine:descent", "--halving"], "--halving needs a network: mine:descent is a"),
    (["--model", "mine:descent", "--method", "average"], "mine:descent has no argument method"),
    (["--model", "mine:descent", "--epochs", "2"], "--epochs has no effect"),
    (["--model", "mine:descent", "--data", "mine:data"], "--data has no effect"),
    (["--model", "mine:descent", "--seed", "0"], "--seed has no effect"),
    (["--model", "mine:descent", "--seeds", "2"], "--seeds has no effect"),
    (
        ["--model", "mine:without_mode"],
        "--mode must say whether the smallest (min) or the",
    ),
    (["--model", "mine:three_arguments"], "a default, got (learning_rate, beta, width)"),
    (["--model", "mine:branching"], "--model mine:branching cannot be traced by JAX"),
    (["--model", "mine:a_list"], "must return a dictionary of numbers by their names, got a list"),
    (["--model", "mine:a_curve"], "of shape (2,) and dtype float32 for loss"),
    (["--model", "mine:no_number"], "must return a dictionary of numbers, got none"),
]


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_mistakes_are_reported_before_anything_runs(arguments, text, monkeypatch, refuse):
    monkeypatch.setattr(_sweep, "sweep", None)
    refused = refuse(*GRID, *arguments)
    assert refused.code == 2
    announced, sentence = refused.err.splitlines()
    assert announced.endswith("compiling …")
    assert text in sentence


@pytest.mark.usefixtures("mine")
def test_an_error_of_the_users_function_keeps_its_traceback():
    with pytest.raises(ValueError, match="not enough sleep") as raised:
        main([*GRID, "--model", "mine:broken"])
    assert raised.traceback[-1].name == "broken"


@pytest.mark.usefixtures("mine")
def test_an_error_at_a_point_keeps_its_cause(monkeypatch):
    def sweep(run, points, **how):
        raise ValueError("at the point learning_rate=0.1") from KeyError("why")

    monkeypatch.setattr(_sweep, "sweep", sweep)
    with pytest.raises(ValueError, match="at the point"):
        main([*GRID, "--model", "mine:descent"])
