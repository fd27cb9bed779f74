"""The fingerprint of a traced program: its text, its arrays, and what it calls by reference."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core.arguments import is_key
from momentax.sweeps._run._references import UnknownContentError, digest, digest_code

# The primitives of JAX that hold a derivative rule besides what they compute. A rule that the
# function needs is part of its jaxpr, and the others never run.
_WITH_RULES = ("custom_jvp_call", "custom_vjp_call")
_PLAIN = ("builtins", "numpy", "ml_dtypes", "jax", "jaxlib")  # Their objects are in the text.


class Fingerprint(NamedTuple):
    """A description of what a traced function computes, equal in every process.

    text: its jaxpr.
    data: a digest of the arrays that it closes over.
    references: the name and the digest of each Python function that it calls as it runs.
    """

    text: str
    data: str
    references: list[list[str]]


def fingerprint(jaxpr: Any) -> Fingerprint:
    """Return what distinguishes a traced program from others, in any process.

    Raises:
        UnknownContentError: It calls something whose content cannot be compared.
    """
    contents = _Contents()
    contents.add_jaxpr(jaxpr)
    text = "\n".join([_print(jaxpr), *contents.texts])
    return Fingerprint(text, contents.data.hexdigest(), contents.references)


class _Contents:
    """What a jaxpr holds at any depth.

    data: a digest of its arrays.
    texts: the jaxprs that are not part of its own text.
    references: the name and the digest of each Python function.
    """

    def __init__(self) -> None:
        self.data = hashlib.sha256()
        self.texts: list[str] = []
        self.references: list[list[str]] = []

    def add_jaxpr(self, jaxpr: Any) -> None:
        from jax.extend.core import Literal

        for constant in getattr(jaxpr, "consts", ()):
            self._add_array(constant)
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name == "ffi_call":
                raise UnknownContentError(f"the FFI target {equation.params['target_name']!r}")
            for variable in equation.invars:
                if isinstance(variable, Literal):
                    self._add_array(variable.val)
            for key, parameter in sorted(equation.params.items()):
                is_rule = name.startswith(_WITH_RULES) and not hasattr(parameter, "eqns")
                if not is_rule and key != "impl":  # The text names an implementation of keys.
                    self._add_parameter(name, parameter)

    def _add_parameter(self, primitive: str, value: Any, printed: bool = True) -> None:
        """Add a parameter of an equation; `printed` says whether the text shows its jaxprs."""
        if hasattr(value, "eqns"):
            self.texts += [] if printed else [_print(value)]
            self.add_jaxpr(value)
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            self._add_array(value)
        elif isinstance(value, tuple | list | Mapping):
            for part in value.values() if isinstance(value, Mapping) else value:
                self._add_parameter(primitive, part, printed)
        elif _is_record(value):
            for field in dataclasses.fields(value):
                self._add_parameter(primitive, getattr(value, field.name), printed=False)
        elif not isinstance(value, type | Enum):
            self._add_object(primitive, value)

    def _add_object(self, primitive: str, value: Any) -> None:
        """Add a function or an object, unless it is one of JAX's that the text describes."""
        library = type(value).__module__.partition(".")[0]
        if library in _PLAIN and not callable(value):
            return
        holds_function = hasattr(value, "__wrapped__") or isinstance(value, jax.tree_util.Partial)
        if library in ("jax", "jaxlib") and not holds_function:
            return
        # A debug callback returns nothing, so that what it has collected so far does not count.
        code = digest_code(value) if primitive == "debug_callback" else digest(value)
        name = getattr(value, "__name__", type(value).__name__)
        self.references.append([f"{primitive} {name}", code])

    def _add_array(self, value: Any) -> None:
        array = np.asarray(jax.random.key_data(value) if is_key(value) else value)
        self.data.update(f"{array.dtype}{array.shape}".encode())
        self.data.update(np.ascontiguousarray(array).tobytes())


def _is_record(value: Any) -> bool:
    """Return whether a value is a dataclass of JAX's, such as the grid of a Pallas kernel."""
    return type(value).__module__.startswith("jax.") and dataclasses.is_dataclass(value)


def _print(jaxpr: Any) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", jaxpr.pretty_print(use_color=False))
