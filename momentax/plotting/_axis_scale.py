"""Where the values of an axis of a sweep are drawn, and how its ticks are labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from momentax._core.hyperparameters import SCALES, interval_of, scale_of
from momentax._core.without_jax import is_within

_WIDE = 100  # Positive numbers that span this factor are drawn on a log scale.
_ZERO_SHARE = 1 / 8  # The least distance of 0 from the other values, as a share of their span.
_LONGEST_WORD = 24
_LABELS = {"learning_rate": "learning rate α", "beta": "β, on a log scale of 1 − β"}


@dataclass(frozen=True)
class NumberScale:
    """The scale of an axis of numbers.

    label: the name of the axis.
    values: the values on the axis.
    scale: a name in `hyperparameters.SCALES`; on that scale equal steps look equal. On a log
        scale 0 has a place of its own, below the smallest positive value.
    ticks_at_values: whether ticks are at the values, as long as there are not many more of
        these than ticks; otherwise ticks are at round numbers.
    """

    label: str
    values: np.ndarray
    scale: str
    ticks_at_values: bool = True

    @property
    def has_zero(self) -> bool:
        """Whether one of the values is 0 and has a place of its own."""
        return self.scale == "log" and bool(np.any(self.values == 0))

    def positions(self, values: Any) -> np.ndarray:
        """Return where values are drawn."""
        values = np.asarray(values, np.float64)
        if not self.has_zero:
            return np.asarray(SCALES[self.scale].forward(values))
        zero, _ = self._zero_and_least()
        return np.where(values == 0, zero, np.log(np.where(values == 0, 1, values)))

    def coordinates(self, values: Any) -> np.ndarray:
        """Return where values are drawn on an axis of matplotlib with this scale.

        Only the coordinate of 0 on a log scale differs from the value.
        """
        values = np.asarray(values, np.float64)
        if not self.has_zero:
            return values
        return np.where(values == 0, np.exp(self._zero_and_least()[0]), values)

    def values_at(self, positions: Any) -> np.ndarray:
        """Undo `positions`; on a log scale the places nearest to that of 0 belong to 0."""
        values = np.asarray(SCALES[self.scale].inverse(np.asarray(positions, np.float64)))
        if not self.has_zero:
            return values
        return np.where(positions < np.mean(self._zero_and_least()), 0, values)

    def _zero_and_least(self) -> tuple[float, float]:
        """Return the positions of 0 and of the smallest positive value, one usual step apart."""
        positive = np.log(np.unique(self.values[self.values > 0].astype(np.float64)))
        if not positive.size:
            return 0.0, 1.0
        span, steps = float(positive[-1] - positive[0]), len(positive) - 1
        step = max(span / steps, span * _ZERO_SHARE) if steps else np.log(10)
        return float(positive[0] - step), float(positive[0])

    def ticks(self, count: int) -> tuple[np.ndarray, list[str]]:
        """Return the positions and the labels of at most about `count` ticks, in order."""
        values = np.unique(self.values)
        if len(values) > max(2 * count if self.ticks_at_values else 0, 1):
            zero, others = (values[:1], values[1:]) if self.has_zero else (values[:0], values)
            rounded = _round_values(self.scale, float(others[0]), float(others[-1]), count)
            values = np.append(zero, rounded if len(rounded) > 1 else others[[0, -1]])
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
        scale = "log" if is_wide(values) and not _are_even(values) else "linear"
    return NumberScale(_LABELS.get(name) or _label(name, scale), values, scale)


def metric_scale(name: str, values: np.ndarray, log: bool) -> NumberScale:
    """Return the scale of a metric, with ticks at round numbers."""
    scale = "log" if log else "linear"
    return NumberScale(_label(name, scale), values, scale, ticks_at_values=False)


def is_wide(values: np.ndarray) -> bool:
    """Return whether numbers are positive or 0 and span so much that they need a log scale."""
    positive = values[values > 0]
    if not positive.size or values.min() < 0:
        return False
    return bool(positive.max() / positive.min() >= _WIDE * (1 - 1e-6))  # Also after rounding.


def _are_even(values: np.ndarray) -> bool:
    """Return whether at least three numbers are evenly spaced, as on a linear scale."""
    gaps = np.diff(np.unique(values.astype(np.float64)))
    return len(gaps) > 1 and bool(np.ptp(gaps) <= 0.01 * gaps.mean())


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
