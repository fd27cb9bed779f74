"""Momentum for sparse gradients: rows that have none wait, and catch up exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, hyperparameters, trees
from momentax._core.typing import PyTree


class LazyState(NamedTuple):
    """The state of a lazy method.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    last: per leaf and row, the count up to which the row has moved, int32.
    shift: s, a 0-d array; `eval_params` reads it, after all rows have caught up.
    kept: β, a 0-d array; `catch_up` reads it.
    coast: how far a velocity of 1 moves in a step without a gradient, likewise.
    """

    count: Any
    velocity: PyTree
    last: PyTree
    shift: jax.Array
    kept: jax.Array
    coast: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False


def lazy(method: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Step only the rows that have a gradient; the others keep their velocity and wait.

        v_t = β v_{t-1} + γ g_t,    d_t = a g_t + b v_t    in a row with a gradient
        v_t = v_{t-1},              d_t = 0                in the others

    A row is an entry of a leaf's first axis, as of an embedding table. One that
    has waited k steps of a dense method, for which v ← βᵏ v and θ moves
    by -α b (β + ... + βᵏ) v, takes all of them at once in `catch_up`. Called
    before the gradient on the rows about to be read, and on all rows before the
    parameters are evaluated or saved, it makes each iterate that is read the
    dense method's. Without it the steps that a row waits never happen to it, as
    in the lazy variants that other frameworks have.

        tx = sgd(0.1, lazy(heavy_ball(0.9)))
        rows = {"table": ids}
        params, state = catch_up(params, state, rows, learning_rate=0.1)
        grads = jax.grad(loss)(params, ids)
        updates, state = tx.update(grads, state, params)

    α must not change, and weight decay has no part in the steps that a row waits:
    leave it out.

    A dense gradient has the parameters' shapes, and a row of zeros in it waits.
    Pass `rows` to update and it takes gradients of these rows alone, of shapes
    (n, ...), and returns their directions; only they are read and written. Such
    a step goes without params, and is added to its rows:

        updates, state = tx.update(row_grads, state, rows=rows)
        table = params["table"].at[ids].add(updates["table"])

    Args:
        method: A method of the linear family with constant coefficients, such
            as `heavy_ball`, `nesterov` or `quasi_hyperbolic`.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state, LazyState, holds one velocity, in float32 or wider,
        and an int32 counter a row. The extra argument `rows` is a tree like the
        parameters of 1-d integer arrays: the rows of each leaf, distinct. Rows
        beyond the last are ignored, such as those with which
        `jnp.unique(ids, size=n, fill_value=len(table))` fills up.

    Raises:
        TypeError: method is no gradient transformation.
        ValueError: method has a schedule or is not of the linear family; at
            update, gradients do not fit the velocity or its rows.

    Source:
        The sum of a geometric series over the steps that a row waits; for
        stochastic gradients with decay in the same way Carpenter, Lazy sparse
        stochastic gradient descent for regularized multinomial logistic
        regression, 2008.
    """
    arguments.require_transformation("method", method)
    a, b, β, γ, s = _coefficients(method)

    def init(params):
        v = arithmetic.zeros_like(params)
        last = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[:1], jnp.int32), v)
        scalars = (arithmetic.as_scalar(value) for value in (s, β, b * β))
        return LazyState(jnp.zeros((), jnp.int32), v, last, *scalars)

    def update(updates, state, params=None, *, rows=None, **extra_args):
        del params, extra_args
        count = optax.safe_increment(state.count)
        v, last = state.velocity, state.last
        if rows is not None:
            rows = trees.as_rows(rows, v)
            v, last = (jax.tree.map(arithmetic.read_rows, tree, rows) for tree in (v, last))
        trees.require_gradients(updates, v)
        touched = jax.tree.map(_touched, updates)

        # A leaf without a gradient stays as it is, and its rows wait for nothing.
        def keep(row: Any, v: Any, g: Any) -> Any:
            if row is None:
                return v
            share = jnp.where(arithmetic.broadcast_rows(row, v), β, 1)
            return arithmetic.combine((share, v), (γ, g), like=v)

        def move(row: Any, v: Any, g: Any) -> Any:
            if row is None:
                return None
            share = jnp.where(arithmetic.broadcast_rows(row, v), b, 0)
            return arithmetic.combine((a, g), (share, v), like=g)

        def mark(row: Any, n: Any) -> Any:
            if row is None:
                return n if n is None else n + (count - state.count)
            return jnp.where(row, count, n)

        def over(step: Any, *others: PyTree) -> PyTree:
            return jax.tree.map(step, touched, *others, is_leaf=trees.is_none)

        v = over(keep, v, updates)
        d, last = over(move, v, updates), over(mark, last)
        if rows is not None:
            v = jax.tree.map(arithmetic.write_rows, state.velocity, rows, v)
            last = jax.tree.map(arithmetic.write_rows, state.last, rows, last)
        return d, state._replace(count=count, velocity=v, last=last)

    return optax.GradientTransformationExtraArgs(init, update)


def _touched(g: jax.Array) -> jax.Array:
    return jnp.any(jnp.not_equal(g, 0), axis=tuple(range(1, jnp.ndim(g))))


def _coefficients(method: Any) -> list[Any]:
    """a, b, β, γ and s of a linear method, by its answers to zeros and ones."""
    with jax.ensure_compile_time_eval():
        state = method.init(jnp.zeros((), hyperparameters.float_dtype()))
        extra = set(getattr(state, "_fields", ())) - {"count", "velocity", "shift"}
        if extra or not hasattr(state, "velocity"):
            raise ValueError(
                "lazy needs a method of the linear family, whose state is a velocity and no more, "
                f"got one with the state {type(state).__name__}; an optimizer goes around it: "
                "sgd(learning_rate, lazy(heavy_ball(0.9)))"
            )

        def answer(v: float, g: float, count: int = 0) -> np.ndarray | jax.Array:
            started = state._replace(count=jnp.int32(count), velocity=arithmetic.as_scalar(v))
            d, after = method.update(arithmetic.as_scalar(g), started)
            return jnp.stack([after.velocity, d, arithmetic.as_scalar(getattr(after, "shift", 0))])

        coast, push = answer(1, 0), answer(0, 1)
        if not arguments.is_traced(coast + push):
            for count in (0, 1, 10, 10**6):
                if not np.allclose(answer(2, -1, count), 2 * coast - push, rtol=1e-5):
                    raise ValueError(
                        "lazy needs a method with constant coefficients: a row that waits could "
                        "not catch up in one step under a schedule, got one that changes by count "
                        f"{count}"
                    )
        β, γ = coast[0], push[0]
        b = jnp.where(β == 0, 0, coast[1] / jnp.where(β == 0, 1, β))
        exact = push[1] - b * γ, b, β, γ, push[2]
        return [x if arguments.is_traced(x) else np.asarray(x)[()] for x in exact]
