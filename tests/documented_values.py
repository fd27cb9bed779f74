"""The values that the documentation of an argument allows: by its annotation, default and text.

The annotation says the kind, and the text under Args the interval, such as "β in [0, 1)" or "at
least 1". `Any`, `PyTree` and `Callable` say nothing, so that no value is allowed for them unless
`RULES` has a row. A new argument is therefore held to the strictest rule until its annotation, its
text or a row says more.
"""

import ast
import inspect
import numbers
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.colors import is_color_like

LARGEST = 2**31 - 1  # Counts are int32.
_Rule = Callable[[Any], bool]


def allowed(function: str, parameter: inspect.Parameter, doc: str, value: Any) -> bool:
    """Return whether the documentation of a function allows a value for one of its arguments."""
    if value is None and parameter.default is None:
        return True
    parts = f"{function}.{parameter.name}".split(".")
    for key in (".".join(parts[-length:]) for length in (3, 2, 1)):
        if key in RULES:
            return RULES[key](value)
    if parameter.kind == parameter.VAR_POSITIONAL:
        return False
    text = text_of(parameter.name, doc)
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        annotation = inspect.formatannotation(annotation)
    return _allows(ast.parse(annotation, mode="eval").body, text, value)


def text_of(argument: str, doc: str) -> str:
    """Return what a docstring says of an argument, on one line."""
    entry = re.search(
        rf"^( *)(?:\*{{0,2}}\w+, )*\*{{0,2}}{argument}(?:, \w+)*: (.*(?:\n(?:\1 +.*|\s*))*)",
        doc,
        re.MULTILINE,
    )
    return " ".join(entry[2].split()) if entry else ""


def _allows(annotation: ast.expr, text: str, value: Any) -> bool:
    """Return whether a value has the type of an annotation and lies where the text says."""
    if isinstance(annotation, ast.BinOp):
        return _allows(annotation.left, text, value) or _allows(annotation.right, text, value)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _allows(ast.parse(annotation.value, mode="eval").body, text, value)
    if isinstance(annotation, ast.Subscript):
        return _allows_generic(annotation, text, value)
    kind = ast.unparse(annotation)
    if kind in ("float", "Scalar", "ScalarOrSchedule", "ArrayLike"):
        return _is_real(value, text, any_shape=kind == "ArrayLike") or (
            kind == "ScalarOrSchedule" and _takes(value, 1)
        )
    return _KINDS[kind](value, text) if kind in _KINDS else False


def _allows_generic(annotation: ast.Subscript, text: str, value: Any) -> bool:
    kind, inner = ast.unparse(annotation.value), annotation.slice
    if kind == "Literal":
        return isinstance(value, str) and repr(value) in ast.unparse(inner)
    if kind in ("Sequence", "Iterable"):
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, Sequence if kind == "Sequence" else Iterable):
            return False
        if isinstance(value, str | bytes | Mapping | set):
            return False
        if ast.unparse(inner) == "str":  # Names, which the text cannot list.
            return all(isinstance(each, str) for each in value)
        return all(_allows(inner, text, each) for each in value)
    if kind == "os.PathLike":
        return isinstance(value, os.PathLike)
    if kind == "Mapping":
        return isinstance(value, Mapping) and not value
    return False


_KINDS: dict[str, Callable[[Any, str], bool]] = {
    "None": lambda value, text: value is None,
    "np.ndarray": lambda value, text: _is_real(value, text, any_shape=True),
    "bool": lambda value, text: isinstance(value, bool | np.bool_),
    "int": lambda value, text: _is_count(value, text),
    "str": lambda value, text: isinstance(value, str) and f'"{value}"' in text,
    "optax.GradientTransformation": lambda value, text: isinstance(
        value, optax.GradientTransformation
    ),
}


def _is_count(value: Any, text: str) -> bool:
    least = re.search(r"at least (\d+)", text)
    return (
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and int(least[1] if least else 1) <= value <= LARGEST
    )


def _is_real(value: Any, text: str, any_shape: bool) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    if not isinstance(value, numbers.Real | np.ndarray | jax.Array) and not any_shape:
        return False
    try:
        array = np.asarray(value, float if isinstance(value, numbers.Real) else None)
    except (TypeError, ValueError):
        return False
    if array.dtype.kind not in "iuf" or (array.ndim and not any_shape):
        return False
    return bool(np.all([_is_within(text, each) for each in array.flat]))


