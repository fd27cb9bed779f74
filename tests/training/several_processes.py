"""One of several processes that train the network of the digits together.

`python -m tests.training.several_processes RANK COUNT PORT FOLDER` reads the data and the first
parameters from the folder, trains with the other processes on four devices in all, and writes the
parameters after each step into the folder. It imports neither Flax nor scikit-learn, which would
take longer than the training.
"""

import faulthandler
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax
from momentax import nesterov, outer, sgd

WORKERS, STEPS, K = 4, 9, 3
BATCH = 64  # Images of a step, of all workers together.
TIMEOUT = 300  # Seconds, after which a process ends by itself.
P = jax.sharding.PartitionSpec


def logits(params, images):
    """Compute what `momentax._cli._digits.Network` computes, in operations that compile soon."""
    x = images
    for layer in ("first", "second"):
        kernel, bias = params[layer]["kernel"], params[layer]["bias"]
        count, height, width, _ = x.shape
        padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        x = jnp.concatenate(shifts, -1) @ kernel.reshape(-1, kernel.shape[-1])
        x = jax.nn.relu(x + bias[None, None, None])
        x = x.reshape(count, height // 2, 2, width // 2, 2, -1).max((2, 4))
    return x.reshape(len(x), -1) @ params["last"]["kernel"] + params["last"]["bias"][None]


def loss(params, images, labels):
    values = logits(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(values, labels).mean()


def momentum():
    return sgd(0.05, nesterov(0.9))


def outer_momentum():
    return outer(momentum(), K, sgd(0.7, nesterov(0.9)), axis="workers")


def train(tx, params, images, labels, evaluate):
    """Return what is evaluated after each step; the data have a leading axis of steps."""

    def step(carry, batch):
        params, state = carry
        grads = jax.grad(loss)(params, *batch)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.concatenate(
            [leaf.ravel() for leaf in jax.tree.leaves(evaluate(params, state))]
        )

    return jax.lax.scan(step, (params, tx.init(params)), (images, labels))[1]


def data_parallel(params, images, labels):
    """Train with gradients of whole batches, whose images may lie on several devices."""
    return train(momentum(), params, images, labels, lambda params, state: params)


def on_worker(params, images, labels):
    """Train as one of the workers, and return the slow parameters."""
    return train(outer_momentum(), params, images, labels, momentax.eval_params)


def with_all_processes(params, images, labels):
    """Return the parameters after each step, from two ways to train on all devices."""
    mesh = jax.make_mesh((WORKERS,), ("workers",), (jax.sharding.AxisType.Auto,))

    def share(array):
        """Make a global array, of which this process holds the images of its own devices."""
        mine = np.split(array, jax.process_count(), axis=1)[jax.process_index()]
        split = jax.sharding.NamedSharding(mesh, P(None, "workers"))
        return jax.make_array_from_process_local_data(split, mine)

    images, labels = share(images), share(labels)
    params = jax.device_put(params, jax.sharding.NamedSharding(mesh, P()))
    data = P(None, "workers")
    # Of the carry of a scan JAX would ask which parts differ between devices.
    workers = jax.shard_map(
        on_worker, mesh=mesh, in_specs=(P(), data, data), out_specs=P(), check_vma=False
    )
    found = {
        "data parallel": jax.jit(data_parallel)(params, images, labels),
        "outer": jax.jit(workers)(params, images, labels),
    }
    return {name: np.asarray(path.addressable_data(0)) for name, path in found.items()}


def alone(params, images, labels):
    """Return the same on one device."""
    shares = [
        array.reshape(STEPS, WORKERS, BATCH // WORKERS, *array.shape[2:])
        for array in (images, labels)
    ]
    workers = jax.vmap(on_worker, in_axes=(None, 1, 1), axis_name="workers")
    return {
        "data parallel": jax.jit(data_parallel)(params, images, labels),
        "outer": jax.jit(workers)(params, *shares)[0],
    }


def read(folder):
    with np.load(folder / "given.npz") as given:
        params = {}
        for name in given.files:
            layer, _, part = name.partition(" ")
            if part:
                params.setdefault(layer, {})[part] = given[name]
        return params, given["images"], given["labels"]


def main(rank, count, port, folder):
    jax.config.update("jax_num_cpu_devices", WORKERS // count)
    jax.config.update("jax_disable_most_optimizations", True)  # They take longer than the steps.
    jax.distributed.initialize(f"localhost:{port}", count, rank)
    np.savez(folder / f"{count} {rank}.npz", **with_all_processes(*read(folder)))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
