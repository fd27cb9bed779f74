"""Momentum for sparse gradients: rows without a gradient wait and catch up exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, hyperparameters, transformations, trees
from momentax._core.rows import as_rows, broadcast_rows, read_rows, write_rows
from momentax._core.typing import PyTree
from momentax._methods._keywords import explain_keywords


class LazyState(NamedTuple):
    """The state of a lazy method.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    last: for each row of each leaf, the count up to which it was updated, int32.
    shift: s, a 0-d array; `eval_params` reads it, after all rows have caught up.
    kept: β, a 0-d array; `catch_up` reads it.
    coast: b β, how far a velocity of 1 moves in a step without a gradient, a 0-d
        array; `catch_up` reads it.
    """

    count: Any
    velocity: PyTree
    last: PyTree
    shift: jax.Array
    kept: jax.Array
    coast: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False


@explain_keywords
def lazy(method: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Update only the rows that have a gradient; the other rows wait.

        v_t = β v_{t-1} + γ g_t,    d_t = a g_t + b v_t    in a row with a gradient
        v_t = v_{t-1},              d_t = 0                in the other rows

    A row is an entry of the first axis of a leaf, such as the vector of one word
    in an embedding table. During k steps without a gradient the dense method
    computes v ← βᵏ v and moves θ by -α b (β + ... + βᵏ) v. `catch_up` takes these
    k steps at once. Call it before the gradient, on the rows that the gradient
    reads, and on all rows before the parameters are evaluated or saved. Then each
    iterate that is read is that of the dense method. Without `catch_up` these
    steps are never taken, as in the lazy variants of other frameworks.

        tx = sgd(0.1, lazy(heavy_ball(0.9)))
        rows = {"table": ids}
        params, state = catch_up(params, state, rows, learning_rate=0.1)
        grads = jax.grad(loss)(params, ids)
        updates, state = tx.update(grads, state, params)

    The learning rate must be constant. Do not use weight decay: the steps that
    rows wait do not include it.

    A dense gradient has the shapes of the parameters, and a row of zeros in it
    waits. With the extra argument `rows`, a tree like the parameters of 1-d
    integer arrays, update takes the gradients of these rows only, of shapes
    (n, ...), and returns their directions. It reads and writes only these rows.
    They must be distinct. Indices out of range are ignored, both negative ones such
    as -1 and those beyond the last row, and their directions are 0. So rows may be
    padded, as by `jnp.unique(ids, size=n, fill_value=-1)`. Call such an update
    without params, and add its result to the rows:

        updates, state = tx.update(row_grads, state, rows=rows)
        table = params["table"].at[ids].add(updates["table"])

    Args:
        method: A method of the linear family with constant coefficients, such
            as `heavy_ball`, `nesterov` or `quasi_hyperbolic`.

    Returns:
        A transformation with the state LazyState: one velocity, and for each
        row the int32 count of its last update.

    Raises:
        TypeError: method is not a gradient transformation.
        ValueError: method has a schedule or is not of the linear family; at
            update, the gradients do not fit the velocity or its rows.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.9)))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        The sum of a geometric series over the steps that a row waits; for
        stochastic gradients with decay in the same way Carpenter, Lazy sparse
        stochastic gradient descent for regularized multinomial logistic
        regression, 2008.
    """
    arguments.require_transformation("method", method, example="momentax.heavy_ball(0.9)")
    a, b, β, γ, s = _coefficients(method)

    def init(params):
        v = arithmetic.zeros_like(params)
        # Computed from v, so that its rows are split over devices as those of v are.
        last = jax.tree.map(lambda leaf: _has_gradient(leaf).astype(jnp.int32), v)
        scalars = (arithmetic.as_scalar(value) for value in (s, β, b * β))
        return LazyState(jnp.zeros((), jnp.int32), v, last, *scalars)

    def update(updates, state, params=None, *, rows=None, **extra_args):
        del params, extra_args
        count = optax.safe_increment(state.count)
        v, last = state.velocity, state.last
        if rows is not None:
            rows = as_rows(rows, v)
            v, last = (jax.tree.map(read_rows, tree, rows) for tree in (v, last))
        trees.require_gradients(updates, v)
        if rows is not None:
            updates = _without_other_rows(updates, state.velocity, rows)
        has_gradient = jax.tree.map(_has_gradient, updates)

        # None means a leaf without a gradient: it does not change and does not wait.
        def next_velocity(row: Any, v: Any, g: Any) -> Any:
            if row is None:
                return v
            share = jnp.where(broadcast_rows(row, v), β, 1)
            return arithmetic.combine((share, v), (γ, g), like=v)

        def direction(row: Any, v: Any, g: Any) -> Any:
            if row is None:
                return None
            share = jnp.where(broadcast_rows(row, v), b, 0)
            return arithmetic.combine((a, g), (share, v), like=g)

        def next_last(row: Any, n: Any) -> Any:
            if row is None:
                return n if n is None else n + (count - state.count)
            return jnp.where(row, count, n)

        def map_rows(step: Any, *others: PyTree) -> PyTree:
            return jax.tree.map(step, has_gradient, *others, is_leaf=trees.is_none)

        v = map_rows(next_velocity, v, updates)
        d, last = map_rows(direction, v, updates), map_rows(next_last, last)
        if rows is not None:
            v = jax.tree.map(write_rows, state.velocity, rows, v)
            last = jax.tree.map(write_rows, state.last, rows, last)
        return d, state._replace(count=count, velocity=v, last=last)

    return transformations.method(init, update, LazyState)


