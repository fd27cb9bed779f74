"""Metrics: whether the smallest or the largest value is best, and where one reaches a level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from momentax._core import arguments

Mode = Literal["min", "max"]

# The words that say whether the smallest or the largest value of a metric is best.
_SMALLEST = (
    "loss", "losses", "error", "errors", "err", "mse", "rmse", "mae", "nll", "perplexity", "ppl",
    "regret",
)  # fmt: skip
_LARGEST = (
    "accuracy", "accuracies", "acc", "auc", "auroc", "f1", "reward", "rewards", "return", "returns",
)  # fmt: skip
_SAYING = (*_SMALLEST, *_LARGEST)
# The words beside them that do not turn the direction around, and those that do not for an error.
_NEUTRAL = {
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval",
    "evaluation", "held", "out", "holdout", "mean", "average", "avg", "median", "total", "sum",
    "final", "last", "best", "worst", "min", "max", "running", "smoothed",
    "batch", "episode", "classification", "balanced", "macro", "micro", "weighted", "top", "roc",
    "metrics",
}  # fmt: skip
_NEUTRAL_FOR_ERRORS = {
    "squared", "square", "root", "absolute", "relative", "cross", "entropy", "log", "l1", "l2",
    "rate", "value",
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_./@\[\]'\"]+|(?<=[a-z])-(?=[a-z])", re.IGNORECASE)
# Each two words with a hyphen between them; the second may be the first of the next two.
_HYPHENS = re.compile(r"([a-z]+)-(?=([a-z]+))", re.IGNORECASE)
# Parts of a word in the style of camelCase; digits at the end belong to the part.
_PARTS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def mode_in_name(metric: str) -> Mode | None:
    """Return whether the smallest or largest value is best, if the name leaves no doubt.

    Each word must say the same or be known not to turn it around, since "neg_loss",
    "loss_improvement" and "steps_to_accuracy" are not best where a loss or an accuracy is.
    """
    words = [word for word in _SEPARATORS.split(metric) if word]
    pairs = [(a.lower(), b.lower()) for a, b in _HYPHENS.findall(metric)]
    if any(a in _NEUTRAL and b in _NEUTRAL for a, b in pairs if (a, b) != ("held", "out")):
        return None  # A difference, as "val-train_loss" is.
    parts = [part.lower() for word in words for part in _PARTS.findall(word)]
    if "".join(parts) != "".join(words).lower() or not words or words[0].isdigit():
        return None  # It has a sign, an operator or another letter, as "1 - loss" does.
    kinds = [
        part.rstrip("0123456789") if part not in (*_SAYING, *_NEUTRAL_FOR_ERRORS) else part
        for part in parts
    ]
    said = [i for i, kind in enumerate(kinds) if kind in _SAYING]
    # Two such words with an operator or other words between them may be a difference or a ratio.
    if not said or said[-1] - said[0] >= len(said) or (len(said) > 1 and re.search("[-/]", metric)):
        return None
    is_largest = {kinds[i] in _LARGEST for i in said}
    neutral = _NEUTRAL if is_largest == {True} else _NEUTRAL | _NEUTRAL_FOR_ERRORS
    if len(is_largest) > 1 or any(kind not in (*_SAYING, *neutral, "") for kind in kinds):
        return None
    return "max" if is_largest == {True} else "min"


def known_mode(metric: str, modes: Mapping[str, str]) -> str | None:
    """Return the mode of a metric from `modes` or else from its name, or None."""
    return modes.get(metric) or mode_in_name(metric)


def require_mode(metric: str, mode: Any, source: str = "name") -> Mode:
    """Return `mode`, or if it is None what the name of the metric says; raise if it does not.

    source: what the message calls the name.
    """
    if mode is not None:
        return arguments.as_option("mode", mode, ("min", "max"))
    if (said := mode_in_name(metric)) is None:
        raise ValueError(
            f'give mode="max" or mode="min": the {source} {arguments.printable(metric)} does not '
            "say whether more or less is better"
        )
    return said


def arrival(values: Any, level: float) -> np.ndarray:
    """Return from which place on the last axis all values are at most a level.

    It is the length of the axis where the last value is above the level, or NaN.
    """
    is_above = ~(np.asarray(values) <= level)
    length = is_above.shape[-1]
    last = length - 1 - np.argmax(is_above[..., ::-1], axis=-1)
    return np.where(is_above.any(axis=-1), last + 1, 0)
