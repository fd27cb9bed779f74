"""Transformations with a stored velocity, each run once for all tests, and plain beside it."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax
from tests.storage.cases import STORAGES, wrap


def tree(seed=0, size=5000, dtype=jnp.float32):
    """A large array, which is encoded, and a small one, which is not."""
    rng = np.random.default_rng(seed)
    return {
        "large": jnp.asarray(rng.normal(size=(2, size // 2)), dtype),
        "small": jnp.asarray(rng.normal(size=7), dtype),
    }


def constant(value):
    """A transformation whose velocity is that of a function of gradients and parameters."""

    def update(g, state, params):
        return g, state._replace(trace=value(g, params))

    return optax.GradientTransformation(optax.trace(0.9).init, update)


def full_of_twos(g, params):
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), g)


INNER = {
    "heavy_ball": lambda: momentax.heavy_ball(0.9),
    "sgd": lambda: momentax.sgd(0.1, momentax.heavy_ball(0.9)),
    "parameter units": lambda: momentax.sgd(0.1, velocity_units="parameter"),
    "optax.sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "optax.trace in bfloat16": lambda: optax.trace(0.9, accumulator_dtype=jnp.bfloat16),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9)),
    "named_chain": lambda: optax.named_chain(("momentum", optax.trace(0.9))),
    "masked": lambda: optax.masked(optax.trace(0.9), {"large": True, "small": False}),
    "partition": lambda: optax.partition(
        {"momentum": optax.trace(0.9), "none": optax.identity()},
        {"large": "momentum", "small": "none"},
    ),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3),
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.1, 0.9), 1).gradient_transformation(),
    "jitted": lambda: optax.GradientTransformation(
        optax.trace(0.9).init, jax.jit(optax.trace(0.9).update)
    ),
}
# Each is a function of `keep`, which stores the velocity of a transformation or leaves it as it is.
PIPELINES = {
    **{name: lambda keep, make=make: keep(make()) for name, make in INNER.items()},
    "adam": lambda keep: keep(optax.adam(1e-3)),
    "average": lambda keep: keep(momentax.sgd(0.1, momentax.average(0.9))),
    "nesterov": lambda keep: keep(momentax.nesterov(0.9)),
    "shifted": lambda keep: keep(
        momentax.sgd(0.1, momentax.synthesized_nesterov(0.9, 0.5, delta=0.3))
    ),
    "skipping inside": lambda keep: keep(optax.apply_if_finite(optax.trace(0.9), 5)),
    "skipping outside": lambda keep: optax.apply_if_finite(keep(optax.trace(0.9)), 5),
    "restart inside": lambda keep: keep(momentax.restart(momentax.heavy_ball(0.9), 2)),
    "restart outside": lambda keep: momentax.restart(keep(momentax.heavy_ball(0.9)), 2),
    "the gradient": lambda keep: keep(momentax.heavy_ball(0.0)),
    "the parameters": lambda keep: keep(constant(lambda g, params: params)),
    "a constant": lambda keep: keep(constant(full_of_twos)),
}


STEPS = 4


class Run(NamedTuple):
    """A transformation after STEPS steps with the gradients tree(1), tree(2), ..."""

    tx: Any
    updates: Any  # The last ones.
    state: Any


@cache
def runs(name: str) -> dict[str | None, Run]:
    """Run a pipeline in every storage and plain (None), all in one compiled program."""
    txs = {
        kind: optax.with_extra_args_support(PIPELINES[name](lambda tx, kind=kind: wrap(kind, tx)))
        for kind in (None, *STORAGES)
    }
    params = tree()

    @jax.jit
    def step(states, g):
        return [tx.update(g, s, params) for tx, s in zip(txs.values(), states, strict=True)]

    with jax.numpy_dtype_promotion("standard"):  # optax.MultiSteps divides a float by an int.
        pairs = [(None, tx.init(params)) for tx in txs.values()]
        for seed in range(STEPS):
            pairs = step([state for _, state in pairs], tree(seed + 1))
    return {kind: Run(tx, *pair) for (kind, tx), pair in zip(txs.items(), pairs, strict=True)}
