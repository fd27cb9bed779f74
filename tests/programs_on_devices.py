"""Programs on 8 devices, for tests/test_communication.py.

`python -m tests.programs_on_devices` prints, as JSON, what each device sends in the programs of
several ways to train on 2, 4 and 8 devices, and what it keeps: bytes for each parameter.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import momentax
from momentax import outer, sgd, storage
from tests.collectives import collectives
from tests.compilation import fully_optimized

SHAPE = (64, 256)
ENTRIES = 64 * 256
K = 30


def mesh_of(count):
    return Mesh(np.array(jax.devices()[:count]), ("data",), axis_types=(AxisType.Auto,))


def loss(w, batch):
    return jnp.mean(jnp.tanh(batch @ w))


def scattered_gradient(mesh):
    """Return the gradient of the loss, of which each device gets its part of the sum."""

    def part(w, batch):
        w = jax.lax.pcast(w, "data", to="varying")  # Each device has a gradient of its own.
        g = jax.grad(loss)(w, batch)
        return jax.lax.psum_scatter(g, "data", tiled=True) / mesh.size

    specs = PartitionSpec(), PartitionSpec("data")
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("data"))


def data_parallel(mesh, tx, gradient):
    """Compile a step whose batch is split over the devices."""
    whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
    w = jax.device_put(jnp.zeros(SHAPE), whole)
    state = tx.init(w)

    def step(w, state, batch):
        updates, state = tx.update(gradient(w, batch), state, w)
        return optax.apply_updates(w, updates), state

    batch = jax.ShapeDtypeStruct((16, SHAPE[0]), jnp.float32, sharding=split)
    own = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state) if x.ndim)
    return jax.jit(step, donate_argnums=(0, 1)).lower(w, state, batch), own / ENTRIES


def workers(mesh, tx):
    """Compile an update of workers, one on each device, whose gradient is their parameters."""
    spec = PartitionSpec("data")
    split = NamedSharding(mesh, spec)

    def step(w, state):
        w, state = jax.tree.map(lambda x: x[0], (w, state))
        updates, state = tx.update(w, state, w)
        return jax.tree.map(lambda x: x[None], (optax.apply_updates(w, updates), state))

    w = jnp.zeros(SHAPE)
    given = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((mesh.size, *x.shape), x.dtype, sharding=split),
        (w, tx.init(w)),
    )
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec))
    return jax.jit(mapped).lower(*given), None


PROGRAMS = {
    "replicated": lambda mesh: data_parallel(mesh, sgd(0.1), jax.grad(loss)),
    "outer float32": lambda mesh: workers(mesh, outer(sgd(0.1), K, axis="data")),
    **{
        f"outer {name}": lambda mesh, name=name: workers(
            mesh, outer(sgd(0.1), K, axis="data", compression=getattr(storage, name)())
        )
        for name in ("bfloat16", "int8")
    },
}
PROGRAMS |= {
    f"split {name}": lambda mesh, tx=tx: data_parallel(
        mesh, momentax.shard_velocity(tx, mesh, "data"), jax.grad(loss)
    )
    for name, tx in {
        "float32": sgd(0.1),
        "bfloat16": momentax.stored(sgd(0.1), storage.bfloat16()),
        "int8": momentax.stored(sgd(0.1), storage.int8()),
    }.items()
}
PROGRAMS["scattered"] = lambda mesh: data_parallel(
    mesh, momentax.shard_velocity(sgd(0.1), mesh, "data"), scattered_gradient(mesh)
)


def main():
    found = {}
    for name, make in PROGRAMS.items():
        for count in (2, 4, 8):
            lowered, kept = make(mesh_of(count))
            sent = collectives(fully_optimized(lowered).as_text())
            rings = [2 if each.operation == "all-reduce" else 1 for each in sent]
            found[f"{name} {count}"] = {
                "sent": sum(each.sent for each in sent) / ENTRIES,
                "messages": sum(rings) * (count - 1),
                "operations": sorted({each.operation for each in sent}),
                "kept": kept,
            }
    print(json.dumps(found))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    main()
