"""Ridge regression with a condition number of 10,001, whose solution is known.

    f(w) = |X w - y|² / 2n + λ |w|² / 2,    H = XᵀX / n + λ I

The functions `eigenvalues`, `curvatures`, `solution` and `minimum` return what is known of the
problem in float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.typing import Reals
from momentax.bench._data import Data, digits, require_checksum
from momentax.bench._layers import Normal, Params, initialize
from momentax.bench._task import Task

RATIO = 1e-4  # Of the penalty λ to the largest eigenvalue of XᵀX / n.
PIXELS = 64
CHECKSUM = "8837cfa53be1bc0aefd25535e4de72397338efefc0d786b7a57c1e5becfbe66a"


@cache
def load() -> Data:
    """Return centred and rotated images X, centred targets y, the penalty λ and the solution.

    Some pixels are 0 in all images, so that the smallest eigenvalue of H is λ. The rotation hides
    the axes of the pixels from methods that treat every coordinate by itself.
    """
    pixels, labels = digits("ridge")
    inputs = pixels.reshape(-1, PIXELS) / 16.0
    inputs -= inputs.mean(0)
    rotation, triangle = np.linalg.qr(np.random.RandomState(0).standard_normal((PIXELS, PIXELS)))
    rotation *= np.sign(np.diag(triangle))  # The signs of LAPACK's factors are arbitrary.
    # Rounding removes the last digits, which depend on the machine. It changes the smallest
    # eigenvalue by 1e-9 of itself.
    inputs = np.round(inputs @ rotation, 6).astype(np.float32)
    targets = np.where(labels % 2 == 0, 1.0, -1.0)
    targets = (targets - targets.mean()).astype(np.float32)
    largest = np.linalg.eigvalsh(_covariance(inputs))[-1]
    penalty = np.array(RATIO * largest, np.float32)
    data = {"inputs": inputs, "targets": targets, "penalty": penalty}
    data["solution"] = _solve(data).astype(np.float32)
    return require_checksum("ridge", data, CHECKSUM)


def _covariance(inputs: np.ndarray) -> Reals:
    inputs = inputs.astype(np.float64)
    return inputs.T @ inputs / len(inputs)


def _hessian(data: Data) -> Reals:
    return _covariance(data["inputs"]) + float(data["penalty"]) * np.eye(PIXELS)


def _solve(data: Data) -> Reals:
    inputs, targets = (data[name].astype(np.float64) for name in ("inputs", "targets"))
    return np.asarray(np.linalg.solve(_hessian(data), inputs.T @ targets / len(inputs)), float)


def eigenvalues() -> Reals:
    """Return the eigenvalues of H in ascending order."""
    return np.asarray(np.linalg.eigvalsh(_hessian(load())), float)


def curvatures() -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of H; their ratio is 10,001."""
    smallest, *_, largest = eigenvalues()
    return float(smallest), float(largest)


def solution() -> Reals:
    """Return the minimizer of f."""
    return _solve(load())


def minimum() -> float:
    """Return the smallest value of f."""
    data = load()
    w = solution()
    residual = data["inputs"].astype(np.float64) @ w - data["targets"]
    return float((residual @ residual / len(residual) + float(data["penalty"]) * w @ w) / 2)


def init(data: Any, key: jax.Array) -> Params:
    """Draw weights of a norm of about 1."""
    del data
    return initialize(key, {"weights": Normal((PIXELS,), PIXELS**-0.5)})


def draw(data: Any, key: jax.Array, steps: int) -> jax.Array:
    """Return rows without entries, since each step takes all examples."""
    del data, key
    return jnp.zeros((steps, 0), jnp.float32)


def loss(params: Params, batch: jax.Array, data: Any) -> jax.Array:
    """Return f."""
    del batch
    return _quadratic(params["weights"], data["targets"], data)


def score(params: Params, data: Any) -> jax.Array:
    """Return f(w) - f(w*), from w - w*, since the difference of two float32 losses has few digits.

    The gradient of f is 0 at w*, so that the difference is (w - w*)ᵀ H (w - w*) / 2.
    """
    return _quadratic(params["weights"] - data["solution"], jnp.zeros_like(data["targets"]), data)


def _quadratic(w: jax.Array, targets: jax.Array, data: Any) -> jax.Array:
    residual = data["inputs"] @ w - targets
    return ((residual**2).mean() + data["penalty"] * (w**2).sum()) / 2


TASK = Task(
    name="ridge",
    description="Linear regression of the parity of handwritten digits with a quadratic penalty: "
    "64 weights, all 1,797 examples in each step, a condition number of 10,001 and a known "
    "solution w*. The score is f(w) - f(w*).",
    source="The 1,797 test images of Alpaydin and Kaynak's Optical Recognition of Handwritten "
    "Digits (1998), as scikit-learn contains them (BSD-3-Clause).",
    load=load,
    checksum=CHECKSUM,
    init=init,
    draw=draw,
    loss=loss,
    score=score,
    validate=None,
    batch_size=None,
    steps=1_000,
    infimum=0.0,
    floor=1e-10,  # The float32 gradient is 0 up to rounding there.
)
