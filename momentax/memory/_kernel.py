"""A momentum by the weights that it gives to past gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from momentax import theory
from momentax._core.arguments import as_count, as_items, as_reals, describe, require_transformation
from momentax._core.lazy import plot
from momentax._core.typing import Reals
from momentax.memory._response import Exponentials, Filter, Taps, as_exponentials

_ROUNDING = 1e-13  # The relative size below which an entry of a system is due to rounding.
_LONGEST = 10**7  # The most lags that the search for the half-life looks at.


class Kernel:
    """A momentum by its weights over lag.

        d_t = Σ_k w_k g_{t-k},    k = 0, 1, ...

    w_k is the weight of the gradient that is k steps old. `Kernel.from_exponentials`,
    `Kernel.from_weights` and `memory.of` make kernels, and `memory.method` turns one into a
    transformation. A kernel does not change. All its quantities are in float64 and in closed
    form.

    The age of a gradient is its lag in steps. The moments of the age weigh lag k by w_k / Σ w.
    Where Σ w is 0 they are NaN.
    """

    def __init__(self, response: Filter | Exponentials | Taps) -> None:
        if not isinstance(response, Filter | Exponentials | Taps):
            raise TypeError(
                "response must be the inner record of a kernel, which Kernel.from_exponentials, "
                "Kernel.from_weights and memory.of make; call one of them, got "
                f"{describe(response)}"
            )
        self._response = response
        self._loop: theory.StateSpace | None = None  # Read when `edge` is first used.

    @classmethod
    def from_exponentials(cls, exponentials: Sequence[tuple[float, float]]) -> Kernel:
        """Make the kernel of a weighted sum of running averages.

            w_k = Σᵢ cᵢ (1 - βᵢ) βᵢᵏ

        Args:
            exponentials: Pairs (β, c), at least one, with β in [0, 1), the share that an average
                keeps each step, and c, any real number, its weight.

        Raises:
            ValueError: A number lies outside its interval, or there is no pair.
            TypeError: exponentials is not a sequence of pairs of real numbers.

        Example:
            >>> kernel = momentax.memory.Kernel.from_exponentials([(0.85, 0.4385), (0.98, 0.5615)])
            >>> round(kernel.mean_age, 3)
            29.998
        """
        pairs = as_items("exponentials", exponentials, "pairs (β, c)")
        for i, pair in enumerate(pairs):
            if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
                raise TypeError(f"exponentials[{i}] must be a pair (β, c), got {describe(pair)}")
        if not pairs:
            raise ValueError("exponentials must hold at least one pair (β, c), got none")
        β = as_reals("β in exponentials", [pair[0] for pair in pairs], "[0, 1)")
        return cls(Exponentials(β, as_reals("c in exponentials", [pair[1] for pair in pairs])))

    @classmethod
    def from_weights(cls, weights: ArrayLike) -> Kernel:
        """Make a kernel of finitely many weights.

        Args:
            weights: w_0 .. w_{n-1}, real numbers, 1-D with at least one; all later weights are 0.

        Raises:
            ValueError: weights is not 1-D, or is empty, or a weight is not finite.
            TypeError: weights are not real numbers.

        Example:
            >>> kernel = momentax.memory.Kernel.from_weights(np.full(4, 0.25))
            >>> kernel.mean_age, kernel.effective_samples
            (1.5, 4.0)
        """
        w = as_reals("weights", weights)
        if w.ndim != 1 or not w.size:
            raise ValueError(f"weights must be 1-D with at least one number, got shape {w.shape}")
        return cls(Taps(w.copy()))

    @property
    def exponentials(self) -> tuple[tuple[float, float], ...] | None:
        """The pairs (β, c) of w_k = Σ c (1 - β) βᵏ, or None where the kernel is no such sum."""
        if not isinstance(self._response, Exponentials):
            return None
        return tuple(zip(*(part.tolist() for part in self._response), strict=True))

    @property
    def buffers(self) -> int:
        """The number of buffers of the parameters' size that computing the kernel takes."""
        if isinstance(self._response, Exponentials):
            return len(self._response.beta)
        return len(self._response.filter().F)

    def weights(self, n: int) -> Reals:
        """Return w_0 .. w_{n-1}, the weights of the last n gradients, float64 of shape (n,)."""
        return self._response.weights(as_count("n", n))

    @property
    def total(self) -> float:
        """The sum of all weights, Σ w_k: the response to a constant gradient of 1."""
        return self._response.moments()[0]

    @property
    def mean_age(self) -> float:
        """The mean age, Σ k w_k / Σ w_k, in steps: β / (1 - β) for heavy ball."""
        total, first, _ = self._response.moments()
        return 0.0 + first / total if total else np.nan  # 0 rather than -0.

    @property
    def age_variance(self) -> float:
        """The variance of the age, Σ k² w_k / Σ w_k - mean_age², in steps²."""
        total, _, second = self._response.moments()
        return second / total - self.mean_age**2 if total else np.nan

    @property
    def noise_gain(self) -> float:
        """The variance of d for gradients that are independent noise of variance 1, Σ w_k²."""
        return self._response.energy()

    @property
    def effective_samples(self) -> float:
        """The number of gradients whose plain mean is as noisy, (Σ w_k)² / Σ w_k²."""
        return self.total**2 / self.noise_gain if self.noise_gain else np.nan

    @property
    def alternating(self) -> float:
        """The response to gradients that change their sign at each step, Σ (-1)ᵏ w_k."""
        return float(self._response.transfer(np.array(-1 + 0j)).real)

    @property
    def half_life(self) -> float:
        """The lag n at which half of the weight is behind, Σ_{k<n} w_k = Σ w_k / 2.

        It is a real number. Between two whole lags the sum of exponentials is that of real
        powers, log(1/2) / log β for one β, and every other sum is linear. 0 means that w_0 alone
        is at least half of the weight.
        """
        total = self.total
        if not total:
            return np.nan
        n, sums = 64, np.zeros(1)
        while n <= _LONGEST:
            sums = np.append(0, np.cumsum(self._response.weights(n)) / total)
            if np.any(sums >= 0.5):
                break
            n *= 8
        else:
            return np.nan
        last = int(np.argmax(sums >= 0.5))
        if not isinstance(self._response, Exponentials):
            return last - float((sums[last] - 0.5) / (sums[last] - sums[last - 1]))
        β, c = self._response

        def excess(lag: float) -> float:
            return float(c @ (1 - β**lag)) / total - 0.5

        # At β = 0 the sum jumps at lag 0.
        start = last - 1 if last > 1 else 1e-300
        if excess(start) >= 0:
            return 0.0
        root: Any = brentq(excess, start, last, xtol=1e-14)
        return float(root)

    def frequency_response(self, frequencies: ArrayLike) -> NDArray[np.complex128]:
        """Return the factor by which an oscillating gradient appears in the direction.

            W(f) = Σ_k w_k e^{-2πi f k}

        Args:
            frequencies: f in cycles per step; any shape.

        Returns:
            W, complex128, of the shape of frequencies.
        """
        f = as_reals("frequencies", frequencies)
        return self._response.transfer(np.exp(2j * np.pi * f))

    @property
    def edge(self) -> float:
        """The largest αλ at which θ ← θ - α Σ w_k g_{t-k} is stable on a quadratic.

        λ is the curvature and α the learning rate. For weights of a whole optimizer, which
        contain -α and sum to a negative number, it is the largest λ. For nonnegative c it is
        2 / `alternating`. It is infinite where every αλ is stable, and 0 where none is.
        """
        if self._loop is None:
            self._loop = self._added_to_parameters(-1 if self.total > 0 else 1)
        return theory.sharpness_limit(self._loop)

    @property
    def state_space(self) -> theory.StateSpace:
        """θ_t = θ_{t-1} + Σ_k w_k g_{t-k} as a system, for the functions of `theory`."""
        return self._added_to_parameters(1)

    def _added_to_parameters(self, sign: int) -> theory.StateSpace:
        F, G, H, D = self._response.filter()
        n = len(F)
        A = np.block([[np.ones((1, 1)), sign * H[None]], [np.zeros((n, 1)), F]])
        return theory.StateSpace(A, np.append(sign * D, G), np.eye(n + 1)[0])

    def plot(self, **options: Any) -> Any:
        """Draw the weights with `plotting.kernel`, which takes the options."""
        return plot("kernel", self, **options)

    def __repr__(self) -> str:
        if isinstance(self._response, Exponentials) and len(self._response.beta) <= 8:
            pairs = ", ".join(f"({β:.6g}, {c:.6g})" for β, c in zip(*self._response, strict=True))
            return f"Kernel.from_exponentials([{pairs}])"
        return (
            f"Kernel(total={self.total:.6g}, mean_age={self.mean_age:.6g}, "
            f"effective_samples={self.effective_samples:.6g}, buffers={self.buffers})"
        )


