"""The pictures of the page on noise."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from pictures.parts import SMALL, batches, bowl, heavy_ball, read_table

import momentax
from momentax import plotting


def variance_along(λ: float, α: Any, β: Any) -> Any:
    """Return the variance of heavy ball's parameter along a curvature, for noise of variance 1."""
    return α * (1 + β) / (λ * (1 - β) * (2 * (1 + β) - α * λ))


def noise_floor(α: Any, β: Any) -> Any:
    """Return the noise floor for curvatures 1 and 100."""
    return sum(λ / 2 * variance_along(λ, α, β) for λ in (1.0, 100.0))


def noise_floors() -> Any:
    """Draw the variance at one α/(1−β), and the noise at one speed."""
    left, right = plotting.panels(2, **SMALL)
    replicas, betas = 400, (0.0, 0.9)
    noise = optax.add_noise(eta=1.0, gamma=0.0, key=0)

    def variance(product: Any, beta: Any) -> Any:
        tx = optax.chain(noise, heavy_ball(product * (1 - beta), beta))
        run = momentax.rollout(bowl, jnp.zeros(replicas), tx, 1200, record="params", every=10)
        return run.history["params"][40:].var()

    products, fine = np.geomspace(0.03, 1.9, 9), np.geomspace(0.02, 1.96, 200)
    points = momentax.grid(product=products, beta=betas)
    measured = momentax.sweep(variance, points, progress=False).values
    names = ["plain descent", "heavy ball, β = 0.9"]
    lines = [variance_along(1.0, fine * (1 - β), β) for β in betas]
    plotting.compare(
        products,
        dict(zip(names, measured.T, strict=True)),
        dict(zip(names, lines, strict=True)),
        at=fine,
        logx=True,
        logy=True,
        ax=left,
    )
    left.set(xlabel="α/(1−β) × curvature", ylabel="variance of the parameter")
    left.set(ylim=(0.008, 20), title="One α/(1−β): equal noise where it is small")
    rates = 1 - 2 / 101 + np.geomspace(1e-7, 0.0188, 400)  # From the best of plain descent on.
    floors = {
        "plain descent": noise_floor(1 - rates, 0.0),
        "heavy ball, critically damped": noise_floor((1 - rates) ** 2, rates**2),
    }
    for (name, floor), dash in zip(floors.items(), ("-", "--"), strict=True):
        right.plot(np.log(10) / -np.log(rates), floor, dash, label=name)
    right.set(xscale="log", yscale="log", xlabel="steps per digit of accuracy")
    right.set(ylabel="noise floor of the loss", title="One speed, κ = 100: less noise")
    right.legend(frameon=False, fontsize=9)
    return left.figure


def noise_batches() -> Any:
    """Draw what a batch size leaves for momentum to smooth, and to accelerate."""
    left, right = plotting.panels(2, **SMALL)
    aligned = read_table("08_when_momentum_hurts", r"^ +\d+ +\d\.\d{3} +\d\.\d{3} +\d\.\d{2}$")
    B, fine = aligned[:, 0], np.geomspace(1, 4096, 200)
    one, many = (1 / np.sqrt(1 + share / (fine * 0.05**2)) for share in (1, 1 / 19))
    measured = {"a gradient": aligned[:, 1], "the velocity": aligned[:, 2]}
    lines = {"a gradient": one, "the velocity": many}
    plotting.compare(B, measured, lines, at=fine, logx=True, logy=False, ax=left)
    left.set(xlabel="batch size B", ylabel="cosine with the mean gradient")
    left.set_title("Smoothing: of use in small batches")
    rows = batches()
    right.plot(rows[:, 0], rows[:, 2], "o-", label="plain descent")
    right.plot(rows[:, 0], rows[:, 5], "s--", label="heavy ball")
    right.set(xscale="log", yscale="log", xlabel="batch size B", ylabel="steps to 2 % of the loss")
    right.set_title("Acceleration: of use in large ones")
    right.legend(frameon=False, fontsize=9)
    return left.figure
