"""Checks of a sweep on 8 devices, each of them a function.

`python -m tests.sweeps.eight_devices FOLDER` runs them all and prints, as JSON, the error of each
check that failed.
"""

import json
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from momentax import grid, halve, sweep
from momentax.sweeps import repeat

DATA = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
POINTS = grid(learning_rate=np.linspace(0.01, 0.3, 9), beta=[0.0, 0.5, 0.9])


def descend(learning_rate, beta, constrained=lambda x: x):
    def step(carried, _):
        x, v = carried
        x = constrained(x)
        v = beta * v + jnp.tanh(DATA @ x)
        return (x - 0.1 * learning_rate * v, v), None

    (x, _), _ = jax.lax.scan(step, (jnp.ones(16), jnp.zeros(16)), length=20)
    return {"x": x, "loss": (x**2).sum()}


def step_once(learning_rate, beta):
    """One step of `descend`, which compiles sooner."""
    x = 1 - 0.1 * learning_rate * jnp.tanh(DATA @ jnp.ones(16))
    return {"x": x, "loss": beta * (x**2).sum()}


def first_devices(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


def mesh_of_shape(*shape, **kind):
    return Mesh(np.array(jax.devices()).reshape(shape), ("points", "model"), **kind)


def content(result):
    """Return the bytes of everything that a result holds, by name."""
    tree = jax.tree.leaves_with_path((result.values, result.diverged))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in tree}


def assert_close(result, other):
    for ours, theirs in zip(
        jax.tree.leaves(result.values), jax.tree.leaves(other.values), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def equal_points_per_device_give_equal_bits(folder):
    for each in (1, 3):
        one = content(sweep(descend, POINTS, batch_size=each, mesh=first_devices(1)))
        for count in (2, 8):
            result = sweep(descend, POINTS, batch_size=each * count, mesh=first_devices(count))
            assert content(result) == one, (each, count)
            assert result.report.devices == count
            assert result.report.programs == 1
            batch = min(each * count, -(-len(POINTS) // count) * count)
            assert result.report.batch_size == batch


def one_point_per_device_gives_the_bits_of_a_loop(folder):
    jitted = jax.jit(descend)
    singles = [jitted(**point) for point in POINTS]
    result = sweep(descend, POINTS, batch_size=8)
    assert result.report.devices == 8
    for i, single in enumerate(singles):
        here = jax.tree.map(lambda leaf, i=i: leaf.reshape(-1, *leaf.shape[2:])[i], result.values)
        for ours, theirs in zip(jax.tree.leaves(here), jax.tree.leaves(single), strict=True):
            assert ours.tobytes() == np.asarray(theirs).tobytes()


def there_may_be_fewer_points_than_devices(folder):
    points = grid(learning_rate=[0.1, 0.2, 0.3], beta=[0.9])
    result = sweep(descend, points)
    assert result.report.batch_size == 8
    assert content(result) == content(sweep(descend, points, batch_size=1, mesh=first_devices(1)))


def a_batch_size_is_rounded_up_to_a_multiple_of_the_devices(folder):
    result = sweep(descend, POINTS, batch_size=9)
    assert result.report.batch_size == 16
    assert content(result) == content(sweep(descend, POINTS, batch_size=2, mesh=first_devices(1)))


def points_are_split_over_all_axes_of_any_kind_of_mesh(folder):
    same = content(sweep(step_once, POINTS, batch_size=16))
    kinds = [
        jax.make_mesh((8,), ("anything",)),
        jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Explicit,) * 2),
        jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2),
        Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("a", "b", "c")),
        NamedSharding(mesh_of_shape(4, 2), PartitionSpec(("points", "model"))),
    ]
    for mesh in kinds:
        result = sweep(step_once, POINTS, batch_size=16, mesh=mesh)
        assert result.report.devices == 8
        assert content(result) == same, mesh


def points_use_one_axis_and_run_uses_the_other(folder):
    plain = sweep(descend, POINTS, batch_size=4, mesh=first_devices(1))
    for mesh in (
        mesh_of_shape(4, 2),
        jax.make_mesh((4, 2), ("points", "model"), (AxisType.Auto,) * 2),
    ):
        inner = NamedSharding(mesh, PartitionSpec("model"))

        def run(learning_rate, beta, inner=inner):
            return descend(
                learning_rate, beta, lambda x: jax.lax.with_sharding_constraint(x, inner)
            )

        for batch_size in (4, 8, "auto"):
            points = NamedSharding(mesh, PartitionSpec("points"))
            result = sweep(run, POINTS, batch_size=batch_size, mesh=points)
            assert result.report.devices == 4
            assert_close(result, plain)


def an_ambient_mesh_changes_nothing(folder):
    def start(learning_rate, beta):
        return jnp.ones(3) * beta

    def advance(x, learning_rate, beta):
        return x + learning_rate

    def halve_points(mesh=None):
        functions = start, advance, jnp.sum
        return halve(*functions, POINTS, rungs=2, batch_size=16, mesh=mesh)

    plain, halved = content(sweep(step_once, POINTS, batch_size=16)), content(halve_points())
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("points", "model"), (kind,) * 2)
        with jax.set_mesh(mesh):
            for given in (None, mesh):
                assert content(sweep(step_once, POINTS, batch_size=16, mesh=given)) == plain
                assert content(halve_points(given)) == halved
            assert jax.sharding.get_abstract_mesh() == mesh.abstract_mesh


