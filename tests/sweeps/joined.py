"""One of two processes that sweep together: python -m tests.sweeps.joined RANK PORT FOLDER TASK.

Each writes what it got into the folder; the test looks whether it is the same.
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
EACH = 2  # Points a device.
PATIENCE = 90  # Seconds, after which a process ends by itself.


def run(method, learning_rate, seed):
    def step(carried, _):
        x, v = carried
        v = {"plain": 0.0, "heavy": 0.9}[method] * v + jnp.tanh(DATA @ x)
        return (x - 0.1 * learning_rate * v, v), None

    x = jax.random.normal(jax.random.key(seed), (16,))
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


def slow(method, learning_rate, seed):
    jax.debug.callback(lambda _: time.sleep(0.02), learning_rate)
    return run(method, learning_rate, seed)


def failing(learning_rate):
    def there(x):
        if jax.process_index():
            raise ValueError("only here")
        return x

    shape = jax.ShapeDtypeStruct((), np.float32)
    return jax.pure_callback(there, shape, learning_rate, vmap_method="sequential")


def start(learning_rate, beta, seed):
    return {"x": jax.random.normal(jax.random.key(seed), (4,)), "key": jax.random.key(seed)}


def advance(state, learning_rate, beta, seed):
    key, other = jax.random.split(state["key"])
    x = state["x"] * (1 - learning_rate) + beta * jax.random.normal(other, (4,))
    return {"x": x, "key": key}


def score(state):
    return (state["x"] ** 2).sum()


def race(store=None, batch_size=2 * EACH):
    how = {"rungs": [1, 3, 6], "batch_size": batch_size, "store": store}
    return halve(start, advance, score, RACERS, **how)


def content(result):
    """All that a result holds, as text."""
    tree = [result.values, result.diverged]
    tree += [result.survivors, result.states] if hasattr(result, "survivors") else []
    found = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaf = np.asarray(leaf)
        where = jax.tree_util.keystr(path)
        found[where] = f"{leaf.dtype}{list(leaf.shape)} {leaf.tobytes().hex()}"
    return found


def resumed(result):
    return {"resumed": result.report.resumed, "devices": result.report.devices}


def refused(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def together(folder):
    """All that ends well, and what is refused."""
    told = {}
    both = {"batch_size": 2 * EACH}
    told["sweep"] = content(sweep(run, POINTS, **both))
    told["stored"] = content(sweep(run, POINTS, store=folder / "sweep", **both))
    again = sweep(run, POINTS, store=folder / "sweep")
    told["again"], told["of again"] = content(again), resumed(again)
    told["halved"] = content(race())
    told["halved and stored"] = content(race(folder / "race"))
    again = race(folder / "race", "auto")
    told["halved again"], told["of halved again"] = content(again), resumed(again)
    told["auto"] = resumed(sweep(run, POINTS))
    (folder / "file").touch()
    told["refused"] = {
        "file": refused(lambda: sweep(run, POINTS, store=folder / "file")),
        "another": refused(lambda: sweep(slow, POINTS, store=folder / "sweep", **both)),
        "race": refused(lambda: race(folder / "sweep")),
        "run": refused(lambda: sweep(failing, grid(learning_rate=[0.1, 0.2]))),
    }
    full = folder / "full"
    calls = {
        "beginning": lambda: sweep(run, POINTS, store=full / "1", **both),
        "choosing": lambda: sweep(run, POINTS, store=full / "2"),
        "batch": lambda: sweep(run, POINTS, store=full / "3", **both),
        "race choosing": lambda: race(full / "2 race", "auto"),
        "race batch": lambda: race(full / "6 race"),
    }
    with failing_writes():
        told["refused"] |= {name: refused(call) for name, call in calls.items()}
    return told


@contextlib.contextmanager
def failing_writes():
    """Let no more files be written to a store than the number says that its name begins with."""
    replace, written = os.replace, collections.Counter()

    def full(source, target):
        store = Path(target).parent.name
        if store[0].isdigit():
            written[store] += 1
            if written[store] > int(store[0]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    os.replace = full
    yield
    os.replace = replace


def main(rank, port, folder, task):
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    if task == "together":
        told = together(folder)
    else:  # To be killed, and to go on.
        result = sweep(slow, POINTS, batch_size=2 * EACH, store=folder / "killed")
        told = {"sweep": content(result), "of sweep": resumed(result)}
    (folder / f"{task} {rank}").write_text(json.dumps(told))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
