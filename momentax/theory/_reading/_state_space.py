"""Read the linear system of a transformation from its own update."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments, trees
from momentax._core.transformations import Observed
from momentax._core.typing import PyTree, Reals
from momentax.theory._reading._long_run import counter_period, dependents, fixed_point, long_run
from momentax.theory._reading._reader import HISTORY_STEPS, Reader, double_precision
from momentax.theory._reading._superposition import require_linear, require_uniform
from momentax.theory._system import LinearSystem, lift
from momentax.theory._system import StateSpace as StateSpace

# The parameters that a transformation is read on: linearity is tested on entries that might
# disturb each other.
EXAMPLE_PARAMS = {f"{n}-d": np.zeros(n * (2,)) for n in range(3)}
_TINY = 2.0**-40  # Small enough to lie within the range of any practical clipping.


class OperatingPoint(NamedTuple):
    """The values of x and of the discrete part at each step of a period, and the linear state.

    The linear state is the entries of x that `reached` marks.
    """

    start: Reals  # ∂x_0/∂θ_0.
    reached: NDArray[np.bool_]  # Entries of x that follow from gradients and parameters.
    free: NDArray[np.bool_]  # Entries of x that evolve by themselves.
    phases: list[tuple[Reals, list[Any]]]  # x and the discrete part before each step.

    def has_same_discrete_parts(self, other: OperatingPoint) -> bool:
        """Return whether both have equal discrete parts; points with random keys never do."""
        return (
            len(self.phases) == len(other.phases)
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.reached, other.reached)
            and all(
                all(map(np.array_equal, discrete, others))
                for (_, discrete), (_, others) in zip(self.phases, other.phases, strict=True)
            )
        )

    def equals(self, other: OperatingPoint) -> bool:
        """Return whether both are equal, except in the linear state."""
        return self.has_same_discrete_parts(other) and all(
            np.array_equal(x[~self.reached], y[~self.reached])
            for (x, _), (y, _) in zip(self.phases, other.phases, strict=True)
        )


def step_matrices(
    reader: Reader,
    operating_point: OperatingPoint,
    rng: np.random.Generator,
    point: Any = None,
    test: bool = True,
) -> list[tuple[Reals, Reals]]:
    """Return A and B of each step of a period, and require superposition if asked to test."""
    reached, matrices, num = operating_point.reached, [], reader.num_params
    inputs = np.concatenate([reached, np.ones(num, bool)])
    for x, discrete in operating_point.phases:
        if point is not None:
            J = reader.jacobian(np.concatenate([x, np.full(num, point[1])]), discrete)
        else:
            rest = np.where(inputs, 0, np.concatenate([x, np.zeros(num)]))
            tiny = _TINY * np.where(inputs, rng.normal(size=len(inputs)), 0)
            J = reader.jacobian(rest + tiny, discrete)
            if not np.all(np.isfinite(J)):
                # The derivative of a norm may be 0 / 0; the values of a linear map define it too.
                values = reader.values(rest + _TINY * np.diag(inputs), discrete).T / _TINY
                J = np.where(np.isfinite(J), J, values)
            if test:
                require_linear(reader, J, x, discrete, reached, rng)
        A = np.where(np.outer(reached, reached), J[:, : reader.size], 0)
        matrices.append((A, J[:, reader.size :] * reached[:, None]))
    return matrices


def join(
    matrices: list[tuple[Reals, Reals]],
    start: Reals,
    entry: int,
    point: tuple[float, float] = (0.0, 1.0),
) -> LinearSystem:
    """Return the system of one entry of the parameters from A and B of each step of a period."""
    if not all(np.isfinite(part).all() for pair in matrices for part in pair):
        θ, g = point
        raise ValueError(
            f"tx has no finite derivative at (θ, g) = ({θ:g}, {g:g}); another point may have one"
        )
    return lift([(A, B[:, entry]) for A, B in matrices], start[:, entry], entry)


def _find_operating_point(
    reader: Reader,
    steps: int,
    in_long_run: bool,
    point: Any,
    known: OperatingPoint | None,
    rng: Any,
) -> tuple[OperatingPoint, set[str]]:
    """Return the operating point, and the paths of the integers that depend on gradients."""
    θ, g = (0.0, 1.0) if point is None else point
    start, xs, histories = reader.history(steps, θ, g)
    period, growing = counter_period(histories)

    def state(i: int) -> tuple[Reals, list[Any]]:
        return xs[i], [part[i] for part in histories]

    phases, integers = [state(i) for i in range(period)], set[str]()
    last = (HISTORY_STEPS - period) // period * period
    if known is not None:
        reached, free = known.reached, known.free.copy()
    elif point is None:
        # At several times, since the first step of a transformation often differs from the rest.
        others = [state(i) for i in (period, period + 1, *range(last, last + period))]
        reached, affects_params, integers = dependents(reader, start, phases + others, rng)
        reached, free = reached & affects_params, ~reached & affects_params
    else:
        reached = np.ones(reader.size, bool)
        free = reached.copy()
    free[: reader.num_param_entries] = False
    if in_long_run:
        x, discrete = state(last)
        if known is None:
            later, period = long_run(reader, x, discrete, growing, reached, g, rng)
        else:
            later, period = known.phases[0][1], len(known.phases)
        phases = fixed_point(reader, x, later, free, growing, g, period)
    return OperatingPoint(start, reached, free, phases), integers


def read(
    reader: Reader,
    steps: int = 0,
    in_long_run: bool = True,
    point: Any = None,
    chosen: int | None = None,
    known: OperatingPoint | None = None,
) -> tuple[LinearSystem, OperatingPoint]:
    """Read a system, and return it with its operating point.

    A known operating point saves the search for dependences and periods, and all tests of
    linearity.
    """
    rng = np.random.default_rng(0)
    operating_point, integers = _find_operating_point(reader, steps, in_long_run, point, known, rng)
    matrices = step_matrices(reader, operating_point, rng, point, test=known is None)
    if integers:
        raise ValueError(
            f"tx is not linear: its state at {' and '.join(sorted(integers))} holds whole numbers "
            "that depend on the gradients"
        )
    entry = reader.first_entry[chosen or 0]
    system = join(matrices, operating_point.start, entry, (0.0, 1.0) if point is None else point)
    if point is None and known is None:
        require_uniform(reader, operating_point.start, matrices, chosen)
    return system, operating_point


def _example(params: Any, path: str | None) -> tuple[Any, int | None]:
    """Return small parameters to read on, and the index of the chosen one.

    Each axis is as long as it must be to tell one entry from another: 1 or 2.
    """
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    if not named:
        raise ValueError("params must hold at least one array, got none")
    names = [trees.path_name(path) for path, _ in named]
    if path is not None:
        path = arguments.as_text("path", path, f'"{names[0]}"')
    if f"{path}.value" in names:
        path = f"{path}.value"  # The leaves of Flax's NNX are called so.
    if path is not None and path not in names:
        raise ValueError(f"path must be one of {', '.join(names)}, got {arguments.describe(path)}")
    for name, leaf in zip(names, (leaf for _, leaf in named), strict=True):
        if arguments.dtype_of(leaf) is None:
            raise TypeError(f"params must hold arrays, got {arguments.describe(leaf)} at {name}")
    if not any(arguments.is_a(jnp.inexact, leaf) for _, leaf in named):
        raise TypeError(
            "params must hold a floating or complex array, got the dtypes "
            f"{', '.join(str(arguments.dtype_of(leaf)) for _, leaf in named)}"
        )
    shapes = [np.shape(leaf) for _, leaf in named]
    ends = [(0, len(shape) - 1) for shape in shapes]
    small = [
        np.zeros([min(max(size, 1), 2 if axis in end else 1) for axis, size in enumerate(shape)])
        for shape, end in zip(shapes, ends, strict=True)
    ]
    return structure.unflatten(small), None if path is None else names.index(path)


def require_readable(
    tx: optax.GradientTransformation, alternative: str = ""
) -> optax.GradientTransformation:
    """Return the transformation whose steps are read, or refuse what is none."""
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    arguments.require_transformation("tx", tx, alternative)
    while isinstance(tx, Observed):
        tx = tx.observed
    return tx


def read_system(
    tx: optax.GradientTransformation,
    step: int | None = None,
    around: Any = None,
    params: PyTree = None,
    path: str | None = None,
) -> LinearSystem:
    """Read the LinearSystem of tx; `state_space` is the public form."""
    if isinstance(tx, StateSpace):
        raise TypeError("tx is already a StateSpace; use it directly")
    tx = require_readable(tx)
    steps = 0 if step is None else arguments.as_count("step", step, least=0)
    point = None
    if around is not None:
        point = arguments.as_reals("around", around)
        if point.shape != (2,):
            raise ValueError(f"around must be a pair (θ, g), got shape {point.shape}")
    if params is None:
        params = EXAMPLE_PARAMS if point is None else np.zeros(())
    elif point is not None:
        raise ValueError("around is a point of a single scalar; leave params out with it")
    like, chosen = _example(params, path)
    with double_precision():
        return read(Reader(lambda: tx, like), steps, step is None, point, chosen)[0]


def as_system(tx: optax.GradientTransformation | StateSpace) -> LinearSystem:
    """Return the system of a transformation, or of the StateSpace that was read before."""
    if not isinstance(tx, StateSpace):
        if not isinstance(tx, optax.MultiSteps):
            arguments.require_transformation("tx", tx, " or its StateSpace")
        return read_system(tx)
    A, B, C = (
        arguments.as_reals(f"{name} of the StateSpace tx", part)
        for name, part in tx._asdict().items()
    )
    n = len(A) if A.ndim else 0
    period = B.shape[1:] if B.ndim == 2 else ()
    if not n or (A.shape, B.shape, C.shape) != ((n, n), (n, *period), (*period, n)):
        raise ValueError(
            "the StateSpace tx must have A, B and C of the shapes (n, n), (n,) and (n,), or with a "
            f"period (n, n), (n, p) and (p, n), got {A.shape}, {B.shape} and {C.shape}"
        )
    return LinearSystem.from_state_space(StateSpace(A, B, C))


def state_space(
    tx: optax.GradientTransformation,
    *,
    step: int | None = None,
    around: tuple[float, float] | None = None,
    params: PyTree = None,
    path: str | None = None,
) -> StateSpace:
    """Read the linear system that a transformation is, by differentiating its own update.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t

    z holds a parameter and the entries of the state that depend on gradients and parameters.
    Entries that no gradient reaches, or that the parameter does not depend on, are left out.
    Whatever evolves by itself is a coefficient and not a state: counts, schedules, the weights
    of debiasing, injected hyperparameters, the sequences of `accelerated`. A transformation
    with a period, such as `optax.lookahead`, `optax.MultiSteps` or a periodic schedule, is read
    over all steps of its period; StateSpace describes the result.

    Args:
        tx: The whole optimizer, whose updates are added to the parameters.
        step: Where coefficients are frozen: after this many steps, at least 0, so that 0 is
            the first step. With a period it is the first step of the period. None is the long
            run: counts are 2²³, schedules have their last value, weights their fixed point.
        around: A point (θ, g) to linearise at, for a transformation that is not linear, in
            the state after `step` steps of this gradient at this parameter. z then counts from
            that point and holds all of the state. None is for a transformation that is
            linear everywhere.
        params: Parameters to read tx on, arrays or their shapes, for masks and labels that
            fit no other tree. At most 2 entries of an axis are read. None is a scalar, a
            vector and a matrix.
        path: The parameter whose system is returned, such as "['dense']['kernel']", where a
            mask or labels treat parameters differently. None is for a tx that treats all alike.

    Returns:
        StateSpace(A, B, C), in float64 whatever JAX's precision.

    Raises:
        ValueError: The transformation is not linear, couples the entries of a parameter,
            treats parameters differently, has coefficients that never settle or has too long a
            period; the message says which, and how superposition fails. Or params do not fit
            tx, or path is not one of their paths.
        TypeError: tx is not a gradient transformation, step is not a whole number, or params hold
            something other than arrays.

    Example:
        >>> momentax.theory.state_space(momentax.sgd(0.1, momentax.heavy_ball(0.9)))
        StateSpace(A=[[1, -0.09], [0, 0.9]], B=[-0.1, 1], C=[1, 0])
    """
    return read_system(tx, step, around, params, path).state_space
