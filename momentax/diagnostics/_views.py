"""Views of measurements for the rules of `explain`: of the whole model and of each part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from momentax._core.typing import Reals
from momentax._wrappers._readings import READINGS


class View(NamedTuple):
    """The history of the readings of the model, or of one part of it.

    name: the name of the leaf or label; empty for the model.
    counts: the count of the update of each row, oldest first.
    series: the readings by key, with NaN where a reading is unknown.
    learning_rate: α, None where it is unknown.
    beta: β, None where it is unknown.
    model: the view of the whole model; None if this is it.
    """

    name: str
    counts: Reals
    series: Mapping[str, Reals]
    learning_rate: float | None
    beta: float | None
    model: View | None

    @property
    def memory(self) -> float:
        """1 / (1 - β), the number of steps that the velocity remembers; 10 where β is unknown."""
        return 10.0 if self.beta is None else 1 / (1 - self.beta)

    def has(self, *keys: str) -> bool:
        """Return whether each reading is known at least once."""
        return all(key in self.series and np.any(_is_known(key, self.series[key])) for key in keys)

    def select(self, *keys: str) -> tuple[Reals, ...]:
        """Return the counts at which all of some readings are known, and these readings.

        What has overflowed is not known, but a reading that may be infinite stays so.
        """
        known = np.all([_is_known(key, self.series[key]) for key in keys], axis=0)
        return self.counts[known], *(self.series[key][known] for key in keys)


_MAY_BE_INFINITE = {reading.key for reading in READINGS if reading.range.endswith("inf]")}


def _is_known(key: str, values: Reals) -> Any:
    return ~np.isnan(values) if key in _MAY_BE_INFINITE else np.isfinite(values)


class Span(NamedTuple):
    """A stretch of readings in which something mostly holds.

    start: the index of the first reading.
    stop: the index of the one after the last.
    hits: the number of readings in it that have the property.
    """

    start: int
    stop: int
    hits: int

    @property
    def total(self) -> int:
        """The number of readings."""
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """The slice of its readings."""
        return slice(self.start, self.stop)


def densest_span(holds: Any, share: float) -> Span | None:
    """Return the stretch of readings that have a property most often, or None if none has it.

    Of all stretches it maximizes hits - share · total, so that hits exceed this share in it.
    """
    holds = np.asarray(holds, bool)
    if not holds.any():
        return None
    total = np.concatenate([[0.0], np.cumsum(holds - share)])
    lowest = np.minimum.accumulate(total[:-1])
    stop = int(np.argmax(total[1:] - lowest)) + 1
    start = int(np.flatnonzero(total[:stop] == lowest[stop - 1])[-1])
    return Span(start, stop, int(np.sum(holds[start:stop])))


def significant_hits(readings: int) -> int:
    """Return how many hits a stretch needs, so that chance makes none in a history.

    Where chance hits a quarter of the readings, a stretch of so many hits that are three fifths
    of its readings occurs in less than one of a hundred histories of a hundred readings or more.
    """
    return max(10, int(np.ceil(4 * np.log(max(readings, 1)))))


def runs_of(holds: Any) -> int:
    """Return the number of unbroken runs in which a property holds."""
    padded = np.concatenate([[False], np.asarray(holds, bool)])
    return int(np.sum(padded[1:] & ~padded[:-1]))


def spacing(counts: Reals) -> float:
    """Return the usual number of updates from one reading to the next."""
    return float(np.median(np.diff(counts))) if len(counts) > 1 else 1.0


def shifted(value: Any, share: float) -> Any:
    """Return a value that is higher, or lower, by a share of its size; it may be negative."""
    return value + share * np.abs(value)


def log_slopes(counts: Reals, size: Reals) -> Reals:
    """Return the change of log(size) per step between readings; a size of 0 counts as 1e-300."""
    return np.diff(np.log(np.maximum(size, 1e-300))) / np.diff(counts)


def age_to_beta(age: Reals) -> float | None:
    """Return the β whose velocity has the last mean lag that was read, β / (1 - β)."""
    known = age[(age >= 0) & (age < 1e12)]  # A larger one would round β to 1.
    return float(known[-1] / (1 + known[-1])) if len(known) else None


# The longest first, since one name may end with another.
_READINGS = sorted((reading.key for reading in READINGS), key=len, reverse=True)


def split_by_part(history: Mapping[str, Reals]) -> dict[str, dict[str, Reals]]:
    """Return the readings of each part by its name, those of the model first and named "".

    The readings of the model that follow from those of its parts are computed.
    """
    parts: dict[str, dict[str, Reals]] = {"": {}}
    for key, values in history.items():
        reading = next((name for name in _READINGS if key.endswith(name)), key)
        name = key.removesuffix(reading).rstrip("/.:-_ ")  # Without the separator.
        parts.setdefault(name, {})[reading] = values
    if others := [series for name, series in parts.items() if name]:
        with np.errstate(all="ignore"):
            parts[""] = _combine(others) | parts[""]
    return parts


_NORMS = (
    "gradient_norm",
    "clipped_gradient_norm",
    "velocity_norm",
    "update_norm",
    "parameter_norm",
)
_RATIOS = {
    "gain": ("velocity_norm", "gradient_norm"),
    "effective_learning_rate": ("update_norm", "gradient_norm"),
    "update_ratio": ("update_norm", "parameter_norm"),
}
_TOTALS = {"nonfinite": np.sum, "age": np.max, "headroom": np.min}


def _combine(parts: list[dict[str, Reals]]) -> dict[str, Reals]:
    """Return the readings of the model that follow from those of all of its parts."""

    def of_all(key: str) -> Reals | None:
        found = [part[key] for part in parts if key in part]
        return np.stack(found) if len(found) == len(parts) else None

    model: dict[str, Reals] = {}
    for key in _NORMS:
        if (values := of_all(key)) is not None:
            model[key] = np.sqrt(np.sum(np.square(values), axis=0))
    for key, (above, below) in _RATIOS.items():
        if above in model and below in model:
            model[key] = model[above] / model[below]
    for key, total in _TOTALS.items():
        if (values := of_all(key)) is not None:
            model[key] = total(values, axis=0)
    cosines, g, v = of_all("cos"), of_all("gradient_norm"), of_all("velocity_norm")
    if cosines is not None and g is not None and v is not None:
        # The cosine of a part without gradient or velocity is unknown, and adds nothing.
        products = np.where(g * v == 0, 0, cosines * g * v)
        cos = np.sum(products, axis=0) / (model["gradient_norm"] * model["velocity_norm"])
        model["cos"] = np.clip(cos, -1, 1)
        model["angle"] = np.degrees(np.arccos(model["cos"]))
    return model
