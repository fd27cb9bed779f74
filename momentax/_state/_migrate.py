"""States of checkpoints: put back into their classes, from the layouts of older versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax._core.version import momentax_version
from momentax._state import _flax
from momentax._state._names import leaf_names

Name = tuple[str, ...]
Leaves = Mapping[Name, Any]


class Migration(NamedTuple):
    """A change of the layout of some states.

    version: the first version of momentax that has the new layout, such as "0.2.0".
    change: a function from the arrays of a state by their names, which are tuples such as
        ("1", "velocity", "w"), and from what the new layout must be like, to the arrays by
        their new names. It returns the names of other states unchanged.
    """

    version: str
    change: Callable[[Leaves, PyTree], Leaves]


# In the order of the versions. Whoever changes the fields, the shapes or the meaning of a state
# adds a row, and records the golden checkpoints anew: see tests/contracts/golden.py.
MIGRATIONS: tuple[Migration, ...] = ()


def names_of(like: PyTree, kind: type) -> list[Name]:
    """Return the name of each node of a class in a state, for the function of a migration."""

    def is_node(node: Any) -> bool:
        return isinstance(node, kind)

    return leaf_names(jax.tree.map(lambda x: 0 if is_node(x) else None, like, is_leaf=is_node))


def migrate(old: PyTree, like: PyTree, *, version: str) -> PyTree:
    """Put the arrays of a checkpoint into a state, from the layout of any version of momentax.

    Arrays are matched by their path: the names of fields, the keys of dictionaries and the indices
    in tuples. So the checkpoint need not have the classes of the state: what Orbax restores without
    a target, or what `flax.serialization.to_state_dict` returns, is enough. If the layout of a
    state has changed since the version that wrote the checkpoint, its arrays are moved to their new
    places. The layout does not change within a version.

    Args:
        old: The state as it was restored: a pytree of dictionaries, lists, tuples or NamedTuples.
        like: The structure, shapes and dtypes of the result: `jax.eval_shape(tx.init, params)`.
        version: The `momentax.__version__` that wrote the checkpoint, such as "0.1.0". Save it with
            the checkpoint.

    Returns:
        The arrays of old in the classes of like.

    Raises:
        ValueError: An array of like has no counterpart in old, or an array of old has none in like,
            a shape or a dtype differs, or the version is newer than the installed one. The message
            names the array.
        TypeError: old or like holds something that is not an array, or version is not a string.

    Example:
        >>> tx = momentax.heavy_ball(0.9)
        >>> raw = tx.init(params)._asdict()  # As a file without classes has it.
        >>> like = jax.eval_shape(tx.init, params)
        >>> state = momentax.states.migrate(raw, like, version=momentax.__version__)
    """
    written, leaves = _as_version(version), _leaves("old", old)
    expected = _leaves("like", like)
    for migration in MIGRATIONS:
        if written < _numbers(migration.version):
            leaves = dict(migration.change(leaves, like))
    _require_equal_names(leaves, expected, version)
    new = [_checked(name, leaves[name], spec) for name, spec in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(like), new)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version such as "0.1.0" or "0.1.0rc1", or none."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def _as_version(version: Any) -> tuple[int, ...]:
    installed = momentax_version()
    text = arguments.as_text("version", version, '"0.1.0"')
    written = _numbers(text)
    if not written:
        raise ValueError(
            "version must be the momentax.__version__ that wrote the checkpoint, such as "
            f"{installed!r}, got {arguments.describe(version)}"
        )
    if written > (_numbers(installed) or written):
        raise ValueError(
            f"version must be at most that of the installed momentax, {installed}, got "
            f"{arguments.describe(version)}: install the version that wrote the checkpoint, or a "
            "newer one"
        )
    return written


def _leaves(argument: str, state: PyTree) -> dict[Name, Any]:
    """Return the arrays of a state by their names."""
    plain = _flax.unwrap(state)
    leaves = dict(zip(leaf_names(plain), jax.tree.leaves(plain), strict=True))
    for name, leaf in leaves.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(
                f"{argument} must hold arrays only, got {arguments.describe(leaf)} at {_text(name)}"
            )
    return leaves


def _text(name: Name) -> str:
    return repr("/".join(name)) if name else "the root"


def _require_equal_names(leaves: Leaves, expected: Leaves, version: str) -> None:
    missing = [name for name in expected if name not in leaves]
    unused = [name for name in leaves if name not in expected]
    if missing or unused:
        differences = [
            f"old {verb} {_text(names[0])}{f' and {len(names) - 1} more' if names[1:] else ''}"
            for verb, names in (("has no array at", missing), ("has an extra array at", unused))
            if names
        ]
        raise ValueError(
            f"old must be the state that like describes, in the layout of momentax {version}: "
            f"{', and '.join(differences)}. Give like of the same optimizer and parameters"
        )


def _checked(name: Name, leaf: Any, spec: Any) -> jax.Array:
    """Return an array of a checkpoint, checked to have the shape and the dtype of another one."""
    if np.shape(leaf) != np.shape(spec) or leaf.dtype != spec.dtype:
        raise ValueError(
            f"old must have the shapes and dtypes of like, got {leaf.dtype}{list(leaf.shape)} at "
            f"{_text(name)}, where like has {spec.dtype}{list(spec.shape)}"
        )
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
