"""The contestants: each is built on an arena of parameters and then makes steps there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import momentax
from tests.benchmarks import peers
from tests.benchmarks.limit import Loop
from tests.benchmarks.measure import Contestant, Maker, bytes_of, compiled, stepping
from tests.benchmarks.networks import network_step
from tests.benchmarks.workloads import Arena
from tests.cases import METHODS
from tests.storage.cases import STORAGES, wrap

RATE, BETA = peers.RATE, peers.BETA


def updating(tx: Any, extra: Callable[[Any], dict[str, Any]] = lambda g: {}) -> Callable[..., Any]:
    """Return update and apply as one function."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, **extra(grads))
        return optax.apply_updates(params, updates), state

    return step


def optimizer(
    make: Callable[[], Any],
    donate: bool = True,
    extra: Callable[[Any], dict[str, Any]] = lambda g: {},
) -> Maker:
    """Build the step of an Optax transformation as one program."""

    def ready(arena):
        tx = optax.with_extra_args_support(make())
        return stepping(arena, updating(tx, extra), tx.init(arena.params), donate)

    return ready


def in_two_programs(make: Callable[[], Any]) -> Maker:
    """Build update and apply as two programs without donation, as in tutorials."""

    def ready(arena):
        tx = make()
        state = tx.init(arena.params)
        update, facts = compiled(tx.update, arena.grads, state, arena.params)
        apply, more = compiled(optax.apply_updates, arena.params, arena.grads)
        facts = {name: facts[name] + more[name] for name in facts}
        facts["state bytes"] = bytes_of(state) / arena.size
        kept = [state]
        del state

        def call():
            updates, kept[0] = update(arena.grads, kept[0], arena.params)
            arena.params = apply(arena.params, updates)
            return arena.params, kept[0]

        return Contestant(call, facts)

    return ready


def limit(arena: Arena) -> Contestant:
    if jax.default_backend() != "cpu":
        raise ImportError("the C loop runs on CPUs only")
    loop = Loop(arena.size)
    return Contestant(loop.step, {"state bytes": 4.0, "accessed": 20.0, "temporary": 0.0})


# Training steps.


@jax.custom_vjp
def free(params: Any, batch: jax.Array) -> jax.Array:
    """A loss whose gradient is bθ and costs nothing, so that the step alone is measured.

    Its value is b, since a sum over the parameters would cost more than the step.
    """
    return batch


free.defvjp(
    lambda params, batch: (batch, (params, batch)),
    lambda kept, _: (jax.tree.map(lambda θ: kept[1] * θ, kept[0]), jnp.zeros_like(kept[1])),
)


def layers(params: Any, batch: jax.Array) -> jax.Array:
    """A loss with each matrix as a linear layer on 8 rows: the gradient is written to memory."""
    total = jnp.zeros(())
    for θ in jax.tree.leaves(params):
        matrix = θ.reshape(-1, θ.shape[-1])
        total += 0.5 * jnp.mean((batch[:, : len(matrix)] @ matrix) ** 2)
    return total


