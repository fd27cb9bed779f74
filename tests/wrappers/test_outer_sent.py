"""What the workers of outer steps send: only at rounds, by fragments, and in codes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import nesterov, outer, sgd, storage
from momentax.states import OuterState
from tests.collectives import collectives
from tests.compilation import fully_optimized
from tests.wrappers.test_outer_workers import SHARED, P, copies

SHAPES = {"a": (64, 96), "b": (4096,), "c": (2048,)}
ENTRIES = 64 * 96 + 4096 + 2048


def sent_by(tx, *, by_device):
    """Compile an update of two workers on two devices, and return its collectives."""
    mesh = jax.make_mesh((2,), ("workers",), (jax.sharding.AxisType.Auto,))
    state = jax.eval_shape(tx.init, {k: jnp.zeros(shape) for k, shape in SHAPES.items()})
    θ = _placed(state.slow, mesh, P("workers"))
    specs = OuterState(P(), P(), P("workers"), P(), P("workers"))
    placed = OuterState(*(_placed(*each) for each in zip(state, [mesh] * 5, specs, strict=True)))
    axes = SHARED._replace(residual=None if state.residual is None else 0)

    def one(g, state, θ):
        u, state = tx.update(g, state, θ)
        return optax.apply_updates(θ, u), state

    def on_device(g, state, θ):
        own = state.inner_state, state.residual
        g, θ, (inner, residual) = jax.tree.map(lambda x: x[0], (g, θ, own))
        θ, state = one(g, state._replace(inner_state=inner, residual=residual), θ)
        own = jax.tree.map(lambda x: x[None], (θ, state.inner_state, state.residual))
        return own[0], state._replace(inner_state=own[1], residual=own[2])

    mapped = jax.vmap(one, (0, axes, 0), (0, axes), axis_name="workers")
    if by_device:
        given, returned = (P("workers"), specs, P("workers")), (P("workers"), specs)
        mapped = jax.shard_map(on_device, mesh=mesh, in_specs=given, out_specs=returned)
    program = jax.jit(mapped, donate_argnums=(1, 2)).lower(θ, placed, θ)
    return collectives(fully_optimized(program).as_text())


def _placed(tree, mesh, spec):
    """Return the shapes of a tree on a mesh, with an axis of workers where that is split."""
    sharding = jax.sharding.NamedSharding(mesh, spec)
    lead = (2,) if spec else ()
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=sharding), tree
    )


@pytest.mark.parametrize("by_device", [True, False], ids=["shard_map", "vmap"])
def test_workers_send_only_in_the_branch_of_a_round(by_device):
    tx = outer(sgd(0.1, nesterov(0.9)), 4, axis="workers")
    found = sent_by(tx, by_device=by_device)
    assert {each.operation for each in found} == {"all-reduce"}
    assert len({each.branch for each in found} - {None}) == 1
    assert all(each.branch for each in found)
    assert sum(each.bytes for each in found) == 4 * ENTRIES
    assert sum(each.sent for each in found) == 4 * ENTRIES  # 2 (n - 1) / n of them on a ring.


@pytest.mark.parametrize("by_device", [True, False], ids=["shard_map", "vmap"])
def test_each_fragment_has_a_branch_of_its_own(by_device):
    tx = outer(sgd(0.1, nesterov(0.9)), 4, axis="workers", fragments=2)
    found = sent_by(tx, by_device=by_device)
    sizes = {}
    for each in found:
        sizes[each.branch] = sizes.get(each.branch, 0) + each.bytes
    assert None not in sizes
    assert sorted(sizes.values()) == [4 * ENTRIES // 2] * 2


@pytest.mark.parametrize(
    ("compression", "dtype", "size"), [("int8", "s8", 1 + 4 / 256), ("bfloat16", "u16", 2)]
)
def test_compressed_workers_send_codes(compression, dtype, size):
    tx = outer(sgd(0.1), 4, axis="workers", compression=getattr(storage, compression)())
    found = sent_by(tx, by_device=True)
    assert all(each.branch for each in found)
    codes = [each for each in found if each.dtypes == {dtype}]
    scales = [each for each in found if each.dtypes != {dtype}]
    assert {each.operation for each in found} == {"all-to-all", "all-gather"}
    # Half of the codes, and then half of the codes of the mean.
    assert sum(each.sent for each in codes) == ENTRIES * int(size)
    assert sum(each.sent for each in scales) == pytest.approx(ENTRIES * (size - int(size)))


def test_mapped_counts_are_compared_and_nothing_else_is_sent_between_rounds():
    mesh = jax.make_mesh((2,), ("workers",), (jax.sharding.AxisType.Auto,))
    tx = outer(sgd(0.1), 4, axis="workers")
    state = jax.vmap(tx.init)({k: jnp.zeros((2, *shape)) for k, shape in SHAPES.items()})
    state = jax.device_put(state, jax.sharding.NamedSharding(mesh, P("workers")))
    mapped = jax.vmap(lambda g, s: tx.update(g, s, g), axis_name="workers")
    found = collectives(fully_optimized(jax.jit(mapped).lower(state.slow, state)).as_text())
    outside = [each for each in found if not each.branch]
    assert sum(each.bytes for each in found if each.branch) == 4 * ENTRIES
    assert [(each.dtypes, each.bytes) for each in outside] == [({"s32"}, 4)]


# Compression.


def test_what_the_codes_lose_is_sent_later():
    """A large entry, which never vanishes, hides the small ones of its block from the codes."""
    large, small = 1.0, 1e-6
    g = jnp.array([large, *[small] * 7])
    tx = outer(optax.sgd(1.0), 1, optax.sgd(1.0), axis="workers", compression=storage.int8(8))

    def moved(steps, forget):
        def one(state, _):
            u, state = tx.update(g, state, jnp.zeros(8))
            if forget:
                state = state._replace(residual=jnp.zeros(8))
            return state._replace(slow=jnp.zeros(8)), u

        def worker(_):
            return jax.lax.scan(one, tx.init(jnp.zeros(8)), length=steps)[1].sum(0)

        return jax.jit(jax.vmap(worker, axis_name="workers"))(jnp.zeros(1))[0]

    steps = 400
    np.testing.assert_allclose(moved(steps, forget=False)[0], -steps, rtol=1e-5)
    np.testing.assert_allclose(moved(steps, forget=False)[1:], -steps * small, rtol=0.1)
    np.testing.assert_array_equal(moved(steps, forget=True)[1:], 0)


def test_complex_parameters_and_leaves_without_gradients_are_compressed():
    tx = outer(optax.sgd(0.1), 1, optax.sgd(1.0), axis="workers", compression=storage.int8(4))
    exact = outer(optax.sgd(0.1), 1, optax.sgd(1.0), axis="workers")
    params = {
        "complex": jax.lax.complex(jnp.linspace(-1, 1, 6), jnp.linspace(2, 1, 6)),
        "bfloat16": jnp.ones(3, jnp.bfloat16), "none": jnp.ones(2), "empty": jnp.zeros(0),
    }  # fmt: skip

    def one(g, state):
        return tx.update(g | {"none": None}, state, params)

    g = jax.tree.map(lambda x: jnp.stack([0.5 * x, 1.5 * x]), params)
    state = jax.vmap(tx.init)(copies(params, 2))
    u, new = jax.jit(jax.vmap(one, axis_name="workers"))(g, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    mapped = jax.jit(jax.vmap(lambda g, s: exact.update(g, s, params), axis_name="workers"))
    expected, _ = mapped(g, jax.vmap(exact.init)(copies(params, 2)))
    assert u.pop("none") is None
    expected.pop("none")
    chex.assert_trees_all_close(u, expected, rtol=0.02, atol=2e-3)
    sent = jax.tree.map(
        lambda new, old: new - old, new.slow["complex"][0], state.slow["complex"][0]
    )
    lost = new.residual["complex"].sum(0) / 2  # What the mean has left out.
    np.testing.assert_allclose(sent - lost, -0.1 * params["complex"], rtol=1e-5, atol=1e-6)


def test_a_derivative_through_rounds_is_exact_or_refused():
    def loss(η, compression):
        tx = outer(sgd(0.1), 2, sgd(η), axis="workers", compression=compression)

        def worker(rate):
            θ = jnp.ones(3)
            state = tx.init(θ)
            for _ in range(4):
                u, state = tx.update(rate * θ, state, θ)
                θ = θ + u
            return (θ**2).sum()

        return jax.vmap(worker, axis_name="workers")(jnp.array([0.5, 1.5])).sum()

    @jax.jit
    def values(η):
        value = functools.partial(loss, compression=None)
        return jax.vmap(value)(η + jnp.array([0.01, -0.01])), jax.grad(value)(η)

    (above, below), slope = values(0.7)
    np.testing.assert_allclose(slope, (above - below) / 0.02, rtol=1e-2)
    with pytest.raises(TypeError, match=r"Int8Array cannot be differentiated .* compression"):
        jax.eval_shape(jax.grad(functools.partial(loss, compression=storage.int8())), 0.7)
