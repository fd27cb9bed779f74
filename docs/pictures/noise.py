"""The pictures of the page on noise."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import momentax
from momentax import plotting, theory
from pictures.parts import SMALL, batches, heavy_ball, read_table


def noise_floors() -> Any:
    """Draw the variance at one α/(1−β), and the noise at one speed."""
    left, right = plotting.panels(2, **SMALL)
    replicas, betas = 400, (0.0, 0.9)
    noise = optax.add_noise(eta=1.0, gamma=0.0, key=0)

    def variance(product: Any, beta: Any) -> Any:
        tx = optax.chain(noise, heavy_ball(product * (1 - beta), beta))
        bowl = lambda θ: jnp.sum(θ**2) / 2  # noqa: E731
        run = momentax.rollout(bowl, jnp.zeros(replicas), tx, 1200, record="params", every=10)
        return run.history["params"][40:].var()

    products, fine = np.geomspace(0.03, 1.9, 9), np.geomspace(0.02, 1.96, 200)
    points = momentax.grid(product=products, beta=betas)
    measured = momentax.sweep(variance, points, progress=False).values
    names = ["plain descent", "heavy ball, β = 0.9"]
    lines = [α * (1 + β) / ((1 - β) * (2 * (1 + β) - α)) for β in betas for α in [fine * (1 - β)]]
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
    gaps = np.concatenate([np.geomspace(1e-3, 0.019, 25), np.linspace(0.0191, 2 / 101, 25)])
    rates = 1 - gaps
    μL = np.array([1.0, 100.0])
    floors = {
        "plain descent": [theory.noise_floor(heavy_ball(1 - ρ, 0.0), μL, 1.0) for ρ in rates],
        "heavy ball, critically damped": [
            theory.noise_floor(heavy_ball((1 - ρ) ** 2, ρ**2), μL, 1.0) for ρ in rates
        ],
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
