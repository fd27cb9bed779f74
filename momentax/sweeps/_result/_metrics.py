"""Metrics: the leaves of what a sweep returns, by name."""

from __future__ import annotations

from typing import Any

import jax

from momentax._core.typing import PyTree


def name_leaves(values: PyTree) -> dict[str, Any]:
    """Return every leaf by its name; if two names were equal, all are written as in Python."""
    leaves, _ = jax.tree.flatten_with_path(values)
    keystr = jax.tree_util.keystr
    names = [keystr(path, simple=True, separator=".") or "value" for path, _ in leaves]
    if len(set(names)) < len(names):
        names = [keystr(path) for path, _ in leaves]
    return {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
