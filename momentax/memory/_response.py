"""The weights of a linear filter over lag, in three forms, and their sums in closed form.

All forms have the same methods. With w_k the weight of the gradient that is k steps old:

    weights(n)       w_0 .. w_{n-1}
    moments()        Σ w_k, Σ k w_k, Σ k² w_k
    energy()         Σ w_k²
    transfer(z)      W(z) = Σ w_k z⁻ᵏ
    filter()         the matrices F, G, H, D of x⁺ = F x + G g, d = H x + D g
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from momentax._core.typing import Reals


class Filter(NamedTuple):
    """The weights w_0 = D and w_k = H Fᵏ⁻¹ G of x⁺ = F x + G g, d = H x + D g."""

    F: Reals
    G: Reals
    H: Reals
    D: float

    def weights(self, n: int) -> Reals:
        found, x = [self.D], self.G
        for _ in range(n - 1):
            found.append(float(self.H @ x))
            x = self.F @ x
        return np.array(found)

    def moments(self) -> tuple[float, float, float]:
        one = np.eye(len(self.F))
        first = np.linalg.solve(one - self.F, self.G)  # Σ Fᵏ⁻¹ G over k ≥ 1.
        second = np.linalg.solve(one - self.F, first)  # Σ k Fᵏ⁻¹ G.
        third = np.linalg.solve(one - self.F, (one + self.F) @ second)  # Σ k² Fᵏ⁻¹ G.
        total, mean, square = (float(self.H @ part) for part in (first, second, third))
        return self.D + total, mean, square

    def energy(self) -> float:
        if not len(self.F):
            return self.D**2
        gramian = solve_discrete_lyapunov(self.F, np.outer(self.G, self.G))
        return float(self.D**2 + self.H @ gramian @ self.H)

    def transfer(self, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
        resolvent = z[..., None, None] * np.eye(len(self.F)) - self.F
        inputs = np.broadcast_to(self.G[:, None], (*resolvent.shape[:-1], 1))
        return np.linalg.solve(resolvent, inputs)[..., 0] @ self.H + self.D

    def filter(self) -> Filter:
        return self


class Exponentials(NamedTuple):
    """The weights w_k = Σ c (1 - β) βᵏ of running averages with the shares c."""

    beta: Reals
    share: Reals

    def weights(self, n: int) -> Reals:
        return (self.beta ** np.arange(n)[:, None]) @ (self.share * (1 - self.beta))

    def moments(self) -> tuple[float, float, float]:
        τ = self.beta / (1 - self.beta)
        sums = (self.share, self.share * τ, self.share * (2 * τ**2 + τ))
        total, mean, square = (float(each.sum()) for each in sums)
        return total, mean, square

    def energy(self) -> float:
        scaled = self.share * (1 - self.beta)
        return float(scaled @ (1 / (1 - np.outer(self.beta, self.beta))) @ scaled)

    def transfer(self, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return (z[..., None] / (z[..., None] - self.beta)) @ (self.share * (1 - self.beta))

    def filter(self) -> Filter:
        scaled = self.share * (1 - self.beta)
        return Filter(
            np.diag(self.beta), np.ones(len(self.beta)), scaled * self.beta, float(scaled.sum())
        )


class Taps(NamedTuple):
    """Finitely many weights, w_0 .. w_{n-1}; all others are 0."""

    values: Reals

    def weights(self, n: int) -> Reals:
        return np.pad(self.values[:n], (0, max(n - len(self.values), 0)))

    def moments(self) -> tuple[float, float, float]:
        k = np.arange(len(self.values), dtype=np.float64)
        total, mean, square = (float(self.values @ k**power) for power in range(3))
        return total, mean, square

    def energy(self) -> float:
        return float(self.values @ self.values)

    def transfer(self, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return z[..., None] ** -np.arange(len(self.values)) @ self.values

    def filter(self) -> Filter:
        n = len(self.values) - 1  # The state holds the last n gradients.
        return Filter(np.eye(n, k=-1), np.eye(n, 1)[:, 0], self.values[1:], float(self.values[0]))


def as_exponentials(found: Filter) -> Exponentials | None:
    """Return a filter as a sum of exponentials, or None where it is none with β in [0, 1)."""
    roots, vectors = np.linalg.eig(found.F)
    β, V = np.real(roots), np.real(vectors)
    if np.any(np.imag(roots) != 0) or np.any(β <= 1e-9) or np.any(β >= 1):
        return None
    if len(β) and np.linalg.cond(V) > 1e8:  # Equal β: the weights contain k βᵏ.
        return None
    strength = (found.H @ V) * np.linalg.solve(V, found.G)  # Of βᵏ⁻¹.
    share, rest = strength / (β * (1 - β)), found.D - float((strength / β).sum())
    if abs(rest) > 1e-12 * (abs(found.D) + np.abs(strength).sum()):
        β, share = np.append(0.0, β), np.append(rest, share)
    order = np.argsort(β)
    exponentials = Exponentials(β[order], share[order])
    n = 4 * len(β) + 4
    same = np.allclose(
        exponentials.weights(n), found.weights(n), rtol=1e-10, atol=1e-12 * np.abs(share).max()
    )
    return exponentials if same else None
