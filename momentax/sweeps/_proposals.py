"""Proposals of a search: the next points to run, from the costs of those that ran."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from momentax.sweeps._distributions import Distribution
from momentax.sweeps._space import Space

_GLOBAL, _LOCAL = 1000, 500  # Numbers of candidates: anywhere, and near the best points.
_REFINED, _STEPS = 200, (0.02, 0.004)  # Candidates near the best candidates, and how near.
_PARENTS = 5  # The number of points or candidates near which further candidates are drawn.
_SHARE, _SHARE_IN_BATCH = 0.05, 0.25  # Of the spacing: how near points may be to one another.
_BOX = 0.2  # Half of the side of the box around the best point.
_MOST_ENUMERATED = 4096  # A space with more points is not listed but sampled.
_MOST_RESULTS = 400  # To which a model is fitted; the time grows with the cube.


def require_library() -> None:
    """Raise if the library of the model is not installed."""
    try:
        import sklearn.gaussian_process  # noqa: F401 - It is imported to see whether it is there.
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "search needs scikit-learn, which is not installed: install the extra search, as in "
            'pip install "momentax[search]"'
        ) from error


class Proposals:
    """The points that a search proposes.

    Every point depends on the space, the seed, the number of points of the design, its own index
    and the costs of the batches before its own; so it does not depend on how often the search
    was interrupted, nor on its budget.

    Args:
        space: The space.
        seed: Whole numbers.
        initial: The number of points of the design, which are spread evenly over the space.
    """

    def __init__(self, space: Space, seed: list[int], initial: int):
        self._space, self._seed, self._initial = space, seed, initial

    def propose(
        self, index: np.ndarray, kept: np.ndarray, unit: np.ndarray, cost: np.ndarray
    ) -> np.ndarray:
        """Return the coordinates of the points of a batch.

        Args:
            index: The indices of the points, which follow those that ran.
            kept: The coordinates of the points of the batch that ran already; NaN where not.
            unit: The coordinates of the points of the batches before.
            cost: Their costs, which are smallest at the best points and infinite where a point
                diverged.
        """
        design = draw_design(self._space, min(self._initial, index[-1] + 1), self._seed)
        rows, model = unit, None
        for i, known in zip(index, kept, strict=True):
            if not np.isnan(known).any():
                row = known
            elif i < len(design):
                row = design[i]
            else:
                if model is None:
                    model = Model(self._space.features(unit), cost)
                    for pending in rows[len(unit) :]:
                        model.believe(self._space.features(pending[None]))
                best = unit[np.argsort(cost, kind="stable")[: 1 if i % 2 else _PARENTS]]
                rng = np.random.default_rng([*self._seed, 1, i])
                row = choose(self._space, model, rows, len(unit), best, rng, is_near=bool(i % 2))
            if model is not None:
                model.believe(self._space.features(row[None]))
            rows = np.concatenate([rows, row[None]])
        return rows[len(unit) :]


class Model:
    """A Gaussian process of the cost, or, if all costs are equal, of nothing but distances.

    The costs enter as `levels_of` returns them, so that no diverged run bends the model.

    Args:
        features: The features of the points that ran, of shape (points, features).
        cost: Their costs, infinite for the worst.
    """

    def __init__(self, features: np.ndarray, cost: np.ndarray):
        if len(cost) > _MOST_RESULTS:  # The best half, and an even sample of the others.
            order = np.argsort(cost, kind="stable")
            half = _MOST_RESULTS // 2
            others = np.linspace(half, len(cost) - 1, half).astype(int)
            chosen = np.sort(order[np.concatenate([np.arange(half), others])])
            features, cost = features[chosen], cost[chosen]
        self._features, self._process = features, None
        if len(set(cost.tolist())) > 1:
            self._level = levels_of(cost)
            self._process = _fit(self._features, self._level)
            self._noise = self._process.kernel_.k2.noise_level
            self._best = self._process.predict(self._features).min()

    def believe(self, features: np.ndarray) -> None:
        """Condition the model on points whose costs are not known yet, as if they were expected."""
        if self._process is not None:
            expected = self._process.predict(features)
            self._level = np.concatenate([self._level, expected])
            self._best = min(self._best, expected.min())
        self._features = np.concatenate([self._features, features])
        if self._process is not None:
            self._process = _condition(self._process.kernel_, self._features, self._level)

    def value(self, features: np.ndarray) -> np.ndarray:
        """Return the expected improvement at points; without a model, how far the next point is."""
        if self._process is None:
            apart = features[:, None] - self._features[None]
            return (apart**2).sum(-1).min(1)
        mean, deviation = self._process.predict(features, return_std=True)
        # The deviation is that of a measurement; the improvement is one of what is measured.
        deviation = np.sqrt(np.maximum(deviation**2 - self._noise, 1e-12))
        return expected_improvement(self._best - mean, deviation)


def expected_improvement(gain: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return E max(0, G) of a normal variable G with this mean and standard deviation.

    E max(0, G) = m Φ(m/s) + s φ(m/s)
    """
    from scipy.special import ndtr

    ratio = gain / deviation
    density = np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    return gain * ndtr(ratio) + deviation * density


def draw_design(space: Space, count: int, seed: list[int]) -> np.ndarray:
    """Return so many different points of a randomized Halton sequence; fewer are a part of more."""
    from scipy.stats import qmc

    halton: Any = qmc.Halton  # Releases of SciPy call the argument `seed` or `rng`.
    sequence = halton(len(space.axes), seed=np.random.default_rng([*seed, 0]))
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        rows = space.round(sequence.random(256))
        if space.size <= _MOST_ENUMERATED:
            rows = np.concatenate([rows, every_point(space)])
        for row in rows:
            found.setdefault(row.tobytes(), row)
    return np.stack(list(found.values())[:count])


