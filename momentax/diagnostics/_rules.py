"""All rules of `explain`."""

from __future__ import annotations

from momentax.diagnostics import (
    _leaf_rules,
    _length_rules,
    _progress_rules,
    _stability_rules,
)

RULES = (
    *_stability_rules.RULES,
    *_progress_rules.RULES,
    *_length_rules.RULES,
    *_leaf_rules.RULES,
)
