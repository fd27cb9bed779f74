"""Draw the pictures of the pages under docs/ideas: `python docs/make_ideas.py [name ...]`.

In the pictures dots are measured in runs, and lines are closed forms or what the theory reads from
the code of a pipeline. Each function draws one picture, and its name is the name of the file.
"""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from PIL import Image
from sklearn.datasets import load_digits

import momentax
from momentax import memory, plotting, theory

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images" / "ideas"
WIDTH = 1600  # Pixels, for a column of half this width.
LARGEST = 80_000  # Bytes.
SMALL: Any = {"width": 4.5, "height": 3.7}


def heavy_ball(learning_rate: Any, beta: Any) -> Any:
    """Return heavy ball with a learning rate."""
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta))


def read_table(name: str, pattern: str) -> np.ndarray:
    """Return the numbers of the lines that a committed notebook printed and that fit a pattern."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    return np.array([row.split() for row in re.findall(pattern, text, re.MULTILINE)], float)


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
    α = lambda count: jnp.where(count < drop, 0.1, 0.01)  # noqa: E731
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
    gaps = np.concatenate([np.geomspace(1e-3, 0.019, 50), np.linspace(0.0191, 2 / 101, 60)])
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


def batches() -> np.ndarray:
    """Return the rows of notebook 8: batch, α, steps, then α, β, steps, speed-up of heavy ball."""
    return read_table(
        "08_when_momentum_hurts", r"^ +\d+ +\d\.\d{3} +\d+ +\d\.\d{4} +\d\.\d{2} +\d+ +\d\.\d{2}$"
    )


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
    bowl = lambda θ: jnp.sum(θ**2) / 2  # noqa: E731
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
    bowl = lambda θ: jnp.sum(θ**2) / 2  # noqa: E731
    for β in betas:
        tx = heavy_ball(0.1 * (1 - β), β)
        run = momentax.rollout(bowl, jnp.ones(1), tx, len(t), record="params")
        path = theory.quadratic_path([[1.0]], [1.0], len(t) - 1, 0.1 * (1 - β), β).params
        measured[f"β = {β:g}"], lines[f"β = {β:g}"] = run.history["params"][:, 0], path[:, 0]
    plotting.compare(t, measured, lines, logy=False, dots=27, ax=right)
    right.axhline(0, color="0.6", linewidth=1, zorder=0)
    right.set(xlabel="step", ylabel="parameter", title="Near the minimum: it overshoots")
    return left.figure


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


PICTURES = (
    velocity_weights,
    velocity_units,
    memory_filters,
    memory_age,
    edge_one_curvature,
    edge_map,
    edge_nesterov,
    edge_training,
    noise_floors,
    noise_batches,
    when_ravine_plateau,
    when_saddle_noise,
    when_batches_sparse,
    when_shift_end,
    folklore,
)


def save(figure: Any, path: Path) -> None:
    """Write a figure without transparency, and with fewer colours where the file is large."""
    whole, small = BytesIO(), BytesIO()
    figure.savefig(whole, dpi=WIDTH / figure.get_figwidth())
    picture = Image.open(whole).convert("RGB")
    picture.save(small, "png", optimize=True)
    if small.tell() > LARGEST:
        picture = picture.quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
        )
    picture.save(path, optimize=True)


if __name__ == "__main__":
    mpl.use("agg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = sys.argv[1:] or [draw.__name__ for draw in PICTURES]
    for draw in PICTURES:
        if draw.__name__ in chosen:
            with jax.enable_x64(draw is not edge_training):
                save(draw(), FOLDER / f"{draw.__name__}.png")