def batch_of(loss: Callable[..., Any], arena: Arena) -> jax.Array:
    if loss is free:
        return jnp.float32(0.01)
    rows = max(θ.size // θ.shape[-1] for θ in arena.params)
    return jax.random.normal(jax.random.key(0), (8, rows)) / 10


def heavy_ball() -> Any:
    return momentax.sgd(RATE, momentax.heavy_ball(BETA))


def training(loss: Callable[..., Any], steps: int = 1) -> Maker:
    """Build momentax.train_step."""

    def ready(arena):
        tx = heavy_ball()
        kept = [tx.init(arena.params)]
        batch = batch_of(loss, arena)
        if steps > 1:
            batch = jnp.stack([batch] * steps)
        step = momentax.train_step(loss, tx, steps_per_call=steps)

        def call():
            arena.params, kept[0], value = step(arena.params, kept[0], batch)
            return arena.params, kept[0], value

        begin = time.perf_counter()
        jax.block_until_ready(call())
        return Contestant(call, {"compile seconds": time.perf_counter() - begin}, steps)

    return ready


def programs(loss: Callable[..., Any], count: int) -> Maker:
    """Build the usual code with Optax without donation, as one, two or three programs.

    Two programs are the gradient, and update and apply; three are the gradient, update, and apply.
    """

    def ready(arena):
        tx = optax.sgd(RATE, momentum=BETA)
        kept = [tx.init(arena.params)]
        batch = batch_of(loss, arena)
        gradient = jax.value_and_grad(loss)

        def whole(params, state, batch):
            value, grads = gradient(params, batch)
            return *updating(tx)(params, state, grads), value

        if count == 1:
            step = jax.jit(whole)
        else:
            pieces = [jax.jit(gradient), jax.jit(updating(tx))]
            update, apply = jax.jit(tx.update), jax.jit(optax.apply_updates)

            def step(params, state, batch):
                value, grads = pieces[0](params, batch)
                if count == 2:
                    return *pieces[1](params, state, grads), value
                updates, state = update(grads, state, params)
                return apply(params, updates), state, value

        def call():
            arena.params, kept[0], value = step(arena.params, kept[0], batch)
            return arena.params, kept[0], value

        begin = time.perf_counter()
        jax.block_until_ready(call())
        return Contestant(call, {"compile seconds": time.perf_counter() - begin})

    return ready


# Diagnostics.


def monitored(every: int, **options: Any) -> Maker:
    """Build heavy ball with a monitor that takes a reading every so many steps."""

    def ready(arena):
        tx = momentax.monitor(heavy_ball(), every=every, **options)
        one = stepping(arena, updating(tx), tx.init(arena.params), True)

        def call():
            for _ in range(every - 1):
                one.call()
            return one.call()

        return Contestant(call, one.facts, every)

    return ready


def measured(every: int) -> Maker:
    """Build heavy ball that measures the norms of its velocity every so many steps."""

    def ready(arena):
        tx = heavy_ball()
        state = tx.init(arena.params)
        shapes = jax.eval_shape(momentax.velocity_norms, state)
        norms = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def step(params, given, grads):
            state, norms, count = given
            params, state = updating(tx)(params, state, grads)
            if every == 1:
                norms = momentax.velocity_norms(state)
            else:
                norms = jax.lax.cond(
                    count % every == 0, momentax.velocity_norms, lambda _: norms, state
                )
            return params, (state, norms, count + 1)

        given = (state, norms, jnp.int32(0))
        program, facts = compiled(step, arena.params, given, arena.grads, donate=(0, 1))
        facts["state bytes"] = bytes_of(state) / arena.size
        kept = [given]
        del state, given

        def call():
            for _ in range(every):
                arena.params, kept[0] = program(arena.params, kept[0], arena.grads)
            return arena.params, kept[0]

        return Contestant(call, facts, every)

    return ready


def nothing(arena: Arena) -> Contestant:
    """Build a program that does nothing, which shows the cost of a call."""
    program, facts = compiled(lambda params: params, arena.params, donate=(0,))

    def call():
        arena.params = program(arena.params)
        return arena.params

    return Contestant(call, facts)


# All of them, by name.


def method(name: str) -> Callable[[], Any]:
    if name == "heavy_ball":  # Its case has dampening, which Optax does not have.
        return heavy_ball
    case = METHODS[name]
    return lambda: momentax.sgd(RATE, case.make(**case.hyperparameters))


def stored(name: str, storage: str) -> Maker:
    make = method(name)
    return optimizer(lambda: wrap(storage, make()), extra=METHODS[name].extra)


def of_layers(params: Any) -> list[bool]:
    """Select matrices but the embeddings, which come first, as those of GPT-2 do."""
    return [leaf.ndim == 2 and (i > 1 or len(params) < 3) for i, leaf in enumerate(params)]


def labels_of_layers(params: Any) -> list[str]:
    return ["matrix" if each else "other" for each in of_layers(params)]


def muon_of_optax() -> Any:
    others = optax.sgd(RATE, momentum=BETA)
    return optax.partition({"matrix": optax.contrib.muon(RATE), "other": others}, labels_of_layers)


def orthogonalized() -> Any:
    return momentax.sgd(RATE, momentax.orthogonalize(where=of_layers))


CONTESTANTS: dict[str, Maker] = {
    "optax.contrib.muon": optimizer(muon_of_optax),
    "orthogonalize": optimizer(orthogonalized),
    "C": limit,
    "optax.sgd": optimizer(lambda: optax.sgd(RATE, momentum=BETA)),
    "optax.sgd, nesterov": optimizer(lambda: optax.sgd(RATE, momentum=BETA, nesterov=True)),
    "optax.sgd, not donated": optimizer(lambda: optax.sgd(RATE, momentum=BETA), donate=False),
    "optax.sgd, update and apply apart": in_two_programs(lambda: optax.sgd(RATE, momentum=BETA)),
    "optax.sgd, bfloat16 accumulator": optimizer(
        lambda: optax.sgd(RATE, momentum=BETA, accumulator_dtype=jnp.bfloat16)
    ),
    "optax.flatten(optax.sgd)": optimizer(lambda: optax.flatten(optax.sgd(RATE, momentum=BETA))),
    "optax.lion": optimizer(lambda: optax.lion(RATE)),
    "optax.adam": optimizer(lambda: optax.adam(RATE)),
    **{
        name: optimizer(method(name), extra=case.extra)  # Each with its case's hyperparameters.
        for name, case in METHODS.items()
    },
    **{f"{name} + {storage}": stored(name, storage) for name in METHODS for storage in STORAGES},
    "apply_if_finite(heavy_ball)": optimizer(lambda: optax.apply_if_finite(heavy_ball(), 5)),
    "clip_by_global_norm, heavy_ball": optimizer(
        lambda: optax.chain(optax.clip_by_global_norm(1.0), heavy_ball())
    ),
    "monitor(heavy_ball)": monitored(1),
    "monitor(heavy_ball), every 10 steps": monitored(10),
    "monitor(heavy_ball), curvature": monitored(1, curvature=True),
    "heavy_ball, norms each step": measured(1),
    "heavy_ball, norms every 10 steps": measured(10),
    "step of a network": network_step(heavy_ball),
    "step of a network, monitor": network_step(lambda: momentax.monitor(heavy_ball())),
    "step of a network, monitor every 10 steps": network_step(
        lambda: momentax.monitor(heavy_ball(), every=10), every=10
    ),
    "nothing": nothing,
    **{
        f"{name}{on}": make
        for on, loss in (("", free), (" (layers)", layers))
        for name, make in {
            "train_step": training(loss),
            "train_step, 10 steps a call": training(loss, 10),
            "one program, not donated": programs(loss, 1),
            "two programs, not donated": programs(loss, 2),
            "three programs, not donated": programs(loss, 3),
        }.items()
    },
    **peers.CONTESTANTS,
}
