"""The code of the README runs, and its names, numbers and links are correct.

So are the tables on the pages of the documentation.
"""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from docs.bake_off.record import Record
from docs.pages import written_pages
from momentax.__main__ import main
from tests import cases

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in written_pages()
}
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^python3 .*$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_every_block_of_code_runs(block, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_examples_are_about_ten_lines():
    assert BLOCKS
    assert all(len(block.splitlines()) <= 12 for block in BLOCKS)


def test_the_two_commands_make_their_own_environment():
    main, test = COMMANDS
    assert main.strip().endswith(".venv/bin/momentax sweep")
    assert test.strip().endswith(".venv/bin/pytest")
    for command in COMMANDS:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")


def test_the_analysis_equals_the_output_of_the_command(capsys):
    ((command, table),) = re.findall(
        r"^\$ momentax (analyze.*)\n([^`]*)^```$", PAGES["guides/theory.md"], re.MULTILINE
    )
    main(command.split())
    assert capsys.readouterr().out == table


def test_the_table_lists_every_method_that_the_changelog_names():
    """A method that is not released needs neither; every other one is in both."""
    rows = set(re.findall(r"^\| `(\w+)\(", PAGES["methods/table.md"], re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    assert rows == named & {name.partition(",")[0] for name in cases.METHODS}


def test_the_table_states_the_bytes_that_states_keep():
    linear, others = (
        PAGES["methods/table.md"]
        .split("**Linear methods**")[1]
        .split("**Methods with more buffers")
    )
    stated = dict.fromkeys(re.findall(r"^\| `(\w+)\(", linear, re.MULTILINE), "4")
    rows = re.findall(
        r"^\| `(\w+)\(.*?\| [^|]* \| ([^|]*\d[^|]*) \|[^|]*\|[^|]*\|$", others, re.MULTILINE
    )
    stated |= dict(rows)
    assert len(rows) == len(re.findall(r"^\| `(\w+)\(", others, re.MULTILINE))
    params = jnp.ones((10, 1000))
    for name, case in cases.METHODS.items():
        if (method := name.partition(",")[0]) not in stated:
            continue  # It is not released: see the test above.
        state = jax.eval_shape(case.make(**case.hyperparameters).init, params)
        kept = (
            sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) // params.size
        )
        text = stated[method].replace("4 K", "8 or 12")  # K is 2 and 3 in the cases.
        assert str(kept) in re.findall(r"\d+", text), name


def test_the_table_states_the_bytes_of_each_storage():
    rows = re.findall(
        r"^\| `(storage\..*?)` \| ([\d.]+) \| ([\d.]+) \|", PAGES["guides/storage.md"], re.MULTILINE
    )
    assert len(rows) == 3
    params = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    for how, *stated in rows:
        for tx, given in zip((momentax.heavy_ball(0.9), optax.adam(1e-3)), stated, strict=True):
            kept = momentax.stored(tx, eval(f"momentax.{how}"))
            state = jax.eval_shape(kept.init, params)
            assert momentax.storage.bytes_per_parameter(state) == pytest.approx(
                float(given), abs=1e-3
            )


def test_the_readme_has_its_sections_and_pictures():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert {"Install", "Chain", "Train", "Sweep", "See", "Ask the theory"} <= set(headings)
    pictures = re.findall(r"^!\[.+\]\(docs/images/(?:\w+/)?(\w+)\.png\)$", TEXT, re.MULTILINE)
    assert {"dashboard", "spectral_map", "race", "speed_ups"} <= set(pictures)


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_the_numbers_of_the_readme_are_those_of_the_theory_and_the_benchmarks():
    best = momentax.theory.optimal_heavy_ball(1.0, 100.0)
    assert f"100 the best is {best.beta:.3f}" in TEXT
    usual = momentax.theory.rate(
        momentax.sgd(1.9 * 1.9 / 100, momentax.heavy_ball(0.9)), 1.0, 100.0
    )
    digits = [round(math.log(10) / -math.log(rate)) for rate in (best.rate, usual)]
    assert "needs {} steps per digit of accuracy; 0.9 needs {}".format(*digits) in TEXT
    β = momentax.theory.optimal_heavy_ball(1.0, 1442.0).beta
    assert round(β, 4) == 0.9
    assert "condition\n  number near 1442" in TEXT
    sweeps = json.loads((ROOT / "tests/benchmarks/sweep.json").read_text())["results"][0]
    assert (sweeps["network"], sweeps["settings"]) == ("784-128-10", 64)
    sweep, people = sweeps["cold"]["sweep"], sweeps["cold"]["people"]
    assert f"takes {sweep:.1f}\n  seconds for all in one compiled program, and {people:.0f}" in TEXT
    assert f"64 settings costs as much as {sweep / people * 64:.0f} runs" in TEXT
    rows = json.loads((ROOT / "tests/benchmarks/step.json").read_text())["rows"]
    two, one = (rows[f"heavy_ball + {name}"]["flat, 1e7"][1] for name in ("bfloat16", "int8"))
    assert f"{two:.2f} or {one:.1f} times as long as with float32" in TEXT
    (lost,) = re.findall(r"bfloat16\(stochastic=False\)` .* (\d+) % \|", PAGES["guides/storage.md"])
    assert f"loses {lost} % of a steady gradient at β = 0.995" in TEXT
    tx = momentax.monitor(momentax.sgd(0.1), curvature=True)
    readings = re.findall(r"^ {8}(\w+) {2,}\S", momentax.monitor.__doc__, re.MULTILINE)
    assert f"takes {len(readings)} readings" in TEXT, tx


def test_the_findings_of_the_readme_are_those_of_the_recorded_results():
    record = Record.read()
    assert record is not None
    o, cells, tasks = record.overall, record.results.cells, record.results.tasks
    assert (len(o.methods), len(tasks), record.results.protocol.trials) == (15, 8, 32)
    assert o.methods[0] == "muon"
    assert np.flatnonzero(o.in_first_group).tolist() == [0]
    better = len(record.tasks_with("muon", "better"))
    assert record.constant is not None
    row = [each["muon"].verdict for each in record.constant.compare("nesterov").values()]
    assert len(row) == 8
    found = f"wins on {better} of 8 tasks, at constant rates on {row.count('better')}."
    assert f"Nesterov would need {o.mean[0]:.2f} times as many. It {found}" in TEXT
    betas = [cells[task, "nesterov"].hyperparameters["beta"] for task in tasks]
    assert f"{min(betas):.2f} to {max(betas):.4f}" in TEXT
    counts = [len(record.tasks_with("heavy_ball", each)) for each in ("better", "worse")]
    assert "Heavy ball is better on {} tasks and worse on {}.".format(*counts) in TEXT
    i = o.methods.index("nesterov")
    default = record.expected_overall[1][i]
    sentence = f"has a mean speed-up of {default:.2f}, tuned on each task {o.mean[i]:.2f}"
    assert sentence in TEXT


def test_every_name_in_the_text_exists():
    namespaces = "conventions|memory|plotting|schedules|storage|sweeps|theory"
    names = re.findall(
        rf"(?<![\w./])(?:momentax\.)?((?:{namespaces})\.(?!md\b|py\b)\w+|[a-z]+_velocity|velocity(?:_norms)?)\b",
        "".join([TEXT, *PAGES.values()]),
    )
    assert len(set(names)) >= 30
    for name in set(names):
        value = momentax
        for part in name.split("."):
            value = getattr(value, part)
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / link).exists(), link
