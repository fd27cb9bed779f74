"""The problem that every library minimizes, and the schedules that each of them follows.

The function is strongly convex and not quadratic. A linear term changes at every
step, so no path converges and a wrong coefficient has an effect until the end.
"""

import numpy as np

STEPS = 300
START = np.array([3.0, -2.0, 1.0])
MATRIX = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.25], [0.0, 0.25, 0.5]])
CENTRE = np.array([1.0, -0.5, 2.0])

_t = np.arange(STEPS + 1)
TILTS = 0.5 * np.sin(np.outer(_t, [0.1, 0.3, 0.7]))
RATES = 0.02 * (1 + 0.5 * np.sin(_t / 7))
BETAS = 0.85 + 0.1 * np.cos(_t / 11)
NUS = 0.6 + 0.3 * np.sin(_t / 13)


def gradient(x, t, xp=np):
    return xp.asarray(MATRIX) @ x + xp.tanh(x - xp.asarray(CENTRE)) + xp.asarray(TILTS)[t]


def value(x, t, xp=np):
    z = x - xp.asarray(CENTRE)
    bowl = x @ (xp.asarray(MATRIX) @ x) / 2
    return 2.0 + bowl + (xp.logaddexp(z, -z) - np.log(2.0)).sum() + xp.asarray(TILTS)[t] @ x


def gap(path, expected):
    """Return the largest difference of two paths, relative to the largest entry of the second."""
    path, expected = np.asarray(path, np.float64), np.asarray(expected)
    assert path.shape == expected.shape
    return np.abs(path - expected).max() / np.abs(expected).max()
