"""What holds of a sweep on 8 devices, each check a function: python -m tests.sweeps.eight.

It prints, as JSON, what went wrong in each check.
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


def devices(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


def shaped(*shape, **kind):
    return Mesh(np.array(jax.devices()).reshape(shape), ("points", "model"), **kind)


def content(result):
    """Names and bytes of all that a result holds."""
    tree = jax.tree.leaves_with_path((result.values, result.diverged))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in tree}


def assert_close(result, other):
    for ours, theirs in zip(
        jax.tree.leaves(result.values), jax.tree.leaves(other.values), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def as_many_points_a_device_give_the_same_bits(folder):
    for each in (1, 3):
        one = content(sweep(descend, POINTS, batch_size=each, mesh=devices(1)))
        for count in (2, 8):
            result = sweep(descend, POINTS, batch_size=each * count, mesh=devices(count))
            assert content(result) == one, (each, count)
            assert result.report.devices == count
            assert result.report.programs == 1
            batch = min(each * count, -(-len(POINTS) // count) * count)
            assert result.report.batch_size == batch


def one_point_a_device_gives_the_bits_of_a_loop(folder):
    jitted = jax.jit(descend)
    alone = [jitted(**point) for point in POINTS]
    result = sweep(descend, POINTS, batch_size=8)
    assert result.report.devices == 8
    for i, single in enumerate(alone):
        here = jax.tree.map(lambda leaf, i=i: leaf.reshape(-1, *leaf.shape[2:])[i], result.values)
        for ours, theirs in zip(jax.tree.leaves(here), jax.tree.leaves(single), strict=True):
            assert ours.tobytes() == np.asarray(theirs).tobytes()


def fewer_points_than_devices(folder):
    points = grid(learning_rate=[0.1, 0.2, 0.3], beta=[0.9])
    result = sweep(descend, points)
    assert result.report.batch_size == 8
    assert content(result) == content(sweep(descend, points, batch_size=1, mesh=devices(1)))


def a_batch_size_is_rounded_up_to_the_devices(folder):
    result = sweep(descend, POINTS, batch_size=9)
    assert result.report.batch_size == 16
    assert content(result) == content(sweep(descend, POINTS, batch_size=2, mesh=devices(1)))


def a_mesh_of_any_kind_and_all_its_axes(folder):
    same = content(sweep(descend, POINTS, batch_size=16))
    kinds = [
        jax.make_mesh((8,), ("anything",)),
        jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Explicit,) * 2),
        jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2),
        Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("a", "b", "c")),
        NamedSharding(shaped(4, 2), PartitionSpec(("points", "model"))),
    ]
    for mesh in kinds:
        result = sweep(descend, POINTS, batch_size=16, mesh=mesh)
        assert result.report.devices == 8
        assert content(result) == same, mesh


def points_along_one_axis_and_run_along_the_other(folder):
    plain = sweep(descend, POINTS, batch_size=4, mesh=devices(1))
    for mesh in (shaped(4, 2), jax.make_mesh((4, 2), ("points", "model"), (AxisType.Auto,) * 2)):
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


def a_mesh_that_is_set_changes_nothing(folder):
    def start(learning_rate, beta):
        return jnp.ones(3) * beta

    def race(mesh=None):
        return halve(
            start,
            lambda x, learning_rate, beta: x + learning_rate,
            lambda x: x.sum(),
            POINTS,
            rungs=2,
            batch_size=16,
            mesh=mesh,
        )

    plain, raced = content(sweep(descend, POINTS, batch_size=16)), content(race())
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("points", "model"), (kind,) * 2)
        with jax.set_mesh(mesh):
            for given in (None, mesh):
                assert content(sweep(descend, POINTS, batch_size=16, mesh=given)) == plain
                assert content(race(given)) == raced
            assert jax.sharding.get_abstract_mesh() == mesh.abstract_mesh


def the_other_axis_only_copies(folder):
    points = NamedSharding(shaped(4, 2), PartitionSpec("points"))
    result = sweep(descend, POINTS, batch_size=8, mesh=points)
    assert content(result) == content(sweep(descend, POINTS, batch_size=2, mesh=devices(1)))


def a_store_goes_on_with_fewer_and_more_devices(folder):
    whole = sweep(descend, POINTS, batch_size=3, mesh=devices(1))
    for first, then in [(1, 8), (8, 1), (8, 2), (2, 8)]:
        store = folder / f"{first} {then}"
        sweep(descend, POINTS, batch_size=3, store=store, mesh=devices(first))
        files = sorted(store.glob("batch-*.npz"))
        for path in files[1:]:
            path.unlink()
        with np.load(files[0]) as file:
            kept = len(file["points"])
        for again in range(2):
            result = sweep(descend, POINTS, batch_size=3, store=store, mesh=devices(then))
            assert_close(result, whole)
            assert result.report.devices == then
            assert result.report.resumed == (len(POINTS) if again else kept)


def a_race_gives_the_same_bits_and_goes_on(folder):
    def start(learning_rate, beta, seed):
        return {"x": jnp.ones(16), "key": jax.random.key(seed)}

    def advance(state, learning_rate, beta, seed):
        key, other = jax.random.split(state["key"])
        x = learning_rate * jnp.tanh(DATA @ state["x"]) + beta * jax.random.normal(other, (16,))
        return {"x": x, "key": key}

    def race(count, store=None):
        return halve(
            start,
            advance,
            lambda state: (state["x"] ** 2).sum(),
            repeat(POINTS, 2),
            rungs=[1, 3, 4],
            batch_size=2 * count,
            mesh=devices(count),
            store=store,
        )

    one, whole = race(1), race(8, folder)
    assert content(whole) == content(one)
    np.testing.assert_array_equal(whole.survivors, one.survivors)
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("batch-*.npz"))}
    for name in list(files)[1::2]:
        (folder / name).unlink()
    assert content(race(8, folder)) == content(one)
    assert {path.name: path.read_bytes() for path in folder.glob("batch-*.npz")} == files


def the_default_device_is_alone(folder):
    one = content(sweep(descend, POINTS, batch_size=4, mesh=devices(1)))
    with jax.default_device(jax.devices()[3]):
        result = sweep(descend, POINTS, batch_size=4)
    assert result.report.devices == 1
    assert content(result) == one
    with jax.default_device("cpu"):
        assert sweep(descend, POINTS, batch_size=8).report.devices == 8


def a_diverging_point_changes_no_other(folder):
    def run(learning_rate, beta):
        return {"loss": descend(jnp.minimum(learning_rate, 0.3), beta)["loss"] / learning_rate}

    def lost(learning_rate, beta):
        result = run(learning_rate, beta)
        bad = (learning_rate > 0.1) & (learning_rate < 0.15)
        return {"loss": jnp.where(bad, jnp.nan, result["loss"])}

    for batch_size in (8, 24):
        sound = sweep(run, POINTS, batch_size=batch_size)
        result = sweep(lost, POINTS, batch_size=batch_size)
        rates = POINTS.axes["learning_rate"]
        bad = np.broadcast_to(((rates > 0.1) & (rates < 0.15))[:, None], POINTS.shape)
        assert bad.any()
        np.testing.assert_array_equal(result.diverged, bad)
        assert not sound.diverged.any()
        assert result["loss"][~bad].tobytes() == sound["loss"][~bad].tobytes()


CHECKS = {
    check.__name__: check
    for check in (
        as_many_points_a_device_give_the_same_bits,
        one_point_a_device_gives_the_bits_of_a_loop,
        fewer_points_than_devices,
        a_batch_size_is_rounded_up_to_the_devices,
        a_mesh_of_any_kind_and_all_its_axes,
        points_along_one_axis_and_run_along_the_other,
        a_mesh_that_is_set_changes_nothing,
        the_other_axis_only_copies,
        a_store_goes_on_with_fewer_and_more_devices,
        a_race_gives_the_same_bits_and_goes_on,
        the_default_device_is_alone,
        a_diverging_point_changes_no_other,
    )
}


def main(folder):
    wrong = {}
    for name, check in CHECKS.items():
        (folder / name).mkdir()
        try:
            check(folder / name)
        except Exception:
            wrong[name] = traceback.format_exc()
    print(json.dumps(wrong))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main(Path(sys.argv[1]))
