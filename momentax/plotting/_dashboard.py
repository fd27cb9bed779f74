"""What a monitor measured during a run, as panels over the steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import as_items, describe
from momentax._core.typing import Reals
from momentax.diagnostics import Finding, Measurements, explain
from momentax.plotting._dashboard_panels import (
    PanelData,
    Series,
    fill_panels,
    scale_of,
    split_keys,
    without_dull_ones,
)
from momentax.plotting._pipelines import line_style
from momentax.plotting._style import COLORS, as_axes, figure_of, label_log_axis, new_figure

_MOST_LINES = 6  # More leaves than this are rows of a heat map.
_MOST_NAMES = 24  # More leaves than this have no names beside their rows.
_MOST_LISTED = 8  # Findings below the panels.
_MOST_DOTS = 30
# Of a legend in a panel: its letters and rows in inches, and the most of the panel that it takes.
_LETTERS_PER_INCH, _LEGEND_LETTERS, _ROW_HEIGHT, _MOST_LEGEND = 15, 6, 0.17, 0.5
_SEVERITIES = {"problem": COLORS[1], "warning": COLORS[4], "note": COLORS[5]}


def dashboard(
    measurements: Measurements,
    findings: Iterable[Finding] | None = None,
    *,
    panels: Sequence[str] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Draw the history of a monitor: what gradient, velocity and update did at every step.

    There is a panel for each group of readings that exists: the loss, the norms, the angle of
    velocity and gradient, α, which says where a step landed on the local parabola, the curvature
    beside the stability edge, the gain beside 1 / (1 - β), and so on; `momentax.monitor` says what
    each reading is. Where leaves were measured separately, each reading has its own panel, with a
    line for each of up to six leaves and a row of a heat map for each of more. What is not known
    is a gap.

    Findings are spans over all panels, red for a problem, orange for a warning and blue for a
    note, with their numbers in the first panel and their names below.

    Args:
        measurements: What `momentax.measurements` reads from a monitor with a history.
        findings: What `momentax.explain` found; None explains the measurements, and () marks
            nothing.
        panels: The names of the panels to draw, in order, such as "loss", "norms", "angle",
            "alpha", "curvature", "gain", or any reading; None draws all.
        ax: The axes to draw on, an array or list with one for each panel; None makes a new figure.

    Returns:
        An array of axes with one dimension, one for each panel, in order.

    Raises:
        ValueError: There is no history, panels names one without readings, or ax holds another
            number of axes.
        TypeError: measurements are not such, an item of findings is not a Finding, panels is not
            a sequence of names, or ax is not made of axes.

    Example:
        >>> history = {"loss": [1.0, 0.5, 0.2], "angle": [0.0, 20.0, 95.0]}
        >>> latest = {key: values[-1] for key, values in history.items()}
        >>> measured = momentax.diagnostics.Measurements(latest, history, [0, 1, 2])
        >>> [ax.get_title() for ax in momentax.plotting.dashboard(measured)]
        ['loss', 'angle of velocity and gradient']
    """
    if not isinstance(measurements, Measurements):
        raise TypeError(
            "measurements must be what momentax.measurements(state) returns, got "
            f"{describe(measurements)}"
        )
    found = None if findings is None else _as_findings(findings)
    every = fill_panels(split_keys(_require_history(measurements)))
    shown = without_dull_ones(every) if panels is None else _select(every, panels)
    axes = None if ax is None else as_axes(ax, len(shown))
    found = explain(measurements) if found is None else found
    axes = _make_axes(len(shown)) if axes is None else axes
    for each, data in zip(axes, shown, strict=True):
        _draw_panel(each, data, measurements.counts)
    _name_parts(axes, shown)
    _mark(axes, found, measurements, own_figure=ax is None)
    return axes


def _require_history(measurements: Measurements) -> dict[str, Reals]:
    if not len(measurements.counts):
        raise ValueError(
            "measurements must have a history to draw, and these have none: give the monitor one, "
            "as in momentax.monitor(tx, history=1000), which keeps the last 1000 readings"
        )
    if not any(np.isfinite(values).any() for values in measurements.history.values()):
        raise ValueError("measurements must have a history with a finite reading, got none")
    return measurements.history


