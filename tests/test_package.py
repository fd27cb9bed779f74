"""The package as a whole: its door, its layers, what importing it costs, what the tests cover."""

import ast
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import momentax
from tests import cases

ROOT = Path(momentax.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def test_every_public_name_is_a_case():
    methods = {name.partition(",")[0] for name in cases.TRANSFORMATIONS}
    assert methods | set(cases.OTHERS["momentax"]) == set(momentax.__all__)
    for module, names in cases.OTHERS.items():
        if module != "momentax":
            assert set(names) == set(importlib.import_module(module).__all__)
        for name, file in names.items():
            assert name in (Path(__file__).parent / file).read_text(encoding="utf-8"), (name, file)
    public = {f"momentax.{p.stem}" for p in ROOT.glob("[a-z]*.py")} | {
        f"momentax.{p.name}" for p in ROOT.iterdir() if (p / "__init__.py").exists()
    }
    exported = {"momentax._methods", "momentax.sweeps", "momentax._wrappers"}  # From the top.
    assert public - exported == set(cases.OTHERS) - {"momentax"}
    for flat in exported:
        assert set(importlib.import_module(flat).__all__) <= set(momentax.__all__)


def test_version_is_the_distributions():
    assert importlib.metadata.version("momentax") == momentax.__version__


# Lower layers first; a module imports only from layers below its own.
LAYERS = [
    {"_typing"},
    {"_check"},
    {"_tree", "_encoded", "_write_order", "_donating"},
    {"methods", "schedules", "_velocity"},
    {"_sgd", "_catch_up", "_eval_params", "wrappers", "storage", "theory", "problems"},
    {"sweeps", "_rollout", "_train_step", "_curvature", "conventions"},
    {"_digits", "plotting"},
    {"__init__"},
    {"_command"},
    {"_command_model"},
    {"_command_sweep"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def part_of(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    """The parts of momentax and the outer packages that a module imports, at any depth in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (
                f"{node.module}.{alias.name}" if node.module == "momentax" else node.module
                for alias in node.names
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = part_of(path)
    for name in imports(path):
        outer, _, rest = name.partition(".")
        if outer != "momentax":
            if own not in ("plotting", "_digits", "_command_model"):
                allowed = {"jax", "numpy", "optax", *sys.stdlib_module_names}
                if own == "theory":
                    allowed |= {"cvxpy", "scipy"}  # Inside functions, as the next test sees.
                if own == "_curvature":
                    allowed |= {"matfree", "scipy", "tqdm"}
                if own == "sweeps":
                    allowed |= {"pandas", "tqdm", "xarray"}
                assert outer in allowed, f"{path} imports {name}"
            if outer == "matplotlib":
                assert own == "plotting"
            continue
        part = rest.split(".")[0] or "__init__"
        if part == own:
            continue
        assert LEVEL[part] < LEVEL[own], f"{own} imports {part}"
        inside = rest.split(".")[1:]
        assert not any(step.startswith("_") for step in inside), f"{path} goes past a door: {name}"
        if own == "theory":
            assert part in ("_check", "_typing"), "the theory imports no method"


def loaded(module):
    """The modules that importing one loads, in a fresh interpreter."""
    code = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_heavy():
    for name in ("momentax", "momentax.theory", "momentax.problems"):
        outer = {module.partition(".")[0] for module in loaded(name)}
        heavy = {
            "flax",
            "matplotlib",
            "sklearn",
            "scipy",
            "tqdm",
            "chex",
            "cvxpy",
            "pandas",
            "matfree",
            "xarray",
        }
        assert not outer & heavy
    # And no accelerator is touched: a default argument that held an array would start one up.
    code = "import momentax, jax; assert not jax._src.xla_bridge.backends_are_initialized()"
    subprocess.run([sys.executable, "-c", code], check=True)


def public_functions():
    for module, names in cases.OTHERS.items():
        for name in names:
            yield module, name
    for name in momentax.__all__:
        if name not in cases.OTHERS["momentax"]:
            yield "momentax", name


SECTIONS = ["Args:", "Returns:", "Raises:", "Source:"]


@pytest.mark.parametrize(("module", "name"), list(public_functions()))
def test_docstrings_keep_the_house_order(module, name):
    value = getattr(importlib.import_module(module), name)
    if inspect.ismodule(value) or isinstance(value, str):
        return
    doc = inspect.getdoc(value)
    assert doc
    assert doc.splitlines()[0].endswith(".")
    if inspect.isclass(value):
        return
    places = [doc.find(section) for section in SECTIONS]
    assert min(places[:3]) > 0, f"{name} lacks one of {SECTIONS[:3]}"
    found = [place for place in places if place > 0]
    assert found == sorted(found)
    for argument in inspect.signature(value).parameters:
        assert re.search(rf"^ +\**{argument}: ", doc, re.MULTILINE), (
            f"{name} says nothing of {argument}"
        )
    if name in cases.TRANSFORMATIONS:
        assert "Source:" in doc
        assert "_t" in doc  # The recurrence.


@pytest.mark.parametrize(
    "result",
    [
        momentax.diagnostics.Curvature,
        momentax.sweeps.Distribution,
        momentax.sweeps.HalvingResult,
        momentax.sweeps.Mutation,
        momentax.sweeps.Points,
        momentax.sweeps.Report,
        momentax.Rollout,
        momentax.diagnostics.Spectrum,
        momentax.sweeps.SweepResult,
        momentax.problems.Problem,
        momentax.storage.Storage,
        momentax.states.StoredState,
        momentax.theory.Damping,
        momentax.theory.Advice,
        momentax.theory.Analysis,
        momentax.theory.Certificate,
        momentax.theory.Direction,
        momentax.theory.Oscillator,
        momentax.theory.QuadraticPath,
        momentax.theory.StateSpace,
        momentax.theory.TradeOff,
        momentax.theory.Tuned,
        momentax.theory.Tuning,
    ],
    ids=lambda result: result.__name__,
)
def test_help_describes_every_field_of_a_result(result):
    for field in inspect.get_annotations(result):
        assert re.search(rf"^{field}: ", inspect.getdoc(result), re.MULTILINE), field


@pytest.mark.parametrize(
    "name",
    [name for name in momentax.theory.__all__ if "rate" in name or "optimal" in name]
    + ["certify", "spectral_radius", "stability_edge", "quadratic_path", "weights"],
)
def test_what_others_have_shown_names_its_source(name):
    source = inspect.getdoc(getattr(momentax.theory, name)).partition("Source:")[2]
    assert re.search(r"\b(19|20)\d\d\b", source)
    if "Polyak" in source:
        assert "Some methods of speeding up" in " ".join(source.split())
