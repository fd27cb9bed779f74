"""`momentax analyze`: every method, its JSON, and the mistakes in its options."""

import json

import numpy as np
import pytest

import momentax
from momentax.__main__ import main

HEAVY_BALL = ["analyze", "--learning-rate", "0.1", "--beta", "0.9", "--mu", "1", "--L", "100"]


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
def test_takes_every_method_and_weight_decay(method, edge, capsys):
    main(["analyze", "--learning-rate", "0.1", "--mu", "1", "--L", "10", "--json", *method])
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == method[1]
    np.testing.assert_allclose(report["analysis"]["edge"], edge, rtol=1e-9)


def test_writes_json_without_infinite_numbers(capsys):
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
        (["--learning-rate", "nan"], "learning_rate must be in [0, inf), got nan"),
        (["--learning-rate", "fast"], "error: --learning-rate must be a number, got 'fast'"),
        (["--lr", "1"], "error: there is no option --lr; did you mean --learning-rate?"),
        (["-l", "1"], "error: there is no option -l; did you mean --L?"),
        (["--json=1"], "error: --json takes no value, got '1'"),
        (["--mu", "200"], "mu must not exceed L, got mu=200.0 and L=100.0; are they swapped?"),
        (["--mu", "nan"], "mu must be in (-inf, inf), got nan"),
        (["--L", "0"], "L must be in (0, inf), got 0.0"),
        (["--weight-decay", "-1"], "weight_decay must be in [0, inf), got -1.0"),
        (["--gradient-variance", "inf"], "gradient_variance must be in [0, inf), got inf"),
        (["--method", "adam"], "--method must be one of heavy_ball, nesterov,"),
        (["--method", "gradient_descent"], "--beta is not allowed with gradient_descent"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(arguments, text, refuse):
    refused = refuse(*HEAVY_BALL, *arguments)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert text in refused.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (HEAVY_BALL[:-2], "error: --L is required\n"),
        (["analyze"], "error: --learning-rate, --mu and --L are required\n"),
        (["analyze", "--lr", "1"], "no option --lr; did you mean --learning-rate?"),
        (HEAVY_BALL[:3] + HEAVY_BALL[5:], "--beta is required for heavy_ball"),
    ],
)
def test_missing_options_are_named(arguments, text, refuse):
    refused = refuse(*arguments)
    assert refused.code == 2
    assert text in refused.err


@pytest.mark.parametrize("number", ["-1e-3", "-1.5e+2", "-.5E-1", "-2.e0", "-3", "-0.25", "-1_0e1"])
def test_a_negative_number_of_any_form_is_a_number(number, capsys, refuse):
    main(
        ["analyze", "--learning-rate", "0.1", "--beta", "0.9", "--mu", number, "--L", "1", "--json"]
    )
    report = json.loads(capsys.readouterr().out)
    assert report["analysis"]["lowest"]["curvature"] == float(number)
    for option in ("--learning-rate", "--beta", "--L", "--weight-decay", "--gradient-variance"):
        refused = refuse(*HEAVY_BALL, option, number)
        name = option.strip("-").replace("-", "_")
        assert refused.code == 2
        assert f"error: {name} must be in " in refused.err
        assert f"got {float(number)}" in refused.err


@pytest.mark.parametrize("number", ["-inf", "-nan", "-Infinity"])
def test_an_infinite_number_is_refused_as_a_number(number, refuse):
    refused = refuse(*HEAVY_BALL, "--mu", number)
    assert f"mu must be in (-inf, inf), got {float(number)}" in refused.err


def test_options_that_only_look_like_numbers_are_options(refuse):
    assert "there is no option -1x;" in refuse(*HEAVY_BALL, "-1x").err
    assert "there is no option --1e3;" in refuse(*HEAVY_BALL, "--1e3").err
