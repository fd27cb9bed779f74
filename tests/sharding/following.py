"""Checks on 8 devices: the state of every transformation lies where the parameters lie."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import momentax
from tests.cases import TRANSFORMATIONS
from tests.collectives import count_collectives
from tests.contracts.harness import build

SHAPE = (8, 512)  # Each shard holds whole blocks of `storage.int8`.
# Two arrays of one shape, which must not be mixed up.
SPECS = {"model": P(None, "model"), "both": P("data", "model")}
# A polar factor needs the whole matrix; tests/sharding/zero.py has them.
GATHERING = {"muon", "orthogonalize", "orthogonalize, normuon"}
SENDING = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter")
CASES = [name for name in TRANSFORMATIONS if name not in GATHERING | {"shard_velocity"}]
UPDATES = 4
GUARDS = {
    word: momentax.guard(momentax.sgd(0.1), on_nonfinite=word) for word in ("skip", "zero", "raise")
}


def mesh_of(kind):
    return jax.make_mesh((4, 2), ("data", "model"), (kind, kind))


def tree_on(mesh, seed):
    rng = np.random.default_rng(seed)
    return {
        key: jax.device_put(
            rng.normal(size=SHAPE).astype(np.float32), NamedSharding(mesh, SPECS[key])
        )
        for key in SPECS
    }


def init(params):
    return {name: build(name).init(params) for name in CASES}


def update(gradients, states, params):
    updates, after = {}, {}
    for name in CASES:
        updates[name], after[name] = build(name).update(gradients, states[name], params)
    return updates, after


def on_automatic_axes_the_state_follows_and_nothing_is_sent():
    """All transformations are in one program, which makes some updates."""
    mesh = mesh_of(AxisType.Auto)
    params = tree_on(mesh, 0)
    states = jax.jit(init)(params)
    wrong = [f"jit(init): {line}" for line in misplaced(states, mesh)]
    compiled = jax.jit(update).lower(params, states, params).compile()
    sent = count_collectives(compiled, least=SHAPE[1])  # The monitor sends a few numbers.
    assert count_collectives(compiled)["all-reduce"]  # Norms.
    if any(sent[kind] for kind in SENDING):
        wrong.append(f"updates send {dict(sent)}")
    for seed in range(UPDATES):
        updates, states = compiled(tree_on(mesh, seed), states, params)
    wrong += [f"update: {line}" for line in misplaced((updates, states), mesh)]
    assert not wrong, "\n".join(wrong)


def a_guard_of_gradients_of_the_same_program_sends_nothing():
    """The gradients are placed by the compiler, and not by whoever calls the program."""
    mesh = mesh_of(AxisType.Auto)
    params = tree_on(mesh, 0)

    def loss(params):
        return sum(jnp.sum(jnp.sin(x) ** 2) for x in params.values())

    def step(params, states):
        updates, after, gradients = {}, {}, jax.grad(loss)(params)
        for word in GUARDS:
            updates[word], after[word] = GUARDS[word].update(gradients, states[word], params)
        return updates, after

    states = {word: tx.init(params) for word, tx in GUARDS.items()}
    compiled = jax.jit(step).lower(params, states).compile()
    sent = count_collectives(compiled, least=SHAPE[1])
    assert not sent, sent
    wrong = list(misplaced(compiled(params, states), mesh))
    assert not wrong, "\n".join(wrong)


def on_explicit_axes_the_state_follows_and_nothing_is_sent():
    """On explicit axes the types say where arrays lie, and only a reshard moves one."""
    mesh = mesh_of(AxisType.Explicit)
    params = tree_on(mesh, 0)
    states = jax.eval_shape(init, params)
    wrong = [f"init: {line}" for line in misplaced(states, mesh)]
    for name in CASES:
        tx = build(name)
        program, shapes = jax.make_jaxpr(tx.update, return_shape=True)(params, states[name], params)
        wrong += [f"{name}: {line}" for line in misplaced(shapes, mesh)]
        wrong += [f"{name}: {line}" for line in moved(program.jaxpr)]
    assert not wrong, "\n".join(wrong)


def moved(jaxpr):
    """Describe each array of a program that is placed anew."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "reshard":
            before, after = (var.aval.sharding.spec for var in (*eqn.invars, *eqn.outvars))
            if before != after:
                yield f"{eqn.outvars[0].aval} was placed by {before}"
        for parameter in eqn.params.values():
            for body in parameter if isinstance(parameter, tuple) else (parameter,):
                body = getattr(body, "jaxpr", body)
                if hasattr(body, "eqns"):
                    yield from moved(body)


def misplaced(tree, mesh):
    """Describe each array of the shape of a parameter that does not lie where it lies."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        key = getattr(path[-1], "key", None)
        leading = leaf.ndim - len(SHAPE)
        if key in SPECS and leaf.shape[leading:] == SHAPE:
            expected = P(*[None] * leading, *SPECS[key])
            if isinstance(leaf, jax.Array):
                fits = leaf.sharding.is_equivalent_to(NamedSharding(mesh, expected), leaf.ndim)
            else:
                fits = leaf.sharding is not None and leaf.sharding.spec == expected
            if not fits:
                found = jax.tree_util.keystr(path)
                yield f"{found} of shape {leaf.shape} lies at {leaf.sharding}"


CHECKS = [
    on_automatic_axes_the_state_follows_and_nothing_is_sent,
    a_guard_of_gradients_of_the_same_program_sends_nothing,
    on_explicit_axes_the_state_follows_and_nothing_is_sent,
]
