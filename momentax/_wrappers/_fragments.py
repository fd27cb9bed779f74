"""A tree of parameters split into groups of leaves, which take turns."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from momentax._core import arguments, trees
from momentax._core.typing import PyTree


def as_fragments(name: str, value: Any, every: int) -> Any:
    """Return a number of fragments, or a tree of the number of each leaf's fragment."""
    if not jax.tree_util.all_leaves([value]) and jax.tree.leaves(value):
        return _as_numbers(name, value, every)
    count = arguments.as_count(name, value)
    _require_turns(name, count, every)
    return count


def _as_numbers(name: str, tree: PyTree, every: int) -> PyTree:
    wrong = (
        f"{name} must be a whole number, at least 1, or a tree like the parameters, or a prefix of "
        "one, of whole numbers 0, 1, ..., each of which occurs, got "
    )
    leaves = jax.tree.leaves(tree)
    for leaf in leaves:
        if isinstance(leaf, bool) or not isinstance(leaf, int | np.integer):
            raise TypeError(wrong + arguments.describe(leaf))
    if set(leaves) != set(range(len(set(leaves)))):
        raise ValueError(wrong + arguments.describe(sorted({int(leaf) for leaf in leaves})))
    _require_turns(name, len(set(leaves)), every)
    return jax.tree.map(int, tree)


def _require_turns(name: str, count: int, every: int) -> None:
    if count > every:
        raise ValueError(
            f"{name} must be at most every, since no two fragments are exchanged after the same "
            f"update, got {count} and every={every}"
        )


def count_fragments(fragments: Any) -> int:
    return fragments if isinstance(fragments, int) else len(set(jax.tree.leaves(fragments)))


def number_leaves(fragments: Any, tree: PyTree) -> PyTree:
    """Return the number of the fragment of each leaf of a tree."""
    if not isinstance(fragments, int):
        try:
            return jax.tree.map(lambda i, part: jax.tree.map(lambda _: i, part), fragments, tree)
        except ValueError as error:
            raise ValueError(
                f"fragments must be a tree with the structure of params, or a prefix of it: {error}"
            ) from None
    leaves, structure = jax.tree.flatten(tree)
    if len(leaves) < fragments:
        raise ValueError(
            f"fragments must be at most the number of arrays in the parameters, {len(leaves)}, "
            f"got {fragments}"
        )
    numbers, sizes = [0] * len(leaves), [0] * fragments
    # The largest leaf first, each to the fragment that is the smallest so far.
    for i in sorted(range(len(leaves)), key=lambda i: -np.size(leaves[i])):
        numbers[i] = min(range(fragments), key=lambda each: sizes[each])
        sizes[numbers[i]] += max(np.size(leaves[i]), 1)
    return structure.unflatten(numbers)


def select(numbers: PyTree, number: int, tree: PyTree) -> PyTree:
    """Return the leaves of one fragment, with MaskedNode in the places of the others."""
    return jax.tree.map(
        lambda each, part: part if each in (number, None) else optax.MaskedNode(),
        numbers,
        tree,
        is_leaf=trees.is_absent,
    )


def merge(part: PyTree, tree: PyTree) -> PyTree:
    """Put the leaves of one fragment into a whole tree."""
    return jax.tree.map(
        lambda new, old: old if trees.is_masked(new) else new, part, tree, is_leaf=trees.is_absent
    )