def an_unused_axis_only_replicates(folder):
    points = NamedSharding(mesh_of_shape(4, 2), PartitionSpec("points"))
    result = sweep(descend, POINTS, batch_size=8, mesh=points)
    assert content(result) == content(sweep(descend, POINTS, batch_size=2, mesh=first_devices(1)))


def a_store_continues_with_fewer_and_more_devices(folder):
    whole = sweep(descend, POINTS, batch_size=3, mesh=first_devices(1))
    for first, then in [(1, 8), (8, 1), (8, 2), (2, 8)]:
        store = folder / f"{first} {then}"
        sweep(descend, POINTS, batch_size=3, store=store, mesh=first_devices(first))
        files = sorted(store.glob("batch-*.npz"))
        for path in files[1:]:
            path.unlink()
        with np.load(files[0]) as file:
            kept = len(file["points"])
        for again in range(2):
            result = sweep(descend, POINTS, batch_size=3, store=store, mesh=first_devices(then))
            assert_close(result, whole)
            assert result.report.devices == then
            assert result.report.resumed == (len(POINTS) if again else kept)


def halving_gives_equal_bits_and_continues(folder):
    def start(learning_rate, beta, seed):
        return {"x": jnp.ones(16), "key": jax.random.key(seed)}

    def advance(state, learning_rate, beta, seed):
        key, other = jax.random.split(state["key"])
        x = learning_rate * jnp.tanh(DATA @ state["x"]) + beta * jax.random.normal(other, (16,))
        return {"x": x, "key": key}

    def halve_points(count, store=None):
        return halve(
            start,
            advance,
            lambda state: (state["x"] ** 2).sum(),
            repeat(POINTS, 2),
            rungs=[1, 3, 4],
            keep=0.6,  # Two points per device continue, so that the programs are equal.
            batch_size=2 * count,
            mesh=first_devices(count),
            store=store,
        )

    one, whole = halve_points(1), halve_points(8, folder)
    assert content(whole) == content(one)
    np.testing.assert_array_equal(whole.survivors, one.survivors)
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("batch-*.npz"))}
    for name in list(files)[1::2]:
        (folder / name).unlink()
    assert content(halve_points(8, folder)) == content(one)
    assert {path.name: path.read_bytes() for path in folder.glob("batch-*.npz")} == files


def a_default_device_is_the_only_device(folder):
    one = content(sweep(descend, POINTS, batch_size=4, mesh=first_devices(1)))
    with jax.default_device(jax.devices()[3]):
        result = sweep(descend, POINTS, batch_size=4)
    assert result.report.devices == 1
    assert content(result) == one
    with jax.default_device("cpu"):
        assert sweep(descend, POINTS, batch_size=8).report.devices == 8


def a_diverged_point_changes_no_other(folder):
    def run(learning_rate, beta):
        return {"loss": descend(jnp.minimum(learning_rate, 0.3), beta)["loss"] / learning_rate}

    def run_and_diverge(learning_rate, beta):
        result = run(learning_rate, beta)
        bad = (learning_rate > 0.1) & (learning_rate < 0.15)
        return {"loss": jnp.where(bad, jnp.nan, result["loss"])}

    for batch_size in (8, 24):
        sound = sweep(run, POINTS, batch_size=batch_size)
        result = sweep(run_and_diverge, POINTS, batch_size=batch_size)
        rates = POINTS.axes["learning_rate"]
        bad = np.broadcast_to(((rates > 0.1) & (rates < 0.15))[:, None], POINTS.shape)
        assert bad.any()
        np.testing.assert_array_equal(result.diverged, bad)
        assert not sound.diverged.any()
        assert result["loss"][~bad].tobytes() == sound["loss"][~bad].tobytes()


CHECKS = {
    check.__name__: check
    for check in (
        equal_points_per_device_give_equal_bits,
        one_point_per_device_gives_the_bits_of_a_loop,
        there_may_be_fewer_points_than_devices,
        a_batch_size_is_rounded_up_to_a_multiple_of_the_devices,
        points_are_split_over_all_axes_of_any_kind_of_mesh,
        points_use_one_axis_and_run_uses_the_other,
        an_ambient_mesh_changes_nothing,
        an_unused_axis_only_replicates,
        a_store_continues_with_fewer_and_more_devices,
        halving_gives_equal_bits_and_continues,
        a_default_device_is_the_only_device,
        a_diverged_point_changes_no_other,
    )
}


def main(folder):
    failures = {}
    for name, check in CHECKS.items():
        (folder / name).mkdir()
        try:
            check(folder / name)
        except Exception:
            failures[name] = traceback.format_exc()
    print(json.dumps(failures))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main(Path(sys.argv[1]))
