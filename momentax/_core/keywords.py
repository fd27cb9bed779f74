"""Errors for keywords that a function does not take: they say what to write instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from momentax._core.arguments import describe

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What other libraries call a hyperparameter, and what it may be called here.
_SYNONYMS = {
    "momentum": ("beta", "beta1"),
    "decay": ("beta", "beta1"),
    "beta": ("beta1",),
    "beta1": ("beta",),
    "b1": ("beta1", "beta"),
    "b2": ("beta2",),
    "b3": ("beta3",),
    "lr": ("learning_rate",),
    "epsilon": ("eps",),
}


def source_of(value: Any, otherwise: str = "...") -> str:
    """Return a number, bool or string as it is written in a program, and `otherwise` of others."""
    return describe(value) if isinstance(value, bool | int | float | str) else otherwise


def suggest_synonym(
    function: Callable[..., Any], keyword: str, given: Mapping[str, Any]
) -> str | None:
    """Say what to write if the keyword is another library's name of a parameter, or return None."""
    parameters = inspect.signature(function).parameters
    for name in _SYNONYMS.get(keyword, ()):
        if name in parameters:
            return f"write momentax.{function.__name__}({name}={source_of(given[keyword])})"
    return None


def explain_keywords(
    suggest: Callable[[Callable[..., Any], str, Mapping[str, Any]], str | None],
) -> Callable[[_Function], _Function]:
    """Return a decorator under which an unknown keyword raises a TypeError with a suggestion.

    `suggest(function, keyword, given)` returns what to write in place of `keyword`, or None. The
    message then lists the parameters. `given` holds all arguments by their names. The decorated
    function keeps its signature and its docstring.
    """

    def decorate(function: _Function) -> _Function:
        parameters = inspect.signature(function).parameters

        @functools.wraps(function)
        def explained(*args: Any, **keywords: Any) -> Any:
            for keyword in keywords:
                if keyword not in parameters:
                    given = dict(zip(parameters, args, strict=False)) | keywords
                    remedy = suggest(function, keyword, given)
                    raise TypeError(
                        f"{function.__name__}() got an unexpected keyword argument {keyword!r}; "
                        f"{remedy or 'it takes ' + ', '.join(parameters)}"
                    )
            return function(*args, **keywords)

        return cast(_Function, explained)

    return decorate
