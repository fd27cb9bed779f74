"""Results that several tests share."""

from typing import Any, NamedTuple

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np

from momentax import grid
from momentax.sweeps import Points, Report, SweepResult

POINTS = grid(learning_rate=[0.1, 0.2, 0.3], beta=[0.0, 0.9])


REPORT = Report(4, 2, "cpu", 3, ((2, 0.5), (4, 0.25)), 5, ("a.npz", "b.npz"))


def make_result(points, values, diverged=(), report=REPORT):
    has_diverged = np.zeros(points.shape, bool)
    has_diverged.flat[list(diverged)] = True
    return SweepResult(points, values, has_diverged, report)


def small_result():
    loss = np.array([[3.0, 1.0], [2.0, 0.5], [np.nan, 4.0]], np.float32)
    history = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    return make_result(POINTS, {"loss": loss, "train": {"history": history}}, [3, 4])


def random_values(points, seed=0, *trailing):
    return np.random.default_rng(seed).normal(size=(*points.shape, *trailing))


@st.composite
def results(draw, dims=("a", "b", "seed")):
    """Draw a result with a few dimensions, some diverged points, and values that tie or are NaN."""
    names = draw(st.permutations(dims))
    names = names[: draw(st.integers(1, len(names)))]
    shape = [draw(st.integers(1, 4)) for _ in names]
    points = Points(
        {
            name: {name: np.arange(n, dtype=np.int32) * 3}
            for name, n in zip(names, shape, strict=True)
        }
    )
    some = st.sampled_from([0.0, 0.25, -1.5, 2.0, np.nan, np.inf]) | st.floats(-1e3, 1e3)
    values = {
        "loss": draw(arrays.arrays(np.float64, shape, elements=some)),
        "x": draw(arrays.arrays(np.float32, (*shape, 2), elements=st.floats(-9, 9, width=32))),
    }
    return SweepResult(points, values, draw(arrays.arrays(bool, shape)))


class Pair(NamedTuple):
    first: Any
    second: Any


def named(width):
    return width
