"""Measure sweeps beside the usual loops: `python -m tests.benchmarks.sweep`.

For each network and number of settings it measures the seconds of

    people        a new optax.sgd per setting, its step compiled again, a Python loop over steps
    good loop     one compiled step, learning rate and β traced, a Python loop over steps
    scan          one compiled run (a scan over steps), a Python loop over settings
    vmap          jax.vmap of that run over all settings
    sweep         momentax.sweep with its defaults

with compilation, each time from a fresh function, and warm, and the ratios to momentax.sweep. All
but the first are medians of interleaved rounds. It also measures the processor's seconds, of all
threads together: they depend less on what else the machine does, and say nothing of how many
cores worked at once. Importing the libraries does not count. Each core is a JAX device. --output
also writes the results as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax
from momentax.bench._facts import processor

SETTINGS = (64, 256)
ROUNDS = 5
COLD_ROUNDS = 3


class Task(NamedTuple):
    """A network in training: its first parameters, its loss on a batch, and the batches."""

    start: Any
    loss: Callable[[Any, Any], jax.Array]
    data: Any  # Leaves of shape (steps, batch, ...).


def multilayer(inputs: int, hidden: int, batch: int, steps: int = 156) -> Task:
    """Make a network of one hidden layer on random images."""
    keys = jax.random.split(jax.random.key(0), 4)
    start = {
        "first": jax.random.normal(keys[0], (inputs, hidden)) / inputs**0.5,
        "bias": jnp.zeros(hidden),
        "last": jax.random.normal(keys[1], (hidden, 10)) / hidden**0.5,
    }
    images = jax.random.normal(keys[2], (steps, batch, inputs))
    labels = jax.random.randint(keys[3], (steps, batch), 0, 10)

    def loss(params, data):
        images, labels = data
        logits = jax.nn.relu(images @ params["first"] + params["bias"]) @ params["last"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return Task(start, loss, (images, labels))


def digits(epochs: int = 2) -> Task:
    """Make the convolutional network that the command line trains."""
    from flax import nnx

    from momentax._cli import _digits

    train, _ = _digits.load()
    definition, start = nnx.split(_digits.Network(nnx.Rngs(0)))
    keys = jax.random.split(jax.random.key(0), epochs)
    rows = jnp.concatenate(
        [jax.random.permutation(key, len(train.labels))[: 44 * 32].reshape(44, 32) for key in keys]
    )

    def loss(params, data):
        images, labels = data
        logits = nnx.merge(definition, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return Task(start, loss, (train.images[rows], train.labels[rows]))


def rosenbrock(steps: int = 1000) -> Task:
    """Make the minimization of a function of two parameters; it has no batches."""

    def loss(params, data):
        del data
        x, y = params
        return 1e-3 * ((1 - x) ** 2 + 100 * (y - x**2) ** 2)

    return Task(jnp.array([-1.2, 1.0]), loss, (jnp.zeros((steps, 1)), jnp.zeros((steps, 1))))


TASKS = {
    "784-128-10": lambda: multilayer(784, 128, 64),
    "Rosenbrock": rosenbrock,
    "32-32-10": lambda: multilayer(32, 32, 32),
    "digits CNN": digits,
    "784-1280-10": lambda: multilayer(784, 1280, 64, steps=20),  # 10⁶ parameters.
}


def people(task: Task, α: np.ndarray, β: np.ndarray) -> list[Any]:
    ends = []
    for learning_rate, beta in zip(α.tolist(), β.tolist(), strict=True):
        tx = optax.sgd(learning_rate, momentum=beta)

        @jax.jit
        def step(params, state, data, tx=tx):
            value, grads = jax.value_and_grad(task.loss)(params, data)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        params, state = task.start, tx.init(task.start)
        for i in range(len(task.data[1])):
            params, state, value = step(params, state, jax.tree.map(lambda x, i=i: x[i], task.data))
        ends.append(value)
    return jax.block_until_ready(ends)


def good_loop(task: Task) -> Callable[[np.ndarray, np.ndarray], Any]:
    @jax.jit
    def step(params, state, i, learning_rate, beta):
        tx = optax.sgd(learning_rate, momentum=beta)
        data = jax.tree.map(lambda x: x[i], task.data)
        value, grads = jax.value_and_grad(task.loss)(params, data)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def loop(α, β):
        ends = []
        for learning_rate, beta in zip(α, β, strict=True):
            params, state = task.start, optax.sgd(0.1, momentum=0.9).init(task.start)
            for i in range(len(task.data[1])):
                params, state, value = step(params, state, i, learning_rate, beta)
            ends.append(value)
        return jax.block_until_ready(ends)

    return loop


def run_of(task: Task) -> Callable[..., jax.Array]:
    def run(learning_rate, beta):
        tx = optax.sgd(learning_rate, momentum=beta)

        def step(carry, data):
            params, state = carry
            value, grads = jax.value_and_grad(task.loss)(params, data)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (task.start, tx.init(task.start)), task.data)[1][-1]

    return run


def scan(task: Task) -> Callable[[np.ndarray, np.ndarray], Any]:
    run = jax.jit(run_of(task))
    return lambda α, β: jax.block_until_ready([run(*each) for each in zip(α, β, strict=True)])


def vmap(task: Task) -> Callable[[np.ndarray, np.ndarray], Any]:
    run = jax.jit(jax.vmap(run_of(task)))
    return lambda α, β: jax.block_until_ready(run(α, β))


def sweep(task: Task) -> Callable[[np.ndarray, np.ndarray], Any]:
    run = run_of(task)

    def all_points(α, β):
        return momentax.sweep(run, momentax.sweeps.zipped(learning_rate=α, beta=β), progress=False)

    return all_points


class Seconds(NamedTuple):
    """What something took: on the clock, and of all processors together."""

    clock: float
    processor: float


def seconds(act: Callable[[], Any]) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    act()
    return Seconds(time.perf_counter() - clock, time.process_time() - processor)


def measure(task: Task, count: int, rounds: int, people_too: bool = True) -> dict[str, Any]:
    """Return the seconds of each way with compilation and warm, and the settings of the sweep."""
    α = np.resize(np.geomspace(1e-3, 0.3, 16), count).astype(np.float32)
    β = np.repeat([0.0, 0.5, 0.9, 0.95], count // 4).astype(np.float32)
    makers = (good_loop, scan, vmap, sweep)
    ways: dict[str, Any] = {}
    cold: dict[str, list[Seconds]] = {make.__name__: [] for make in makers}
    for _ in range(COLD_ROUNDS):
        for make in makers:
            way = ways[make.__name__] = make(task)
            cold[make.__name__].append(seconds(lambda way=way: way(α, β)))
    warm: dict[str, list[Seconds]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            warm[name].append(seconds(lambda way=way: way(α, β)))
    report = ways["sweep"](α, β).report
    if people_too:
        cold["people"] = [seconds(lambda: people(task, α, β))]
    return {
        **_summarize("cold", cold),
        **_summarize("warm", warm),
        "batch size": report.batch_size,
        "tried": report.tried,
    }


def _summarize(state: str, taken: dict[str, list[Seconds]]) -> dict[str, Any]:
    """Return medians over the rounds, and medians of the ratios to the sweep in each round."""
    result = {}
    for unit in Seconds._fields:
        name = state if unit == "clock" else f"{state} {unit}"
        each = {way: [getattr(one, unit) for one in all_] for way, all_ in taken.items()}
        result[name] = {way: statistics.median(all_) for way, all_ in each.items()}
        result[f"{name} ratios"] = {
            way: statistics.median(a / b for a, b in zip(all_, each["sweep"], strict=False))
            for way, all_ in each.items()
        }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--settings", nargs="+", type=int, default=SETTINGS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--without-people", action="store_true", help="leave out the slowest way")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    momentax.use_all_cores()
    momentax.sweep(lambda x: x, momentax.sweeps.zipped(x=[1.0]))  # This imports what a sweep needs.
    about = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": processor(),
        "jax": jax.__version__,
        "momentax": momentax.__version__,
    }
    print(about)
    results = []
    for name in options.networks:
        task = TASKS[name]()
        for count in options.settings:
            row = {"network": name, "settings": count}
            row |= measure(task, count, options.rounds, not options.without_people)
            results.append(row)
            print(f"\n{name}, {count} settings; batches of {row['batch size']}")
            for way in row["cold"]:
                warm = row["warm"].get(way, float("nan"))
                print(
                    f"  {way:<10} {row['cold'][way]:7.2f} s cold {row['cold ratios'][way]:6.2f} x"
                    f" {warm:7.3f} s warm {row['warm ratios'].get(way, float('nan')):6.2f} x"
                    f" {row['cold processor'][way]:7.2f} s of processors cold"
                    f" {row['cold processor ratios'][way]:6.2f} x",
                    flush=True,
                )
    if options.output:
        options.output.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