def every_point(space: Space) -> np.ndarray:
    """Return the coordinates of all points of a space of choices."""
    choices: list[Any] = list(space.axes.values())
    places = [(np.arange(len(values)) + 0.5) / len(values) for values in choices]
    return space.round(np.array(list(itertools.product(*places))))


def choose(
    space: Space,
    model: Model,
    taken: np.ndarray,
    done: int,
    best: np.ndarray,
    rng: np.random.Generator,
    is_near: bool = False,
) -> np.ndarray:
    """Return the point of the greatest value, among many candidates apart from those taken.

    Args:
        space: The space.
        model: The model.
        taken: The coordinates of the points that ran, and of those that run together with this one.
        done: How many of them ran.
        best: The coordinates of the best points.
        rng: The source of random numbers.
        is_near: Whether the point is to be near one of the best, where a model that is wrong
            about the whole space is less so.
    """
    if space.size <= _MOST_ENUMERATED:
        pool = _apart(space, every_point(space), taken, done)
        return pool[np.argmax(model.value(space.features(pool)))]
    while True:
        anywhere = rng.random((_GLOBAL, len(space.axes)))
        steps = 10 ** rng.uniform(-3, -0.5, (_LOCAL, 1))
        if is_near:
            anywhere = _vary_around(space, best, anywhere)
        pool = np.concatenate([anywhere, _vary(space, best, _LOCAL, steps, rng)])
        pool = _apart(space, space.round(pool), taken, done)
        if not len(pool):  # As in a space of choices of which few are left.
            continue
        value = model.value(space.features(pool))
        for step in _STEPS:
            top = pool[np.argsort(-value, kind="stable")[:_PARENTS]]
            near = _vary(space, top, _REFINED, step, rng)
            near = _apart(space, space.round(near), taken, done)
            pool = np.concatenate([pool, near])
            value = np.concatenate([value, model.value(space.features(near))])
        return pool[np.argmax(value)]


def _vary(
    space: Space, parents: np.ndarray, count: int, step: Any, rng: np.random.Generator
) -> np.ndarray:
    """Return points near the parents; half of the coordinates move, and a choice anywhere."""
    rows = parents[rng.integers(len(parents), size=count)].astype(np.float64)
    moved = rows + step * rng.standard_normal(rows.shape)
    anywhere = rng.random(rows.shape)
    for column, values in enumerate(space.axes.values()):
        if not isinstance(values, Distribution):
            moved[:, column] = anywhere[:, column]
    return np.where(rng.random(rows.shape) < 0.5, moved, rows)


def _vary_around(space: Space, parents: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Move points of the whole space into boxes around the parents; choices stay anywhere."""
    centers = parents[np.arange(len(unit)) % len(parents)]
    has_range = [isinstance(values, Distribution) for values in space.axes.values()]
    return np.where(has_range, centers + _BOX * (2 * unit - 1), unit)


def _apart(space: Space, rows: np.ndarray, taken: np.ndarray, done: int) -> np.ndarray:
    """Return the rows that are not so near to a taken one that little would be learned from both.

    Points with the same choices are near if each other coordinate differs by less than a share of
    the distance between as many points that are spread evenly. The share is larger for the points
    that run together, since none of them knows the result of another.
    """
    has_range = np.array([isinstance(values, Distribution) for values in space.axes.values()])
    spacing = len(taken) ** (-1 / max(has_range.sum(), 1))
    shares = np.where(np.arange(len(taken)) < done, _SHARE, _SHARE_IN_BATCH)[:, None]
    limits = np.where(has_range, shares * spacing, 1e-9)
    is_near = (np.abs(rows[:, None] - taken[None]) < limits).all(-1).any(-1)
    return rows[~is_near]


def levels_of(cost: np.ndarray) -> np.ndarray:
    """Return costs on the scale on which they are modelled, of mean 0 and deviation 1.

        z = (c - m)/(m - min c),    above the median m    log(1 + z)

    It is the same for every unit of the cost. Costs far above the median, such as those of runs
    that nearly diverge, are only a little above it, and an infinite one is above all others.
    """
    finite = cost[np.isfinite(cost)]
    middle = np.median(finite)
    spread = middle - finite.min() or finite.max() - middle or 1.0
    with np.errstate(over="ignore"):
        level = (cost - middle) / spread
    level = np.where(level > 0, np.log1p(np.maximum(level, 0)), level)
    level[~np.isfinite(level)] = level[np.isfinite(level)].max() + 1
    return (level - level.mean()) / level.std()


def _fit(features: np.ndarray, level: np.ndarray) -> Any:
    """Fit the scales and the noise of a Gaussian process by its likelihood."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    # The bounds keep a few results from saying that an axis is noise, or does not matter.
    scales: Any = np.full(features.shape[1], 0.5)
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(scales, (0.1, 2.0), nu=2.5)
    kernel += WhiteKernel(1e-3, (1e-6, 0.1))
    with warnings.catch_warnings():  # A scale at its bound is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, alpha=1e-8).fit(features, level)


def _condition(kernel: Any, features: np.ndarray, level: np.ndarray) -> Any:
    """Return the Gaussian process of a kernel that is fitted already."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    no_optimizer: Any = None
    process = GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=no_optimizer)
    return process.fit(features, level)
