"""Digests of Python functions and objects, by which a store recognizes them in another process.

A jaxpr names a callback and does not contain it. Two functions have the same digest if they have
the same code, defaults and attributes, and if what their closures, their classes and the global
names in their code refer to has the same digest, at any depth. Of an installed library the version
counts, and not each line of its code. Of a module of the user the source counts, and the values in
it that the code names.
"""

from __future__ import annotations

import ast
import copyreg
import dis
import functools
import hashlib
import importlib.metadata
import re
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import jax
import numpy as np

from momentax._core import arguments

# Functions by which code looks a name up that it holds as a string.
_LOOKUPS = {"getattr", "globals", "vars", "attrgetter", "methodcaller", "import_module"}
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
# Attributes of a class that Python makes from the others, or that are not part of its behaviour.
_DERIVED = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__",
    "_abc_impl", "__orig_bases__", "__parameters__", "__slots__", "__classcell__",
}  # fmt: skip


class UnknownContentError(ValueError):
    """An object refers to something whose content cannot be compared, such as an open file."""


def digest(value: Any) -> str:
    """Return the digest of a function or an object with everything to which it refers.

    Raises:
        UnknownContentError: It refers to something whose content cannot be compared.
    """
    return _Digests().of_all(value).hex()


def digest_code(function: Any) -> str:
    """Return the digest of the code of a function and of the functions in its closure."""
    return _combine("code", _functions_in(function, set())).hex()


class _Digests:
    """The digests of objects, each computed once; a reference cycle is replaced by its depth."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}  # The objects too, so that ids stay in use.
        self._open: list[int] = []
        # The modules of the user and the names in the code of the user that were found so far.
        self._modules: dict[int, types.ModuleType] = {}
        self._names: set[str] = set()

    def of_all(self, value: Any) -> bytes:
        """Return the digest of an object, and of what its code names in modules of the user.

        An object may hold a module, so that only the names in all code tell what is used of it.
        """
        parts, done = [self.of(value)], set()
        while found := {
            (key, name): vars(module)[name]
            for key, module in self._modules.items()
            for name in sorted(self._names & vars(module).keys())
            if (key, name) not in done
        }:
            for place, attribute in found.items():
                done.add(place)
                with suppress(UnknownContentError):  # The source of the module still counts.
                    parts += [place[1].encode(), self.of(attribute)]
        return _combine("all", parts)

    def of(self, value: Any) -> bytes:
        if isinstance(value, _ATOMS):
            return _combine(type(value).__name__, [repr(value).encode()])
        if id(value) in self._open:
            return _combine("cycle", [str(self._open.index(id(value))).encode()])
        if id(value) not in self._known:
            self._open.append(id(value))
            try:
                kind, parts = self._parts(value)
                result = _combine(kind, (self.of(part) for part in parts))
            except RecursionError:
                raise _unknown(value) from None
            finally:
                self._open.pop()
            self._known[id(value)] = value, result
        return self._known[id(value)][1]

    def _parts(self, value: Any) -> tuple[str, Iterable[Any]]:
        """Return the kind of an object, and the parts that make up its content."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if (array := _as_array(value)) is not None:
            return "array", _array_parts(array)
        if isinstance(value, np.dtype | jax.tree_util.PyTreeDef):
            return kind, [str(value)]
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
            return kind, [*value.keys(), *value.values()]
        if type(value) in (list, tuple):
            return kind, value
        if type(value) in (set, frozenset):
            return kind, sorted(self.of(part) for part in value)
        if isinstance(value, types.CodeType):
            return "code", _code_parts(value)
        if isinstance(value, types.FunctionType):
            if not _library(value.__module__ or ""):
                self._names.update(_names_in(value.__code__))
            return "function", _function_parts(value)
        if isinstance(value, types.MethodType):
            return "method", [value.__func__, value.__self__]
        if isinstance(value, types.ModuleType):
            library = _library(value.__name__)
            if not library:
                self._modules[id(value)] = value
            return "module", [value.__name__, library or _module_content(value)]
        if isinstance(value, type):
            return "class", _class_parts(value)
        if isinstance(value, Enum):
            return "enum", [type(value), value.name]
        if isinstance(value, functools.partial):
            return "partial", [value.func, value.args, value.keywords]
        if isinstance(value, weakref.ref):
            return "reference", [value()]
        if isinstance(value, types.CellType):
            return "cell", _cell_contents(value)
        if (part := _descriptor_parts(value)) is not None:
            return kind, part
        wrapped = getattr(value, "__wrapped__", None)
        if callable(value) and wrapped is not None:  # As what jax.jit returns.
            return kind, [wrapped]
        if type(value).__module__.partition(".")[0] in ("jax", "jaxlib"):
            return kind, [re.sub(r" at 0x[0-9a-f]+", "", repr(value))]
        return kind, [type(value), *_reduced(value)]


def _combine(kind: str, parts: Iterable[bytes]) -> bytes:
    result = hashlib.sha256(kind.encode())
    for part in parts:
        result.update(hashlib.sha256(part).digest())
    return result.digest()


def _unknown(value: Any) -> UnknownContentError:
    return UnknownContentError(arguments.describe(value))


