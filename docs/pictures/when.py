"""The pictures of the page on when momentum helps, and when it hurts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from pictures.parts import SMALL, batches, bowl, heavy_ball

import momentax
from momentax import plotting, theory


def when_ravine_plateau() -> Any:
    """Draw runs in a ravine and on a plateau with the closed forms."""
    left, right = plotting.panels(2, **SMALL)
    ravine, steps = momentax.problems.ravine(100), 120
    ball, plain = theory.optimal_heavy_ball(2, 200), theory.optimal_gradient_descent(2, 200)
    settings = {
        "plain descent, best α": (plain.learning_rate, 0.0),
        "heavy ball, best α and β": (ball.learning_rate, ball.beta),
    }
    t, measured, lines = np.arange(steps), {}, {}
    for name, (α, β) in settings.items():
        run = momentax.rollout(ravine.loss, ravine.start, heavy_ball(α, β), steps, record="params")
        path = theory.quadratic_path(np.diag([200.0, 2.0]), [1.0, 1.0], steps - 1, α, β).params
        measured[name] = np.linalg.norm(run.history["params"], axis=-1)
        lines[name] = np.linalg.norm(path, axis=-1)
    plotting.compare(t, measured, lines, logy=True, ax=left)
    left.set(xlabel="step", ylabel="distance to the minimum", ylim=(1e-7, 9))
    left.set_title("Ravine, κ = 100")
    s, α, β, steps = 0.01, 0.1, 0.9, 100
    t, measured, lines = np.arange(steps), {}, {}
    settings = {
        "heavy ball at α": (α, β),
        "plain descent at 10 α": (10 * α, 0.0),
        "plain descent at α": (α, 0.0),
    }
    plateau = momentax.problems.plateau(s)
    for name, (rate, b) in settings.items():
        run = momentax.rollout(
            plateau.loss, plateau.start, heavy_ball(rate, b), steps, record="params"
        )
        measured[name] = 1 - np.asarray(run.history["params"])[:, 0]
        lines[name] = rate * s / (1 - b) * (t - b * (1 - b**t) / (1 - b))
    plotting.compare(t, measured, lines, logy=False, dots=25, ax=right)
    right.set(xlabel="step", ylabel="distance travelled", title="Plateau, β = 0.9")
    return left.figure


def when_saddle_noise() -> Any:
    """Draw runs near a saddle, and the mean loss of noisy runs."""
    left, right = plotting.panels(2, **SMALL)
    saddle, steps = momentax.problems.saddle(1.0), 50
    t, measured, lines = np.arange(steps), {}, {}
    for β in (0.0, 0.9, 0.99):
        run = momentax.rollout(
            saddle.loss, saddle.start, heavy_ball(0.1, β), steps, record="params"
        )
        path = theory.quadratic_path(np.diag([1.0, -1.0]), saddle.start, steps - 1, 0.1, β)
        measured[f"β = {β:g}"], lines[f"β = {β:g}"] = run.history["params"][:, 1], path.params[:, 1]
    plotting.compare(t, measured, lines, logy=True, dots=25, ax=left)
    left.set(xlabel="step", ylabel="distance from the saddle", title="Near a saddle, α |λ| = 0.1")
    settings = {"plain descent at 10 α": (0.1, 0.0), "heavy ball at α, β = 0.9": (0.01, 0.9)}
    noise, replicas, steps = optax.add_noise(eta=1.0, gamma=0.0, key=0), 1000, 100
    t, measured, lines = np.arange(steps), {}, {}
    for name, (α, β) in settings.items():
        tx = optax.chain(noise, heavy_ball(α, β))
        run = momentax.rollout(bowl, jnp.ones(replicas), tx, steps)
        measured[name] = np.asarray(run.history["loss"]) / replicas
        lines[name] = expected_loss(α, β, steps)
    plotting.compare(t, measured, lines, logy=True, dots=25, ax=right)
    right.set(xlabel="step", ylabel="mean loss", title="Noisy gradients: one floor, 10 α = α/(1−β)")
    return left.figure


def expected_loss(α: float, β: float, steps: int) -> np.ndarray:
    """Return the expected loss of each step on ½ θ² from 1, with gradient noise of variance 1."""
    M, added = np.array([[1 - α, -α * β], [1.0, β]]), np.array([-α, 1.0])
    S, losses = np.diag([1.0, 0.0]), []
    for _ in range(steps):
        losses.append(S[0, 0] / 2)
        S = M @ S @ M.T + np.outer(added, added)
    return np.array(losses)


def sparse(gap: int, beta: float) -> Any:
    """Return heavy ball at α = 1 with a gradient at every gap-th step only."""
    gate = optax.scale_by_schedule(lambda count: jnp.where(count % gap == 0, 1.0, 0.0))
    return optax.chain(gate, heavy_ball(1.0, beta))


def when_batches_sparse() -> Any:
    """Draw the speed-up over the batch size, and the edges of rows that are seen rarely."""
    left, right = plotting.panels(2, **SMALL)
    rows = batches()
    left.plot(rows[:, 0], rows[:, 6], "o-")
    left.axhline(1, color="0.6", linewidth=1, zorder=0)
    left.set(xscale="log", ylim=(0, 4.8), xlabel="batch size B")
    left.set(
        ylabel="steps of plain descent\n÷ steps of heavy ball", title="Batches: speed-up, κ = 100"
    )
    gaps, fine, β = np.array([1, 2, 3, 5, 8, 13, 20, 40]), np.geomspace(1, 40, 200), 0.9
    read = {"a usual row": [theory.sharpness_limit(sparse(int(k), β)) for k in gaps]}
    lines = {
        "a usual row": 2 * (1 + β**fine) * (1 - β) / (1 - β**fine),
        "a row that waits (lazy)": np.full(len(fine), 2 * (1 + β)),
    }
    plotting.compare(gaps, read, lines, at=fine, logx=True, logy=True, ax=right)
    right.set(xlabel="steps between two gradients of a row", ylabel="largest stable αλ")
    right.set(ylim=(0.1, 6), title="Sparse gradients, β = 0.9")
    right.legend(title="dots read from the code", fontsize=9, title_fontsize=9)
    return left.figure


def when_shift_end() -> Any:
    """Draw the error of following a moving optimum, and the overshoot at a minimum."""
    left, right = plotting.panels(2, **SMALL)
    fine, betas = np.geomspace(4, 2000, 500), (0.0, 0.9, 0.99)
    for β, dash in zip(betas, ("-", "--", "-."), strict=True):
        z = np.exp(-2j * np.pi / fine)
        response = theory.frequency_response(heavy_ball(0.1 * (1 - β), β), 1 / fine)
        left.plot(fine, abs((1 - z) / (1 - z - z * response)), dash, label=f"β = {β:g}")
    left.axhline(1, color="0.6", linewidth=1, zorder=0)
    left.set(xscale="log", yscale="log", xlabel="period of the change, in steps")
    left.set(ylabel="error ÷ motion of the optimum", title="Shifting data, α/(1−β) = 0.1")
    left.legend(frameon=False, fontsize=9)
    t, measured, lines = np.arange(160), {}, {}
    for β in betas:
        tx = heavy_ball(0.1 * (1 - β), β)
        run = momentax.rollout(bowl, jnp.ones(1), tx, len(t), record="params")
        path = theory.quadratic_path([[1.0]], [1.0], len(t) - 1, 0.1 * (1 - β), β).params
        measured[f"β = {β:g}"], lines[f"β = {β:g}"] = run.history["params"][:, 0], path[:, 0]
    plotting.compare(t, measured, lines, logy=False, dots=27, ax=right)
    right.axhline(0, color="0.6", linewidth=1, zorder=0)
    right.set(xlabel="step", ylabel="parameter", title="Near the minimum: it overshoots")
    return left.figure