def _without_other_rows(updates: PyTree, velocity: PyTree, rows: PyTree) -> PyTree:
    """Return gradients with zeros in the places of rows that the velocity does not have."""

    def clear(v: Any, g: Any, row: Any) -> Any:
        if trees.is_absent(g):
            return g
        return jnp.where(broadcast_rows(row < len(v), g), g, 0)

    return jax.tree.map(clear, velocity, updates, rows, is_leaf=trees.is_masked)


def _has_gradient(g: jax.Array) -> jax.Array:
    """Return for each row whether its gradient is not all zeros."""
    return jnp.any(jnp.not_equal(g, 0), axis=tuple(range(1, jnp.ndim(g))))


def _coefficients(method: Any) -> list[Any]:
    """Return a, b, β, γ and s of a linear method, read from its updates of zeros and ones."""
    with jax.ensure_compile_time_eval():
        state = method.init(jnp.zeros((), hyperparameters.float_dtype()))
        extra = set(getattr(state, "_fields", ())) - {"count", "velocity", "shift"}
        if extra or not hasattr(state, "velocity"):
            raise ValueError(
                "lazy needs a method of the linear family, whose state keeps only a velocity, "
                f"got one with the state {type(state).__name__}; put lazy inside of an optimizer: "
                "sgd(learning_rate, lazy(heavy_ball(0.9)))"
            )

        def respond(v: float, g: float, count: int = 0) -> np.ndarray | jax.Array:
            started = state._replace(count=jnp.int32(count), velocity=arithmetic.as_scalar(v))
            d, after = method.update(arithmetic.as_scalar(g), started)
            return jnp.stack([after.velocity, d, arithmetic.as_scalar(getattr(after, "shift", 0))])

        to_velocity, to_gradient = respond(1, 0), respond(0, 1)
        if not arguments.is_traced(to_velocity + to_gradient):
            # The third entry, the shift, is the same for all velocities and gradients.
            of_v, of_g = to_velocity[:2], to_gradient[:2]
            if not all(
                np.allclose(respond(v, g)[:2], v * of_v + g * of_g, rtol=1e-5)
                for v, g in ((2, -1), (3, 1), (-0.5, 2))
            ):
                raise ValueError(
                    "lazy needs a method of the linear family, whose directions are linear in the "
                    "velocity and the gradient, got one whose directions are not"
                )
            for count in (1, 10, 10**6):
                if not np.allclose(respond(2, -1, count), 2 * to_velocity - to_gradient, rtol=1e-5):
                    raise ValueError(
                        "lazy needs a method with constant coefficients: a row cannot catch up in "
                        "one step under a schedule, got coefficients that change by count "
                        f"{count}"
                    )
        β, γ = to_velocity[0], to_gradient[0]
        b = jnp.where(β == 0, 0, to_velocity[1] / jnp.where(β == 0, 1, β))
        values = to_gradient[1] - b * γ, b, β, γ, to_gradient[2]
        return [x if arguments.is_traced(x) else np.asarray(x)[()] for x in values]
