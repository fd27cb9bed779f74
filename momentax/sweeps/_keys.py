"""Random keys as plain numbers, which can be gathered, sent and stored like any others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.typing import PyTree


@partial(jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["impl"])
@dataclass(frozen=True)
class _KeyData:
    data: Any
    impl: Any


def is_key(leaf: Any) -> bool:
    """Whether an array holds random keys."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key))


def without_keys(tree: PyTree) -> PyTree:
    """A tree of arrays whose keys are numbers; its structure remembers them."""

    def plain(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return (
            _KeyData(jax.random.key_data(leaf), jax.random.key_impl(leaf)) if is_key(leaf) else leaf
        )

    return jax.tree.map(plain, tree)


def with_keys(tree: PyTree) -> PyTree:
    """The tree that `without_keys` took."""
    return jax.tree.map(
        lambda n: jax.random.wrap_key_data(n.data, impl=n.impl) if isinstance(n, _KeyData) else n,
        tree,
        is_leaf=lambda n: isinstance(n, _KeyData),
    )
