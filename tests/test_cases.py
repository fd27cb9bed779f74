"""Every public transformation has a case, and every case a twin."""

import inspect

import pytest

import momentax
from tests import cases, reference


def transformations():
    """Yield the public functions that are methods, wrappers or optimizers."""
    for name in momentax.__all__:
        value = getattr(momentax, name)
        module = getattr(value, "__module__", "")
        rooms = ("momentax._methods.", "momentax._wrappers.", "momentax._sgd", "momentax._muon.")
        if inspect.isfunction(value) and (module.startswith(rooms) or value is momentax.stored):
            yield name
    yield "memory.method"  # The only one that is not at the top.


@pytest.mark.parametrize("name", list(transformations()))
def test_every_transformation_has_a_case(name):
    names = {each.partition(",")[0] for each in cases.TRANSFORMATIONS}
    assert name in names, (
        f"momentax.{name} has no case: add a row to METHODS, OPTIMIZERS or WRAPPERS of "
        f"tests/cases.py and its recurrence in NumPy to tests/reference.py"
    )


def test_every_case_is_of_a_public_transformation():
    assert {name.partition(",")[0] for name in cases.TRANSFORMATIONS} == set(transformations())


@pytest.mark.parametrize("name", cases.TRANSFORMATIONS)
def test_every_case_has_a_twin_in_numpy(name):
    twin = cases.TRANSFORMATIONS[name].twin
    twin = getattr(twin, "func", twin)  # The function of a `functools.partial`.
    assert twin.__module__ == reference.__name__, (
        f"the case {name!r} needs a twin: write its recurrence in NumPy in tests/reference.py"
    )
