"""Five pictures that are compared with images, and the command that draws these images anew.

    python -m tests.plotting.baseline

writes them to tests/plotting/images. Look at each one that changed before you commit it. The
pictures have no text, so that they do not depend on the fonts of a version of matplotlib.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

import momentax
from momentax import plotting, theory
from momentax.diagnostics import Finding, Measurements
from momentax.sweeps import SweepResult, grid

FOLDER = Path(__file__).parent / "images"
LAGS = 60
_DPI = 50


def _space(α: float, β: float) -> theory.StateSpace:
    """Return heavy ball; it is a method where α = -1."""
    A = np.array([[1.0, -α * β], [0.0, β]])
    return theory.StateSpace(A, np.array([-α, 1.0]), np.array([1.0, 0.0]))


def trajectory() -> Figure:
    """Draw two paths in a ravine."""
    H, start = np.diag([1.0, 10.0]), [-4.0, 1.5]
    runs = {}
    for name, β in (("plain descent", 0.0), ("heavy ball", 0.8)):
        path = theory.quadratic_path(H, start, 40, learning_rate=0.05, beta=β).params
        loss = 0.5 * np.einsum("ti,ij,tj->t", path, H, path)
        history = {"params": path[:-1], "loss": loss[:-1]}
        runs[name] = momentax.Rollout(path[-1], (), history)
    ax = plotting.trajectory(runs, lambda θ: 0.5 * (θ[0] ** 2 + 10 * θ[1] ** 2), minimizer=[0, 0])
    return ax.figure


def spectral_map() -> Figure:
    """Draw the rates of heavy ball at κ = 50."""
    α, β = np.geomspace(1e-3, 0.1, 60), 1 - np.geomspace(1, 0.02, 50)
    return plotting.spectral_map(1.0, 50.0, learning_rates=α, betas=β).figure


def kernel() -> Figure:
    """Draw the weights of two velocities."""
    return plotting.kernel(
        {"0.8": _space(-1.0, 0.8), "0.95": _space(-1.0, 0.95)}, steps=LAGS
    ).figure


def dashboard() -> Figure:
    """Draw four panels of an invented run, with two findings."""
    t = np.arange(200)
    history = {
        "loss": np.exp(-t / 40) + 0.01,
        "angle": 90 + 80 * np.sin(t / 6) * np.exp(-t / 80),
        "gradient_norm": np.exp(-t / 50),
        "velocity_norm": 8 * np.exp(-t / 60),
        "alpha": np.sin(t / 6) * np.exp(-t / 80),
    }
    measured = Measurements({key: v[-1] for key, v in history.items()}, history, t)
    findings = [
        Finding("oscillation", "warning", "", "", (0, 80)),
        Finding("plateau", "note", "", "", (150, 199)),
    ]
    return plotting.dashboard(measured, findings)[0].figure


def heatmap() -> Figure:
    """Draw accuracies on 360 images, of which some are tied and some diverged."""
    α, β = np.geomspace(0.003, 1, 6), np.array([0.0, 0.5, 0.8, 0.9, 0.95, 0.99])
    effective = np.log10(α[:, None] / (1 - β))
    slope = np.maximum(np.abs(effective + 0.3) - 0.4, 0)
    accuracy = np.round(360 * (0.98 - 0.08 * slope - 0.002 * β)) / 360
    diverged = effective > 1
    result = SweepResult(grid(learning_rate=α, beta=β), {"test_accuracy": accuracy}, diverged)
    return plotting.heatmap(result, curvature=15.0).figure


PICTURES: dict[str, Callable[[], Figure]] = {
    each.__name__: each for each in (trajectory, spectral_map, kernel, dashboard, heatmap)
}


def save(name: str, path: Path) -> None:
    """Draw a picture without its text and write it to a file."""
    with mpl.rc_context(mpl.rcParamsDefault | {"backend": "agg"}):
        figure = PICTURES[name]()
        for text in figure.findobj(Text):
            text.set_visible(False)
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in PICTURES:
        save(name, FOLDER / f"{name}.png")
