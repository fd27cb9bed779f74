"""The benchmark runs, and its bars name contestants that it measures. No test depends on time."""

import math
import shutil
from pathlib import Path

import jax
import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks import networks, record, workloads
from tests.benchmarks.bars import BARS, Bar
from tests.benchmarks.contestants import CONTESTANTS
from tests.benchmarks.suites import LINEAR, MEMORY, PROCESSES, SUITES
from tests.cases import METHODS

RECORD = Path(__file__).with_name("step.json")


def test_the_quick_form_measures_and_writes_what_it_prints(tmp_path, capsys):
    output = tmp_path / "step.json"
    program.main(["methods", "--bars", "--quick", "--output", str(output)])
    result = record.read(output)
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

    others = result | {"tables": [table | {"workload": "1e8"}, table | {"rows": {}}]}
    record.merge(output, others)
    merged = record.read(output)["tables"]
    assert [(each["workload"], bool(each["rows"])) for each in merged] == [
        ("1e8", True),
        ("1e7", False),
    ]


def test_the_record_is_read_as_it_was_written(tmp_path):
    result = record.read(RECORD)
    assert {table["suite"] for table in result["tables"]} <= {*SUITES, *PROCESSES}
    assert all(table["rows"] for table in result["tables"])
    assert len(RECORD.read_text(encoding="utf-8").splitlines()) < 300
    copy = tmp_path / "copy.json"
    record.write(copy, result)
    assert record.read(copy) == result
    assert copy.read_text(encoding="utf-8") == RECORD.read_text(encoding="utf-8")
    table, *others = result["tables"]
    with pytest.raises(ValueError, match="no columns for \\['speed'\\]"):
        record.write(copy, result | {"tables": [table | {"rows": {"C": {"speed": 1}}}, *others]})


def test_the_networks_have_the_leaves_and_parameters_of_the_real_ones():
    def counted(shapes):
        return len(shapes), sum(map(math.prod, shapes))

    assert counted(workloads.resnet18()) == (62, 11_689_512)
    assert counted(workloads.gpt2()) == (148, 124_439_808)
    assert counted(workloads.small(1000))[0] == 1000


def test_the_loss_of_resnet18_uses_every_leaf():
    params = [jax.ShapeDtypeStruct(shape, "float32") for shape in workloads.resnet18()]
    images = jax.ShapeDtypeStruct(networks.IMAGES, "float32")
    program = jax.make_jaxpr(networks.resnet18_loss)(params, images).jaxpr
    used = {id(given) for equation in program.eqns for given in equation.invars}
    assert all(id(variable) in used for variable in program.invars)
    loss, gradient = jax.eval_shape(jax.value_and_grad(networks.resnet18_loss), params, images)
    assert loss.shape == ()
    assert [leaf.shape for leaf in gradient] == workloads.resnet18()


def test_suites_and_bars_name_contestants_and_workloads_that_exist():
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


def test_a_ratio_is_taken_within_rounds_or_through_a_contestant_of_both_groups():
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


def test_the_worst_contestant_decides_a_bar():
    below = Bar("", "", "", ("a", "b"), "c", at_most=1.1)
    assert below.worst([1.0, 1.2]) == 1.2
    assert not below.reached(1.2)
    assert below.reached(1.1)
    above = Bar("", "", "", ("a", "b"), "c", at_least=3)
    assert above.worst([2.0, 4.0]) == 2.0
    assert not above.reached(2.9)
    assert above.target == "≥ 3"
