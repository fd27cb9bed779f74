"""The suite runs, and its bars name what it measures. No time is judged here."""

import json
import math
import shutil

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks import workloads
from tests.benchmarks.bars import BARS, Bar
from tests.benchmarks.contestants import CONTESTANTS
from tests.benchmarks.suites import LINEAR, MEMORY, SUITES
from tests.cases import METHODS


def test_the_quick_form_measures_and_writes_what_it_prints(tmp_path, capsys):
    output = tmp_path / "step.json"
    program.main(["methods", "--bars", "--quick", "--output", str(output)])
    result = json.loads(output.read_text(encoding="utf-8"))
    (table,) = result["tables"]
    compiler = {"C"} if shutil.which("cc") else set()
    assert set(table["rows"]) == {*LINEAR} | compiler
    assert set(table["left out"]) == {"C"} - compiler
    for row in table["rows"].values():
        assert row["seconds"] > 0
        assert row["state bytes"] == pytest.approx(4, abs=0.01)
    assert table["rows"]["heavy_ball"]["ratio"] == 1
    assert [bar["bar"] for bar in result["bars"]] == ["linear methods against heavy ball"]
    printed = capsys.readouterr().out
    assert "| heavy_ball | " in printed
    assert "linear methods against heavy ball" in printed

    old = result | {"tables": [table | {"workload": "1e8"}, table | {"rows": {}}]}
    program.keep(output, old)
    kept = json.loads(output.read_text(encoding="utf-8"))["tables"]
    assert [(each["workload"], bool(each["rows"])) for each in kept] == [
        ("1e8", True),
        ("1e7", False),
    ]


def test_the_networks_have_the_leaves_and_parameters_of_the_real_ones():
    def counted(shapes):
        return len(shapes), sum(map(math.prod, shapes))

    assert counted(workloads.resnet18()) == (62, 11_689_512)
    assert counted(workloads.gpt2()) == (148, 124_439_808)
    assert counted(workloads.small(1000))[0] == 1000


def test_suites_and_bars_name_contestants_and_workloads_that_there_are():
    for suite in SUITES.values():
        assert set(suite.workloads) <= set(workloads.WORKLOADS)
        assert {*suite.contestants, suite.baseline} <= set(CONTESTANTS)
    assert set(MEMORY) <= set(CONTESTANTS)
    assert set(METHODS) <= set(CONTESTANTS)
    for bar in BARS:
        measured = {*SUITES[bar.suite].contestants, SUITES[bar.suite].baseline, "state bytes"}
        measured |= {"C"} if SUITES[bar.suite].limit else set()
        assert {*bar.of, bar.over} <= measured, bar
        assert bar.workload in SUITES[bar.suite].workloads


def test_a_ratio_is_taken_within_rounds_or_by_way_of_whoever_ran_in_both_groups():
    process = {
        "groups": [
            {"base": [1.0, 10.0, 2.0], "a": [3.0, 30.0, 2.0]},
            {"base": [2.0, 2.0, 2.0], "b": [1.0, 1.0]},
        ],
        "facts": {"a": {"state bytes": 4.0}},
    }
    assert program.ratio(process, "a", "base") == 3
    assert program.ratio(process, "a", "b") == 6
    assert program.ratio(process, "a", "state bytes") == 4
    assert program.ratio(process, "a", "nobody") is None


def test_a_bar_is_judged_by_its_worst():
    below = Bar("", "", "", ("a", "b"), "c", at_most=1.1)
    assert below.worst([1.0, 1.2]) == 1.2
    assert not below.reached(1.2)
    assert below.reached(1.1)
    above = Bar("", "", "", ("a", "b"), "c", at_least=3)
    assert above.worst([2.0, 4.0]) == 2.0
    assert not above.reached(2.9)
    assert above.target == "≥ 3"
