"""Kill a sweep again and again, and see what is left: python -m tests.sweeps.killed.

The first process imports JAX once and starts no backend of it, so that each fork of it is a
fresh sweep in a moment. It prints, for every attempt, what was finished before it and which
points it computed.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import momentax
from momentax import grid, halve, sweep
from momentax.sweeps import repeat

DIRECTIONS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
POINTS = repeat(grid(method=["heavy ball", "nesterov"], learning_rate=np.linspace(0.1, 1, 40)), 4)
RACERS = repeat(grid(learning_rate=np.linspace(0.1, 1, 18)), 4)
PATIENCE = 60  # Seconds, for what takes one.


def attempt(kind, folder, log):
    """One sweep, in a process of its own; it notes each point that it computes."""
    diary = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(learning_rate, seed, steps=0):
        time.sleep(0.001)  # For whoever watches on a busy machine.
        os.write(diary, f"{np.float32(learning_rate)} {int(seed)} {int(steps)}\n".encode())

    def start(learning_rate, seed):
        return {"x": jax.random.normal(jax.random.key(seed), (3,)), "n": jnp.int32(0)}

    def advance(state, learning_rate, seed):
        jax.debug.callback(noted, learning_rate, seed, state["n"])
        x = state["x"] - 0.01 * learning_rate * (DIRECTIONS @ (DIRECTIONS.T @ state["x"]))
        return {"x": x, "n": state["n"] + 1}

    def run(method, learning_rate, seed):
        jax.debug.callback(noted, learning_rate, seed, method == "nesterov")
        make = {"heavy ball": momentax.heavy_ball, "nesterov": momentax.nesterov}[method]
        tx = momentax.sgd(learning_rate, make(0.9))
        x = start(learning_rate, seed)["x"]
        result = momentax.rollout(lambda x: ((DIRECTIONS.T @ x) ** 2).sum(), x, tx, 20)
        return {"x": result.params, "half": result.params.astype(jnp.bfloat16)}

    kept = {"batch_size": 4, "store": folder / "store"}
    if kind == "sweep":
        result = sweep(run, POINTS, **kept)
    else:
        result = halve(
            start, advance, lambda s: (s["x"] ** 2).sum(), RACERS, rungs=[1, 2, 4], keep=0.5, **kept
        )
    jax.effects_barrier()
    values = [np.asarray(leaf) for leaf in jax.tree.leaves((result.values, result.diverged))]
    content = b"".join(leaf.tobytes() for leaf in values)
    (folder / "result").write_bytes(content)
    (folder / "report").write_text(json.dumps(result.report._asdict()))


def finished(store):
    """The batches that are whole: their files' names and points."""
    found = {}
    for path in sorted(store.glob("batch-*.npz")):
        with np.load(path) as file:
            found[path.name] = file["points"].tolist()
    return found


def names(store):
    return set(os.listdir(store)) if store.is_dir() else set()


def being_written(store):
    """What stands beside the files that it will replace, and how far it is."""
    found = set()
    for name in names(store):
        if name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):  # By now it has replaced it.
                found.add((name, (store / name).stat().st_mtime_ns))
    return found


def await_moment(chance, store, alive, most):
    """Until something of the sweep's is halfway: starting, computing, or writing a file."""
    moment = chance.choice(["start", "file", "file", "half", "half", "half"])
    began, left = names(store), being_written(store)
    wanted, until = chance.randint(1, most), time.monotonic() + PATIENCE
    if moment == "start":
        until = time.monotonic() + chance.uniform(0, 0.6)
    while time.monotonic() < until and alive():
        new = {name for name in names(store) - began if name.startswith("batch-")}
        if moment == "start" and new:
            break
        if moment == "file" and len(new) >= wanted:
            time.sleep(chance.uniform(0, 0.004))
            break
        # A file that is being written, after none or some that were.
        if moment == "half" and len(new) >= wanted - 1 and being_written(store) - left:
            break


def main(kind, folder, kills, seed):
    folder, chance, attempts = Path(folder), random.Random(seed), []
    folder.mkdir()
    store = folder / "store"
    while True:
        before, log = finished(store), folder / f"computed {len(attempts)}"
        child = os.fork()
        if not child:
            status = 1
            try:
                attempt(kind, folder, log)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        ended = []

        def alive(child=child, ended=ended):
            pid, status = os.waitpid(child, os.WNOHANG)
            ended.extend([status] * (pid == child))
            return not ended

        if len(attempts) < kills:
            await_moment(chance, store, alive, 3 if kind == "sweep" else 6)
            if not ended:
                os.kill(child, signal.SIGKILL)
        status = ended[0] if ended else os.waitpid(child, 0)[1]
        computed = log.read_text().splitlines() if log.exists() else []
        halfway = [name for name in names(store) if name.endswith(".tmp")]
        attempts.append({"before": before, "computed": computed, "halfway": halfway})
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            print(json.dumps({"status": status, "attempts": attempts}))
            return


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # There is but one thread yet.
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
