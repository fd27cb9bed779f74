"""How far a metric lies from its best value: its colours, and which settings are as good."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, FuncNorm
from matplotlib.figure import Figure

from momentax._core.arguments import as_real
from momentax._core.typing import Reals

_DECADES = 1000  # The factor between the smallest and the largest distance that colours show.
_LEAST_VALUES = 4  # So many distinct values are needed to recognize multiples of a step.
_FEWEST_IMAGES, _MOST_IMAGES = 20, 20_000
_MOST_TICKS = 7


class MetricColours:
    """The colours of a metric: brighter is better, on a log scale of the distance from the best.

    So the settings near the best can be distinguished, however bad the worst are.

    colormap: from the worst to the best if the largest value is best, and back otherwise.
    norm: from the metric to [0, 1].
    extend: the end, "min" or "max", at which values share the darkest colour; or "neither".
    """

    def __init__(self, values: Reals, mode: str, tie: float = 0.0):
        self.sign = -1.0 if mode == "max" else 1.0
        self.best = float(values.max() if mode == "max" else values.min())
        self.colormap: Colormap = mpl.colormaps["viridis" if mode == "max" else "viridis_r"]
        regrets = self.sign * (values - self.best)
        self.unit, self.largest = _regret_scale(regrets, tie)
        worst = self.best + self.sign * self.largest
        self.norm = FuncNorm(
            (self._forward, self._inverse), vmin=min(self.best, worst), vmax=max(self.best, worst)
        )
        beyond = regrets.max() > self.largest * (1 + 1e-9)
        self.extend = ("min" if mode == "max" else "max") if beyond else "neither"

    def _forward(self, values: Any) -> Any:
        regret = np.maximum(self.sign * (np.asarray(values) - self.best), 0)
        return self.sign * np.log1p(regret / self.unit)

    def _inverse(self, positions: Any) -> Any:
        regret = self.unit * np.expm1(np.maximum(self.sign * np.asarray(positions), 0))
        return self.best + self.sign * regret

    def draw_bar(self, figure: Figure, ax: Any, mappable: ScalarMappable, label: str) -> Colorbar:
        """Draw the colour bar, with ticks at the best value and at round distances from it."""
        bar = figure.colorbar(mappable, ax=ax, pad=0.02, extend=self.extend)
        regrets = _round_regrets(self.unit, self.largest)
        values = self.best + self.sign * regrets
        bar.set_ticks(values.tolist(), labels=[f"{value:.4g}" for value in values])
        bar.minorticks_off()
        bar.set_label(f"{label or 'value'}, on a log scale of its distance from the best")
        return bar


def _regret_scale(regrets: Reals, tie: float) -> tuple[float, float]:
    """Return the smallest and the largest distance that colours show."""
    positive = regrets[regrets > 0]
    if not positive.size:
        return 1.0, 1.0
    unit = max(tie, float(positive.min()), float(np.median(positive)) / (_DECADES / 10))
    return unit, min(float(positive.max()), _DECADES * unit)


def _round_regrets(unit: float, largest: float) -> Reals:
    """Return 0 and round distances up to the largest one, evenly spaced on the scale."""
    exponents = 10.0 ** np.arange(np.floor(np.log10(unit)), np.ceil(np.log10(largest)) + 1)
    ladder = np.sort(np.outer((1, 2, 5), exponents).ravel())
    ladder = np.append(0, ladder[(unit / 2 <= ladder) & (ladder <= largest)])
    positions = np.log1p(ladder / unit)
    gap = np.log1p(largest / unit) / _MOST_TICKS
    kept: list[int] = []
    for i, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= gap:
            kept.append(i)
    return ladder[kept]


def as_resolution(resolution: Any, values: Reals, diverged: Any) -> float:
    """Return the smallest difference of a metric that means something; None reads it off."""
    if resolution is not None:
        return as_real("resolution", resolution, "[0, inf)")
    return step_of(values[~np.asarray(diverged) & np.isfinite(values)])


def step_of(values: Reals) -> float:
    """Return the step 1 / n of which numbers in [0, 1] are multiples, or 0 if there is none.

    Accuracies on n test images are such numbers.
    """
    distinct = np.unique(values)
    if len(distinct) < _LEAST_VALUES or distinct[0] < 0 or distinct[-1] > 1:
        return 0.0
    some = distinct[np.linspace(0, len(distinct) - 1, min(len(distinct), 64)).astype(int)]
    counts = np.arange(1, _MOST_IMAGES + 1)
    # Rounding to float32 changes a number by up to 6e-8.
    rest = np.abs(np.multiply.outer(counts, some) - np.rint(np.multiply.outer(counts, some)))
    fits = np.flatnonzero((rest < (0.002 + 1.2e-7 * counts)[:, None]).all(axis=1))
    return float(1 / counts[fits[0]]) if fits.size and counts[fits[0]] >= _FEWEST_IMAGES else 0.0


def find_ties(mean: Any, error: Any, best: Any, resolution: float) -> np.ndarray:
    """Return which settings are tied with the best: the difference says nothing.

    It is at most the resolution, or one standard error of the difference of the two means.
    """
    spread = np.hypot(np.nan_to_num(error), np.nan_to_num(error[best]))
    difference = np.abs(np.ma.filled(mean, np.inf) - mean[best])
    slack = 1e-3 * resolution  # Values in float32 are rounded.
    ties = np.isfinite(difference) & (difference <= np.maximum(spread, resolution + slack))
    ties[best] = False
    return ties


def tie_label(error: Any, resolution: float) -> str:
    """Return the label of the settings that are tied with the best."""
    reasons = []
    if np.any(np.nan_to_num(error) > 0):
        reasons.append("one standard error")
    if resolution > 0:
        parts = round(1 / resolution)
        is_part = parts > 1 and abs(parts * resolution - 1) < 1e-6
        reasons.append(f"1/{parts}" if is_part else f"{resolution:.2g}")
    return f"tied: within {' or '.join(reasons)}" if reasons else "tied"
