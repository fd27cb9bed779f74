"""CONTRIBUTING.md describes the rooms that exist, and its worked examples are correct."""

import ast
import importlib
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from tests import cases, reference

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(
    section.split("\n", 1) for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
)


def blocks(section):
    """Yield the file and the code of each example in a section."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    for indent, block in found:
        code = re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        if header := re.match(r"# (\S+\.py)\n", code):
            yield header[1], code[header.end() :]


EXAMPLES = [
    (title, path, code) for title, section in SECTIONS.items() for path, code in blocks(section)
]


def is_entry(code):
    return bool(re.match(r'"\w', code))


def is_part_of_a_function(code):
    return code.startswith("    ")


def lists_names(path):
    return path.endswith(("__init__.py", "states.py"))


def module_of(path):
    return path.removesuffix(".py").replace("/", ".")


def run(path, code):
    """Execute an example in the names of its file, or in no names if it is a new file."""
    exists = (ROOT / path).is_file()
    names = dict(vars(importlib.import_module(module_of(path)))) if exists else {}
    names["__name__"] = __name__  # Dataclasses look their module up.
    before = set(names)
    exec(compile(code, path, "exec"), names)
    return {name: value for name, value in names.items() if name not in before}


def defines_names(path, code):
    """Return whether an example defines names that other examples or tests below use."""
    library = not path.startswith("tests/") or path == "tests/reference.py"
    return library and not (is_entry(code) or is_part_of_a_function(code) or lists_names(path))


DEFINED = {}  # The new names of each file.
for _, path, code in EXAMPLES:
    if defines_names(path, code):
        DEFINED.setdefault(path, {}).update(run(path, code))


def defined(path):
    return SimpleNamespace(**DEFINED[path])


def test_the_map_has_every_room():
    rows = re.findall(r"^\| `([\w.]+/?)` \|", TEXT, re.MULTILINE)
    package = ROOT / "momentax"
    rooms = {path.name + "/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in package.glob("*.py")}
    assert sorted(rows) == sorted(rooms | files)


def test_every_file_that_the_text_names_exists():
    new = {path for _, path, _ in EXAMPLES}
    for name in re.findall(r"`((?:tests|momentax)/[\w/.]*)`", TEXT):
        assert name in new or (ROOT / name).exists(), name


@pytest.mark.parametrize(
    ("title", "files"),
    [("Add a linear method", 4), ("Add another method", 5), ("Add a storage", 3)],
)
def test_the_examples_touch_few_files(title, files):
    assert len({path for path, _ in blocks(SECTIONS[title])}) == files


@pytest.mark.parametrize(("title", "path", "code"), EXAMPLES, ids=lambda value: value[:30])
def test_every_example_is_valid_in_its_file(title, path, code):
    if is_part_of_a_function(code):
        ast.parse(textwrap.dedent(code))
        assert (ROOT / path).is_file()
    elif lists_names(path):
        (statement,) = ast.parse(code).body
        (alias,) = statement.names
        assert alias.name == alias.asname
        file = statement.module.replace(".", "/") + ".py"
        assert alias.name in DEFINED[file]
    elif is_entry(code):
        assert len(evaluate(path, code)) == 1
    else:
        ast.parse(code)


def evaluate(path, code):
    """Evaluate an entry of a table of cases, in which the new names exist."""
    names = dict(vars(importlib.import_module(module_of(path))))
    twins = DEFINED["tests/reference.py"]
    new = {}
    for path, found in DEFINED.items():
        new |= {} if path == "tests/reference.py" else found
    for name in ("momentax", "schedules", "storage"):
        names[name] = SimpleNamespace(**new)
    names["reference"] = SimpleNamespace(**twins)
    return eval("{" + code + "}", names)


@pytest.mark.parametrize("name", ["unified", "adamax", "grafted"])
def test_the_example_of_a_transformation_follows_its_twin(name):
    ((entry, case),) = [
        item
        for _, path, code in EXAMPLES
        if path == "tests/cases.py" and code.startswith(f'"{name}"')
        for item in evaluate(path, code).items()
    ]
    assert entry == name
    assert isinstance(case, cases.Case)
    gradients = np.random.default_rng(0).normal(size=(20, 3))
    constant = {key: lambda t, value=value: value for key, value in case.hyperparameters.items()}
    expected, velocity = reference.directions(case.twin, gradients, **constant)
    with jax.enable_x64(True):
        tx = case.make(**case.hyperparameters)
        state = tx.init(jnp.zeros(3))

        def step(state, g):
            d, state = tx.update(g, state, g)
            return state, d

        state, found = jax.lax.scan(step, state, jnp.asarray(gradients))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(momentax.velocity(state), velocity, rtol=1e-10, atol=1e-12)


def test_the_example_of_a_storage_keeps_24_bits():
    storage = defined("momentax/storage/_float24.py").float24()
    x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    np.testing.assert_allclose(storage.encode(x, None).decode(), x, rtol=2.0**-16)
    tx = momentax.stored(momentax.heavy_ball(0.9), storage, min_size=1)
    state = tx.update(x, tx.init(x), x)[1]
    assert momentax.storage.bytes_per_parameter(state) == pytest.approx(3, abs=0.02)


def test_the_example_of_a_convention_has_its_recurrence():
    record = defined("momentax/conventions/_papers.py").Unified(0.05, 0.9, 0.5)
    np.testing.assert_allclose(record.from_canonical(record.canonical()).s, 0.5, rtol=1e-12)
    qhm = momentax.conventions.convert(record, momentax.conventions.QuasiHyperbolic)
    np.testing.assert_allclose(qhm.learning_rate, 0.05 / (1 - 0.9), rtol=1e-12)


def test_the_examples_of_a_schedule_and_a_quantity_have_their_values():
    schedule = defined("momentax/schedules/_ramps.py").cosine(0.1, 0.8, 20)
    np.testing.assert_allclose([schedule(t) for t in (0, 10, 99)], [0.1, 0.45, 0.8], rtol=1e-6)
    n = defined("momentax/theory/_closed_forms/_memory.py").time_constant(0.9)
    np.testing.assert_allclose(0.9**n, np.exp(-1), rtol=1e-12)


def test_the_example_of_a_plot_draws_a_line_for_each_beta():
    ax = defined("momentax/plotting/_weights.py").weights([0.5, 0.9], steps=30)
    np.testing.assert_array_equal(
        [line.get_ydata() for line in ax.lines], momentax.theory.weights([0.5, 0.9], 30)
    )
