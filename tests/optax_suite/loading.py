"""Load a test module of Optax with other cases in its lists.

Optax installs its tests beside its code. A test class takes its cases from lists of the module
when Python creates the class. `load` parses the installed source, puts other lists in before the
first class, and executes the result as a new module. Nothing of Optax is copied or changed.
"""

import ast
import functools
import importlib.util
import itertools
import os
import re
import unittest
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from absl.testing import parameterized


def load(
    module: str,
    lists: Mapping[str, Any],
    *,
    inline: Mapping[str, Any] | None = None,
    helpers: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
) -> ModuleType:
    """Return a test module of Optax with other cases.

    Args:
        module: The name of the module, such as "optax._src.alias_test".
        lists: New values of lists of cases, by their names in the module.
        inline: New cases of tests whose cases are written in their decorators, by the names of the
            tests.
        helpers: New values of other names, such as the function that finds an optimizer.
        without: The names of tests to leave out.

    Returns:
        The module. Its classes keep the tests that take cases from one of the new lists; all
        others would test Optax itself.
    """
    inline = dict(inline or {})
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    known = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
    if missing := set(lists) - known:
        raise ValueError(f"{module} of the installed Optax has no list {sorted(missing)[0]}")
    for node in classes:
        body = [part for part in node.body if _is_kept(part, {*lists, *inline})]
        node.body = [part for part in body if getattr(part, "name", None) not in set(without)]
    tree.body = [part for part in tree.body if getattr(part, "body", True)]
    classes = [node for node in classes if node.body]
    tests = {part.name: part for node in classes for part in node.body if _is_test(part)}
    for name in inline:
        _replace_cases(tests[name], name)
    tree.body.insert(tree.body.index(classes[0]), ast.parse("globals().update(_replaced)").body[0])
    made = ModuleType(f"tests.optax_suite.{module.rpartition('.')[2]}")
    vars(made)["_inline"] = inline
    vars(made)["_replaced"] = {**lists, **(helpers or {}), "parameterized": _PARAMETERIZED}
    program = compile(ast.fix_missing_locations(tree), source_of(module), "exec")
    with mock.patch.dict(os.environ):  # One module sets XLA_FLAGS.
        exec(program, vars(made))
    return made


@functools.cache
def source_of(module: str) -> Path:
    """Return the file of a module, or say that this Optax has no tests."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the installed Optax has no module {module}: its tests are in the wheels of PyPI, and "
            "other distributions may leave them out"
        )
    return Path(spec.origin)


def _is_test(part: ast.stmt) -> bool:
    return isinstance(part, ast.FunctionDef) and part.name.startswith("test")


def _is_kept(part: ast.stmt, sources: set[str]) -> bool:
    """Return whether a part of a class is no test, or one that takes cases from new lists."""
    if not _is_test(part):
        return True
    names = {node.id for each in part.decorator_list for node in ast.walk(each) if _is_name(node)}
    return bool(sources & {part.name, *names})


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _replace_cases(test: ast.FunctionDef, name: str) -> None:
    """Let the only decorator of a test read its cases from `_inline`."""
    (decorator,) = test.decorator_list
    decorator.args = [ast.parse(f"_inline[{name!r}]", mode="eval").body]
    decorator.keywords = []


def outcomes(tests: type[unittest.TestCase]) -> dict[str, str | None]:
    """Run the tests of a class, and return the error of each, or None, by its name."""
    found = list(unittest.defaultTestLoader.loadTestsFromTestCase(tests))
    result = unittest.TestResult()
    for test in found:
        test(result)
    # A part of a test, `subTest`, fails under a name of its own.
    failed = result.errors + result.failures
    errors = {getattr(test, "test_case", test): error for test, error in failed}
    return {test.id().rpartition(".")[2]: errors.get(test) for test in found}


# Names of tests.


def _product(*lists: Iterable[dict[str, Any]], **grid: Iterable[Any]) -> Callable[..., Any]:
    """Stand for `parameterized.product`, which numbers its tests, and name them by their cases."""
    columns = [[{name: value} for value in values] for name, values in grid.items()]
    rows = itertools.product(*lists, *columns)
    cases = [functools.reduce(lambda one, other: one | other, row) for row in rows]
    return parameterized.named_parameters(*[{"testcase_name": _name(c), **c} for c in cases])


def _name(case: Mapping[str, Any]) -> str:
    values = [value for name, value in case.items() if not name.endswith("_kwargs")]
    parts = [
        getattr(value, "__name__", str(value)).removeprefix("_setup_")
        for value in values
        if value is not None
    ]
    return "_".join(re.sub(r"\W+", "_", part) for part in parts)


_PARAMETERIZED = SimpleNamespace(
    TestCase=parameterized.TestCase,
    parameters=parameterized.parameters,
    named_parameters=parameterized.named_parameters,
    product=_product,
)
