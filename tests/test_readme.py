"""The code of the README runs, and the names, tables and links in it are correct."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax.__main__ import main
from tests import cases

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


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
    ((command, table),) = re.findall(r"^\$ momentax (analyze.*)\n([^`]*)^```$", TEXT, re.MULTILINE)
    main(command.split())
    assert capsys.readouterr().out == table


def test_the_table_lists_every_method_that_the_changelog_names():
    """A method that is not released needs neither; every other one is in both."""
    rows = set(re.findall(r"^\| `(\w+)\(", TEXT, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    assert rows == named & {name.partition(",")[0] for name in cases.METHODS}


def test_the_table_states_the_bytes_that_states_keep():
    linear, others = TEXT.split("**Linear methods**")[1].split("**Methods with more buffers")
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
    rows = re.findall(r"^\| `(storage\..*?)` \| ([\d.]+) \| ([\d.]+) \|", TEXT, re.MULTILINE)
    assert len(rows) == 3
    params = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    for how, *stated in rows:
        for tx, given in zip((momentax.heavy_ball(0.9), optax.adam(1e-3)), stated, strict=True):
            kept = momentax.stored(tx, eval(f"momentax.{how}"))
            state = jax.eval_shape(kept.init, params)
            assert momentax.storage.bytes_per_parameter(state) == pytest.approx(
                float(given), abs=1e-3
            )


def test_every_name_in_the_text_exists():
    namespaces = "conventions|plotting|schedules|storage|sweeps|theory"
    names = re.findall(
        rf"(?<![\w./])(?:momentax\.)?((?:{namespaces})\.\w+|[a-z]+_velocity|velocity(?:_norms)?)\b",
        TEXT,
    )
    assert len(set(names)) >= 30
    for name in set(names):
        value = momentax
        for part in name.split("."):
            value = getattr(value, part)
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / link).is_file()
