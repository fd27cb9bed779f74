"""Compare search with random points at equal budgets: `python -m tests.benchmarks.search`.

Each problem is solved by both with the same budget for every seed, and the record has the median of
the best value so far after each batch, and for how many seeds that of the search is the better one.

    branin      Branin's function less its minimum, of 2 variables
    hartmann    Hartmann's function less its minimum, of 3 variables
    heavy ball  the rate on quadratics with κ = 100 less the best one, of learning rate and β; the
                optimum is a cusp at the end of a narrow valley, which no smooth model expects
    digits      the validation loss of a small network on scikit-learn's digits after 60 steps, of
                learning rate, β, weight decay and the scale of the first parameters

--output also writes the results as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax
from momentax.sweeps import log_uniform, momentum_uniform, random_points
from tests.sweeps.test_search import KNOWN

BUDGET, BATCH, SEEDS = 32, 8, 20
MU, L = 0.01, 1.0
LEAST_RATE = (1 - MU**0.5) / (1 + MU**0.5)  # √β* with β* = ((√κ - 1)/(√κ + 1))².


def rate_of_heavy_ball(learning_rate: jax.Array, beta: jax.Array) -> dict[str, jax.Array]:
    """The larger of the spectral radii at the least and the greatest curvature, less the best."""

    def radius(curvature):
        trace = 1 + beta - learning_rate * curvature
        discriminant = trace**2 - 4 * beta
        real = (jnp.abs(trace) + jnp.sqrt(jnp.maximum(discriminant, 0))) / 2
        return jnp.where(discriminant < 0, jnp.sqrt(beta), real)

    return {"regret": jnp.maximum(radius(MU), radius(L)) - LEAST_RATE}


@cache
def digits() -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the validation loss of a small network, and its space."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    batches = jax.random.randint(jax.random.key(1), (60, 32), 0, 1437)
    keys = jax.random.split(jax.random.key(0))
    first = jax.random.normal(keys[0], (64, 16)), jax.random.normal(keys[1], (16, 10)) / 4

    def loss_of(params, images, labels):
        logits = jax.nn.relu(images @ params[0]) @ params[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def run(learning_rate, beta, weight_decay, scale):
        tx = momentax.sgd(learning_rate, momentax.heavy_ball(beta), weight_decay=weight_decay)
        params = first[0] * scale, first[1]

        def step(carry, rows):
            params, state = carry
            grads = jax.grad(loss_of)(params, images[rows], labels[rows])
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
        return {"loss": loss_of(params, images[1437:], labels[1437:])}

    space = {
        "learning_rate": log_uniform(1e-4, 10.0),
        "beta": momentum_uniform(0.0, 0.99),
        "weight_decay": log_uniform(1e-6, 0.1),
        "scale": log_uniform(0.01, 1.0),
    }
    return run, space


PROBLEMS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "branin": lambda: KNOWN["branin"],
    "hartmann": lambda: KNOWN["hartmann"],
    "heavy ball": lambda: (
        rate_of_heavy_ball,
        {"learning_rate": log_uniform(0.1, 10.0), "beta": momentum_uniform(0.0, 0.99)},
    ),
    "digits": digits,
}


def compare(name: str, budget: int = BUDGET, seeds: int = SEEDS) -> dict[str, Any]:
    """Return the medians of both ways after each batch, and how often the search is better."""
    run, space = PROBLEMS[name]()
    found, drawn = [], []
    for seed in range(seeds):
        key = jax.random.key(seed)
        result = momentax.search(run, space, budget=budget, batch_size=BATCH, key=key)
        found.append(result.best_so_far)
        points = random_points(key, budget, **space)
        swept = momentax.sweep(run, points, batch_size=BATCH)
        values = np.where(swept.diverged, np.inf, swept[str(result.metric)])
        drawn.append(np.minimum.accumulate(values))
    ends = np.arange(BATCH - 1, budget, BATCH)
    ours, theirs = np.array(found)[:, ends], np.array(drawn)[:, ends]
    return {
        "problem": name,
        "points": (ends + 1).tolist(),
        "search": [float(f"{each:.4g}") for each in np.median(ours, axis=0)],
        "random": [float(f"{each:.4g}") for each in np.median(theirs, axis=0)],
        "better": int((ours[:, -1] < theirs[:, -1]).sum()),
        "seeds": seeds,
    }


def main(arguments: list[str] | None = None) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    results = []
    for name in options.problems:
        results.append(compare(name, options.budget, options.seeds))
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        lines = ",\n".join(f"  {json.dumps(each)}" for each in results)
        options.output.write_text(f'{{"results": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
