"""The linear system that a transformation is, read from its own update."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core import arguments, trees
from momentax._core.typing import PyTree
from momentax.theory._course import far_on, followers, rounds, settled
from momentax.theory._reader import WATCHED, Reader, double
from momentax.theory._superposition import require_alike, require_linear
from momentax.theory._system import StateSpace, lifted

_Reals = NDArray[np.float64]

# What is read: linearity is tested on entries that might disturb each other.
_LIKE = {f"{n}-d": np.zeros(n * (2,)) for n in range(3)}
_TINY = 2.0**-40  # Inside the range of any clipping worth the name.


class _Frame(NamedTuple):
    """What a system is read within: what of x moves, and all else at each step of a period."""

    start: _Reals  # ∂x_0/∂θ_0.
    reached: NDArray[np.bool_]
    free: NDArray[np.bool_]  # What settles by itself.
    phases: list[tuple[_Reals, list[Any]]]

    def goes(self, other: _Frame) -> bool:
        """Whether another goes round in the same way; with random keys none does."""
        return (
            len(self.phases) == len(other.phases)
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.reached, other.reached)
            and all(
                all(map(np.array_equal, still, others))
                for (_, still), (_, others) in zip(self.phases, other.phases, strict=True)
            )
        )

    def same(self, other: _Frame) -> bool:
        """Whether another is the same but for what moves."""
        return self.goes(other) and all(
            np.array_equal(x[~self.reached], y[~self.reached])
            for (x, _), (y, _) in zip(self.phases, other.phases, strict=True)
        )


def _maps(
    reader: Reader, frame: _Frame, rng: np.random.Generator, point: Any = None, test: bool = True
) -> list[tuple[_Reals, _Reals]]:
    """A and B of each step of a period."""
    reached, maps = frame.reached, []
    inputs = np.concatenate([reached, np.ones(reader.num_params, bool)])
    for x, still in frame.phases:
        if point is not None:
            J = reader.jacobian(np.concatenate([x, np.full(reader.num_params, point[1])]), still)
        else:
            rest = np.where(inputs, 0, np.concatenate([x, np.zeros(reader.num_params)]))
            tiny = _TINY * np.where(inputs, rng.normal(size=len(inputs)), 0)
            J = reader.jacobian(rest + tiny, still)
            if not np.all(np.isfinite(J)):
                # A derivative may be 0 / 0 where a norm is taken; a linear map is its values too.
                alone = reader.values(rest + _TINY * np.diag(inputs), still).T / _TINY
                J = np.where(np.isfinite(J), J, alone)
            if test:
                require_linear(reader, J, x, still, reached, rng)
        A = np.where(np.outer(reached, reached), J[:, : reader.size], 0)
        maps.append((A, J[:, reader.size :] * reached[:, None]))
    return maps


def _joined(
    maps: list[tuple[_Reals, _Reals]], start: _Reals, entry: int, θ: float = 0.0, g: float = 1.0
) -> StateSpace:
    if not all(np.isfinite(part).all() for pair in maps for part in pair):
        raise ValueError(
            f"tx has no finite derivative at (θ, g) = ({θ:g}, {g:g}); another point may have one"
        )
    return lifted([(A, B[:, entry]) for A, B in maps], start[:, entry], entry)


def _read(
    reader: Reader,
    steps: int,
    long_run: bool,
    point: Any = None,
    chosen: int | None = None,
    known: _Frame | None = None,
) -> tuple[StateSpace, _Frame]:
    rng = np.random.default_rng(0)
    θ, g = (0.0, 1.0) if point is None else point
    start, xs, stills = reader.history(steps, θ, g)
    period, growing = rounds(stills)

    def state(i: int) -> tuple[_Reals, list[Any]]:
        return xs[i], [part[i] for part in stills]

    phases = [state(i) for i in range(period)]
    last = (WATCHED - period) // period * period
    whole: set[str] = set()
    if known is not None:
        reached, free = known.reached, known.free.copy()
    elif point is None:
        # What follows from gradients at any time: a first step is often one of its own.
        other = [state(i) for i in (period, period + 1, *range(last, last + period))]
        reached, felt, whole = followers(reader, start, phases + other, rng)
        reached, free = reached & felt, ~reached & felt
    else:
        reached = np.ones(reader.size, bool)
        free = reached.copy()
    free[: reader.held] = False
    if long_run:
        x, still = state(last)
        if known is None:
            far, period = far_on(reader, x, still, growing, reached, g, rng)
        else:
            far, period = known.phases[0][1], len(known.phases)
        phases = settled(reader, x, far, free, growing, g, period)
    frame = _Frame(start, reached, free, phases)
    maps = _maps(reader, frame, rng, point, test=known is None)
    if whole:
        raise ValueError(
            f"tx is not linear: its state at {' and '.join(sorted(whole))} holds whole numbers "
            "that depend on the gradients"
        )
    system = _joined(maps, start, reader.first[chosen or 0], θ, g)
    if point is None and known is None:
        require_alike(reader, start, maps, chosen)
    return system, frame


def _example(params: Any, path: str | None) -> tuple[Any, int | None]:
    """Parameters to read on, each axis just long enough to tell, and which of them was chosen."""
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    if not named:
        raise ValueError("params must hold at least one array, got none")
    names = [trees.path_name(path) for path, _ in named]
    if path is not None and f"{path}.value" in names:
        path = f"{path}.value"  # As the leaves of Flax's NNX are called.
    if path is not None and path not in names:
        raise ValueError(f"path must be one of {', '.join(names)}, got {arguments.describe(path)}")
    for name, leaf in zip(names, (leaf for _, leaf in named), strict=True):
        if arguments.dtype_of(leaf) is None:
            raise TypeError(f"params must hold arrays, got {arguments.describe(leaf)} at {name}")
    shapes = [np.shape(leaf) for _, leaf in named]
    ends = [(0, len(shape) - 1) for shape in shapes]
    small = [
        np.zeros([min(max(size, 1), 2 if axis in end else 1) for axis, size in enumerate(shape)])
        for shape, end in zip(shapes, ends, strict=True)
    ]
    return structure.unflatten(small), None if path is None else names.index(path)


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

    z holds a parameter and what of the state follows from gradients and
    parameters; what can neither be reached nor seen is left out. What evolves on
    its own is a coefficient and not state: counts, schedules, the weights of
    debiasing, injected hyperparameters, the sequences of `accelerated`. A
    transformation with a period, such as `optax.lookahead`, `optax.MultiSteps` or
    a schedule that goes round, is read over all of it: see StateSpace.

    Args:
        tx: The whole optimizer, whose updates are added to the parameters.
        step: Where coefficients are frozen: after this many steps, at least 0,
            so that 0 is the first step. Of a period it is the first step. None
            is the long run: counts are 2²³, schedules at their last value, weights
            at their fixed point.
        around: A point (θ, g) to linearise at, for a transformation that is not
            linear, in the state that `step` steps of this gradient at this
            parameter lead to. z then counts from that point, and all of the state is
            in it. None is a transformation that is linear everywhere.
        params: Parameters to read tx on, arrays or their shapes, for masks and
            labels that fit no other tree; of an axis no more is read than 2
            entries. None is a scalar, a vector and a matrix.
        path: Which parameter's system is meant, such as "['dense']['kernel']",
            where a mask or labels treat them differently. None is all of them.

    Returns:
        StateSpace(A, B, C), float64 whatever JAX's precision.

    Raises:
        ValueError: The transformation is not linear, couples the entries of a
            parameter, treats parameters differently, has coefficients that never
            settle or too long a period; the message says which, and what
            superposition fails for. Or params do not fit tx, or path is none of
            their paths.
        TypeError: tx is no gradient transformation, step no whole number, or
            params hold what is no array.
    """
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    arguments.require_transformation("tx", tx)
    steps = 0 if step is None else arguments.as_count("step", step, least=0)
    point = None
    if around is not None:
        point = arguments.as_reals("around", around)
        if point.shape != (2,):
            raise ValueError(f"around must be a pair (θ, g), got shape {point.shape}")
    if params is None:
        params = _LIKE if point is None else np.zeros(())  # A point is of one parameter.
    elif point is not None:
        raise ValueError("around is a point of a single scalar; leave params out with it")
    like, chosen = _example(params, path)
    with double():
        return _read(Reader(lambda: tx, like), steps, step is None, point, chosen)[0]


