"""The pictures of the page on memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures.parts import SMALL

import momentax
from momentax import memory, plotting, theory


def memory_filters() -> Any:
    """Draw the kernels of three averages, and what they make of oscillating gradients."""
    left, right = plotting.panels(2, **SMALL)
    averages = {f"β = {β:g}": momentax.average(β, debias=False) for β in (0.8, 0.9, 0.97)}
    plotting.kernel(averages, steps=61, ax=left)
    left.set_title("The memory: weights over lag")
    plotting.frequency_response(averages, ax=right)
    right.set(ylim=(0.003, 1.2))
    right.set_title("The same as a filter")
    return left.figure


def same_age() -> dict[str, memory.Kernel]:
    """Return three kernels whose mean age is 9 steps and whose weights sum to 1."""
    return {
        "average, β = 0.9": memory.of(momentax.average(0.9, debias=False)),
        "window of 19": memory.Kernel.from_weights(np.full(19, 1 / 19)),
        "delay of 9": memory.Kernel.from_weights(np.eye(10)[9]),
    }


def memory_age() -> Any:
    """Draw three kernels of one mean age, and their rates over the learning rate."""
    left, right = plotting.panels(2, **SMALL)
    kernels, lags, products = same_age(), np.arange(31), np.geomspace(1e-3, 60, 800)
    for (name, kernel), dash in zip(kernels.items(), ("-", "--", ":"), strict=True):
        label = f"{name}: edge {kernel.edge:.3g}"
        rates = theory.rate_at(kernel.state_space, -products)
        (line,) = right.plot(products, rates, dash, label=label)
        if kernel.effective_samples > 1:
            left.plot(lags, kernel.weights(31), dash, marker=".", label=name)
        else:
            style: Any = {"linestyle": dash, "color": line.get_color(), "linewidth": 2}
            left.axvline(9, label=f"{name}: weight 1", **style)
    left.set(xlabel="lag k, in steps", ylabel="weight", ylim=(0, 0.13))
    left.set_title("Three kernels of mean age 9 steps")
    left.legend(frameon=False, fontsize=9)
    right.axhline(1, color="0.6", linewidth=1, zorder=0)
    right.set(xscale="log", xlabel="learning rate × curvature, αλ", ylim=(0.88, 1.06))
    right.set(ylabel="factor per step ρ", title="Each is unstable where ρ exceeds 1")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return left.figure
