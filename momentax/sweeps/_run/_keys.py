"""Random keys as plain numbers, which can be gathered, sent and kept like any others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.arguments import is_key
from momentax._core.typing import PyTree


@partial(jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["impl"])
@dataclass(frozen=True)
class RandomKey:
    """The numbers of random keys, and their implementation."""

    data: Any
    impl: Any


def unwrap_keys(tree: PyTree) -> PyTree:
    """Replace random keys by their numbers; the tree's structure keeps their implementation."""

    def unwrap(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if not is_key(leaf):
            return leaf
        return RandomKey(jax.random.key_data(leaf), jax.random.key_impl(leaf))

    return jax.tree.map(unwrap, tree)


def wrap_keys(tree: PyTree) -> PyTree:
    """Undo `unwrap_keys`."""
    return jax.tree.map(
        lambda n: jax.random.wrap_key_data(n.data, impl=n.impl) if isinstance(n, RandomKey) else n,
        tree,
        is_leaf=lambda n: isinstance(n, RandomKey),
    )
