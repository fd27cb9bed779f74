"""The papers' equations, in float64 NumPy, of what peers are held against.

A step maps (state, g, t) to (d, state); its state starts as None and t at 0.
"""

import numpy as np

from tests.oracles.problem import START, STEPS, gradient


def descend(step, learning_rate, decay=0.0):
    """θ_t = (1 - α_t λ) θ_{t-1} - α_t d_t."""
    α = np.broadcast_to(learning_rate, STEPS + 1)
    θ, state, path = START, None, [START]
    for t in range(STEPS):
        d, state = step(state, gradient(θ, t), t)
        θ = (1 - α[t] * decay) * θ - α[t] * d
        path.append(θ)
    return np.stack(path)


def sutskever(learning_rate, beta):
    """The points ahead, θ_t + β_{t+1} v_t, of Nesterov's momentum as first written."""
    θ, v, path = START, 0.0, [START]
    for t in range(STEPS):
        v = beta[t] * v - learning_rate[t] * gradient(θ + beta[t] * v, t)
        θ = θ + v
        path.append(θ + beta[t + 1] * v)
    return np.stack(path)


def aggregated(betas):
    def step(s, g, t):
        s = [β * part + g for β, part in zip(betas, s or [0.0] * len(betas), strict=True)]
        return sum(s) / len(betas), s

    return step


def proportional_integral_derivative(beta, integral, derivative):
    β = np.broadcast_to(beta, STEPS + 1)

    def step(state, g, t):
        before, i, d = state or (g, 0.0, 0.0)
        i = β[t] * i + g
        d = β[t] * d + (1 - β[t]) * (g - before)
        return g + integral * i + derivative * d, (g, i, d)

    return step


def positive_negative(beta, beta0):
    β, β0 = np.broadcast_to(beta, STEPS + 1), np.broadcast_to(beta0, STEPS + 1)

    def step(state, g, t):
        m, before = state or (0.0, 0.0)
        m, before = β[t] ** 2 * before + (1 - β[t] ** 2) * g, m
        return ((1 + β0[t]) * m - β0[t] * before) / np.hypot(1 + β0[t], β0[t]), (m, before)

    return step


def quasi_hyperbolic_adam(betas, nus, eps=1e-8):
    (β1, β2), (ν1, ν2) = betas, (np.broadcast_to(nu, STEPS + 1) for nu in nus)

    def step(state, g, t):
        m, n = state or (0.0, 0.0)
        m, n = β1 * m + (1 - β1) * g, β2 * n + (1 - β2) * g**2
        mean = (1 - ν1[t]) * g + ν1[t] * m / (1 - β1 ** (t + 1))
        square = (1 - ν2[t]) * g**2 + ν2[t] * n / (1 - β2 ** (t + 1))
        return mean / (np.sqrt(square) + eps), (m, n)

    return step


def adan(betas=(0.98, 0.92, 0.99), eps=1e-8, difference=None):
    """Adan; `difference` weighs the differences of gradients, by β2 unless it is given."""
    β1, β2, β3 = betas
    δ = β2 if difference is None else difference

    def step(state, g, t):
        before, m, v, n = state or (g, 0.0, 0.0, 0.0)
        change = g - before
        m, v = β1 * m + (1 - β1) * g, β2 * v + (1 - β2) * change
        n = β3 * n + (1 - β3) * (g + δ * change) ** 2
        mean, trend = m / (1 - β1 ** (t + 1)), v / (1 - β2 ** (t + 1))
        return (mean + δ * trend) / (np.sqrt(n / (1 - β3 ** (t + 1))) + eps), (g, m, v, n)

    return step


def nadam(betas=(0.9, 0.999), psi=0.004, eps=1e-8):
    β1, β2 = betas

    def μ(t):
        return β1 * (1 - 0.5 * 0.96 ** (t * psi))

    def step(state, g, t):
        m, n, product = state or (0.0, 0.0, 1.0)
        m, n, product = β1 * m + (1 - β1) * g, β2 * n + (1 - β2) * g**2, product * μ(t + 1)
        ahead = μ(t + 2)
        mean = ahead * m / (1 - product * ahead) + (1 - μ(t + 1)) * g / (1 - product)
        return mean / (np.sqrt(n / (1 - β2 ** (t + 1))) + eps), (m, n, product)

    return step


def grams(betas=(0.9, 0.999), eps=1e-6):
    β1, β2 = betas

    def step(state, g, t):
        m, n = state or (0.0, 0.0)
        m, n = β1 * m + (1 - β1) * g, β2 * n + (1 - β2) * g**2
        u = m / (1 - β1 ** (t + 1)) / (np.sqrt(n / (1 - β2 ** (t + 1))) + eps)
        return np.sign(g) * np.abs(u), (m, n)

    return step


def amplified(alpha, lamb):
    def step(slow, g, t):
        slow = g if slow is None else alpha * slow + (1 - alpha) * g
        return g + lamb * slow, slow

    return step


def optimistic(before, g, t):
    return 2 * g - (g if before is None else before), g


def cautious(beta):
    def step(v, g, t):
        v = beta * (0.0 if v is None else v) + g
        agrees = v * g > 0
        return v * agrees / max(agrees.mean(), 1e-3), v

    return step


def torque_aware(beta=0.9, gamma=0.9, eps=1e-8):
    def step(state, g, t):
        m, s = state or (np.zeros_like(g), 0.0)
        size = np.linalg.norm(m) * np.linalg.norm(g)
        s = gamma * s + (1 - gamma) * (m @ g / size if size else 0.0)
        m = beta * m + (eps + (1 + s) / 2) * g
        return m, (m, s)

    return step
