"""No public callable takes a value that its documentation does not allow.

Every argument of every public callable is replaced, one at a time, by each of the values in `BAD`.
The answer is right if it is

- a ValueError or a TypeError, or another exception that the docstring lists, which momentax itself
  raises and whose message names the argument; or
- a returned value, where the documentation of the argument allows the value.

An argument that nobody looks at fails the test, and so does a message of Python, NumPy or JAX.
"""

import ast
import fnmatch
import functools
import inspect
import re
import traceback
from pathlib import Path

import numpy as np
import pytest

import momentax
from momentax._core import arguments
from tests.documented_values import allowed
from tests.public_calls import Call, as_a_user, public_callables, returned_calls, valid_call
from tests.test_docstrings import TRANSFORMATIONS

ROOT = Path(momentax.__file__).parent


class Junk:
    """A class that is of no use as an argument."""

    def __repr__(self):
        return "Junk()"


def returns_none(*args, **keywords):
    """Take any arguments."""


# Each value is made anew, since a generator can be read once only.
BAD = {
    "None": lambda: None,
    "True": lambda: True,
    "text": lambda: "0.9",
    "empty text": lambda: "",
    "empty list": list,
    "list of text": lambda: ["0.9"],
    "ragged list": lambda: [[1.0], [1.0, 2.0]],
    "empty dict": dict,
    "dict": lambda: {"junk": Junk()},
    "object": Junk,
    "class": lambda: Junk,
    "function": lambda: returns_none,
    "function of nothing": lambda: lambda: None,
    "set": lambda: {0.5},
    "bytes": lambda: b"0.9",
    "generator": lambda: (each for each in [Junk()]),
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "-1e30": lambda: -1e30,
    "1e30": lambda: 1e30,
    "2**70": lambda: 2**70,
    "complex": lambda: 0.5j,
    "column": lambda: np.full((2, 1), 0.5),
    "empty array": lambda: np.zeros(0),
    "array of text": lambda: np.array(["0.9"]),
    "array of bools": lambda: np.array([True]),
    "transformation": lambda: momentax.heavy_ball(0.9),
    "StateSpace of text": lambda: momentax.theory.StateSpace(*"ABC"),
    "Curvature of text": lambda: momentax.diagnostics.Curvature(*"mLsh"),
}

# Where an answer may differ from the rule, and why: patterns of "callable.argument = value".
EXCEPTIONS: dict[str, str] = {
    "momentax.halve.init = function": "A state may be empty, and then the example's score fails.",
}

# The words by which a message may name an argument, other than its name.
NAMES = {
    "params": ("parameter", "parameters"),
    "updates": ("gradient", "gradients"),
}

# Callables whose computation takes long: values that are allowed are not computed.
SLOW = (
    "momentax.bench.Task.train",
    "momentax.bench.check",
    "momentax.bench.costs",
    "momentax.bench.run",
    "momentax.curvature",
    "momentax.halve",
    "momentax.plotting.animate",
    "momentax.plotting.surface",
    "momentax.rollout",
    "momentax.search",
    "momentax.sweep",
    "momentax.use_all_cores",
    "momentax.plotting.spectral_map",
    "momentax.plotting.theory_overlay",
    "momentax.theory.certify",
    "momentax.theory.largest_learning_rate",
    "momentax.theory.state_space",
    "momentax.theory.trade_off",
    "momentax.theory.tune",
)


@functools.cache
def statements(path):
    """Return the lines of each raise statement of a file."""
    tree = ast.parse(Path(path).read_text())
    return [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
    ]


