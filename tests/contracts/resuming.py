"""A run that saves on 8 devices and is killed in its second save, and one that resumes it on 4.

`python -m tests.contracts.resuming save FOLDER` and then `... resume FOLDER`.
"""

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import momentax


@functools.cache
def optimizer():
    method = optax.chain(
        momentax.stored(momentax.nesterov(0.9), momentax.storage.int8(), min_size=1),
        momentax.average(0.5),
    )
    return optax.chain(optax.clip_by_global_norm(1.0), momentax.sgd(0.1, method))


class HangHandler(ocp.CheckpointHandler):
    """Save a part of a checkpoint that is never finished."""

    def save(self, directory, args):
        (directory / "half").write_text("half")
        print("saving step 5", flush=True)
        time.sleep(600)

    def restore(self, directory, args=None):
        raise NotImplementedError


@ocp.args.register_with_handler(HangHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class Hang(ocp.args.CheckpointArgs):
    """Hang while saving."""


def params_on(mesh, spec):
    kernel = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    return {
        "kernel": jax.device_put(kernel, NamedSharding(mesh, spec)),
        "bias": jax.device_put(np.zeros(8, np.float32), NamedSharding(mesh, PartitionSpec())),
    }


@jax.jit
def step(params, state):
    grads = jax.grad(lambda p: jnp.sum(jnp.tanh(p["kernel"] + p["bias"]) ** 2))(params)
    updates, state = optimizer().update(grads, state, params)
    return optax.apply_updates(params, updates), state


def write(path, tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    np.savez(path, **{jax.tree_util.keystr(at): np.asarray(leaf) for at, leaf in leaves})


def save(folder):
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    params = params_on(mesh, PartitionSpec("rows"))
    state = optimizer().init(params)
    for _ in range(3):
        params, state = step(params, state)
    manager = ocp.CheckpointManager(folder / "run", item_names=("run", "hang"))
    run = ocp.args.StandardSave((params, state))
    manager.save(3, args=ocp.args.Composite(run=run))
    manager.wait_until_finished()
    write(folder / "step3.npz", (params, state))
    for _ in range(2):
        params, state = step(params, state)
    write(folder / "step5.npz", (params, state))
    run = ocp.args.StandardSave((params, state))
    manager.save(5, args=ocp.args.Composite(run=run, hang=Hang()))


def resume(folder):
    mesh = jax.make_mesh((2, 2), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec("rows", "columns")
    new = params_on(mesh, spec)
    new = new, optimizer().init(new)  # Its arrays lie where those of the checkpoint shall.
    everywhere = NamedSharding(mesh, PartitionSpec())

    def describe(x):
        sharding = x.sharding if x.committed else everywhere  # Counts are not committed.
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    like = jax.tree.map(describe, new)
    manager = ocp.CheckpointManager(folder / "run", item_names=("run", "hang"))
    latest = manager.latest_step()
    run = ocp.args.StandardRestore(like)
    params, state = manager.restore(latest, args=ocp.args.Composite(run=run))["run"]
    write(folder / "restored.npz", (params, state))
    velocity = momentax.velocity(state, path="[1][1][1].velocity")
    kernels = {tuple(x["kernel"].sharding.spec) for x in (params, velocity)}
    for _ in range(2):
        params, state = step(params, state)
    write(folder / "resumed.npz", (params, state))
    print(json.dumps({"step": latest, "kernels": sorted(kernels)}))


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    jax.config.update("jax_num_cpu_devices", 8 if command == "save" else 4)
    {"save": save, "resume": resume}[command](folder)
