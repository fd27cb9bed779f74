"""Faults of an optimizer that a table would hide: checks on a small problem before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.bench._entry import Entry
from momentax.bench._function import require_traceable, shapes_of
from momentax.bench._horizon import Horizon

_STEPS = 60
_CURVATURES = np.linspace(0.1, 1.0, 12, dtype=np.float32).reshape(3, 4)


def check(entry: Entry) -> list[str]:
    """Run an entry on a quadratic of twelve parameters and describe what is wrong with it.

    Args:
        entry: The entry, a value of type Entry.

    Returns:
        Sentences, none for a method that has none of these faults: its first five steps go uphill,
        a hyperparameter changes nothing, bfloat16 parameters become NaN or change their dtype, or
        its state changes its size or structure from one update to the next.

    Raises:
        TypeError: entry is not of type Entry, or uses a traced array as a Python
            value, as `if beta > 0.9` does.

    Example:
        >>> momentax.bench.check(momentax.bench.entries["heavy_ball"])
        []
    """
    if not isinstance(entry, Entry):
        raise TypeError(
            "entry must be a value of type Entry, as momentax.bench.entries has them or Entry.of "
            f"makes them, got {arguments.describe(entry)}"
        )
    require_traceable(entry.name, entry.make, entry.default)
    middle = {name: float(each.quantile(0.5)) for name, each in entry.space.items()}
    found = [_describe_growth(entry, middle), _describe_ascent(entry, middle)]
    if any(found):  # What follows needs a state of fixed shapes and a method that descends.
        return [sentence for sentence in found if sentence]
    run = _compiled(entry)
    unused = [_describe_unused(run, entry, middle, name) for name in entry.space]
    return [sentence for sentence in (*unused, _describe_bfloat16(entry)) if sentence]


def _loss(params: PyTree) -> jax.Array:
    w, b = params["kernel"], params["bias"]
    return 0.5 * jnp.sum(jnp.asarray(_CURVATURES, w.dtype) * w**2) + 0.5 * jnp.sum(b**2)


def _start(dtype: Any = jnp.float32) -> PyTree:
    kernel = np.cos(np.arange(12.0)).reshape(3, 4)
    return {"kernel": jnp.asarray(kernel, dtype), "bias": jnp.ones(4, dtype)}


def _make(entry: Entry, hyperparameters: Mapping[str, Any]) -> Any:
    tx = entry.make(Horizon(_STEPS, entry.shape), **hyperparameters)
    return optax.with_extra_args_support(tx)


def _step(tx: Any, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    value, g = jax.value_and_grad(_loss)(params)
    u, state = tx.update(g, state, params, value=value, grad=g, value_fn=_loss)
    return optax.apply_updates(params, u), state


def _compiled(entry: Entry, dtype: Any = jnp.float32) -> Callable[[Any], PyTree]:
    """Return a compiled function from hyperparameters to the parameters after all steps."""

    @jax.jit
    def run(hyperparameters: Mapping[str, Any]) -> PyTree:
        tx, params = _make(entry, hyperparameters), _start(dtype)

        def step(_: Any, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            return _step(tx, *carry)

        return jax.lax.fori_loop(0, _STEPS, step, (params, tx.init(params)))[0]

    return run


def _describe_growth(entry: Entry, hyperparameters: Mapping[str, float]) -> str:
    tx, params = _make(entry, hyperparameters), _start()
    state = tx.init(params)
    shapes = [shapes_of(state)]
    for _ in range(2):
        params, state = _step(tx, params, state)
        shapes.append(shapes_of(state))
    if shapes[0] == shapes[1] == shapes[2]:
        return ""
    counts = [len(each[1]) for each in shapes]
    return (
        "the structure, shapes or dtypes of its state change from one update to the next, which "
        f"JAX's loops do not allow; it has {counts[0]} arrays after init, {counts[1]} after one "
        f"update and {counts[2]} after two"
    )


def _describe_ascent(entry: Entry, hyperparameters: Mapping[str, float]) -> str:
    tx, params = _make(entry, hyperparameters), _start()
    state, slope = tx.init(params), 0.0
    for _ in range(5):
        g = jax.grad(_loss)(params)
        moved, state = _step(tx, params, state)
        step = jax.tree.map(jnp.subtract, moved, params)
        slope += float(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, g, step))))
        params = moved
    if slope <= 0:
        return ""
    return "its first five steps go uphill; the sign of the learning rate may be missing"


def _describe_unused(
    run: Callable[[Any], PyTree], entry: Entry, middle: Mapping[str, float], name: str
) -> str:
    low, high = (float(entry.space[name].quantile(share)) for share in (0.3, 0.7))
    ends = [jax.tree.leaves(run({**middle, name: value})) for value in (low, high)]
    if not all(map(np.array_equal, *ends)):
        return ""
    return (
        f"its hyperparameter {name} changes nothing: {_STEPS} steps with {low:.4g} and with "
        f"{high:.4g} end at the same parameters"
    )


def _describe_bfloat16(entry: Entry) -> str:
    try:
        params = _compiled(entry, jnp.bfloat16)(dict(entry.default))
    except TypeError as error:
        if "carry" not in str(error):
            raise
        return (
            "it cannot train bfloat16 parameters in a compiled loop, since its updates or its "
            "state change their dtype"
        )
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        return "bfloat16 parameters become NaN or infinite with its default hyperparameters"
    return ""
