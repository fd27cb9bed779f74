"""The wrappers around Nesterov's momentum once more, in float64 NumPy.

As in tests/reference.py: step(v, g, t, beta=...) -> (d, v), v starting at 0. What else a wrapper
remembers stands beside the velocity in v.
"""

import numpy as np

from tests.reference import nesterov


def cautious(v, g, t, *, beta):
    d, v = nesterov(v, g, t, beta=beta)
    φ = (d * g > 0).astype(float)
    return d * φ / max(φ.mean(), 1e-3), v


def grams(v, g, t, *, beta):
    d, v = nesterov(v, g, t, beta=beta)
    return np.sign(g) * np.abs(d), v


def optimistic(v, g, t, *, beta):
    v, last = v if t else (0.0, None)
    d, v = nesterov(v, g, t, beta=beta)
    last = d if last is None else last
    return 2 * d - last, (v, d)


def restart(v, g, t, *, beta):
    v, j = v if t else (0.0, 0)
    d, v = nesterov(v if j else 0.0, g, j, beta=beta)
    if np.sum(g * v) < 0:
        d, v = nesterov(0.0, g, 0, beta=beta)
        return d, (v, 0)  # v is held, and forgotten by the next step.
    return d, (v, j + 1)


def every_4(v, g, t, *, beta):
    return nesterov(v if t % 4 else 0.0, g, t % 4, beta=beta)


def speed(v, g, t, *, beta):
    v, j, speeds = v if t else (0.0 * g, 0, [0.0, 0.0])
    if j >= 2 and speeds[-1] < speeds[-2]:
        v, j, speeds = 0.0 * g, 0, [0.0, 0.0]
    d, v = nesterov(v, g, j, beta=beta)
    return d, (v, j + 1, [*speeds, np.linalg.norm(v)])