def _as_findings(findings: Any) -> list[Finding]:
    items = as_items("findings", findings, "findings of momentax.explain")
    for item in items:
        if not isinstance(item, Finding) or item.severity not in _SEVERITIES:
            raise TypeError(
                "findings must be what momentax.explain returns, a list of Finding, got an item "
                f"{describe(item)}"
            )
    return list(items)


def _select(found: dict[str, PanelData], panels: Any) -> list[PanelData]:
    """Return the panels that are asked for."""
    names = as_items("panels", panels, 'names such as "loss"')
    if not names:
        raise ValueError("panels must hold at least one name, got none")
    for name in names:
        if not isinstance(name, str) or name not in found:
            raise ValueError(
                f"panels must be among those with readings, {', '.join(map(repr, found))}, got "
                f"{describe(name)}"
            )
    return [found[name] for name in names]


def _make_axes(count: int) -> np.ndarray:
    columns = 1 if count == 1 else 2 if count <= 4 else 3
    rows = -(-count // columns)
    width = 6.5 if columns == 1 else 4.2 * columns
    _, grid = new_figure(rows, columns, width, 2.6 * rows + 0.4, sharex=True)
    for unused in grid.flat[count:]:
        unused.remove()
    for above in grid.flat[: count - columns] if count > columns else ():
        above.tick_params(labelbottom=False)
    for lowest in grid.flat[max(count - columns, 0) : count]:
        lowest.tick_params(labelbottom=True)
    for lowest in grid[-1]:
        lowest.set_xlabel("step")
    return np.array(grid.flat[:count])


def _draw_panel(ax: Axes, data: PanelData, counts: np.ndarray) -> None:
    panel, parts = data.panel, [each for _, group in data.lines for each in group]
    ax.set_title(panel.title)
    if len(data.lines) == 1 and len(parts) > _MOST_LINES:
        _draw_rows(ax, data, parts, counts)
        return
    labelled = len(data.lines) > 1
    dots: dict[str, Any] = {}
    if panel.dots or len(counts) <= _MOST_DOTS:
        dots = {"marker": ".", "markersize": 4}
    for i, each in enumerate(parts):
        label = each.part or _label_of(data, each)
        style = {**line_style(i), "linewidth": 1.2, **dots}
        if panel.dots:
            style["linestyle"] = "none"
        values = np.where(np.isfinite(each.values), each.values, np.nan)
        ax.plot(counts, values, label=label, **style)
    ax.set_yscale(**scale_of(data))
    ax.set_ylabel(panel.unit)
    _limit(ax, data)
    for height, label in panel.marks:
        ax.axhline(height, color="0.45", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        low, high = sorted(ax.get_ylim())
        if low <= height <= high:
            note = ax.annotate(
                label,
                xy=(1, height),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 2),
                textcoords="offset points",
                ha="right",
                fontsize=7,
                color="0.2",
                zorder=5,
            )
            note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    label_log_axis(ax.yaxis)
    if labelled:
        _add_legend(ax)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _name_parts(axes: np.ndarray, shown: list[PanelData]) -> None:
    """Name the parts in the first of the panels that have a line for most of them."""
    counts = [
        len(parts) if any(each.part for each in parts) and len(parts) <= _MOST_LINES else 0
        for parts in (data.lines[0][1] for data in shown)
    ]
    if any(counts):
        _add_legend(axes[int(np.argmax(counts))])


def _add_legend(ax: Axes) -> None:
    """Put a legend above the lines, and raise the upper limit so that it covers none of them."""
    labels = ax.get_legend_handles_labels()[1]
    box = ax.get_window_extent().transformed(figure_of(ax).dpi_scale_trans.inverted())
    fitting = int(_LETTERS_PER_INCH * box.width / (max(map(len, labels)) + _LEGEND_LETTERS))
    rows = -(-len(labels) // min(max(fitting, 1), len(labels)))
    ax.legend(
        loc="upper center", fontsize=8, ncols=-(-len(labels) // rows), frameon=False, borderpad=0.2
    )
    share = min((rows + 0.5) * _ROW_HEIGHT / box.height, _MOST_LEGEND)
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    high = low + (high - low) / (1 - share)
    ax.set_ylim(top=float(scale.inverted().transform(np.array([high]))[0]))


def _label_of(data: PanelData, series: Series) -> str:
    return next(label for label, group in data.lines if series in group)


def _limit(ax: Axes, data: PanelData) -> None:
    """Set the limits of the vertical axis, that of α such that the gauge stays readable."""
    panel, values = data.panel, data.values
    if panel.limits is not None:
        margin = 0.03 * (panel.limits[1] - panel.limits[0])
        ax.set_ylim(panel.limits[0] - margin, panel.limits[1] + margin)
    elif data.name == "alpha":
        low, high = np.quantile(values, [0.02, 0.98])
        ax.set_ylim(max(min(-1.3, low - 0.2), -3), min(max(1.6, high + 0.2), 3))
    if panel.ticks is not None:
        ax.set_yticks(panel.ticks)


def _draw_rows(ax: Axes, data: PanelData, parts: list[Series], counts: np.ndarray) -> None:
    """Draw the reading of each leaf as a row of a heat map."""
    values = np.ma.masked_invalid(np.stack([each.values for each in parts]))
    middles = (counts[1:] + counts[:-1]) / 2
    first = 1.5 * counts[0] - 0.5 * counts[1] if len(counts) > 1 else counts[0] - 0.5
    last = 1.5 * counts[-1] - 0.5 * counts[-2] if len(counts) > 1 else counts[0] + 0.5
    borders = np.concatenate([[first], middles, [last]])
    panel = data.panel
    scale = scale_of(data)["value"]
    norm: Normalize = LogNorm() if scale == "log" and values.min() > 0 else Normalize()
    if panel.limits is not None:
        norm = Normalize(*panel.limits)
    colours = mpl.colormaps["cividis"]
    rows = np.arange(len(parts) + 1) - 0.5
    mesh = ax.pcolormesh(borders, rows, values, cmap=colours, norm=norm, rasterized=True)
    ax.set(ylim=(len(parts) - 0.5, -0.5), facecolor="0.85")
    names = [each.part for each in parts]
    ax.set_yticks(range(len(names)) if len(names) <= _MOST_NAMES else [])
    if len(names) <= _MOST_NAMES:
        ax.set_yticklabels(names, fontsize=6)
    figure_of(ax).colorbar(mesh, ax=ax, pad=0.01, label=panel.unit)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _mark(
    axes: np.ndarray, findings: list[Finding], measurements: Measurements, own_figure: bool
) -> None:
    """Mark the steps of findings on all panels, and list their names."""
    if not findings:
        return
    order = list(_SEVERITIES)
    findings = sorted(findings, key=lambda each: (order.index(each.severity), each.steps))
    counts = measurements.counts
    half = measurements.every / 2
    handles, levels = [], dict[int, float]()
    width = max(float(counts[-1] - counts[0]), 1.0)
    for number, each in enumerate(findings[:_MOST_LISTED], 1):
        colour, (first, last) = _SEVERITIES[each.severity], each.steps
        start, end = max(first, counts[0]) - half, min(last, counts[-1]) + half
        for ax in axes:
            limits = ax.get_xlim()
            ax.axvspan(start, end, color=colour, alpha=0.16, linewidth=0, zorder=0.5)
            ax.axvline(start, color=colour, linewidth=1, zorder=0.6)
            ax.set_xlim(limits)
        level = next(i for i in range(99) if start - levels.get(i, -np.inf) > 0.06 * width)
        levels[level] = start
        axes[0].annotate(
            str(number),
            (start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -4 - 13 * level),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="white",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": colour, "edgecolor": "none"},
            zorder=6,
        )
        place = f"steps {first} to {last}" if last > first else f"step {first}"
        label = f"{number}  {each.severity}: {each.rule.replace('_', ' ')}, {place}"
        handles.append(Patch(facecolor=colour, alpha=0.6, label=label))
    if len(findings) > _MOST_LISTED:
        handles.append(Patch(alpha=0, label=f"and {len(findings) - _MOST_LISTED} more"))
    columns = 1 if len(handles) == 1 else 2
    if own_figure:
        figure = figure_of(axes[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    else:
        axes[0].legend(handles=handles, fontsize=7)
