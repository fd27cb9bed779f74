"""Linear systems written by hand, readings that tests share, and options to compile quickly."""

from functools import cache

import numpy as np

from momentax import theory
from momentax.theory import StateSpace

# For programs whose numbers are compared, and which take longer to compile than to run.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

# A transformation that several tests of a worker read is read once. It must be a constant of its
# module, since optax.sgd(0.1), for one, is another transformation each time that it is called.
read = cache(theory.state_space)


def linear(α, a, b, β, decay=0.0):
    """v⁺ = β v + g, θ⁺ = (1 - decay) θ - α (a g + b v⁺)."""
    A = np.array([[1.0 - decay, -α * b * β], [0.0, β]])
    return StateSpace(A, np.array([-α * (a + b), 1.0]), np.array([1.0, 0.0]))


def aggregated(α, *βs):
    """The mean of several velocities, each with its own β."""
    n = len(βs)
    A = np.block([[np.ones((1, 1)), -α * np.array([βs]) / n], [np.zeros((n, 1)), np.diag(βs)]])
    return StateSpace(A, np.r_[-α, np.ones(n)], np.eye(n + 1)[0])


def lookahead_steps(α, β, period, slow):
    """A and B of each step of heavy ball with `optax.lookahead`, on (fast, slow, v)."""
    A, B = np.array([[1, 0, -α * β], [0, 1, 0], [0, 0, β]]), np.array([-α, 0.0, 1.0])
    back = np.array([[slow, 1 - slow, 0], [slow, 1 - slow, 0], [0, 0, 1]])
    return [*[(A, B)] * (period - 1), (back @ A, back @ B)]