def _is_within(text: str, number: float) -> bool:
    """Return whether a number lies in the interval that a text names first; an end may be a name.

    Ends that are not numbers, such as mu, are not checked here.
    """
    if not np.isfinite(number):
        return False
    if "any real number" in text:
        return True
    if not (found := re.search(r"in ([\[(])([^,\]\[()]+), ([^\])]+?)([\])])", text)):
        return True
    left, low, high, right = found.groups()
    low, high = _number(low, -np.inf), _number(high, np.inf)
    above = low <= number if left == "[" else low < number
    return above and (number <= high if right == "]" else number < high)


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text.strip())
    except ValueError:
        return otherwise


def _takes(value: Any, count: int) -> bool:
    """Return whether a value is a function that takes so many arguments."""
    if not callable(value):
        return False
    try:
        inspect.signature(value).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_real_array(value: Any) -> bool:
    """Return whether a value is real numbers of any shape."""
    return _is_real(value, "", any_shape=True)


def is_positive_number(value: Any) -> bool:
    """Return whether a value is one positive number, as the largest curvature is."""
    return _is_real(value, "in (0, inf)", any_shape=False)


def is_tree_of_floats(value: Any) -> bool:
    """Return whether each leaf of a tree is floating, as parameters are."""
    return all(
        np.asarray(leaf).dtype.kind in "fc"
        for leaf in jax.tree.leaves(value)
        if not isinstance(leaf, jax.Array)
    )


def is_tree_of_params(value: Any) -> bool:
    """Return whether each array of a tree is floating; other leaves, as of a module, are kept."""
    arrays = (int, float, complex, np.ndarray, jax.Array)
    return is_tree_of_floats([leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, arrays)])


def is_empty_array(value: Any) -> bool:
    """Return whether a value is an array of shape (0,)."""
    return isinstance(value, np.ndarray) and value.shape == (0,)


def has_no_leaves(value: Any) -> bool:
    """Return whether a value is a tree without leaves."""
    return not jax.tree.leaves(value)


def is_empty(value: Any) -> bool:
    """Return whether a value is a container without items; a text is none."""
    return isinstance(value, list | tuple | dict | set | np.ndarray) and not len(value)


def is_path(value: Any) -> bool:
    """Return whether a value is the path of a file or a folder."""
    return isinstance(value, str | os.PathLike) and bool(str(value))


def is_mask(value: Any) -> bool:
    """Return whether a value is a tree of bools or a function of the parameters."""
    return _takes(value, 1) or all(isinstance(leaf, bool) for leaf in jax.tree.leaves(value))


def is_tree_of_numbers(value: Any, least: int, most: int) -> bool:
    """Return whether a value is a tree of whole numbers or a function of the parameters."""
    return _takes(value, 1) or all(
        _is_number(leaf) and least <= leaf <= most for leaf in jax.tree.leaves(value)
    )


# What an argument may be where its annotation does not say it, by its name or by both names.
def are_all(values: Any, kind: type) -> bool:
    return bool(values) and all(isinstance(value, kind) for value in values)


