"""Linear systems written by hand, readings that tests share, and options to compile quickly."""

from functools import cache
from typing import NamedTuple

import numpy as np

import momentax
from momentax import sgd, theory
from momentax.theory import StateSpace

# For programs whose numbers are compared, and which take longer to compile than to run.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

# A transformation that several tests of a worker read is read once. It must be a constant of its
# module, since optax.sgd(0.1), for one, is another transformation each time that it is called.
read = cache(theory.state_space)


class Record(NamedTuple):
    """The least that counts as the record of `momentax.curvature`."""

    mu: float
    L: float


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


def heavy_ball(learning_rate, beta):
    return sgd(learning_rate, momentax.heavy_ball(beta))


def quasi_hyperbolic(learning_rate, beta, nu):
    return sgd(learning_rate, momentax.quasi_hyperbolic(beta, nu))


def ball_rate(α, β, μ, L):
    """Heavy ball's rate in closed form; the slowest curvature is μ or L."""
    sizes = []
    for λ in (μ, L):
        half = (1 + β - α * λ) / 2
        real = np.sqrt(np.maximum(half**2 - β, 0))
        sizes.append(np.where(half**2 < β, np.sqrt(β), np.abs(half) + real))
    return np.maximum(*sizes)


def ball_noise(α, β, μ, L):
    """½ Σ λ Var θ, with the published Var θ of heavy ball."""
    each = [α * (1 + β) / ((1 - β) * (2 * (1 + β) - α * λ)) for λ in (μ, L)]
    return sum(each) / 2


def ball_grid(μ, L, limit):
    """The least noise on a grid of α and β within a limit on the rate."""
    α, β = np.meshgrid(np.geomspace(1e-4, 4, 1500) / L, 1 - np.geomspace(1e-3, 1, 1500))
    with np.errstate(all="ignore"):
        noise = np.where(ball_rate(α, β, μ, L) <= limit, ball_noise(α, β, μ, L), np.inf)
    return noise.min()