def is_ours(error):
    """Return whether a raise statement of momentax raised an error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename).is_relative_to(ROOT) and any(
        frame.lineno in lines for lines in statements(frame.filename)
    )


def is_from_example(call, error):
    """Return whether an error passed through a function that the example of a call defines."""
    return any(frame.filename == call.name for frame in traceback.extract_tb(error.__traceback__))


def fault_of_error(call, argument, error):
    """Return what is wrong with an error as an answer, or None."""
    text = f"{type(error).__name__}: {error}"
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if not any(re.search(rf"\b{kind}\b", f"TypeError ValueError {call.doc}") for kind in kinds):
        return f"an error that is not documented: {text}"
    if not is_ours(error):
        return f"not a message of momentax: {text}"
    names = (argument, *NAMES.get(argument, ()))
    if not any(re.search(rf"(?<![\w.]){re.escape(name)}\b", str(error)) for name in names):
        return f"a message that does not name it: {text}"
    if re.search(r"0x[0-9a-f]{6,}", text):
        return f"a message with an address: {text}"
    return None


def answer(call, argument, parameter, label):
    """Try one bad value, and return ("sentence", "value", "not computed" or "fault", text)."""
    is_allowed = argument in call.unread or allowed(call.name, parameter, call.doc, BAD[label]())
    if is_allowed and call.name in SLOW:
        return "not computed", ""
    value = BAD[label]()
    if parameter.kind == parameter.VAR_POSITIONAL:
        value = (value,)
    try:
        returned = call(**{argument: value})
    except Exception as error:
        fault = fault_of_error(call, argument, error)
        # What fits no other argument may be named by that one, and the example's own function may
        # not take it.
        if is_allowed and fault and (is_ours(error) or is_from_example(call, error)):
            fault = None
        return ("fault", fault) if fault else ("sentence", str(error))
    if is_allowed:
        return "value", ""
    return "fault", f"accepted, returned {arguments.describe(returned)}"


def arguments_of(call):
    """Yield the name and the parameter of each argument of a call."""
    parameters = inspect.signature(call.function).parameters
    for name, parameter in parameters.items():
        if parameter.kind != parameter.VAR_KEYWORD:
            yield name, parameter
        else:
            for extra in call.arguments:
                if extra not in parameters:
                    yield extra, parameter.replace(name=extra)


def answers(call):
    """Yield each case as "callable.argument = value", with the kind and the text of its answer."""
    for argument, parameter in arguments_of(call):
        for label in BAD:
            case = f"{call.name}.{argument} = {label}"
            yield case, *answer(call, argument, parameter, label)


def faults(call):
    """Return a line for each wrong answer of a call that is not listed as an exception."""
    return [
        f"{case}: {text}"
        for case, kind, text in answers(call)
        if kind == "fault" and not any(fnmatch.fnmatchcase(case, each) for each in EXCEPTIONS)
    ]


SCHEDULES = [name for name in public_callables() if name.startswith("momentax.schedules.")]


@pytest.mark.parametrize("name", public_callables())
def test_a_bad_value_is_refused_by_name(name, tmp_path):
    with as_a_user(tmp_path):
        found = faults(valid_call(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [*TRANSFORMATIONS, *SCHEDULES])
def test_what_is_returned_refuses_bad_values_by_name(name, tmp_path):
    with as_a_user(tmp_path):
        found = [line for call in returned_calls(name) for line in faults(call)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_update_refuses_gradients_and_states_of_other_parameters_by_path(name, tmp_path):
    others = [{"w": np.ones(2, np.float32)}, {"v": np.ones(3, np.float32)}, np.ones(3, np.float32)]
    with as_a_user(tmp_path):
        init, update = returned_calls(name)
        for other in others:
            for argument, value in (("state", init(params=other)), ("updates", other)):
                with pytest.raises((TypeError, ValueError), match=r"at (\['|the root)") as raised:
                    update(**{argument: value})
                assert is_ours(raised.value)


def test_there_are_few_exceptions_and_each_has_a_reason():
    assert len(EXCEPTIONS) <= 20
    assert all(reason.endswith(".") for reason in EXCEPTIONS.values())


@pytest.mark.parametrize("pattern", EXCEPTIONS)
def test_each_exception_is_still_needed(pattern, tmp_path):
    found = []
    with as_a_user(tmp_path):
        for name in public_callables():
            if fnmatch.fnmatchcase(name, pattern.partition(" = ")[0].rpartition(".")[0]):
                found += [case for case, kind, _ in answers(valid_call(name)) if kind == "fault"]
    assert any(fnmatch.fnmatchcase(case, pattern) for case in found)


def test_the_walk_finds_the_package():
    names = public_callables().keys()
    assert len(names) > 140
    assert {"momentax.sgd", "momentax.sweeps.Points", "momentax.sweeps.SweepResult.best"} <= names


# Functions with the faults that the test is there to find.


def ignores(beta: float = 0.9):
    """Look at nothing.

    Args:
        beta: β in [0, 1).
    """


def fails_in_python(beta: float = 0.9):
    """Fail with a message of Python.

    Args:
        beta: β in [0, 1).
    """
    return [1, 2][int(beta)]


def blames_another(beta: float = 0.9):
    """Name another argument.

    Args:
        beta: β in [0, 1).
    """
    arguments.as_real("gamma", beta, "[0, 1)")


def refuses_by_name(beta: float = 0.9):
    """Do what is right.

    Args:
        beta: β in [0, 1).
    """
    arguments.as_real("beta", beta, "[0, 1)")


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (ignores, "accepted, returned None"),
        (fails_in_python, "not a message of momentax: TypeError: int"),
        (blames_another, "a message that does not name it: TypeError: gamma must be"),
    ],
)
def test_the_check_finds_each_kind_of_fault(function, text):
    found = faults(Call(function.__name__, function, function.__doc__ or "", {"beta": 0.9}))
    assert any(text in line for line in found)
    assert len(found) > 20


def test_the_check_passes_a_function_that_refuses_by_name():
    call = Call("refuses_by_name", refuses_by_name, ignores.__doc__ or "", {"beta": 0.9})
    assert faults(call) == []
    kinds = [kind for _, kind, _ in answers(call)]
    assert kinds.count("value") == 1  # 0 is the only one of the values that lies in [0, 1).
    assert kinds.count("sentence") == len(BAD) - 1
