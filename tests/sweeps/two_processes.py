"""One of two processes that sweep together.

`python -m tests.sweeps.two_processes RANK PORT FOLDER TASK` writes what the process got into the
folder. The task "interrupted" is to be killed, and "together" continues it and does all the rest.
"""

import collections
import contextlib
import errno
import faulthandler
import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from momentax import grid, halve, sweep
from momentax.sweeps import repeat

DATA = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
POINTS = repeat(grid(method=["plain", "heavy"], learning_rate=np.linspace(0.1, 1, 5)), 3)
RACERS = repeat(grid(learning_rate=np.linspace(0.1, 1, 5), beta=[0.0, 0.5, 0.9]), 2)
EACH = 2  # Points per device.
TIMEOUT = 600  # Seconds, after which a process ends by itself.


def run(method, learning_rate, seed):
    def step(carried, _):
        x, v = carried
        v = {"plain": 0.0, "heavy": 0.9}[method] * v + jnp.tanh(DATA @ x)
        return (x - 0.1 * learning_rate * v, v), None

    x = jax.random.uniform(jax.random.key(seed), (16,))
    (x, _), _ = jax.lax.scan(step, (x, jnp.zeros(16)), length=20)
    return {
        "x": x,
        "bfloat16": x.astype(jnp.bfloat16),
        "float8": x.astype(jnp.float8_e5m2),
        "int4": seed.astype(jnp.int4),
        "bool": x > 0,
        "complex": jax.lax.complex(x, -jnp.zeros(16)),
        "zero": -jnp.zeros(()) * learning_rate,
        "nan": jax.lax.bitcast_convert_type(jnp.uint32(0x7FC12345), jnp.float32),
        "empty": jnp.zeros((0, 3)),
        "none": None,
        "diverged": learning_rate > 0.9,
    }


def another(method, learning_rate, seed):
    return {"x": learning_rate * seed.astype(jnp.float32)}


def failing(learning_rate):
    def fail_in_second(x):
        if jax.process_index():
            raise ValueError("only here")
        return x

    shape = jax.ShapeDtypeStruct((), np.float32)
    return jax.pure_callback(fail_in_second, shape, learning_rate, vmap_method="sequential")


def start(learning_rate, beta, seed):
    return {"x": jax.random.uniform(jax.random.key(seed), (4,)), "key": jax.random.key(seed)}


def advance(state, learning_rate, beta, seed):
    key, other = jax.random.split(state["key"])
    x = state["x"] * (1 - learning_rate) + beta * jax.random.uniform(other, (4,))
    return {"x": x, "key": key}


def score(state):
    return (state["x"] ** 2).sum()


def halve_racers(store=None, batch_size=2 * EACH):
    options = {"rungs": [1, 3, 6], "batch_size": batch_size, "store": store}
    return halve(start, advance, score, RACERS, **options)


def content(result):
    """Return everything that a result holds, as text."""
    tree = [result.values, result.diverged]
    tree += [result.survivors, result.states] if hasattr(result, "survivors") else []
    texts = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaf = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        texts[name] = f"{leaf.dtype}{list(leaf.shape)} {leaf.tobytes().hex()}"
    return texts


def report(result):
    return {"resumed": result.report.resumed, "devices": result.report.devices}


def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def interrupted(folder):
    """Sweep with slow writes, so that there is time to kill the processes in the middle."""
    with slow_writes():
        result = sweep(run, POINTS, batch_size=2 * EACH, store=folder / "interrupted")
    return {"report": report(result)}


def together(folder):
    """Continue the interrupted sweep, and run the calls that succeed or are refused."""
    found = {}
    both = {"batch_size": 2 * EACH}
    continued = sweep(run, POINTS, store=folder / "interrupted", **both)
    found["continued"], found["report of continued"] = content(continued), report(continued)
    found["sweep"] = content(sweep(run, POINTS, **both))
    found["with store"] = content(sweep(run, POINTS, store=folder / "sweep", **both))
    again = sweep(run, POINTS, store=folder / "sweep")
    found["again"], found["report of again"] = content(again), report(again)
    found["halved"] = content(halve_racers())
    found["halved with store"] = content(halve_racers(folder / "halving"))
    again = halve_racers(folder / "halving", "auto")
    found["halved again"], found["report of halved again"] = content(again), report(again)
    found["auto"] = report(sweep(run, POINTS))
    (folder / "file").touch()
    found["errors"] = {
        "file": error_of(lambda: sweep(run, POINTS, store=folder / "file")),
        "another": error_of(lambda: sweep(another, POINTS, store=folder / "sweep", **both)),
        "halving": error_of(lambda: halve_racers(folder / "sweep")),
        "run": error_of(lambda: sweep(failing, grid(learning_rate=[0.1, 0.2]))),
    }
    full = folder / "full"
    calls = {
        "beginning": lambda: sweep(run, POINTS, store=full / "1", **both),
        "choosing": lambda: sweep(run, POINTS, store=full / "2"),
        "batch": lambda: sweep(run, POINTS, store=full / "3", **both),
        "halving choosing": lambda: halve_racers(full / "2 halving", "auto"),
        "halving batch": lambda: halve_racers(full / "6 halving"),
    }
    with failing_writes():
        found["errors"] |= {name: error_of(call) for name, call in calls.items()}
    return found


@contextlib.contextmanager
def replaced_writes(replace):
    """Call another function in place of os.replace, which completes each file."""
    original = os.replace
    os.replace = lambda source, target: replace(original, source, target)
    yield
    os.replace = original


def slow_writes():
    def wait(original, source, target):
        time.sleep(0.1)
        original(source, target)

    return replaced_writes(wait)


def failing_writes():
    """Let a store write only as many files as the number with which its name starts."""
    written = collections.Counter()

    def fail_if_full(original, source, target):
        store = Path(target).parent.name
        if store[0].isdigit():
            written[store] += 1
            if written[store] > int(store[0]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(source, target)

    return replaced_writes(fail_if_full)


def main(rank, port, folder, task):
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    found = {"interrupted": interrupted, "together": together}[task](folder)
    (folder / f"{task} {rank}").write_text(json.dumps(found))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