class Family:
    """The systems of what a factory makes of hyperparameters, compiled once for all of them.

    The first few are read like any other system. Where these differ in nothing but their
    coefficients, those of the rest alone are read, unless a reading in full is asked for.
    """

    def __init__(self, factory: Callable[..., Any]):
        self.factory = factory
        self.reader: Reader | None = None
        self.traced = True
        self.frames: list[_Frame] = []

    def _transformation(self, **hyperparameters: Any) -> Any:
        tx = self.factory(**hyperparameters)
        return tx.gradient_transformation() if isinstance(tx, optax.MultiSteps) else tx

    def __call__(self, hyperparameters: dict[str, float], full: bool = False) -> StateSpace:
        # As numbers first: a tracer's value is not checked.
        tx = self._transformation(**hyperparameters)
        arguments.require_transformation("what factory returns", tx)
        with double():
            if self.reader is None and self.traced:
                try:
                    reader = Reader(self._transformation, _LIKE, **hyperparameters)
                    system, frame = _read(reader, 0, True)
                except Exception:  # Whether a factory takes tracers shows in trying only.
                    system, frame = _read(Reader(lambda: tx, _LIKE), 0, True)
                    self.traced = False
                else:
                    self.reader = reader
                self.frames = [frame]
                return system
            reader = self.reader or Reader(lambda: tx, _LIKE)
            if self.traced:
                reader.hyperparameters = hyperparameters
            first = self.frames[0]
            if full or len(self.frames) < 3 or not all(map(first.goes, self.frames)):
                system, frame = _read(reader, 0, True)
                self.frames = [*self.frames[:2], frame]
                return system
            with nullcontext() if self.traced else jax.disable_jit():  # Compiling takes longer.
                if not all(map(first.same, self.frames)):
                    system, _ = _read(reader, 0, True, known=first)
                    return system
                maps = _maps(reader, first, np.random.default_rng(0), test=False)
            return _joined(maps, first.start, 0)


def is_system(value: object) -> TypeGuard[optax.GradientTransformation | StateSpace]:
    """Whether an argument is what `read` takes, and no number."""
    return isinstance(value, optax.GradientTransformation | optax.MultiSteps | StateSpace)


def read(tx: optax.GradientTransformation | StateSpace) -> StateSpace:
    """The system of a transformation, or the system that is given."""
    if isinstance(tx, StateSpace):
        return StateSpace(*(np.asarray(part, np.float64) for part in tx))
    return state_space(tx)
