"""The picture of the page on the folklore."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pictures.parts import SMALL, heavy_ball

import momentax
from momentax import plotting, theory


def folklore() -> Any:
    """Draw the edge over β beside two wrong rules, and a cycle of the tuned heavy ball."""
    left, right = plotting.panels(2, **SMALL)
    betas, fine = np.array([0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95]), np.linspace(0, 0.97, 200)
    edges = [theory.sharpness_limit(heavy_ball(1.0, float(β))) for β in betas]
    lines = {
        "2(1+β): true": 2 * (1 + fine),
        "2/(1−β): wrong": 2 / (1 - fine),
        "2(1−β): wrong": 2 * (1 - fine),
    }
    plotting.compare(betas, {"2(1+β): true": edges}, lines, at=fine, logy=True, ax=left)
    left.set(xlabel="β", ylabel="largest stable αλ", title="The edge is not moved by 1/(1−β)")
    left.legend(title="dots read from the code", fontsize=9, title_fontsize=9)
    runs = {
        "tuned heavy ball": heavy_ball(1 / 9, 4 / 9),
        "triple momentum": theory.triple_momentum(1, 25).tx,
    }
    t = np.arange(46)
    for (name, tx), mark in zip(runs.items(), ("o-", "s--"), strict=True):
        run = momentax.rollout(two_slopes, jnp.array([3.3]), tx, len(t), record="params")
        right.plot(t, run.history["params"][:, 0], mark, markersize=3.5, linewidth=0.8, label=name)
    right.set(xlabel="step", ylabel="x", title="κ = 25, not quadratic: a cycle")
    right.legend(frameon=False, fontsize=9, loc="upper right")
    right.set_ylim(None, 5)
    return left.figure


def two_slopes(θ: jax.Array) -> jax.Array:
    """Return a loss of Lessard, Recht and Packard: curvature 1 from 1 to 2, and 25 elsewhere."""
    (x,) = θ
    middle, far = x**2 / 2 + 24 * x - 12, 12.5 * x**2 - 24 * x + 36
    return jnp.where(x < 1, 12.5 * x**2, jnp.where(x < 2, middle, far))
