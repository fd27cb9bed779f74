"""The panels of a dashboard: which readings they show together, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from momentax._core.typing import Reals
from momentax._wrappers._readings import READINGS

_UNITS = {reading.key: reading.unit for reading in READINGS}


class Panel(NamedTuple):
    """What a panel shows.

    title: its title, a few words.
    lines: the reading of each line by its label.
    unit: the label of the vertical axis.
    scale: "linear", "log", or "symlog" for readings that may be negative; a log scale is used
        where all readings are positive.
    marks: horizontal lines with their labels.
    dots: whether readings are dots, since they jump from step to step.
    limits: of the vertical axis; None follows the readings.
    ticks: on the vertical axis; None follows the limits.
    """

    title: str
    lines: dict[str, str]
    unit: str = ""
    scale: str = "log"
    marks: tuple[tuple[float, str], ...] = ()
    dots: bool = False
    limits: tuple[float, float] | None = None
    ticks: tuple[float, ...] | None = None


PANELS = {
    "loss": Panel("loss", {"loss": "loss"}),
    "norms": Panel(
        "norms",
        {
            "gradient": "gradient_norm",
            "gradient, clipped": "clipped_gradient_norm",
            "velocity": "velocity_norm",
            "update": "update_norm",
            "parameters": "parameter_norm",
        },
        "Euclidean norm",
    ),
    "angle": Panel(
        "angle of velocity and gradient",
        {"angle": "angle"},
        "degrees",
        "linear",
        ((90, "at right angles"),),
        limits=(0, 180),
        ticks=(0, 45, 90, 135, 180),
    ),
    "alpha": Panel(
        "where a step lands on the local parabola",
        {"α": "alpha"},
        "α",
        "linear",
        ((-1, "stayed"), (0, "minimum"), (1, "other side")),
        dots=True,
    ),
    "curvature": Panel(
        "curvature along the step",
        {"curvature": "curvature", "stability edge": "edge"},
        "gradient per parameter",
        "symlog",
    ),
    "gain": Panel(
        "gain of the velocity", {"‖v‖ / ‖g‖": "gain", "1 / (1 − β) = 1 + age": "age"}, "‖v‖ / ‖g‖"
    ),
    "effective_learning_rate": Panel(
        "effective learning rate",
        {"‖Δθ‖ / ‖g‖": "effective_learning_rate"},
        "‖Δθ‖ / ‖g‖",
    ),
    "update_ratio": Panel("update ratio", {"‖Δθ‖ / ‖θ‖": "update_ratio"}, "‖Δθ‖ / ‖θ‖"),
    "opposing_share": Panel(
        "velocity against gradient",
        {"share": "opposing_share"},
        "share of entries",
        "linear",
        ((0.5, "as often as not"),),
        limits=(0, 1),
    ),
    "gradient_snr": Panel(
        "signal to noise of gradients",
        {"ratio": "gradient_snr"},
        "signal / noise",
        "symlog",
        ((1, "as much signal as noise"),),
    ),
    "nonfinite": Panel("entries that are not finite", {"number": "nonfinite"}, "entries", "symlog"),
    "headroom": Panel(
        "headroom before overflow", {"headroom": "headroom"}, "powers of ten", "linear"
    ),
}
# Readings that need no panel of their own: the angle shows the cosine and the gain the age.
_SHOWN_ELSEWHERE = {"cos", "age"}
_WIDE = 8  # Readings that span this factor are on a log scale.
_AMPLE = 6  # Powers of ten before overflow that need no panel.


class Series(NamedTuple):
    """The history of one reading.

    key: in the measurements.
    part: the leaf or label that was measured; empty for the whole model.
    reading: what was measured.
    values: the history, NaN where it is not known.
    """

    key: str
    part: str
    reading: str
    values: Reals


def split_keys(history: Mapping[str, Reals]) -> list[Series]:
    """Return the series of a history; a key ends with its reading, whatever the separator."""
    longest_first = sorted(_UNITS, key=len, reverse=True)
    found = []
    for key, values in history.items():
        reading = next((each for each in longest_first if _ends_with(key, each)), key)
        part = key.removesuffix(reading)[:-1]  # Without the separator.
        found.append(Series(key, part, reading, np.asarray(values, np.float64)))
    return found


def _ends_with(key: str, reading: str) -> bool:
    """Return whether a key is a reading, or one of a leaf, behind a separator."""
    before = key.removesuffix(reading)
    return key == reading or (before != key and not before[-1].isalnum() and before[-1] != "_")


class PanelData(NamedTuple):
    """A panel with what it shows: for each line the label and the series of each part."""

    name: str
    panel: Panel
    lines: list[tuple[str, list[Series]]]

    @property
    def values(self) -> Reals:
        """All finite readings of the panel."""
        every = np.concatenate([each.values for _, group in self.lines for each in group])
        return every[np.isfinite(every)]


def fill_panels(series: list[Series]) -> dict[str, PanelData]:
    """Return the panels that have readings, in order; other keys get a panel of their own.

    Readings of several parts have a panel each, since a line for every part would fill one.
    """
    by_reading: dict[str, list[Series]] = {}
    for each in series:
        if np.isfinite(each.values).any():
            by_reading.setdefault(each.reading, []).append(each)
    found = {}
    for name, panel in PANELS.items():
        lines = [
            (label, by_reading[key]) for label, key in panel.lines.items() if key in by_reading
        ]
        if {panel.lines[label] for label, _ in lines} <= _SHOWN_ELSEWHERE:
            continue
        if all(not part.part for _, group in lines for part in group):
            lines = _without_equal_lines(lines)
            found[name] = PanelData(name, panel, [_shifted(each) for each in lines])
        else:
            found |= _panels_of_parts(name, panel, lines)
    known = {key for panel in PANELS.values() for key in panel.lines.values()} | _SHOWN_ELSEWHERE
    for reading, group in by_reading.items():
        if reading not in known:
            panel = Panel(reading, {reading: reading}, scale="symlog")
            found[reading] = PanelData(reading, panel, [(reading, group)])
    return found


def _panels_of_parts(
    name: str, panel: Panel, lines: list[tuple[str, list[Series]]]
) -> dict[str, PanelData]:
    """Return a panel for each reading of several parts."""
    found, joins = {}, len(panel.lines) > 1 and name != "gain"
    for label, group in lines:
        key = panel.lines[label]
        if key not in _SHOWN_ELSEWHERE:
            title = key.replace("_", " ") if joins else panel.title
            own = panel._replace(title=title, unit=panel.unit or label)
            found[key if joins else name] = PanelData(key, own, [(label, group)])
    return found


def without_dull_ones(panels: dict[str, PanelData]) -> list[PanelData]:
    """Leave out what says nothing: entries that are all finite, norms that no clipping changed."""
    clipped = panels.get("clipped_gradient_norm")
    dull = {
        "nonfinite": "nonfinite" in panels and not np.any(panels["nonfinite"].values > 0),
        "headroom": "headroom" in panels and panels["headroom"].values.min() > _AMPLE,
        "clipped_gradient_norm": clipped is not None
        and _are_equal(clipped.lines[0][1], panels["gradient_norm"].lines[0][1]),
    }
    return [data for name, data in panels.items() if not dull.get(name)] or list(panels.values())


def _without_equal_lines(lines: list[tuple[str, list[Series]]]) -> list[tuple[str, list[Series]]]:
    """Leave out the norm of the clipped gradient where no clipping changed it."""
    found = dict(lines)
    gradient, clipped = found.get("gradient"), found.get("gradient, clipped")
    if gradient and clipped and _are_equal(gradient, clipped):
        del found["gradient, clipped"]
    return list(found.items())


def _are_equal(some: list[Series], others: list[Series]) -> bool:
    return len(some) == len(others) and all(
        np.allclose(a.values, b.values, rtol=1e-5, atol=0, equal_nan=True)
        for a, b in zip(some, others, strict=True)
    )


def _shifted(line: tuple[str, list[Series]]) -> tuple[str, list[Series]]:
    """Return a line as it is drawn: the age as the gain that it leads to, 1 + age."""
    label, group = line
    return label, [
        each._replace(values=1 + each.values) if each.reading == "age" else each for each in group
    ]


def scale_of(data: PanelData) -> dict[str, Any]:
    """Return the scale of the vertical axis for matplotlib: a log scale for a wide range."""
    values, scale = data.values, data.panel.scale
    sizes = np.abs(values[values != 0])
    if scale == "linear" or not len(sizes) or sizes.max() <= _WIDE * np.quantile(sizes, 0.1):
        return {"value": "linear"}
    if values.min() >= 0:
        return {"value": "log"}
    return {"value": "symlog", "linthresh": 10.0 ** np.floor(np.log10(np.quantile(sizes, 0.25)))}
