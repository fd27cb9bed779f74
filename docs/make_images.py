"""Draw the pictures of the README: `python docs/make_images.py` writes them to docs/images."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from flax import nnx
from PIL import Image
from sklearn.datasets import load_digits

import momentax

FOLDER = Path(__file__).parent / "images"
WIDTH = 1600  # Pixels.


class Network(nnx.Module):
    """Two linear layers from the 64 pixels of a digit to 10 logits."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.second = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Map pixels of shape (n, 64) to logits of shape (n, 10)."""
        return self.second(nnx.relu(self.first(pixels)))


def dashboard() -> Any:
    """Train on all digits, with a learning rate that is too large for nine steps."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(pixels, jnp.float32) / 16, jnp.asarray(labels)
    graph, params = nnx.split(Network(nnx.Rngs(0)))

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    steps = 400
    rates = [optax.constant_schedule(each) for each in (0.1, 1.7, 0.1)]
    α = optax.join_schedules(rates, [150, 159])
    tx = momentax.monitor(momentax.sgd(α, momentax.heavy_ball(0.9)), history=steps, curvature=True)
    step, state = momentax.train_step(loss, tx), tx.init(params)
    for _ in range(steps):
        params, state, _ = step(params, state, x, y)
    panels = ["loss", "norms", "angle", "alpha", "curvature", "gain"]
    return momentax.measurements(state).plot(panels=panels)[0].figure


def spectral_map() -> Any:
    """Draw the rates of heavy ball at condition number 100."""
    ax = momentax.plotting.spectral_map(1.0, 100.0)
    ax.set_title("Heavy ball on quadratics with curvatures from 1 to 100")
    return ax.figure


def race() -> Any:
    """Race three methods down Rosenbrock's valley."""
    valley = momentax.problems.rosenbrock()
    methods = {
        "gradient descent": momentax.heavy_ball(0.0),
        "heavy ball": momentax.heavy_ball(0.95),
        "Nesterov": momentax.nesterov(0.95),
    }
    run = partial(momentax.rollout, valley.loss, valley.start, record=("loss", "params"))
    runs = {name: run(momentax.sgd(5e-4, method), 800) for name, method in methods.items()}
    return momentax.plotting.race(runs, minimum=0.0).figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as wide as the README needs it, without transparency."""
    whole = BytesIO()
    figure.savefig(whole, dpi=WIDTH / figure.get_figwidth())
    Image.open(whole).convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    mpl.use("agg")
    FOLDER.mkdir(exist_ok=True)
    for draw in (dashboard, spectral_map, race):
        save(draw(), FOLDER / f"{draw.__name__}.png")
