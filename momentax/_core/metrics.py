"""Which end of a metric is best, as far as its name says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from momentax._core import arguments

Mode = Literal["min", "max"]

# The words that say which end of a metric is best.
_MODES: dict[str, Mode] = {
    **dict.fromkeys(("loss", "losses", "error", "errors", "err", "mse", "rmse", "mae"), "min"),
    **dict.fromkeys(("nll", "perplexity", "ppl", "regret"), "min"),
    **dict.fromkeys(("accuracy", "accuracies", "acc", "auc", "auroc", "f1"), "max"),
    **dict.fromkeys(("reward", "rewards", "return", "returns"), "max"),
}
# The words beside them that do not turn the direction around, and those that do not for an error.
_NEUTRAL = {
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval",
    "evaluation", "held", "out", "holdout", "mean", "average", "avg", "median", "total", "sum",
    "final", "last", "first", "initial", "best", "worst", "min", "max", "running", "smoothed",
    "batch", "episode", "classification", "balanced", "macro", "micro", "weighted", "top", "roc",
    "metrics",
}  # fmt: skip
_NEUTRAL_FOR_ERRORS = {
    "squared", "square", "root", "absolute", "relative", "cross", "entropy", "log", "l1", "l2",
    "rate", "value",
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_./@\[\]'\"]+|(?<=[a-z])-(?=[a-z])", re.IGNORECASE)
# Parts of a word in the style of camelCase; digits at the end belong to the part.
_PARTS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def mode_in_name(metric: str) -> Mode | None:
    """Return which end of a metric is best, if its name says so beyond doubt, else None.

    Each word must say the same end or be known not to turn it around, since "neg_loss",
    "loss_improvement" and "steps_to_accuracy" are not best where a loss or an accuracy is.
    """
    words = [word for word in _SEPARATORS.split(metric) if word]
    parts = [part.lower() for word in words for part in _PARTS.findall(word)]
    if "".join(parts) != "".join(words).lower() or not words or words[0].isdigit():
        return None  # It has a sign, an operator or another letter, as "1 - loss" does.
    kinds = [
        part.rstrip("0123456789") if part not in (*_MODES, *_NEUTRAL_FOR_ERRORS) else part
        for part in parts
    ]
    said = [i for i, kind in enumerate(kinds) if kind in _MODES]
    # Two such words with an operator or other words between them may be a difference or a ratio.
    if not said or said[-1] - said[0] >= len(said) or (len(said) > 1 and re.search("[-/]", metric)):
        return None
    modes = {_MODES[kinds[i]] for i in said}
    neutral = _NEUTRAL | _NEUTRAL_FOR_ERRORS if modes == {"min"} else _NEUTRAL
    is_clear = len(modes) == 1 and all(kind in (*_MODES, *neutral, "") for kind in kinds)
    return modes.pop() if is_clear else None


def known_mode(metric: str, modes: Mapping[str, str]) -> str | None:
    """Return which end of a metric is best, as `modes` or else its name says, or None."""
    return modes.get(metric) or mode_in_name(metric)


def require_mode(metric: str, mode: Any, source: str = "its name") -> Mode:
    """Return which end of a metric is best: `mode`, or if it is None what the name says.

    source: what is called the name in the message.
    """
    if mode is not None:
        return arguments.as_option("mode", mode, ("min", "max"))
    if (said := mode_in_name(metric)) is None:
        raise ValueError(
            f"mode must say which end of the metric {arguments.printable(metric)} is best, since "
            f'{source} does not: write mode="max" where more is better, mode="min" where less is'
        )
    return said
