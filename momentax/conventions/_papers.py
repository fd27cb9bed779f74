"""The conventions of papers: what their hyperparameters mean in the canonical form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from momentax.conventions._canonical import POSITIVE, UNBOUNDED, Canonical, Record, as_float
from momentax.conventions._classical import ClassicalRecord


@dataclass(frozen=True)
class Sutskever(ClassicalRecord):
    """Momentum with an explicit look-ahead, as Sutskever et al. write it.

        v_t = μ v_{t-1} - α ∇f(θ'_{t-1}),    or with nesterov    ∇f(θ'_{t-1} + μ v_{t-1})
        θ'_t = θ'_{t-1} + v_t

    The canonical steps are (a, b, β) = (0, α, μ), or (α, α μ, μ) with nesterov,
    and v_t = -α s_t. With nesterov the canonical iterate is the look-ahead
    point θ_t = θ'_t + μ v_t, so θ'_t = θ_t + α μ s_t.

    Args:
        learning_rate: α in (0, inf).
        momentum: μ in [0, 1).
        nesterov: Whether to take the gradient at the look-ahead point.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013.
    """


@dataclass(frozen=True)
class Average(Record):
    """Descent along the running average of the gradients, without debiasing.

        m_t = β m_{t-1} + (1 - β) g_t
        θ_t = θ_{t-1} - α m_t

    The canonical steps are (a, b, β) = (0, α (1 - β), β), and m_t = (1 - β) s_t.

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1).
    """

    learning_rate: float
    beta: float

    @property
    def velocity_scale(self) -> float:
        return 1 - self.beta

    def canonical(self) -> Canonical:
        return Canonical(0.0, self.learning_rate * (1 - self.beta), self.beta)

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        if steps._is_plain_descent():
            return cls(steps._effective_learning_rate(), 0.0)
        if steps._is_negligible(steps.gradient_step):
            return cls(steps._long_run_velocity_step, steps.beta)
        raise ValueError("the steps must have gradient_step = 0")


@dataclass(frozen=True)
class QuasiHyperbolic(Record):
    """Quasi-hyperbolic momentum (QHM): each gradient mixed with the running average.

        m_t = β m_{t-1} + (1 - β) g_t
        θ_t = θ_{t-1} - α ((1 - ν) g_t + ν m_t)

    The canonical steps are (a, b, β) = (α (1 - ν), α ν (1 - β), β), and
    m_t = (1 - β) s_t. QHM has all canonical steps whose effective learning rate
    α = a + b / (1 - β) is positive.

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1).
        nu: ν, any real number; the paper's values are in [0, 1].

    Source:
        Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning,
        2019, arXiv:1810.06801.
    """

    learning_rate: float
    beta: float
    nu: float = field(metadata=UNBOUNDED)

    @property
    def velocity_scale(self) -> float:
        return 1 - self.beta

    def canonical(self) -> Canonical:
        α, β, ν = self.learning_rate, self.beta, self.nu
        return Canonical(α * (1 - ν), α * ν * (1 - β), β)

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        α = steps._effective_learning_rate()
        return cls(α, steps.beta, steps._long_run_velocity_step / α)


_C = {"interval": "(0, 1]"}


@dataclass(frozen=True)
class AcceleratedSGD(Record):
    """Accelerated SGD: a short step, a long step and an average of iterates.

        A = 1 - c² ξ / κ,    ζ = c / (c + 1 - A)
        w'_t = A w'_{t-1} + (1 - A) (w_{t-1} - (δ κ / c) g_t),    w'_0 = w_0
        w_t = ζ (w_{t-1} - δ g_t) + (1 - ζ) w'_t

    The canonical steps, for the iterate w, are
    (a, b, β) = (δ, δ c ξ (c ξ - 1) / (κ + c ξ), (κ - c² ξ) / (κ + c ξ)). The
    velocity is w_t - w'_t = δ (c ξ - 1) κ / (κ + c ξ) s_t. The convention has
    the steps with a > 0 and (1 + c) b > -a (1 - β), which excludes heavy ball.
    Every c in its interval gives the same steps; `from_canonical` takes 0.7
    unless c is given.

    Args:
        learning_rate: δ in (0, inf), the short step.
        kappa: κ in [c² ξ, inf); κ / c is the ratio of the long step to the short.
        xi: ξ in (0, inf), the statistical advantage.
        c: c in (0, 1].

    Source:
        Jain, Kakade, Kidambi, Netrapalli and Sidford, Accelerating stochastic
        gradient descent for least squares regression, 2018, arXiv:1704.08227;
        Kidambi, Netrapalli, Jain and Kakade, On the insufficiency of existing
        momentum schemes for stochastic optimization, 2018, arXiv:1803.05591.
    """

    learning_rate: float
    kappa: float = field(default=1000.0, metadata=POSITIVE)
    xi: float = field(default=10.0, metadata=POSITIVE)
    c: float = field(default=0.7, metadata=_C)

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.c * self.c * self.xi
        if self.kappa < least * (1 - 1e-12):  # The two are equal up to rounding where β = 0.
            raise ValueError(f"kappa must be at least c² xi = {least}, got {self.kappa}")

    @property
    def velocity_scale(self) -> float:
        κ, cξ = self.kappa, self.c * self.xi
        return self.learning_rate * (cξ - 1) * κ / (κ + cξ)

    def canonical(self) -> Canonical:
        δ, κ, cξ = self.learning_rate, self.kappa, self.c * self.xi
        β = max(0.0, (κ - self.c * cξ) / (κ + cξ))
        return Canonical(δ, δ * cξ * (cξ - 1) / (κ + cξ), β)

    @classmethod
    def from_canonical(cls, canonical: Canonical, *, c: float = 0.7) -> Self:
        """Return the record with a given c that has given canonical steps.

        Args:
            canonical: The steps.
            c: c in (0, 1].

        Returns:
            The record.

        Raises:
            ValueError: There is no such record, for the reasons of any other
                convention; or c lies outside its interval.
        """
        c = as_float("c", c, _C["interval"])
        return cls._convert(canonical, lambda steps: cls._from_steps(steps, c))

    @classmethod
    def _from_steps(cls, steps: Canonical, c: float = 0.7) -> Self:
        δ, β, x = steps.gradient_step, steps.beta, steps._long_run_velocity_step
        if steps._is_plain_descent():
            δ, x = steps._effective_learning_rate(), 0.0
        if δ <= 0 or steps._is_negligible(δ) or δ + (1 + c) * x <= 0:
            raise ValueError(
                "the steps must have gradient_step > 0 (so no heavy ball) and (1 + c) * "
                f"velocity_step > -(1 - beta) * gradient_step with c={c}"
            )
        cξ = 1 + (1 + c) * x / δ
        return cls(δ, cξ * (β + c) / (1 - β), cξ / c, c)


@dataclass(frozen=True)
class SynthesizedNesterov(Record):
    """Nesterov's momentum whose look-ahead has a factor of its own.

        y_t = ξ_t + β₂ (ξ_t - ξ_{t-1}),    ξ_{-1} = ξ_0
        ξ_{t+1} = ξ_t + β₁ (ξ_t - ξ_{t-1}) - α ∇f(y_t)

    The canonical steps, for the look-ahead point y, are
    (a, b, β) = (α β₂/β₁, α (1 - β₂ (1 - β₁)/β₁), β₁). The velocity
    ξ_t - ξ_{t-1} is -α s_t, so ξ_t = y_t + α β₂ s_t. Nesterov's momentum has
    β₂ = β₁, and heavy ball β₂ = 0; the triple momentum and the robust momentum
    methods are other cases. At β₁ = 0 with β₂ other than 0 each step also uses
    the previous gradient, and there is no canonical form.

    Args:
        learning_rate: α in (0, inf).
        beta1: β₁ in [0, 1), the share of the last step that is kept.
        beta2: β₂, any real number, the factor of the look-ahead.

    Source:
        Lessard, Recht and Packard, Analysis and design of optimization
        algorithms via integral quadratic constraints, 2016, arXiv:1408.3595.
    """

    learning_rate: float
    beta1: float
    beta2: float = field(metadata=UNBOUNDED)

    @property
    def velocity_scale(self) -> float:
        return -self.learning_rate

    def canonical(self) -> Canonical:
        α, β1, β2 = self.learning_rate, self.beta1, self.beta2
        if β2 == 0:
            return Canonical(0.0, α, β1)
        if β1 == 0:
            raise ValueError(
                f"beta1 = 0 with beta2 = {β2} has no canonical form: each step also uses the "
                "previous gradient"
            )
        return Canonical(α * β2 / β1, α * (1 - β2 * (1 - β1) / β1), β1)

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        β, rate = steps.beta, steps._effective_learning_rate()
        return cls(rate * (1 - β), β, steps.gradient_step / rate * β / (1 - β))


@dataclass(frozen=True)
class PID(Record):
    """A PID controller of the gradient: its value, its sum and its filtered difference.

        d_t = β d_{t-1} + (1 - β) (g_t - g_{t-1}),    β = kd / (kd - kp),    g_0 = 0
        θ_t = θ_0 - kp g_t - ki (g_1 + ... + g_t) - kd d_t

    The canonical steps are (a, b, β) = (ki - x, x (1 - β), β) with
    x = kp² / kd. β is in (0, 1) if kp and kd have opposite signs. As
    quasi-hyperbolic momentum its share ν of the velocity is positive if
    kp is the negative one. kp = kd = 0 is plain descent. With equal signs, or
    with one of the two 0, there is no canonical form. The convention keeps d
    instead of s: s_t = (g_t - β d_t / (1 - β)) / (1 - β).

    Args:
        kp: The gain of the gradient, any real number.
        ki: The gain of the sum, in (0, inf): the effective learning rate.
        kd: The gain of the difference, any real number.

    Source:
        Recht, The best things in life are model free, 2018; in this form Ma
        and Yarats, 2019, arXiv:1810.06801.
    """

    kp: float = field(metadata=UNBOUNDED)
    ki: float = field(metadata=POSITIVE)
    kd: float = field(metadata=UNBOUNDED)

    @property
    def velocity_scale(self) -> float:
        raise ValueError(
            "PID keeps the filtered difference d of the gradients, which is not a multiple of the "
            "velocity: s = (g - beta * d / (1 - beta)) / (1 - beta)"
        )

    def canonical(self) -> Canonical:
        kp, ki, kd = self.kp, self.ki, self.kd
        if kp == kd == 0:
            return Canonical(0.0, ki, 0.0)
        if not (kp < 0 < kd or kd < 0 < kp):
            raise ValueError(
                "kp and kd must have opposite signs, or both be 0, so that the filter "
                f"beta = kd / (kd - kp) lies in (0, 1), got kp={kp} and kd={kd}"
            )
        x = kp * (kp / kd)
        return Canonical(ki - x, x * -kp / (kd - kp), kd / (kd - kp))

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        x, odds = steps._long_run_velocity_step, steps.beta / (1 - steps.beta)
        return cls(-x * odds, steps._effective_learning_rate(), x * odds**2)


@dataclass(frozen=True)
class Aggregated2(Record):
    """Aggregated momentum (AggMo) of two velocities, the first with β = 0.

        v_t = β v_{t-1} + g_t
        θ_t = θ_{t-1} - α (g_t + v_t) / 2

    The canonical steps are (a, b, β) = (α/2, α/2, β), and v_t = s_t. They are
    the quasi-hyperbolic steps with ν = 1 / (2 - β), and no others.

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1), of the second velocity.

    Source:
        Lucas, Sun, Zemel and Grosse, Aggregated momentum: stability through
        passive damping, 2019, arXiv:1804.00325.
    """

    learning_rate: float
    beta: float

    @property
    def velocity_scale(self) -> float:
        return 1.0

    def canonical(self) -> Canonical:
        return Canonical(self.learning_rate / 2, self.learning_rate / 2, self.beta)

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        a, b = steps.gradient_step, steps.velocity_step
        if steps._is_plain_descent():
            return cls(steps._effective_learning_rate(), 0.0)
        if steps._is_negligible(a - b):
            return cls(a + b, steps.beta)
        raise ValueError(
            "the steps must have gradient_step = velocity_step, so nu = 1 / (2 - beta)"
        )
