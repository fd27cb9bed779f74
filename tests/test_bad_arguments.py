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
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import momentax
from tests.documented_values import allowed
from tests.public_calls import public_callables, quiet, returned_calls, valid_call
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
}

# Where an answer may differ from the rule, and why; each pattern is "callable.argument".
EXCEPTIONS = {}

# The words by which a message may name an argument, other than its name.
NAMES = {
    "params": ("parameter", "parameters"),
    "updates": ("gradient", "gradients"),
}

# Callables whose computation takes long: values that are allowed are not computed.
SLOW = (
    "momentax.curvature",
    "momentax.halve",
    "momentax.rollout",
    "momentax.sweep",
    "momentax.use_all_cores",
    "momentax.plotting.theory_overlay",
    "momentax.theory.certify",
    "momentax.theory.largest_learning_rate",
    "momentax.theory.state_space",
    "momentax.theory.trade_off",
    "momentax.theory.tune",
)


@functools.cache
def statements(path):
    """Return the raise statements of a file as pairs of their first and last line."""
    tree = ast.parse(Path(path).read_text())
    return [
        (node.lineno, node.end_lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise)
    ]


def is_ours(error):
    """Return whether a raise statement of momentax raised an error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename).is_relative_to(ROOT) and any(
        first <= (frame.lineno or 0) <= last for first, last in statements(frame.filename)
    )


def is_from_example(call, error):
    """Return whether an error passed through a function that the example of a call defines."""
    return any(frame.filename == call.name for frame in traceback.extract_tb(error.__traceback__))


def fault_of_error(call, argument, error):
    """Return what is wrong with an error as an answer, or None."""
    text = f"{type(error).__name__}: {error}"
    documented = re.search(rf"\b{type(error).__name__}\b", call.doc)
    if type(error) not in (TypeError, ValueError) and not documented:
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
    is_allowed = argument in call.unread or allowed(
        call.name, parameter, call.doc, BAD[label]()
    )
    if is_allowed and call.name in SLOW:
        return "not computed", ""
    value = BAD[label]()
    try:
        returned = call(**{argument: (value,) if parameter.kind == parameter.VAR_POSITIONAL else value})
    except Exception as error:
        fault = fault_of_error(call, argument, error)
        # What fits no other argument may be named by that one, and the example's own function may
        # not take it.
        if is_allowed and fault and (is_ours(error) or is_from_example(call, error)):
            fault = None
        return ("fault", fault) if fault else ("sentence", str(error))
    if is_allowed:
        return "value", ""
    return "fault", f"accepted, returned {returned!r:.100}"


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


def faults(call):
    """Return all faults of a call as lines, and the number of answers of each kind."""
    found, counts = [], {}
    for argument, parameter in arguments_of(call):
        for label in BAD:
            key = f"{call.name}.{argument}"
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                kind, text = answer(call, argument, parameter, label)
            if kind == "fault" and any(fnmatch.fnmatch(f"{key}={label}", e) for e in EXCEPTIONS):
                kind = "exception"
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "fault":
                found.append(f"{key} = {label}: {text}")
    return found, counts


@pytest.mark.parametrize("name", public_callables())
def test_a_bad_value_is_refused_by_name(name, tmp_path):
    with quiet(tmp_path), jax.numpy_dtype_promotion("standard"):
        found, _ = faults(valid_call(name))
    assert not found, "\n".join(found)


SCHEDULES = [name for name in public_callables() if name.startswith("momentax.schedules.")]


@pytest.mark.parametrize("name", [*TRANSFORMATIONS, *SCHEDULES])
def test_what_is_returned_refuses_bad_values_by_name(name, tmp_path):
    with quiet(tmp_path), jax.numpy_dtype_promotion("standard"):
        found = [line for call in returned_calls(name) for line in faults(call)[0]]
    assert not found, "\n".join(found)
