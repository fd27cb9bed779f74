"""Train a small transformer with Muon in float32 and in 8 bits: `python -m tests.benchmarks.muon`.

The model predicts the next character of the text of Python's own documentation, which ships with
Python. Both optimizers start from the same parameters and see the same batches, so that the
differences of their losses are paired by seed.

With --speed the steps of `orthogonalize` and of `optax.contrib.muon` are timed in turn instead, on
the 148 leaves of GPT-2 small.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax

WIDTH, LAYERS, HEADS, LENGTH, BATCH = 64, 2, 4, 64, 16


def read_text() -> tuple[np.ndarray, int]:
    """Return the text as numbers of characters, and how many different characters it has."""
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    alphabet, codes = np.unique(
        np.frombuffer(text.encode("ascii", "ignore"), np.uint8), return_inverse=True
    )
    return codes.astype(np.int32), len(alphabet)


def init(key: jax.Array, vocabulary: int) -> dict[str, Any]:
    """Return the parameters; those of all layers are stacked, as `nn.scan` does."""
    keys = iter(jax.random.split(key, 9))

    def normal(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) / np.sqrt(shape[-2])

    square = (LAYERS, WIDTH, WIDTH)
    layers: dict[str, Any] = {
        name: {"kernel": normal(*square)} for name in ("query", "key", "value", "out")
    }
    layers["up"] = {"kernel": normal(LAYERS, WIDTH, 4 * WIDTH)}
    layers["down"] = {"kernel": normal(LAYERS, 4 * WIDTH, WIDTH)}
    layers |= {f"norm_{i}": {"scale": jnp.ones((LAYERS, WIDTH))} for i in range(2)}
    return {
        "embed": {"embedding": 0.1 * jax.random.normal(next(keys), (vocabulary, WIDTH))},
        "positions": {"embedding": 0.1 * jax.random.normal(next(keys), (LENGTH, WIDTH))},
        "layers": layers,
        "norm": {"scale": jnp.ones(WIDTH)},
        "lm_head": {"kernel": normal(WIDTH, vocabulary)},
    }


def loss(params: dict[str, Any], text: jax.Array) -> jax.Array:
    """Return the mean cross entropy of each next character, in nats."""
    inputs, targets = text[:, :-1], text[:, 1:]
    x = params["embed"]["embedding"][inputs] + params["positions"]["embedding"][None]
    mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))[None, None]

    def normalize(x: jax.Array, scale: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale[None, None]

    def layer(x: jax.Array, p: dict[str, Any]) -> tuple[jax.Array, None]:
        y = normalize(x, p["norm_0"]["scale"])
        q, k, v = (
            (y @ p[name]["kernel"]).reshape(*y.shape[:2], HEADS, -1)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(WIDTH / HEADS)
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
        mixed = jnp.einsum("bhts,bshd->bthd", weights, v).reshape(y.shape)
        x = x + mixed @ p["out"]["kernel"]
        y = jax.nn.gelu(normalize(x, p["norm_1"]["scale"]) @ p["up"]["kernel"])
        return x + y @ p["down"]["kernel"], None

    x, _ = jax.lax.scan(layer, x, params["layers"])
    logits = normalize(x, params["norm"]["scale"]) @ params["lm_head"]["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def optimizers(steps: int, seed: Any = 0) -> dict[str, optax.GradientTransformationExtraArgs]:
    """Return Muon in float32 and in 8 bits, with a learning rate that falls to 0."""
    rate = optax.linear_schedule(0.02, 0.0, steps)
    tx = momentax.muon(rate, others=momentax.sgd(
        optax.linear_schedule(3e-3, 0.0, steps),
        momentax.quasi_hyperbolic_adam(0.9, 0.95, nu1=1.0, nu2=1.0),
    ))  # fmt: skip
    return {"float32": tx, "int8": momentax.stored(tx, momentax.storage.int8(seed=seed))}


def losses_of(name: str, steps: int, text: jax.Array, vocabulary: int, seed: jax.Array) -> Any:
    """Return the loss of each step."""
    start, batches = jax.random.split(jax.random.key(seed))
    tx = optimizers(steps, seed)[name]
    params = init(start, vocabulary)

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        at = jax.random.randint(key, (BATCH,), 0, len(text) - LENGTH - 1)
        batch = text[at[:, None] + jnp.arange(LENGTH + 1)[None]]
        value, g = jax.value_and_grad(loss)(params, batch)
        u, state = tx.update(g, state, params)
        return (optax.apply_updates(params, u), state), value

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(batches, steps))[1]


def train(
    steps: int, seeds: Sequence[int], results: dict[str, dict[str, list[float]]] | None = None
) -> Iterator[dict[str, dict[str, list[float]]]]:
    """Yield after each run the losses of each step so far, by optimizer and seed.

    Runs that are already in the results are not made again.
    """
    codes, vocabulary = read_text()
    results = {} if results is None else results
    programs = {
        name: jax.jit(partial(losses_of, name, steps, jnp.asarray(codes), vocabulary))
        for name in optimizers(1)
    }
    for seed in seeds:
        for name, program in programs.items():
            done = results.setdefault(name, {})
            if str(seed) not in done:
                done[str(seed)] = np.asarray(program(jnp.asarray(seed))).tolist()
                yield results


def bytes_of_matrices(tx: optax.GradientTransformation) -> tuple[int, int]:
    """Return the bytes of the state of hidden matrices, and their number of entries."""
    params = jax.eval_shape(lambda: init(jax.random.key(0), read_text()[1]))
    state = jax.eval_shape(tx.init, params)
    hidden = getattr(state, "inner_state", state).hidden
    roles = momentax.roles(params)
    sizes = dict(zip(roles, (leaf.size for leaf in jax.tree.leaves(params)), strict=True))
    entries = sum(size for name, size in sizes.items() if roles[name] == "hidden")
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(hidden)), entries


def measure_speed(width: int, rounds: int) -> None:
    """Print the seconds and the processor seconds of a step, and of compilation, side by side."""
    # These modules know all contestants of all benchmarks, which the training above does not need.
    from tests.benchmarks.contestants import CONTESTANTS
    from tests.benchmarks.workloads import Arena, gpt2

    arena = Arena(gpt2(width))
    names = ("optax.contrib.muon", "orthogonalize")
    found: dict[str, dict[str, list[float]]] = {}
    ready = {}
    for name in names:
        begin = time.process_time()
        ready[name] = CONTESTANTS[name](arena)
        found[name] = {"compilation, processor s": [time.process_time() - begin]}
        found[name]["temporary bytes a parameter"] = [ready[name].facts["temporary"]]
    for turn in range(rounds + 1):
        for name in names[:: -1 if turn % 2 else 1]:
            begin = time.perf_counter(), time.process_time()
            jax.block_until_ready(ready[name].call())
            if turn:  # The first call touches new memory.
                found[name].setdefault("step, s", []).append(time.perf_counter() - begin[0])
                found[name].setdefault("step, processor s", []).append(
                    time.process_time() - begin[1]
                )
    print(f"width {width}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for figure in found[names[0]]:
        theirs, ours = (np.median(found[name][figure]) for name in names)
        print(f"{figure:28} {theirs:10.3f} {ours:10.3f}   ratio {theirs / ours:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="a file to continue from, and to write to")
    options = parser.parse_args()
    if options.speed:
        measure_speed(options.width, options.rounds)
        return
    results: dict[str, Any] = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    for each in train(options.steps, range(options.seeds), results):
        if options.results:
            options.results.write_text(json.dumps(each), encoding="utf-8")
    last = max(options.steps // 10, 1)
    ends = {
        name: np.array([np.mean(runs[str(seed)][-last:]) for seed in range(options.seeds)])
        for name, runs in results.items()
    }
    for name, tx in optimizers(options.steps).items():
        taken, entries = bytes_of_matrices(tx)
        print(
            f"{name:8}  {taken / entries:.3f} bytes of state for an entry of a matrix, final loss "
            f"{ends[name].mean():.4f} ± {ends[name].std(ddof=1) / np.sqrt(options.seeds):.4f}"
        )
    difference = ends["int8"] - ends["float32"]
    error = difference.std(ddof=1) / np.sqrt(options.seeds)
    print(f"int8 - float32, paired by seed: {difference.mean():+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
