"""Where the values of an axis of a sweep are drawn, and how its ticks are labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import is_within
from momentax._core.hyperparameters import SCALES, interval_of, scale_of

_WIDE = 100  # Positive numbers that span more than this factor are drawn on a log scale.
_LONGEST_WORD = 24
_LABELS = {"learning_rate": "learning rate α", "beta": "β, on a log scale of 1 − β"}


@dataclass(frozen=True)
class NumberScale:
    """The scale of an axis of numbers.

    label: the name of the axis.
    values: the values on the axis.
    scale: a name in `hyperparameters.SCALES`; on that scale equal steps look equal.
    ticks_at_values: whether ticks are at the values, as long as there are not many more of
        these than ticks; otherwise ticks are at round numbers.
    """

    label: str
    values: np.ndarray
    scale: str
    ticks_at_values: bool = True

    def positions(self, values: Any) -> np.ndarray:
        """Return where values are drawn."""
        return np.asarray(SCALES[self.scale].forward(np.asarray(values, np.float64)))

    def ticks(self, count: int) -> tuple[np.ndarray, list[str]]:
        """Return the positions and the labels of at most about `count` ticks, in order."""
        values = np.unique(self.values)
        if len(values) > max(2 * count if self.ticks_at_values else 0, 1):
            rounded = _round_values(self.scale, float(values[0]), float(values[-1]), count)
            values = rounded if len(rounded) > 1 else values[[0, -1]]
        positions = self.positions(values)
        gap = 0.999 * np.ptp(positions) / count
        kept: list[int] = []
        for i, position in enumerate(positions):
            if not kept or position - positions[kept[-1]] >= gap:
                kept.append(i)
        return positions[kept], tick_labels(values[kept], self.scale)


@dataclass(frozen=True)
class CategoryScale:
    """The scale of an axis of words or other objects, one unit apart in order of appearance.

    label: the name of the axis.
    values: the values on the axis.
    """

    label: str
    values: np.ndarray

    @property
    def _categories(self) -> list[Any]:
        return list(dict.fromkeys(self.values))

    def positions(self, values: Any) -> np.ndarray:
        """Return where values are drawn."""
        categories = self._categories
        return np.array([categories.index(value) for value in values], float)

    def ticks(self, count: int) -> tuple[np.ndarray, list[str]]:
        """Return the positions and the labels of all categories, whatever the count."""
        del count
        words = [_shorten(value) for value in self._categories]
        labels = [
            f"{word} ({i})" if words.count(word) > 1 else word for i, word in enumerate(words)
        ]
        return np.arange(len(words), dtype=float), labels


def axis_scale(name: str, values: np.ndarray) -> NumberScale | CategoryScale:
    """Return the scale of an axis of points."""
    if values.dtype == object:
        return CategoryScale(name, values)
    return number_scale(name, values)


def number_scale(name: str, values: np.ndarray) -> NumberScale:
    """Return the scale of an axis of numbers, that of its hyperparameter if it is not linear."""
    scale = scale_of(name)
    if scale == "linear" or not np.all(is_within(interval_of(name), values)):
        scale = "log" if is_wide(values) else "linear"
    return NumberScale(_LABELS.get(name) or _label(name, scale), values, scale)


def metric_scale(name: str, values: np.ndarray, log: bool) -> NumberScale:
    """Return the scale of a metric, with ticks at round numbers."""
    scale = "log" if log else "linear"
    return NumberScale(_label(name, scale), values, scale, ticks_at_values=False)


def is_wide(values: np.ndarray) -> bool:
    """Return whether numbers are positive and span so much that they need a log scale."""
    return bool(values.size and values.min() > 0 and values.max() > _WIDE * values.min())


def tick_labels(values: np.ndarray, scale: str) -> list[str]:
    """Return the shortest labels of numbers, ascending, that place each one and differ.

    A label's error is at most a twentieth of the number, and on the scale "momentum" of
    1 - β, so that β = 0.999999 does not read 1.
    """
    if np.asarray(values).dtype.kind in "iu":
        return [str(value) for value in np.sort(values)]
    exact = np.sort([float(str(value)) for value in values])  # 0.9 also in float32.
    errors = 0.05 * (1 - exact if scale == "momentum" else np.abs(exact))
    labels: list[str] = []
    for digits in range(3, 18):
        labels = [
            _shortest_label(value, error, digits)
            for value, error in zip(exact, errors, strict=True)
        ]
        if len(set(labels)) == len(labels):
            break
    return labels


def _shortest_label(value: float, error: float, digits: int) -> str:
    """Return a number with at least so many significant digits that its error is allowed."""
    labels = (f"{value:.{more}g}" for more in range(digits, 18))
    return next(label for label in labels if abs(float(label) - value) <= error)


def _label(name: str, scale: str) -> str:
    return (
        name
        + {
            "linear": "",
            "log": ", on a log scale",
            "momentum": f", on a log scale of 1 − {name}",
        }[scale]
    )


def _shorten(value: Any) -> str:
    word = getattr(value, "__name__", None) or str(value)
    return word if len(word) <= _LONGEST_WORD else f"{word[: _LONGEST_WORD - 1]}…"


def _round_values(scale: str, low: float, high: float, count: int) -> np.ndarray:
    """Return round numbers from low to high, on a log scale powers of ten and 2, 5 times these."""
    if scale == "momentum":  # The numbers 1 - β are round.
        return np.unique(1 - _round_values("log", 1 - high, 1 - low, count).round(15))
    if scale == "linear":
        return _within(np.asarray(MaxNLocator(count).tick_values(low, high)), low, high)
    exponents = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    powers = _within(10.0**exponents, low, high)
    finer = _within(np.sort(np.outer((1, 2, 5), 10.0**exponents).ravel()), low, high)
    return finer if len(finer) <= count or len(powers) < 2 else powers


def _within(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return values[(low <= values) & (values <= high)]