def of(tx: optax.GradientTransformation | optax.MultiSteps | theory.StateSpace) -> Kernel:
    """Read the kernel of a linear pipeline from its own update.

    The weights are those of `theory.impulse_response`. For a method, such as `heavy_ball`, they
    are the weights of past gradients in the direction. For a whole optimizer, such as `sgd`, they
    are those in the update, so that they contain the learning rate and are negative.

    Args:
        tx: Any linear Optax transformation without a period, or its `theory.StateSpace`.

    Returns:
        The kernel in the long run, as `theory.state_space` reads it. It is a sum of exponentials
        wherever the pipeline is one with β in [0, 1).

    Raises:
        ValueError: tx is not linear, has a period, or does not forget its first gradient.
        TypeError: tx is not a transformation.

    Example:
        >>> momentax.memory.of(momentax.average(0.9))
        Kernel.from_exponentials([(0.9, 1)])
    """
    if isinstance(tx, theory.StateSpace):
        theory.impulse_response(tx, 1)  # It checks the matrices.
        space = tx
    else:
        if isinstance(tx, optax.MultiSteps):
            tx = tx.gradient_transformation()
        require_transformation("tx", tx, " or its StateSpace")
        space = theory.state_space(tx)
    A, B, C = (np.asarray(part, np.float64) for part in space)
    if B.ndim != 1:
        raise ValueError(
            f"tx has a period of {B.shape[1]} steps, so that its weights differ from step to step; "
            "theory.impulse_response(tx, n) returns their mean"
        )
    found = _without_parameter(Filter(A, B, C @ A - C, float(C @ B)))
    radius = np.abs(np.linalg.eigvals(found.F)).max(initial=0)
    if radius >= 1:
        raise ValueError(
            f"tx must forget old gradients, got one that multiplies its state by {radius:.6g} per "
            "step; give a β below 1"
        )
    kernel = Kernel(as_exponentials(found) or found)
    if kernel.total <= 0:  # A whole optimizer: with weight decay its loop is not the kernel's.
        kernel._loop = space
    return kernel


def _without_parameter(found: Filter) -> Filter:
    """Leave the parameter, the first entry of the state, out of a filter that does not read it."""
    F, G, H, D = found
    reads = np.abs(np.append(F[1:, 0], H[0])) > _ROUNDING * np.abs(F).max()
    return found if reads.any() else Filter(F[1:, 1:], G[1:], H[1:], D)
