"""The pictures of the page on the velocity."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from pictures.parts import SMALL

import momentax
from momentax import plotting


def velocity_weights() -> Any:
    """Draw the weights of past gradients for three β, and for two methods."""
    left, right = plotting.panels(2, **SMALL)
    plotting.kernel({f"β = {β:g}": momentax.heavy_ball(β) for β in (0.5, 0.9, 0.97)}, ax=left)
    left.set_title("Heavy ball: a gradient k steps old weighs βᵏ")
    pair = {"heavy ball": momentax.heavy_ball(0.9), "Nesterov": momentax.nesterov(0.9)}
    plotting.kernel(pair, steps=25, ax=right)
    right.set_title("β = 0.9: Nesterov weighs the newest more")
    return left.figure


def velocity_units() -> Any:
    """Draw the steps under a constant gradient, whose learning rate falls at step 60."""
    drop, steps, β = 60, 110, 0.9
    t = np.arange(steps)

    def α(count: Any) -> Any:
        return jnp.where(count < drop, 0.1, 0.01)

    measured, predicted, sums = {}, {}, (1 - β ** (t + 1)) / (1 - β)
    for units in ("gradient", "parameter"):
        tx = momentax.sgd(α, momentax.heavy_ball(β), velocity_units=units)
        run = momentax.rollout(jnp.sum, jnp.zeros(1), tx, steps, record="step")
        measured[f"{units} units"] = -np.asarray(run.history["step"])[:, 0]
    rates = np.where(t < drop, 0.1, 0.01)
    predicted["gradient units"] = rates * sums
    lags = t[:, None] - t
    weights = np.where(lags >= 0, β ** np.maximum(lags, 0), 0.0)
    predicted["parameter units"] = weights @ rates
    ax = plotting.compare(
        t, measured, predicted, logy=True, dots=55, ax=plotting.panels(1, width=7, height=3.6)[0]
    )
    ax.set(xlabel="step t", ylabel="length of the step")
    ax.set_title("The learning rate falls from 0.1 to 0.01 at step 60, under a gradient of 1")
    return ax.figure
