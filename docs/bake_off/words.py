"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_COUNTS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number of things, up to sixteen as a word: "two tasks"."""
    word = _COUNTS[number] if number < len(_COUNTS) else f"{number:,}"
    return f"{word} {noun if number == 1 else plural or noun + 's'}"


def capital(sentence: str) -> str:
    """Write the first letter of a sentence as a capital, unless it is code."""
    return sentence[:1].upper() + sentence[1:]


def listed(items: Iterable[str], word: str = "and") -> str:
    """Join items in a sentence: "a, b and c"."""
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last


def code(names: Iterable[str], word: str = "and") -> str:
    """Join names of methods or tasks in a sentence, as code."""
    return listed([f"`{name}`" for name in names], word)


def number(value: float) -> str:
    """Write a speed-up or a share."""
    return f"{value:.2f}"


def setting(hyperparameters: dict[str, float]) -> str:
    """Write hyperparameters: "effective_rate 0.52, beta 0.93"."""
    return ", ".join(f"{name} {value:.3g}" for name, value in hyperparameters.items())


def markdown(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Write a table of Markdown; the first row is the head.

    texts: how many of its first columns are texts; the others are numbers, on the right.
    """
    head, *body = [[escape(text) for text in row] for row in rows]
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    for letter in "|*<>~":
        text = text.replace(letter, f"\\{letter}")
    return text


def median(values: Iterable[Any]) -> float:
    """Return the median of numbers that may be infinite; NaN of none."""
    found = np.asarray([*values], float)
    return float(np.median(found)) if found.size else float("nan")
