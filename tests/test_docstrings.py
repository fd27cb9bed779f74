"""Docstrings of public names: their order, what they document, and their examples, which run.

The tests walk the package: every name that `momentax` and its public namespaces export.
"""

import doctest
import inspect
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax


def namespaces(name="momentax", module=momentax):
    """Yield every public namespace with its name, each before those that are inside of it."""
    yield name, module
    for inner in module.__all__:
        if inspect.ismodule(value := getattr(module, inner)):
            yield from namespaces(f"{name}.{inner}", value)


def public_names():
    """Yield every public function and class once, with its name in the public surface."""
    seen = set()
    for namespace, module in namespaces():
        for name in module.__all__:
            value = getattr(module, name)
            if (inspect.isfunction(value) or inspect.isclass(value)) and value not in seen:
                seen.add(value)
                yield f"{namespace}.{name}", value


PUBLIC = dict(public_names())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
TRANSFORMATIONS = {
    name: value
    for name, value in FUNCTIONS.items()
    if value.__module__.startswith(("momentax._methods.", "momentax._wrappers.", "momentax._sgd"))
}
SECTIONS = ["Args", "Returns", "Raises", "Warns", "Example", "Source"]
SECTION = re.compile(r"^([A-Z]\w+):$", re.MULTILINE)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def sections(doc):
    """Return the text of each section by its title; the text before the first has the title ""."""
    parts = SECTION.split(inspect.cleandoc(doc))
    titles = ["", *(title.replace("Examples", "Example") for title in parts[1::2])]
    assert len(titles) == len(set(titles)), f"a section occurs twice: {titles}"
    return dict(zip(titles, parts[0::2], strict=True))


def test_the_walk_finds_the_package():
    assert len(TRANSFORMATIONS) > 30
    assert {"momentax.velocity", "momentax.theory.tune", "momentax.sweep"} <= set(FUNCTIONS)
    assert {"momentax.Rollout", "momentax.states.LinearState"} <= set(CLASSES)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_line_is_a_sentence(name):
    first, *rest = inspect.cleandoc(PUBLIC[name].__doc__).splitlines()
    assert re.fullmatch(r"[A-Z].*[^.]\.", first), first
    assert not rest or not rest[0], "a blank line follows the first sentence"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sections_are_in_the_order_of_the_house(name):
    titles = list(sections(FUNCTIONS[name].__doc__))[1:]
    assert titles == [title for title in SECTIONS if title in titles]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented_and_no_other(name):
    arguments = list(inspect.signature(FUNCTIONS[name]).parameters)
    text = sections(FUNCTIONS[name].__doc__).get("Args", "")
    documented = [
        argument.lstrip("*")
        for names in re.findall(r"^    (\**\w+(?:, \**\w+)*): ", text, re.MULTILINE)
        for argument in names.split(", ")
    ]
    assert documented == arguments


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_methods_and_wrappers_have_a_recurrence_and_a_source(name):
    found = sections(TRANSFORMATIONS[name].__doc__)
    assert re.search(r"^    .*_t\b", found[""], re.MULTILINE)
    assert re.search(r"\b(19|20)\d\d\b", found["Source"])


THEORY_WITH_A_SOURCE = re.compile(
    r"^momentax\.theory\..*(rate|optimal|certify|spectral_radius|stability_edge|quadratic_path|weights)"
)


@pytest.mark.parametrize("name", [*filter(THEORY_WITH_A_SOURCE.search, FUNCTIONS)])
def test_published_results_of_the_theory_have_a_source(name):
    source = sections(FUNCTIONS[name].__doc__)["Source"]
    assert re.search(r"\b(19|20)\d\d\b", source)
    if "Polyak" in source:
        assert "Some methods of speeding up" in " ".join(source.split())


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_of_a_record_is_documented(name):
    fields = [
        field for field in inspect.get_annotations(CLASSES[name]) if not field.startswith("_")
    ]
    doc = inspect.cleandoc(CLASSES[name].__doc__)
    documented = re.findall(r"^(?:    )?(\w+): ", doc, re.MULTILINE)
    assert [field for field in fields if field not in documented] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name):
    lines = re.findall(r"^\s*>>> ", FUNCTIONS[name].__doc__, re.MULTILINE)
    assert lines


def examples():
    return [name for name in PUBLIC if ">>>" in PUBLIC[name].__doc__]


def namespace():
    """Return the names that the examples of docstrings use."""
    return {
        "momentax": momentax,
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "optax": optax,
        "params": {"w": jnp.array([1.0, 2.0, 3.0])},
        "grads": {"w": jnp.array([0.1, 0.2, 0.3])},
    }


@pytest.mark.parametrize("name", examples())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = namespace()
    doc = inspect.cleandoc(PUBLIC[name].__doc__)
    test = doctest.DocTestParser().get_doctest(doc, names, name, None, 0)
    report = []
    # As a user runs them; Optax's Adam promotes dtypes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    plt.close("all")  # Matplotlib warns of many open figures.
    assert results.failed == 0, "".join(report)
    assert results.attempted > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_agree_over_the_library(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    if "velocity_units" in parameters:
        assert parameters["velocity_units"].default == "gradient"
    # An optional params comes after the state, which is always needed.
    required = [name for name, value in parameters.items() if value.default is value.empty]
    if {"params", "state"} <= set(required):
        assert required.index("params") < required.index("state")
