"""The kernel with the best rate on quadratics, also under a bound on the noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from momentax import theory
from momentax._core.arguments import as_count, as_curvature_range, as_real
from momentax._core.typing import Reals
from momentax.memory._kernel import Kernel
from momentax.memory._response import Exponentials

_CURVATURES = 48  # The curvatures between μ and L at which the search computes the rate.
_LEAST_GAIN = 1e-4  # A mixture that gains less is not worth its buffers.
_PENALTY = 30.0  # The weight of log(noise / bound) where the noise exceeds its bound.


class Design(NamedTuple):
    """A kernel for quadratics, its learning rate, and what it gains over heavy ball.

    kernel: the weights over lag; they sum to 1, so that the direction is an average.
    learning_rate: α, for `sgd(α, memory.method(kernel))`.
    rate: ρ, the worst factor per step by which an error shrinks on [μ, L].
    noise_floor: the loss above the minimum at which noise holds it.
    heavy_ball: the same four for heavy ball under the same bound.
    speedup: log ρ / log ρ of heavy ball, the steps that heavy ball needs for one step.
    """

    kernel: Kernel
    learning_rate: float
    rate: float
    noise_floor: float
    heavy_ball: dict[str, float]
    speedup: float

    def __repr__(self) -> str:
        return (
            f"Design(kernel={self.kernel!r}, learning_rate={self.learning_rate:.6g}, "
            f"rate={self.rate:.6g}, noise_floor={self.noise_floor:.6g}, "
            f"speedup={self.speedup:.4g})"
        )


class _Problem(NamedTuple):
    """The curvatures, the variance of the noise, and the largest noise floor allowed."""

    mu: float
    L: float
    variance: float
    bound: float

    def system(self, x: Reals) -> theory.StateSpace:
        """Return the system of K averages from -log(1 - β) and the steps α c of each."""
        β, step = -np.expm1(-np.abs(x[: len(x) // 2])), x[len(x) // 2 :] / self.L
        scaled = step * (1 - β)
        n = len(β)
        A = np.zeros((n + 1, n + 1))
        A[0, 0], A[0, 1:], A[1:, 1:] = 1, -scaled * β, np.diag(β)
        return theory.StateSpace(A, np.append(-scaled.sum(), np.ones(n)), np.eye(n + 1)[0])

    def loops(self, space: theory.StateSpace) -> Reals:
        """Return the closed loop at some curvatures, from μ to L."""
        λ = np.geomspace(self.mu, self.L, _CURVATURES)
        return space.A + λ[:, None, None] * np.outer(space.B, space.C)

    def noise(self, space: theory.StateSpace) -> float:
        return float(theory.noise_floor(space, [self.mu, self.L], self.variance))

    def noise_of_stable(self, space: theory.StateSpace, loops: Reals) -> float:
        """Return `noise` of a system that is stable, with fewer digits and in less time."""
        M, n = loops[[0, -1]], len(space.A)
        # Σ = M Σ Mᵀ + B Bᵀ as one linear equation, with the loss ½ Σ λ σ² Σ₀₀.
        square = np.einsum("lij,lkm->likjm", M, M).reshape(2, n * n, n * n)
        Σ = np.linalg.solve(np.eye(n * n) - square, np.outer(space.B, space.B).reshape(-1, 1))
        return float(self.variance * (self.mu * Σ[0, 0, 0] + self.L * Σ[1, 0, 0]) / 2)

    def cost(self, x: Reals) -> float:
        """Return the rate, with a penalty where the noise exceeds its bound."""
        space = self.system(x)
        loops = self.loops(space)
        rate = float(np.abs(np.linalg.eigvals(loops)).max())
        if rate >= 1 - 1e-12:
            return 10 + rate
        excess = max(np.log(self.noise_of_stable(space, loops) / self.bound), 0.0)
        return float(-1 / np.log(rate) if rate > 0 else 0.0) * (1 + _PENALTY * excess)


def design(
    mu: Any,
    L: float | None = None,
    *,
    buffers: int = 2,
    noise: float | None = None,
    gradient_variance: float = 1.0,
) -> Design:
    """Find the mixture of averages that converges fastest on quadratics.

        minimize ρ over βᵢ, cᵢ and α,    subject to noise_floor ≤ noise

    Without a bound the best kernel is heavy ball's: no method that is linear in past gradients
    has a better rate on all quadratics with curvatures in [μ, L]. Heavy ball is noisy at that
    tuning. Under a bound on the noise the search may find a mixture that is faster than heavy
    ball under the same bound, and `Design.speedup` says by how much. For κ = 100 and bounds down
    to a twentieth of the noise of the fastest heavy ball it finds none. Where a mixture gains less
    than one part in 10⁴, the design is heavy ball.

    Args:
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.
        buffers: K, the number of averages, at least 1.
        noise: The largest `theory.noise_floor` allowed, in (0, inf), in units of the loss, on the
            quadratic with the two curvatures μ and L. None means no bound.
        gradient_variance: σ² in (0, inf), the variance of one gradient's noise along each.

    Returns:
        Design(kernel, learning_rate, rate, noise_floor, heavy_ball, speedup). The search is a
        local one from several starts, so that a better mixture may exist.

    Raises:
        ValueError: An argument lies outside its interval, or no mixture that was tried meets the
            bound.
        TypeError: L is missing or given twice, or an argument is not a number.

    Example:
        >>> found = momentax.memory.design(1.0, 100.0)
        >>> round(found.rate, 6), found.speedup
        (0.818182, 1.0)

    Source:
        The optimum without noise: Nemirovski, Information-based complexity of linear operator
        equations, J. Complexity 8, 1992.
    """
    μ, largest = as_curvature_range(mu, L)
    K = as_count("buffers", buffers)
    variance = as_real("gradient_variance", gradient_variance, "(0, inf)")
    tuned = theory.optimal_heavy_ball(μ, largest)
    α, β = float(tuned.learning_rate), float(tuned.beta)
    bound = np.inf if noise is None else as_real("noise", noise, "(0, inf)")
    first = np.array([-np.log1p(-β), α / (1 - β) * largest])
    problem = _Problem(μ, largest, variance, bound)
    if problem.noise(problem.system(first)) <= bound:
        return _describe(problem, first, first)
    ball = _search(problem, _starts_of_one(first))
    best = ball if K == 1 else _search(problem, _starts_of_several(ball, K))
    if problem.cost(best) > problem.cost(ball) * (1 - _LEAST_GAIN):
        best = ball
    if problem.noise(problem.system(best)) > problem.bound * (1 + 1e-3):
        raise ValueError(
            f"noise={problem.bound:.4g} is not reached by any mixture that was tried; allow more "
            "noise, or give a larger mu"
        )
    return _describe(problem, best, ball)


def _starts_of_one(first: Reals) -> list[Reals]:
    """Return settings of one average with smaller and smaller steps."""
    return [first * np.array([memory, step]) for memory in (0.5, 1.0, 2.0) for step in (0.9, 0.3)]


def _starts_of_several(ball: Reals, K: int) -> list[Reals]:
    """Return settings of K averages near the best single one."""
    memory, step = ball
    starts = []
    for factor, share in ((3.0, 0.1), (0.3, 0.1), (3.0, -0.1), (0.3, -0.1), (0.0, 0.3)):
        memories = memory * np.append(1.0, factor ** np.arange(1, K))
        shares = np.append(1 - share, np.full(K - 1, share / (K - 1)))
        starts.append(np.concatenate([memories, step * shares]))
    return starts


def _search(problem: _Problem, starts: list[Reals]) -> Reals:
    """Return the best end of simplex searches from the starts, refined once more.

    Of several starts with many variables, the most promising two are searched from to the end.
    """

    def descend(x: Reals, xatol: float = 1e-7, fatol: float = 1e-9) -> Reals:
        options: Any = {"xatol": xatol, "fatol": fatol, "maxiter": 400 * len(x)}
        return minimize(problem.cost, x, method="Nelder-Mead", options=options).x

    if len(starts[0]) > 2:
        # The simplex starts anew, since one that starts where another has ended stops too early.
        starts = sorted(starts, key=lambda x: problem.cost(descend(x, 1e-3, 1e-5)))[:2]
    return descend(min(map(descend, starts), key=problem.cost))


def _describe(problem: _Problem, x: Reals, ball: Reals) -> Design:
    """Return the design of a setting, compared with heavy ball."""
    kernel, α = _as_kernel(problem, x)
    (rate, noise), (ball_rate, ball_noise) = (
        (theory.rate(space, problem.mu, problem.L), problem.noise(space))
        for space in (problem.system(x), problem.system(ball))
    )
    β = float(-np.expm1(-abs(ball[0])))
    heavy_ball = {
        "learning_rate": float(ball[1]) / problem.L * (1 - β),
        "beta": β,
        "rate": ball_rate,
        "noise_floor": ball_noise,
    }
    return Design(kernel, α, rate, noise, heavy_ball, float(np.log(rate) / np.log(ball_rate)))


def _as_kernel(problem: _Problem, x: Reals) -> tuple[Kernel, float]:
    """Return the kernel whose weights sum to 1, and the learning rate."""
    β, step = -np.expm1(-np.abs(x[: len(x) // 2])), x[len(x) // 2 :] / problem.L
    order = np.argsort(β)
    α = float(step.sum())
    return Kernel(Exponentials(β[order], step[order] / α)), α
