"""Sweeps in forks of one process, which has imported JAX and started no backend of it.

A fork is thus a fresh process in a moment. `python -m tests.sweeps.forks FOLDER` runs every check
and prints what each found, as JSON; the tests in `test_forks.py` compare it. With a second
argument, the name of a check, it runs this check alone and without a fork.
"""

import contextlib
import json
import os
import random
import resource
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
TIMEOUT = 60  # Seconds, for a moment that comes within one.
KILLS = {"sweep": 20, "halve": 6}
ROUNDS, TOGETHER = 4, 3  # How often, and how many, processes start one store together.
CORES = [(None, ""), (3, ""), (3, "3"), (None, "5")]  # The argument count, and the flag of XLA.


def main(folder):
    outcomes = {}
    for kind, kills in KILLS.items():
        for name, count in (("killed", kills), ("whole", 0)):
            (folder / kind / name).mkdir(parents=True)
            outcomes[f"{kind} {name}"] = kill_repeatedly(kind, folder / kind / name, count)
    outcomes["cores"] = [
        wait(start_fork(use_cores, count, flag, folder / f"cores {i}"))
        for i, (count, flag) in enumerate(CORES)
    ]
    outcomes["together"] = [start_together(folder / f"together {i}") for i in range(ROUNDS)]
    outcomes["file size limit"] = wait(start_fork(limit_file_size, folder))
    outcomes["fingerprint"] = wait(start_fork(sweep_everything, folder))
    print(json.dumps(outcomes))


def start_fork(function, *arguments):
    """Call a function in a fork, and return the fork's process id."""
    child = os.fork()
    if not child:
        status = 1
        try:
            function(*arguments)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def wait(child):
    return os.waitpid(child, 0)[1]


# A sweep that is killed again and again


def kill_repeatedly(kind, folder, kills, seed=0):
    """Start a sweep and kill it at random moments; return the last status and all attempts.

    An attempt tells which batches were finished before it, which points it computed, and which
    files were half written when it ended.
    """
    chance, attempts, store = random.Random(seed), [], folder / "store"
    while True:
        before, log = read_batches(store), folder / f"computed {len(attempts)}"
        child = start_fork(attempt, kind, folder, log)
        ended = []

        def is_alive(child=child, ended=ended):
            pid, status = os.waitpid(child, os.WNOHANG)
            ended.extend([status] * (pid == child))
            return not ended

        if len(attempts) < kills:
            await_moment(chance, store, is_alive, 3 if kind == "sweep" else 6)
            if not ended:
                os.kill(child, signal.SIGKILL)
        status = ended[0] if ended else wait(child)
        computed = log.read_text().splitlines() if log.exists() else []
        half_written = [name for name in list_names(store) if name.endswith(".tmp")]
        attempts.append({"before": before, "computed": computed, "half written": half_written})
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return {"status": status, "attempts": attempts}


def attempt(kind, folder, log):
    """Sweep or halve; note each point that is computed, and write the result to a file."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_disable_most_optimizations", True)  # Each fork compiles again.
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(learning_rate, seed, steps=0):
        time.sleep(0.001)  # Gives the parent time on a busy machine.
        os.write(notes, f"{np.float32(learning_rate)} {int(seed)} {int(steps)}\n".encode())

    def start(learning_rate, seed):
        return {"x": jnp.sin(jnp.arange(1.0, 4.0) * (1 + seed)), "n": jnp.int32(0)}

    def advance(state, learning_rate, seed):
        jax.debug.callback(note, learning_rate, seed, state["n"])
        x = state["x"] - 0.01 * learning_rate * (DIRECTIONS @ (DIRECTIONS.T @ state["x"]))
        return {"x": x, "n": state["n"] + 1}

    def run(method, learning_rate, seed):
        jax.debug.callback(note, learning_rate, seed, method == "nesterov")
        x = start(learning_rate, seed)["x"]
        direction = DIRECTIONS @ (DIRECTIONS.T @ x) * {"heavy ball": 1.0, "nesterov": 1.9}[method]
        x = x - learning_rate * direction
        return {"x": x, "half": x.astype(jnp.bfloat16)}

    options = {"batch_size": 4, "store": folder / "store"}
    if kind == "sweep":
        result = sweep(run, POINTS, **options)
    else:
        functions = start, advance, lambda state: (state["x"] ** 2).sum()
        result = halve(*functions, RACERS, rungs=[1, 2, 4], keep=0.5, **options)
    jax.effects_barrier()
    values = [np.asarray(leaf) for leaf in jax.tree.leaves((result.values, result.diverged))]
    (folder / "result").write_bytes(b"".join(leaf.tobytes() for leaf in values))
    (folder / "report").write_text(json.dumps(result.report._asdict()))


def read_batches(store):
    """Return the points of each finished batch, by the name of its file."""
    batches = {}
    for path in sorted(store.glob("batch-*.npz")):
        with np.load(path) as file:
            batches[path.name] = file["points"].tolist()
    return batches


def list_names(store):
    return set(os.listdir(store)) if store.is_dir() else set()


def list_half_written(store):
    """Return the names and times of the files that will replace others once they are complete."""
    found = set()
    for name in list_names(store):
        if name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):  # It has just replaced the other file.
                found.add((name, (store / name).stat().st_mtime_ns))
    return found


def await_moment(chance, store, is_alive, most):
    """Wait until the sweep is starting, has written a file, or is writing one."""
    moment = chance.choice(["start", "file", "file", "half", "half", "half"])
    names, half_written = list_names(store), list_half_written(store)
    wanted, until = chance.randint(1, most), time.monotonic() + TIMEOUT
    if moment == "start":
        until = time.monotonic() + chance.uniform(0, 0.6)
    while time.monotonic() < until and is_alive():
        time.sleep(0.0003)
        new = {name for name in list_names(store) - names if name.startswith("batch-")}
        if moment == "start" and new:
            break
        if moment == "file" and len(new) >= wanted:
            time.sleep(chance.uniform(0, 0.004))
            break
        # One file is being written, after none or some that are complete.
        if moment == "half" and len(new) >= wanted - 1 and list_half_written(store) - half_written:
            break


# Each core as a device


def use_cores(count, flag, path):
    """Write what `use_all_cores` returns or raises, before and after JAX starts."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={flag}" if flag else ""
    lines = []
    for asked in (count, count, 9):
        try:
            lines.append(f"{momentax.use_all_cores(asked)} {jax.device_count()}")
        except RuntimeError as error:
            lines.append(str(error))
    path.write_text(json.dumps(lines))


