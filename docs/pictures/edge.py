"""The pictures of the page on the edge."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pictures.parts import SMALL, heavy_ball
from sklearn.datasets import load_digits

import momentax
from momentax import plotting, theory


def edge_one_curvature() -> Any:
    """Draw the rate along one curvature for four β: measured, and by the closed form."""
    well, betas = momentax.problems.quadratic([[1.0]]), [0.0, 0.5, 0.9]
    products, fine = np.linspace(0.02, 4.1, 35), np.linspace(0.004, 4.1, 1200)

    def factor(learning_rate: Any, beta: Any, steps: int = 300) -> Any:
        run = momentax.rollout(well.loss, well.start, heavy_ball(learning_rate, beta), steps)
        state = run.params[0], momentax.velocity(run.state)[0]
        return jnp.hypot(*state) ** (1 / steps)

    points = momentax.grid(learning_rate=products, beta=betas)
    measured = momentax.sweep(factor, points, progress=False).values
    names = [f"β = {β:g}: edge {2 * (1 + β):g}" for β in betas]
    lines = theory.spectral_radius(fine[:, None], 1.0, np.array(betas))
    ax = plotting.compare(
        products,
        dict(zip(names, np.where(measured > 0.097, measured, np.nan).T, strict=True)),
        dict(zip(names, lines.T, strict=True)),
        at=fine,
        logy=False,
        ax=plotting.panels(1, width=7, height=3.8)[0],
    )
    ax.axhline(1, color="0.6", linewidth=1, zorder=0)
    ax.set(xlabel="learning rate × curvature, αλ", ylabel="factor per step ρ", ylim=(0, 1.25))
    ax.set_title("Below 1 the error shrinks; on the flat part of a curve it oscillates")
    return ax.figure


def edge_map() -> Any:
    """Draw the rates of heavy ball for curvatures from 1 to 100."""
    ax = plotting.panels(1, width=7.4, height=5)[0]
    plotting.spectral_map(1.0, 100.0, ax=ax)
    ax.set_title("Heavy ball on curvatures from 1 to 100")
    return ax.figure


def edge_nesterov() -> Any:
    """Draw the edges over β, and the rates over αλ, of heavy ball and of Nesterov's momentum."""
    left, right = plotting.panels(2, **SMALL)
    β, products = np.linspace(0, 0.999, 200), np.geomspace(1e-3, 4.2, 800)
    left.plot(β, 2 * (1 + β), label="heavy ball: 2(1+β)")
    left.plot(β, 2 * (1 + β) / (1 + 2 * β), "--", label="Nesterov: 2(1+β)/(1+2β)")
    left.set(xlabel="β", ylabel="largest stable αλ", ylim=(0, 4.2))
    left.set_title("Nesterov lowers the edge …")
    left.legend(frameon=False, fontsize=9)
    right.plot(products, theory.spectral_radius(products, 1.0, 0.9), label="heavy ball")
    rates = theory.spectral_radius(products, 1.0, 0.9, gradient_weight=1.0, velocity_weight=0.9)
    right.plot(products, rates, "--", label="Nesterov")
    right.axhline(1, color="0.6", linewidth=1, zorder=0)
    right.set(xscale="log", xlabel="learning rate × curvature, αλ", ylim=(0.4, 1.2))
    right.set(ylabel="factor per step ρ", title="… and damps below it, at β = 0.9")
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return left.figure


def sharpening_network() -> tuple[Any, Any]:
    """Return the loss of a small network on all of its data, and its first weights."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(pixels[:300] / 16 - 0.3, jnp.float32), jax.nn.one_hot(labels[:300], 10)
    keys, shapes = jax.random.split(jax.random.key(0), 3), [(64, 32), (32, 32), (32, 10)]
    start = [jax.random.normal(k, s) / np.sqrt(s[0]) for k, s in zip(keys, shapes, strict=True)]

    def loss(weights: Any) -> jax.Array:
        hidden = jnp.tanh(jnp.tanh(x @ weights[0]) @ weights[1])
        return ((hidden @ weights[2] - y) ** 2).sum(axis=1).mean() / 2

    return loss, start


def edge_training() -> Any:
    """Train a network on all of its data at once, and draw the largest curvature on the way."""
    α, betas, steps, every = 0.3, np.array([0.0, 0.5, 0.9]), 1200, 20
    loss, start = sharpening_network()

    def train(carry: Any, β: Any) -> Any:
        """Make some steps, then improve the stiffest direction v; return its curvature too."""
        tx = heavy_ball(α, β)

        def step(_: int, carry: Any) -> Any:
            weights, state = carry
            updates, state = tx.update(jax.grad(loss)(weights), state, weights)
            return optax.apply_updates(weights, updates), state

        weights, state = jax.lax.fori_loop(0, every, step, carry[:2])

        def improve(_: int, carry: Any) -> Any:
            product = jax.jvp(jax.grad(loss), (weights,), (carry[0],))[1]
            norm = optax.tree.norm(product)
            return optax.tree.scale(1 / norm, product), norm

        v, curvature = jax.lax.fori_loop(0, 13, improve, (carry[2], 0.0))
        return (weights, state, v), curvature

    def run(β: Any) -> Any:
        carry = start, heavy_ball(α, β).init(start), jax.tree.map(jnp.ones_like, start)
        return jax.lax.scan(lambda carry, _: train(carry, β), carry, length=steps // every)[1]

    t = np.arange(1, steps // every + 1) * every
    names = [f"β = {β:g}: edge {2 * (1 + β) / α:.3g}" for β in betas]
    measured = np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(betas, jnp.float32)))
    edges = [np.full(len(t), 2 * (1 + β) / α) for β in betas]
    rows = dict(zip(names, measured, strict=True)), dict(zip(names, edges, strict=True))
    ax = plotting.panels(1, width=7, height=3.8)[0]
    plotting.compare(t, *rows, logy=False, dots=60, ax=ax)
    ax.set(xlabel="step", ylabel="largest curvature L of the loss", ylim=(4, 15.5))
    ax.set_title("A small network at α = 0.3: L rises to the edge, 2(1+β)/α")
    style: Any = {"fontsize": 9, "title_fontsize": 9, "ncols": 3, "loc": "upper center"}
    ax.legend(title="dots measured, lines 2(1+β)/α", **style)
    return ax.figure
