"""The package as a whole: its door, its rooms, and what importing it costs."""

import ast
import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import momentax

ROOT = Path(momentax.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
NAMESPACES = [name for name in momentax.__all__ if inspect.ismodule(getattr(momentax, name))]
INNER = ["bench.statistics"]  # Namespaces inside of a namespace.


def test_version_is_that_of_the_distribution():
    assert importlib.metadata.version("momentax") == momentax.__version__


def test_at_most_six_files_lie_outside_of_a_room():
    loose = {path.stem for path in ROOT.glob("*.py")}
    assert loose == {"__init__", "__main__", "_sgd", "problems", "states"}


def test_names_without_an_underscore_are_the_namespaces_that_users_type():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name for name in rooms if not name.startswith("_")} - {"py"} == set(NAMESPACES)


def test_the_door_has_at_most_seventy_seven_names():
    # The 76th is search, which stands beside sweep and halve. The 77th is bench, the namespace of
    # the comparison.
    assert 50 <= len(momentax.__all__) <= 77


@pytest.mark.parametrize("name", ["momentax", *(f"momentax.{each}" for each in NAMESPACES + INNER)])
def test_dir_lists_the_public_names_and_each_can_be_used(name):
    namespace = importlib.import_module(name)
    assert dir(namespace) == sorted(namespace.__all__)
    assert len(set(namespace.__all__)) == len(namespace.__all__)
    for each in dir(namespace):
        assert not each.startswith("_")
        value = getattr(namespace, each)
        if inspect.ismodule(value):
            assert value.__name__ == f"{name}.{each}"
        else:
            assert value.__module__.startswith("momentax.")
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'no_such_name'"):
        namespace.no_such_name  # noqa: B018 - The access is the test.


def test_every_state_is_in_momentax_states():
    found = {
        node.name
        for path in MODULES
        if room_of(path) != "_cli"  # Its states are those of a training run.
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and re.fullmatch(r"[A-Z]\w*State", node.name)
    }
    assert found == set(momentax.states.__all__) - {"migrate"}


def test_each_export_is_written_once():
    for path in [*ROOT.rglob("__init__.py"), ROOT / "states.py"]:
        names = re.findall(r"import (\w+) as (\w+)", path.read_text(encoding="utf-8"))
        assert all(name == alias for name, alias in names)
        assert len(set(names)) == len(names)


# Lower levels first. A room imports only from rooms of lower levels.
LEVELS = [
    {"_core"},
    {"_methods", "problems", "schedules", "theory"},
    {"_state", "memory"},
    {"_wrappers", "storage"},
    {"_sgd"},
    {"_muon"},
    {"_training", "conventions", "diagnostics", "sweeps"},
    {"explorer", "plotting"},
    {"bench"},
    {"states"},
    {"__init__"},
    {"_cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# The packages that rooms import in functions, besides JAX, Optax, NumPy and the standard library.
EXTRAS = {
    "_cli": {"flax", "matplotlib", "rich", "sklearn"},
    "bench": {"pandas", "scipy", "sklearn"},
    "diagnostics": {"matfree", "pandas", "scipy", "tqdm"},
    "memory": {"scipy"},
    "plotting": {"PIL", "matplotlib", "mpl_toolkits"},  # Matplotlib needs or brings the others.
    "sweeps": {"pandas", "scipy", "sklearn", "tqdm", "xarray"},
    "theory": {"cvxpy", "scipy"},
}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Yield the full name of each module or object that a file imports, types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(name):
    """Return the file of momentax that an imported name comes from."""
    parts = name.split(".")[1:]
    while parts:
        base = ROOT.joinpath(*parts)
        if base.with_suffix(".py").exists():
            return base.with_suffix(".py")
        if (base / "__init__.py").exists():
            return base / "__init__.py"
        parts.pop()
    return ROOT / "__init__.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = room_of(path)
    for name in imports(path):
        outer = name.partition(".")[0]
        if outer != "momentax":
            allowed = {"jax", "numpy", "optax", *sys.stdlib_module_names, *EXTRAS.get(own, ())}
            assert outer in allowed, f"{path} imports {name}"
            continue
        target = file_of(name)
        room = room_of(target)
        if room == own or target.name == "lazy.py":
            continue
        assert LEVEL[room] < LEVEL[own], f"{own} imports {room}"
        private = target.stem.startswith("_") and target.name != "__init__.py"
        assert room.startswith("_") or own in ("__init__", "states") or not private, (
            f"{path} imports the private {name}; import it from momentax.{room}"
        )
        if own == "theory":
            assert room == "_core", "the theory is independent of the methods"


def test_only_the_command_imports_the_explorer():
    importers = {
        room_of(path)
        for path in MODULES
        for name in imports(path)
        if name.startswith("momentax.explorer") and room_of(path) != "explorer"
    }
    assert importers <= {"__init__", "_cli"}


def test_imports_have_no_circle():
    graph = {
        path: {
            file_of(name)
            for name in imports(path)
            if name.partition(".")[0] == "momentax" and file_of(name) != path
        }
        for path in MODULES
    }
    done = set()

    def visit(path, above):
        assert path not in above, [str(each) for each in (*above, path)]
        if path not in done:
            for target in graph[path]:
                visit(target, (*above, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def loaded_by(code):
    """Return the packages that some code loads in a fresh interpreter."""
    output = run_python(f"{code}; import sys, json; print(json.dumps(sorted(sys.modules)))")
    return {module.partition(".")[0] for module in json.loads(output)}


HEAVY = {"chex", "cvxpy", "flax", "matfree", "matplotlib", "pandas", "scipy", "sklearn", "tqdm"}


def test_importing_momentax_loads_nothing_but_the_door():
    assert not loaded_by("import momentax") & {"jax", "numpy", "optax", *HEAVY}
    # Names can be listed without loading what they name.
    assert not loaded_by("import momentax; dir(momentax), dir(momentax.sweeps)") & {"jax", *HEAVY}


@pytest.mark.parametrize(
    "use", ["sgd(0.1, momentax.nesterov(0.9))", "theory", "problems.ravine", "bench.tasks"]
)
def test_common_names_load_no_heavy_package_and_start_no_device(use):
    packages = loaded_by(
        f"import momentax; momentax.{use}; import jax; "
        "assert not jax._src.xla_bridge.backends_are_initialized()"
    )
    assert not packages & HEAVY


def test_a_namespace_is_loaded_when_it_is_first_used():
    run_python(
        "import sys, momentax\n"
        "assert 'momentax.plotting' not in sys.modules\n"
        "assert callable(momentax.plotting.heatmap)\n"
        "assert 'matplotlib' in sys.modules\n"
    )


def test_the_library_itself_does_not_use_the_test_packages():
    for path in MODULES:
        assert not {name.partition(".")[0] for name in imports(path)} & {"chex", "hypothesis"}