# Several processes that start one store together


def start_together(folder):
    """Let processes sweep into one new store at the same moment; return their statuses."""
    folder.mkdir()
    (ready, is_ready), (go, may_go) = os.pipe(), os.pipe()
    children = []
    for number in range(TOGETHER):
        children.append(start_fork(sweep_when_told, folder, number, is_ready, go, may_go))
    for _ in children:
        os.read(ready, 1)
    os.close(may_go)
    statuses = [wait(child) for child in children]
    for end in (ready, is_ready, go):
        os.close(end)
    return statuses


def sweep_when_told(folder, number, is_ready, go, may_go):
    """Sweep once the pipe is closed; write the sum of the values, or the error."""
    os.close(may_go)

    def run(beta):
        return jnp.full(20, 1.0) * beta

    points = grid(beta=[0.0, 0.125, 0.25, 0.5, 0.625, 0.75])
    sweep(run, points, batch_size=1)  # Compiles, so that the stores start together.
    os.write(is_ready, b".")
    os.read(go, 1)
    try:
        outcome = float(sweep(run, points, batch_size=1, store=folder / "store").values.sum())
    except Exception as error:
        outcome = f"{type(error).__name__} {error}"
    (folder / f"outcome {number}").write_text(json.dumps(outcome))


# A limit on the size of files


def limit_file_size(folder):
    """Sweep into a store whose files the system cuts off, and again without the limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    points, store = grid(beta=[0.0, 0.5, 0.75]), folder / "limited"

    def run(beta):
        return jnp.full(2000, 1.0) * beta

    error = None
    try:
        sweep(run, points, batch_size=1, store=store)
    except OSError as raised:
        error = f"{type(raised).__name__} {raised}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    total = float(sweep(run, points, batch_size=1, store=store).values.sum())
    (folder / "limit").write_text(json.dumps([error, total]))


# A function with everything in it whose text could differ between two processes


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


@sine.defjvp
def _(primals, tangents):
    return sine(*primals), tangents[0] * jnp.cos(*primals)


@jax.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (square(x), x), lambda x, y: (2 * x * y,))


class Method:
    def __call__(self):
        return 0


def sweep_everything(folder):
    """Sweep callbacks, custom derivatives and nameless functions; write how many were resumed."""
    jax.config.update("jax_num_cpu_devices", 2)

    def run(method, beta):
        jax.debug.callback(lambda x: None, beta)
        jax.debug.print("{x}", x=beta)
        shape = jax.ShapeDtypeStruct((), np.float32)
        y = jax.pure_callback(np.sin, shape, beta, vmap_method="sequential")
        y += jax.pure_callback(scale, shape, beta, vmap_method="sequential")
        gradients = jax.grad(sine)(beta) + jax.grad(square)(y)
        return {"c": gradients, "a": sine(beta), "b": {"z": y, "y": beta}}

    words = {f"word {i}" for i in range(20)}  # Their order differs between processes.
    kept = {"words": words, "weights": np.arange(3.0), "method": Method(), "lists": [[words]]}

    def scale(x):
        return np.float32(x * kept["weights"].sum() * len({"a", "b", "c"} | kept["words"]))

    points = grid(method=[lambda: 0, Method()], beta=[0.1, 0.2])
    report = sweep(run, points, store=folder / "everything").report
    (folder / f"resumed {os.environ['PYTHONHASHSEED']}").write_text(str(report.resumed))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        globals()[sys.argv[2]](Path(sys.argv[1]))
    else:
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # There is one thread so far.
        sys.stdout.reconfigure(line_buffering=True)
        main(Path(sys.argv[1]))
