"""Metrics: the leaves of what a sweep returns, by name, and which end of each is best."""

from __future__ import annotations

import re
from typing import Any

import jax

from momentax._core.typing import PyTree

# A metric whose name contains one of these words is maximized.
MAXIMIZED_WORDS = ("accuracy", "acc", "auc", "f1", "reward", "return")


def name_leaves(values: PyTree) -> dict[str, Any]:
    """Return every leaf by its name; if two names were equal, all are written as in Python."""
    leaves, _ = jax.tree.flatten_with_path(values)
    keystr = jax.tree_util.keystr
    names = [keystr(path, simple=True, separator=".") or "value" for path, _ in leaves]
    if len(set(names)) < len(names):
        names = [keystr(path) for path, _ in leaves]
    return {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}


def default_mode(metric: str) -> str:
    """Return "max" for a metric whose name contains a word that is maximized, else "min"."""
    words = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*", metric)
    return "max" if any(w.lower().removesuffix("s") in MAXIMIZED_WORDS for w in words) else "min"
