"""The rates of a method at every learning rate and β, from the linear systems that it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from momentax._core.arguments import describe, require_function, require_transformation
from momentax._core.typing import Reals
from momentax.theory import (
    StateSpace,
    rate_at,
    sharpness_limit,
    spectral_radius,
    stability_edge,
    state_space,
)

_PROBE = np.array([0.01, 0.3, 1.0])  # Learning rate × curvature at which readings are compared.
_CHUNK = 32  # Values of β in one call of the compiled function.
_BETWEEN = 64  # Curvatures between μ and L at which a method with several velocities is tried.


class Systems(NamedTuple):
    """The optimizers x⁺ = F x + G g, θ⁺ = θ - α (H x + D g) of a method, one for each β.

    betas: β, shape (n,).
    F, G, H, D: their matrices, shapes (n, m, m), (n, m), (n, m) and (n,).
    """

    betas: Reals
    F: Reals
    G: Reals
    H: Reals
    D: Reals

    @property
    def coefficients(self) -> dict[str, Reals] | None:
        """Return β, a and b of each method by name; None if it is no single recurrence.

        The recurrence is v⁺ = β v + g, d = a g + b v⁺, that of the theory's closed forms.
        """
        if self.F.shape[1] == 0:
            zero = 0 * self.betas
            return {"beta": zero, "gradient_weight": self.D, "velocity_weight": zero}
        if self.F.shape[1] > 1:
            return None
        β, gain = self.F[:, 0, 0], self.G[:, 0] * self.H[:, 0]
        if np.any((β < 0) | (β >= 1)):
            return None
        # A velocity that is not kept is the gradient itself.
        b = np.where(β > 0, gain / np.where(β > 0, β, 1), self.D)
        return {"beta": β, "gradient_weight": self.D - b, "velocity_weight": b}

    def space(self, i: int) -> StateSpace:
        """Return the optimizer with a learning rate of 1 at the i-th β."""
        F, G, H, D = self.F[i], self.G[i], self.H[i], self.D[i]
        A = np.block([[np.ones((1, 1)), -H[None]], [np.zeros((len(F), 1)), F]])
        return StateSpace(A, np.append(-D, G), np.eye(len(A))[0])

    def edges(self) -> Reals:
        """Return the largest stable learning rate × curvature at each β."""
        if (found := self.coefficients) is not None:
            return stability_edge(**found)
        return np.array([sharpness_limit(self.space(i)) for i in range(len(self.betas))])

    def rates(self, learning_rates: Reals, μ: float, L: float) -> Reals:
        """Return the worst factor per step over [μ, L], of shape (n, count).

        learning_rates has the shape (n, count) or (count,).
        """
        α = np.broadcast_to(learning_rates, (len(self.betas), np.shape(learning_rates)[-1]))
        if (found := self.coefficients) is not None:
            # The curvatures at which both roots lie in a disk are an interval, since the trace
            # and the determinant are affine in λ: the worst one is an end of [μ, L].
            columns = {name: values[:, None] for name, values in found.items()}
            return np.maximum(*(spectral_radius(α, λ, **columns) for λ in (μ, L)))
        return np.stack([self._worst(i, each, μ, L) for i, each in enumerate(α)])

    def _worst(self, i: int, α: Reals, μ: float, L: float) -> Reals:
        """Return the worst factor over [μ, L] at the i-th β, where only α λ matters."""
        between = np.geomspace(μ * α.min(), L * α.max(), _BETWEEN)
        x = np.concatenate([μ * α, L * α, between])
        ρ = rate_at(self.space(i), x)
        inside = (x >= μ * α[:, None]) & (x <= L * α[:, None])
        return np.where(inside, ρ, 0).max(axis=1)


def read_family(method: Any) -> Callable[[Reals], Systems]:
    """Return a function from values of β to the systems of a method, compiled once."""
    example = 0.5
    require_function(
        "method", method, "of a β that returns a method, such as momentax.nesterov", example
    )
    tx = method(example)
    require_transformation("what method returns", tx, example="momentax.nesterov(0.9)")
    space = state_space(optax.chain(tx, optax.scale(-1.0)))
    if np.ndim(space.B) > 1:
        raise ValueError("method must do the same at every step, got one with a period")
    compiled = _compile(method)
    systems = _read(method, compiled, np.array([example]))
    here, there = (rate_at(each, _PROBE) for each in (systems.space(0), space))
    if not np.allclose(here, there, rtol=1e-6):
        raise ValueError(
            "method must have coefficients that are the same from the first step on, got one that "
            f"begins as another one, {describe(method)}"
        )
    if systems.edges()[0] == 0:
        raise ValueError(
            "method must return directions, which follow the gradient, got one that does not "
            "descend at any learning rate; give momentax.heavy_ball, and not momentax.sgd"
        )
    return partial(_read, method, compiled)


def _read(method: Any, compiled: Any, betas: Reals) -> Systems:
    """Differentiate the update of a method at each β, in float64, in its long run."""
    with jax.enable_x64(True):
        start, after, J = _in_chunks(method, compiled, betas, None)
        # What evolves by itself, such as the weight of a running average, is at its fixed point.
        J = _in_chunks(method, compiled, betas, _fixed_points(start, after, J))[2]
    F, G, H, D = J[:, 1:, 1:], J[:, 1:, 0], J[:, 0, 1:], J[:, 0, 0]
    depends = np.any(F != 0, axis=0)
    kept = _closure(depends, np.any(G != 0, axis=0)) & _closure(depends.T, np.any(H != 0, axis=0))
    return Systems(betas, F[:, kept][:, :, kept], G[:, kept], H[:, kept], D)


def _in_chunks(method: Any, compiled: Any, betas: Reals, states: Reals | None) -> list[Reals]:
    """Call the compiled function of values of β and states, always with as many as it knows."""
    if states is None:
        states = np.full((len(betas), _state_size(method)), np.nan)
    found = []
    for i in range(0, len(betas), _CHUNK):
        some = np.minimum(np.arange(i, i + _CHUNK), len(betas) - 1)
        found.append([np.asarray(part) for part in compiled(betas[some], states[some])])
    return [np.concatenate(parts)[: len(betas)] for parts in zip(*found, strict=True)]


def _compile(method: Any) -> Callable[[Any, Any], Any]:
    """Return `_step_matrix` over many values of β, compiled if the method takes traced ones."""
    compiled = jax.jit(jax.vmap(partial(_step_matrix, method)))

    def one_by_one(betas: Reals, states: Reals) -> Any:
        _, first, inverse = np.unique(betas, return_index=True, return_inverse=True)
        found = [_step_matrix(method, float(betas[i]), states[i]) for i in first]
        return (np.stack(parts)[inverse] for parts in zip(*found, strict=True))

    try:
        with jax.enable_x64(True):
            jax.eval_shape(compiled, np.ones(1) / 2, np.ones((1, _state_size(method))))
    except Exception:  # Whether a function takes tracers can only be tried.
        return one_by_one
    return compiled


def _fixed_points(start: Reals, after: Reals, J: Reals) -> Reals:
    """Return the states that a step with a gradient of 0 leaves as they are."""
    F, moved = np.nan_to_num(J[:, 1:, 1:]), np.nan_to_num(after[:, 1:] - start)
    inverse = np.linalg.pinv(np.eye(F.shape[1]) - F, rcond=1e-14)
    return start + np.einsum("nij,nj->ni", inverse, moved)


def _floats(state: Any) -> tuple[list[Any], Any, list[int]]:
    """Return the leaves and the structure of a state, and which leaves are floating."""
    leaves, structure = jax.tree.flatten(state)
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return leaves, structure, floating


def _state_size(method: Any) -> int:
    leaves, _, floating = _floats(jax.eval_shape(lambda: method(0.5).init(jnp.zeros(()))))
    return sum(leaves[i].size for i in floating)


def _step_matrix(method: Any, β: Any, x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Differentiate a step of a single parameter, from (gradient, state) to (direction, state).

    The gradient is 0 and the state is x, or that of `init` where x is NaN. The result is the
    state, the (direction, state) after the step, and the derivative.
    """
    tx = optax.with_extra_args_support(method(β))
    leaves, structure, floating = _floats(tx.init(jnp.zeros(())))
    start, unravel = ravel_pytree([leaves[i] for i in floating])
    start = jnp.where(jnp.isnan(x), start, x)

    def step(y: jax.Array) -> jax.Array:
        new = list(leaves)
        for i, value in zip(floating, unravel(y[1:]), strict=True):
            new[i] = value
        d, state = tx.update(y[0], structure.unflatten(new), jnp.zeros(()))
        after = jax.tree.leaves(state)
        return jnp.append(d, ravel_pytree([after[i] for i in floating])[0])

    y = jnp.append(0.0, start)
    return start, step(y), jax.jacfwd(step)(y)


def _closure(depends: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Add to a set of entries all that depend on it, directly or through others."""
    while np.any(more := depends[:, inside].any(axis=1) & ~inside):
        inside = inside | more
    return inside