def _as_array(value: Any) -> Any:
    """Return an array, also one of PyTorch's, or None if a value is none."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return value
    if not (hasattr(value, "detach") and hasattr(value, "__array__")):
        return None
    with suppress(Exception):  # Not every dtype of PyTorch's is one of NumPy's.
        return np.asarray(value.detach().cpu())
    return None


def _array_parts(value: Any) -> list[Any]:
    if arguments.is_traced(value):
        raise _unknown(value)
    if arguments.is_key(value):
        return [str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value))]
    array = np.asarray(value)
    content: Any = array.tolist() if array.dtype.hasobject else array.tobytes()
    return [str(array.dtype), array.shape, content]


def _code_parts(code: types.CodeType) -> list[Any]:
    """Return what a code object computes; not its file, its lines and its own name."""
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    exceptions = getattr(code, "co_exceptiontable", b"")
    return [code.co_code, exceptions, *counts, *names, *code.co_consts]


def _function_parts(function: types.FunctionType) -> list[Any]:
    """Return what a function does: its code, its values, and the globals that it names."""
    parts = [
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        function.__closure__,
        {name: value for name, value in vars(function).items() if name != "__wrapped__"},
    ]
    library = _library(function.__module__ or "")
    return [*parts, library, *([] if library else _named_globals(function))]


def _named_globals(function: types.FunctionType) -> list[Any]:
    """Return the globals that the code of a function names, also those inside modules of the user.

    For a module of the user its attributes with these names count, and for a library its version.
    """
    names = _names_in(function.__code__)
    spaces, found = [function.__globals__, _imports_in(function)], []
    for space in spaces:
        for name in names:
            if name not in space or any(space[name] is other for other in spaces):
                continue
            value = space[name]
            found += [name, value]
            is_own = isinstance(value, types.ModuleType) and not _library(value.__name__)
            if is_own and not any(vars(value) is other for other in spaces):
                spaces.append(vars(value))
    return found


def _codes_in(code: types.CodeType) -> list[types.CodeType]:
    """Return a code object and those of the functions that it defines."""
    codes = [code]
    for each in codes:
        codes += [const for const in each.co_consts if isinstance(const, types.CodeType)]
    return codes


def _names_in(code: types.CodeType) -> list[str]:
    """Return the names in a code object, and its strings if it may look names up by these."""
    codes = _codes_in(code)
    names = {name for each in codes for name in each.co_names}
    if names & _LOOKUPS:
        names |= {const for each in codes for const in each.co_consts if isinstance(const, str)}
    return sorted(names)


def _module_content(module: types.ModuleType) -> Any:
    """Return the source of a module without comments; its values if it has no file."""
    file = getattr(module, "__file__", None)
    try:
        source = Path(file or "").read_bytes()
    except OSError:
        return {name: value for name, value in vars(module).items() if not name.startswith("__")}
    try:
        return ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):  # It is compiled, or not of this Python.
        return source


def _imports_in(function: types.FunctionType) -> dict[str, Any]:
    """Return the modules that a function imports when it runs."""
    modules: dict[str, Any] = {}
    for code in _codes_in(function.__code__):
        instructions = list(dis.get_instructions(code))
        for level, _, line in zip(instructions, instructions[1:], instructions[2:], strict=False):
            if line.opname != "IMPORT_NAME":
                continue
            name = "." * (level.argval or 0) + line.argval
            with suppress(Exception):  # The function will say what is wrong when it runs.
                package = function.__globals__.get("__package__")
                modules[line.argval] = importlib.import_module(name, package)
    return modules


def _class_parts(value: type) -> list[Any]:
    library = _library(value.__module__)
    name = [value.__module__ if library else "", value.__qualname__, library]
    if library:
        return name
    own = {key: part for key, part in vars(value).items() if key not in _DERIVED}
    return [*name, *value.__bases__, own]


def _descriptor_parts(value: Any) -> list[Any] | None:
    """Return the functions of a property or the like, or None if a value is nothing like it."""
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, functools.cached_property):
        return [value.func]
    if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
        return [value.__name__]
    return None


def _cell_contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # The name has no value yet.
        return []


def _reduced(value: Any) -> list[Any]:
    """Return the state of an object, as pickle would keep it."""
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        state = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception as error:  # An object may raise anything.
        raise _unknown(value) from error
    if isinstance(state, str):  # A name in its module.
        module = getattr(value, "__module__", None) or type(value).__module__
        return [module, state, _library(module)]
    make, given, *rest = state
    parts = [part if part is None or i == 0 else list(part) for i, part in enumerate(rest[:3])]
    return [make, given, *parts]


@functools.cache
def _library(module: str) -> str:
    """Return the name and version of the installed library of a module; "" if it has none."""
    top = module.partition(".")[0]
    if top in ("momentax", "jax", "jaxlib"):  # The store compares their versions itself.
        return top
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return "python" if top in sys.builtin_module_names else ""
    folder = Path(file).resolve().parent
    if {"site-packages", "dist-packages"} & set(folder.parts):
        try:
            return f"{top} {importlib.metadata.version(top)}"
        except importlib.metadata.PackageNotFoundError:
            return f"{top} {getattr(sys.modules[top], '__version__', '')}"
    paths = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return "python" if any(path in (folder, *folder.parents) for path in paths) else ""


def _functions_in(value: Any, seen: set[int]) -> list[bytes]:
    """Return the code of a function, and of the functions in its closure, as bytes."""
    value = getattr(value, "__func__", value)
    if isinstance(value, functools.partial):
        return _functions_in(value.func, seen)
    if not isinstance(value, types.FunctionType) or id(value) in seen:
        return []
    seen.add(id(value))
    found = []
    for code in _codes_in(value.__code__):
        plain = [const for const in code.co_consts if isinstance(const, _ATOMS)]
        found.append(repr((code.co_code, code.co_names, plain)).encode())
    for cell in value.__closure__ or ():
        for content in _cell_contents(cell):
            found += _functions_in(content, seen)
    return found
