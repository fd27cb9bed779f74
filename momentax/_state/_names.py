"""Names of leaves, such as "layer/kernel", alike for every container of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax._state import _flax


def leaf_names(tree: PyTree) -> list[tuple[str, ...]]:
    """Return the name of each leaf in its parts, in the order of the leaves.

    A part is the key of a dictionary, the name of a field or the number of an item. A Variable
    of Flax is one leaf, whatever it is called inside.
    """
    return [
        tuple(map(_part, path))
        for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_flax.is_variable)
        for _ in jax.tree.leaves(node)
    ]


def _part(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def join_names(names: Iterable[tuple[str, ...]], separator: str) -> list[str]:
    """Join the parts of each name; two names that become equal are refused."""
    joined = [separator.join(parts) for parts in names]
    if len(set(joined)) < len(joined):
        twice = next(name for name in joined if joined.count(name) > 1)
        raise ValueError(
            f"two leaves are both called {twice!r} with separator={separator!r}; give another "
            'separator, such as separator="."'
        )
    return joined


def as_separator(separator: Any) -> str:
    """Return a separator of the parts of names, checked to be a string."""
    return arguments.as_text("separator", separator, '"/"')