RULES: dict[str, _Rule] = {
    "outer.axis": lambda value: isinstance(value, str) and bool(value),
    "orthogonalize.where": lambda value: is_mask(value),
    "orthogonalize.heads": lambda value: is_tree_of_numbers(value, least=-32, most=31),
    "orthogonalize.split": lambda value: is_tree_of_numbers(value, least=1, most=LARGEST),
    "Measurements.history": lambda value: isinstance(value, dict) and not value,
    "Measurements.latest": lambda value: isinstance(value, dict) and not value,
    # The path of a monitor that is the whole state is empty.
    "measurements.path": lambda value: isinstance(value, str) and not value,
    "monitor.per": lambda value: (
        value in ("model", "leaf")
        if isinstance(value, str)
        else _takes(value, 1) or are_all(jax.tree.leaves(value), str)
    ),
    "separator": lambda value: isinstance(value, str) and value != "",
    "train_step.monitor": lambda value: (
        value is None or isinstance(value, bool) or (isinstance(value, dict) and not value)
    ),
    "mu": is_real_array,
    "Best.value": lambda value: isinstance(value, float),
    "Best.standard_error": lambda value: isinstance(value, float),
    "Best.point": lambda value: isinstance(value, dict),
    "Costs.hashes": lambda value: isinstance(value, dict),
    "Costs.load.path": is_path,
    "Costs.save.path": is_path,
    "Entry.description": lambda value: isinstance(value, str),
    "Entry.make": lambda value: callable(value),
    "Entry.name": lambda value: isinstance(value, str),
    "Entry.of.name": lambda value: value is None or isinstance(value, str),
    "Result.hashes": lambda value: isinstance(value, dict),
    "Result.load.path": is_path,
    "Result.save.path": is_path,
    "Result.select.methods": lambda value: value is None or is_empty(value),
    "Result.select.tasks": lambda value: value is None or is_empty(value),
    "run.report": lambda value: _takes(value, 4),
    "Task.measure.loss": lambda value: isinstance(value, float) or is_real_array(value),
    "Task.name": lambda value: isinstance(value, str),
    "Task.description": lambda value: isinstance(value, str),
    "Task.source": lambda value: isinstance(value, str),
    "Task.checksum": lambda value: isinstance(value, str),
    "Task.load": lambda value: _takes(value, 0),
    "Task.init": lambda value: _takes(value, 2),
    "Task.draw": lambda value: _takes(value, 3),
    "Task.loss": lambda value: _takes(value, 3),
    "Task.score": lambda value: _takes(value, 2),
    "Task.validate": lambda value: value is None or _takes(value, 2),
    "Task.batch_size": lambda value: value is None or _is_count(value, ""),
    "SweepResult.values": has_no_leaves,
    "HalvingResult.values": has_no_leaves,
    "SearchResult.values": has_no_leaves,
    "HalvingResult.states": lambda value: (
        has_no_leaves(value) or getattr(value, "shape", None) == (0,)
    ),
    "heatmap.curvature": is_positive_number,
    "theory_overlay.curvature": is_positive_number,
    "theory_overlay.color": lambda value: isinstance(value, str) and is_color_like(value),
    "label": lambda value: isinstance(value, str),
    "hessian": is_real_array,
    "Spectrum.below.curvatures": is_real_array,
    "Spectrum.density.curvatures": is_real_array,
    "SweepResult.load.path": is_path,
    "SweepResult.save.path": is_path,
    "HalvingResult.load.path": is_path,
    "SearchResult.load.path": is_path,
    "HalvingResult.save.path": is_path,
    "SearchResult.save.path": is_path,
    "Counterpart.axes": lambda value: isinstance(value, list | np.ndarray) and len(value) == 0,
    "Counterpart.name": lambda value: isinstance(value, str) or (_is_number(value) and value >= 0),
    "where.beta": lambda value: _is_number(value) and value == 0,
    "from_keras.name": lambda value: True,  # Keras's name of an optimizer has no effect.
    "from_torch.foreach": lambda value: True,  # It does not change any step.
    "seed": lambda value: _is_number(value) and 0 <= value < 2**32,
    "step.direction": is_real_array,
    "step.values": is_real_array,
    "mode_of.metric": lambda value: isinstance(value, str),
    "restart.path": lambda value: isinstance(value, str),
    "store": is_path,
    "update.value": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "curvature.params": is_tree_of_floats,
    "init.params": is_tree_of_params,
    "rollout.params": is_tree_of_floats,
    "sgd.mask": is_mask,
    "muon.mask": is_mask,
    "muon.heads": lambda value: is_tree_of_numbers(value, least=-32, most=31),
    "muon.split": lambda value: is_tree_of_numbers(value, least=1, most=LARGEST),
    "hyperball.where": is_mask,
    "roles.params": is_tree_of_params,
    "from_torch_muon.foreach": lambda value: True,  # It does not change any step.
    "stored.where": is_mask,
    "schedule.count": lambda value: _is_count(value, "at least 0"),
    "state_space.params": is_tree_of_floats,
    "train_step.loss": lambda value: _takes(value, 1),  # It is called in the first step.
}
