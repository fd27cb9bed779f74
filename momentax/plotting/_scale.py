"""The scales that axes of points are drawn on, and the labels that their values bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

_WIDE = 100  # Positive numbers that span more than this are drawn on a log scale.
_MOST_LETTERS = 24


class Scale(NamedTuple):
    """Where the values of an axis lie on a line, and what is written there.

    label: what the axis is called.
    categories: whether the values are words or other objects, with a place each.
    place: from values to numbers, evenly spaced where the scale is even.
    ticks: places and labels of at most so many values, in order.
    """

    label: str
    categories: bool
    place: Callable[[Any], np.ndarray]
    ticks: Callable[[int], tuple[np.ndarray, list[str]]]


def axis(name: str, values: np.ndarray) -> Scale:
    """The scale of an axis: log for a learning rate, log of 1 - β for a β, places for objects."""
    if values.dtype == object:
        each = list(dict.fromkeys(values))
        words = [_word(value) for value in each]
        words = [f"{word} ({i})" if words.count(word) > 1 else word for i, word in enumerate(words)]
        return Scale(
            name,
            True,
            lambda values: np.array([each.index(value) for value in values], float),
            lambda _: (np.arange(len(each), dtype=float), words),
        )
    if name == "beta":
        return _numbers("β, on a log scale of 1 − β", values, _momentum, _round_momenta, _rest)
    if name == "learning_rate":
        return _numbers("learning rate α", values, np.log, _round_logs, abs)
    return measure(name, values, is_wide(values), most_own=2)


def measure(name: str, values: np.ndarray, log: bool, most_own: float = 0) -> Scale:
    """The scale of any numbers; ticks are round where values are many times what is asked."""
    if log:
        return _numbers(f"{name}, on a log scale", values, np.log, _round_logs, abs, most_own)
    return _numbers(name, values, lambda values: values, _round, abs, most_own)


def is_wide(values: np.ndarray) -> bool:
    """Whether numbers want a log scale."""
    return bool(values.size and values.min() > 0 and values.max() > _WIDE * values.min())


def names(values: np.ndarray, scale: Callable[[Any], Any]) -> list[str]:
    """The shortest labels of numbers, ascending, that no two share and that place each one.

    A label's error is small beside scale(value), so β = 0.999999 does not read 1.
    """
    if np.asarray(values).dtype.kind in "iu":
        return [str(value) for value in np.sort(values)]
    exact = np.sort([float(str(value)) for value in values])  # 0.9, which float32 has not.
    labels: list[str] = []
    for least in range(3, 18):
        tries = [[f"{value:.{digits}g}" for digits in range(least, 18)] for value in exact]
        labels = [
            next(name for name in each if abs(float(name) - value) <= 0.05 * scale(value))
            for value, each in zip(exact, tries, strict=True)
        ]
        if len(set(labels)) == len(labels):
            break
    return labels


def _word(value: Any) -> str:
    word = getattr(value, "__name__", None) or str(value)
    return word if len(word) <= _MOST_LETTERS else f"{word[: _MOST_LETTERS - 1]}…"


def _momentum(values: Any) -> np.ndarray:
    return -np.log1p(-np.asarray(values, np.float64))


def _rest(value: Any) -> Any:
    return 1 - value


def _numbers(
    label: str,
    values: np.ndarray,
    to: Callable[[Any], Any],
    rounded: Callable[[float, float, int], Any],
    size: Callable[[Any], Any],
    most_own: float = 2,
) -> Scale:
    def place(values: Any) -> np.ndarray:
        return np.asarray(to(np.asarray(values, np.float64)), np.float64)

    def ticks(most: int) -> tuple[np.ndarray, list[str]]:
        at = np.unique(values)
        if len(at) > max(most_own * most, 1):
            round_ones = rounded(float(at[0]), float(at[-1]), most)
            at = round_ones if len(round_ones) > 1 else at[[0, -1]]
        places = place(at)
        apart = np.ptp(places) / most
        kept: list[int] = []
        for i, x in enumerate(places):
            if not kept or x - places[kept[-1]] >= 0.999 * apart:
                kept.append(i)
        return places[kept], names(at[kept], size)

    return Scale(label, False, place, ticks)


def _round(low: float, high: float, most: int) -> np.ndarray:
    ticks = np.asarray(MaxNLocator(most).tick_values(low, high))
    return ticks[(low <= ticks) & (ticks <= high)]


def _round_logs(low: float, high: float, most: int) -> np.ndarray:
    """Powers of ten, and between them 2 and 5 times these where there is room."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    finer = np.sort(np.outer((1, 2, 5), powers).ravel())
    inside = [ticks[(low <= ticks) & (ticks <= high)] for ticks in (finer, powers)]
    return inside[0] if len(inside[0]) <= most or len(inside[1]) < 2 else inside[1]


def _round_momenta(low: float, high: float, most: int) -> np.ndarray:
    return np.unique(1 - _round_logs(1 - high, 1 - low, most).round(15))
