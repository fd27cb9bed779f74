"""The linear response of a velocity and of the parameters, in force at one update.

A transformation is run on one entry of each parameter, with the counts, sequences and injected
hyperparameters of its actual state. So schedules have their values of this update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax import theory
from momentax._core import arithmetic
from momentax._core.codecs import decode
from momentax._core.hyperparameters import float_dtype
from momentax._core.typing import PyTree
from momentax._state._groups import Groups
from momentax._state._measures import Measure
from momentax._state._velocity import fill_velocities
from momentax._wrappers._parts import parts_like, velocity_parts

# Gradient, velocity and parameter in units of _SIZE: three unit vectors, and two points at which a
# linear response is the sum of those three.
_POINTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -3, 0.5], [-2, 1.5, 0]], np.float32)
_SIZE = 2.0**-20  # Small, so that no gradient is clipped.
_TOLERANCE = 1e-4  # Relative, in float32.


class Responses(NamedTuple):
    """What one entry of each leaf does; leaves are on the second axis of the arrays.

    update: the responses of the update to gradient, velocity and parameter, shape (3, leaves), or
        None where the state keeps more of a parameter than one velocity.
    velocity: those of the velocity, shape (3, leaves, k) for k stacked velocities, with zeros for
        a leaf that has none, or None where no leaf has one.
    is_linear: whether update and velocity are the sums of their responses, shape (leaves,).
    velocity_is_linear: whether the velocity is.
    """

    update: jax.Array | None
    velocity: jax.Array | None
    is_linear: jax.Array
    velocity_is_linear: jax.Array


def find_responses(
    tx: optax.GradientTransformationExtraArgs,
    state: PyTree,
    like: PyTree,
    extra_args: dict[str, Any],
) -> Responses | None:
    """Return the responses of all leaves, or None if tx cannot be run on single entries.

    `like` has the structure of the parameters, and `state` is the state before the update.
    """
    ones = jax.tree.map(_single_entry, like)
    given = {name: x for name, x in extra_args.items() if name not in ("grad", "value_fn")}

    def respond(point: Any) -> tuple[list[Any], list[Any]]:
        g, v, θ = (_SIZE * x for x in point)
        inner = fill_velocities(_with_coefficients_of(state, first()), v)
        grad, params = (
            arithmetic.combine((g, ones), like=ones),
            arithmetic.combine((θ, ones), like=ones),
        )
        u, inner = _ask(tx.update, grad, inner, params, **given, grad=grad)
        return parts_like(u, like), velocity_parts(inner, like)[0]

    def first() -> PyTree:
        return decode(_ask(tx.init, jax.tree.map(jnp.zeros_like, ones)))

    try:
        memory = _count_memory(jax.eval_shape(first))
        updates, velocities = jax.vmap(respond)(jnp.asarray(_POINTS))
    except _RefusedError:
        return None
    leaves = len(jax.tree.leaves(ones))
    u, v = _stack(updates), _stack(_with_zeros(velocities))
    v_is_linear = jnp.ones(leaves, jnp.bool_) if v is None else _is_linear(v)
    has_velocity = any(part is not None for part in velocities)
    if u is None or memory > leaves or (has_velocity and v is None):
        return Responses(None, None if v is None else v[:3], v_is_linear, v_is_linear)
    return Responses(
        u[:3, :, 0], None if v is None else v[:3], _is_linear(u) & v_is_linear, v_is_linear
    )


class _RefusedError(Exception):
    """A transformation cannot be run on single entries."""


def _ask(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of the transformation that is measured."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # Single entries need not fit what it expects: it may raise any.
        raise _RefusedError from error


def _with_zeros(values: list[Any]) -> list[Any]:
    """Return the values with zeros for the leaves that have none, if another leaf has some."""
    found = next((value for value in values if value is not None), None)
    zeros = None if found is None else jnp.zeros_like(found)
    return [zeros if value is None else value for value in values]


def _stack(values: list[Any]) -> jax.Array | None:
    """Return the values of all leaves at all points, or None if some leaf has none."""
    if not values or any(value is None for value in values):
        return None
    rows = [jnp.real(value).reshape(len(_POINTS), -1) / _SIZE for value in values]
    if len({row.shape for row in rows}) > 1:
        return None
    return jnp.stack([row.astype(float_dtype()) for row in rows], axis=1)


def _is_linear(values: jax.Array) -> jax.Array:
    """Return for each leaf whether the values at further points are sums of those at the units."""
    units, others = values[:3], values[3:]
    expected = jnp.tensordot(jnp.asarray(_POINTS[3:], units.dtype), units, 1, precision="highest")
    size = jnp.sum(jnp.abs(units), axis=0, keepdims=True)
    error = jnp.abs(others - expected) - _TOLERANCE * size
    return jnp.all(error <= 0, axis=(0, 2))


def _single_entry(leaf: Any) -> jax.Array:
    """Return one entry in the place of a leaf, with an axis where the leaf has none.

    So the scalars of a state differ in shape from what it keeps of a parameter.
    """
    return jnp.ones((1,) * max(jnp.ndim(leaf), 1), arithmetic.compute_dtype(leaf))


def _with_coefficients_of(state: PyTree, first: PyTree) -> PyTree:
    """Return the state of single entries with the counts, sequences and scalars of another."""

    def choose(actual: Any, single: Any) -> Any:
        is_entry = jnp.ndim(single) and jnp.size(single) == 1
        return single if is_entry or jnp.shape(actual) != jnp.shape(single) else actual

    state = decode(state)
    if jax.tree.structure(state) != jax.tree.structure(first):
        raise _RefusedError
    return jax.tree.map(choose, state, first)


def _count_memory(state: PyTree) -> int:
    """Count the arrays that a state of single entries keeps of parameters."""
    leaves = jax.tree.leaves(state)
    return sum(bool(leaf.ndim) and jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves)


def age(found: Responses, groups: Groups) -> Measure:
    """Return the mean lag of the weights γ βᵏ of the velocities, for each group the largest.

    For stacked velocities it is that of their sum.
    """
    if found.velocity is None:
        return Measure(jnp.zeros(groups.number), np.zeros(groups.number, np.bool_))
    γ, β, _ = found.velocity
    weight = jnp.sum(γ / (1 - β), axis=-1)
    known = found.velocity_is_linear & jnp.all(jnp.abs(β) < 1, axis=-1) & (weight != 0)
    lag = jnp.sum(γ * β / (1 - β) ** 2, axis=-1) / jnp.where(weight == 0, 1, weight)
    return Measure(groups.largest(jnp.where(known, lag, -jnp.inf)), groups.any(known))


def stability_edge(found: Responses, groups: Groups) -> Measure | None:
    """Return the curvature λ up to which θ and v decay for gradients g = λ θ.

    The two eigenvalues of a step are inside the unit circle where 1 - T + D, 1 + T + D and 1 - D
    are positive. Its trace T and determinant D are linear in λ. The smallest edge of a group is
    its edge. It is infinite for a leaf that no gradient moves, such as a frozen one or one at a
    learning rate of 0. None is returned where there is more memory than one velocity.
    """
    if found.update is None or (found.velocity is not None and found.velocity.shape[-1] > 1):
        return None
    ug, uv, uθ = found.update
    no_velocity = jnp.zeros_like(found.update)
    vg, vv, vθ = no_velocity if found.velocity is None else found.velocity[..., 0]
    trace, trace_slope = 1 + uθ + vv, ug
    determinant, determinant_slope = (1 + uθ) * vv - uv * vθ, ug * vv - uv * vg
    conditions = (
        # 1 - T + D without the terms that cancel.
        (-uθ * (1 - vv) - uv * vθ, determinant_slope - trace_slope),
        (1 + trace + determinant, trace_slope + determinant_slope),
        (1 - determinant, -determinant_slope),
    )
    size = jnp.abs(ug) * (1 + jnp.abs(vv)) + jnp.abs(uv * vg)
    limits = [_positive_up_to(*condition, 1e-6 * size) for condition in conditions]
    edges = jnp.where((ug == 0) & (uv == 0), jnp.inf, jnp.min(jnp.stack(limits), axis=0))
    return Measure(-groups.largest(-edges), ~groups.any(~found.is_linear))


def _positive_up_to(constant: jax.Array, slope: jax.Array, error: jax.Array) -> jax.Array:
    """Return up to which λ > 0 a number constant + slope · λ is positive.

    A slope within its rounding error is 0. XLA may round it differently at each use.
    """
    limit = jnp.where(
        slope < -error, constant / jnp.maximum(-slope, jnp.maximum(error, 1e-37)), jnp.inf
    )
    is_zero = jnp.abs(constant) <= 1e-6
    from_zero = jnp.where(slope > error, jnp.inf, 0.0)
    return jnp.where(is_zero, from_zero, jnp.where(constant > 0, limit, 0.0))


@functools.lru_cache(maxsize=16)
def constant_edge(tx: optax.GradientTransformationExtraArgs) -> float | None:
    """Return the stability edge that the theory finds, or None if it changes or is not found."""
    try:
        with jax.ensure_compile_time_eval():
            first, last = (
                theory.sharpness_limit(theory.state_space(tx, step=step)) for step in (0, None)
            )
    except Exception:  # The theory says why it cannot read tx, in several ways.
        return None
    return last if np.isclose(first, last, rtol=1e-3) else None
