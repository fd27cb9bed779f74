"""Metrics: the leaves of what a sweep returns, by name, and which end of them is best."""

from __future__ import annotations

import re
from typing import Any

import jax

from momentax._core.typing import PyTree

# A metric with one of these words in its name is the better the greater it is.
GOOD_WORDS = ("accuracy", "acc", "auc", "f1", "reward", "return")


def metrics(values: PyTree) -> dict[str, Any]:
    """Every leaf by its name; where two paths would read alike, all are written as in Python."""
    leaves, _ = jax.tree.flatten_with_path(values)
    keystr = jax.tree_util.keystr
    names = [keystr(path, simple=True, separator=".") or "value" for path, _ in leaves]
    if len(set(names)) < len(names):
        names = [keystr(path) for path, _ in leaves]
    return {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}


def direction(metric: str) -> str:
    """Which end of a metric is best, by its name: "max" where a word of it is good."""
    words = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*", metric)
    return "max" if any(w.lower().removesuffix("s") in GOOD_WORDS for w in words) else "min"
