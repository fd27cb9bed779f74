"""The linear system that a transformation is, read from its own update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from momentax import _check

_Reals = NDArray[np.float64]
PyTree = Any

_LONG_RUN = 2**30  # A count that leaves every warm-up behind and room to count on.
_LONGEST_PERIOD = 64
_WATCHED = 1024  # Steps in which a period has to show.
_TINY = 2.0**-40  # Inside the range of any clipping worth the name.
_SCALES = 10.0 ** np.arange(-11, 7)
_RANK = 1e-10  # What counts as dependent, after balancing.


class StateSpace(NamedTuple):
    """A linear optimizer as a system from gradients to parameters, all float64.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t,    g_t the gradient at θ_{t-1}

    A: shape (n, n).
    B: shape (n,).
    C: shape (n,).

    From `state_space`, z_0 = (θ_0, 0, 0, ...) and C = (1, 0, 0, ...). Of a
    transformation with a period of p steps B has the shape (n, p) and C (p, n), a
    gradient and a parameter for each: step t reads and writes those of t mod p
    alone, and the eigenvalues of A + λ B C are still factors per step.
    """

    A: _Reals
    B: _Reals
    C: _Reals


class _Reader:
    """One step of a transformation as a function of flat arrays.

    y = (θ, the inexact leaves of the state, g), in float64; whole numbers, flags
    and random keys of the state apart. Everything runs inside `_double`.
    """

    def __init__(self, tx: Any, like: PyTree):
        # Lookahead alone wants its parameters as a pair, of which the first has the gradient.
        self.pair = tx.init.__module__ == "optax._src.lookahead"
        self.tx, self.like = tx, like
        self.num_params = sum(np.size(leaf) for leaf in jax.tree.leaves(like))
        try:
            state = jax.eval_shape(self._init, jnp.zeros(self.num_params))[1]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "tx does not take the parameters that it is read with, a dict of a scalar, a "
                f"vector and a matrix; give masks and labels as functions of them: {error}"
            ) from error
        paths, self.structure = jax.tree_util.tree_flatten_with_path(state)
        self.leaves = [leaf for _, leaf in paths]
        self.moving = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self.leaves]
        self.held = self.num_params * (1 + self.pair)  # Entries that are parameters.
        self.names, ε = ["the parameters"] * self.held, [np.finfo(np.float64).eps] * self.held
        for (path, leaf), moving in zip(paths, self.moving, strict=True):
            if moving:
                self.names += [f"the state at {_check.path_name(path)}"] * leaf.size
                ε += [float(jnp.finfo(leaf.dtype).eps)] * leaf.size
        self.whole = [
            _check.path_name(path)
            for (path, leaf), moving in zip(paths, self.moving, strict=True)
            if not moving
        ]
        self.eps = np.asarray(ε)
        self.size = len(self.names)
        self.batch = max(self.size + self.num_params + 1, 72)
        # Each runs a few times: it is compiling that takes the time.
        quick = {"xla_backend_optimization_level": 0}
        probe = jax.vmap(self._tangent, in_axes=(0, 0, None))
        self._probe = jax.jit(probe, compiler_options=quick)
        self._watch = jax.jit(self._history, compiler_options=quick)

    def _tree(self, flat: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(self.like)
        cuts = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
        parts = zip(jnp.split(flat, cuts), leaves, strict=True)
        return structure.unflatten([jnp.reshape(part, np.shape(leaf)) for part, leaf in parts])

    def _params(self, flat: jax.Array) -> PyTree:
        if not self.pair:
            return self._tree(flat)
        fast, slow = jnp.split(flat, 2)
        return optax.LookaheadParams(self._tree(fast), self._tree(slow))

    def _init(self, θ: jax.Array) -> tuple[PyTree, PyTree]:
        params = self._params(jnp.concatenate([θ, θ]) if self.pair else θ)
        return params, jax.tree.map(jnp.asarray, self.tx.init(params))

    def _flat(self, params: PyTree, state: PyTree) -> tuple[jax.Array, list[Any]]:
        leaves = self.structure.flatten_up_to(state)
        parts = jax.tree.leaves(params)
        still = []
        for leaf, old, moving in zip(leaves, self.leaves, self.moving, strict=True):
            leaf = leaf if _is_key(old) else jnp.asarray(leaf)
            (parts if moving else still).append(leaf)
        return jnp.concatenate([jnp.ravel(part).astype(jnp.float64) for part in parts]), still

    def _step(self, y: jax.Array, still: list[Any]) -> tuple[jax.Array, list[Any]]:
        params, grads = self._params(y[: self.held]), self._tree(y[self.size :])
        rest, kept, leaves = y[self.held : self.size], iter(still), []
        for leaf, moving in zip(self.leaves, self.moving, strict=True):
            if moving:
                part, rest = rest[: leaf.size], rest[leaf.size :]
                leaves.append(jnp.reshape(part, leaf.shape).astype(leaf.dtype))
            else:
                leaves.append(next(kept))
        state = self.structure.unflatten(leaves)
        updates, state = self.tx.update(grads, state, params)
        x, new = self._flat(optax.apply_updates(params, updates), state)
        return x, [
            part.astype(old.dtype) if hasattr(old, "astype") else part
            for part, old in zip(new, still, strict=True)
        ]

    def _tangent(self, y: jax.Array, along: jax.Array, still: list[Any]) -> Any:
        x, slope, new = jax.jvp(lambda y: self._step(y, still), (y,), (along,), has_aux=True)
        return x, slope, new

    def _history(self, steps: Any, θ: jax.Array, g: jax.Array) -> Any:
        held = jnp.tile(θ, 2) if self.pair else θ

        def start(θ: jax.Array) -> tuple[jax.Array, list[Any]]:
            return self._flat(*self._init(θ))

        def next_(i: Any, carried: Any) -> Any:
            now, seen = carried
            at = jnp.maximum(i - steps, 0)
            seen = jax.tree.map(
                lambda part, new: jax.lax.dynamic_update_index_in_dim(part, new, at, 0), seen, now
            )
            y = jnp.concatenate([jax.lax.dynamic_update_slice(now[0], held, (0,)), g])
            return self._step(y, now[1]), seen

        slope, still = jax.jacfwd(start, has_aux=True)(θ)
        first = start(θ)[0], still
        seen = jax.tree.map(lambda part: jnp.broadcast_to(part, (_WATCHED, *part.shape)), first)
        return slope, jax.lax.fori_loop(0, steps + _WATCHED, next_, (first, seen))[1]

    def history(self, steps: int, θ: float, g: float) -> tuple[_Reals, _Reals, list[Any]]:
        """∂x_0/∂θ_0, and the states after `steps` steps and more at one point and gradient."""
        fill = np.ones(self.num_params)
        slope, (x, still) = self._watch(steps, θ * fill, g * fill)
        return np.asarray(slope), np.asarray(x), _host(still)

    def probe(self, y: Any, along: Any, still: list[Any]) -> tuple[_Reals, _Reals, list[Any]]:
        """Values and derivatives at rows of points along rows of directions."""
        rows = len(y)
        fill = ((0, self.batch - rows), (0, 0))
        x, slope, new = self._probe(np.pad(y, fill), np.pad(along, fill), still)
        return np.asarray(x)[:rows], np.asarray(slope)[:rows], [part[:rows] for part in _host(new)]

    def values(self, y: Any, still: list[Any]) -> _Reals:
        parts = np.split(y, range(self.batch, len(y), self.batch))
        return np.concatenate([self.probe(part, 0 * part, still)[0] for part in parts])

    def jacobian(self, y: Any, still: list[Any]) -> _Reals:
        """∂x⁺/∂y at one point, shape (size, size + num_params)."""
        return self.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), still)[1].T


@contextmanager
def _double() -> Iterator[None]:
    """64 bits, and none of the checks that a program may have set on its own arithmetic."""
    with ExitStack() as stack:
        stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(np.errstate(all="ignore"))
        yield


def _is_key(part: Any) -> bool:
    return jnp.issubdtype(part.dtype, jax.dtypes.prng_key)


def _host(still: list[Any]) -> list[Any]:
    return [part if _is_key(part) else np.asarray(part) for part in still]


def _counts(still: list[Any]) -> dict[int, NDArray[np.int64]]:
    """The whole numbers and flags among the still leaves, each as (steps, entries)."""
    return {
        i: np.asarray(part).astype(np.int64).reshape(len(part), -1)
        for i, part in enumerate(still)
        if not _is_key(part)
    }


def _period(still: list[Any]) -> tuple[int, dict[int, Any]]:
    """The period of the counters that come round, and which others count on."""
    period, growing = 1, {}
    for i, seen in _counts([part[_WATCHED // 2 :] for part in still]).items():
        grows = np.zeros(seen.shape[1], bool)
        for j, entry in enumerate(seen.T):
            rounds = range(1, _LONGEST_PERIOD + 1)
            own = next((p for p in rounds if np.array_equal(entry[p:], entry[:-p])), None)
            if own is None and np.any(np.diff(entry) < 0):
                raise ValueError(_TOO_LONG)
            grows[j] = own is None
            period = np.lcm(period, own or 1)
        growing[i] = grows
    if period > _LONGEST_PERIOD:
        raise ValueError(_TOO_LONG)
    return int(period), growing


_TOO_LONG = f"tx has a period of more than {_LONGEST_PERIOD} steps, too long to read over all of it"


def _reached(
    reader: _Reader, start: _Reals, phases: list[Any], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], set[str]]:
    """What of x follows from gradients and parameters, and the paths of such whole numbers."""
    reached = np.any(start != 0, axis=1)
    whole: set[str] = set()
    for x, still in 2 * phases:
        y = np.concatenate([x, rng.normal(size=reader.num_params)])
        y[: -reader.num_params][reached] = rng.normal(size=reached.sum())
        other = np.where(y == 0, 1, -y * rng.uniform(0.5, 2, y.shape))
        rows = np.concatenate([y[None], np.where(np.eye(len(y), dtype=bool), other, y)])
        along = np.eye(len(y) + 1, len(y), -1)
        values, slopes, new = reader.probe(rows, along, still)
        depends = ~(values[1:] == values[0]) | (slopes[1:] != 0)
        gradients = np.ones(reader.num_params, bool)
        while True:
            more = reached | depends[np.concatenate([reached, gradients])].any(axis=0)
            if np.array_equal(more, reached):
                break
            reached = more
        chosen = np.concatenate([[True], reached, gradients])
        for i, seen in _counts([part[chosen] for part in new]).items():
            if np.any(seen != seen[0]):
                whole.add(reader.whole[i])
    return reached, whole


def _settled(
    reader: _Reader, x: _Reals, still: list[Any], growing: Any, free: Any, g: float, period: int
) -> list[Any]:
    """The states of a period in the long run: counts far on, free entries at their fixed point."""
    still = list(still)
    for i, grows in growing.items():
        flags = still[i].dtype == bool
        far = 1 if flags else min(_LONG_RUN, np.iinfo(still[i].dtype).max // 2)
        still[i] = np.where(grows.reshape(still[i].shape), far, still[i]).astype(still[i].dtype)
    gradients, now = np.full(reader.num_params, g), x
    for _ in range(50):
        states, now, counts, M = [], x, still, np.eye(free.sum())
        for _ in range(period):
            states.append((now, counts))
            y = np.concatenate([now, gradients])
            values, slopes, new = reader.probe(np.tile(y, (len(y), 1)), np.eye(len(y)), counts)
            M = slopes.T[np.ix_(free, np.flatnonzero(free))] @ M
            now, new = np.where(free, values[0], x), [part[0] for part in new]
            if any(np.any(new[i] < counts[i]) for i, grows in growing.items() if grows.any()):
                raise ValueError(_TOO_LONG)
            counts = new
        left = (now - x)[free]
        if np.all(np.abs(left) <= 1e-13 * (1 + np.abs(x[free]))):
            return states
        if not (np.all(np.isfinite(left)) and np.all(np.isfinite(M))):
            break
        x = x.copy()
        x[free] += np.linalg.lstsq(np.eye(len(M)) - M, left, rcond=1e-12)[0]
    names = sorted(
        {name for name, still in zip(reader.names, ~np.isclose(now, x), strict=True) if still}
    )
    raise ValueError(
        f"tx has coefficients that never settle, {' and '.join(names)}; give the step to freeze "
        "them at"
    )


def _require_linear(
    reader: _Reader, J: _Reals, x: _Reals, still: list[Any], reached: Any, rng: Any
) -> None:
    """Superposition at random states, from tiny to large."""
    num = reader.num_params
    inputs = np.concatenate([reached, np.ones(num, bool)])
    rest = np.where(inputs, 0.0, np.concatenate([x, np.zeros(num)]))
    tolerance = max(1e-11, 16 * reader.eps[reached].max())

    def values(y: _Reals) -> _Reals:
        return reader.values(rest + y, still)[:, reached]

    def same(value: _Reals, expected: _Reals, size: _Reals) -> NDArray[np.bool_]:
        return np.asarray(np.abs(value - expected) <= tolerance * size)  # And so not of NaN.

    def follows(y: _Reals) -> NDArray[np.bool_]:
        return np.all(same(values(y), y @ J[reached].T, np.abs(y) @ np.abs(J[reached]).T), axis=1)

    # Now the state is the larger and now the gradient, so that each has its say in a condition.
    groups = np.repeat(np.arange(3), [reader.held, reader.size - reader.held, num])
    sizes = 10.0 ** rng.uniform(-1, 1, size=(12, 3))[:, groups]
    directions = inputs * sizes * rng.normal(size=(12, len(inputs)))
    points = _SCALES[:, None, None] * directions
    linear = follows(points.reshape(-1, len(inputs))).reshape(points.shape[:2])
    if linear.all():
        return
    at, which = np.argwhere(~linear)[0]
    broken = _broken(values, same, points[at, which], points[at])
    broken = broken.format(np.asarray(reader.names)[reached])
    remedy = "give around=(θ, g) to linearise it at a point"
    if at == 0:
        raise ValueError(f"tx is not linear: {broken}; {remedy}")
    alone = np.zeros(len(inputs))
    alone[reader.size] = 1
    low, high, where = _SCALES[at - 1], _SCALES[-1], "gradients from rest"
    if follows(high * alone[None]).all():
        where = "states and gradients"
    else:
        for _ in range(5):
            sizes = np.geomspace(low, high, 40)
            beyond = int(np.argmin(follows(sizes[:, None] * alone)))
            low, high = sizes[max(beyond - 1, 0)], sizes[beyond]
    raise ValueError(
        f"tx is linear only within a range, as clipping makes it: for {where} up to about "
        f"{low:.4g}. Beyond, {broken}; leave the clipping out for the system within the range, "
        f"or {remedy}"
    )


def _broken(values: Any, same: Any, u: _Reals, others: _Reals) -> str:
    """Which half of superposition fails at u, and for what, by its index in braces."""
    everything = "the parameters, the state and the gradient"
    zero, one, twice, minus = values(np.stack([0 * u, u, 2 * u, -u]))
    other, both = values(others), values(u + others)
    size = np.abs(one) + np.abs(other).max(axis=0) + 1e-300
    for right, text in (
        (same(zero, 0 * one, size), f"homogeneity fails: {{}} should be 0 where {everything} are"),
        (same(minus, -one, size), f"homogeneity fails: {{}} should change sign with {everything}"),
        (same(twice, 2 * one, size), f"homogeneity fails: {{}} should double with {everything}"),
        (
            same(both, one + other, size).all(axis=0),
            f"additivity fails: {{}} after a step from the sum of two of {everything} should be "
            "the sum of what they are after each",
        ),
    ):
        if not right.all():
            return text.format(f"{{0[{np.argmin(right)}]}}")
    return "superposition fails"


def _require_alike(reader: _Reader, start: _Reals, steps: list[tuple[_Reals, _Reals]]) -> None:
    """No entry of a parameter moves another, and all entries of one move in the same way."""
    num = reader.num_params
    leaf = np.repeat(
        np.arange(len(jax.tree.leaves(reader.like))),
        [np.size(part) for part in jax.tree.leaves(reader.like)],
    )
    for first in range(len(steps)):
        moved = np.concatenate([start, steps[first - 1][1]], axis=1)
        for k in range(2 * reader.size // num * len(steps)):
            seen = moved[:num].reshape(num, 2, num)
            tolerance = 1e-9 * np.abs(seen).max(initial=0)
            for each in (seen[:, 0], seen[:, 1]):
                own = np.diag(each)
                if np.any(np.abs(each - np.diag(own)) > tolerance):
                    raise ValueError(
                        "tx couples the entries of a parameter: the gradient of one moves "
                        "another, so no one system describes each"
                    )
                if np.any(np.abs(own - own[np.searchsorted(leaf, leaf)]) > tolerance):
                    raise ValueError(
                        "tx moves the entries of one parameter in different ways, so no one "
                        "system describes each"
                    )
            moved = steps[(first + k) % len(steps)][0] @ moved


def _span(A: _Reals, X: _Reals) -> _Reals:
    """An orthonormal basis of what the columns of X reach under A."""
    size = np.linalg.norm(X, axis=0)
    new = X[:, size > 0] / size[size > 0]
    basis, scale = np.zeros((len(A), 0), np.float64), 1.0
    while new.size:
        for _ in range(2):
            new = new - basis @ (basis.T @ new)
        u, s, _ = np.linalg.svd(new, full_matrices=False)
        found = u[:, s > _RANK * scale]
        basis = np.concatenate([basis, found], axis=1)
        new, scale = A @ found, max(np.linalg.norm(A, 2), 1e-300)
    return basis


def _closure(pattern: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    while np.any(more := pattern[:, inside].any(axis=1) & ~inside):
        inside = inside | more
    return inside


def balance(A: _Reals, B: _Reals, C: _Reals) -> tuple[_Reals, float]:
    """Scales of the state, powers of 2, and of the gradient, that leave nothing to its units."""
    strengths, moved = [], B
    for _ in range(len(A)):
        strengths.append(np.abs(C @ moved).max())
        moved = A @ moved
    feedback = 1 / max(strengths) if max(strengths) > 0 else 1.0
    weight = np.abs(A) + feedback * np.abs(B) @ np.abs(C)
    np.fill_diagonal(weight, 0)
    scale = np.ones(len(A))
    for _ in range(20):
        for i in range(len(A)):
            row = (weight[i] * scale).sum() / scale[i]
            column = (weight[:, i] / scale).sum() * scale[i]
            if row > 0 and column > 0:
                scale[i] *= 2.0 ** np.round(np.log2(row / column) / 2)
    return scale, float(feedback)


def _minimal(A: Any, B: Any, C: Any, start: Any) -> StateSpace:
    """The part that can be reached and seen, in coordinates where z_0 = (θ_0, 0, ..., 0)."""
    into = np.any(B != 0, axis=1) | (start != 0)
    keep = _closure(A != 0, into) & _closure(A.T != 0, np.any(C != 0, axis=0))
    A, B, C, start = A[np.ix_(keep, keep)], B[keep], C[:, keep], start[keep]
    scale, _ = balance(A, B, C)
    inner = A / scale[:, None] * scale
    reached = _span(inner, np.column_stack([start, B]) / scale[:, None])
    seen = _span((reached.T @ inner @ reached).T, (C * scale @ reached).T)
    if seen.shape[1] < len(A):
        basis = reached @ seen
        A, C = basis.T @ inner @ basis, C * scale @ basis
        B, start = basis.T @ (B / scale[:, None]), basis.T @ (start / scale)
    if np.any(start != np.eye(len(A))[0]) or np.any(C[0] != np.eye(len(A))[0]):
        kernel = np.linalg.svd(C[:1])[2][1:].T
        T = np.column_stack([start, kernel])
        A, B, C = np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T
        C[0] = np.eye(len(A))[0]
    return StateSpace(A, B[:, 0], C[0]) if len(C) == 1 else StateSpace(A, B, C)


def _lifted(steps: list[tuple[_Reals, _Reals]], start: _Reals) -> StateSpace:
    """The steps of a period as one system on a copy of the state for each."""
    p, n = len(steps), len(start)
    A, B, C = np.zeros((p, n, p, n)), np.zeros((p, n, p)), np.zeros((p, p, n))
    for i, (each, gain) in enumerate(steps):
        A[(i + 1) % p, :, i], B[(i + 1) % p, :, i], C[i, i, 0] = each, gain, 1
    first = np.concatenate([start, np.zeros((p - 1) * n)])
    return _minimal(A.reshape(p * n, -1), B.reshape(p * n, -1), C.reshape(p, -1), first)


def _read(reader: _Reader, steps: int, long_run: bool, point: Any = None) -> StateSpace:
    rng = np.random.default_rng(0)
    θ, g = (0.0, 1.0) if point is None else point
    start, xs, stills = reader.history(steps, θ, g)
    period, growing = _period(stills)

    def state(i: int) -> tuple[_Reals, list[Any]]:
        return xs[i], [part[i] for part in stills]

    phases = [state(i) for i in range(period)]
    last = (_WATCHED - period) // period * period
    whole: set[str] = set()
    if point is None:
        # What follows from gradients at any time: a first step is often one of its own.
        other = [state(i) for i in (period, period + 1, *range(last, last + period))]
        reached, whole = _reached(reader, start, phases + other, rng)
        free = ~reached
    else:
        reached = np.ones(reader.size, bool)
        free = reached.copy()
    free[: reader.held] = False
    if long_run:
        phases = _settled(reader, *state(last), growing, free, g, period)
    maps = []
    for x, still in phases:
        if point is not None:
            J = reader.jacobian(np.concatenate([x, np.full(reader.num_params, g)]), still)
        else:
            inputs = np.concatenate([reached, np.ones(reader.num_params, bool)])
            rest = np.where(inputs, 0, np.concatenate([x, np.zeros(reader.num_params)]))
            tiny = _TINY * np.where(inputs, rng.normal(size=len(inputs)), 0)
            J = reader.jacobian(rest + tiny, still)
            # A derivative may be 0 / 0 where a norm is taken; a linear map is its values as well.
            alone = reader.values(rest + _TINY * np.diag(inputs), still).T / _TINY
            J = np.where(np.isfinite(J), J, alone)
            _require_linear(reader, J, x, still, reached, rng)
        A = np.where(np.outer(reached, reached), J[:, : reader.size], 0)
        maps.append((A, J[:, reader.size :] * reached[:, None]))
    if whole:
        raise ValueError(
            f"tx is not linear: its state at {' and '.join(sorted(whole))} holds whole numbers "
            "that depend on the gradients"
        )
    if not all(np.isfinite(part).all() for pair in maps for part in pair):
        raise ValueError(f"tx has no finite derivative at (θ, g) = ({θ:g}, {g:g})")
    if point is None:
        _require_alike(reader, start, maps)
    return _lifted([(A, B[:, 0]) for A, B in maps], start[:, 0])


def state_space(
    tx: optax.GradientTransformation,
    *,
    step: int | None = None,
    around: tuple[float, float] | None = None,
) -> StateSpace:
    """Read the linear system that a transformation is, by differentiating its own update.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t

    z holds a parameter and what of the state follows from gradients and
    parameters; what can neither be reached nor seen is left out. What evolves on
    its own is a coefficient and not state: counts, schedules, the weights of
    debiasing, injected hyperparameters, the sequences of `accelerated`. A
    transformation with a period, such as `optax.lookahead` or
    `optax.MultiSteps`, is read over all of it: see StateSpace.

    Args:
        tx: The whole optimizer, whose updates are added to the parameters. It is
            read on a scalar, a vector and a matrix, so masks and labels must be
            functions of the parameters. The system is that of the scalar.
        step: Where coefficients are frozen: after this many steps, at least 0,
            so that 0 is the first step. Of a period it is the first step. None
            is the long run: counts are 2³⁰, schedules at their last value,
            weights at their fixed point.
        around: A point (θ, g) to linearise at, for a transformation that is not
            linear, in the state that `step` steps of this gradient at this
            parameter lead to. z then counts from that point, and all of the state is
            in it. None is a transformation that is linear everywhere.

    Returns:
        StateSpace(A, B, C), float64 whatever JAX's precision.

    Raises:
        ValueError: The transformation is not linear, couples the entries of a
            parameter, has coefficients that never settle or too long a period;
            the message says which, and what superposition fails for.
        TypeError: tx is no gradient transformation, or step no whole number.
    """
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    _check.transformation("tx", tx)
    steps = 0 if step is None else _check.whole("step", step, least=0)
    point = None
    if around is not None:
        point = _check.real_array("around", around)
        if point.shape != (2,):
            raise ValueError(f"around must be a pair (θ, g), got shape {point.shape}")
    # A point is of one parameter; linearity is tested on entries that might disturb each other.
    like = np.zeros(()) if point is not None else {f"{n}-d": np.zeros(n * (2,)) for n in range(3)}
    with _double():
        return _read(_Reader(tx, like), steps, step is None, point)


def system(tx: optax.GradientTransformation | StateSpace, step: int | None = None) -> StateSpace:
    """The system of a transformation whose steps are all the same, for what needs such a one."""
    read = tx if isinstance(tx, StateSpace) else state_space(tx, step=step)
    if np.ndim(read.B) > 1:
        raise ValueError(
            f"this needs a transformation that does the same at every step, got one with a period "
            f"of {np.shape(read.B)[1]} steps; theory.rate and theory.stability_edge take it"
        )
    return read
