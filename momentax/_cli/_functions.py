"""Functions of the user, named on the command line as module:function."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from momentax._cli._arguments import did_you_mean
from momentax._cli._usage import UsageError
from momentax._core.arguments import describe


def import_function(option: str, name: str, *, or_a: type | None = None) -> Any:
    """Import the function that an option names, also from the current directory.

    or_a: a type whose values are accepted too.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise UsageError(f"{option} must be module:function, as mine:network, got {name!r}")
    if os.getcwd() not in sys.path:  # `python -m` adds it by itself, an installed script does not.
        sys.path.insert(0, os.getcwd())
    try:
        value = importlib.import_module(module)
    except Exception as error:  # The module may raise anything.
        kind = type(error).__name__
        raise UsageError(f"{option}: {module} cannot be imported: {kind}: {error}") from error
    for part in path.split("."):
        if not hasattr(value, part):
            near = did_you_mean(part, filter(str.isidentifier, vars(value)))
            raise UsageError(f"{option}: {module} has no {path}{near}")
        value = getattr(value, part)
    if not callable(value) and not (or_a and isinstance(value, or_a)):
        kinds = "a function" if or_a is None else f"a function or a value of type {or_a.__name__}"
        raise UsageError(f"{option} {name} must be {kinds}, got {describe(value)}")
    return value


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function by name; none where they cannot be inspected."""
    if inspect.isclass(function):  # Flax hides the signature of its classes.
        function = partial(function.__init__, None)
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:  # Some functions written in C have no signature.
        return {}


def accepts(function: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    """Return whether a function can be called with these arguments."""
    signature = inspect.Signature(list(parameters_of(function).values()))
    try:
        signature.bind(*arguments, **named)
    except TypeError:
        return False
    return True


def describe_parameters(function: Callable[..., Any]) -> str:
    """Write the parameters of a function as in its definition, with the parentheses."""
    return f"({', '.join(map(str, parameters_of(function).values()))})"
