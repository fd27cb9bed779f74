"""The conventions by name: what their hyperparameters mean in the canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from momentax.conventions._canonical import Canonical, Record, real


def _classical(learning_rate: float, momentum: float, nesterov: bool) -> Canonical:
    """The steps of heavy ball, or of Nesterov's momentum."""
    α, β = learning_rate, momentum
    return Canonical(α, α * β, β) if nesterov else Canonical(0.0, α, β)


def _as_classical(steps: Canonical) -> tuple[float, float, bool]:
    """The learning rate, momentum and nesterov of steps."""
    a, b, β = steps.gradient_step, steps.velocity_step, steps.beta
    if steps._is_plain:
        return steps._learning_rate, 0.0, False
    if steps._is_zero(a):
        return b, β, False
    if steps._is_zero(b - a * β):
        return a, β, True
    raise ValueError(
        "it needs gradient_step = 0 (heavy ball) or velocity_step = beta * gradient_step "
        "(Nesterov's momentum)"
    )


@dataclass(frozen=True)
class _Classical(Record):
    """Heavy ball or Nesterov's momentum, with a velocity of steps unless said otherwise."""

    learning_rate: float
    momentum: float
    nesterov: bool = False

    @property
    def velocity_scale(self) -> float:
        return -self.learning_rate

    def canonical(self) -> Canonical:
        return _classical(self.learning_rate, self.momentum, self.nesterov)

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        return cls(*_as_classical(steps))


@dataclass(frozen=True)
class Torch(Record):
    """PyTorch's torch.optim.SGD.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        b_t = μ b_{t-1} + (1 - τ) g_t,    b_1 = g_1
        θ_t = θ_{t-1} - α b_t,    or with nesterov    θ_t = θ_{t-1} - α (g_t + μ b_t)

    (a, b, β) = (0, α (1 - τ), μ), or with nesterov (α, α μ, μ), and
    b_t = (1 - τ) s_t. The first gradient enters undamped, hence
    `first_gain` = 1 / (1 - τ). At μ = 0 PyTorch has no buffer and ignores τ. At
    τ = 1 the buffer holds the first gradient alone and has no canonical form.

    Args:
        lr: α in (0, inf).
        momentum: μ in [0, 1), though PyTorch takes 1 and more.
        dampening: τ, any real number; 0 with nesterov.
        weight_decay: λ in [0, inf), coupled (L2).
        nesterov: Whether to look ahead; it needs momentum > 0, as in PyTorch.
        maximize: Whether the sign before ∇f is minus; decay still shrinks.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False

    _holds: ClassVar = ("weight_decay", "maximize", "first_gain")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0, as in PyTorch, got "
                f"momentum={self.momentum} and dampening={self.dampening}"
            )

    @property
    def velocity_scale(self) -> float:
        if self.momentum == 0:
            return 1.0
        if self.dampening == 1:
            raise ValueError(
                "dampening = 1 has no canonical form: the buffer holds the first gradient alone"
            )
        return 1 - self.dampening

    def canonical(self) -> Canonical:
        scale = self.velocity_scale
        steps = _classical(self.lr * scale, self.momentum, self.nesterov)
        return Canonical(
            steps.gradient_step,
            steps.velocity_step,
            steps.beta,
            weight_decay=self.weight_decay,
            maximize=self.maximize,
            first_gain=1 / scale,
        )

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        lr, momentum, nesterov = _as_classical(steps)
        first = steps.first_gain
        if first != 1 and (nesterov or momentum == 0):
            raise ValueError(
                f"first_gain={first} is dampening, and PyTorch dampens heavy ball alone"
            )
        return cls(
            lr * first, momentum, 1 - 1 / first, steps.weight_decay, nesterov, steps.maximize
        )


@dataclass(frozen=True)
class Keras(_Classical):
    """Keras's keras.optimizers.SGD.

        v_t = μ v_{t-1} - α g_t
        θ_t = θ_{t-1} + v_t,    or with nesterov    θ_t = θ_{t-1} + μ v_t - α g_t

    (a, b, β) = (0, α, μ), or with nesterov (α, α μ, μ), and v_t = -α s_t: the
    learning rate is inside the velocity, so only a constant one converts.

    Args:
        learning_rate: α in (0, inf).
        momentum: μ in [0, 1), though Keras takes 1.
        nesterov: Whether to look ahead.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True)
class Optax(_Classical):
    """Optax's optax.sgd.

        v_t = μ v_{t-1} + g_t
        θ_t = θ_{t-1} - α v_t,    or with nesterov    θ_t = θ_{t-1} - α (g_t + μ v_t)

    (a, b, β) = (0, α, μ), or with nesterov (α, α μ, μ), and v_t = s_t.

    Args:
        learning_rate: α in (0, inf).
        momentum: μ in [0, 1); 0 where Optax says None.
        nesterov: Whether to look ahead.
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def velocity_scale(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Sutskever(_Classical):
    """Momentum as Sutskever and others write it, the look-ahead spelled out.

        v_t = μ v_{t-1} - α ∇f(θ'_{t-1}),    or with nesterov    ∇f(θ'_{t-1} + μ v_{t-1})
        θ'_t = θ'_{t-1} + v_t

    (a, b, β) = (0, α, μ), or with nesterov (α, α μ, μ), and v_t = -α s_t. With
    nesterov the canonical iterate is the look-ahead point θ_t = θ'_t + μ v_t, so
    that θ'_t = θ_t + α μ s_t.

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
    """Descent along the running average of the gradients, not debiased.

        m_t = β m_{t-1} + (1 - β) g_t
        θ_t = θ_{t-1} - α m_t

    (a, b, β) = (0, α (1 - β), β) and m_t = (1 - β) s_t.

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
    def _taking(cls, steps: Canonical) -> Self:
        if steps._is_plain:
            return cls(steps._learning_rate, 0.0)
        if steps._is_zero(steps.gradient_step):
            return cls(steps._steady_step, steps.beta)
        raise ValueError("it needs gradient_step = 0")


@dataclass(frozen=True)
class QuasiHyperbolic(Record):
    """Each gradient mixed with the running average of all: QHM.

        m_t = β m_{t-1} + (1 - β) g_t
        θ_t = θ_{t-1} - α ((1 - ν) g_t + ν m_t)

    (a, b, β) = (α (1 - ν), α ν (1 - β), β) and m_t = (1 - β) s_t. It has all
    canonical steps whose effective learning rate α = a + b / (1 - β) is positive.

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1).
        nu: ν, any real number; the paper's own are in [0, 1].

    Source:
        Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning,
        2019, arXiv:1810.06801.
    """

    learning_rate: float
    beta: float
    nu: float

    @property
    def velocity_scale(self) -> float:
        return 1 - self.beta

    def canonical(self) -> Canonical:
        α, β, ν = self.learning_rate, self.beta, self.nu
        return Canonical(α * (1 - ν), α * ν * (1 - β), β)

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        α = steps._learning_rate
        return cls(α, steps.beta, steps._steady_step / α)


@dataclass(frozen=True)
class AcceleratedSGD(Record):
    """Accelerated SGD, with a short step, a long step and an average of iterates.

        A = 1 - c² ξ / κ,    ζ = c / (c + 1 - A)
        w'_t = A w'_{t-1} + (1 - A) (w_{t-1} - (δ κ / c) g_t),    w'_0 = w_0
        w_t = ζ (w_{t-1} - δ g_t) + (1 - ζ) w'_t

    (a, b, β) = (δ, δ c ξ (c ξ - 1) / (κ + c ξ), (κ - c² ξ) / (κ + c ξ)), on w,
    and w_t - w'_t = δ (c ξ - 1) κ / (κ + c ξ) s_t, taken as its velocity. It
    has the steps with a > 0 and (1 + c) b > -a (1 - β): no heavy ball. c is a
    free choice; `from_canonical` takes 0.7 unless told.

    Args:
        learning_rate: δ in (0, inf), the short step.
        kappa: κ in [c² ξ, inf), the ratio of the long step to the short, times c.
        xi: ξ in (0, inf), the statistical advantage.
        c: c in (0, 1].

    Source:
        Jain, Kakade, Kidambi, Netrapalli and Sidford, Accelerating stochastic
        gradient descent for least squares regression, 2018, arXiv:1704.08227;
        Kidambi, Netrapalli, Jain and Kakade, On the insufficiency of existing
        momentum schemes for stochastic optimization, 2018, arXiv:1803.05591.
    """

    learning_rate: float
    kappa: float = 1000.0
    xi: float = 10.0
    c: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.c * self.c * self.xi
        if self.kappa < least * (1 - 1e-12):  # Equal up to rounding where β = 0.
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
        """Find the record with a given c that takes the steps of a canonical form.

        Args:
            canonical: The steps to take.
            c: c in (0, 1].

        Returns:
            The record.

        Raises:
            ValueError: There is none, as for any record; or c lies outside its
                interval.
        """
        c = real("c", c)
        return cls._found(canonical, lambda steps: cls._taking(steps, c))

    @classmethod
    def _taking(cls, steps: Canonical, c: float = 0.7) -> Self:
        δ, β, x = steps.gradient_step, steps.beta, steps._steady_step
        if steps._is_plain:
            δ, x = steps._learning_rate, 0.0
        if δ <= 0 or steps._is_zero(δ) or δ + (1 + c) * x <= 0:
            raise ValueError(
                "it needs gradient_step > 0 (so no heavy ball) and (1 + c) * velocity_step > "
                f"-(1 - beta) * gradient_step with c={c}"
            )
        cξ = 1 + (1 + c) * x / δ
        return cls(δ, cξ * (β + c) / (1 - β), cξ / c, c)


@dataclass(frozen=True)
class SynthesizedNesterov(Record):
    """Nesterov's momentum with another factor for the look-ahead than for the step.

        y_t = ξ_t + β₂ (ξ_t - ξ_{t-1}),    ξ_{-1} = ξ_0
        ξ_{t+1} = ξ_t + β₁ (ξ_t - ξ_{t-1}) - α ∇f(y_t)

    (a, b, β) = (α β₂/β₁, α (1 - β₂ (1 - β₁)/β₁), β₁), on the look-ahead point
    y, and its velocity ξ_t - ξ_{t-1} is -α s_t, so that ξ_t = y_t + α β₂ s_t.
    Nesterov's own has β₂ = β₁, heavy ball β₂ = 0; the triple momentum and the
    robust momentum methods are others. At β₁ = 0 with β₂ other than 0 a step
    takes the previous gradient too, and there is no canonical form.

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
    beta2: float

    @property
    def velocity_scale(self) -> float:
        return -self.learning_rate

    def canonical(self) -> Canonical:
        α, β1, β2 = self.learning_rate, self.beta1, self.beta2
        if β2 == 0:
            return Canonical(0.0, α, β1)
        if β1 == 0:
            raise ValueError(
                f"beta1 = 0 with beta2 = {β2} has no canonical form: a step takes the previous "
                "gradient too"
            )
        return Canonical(α * β2 / β1, α * (1 - β2 * (1 - β1) / β1), β1)

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        β, rate = steps.beta, steps._learning_rate
        return cls(rate * (1 - β), β, steps.gradient_step / rate * β / (1 - β))


@dataclass(frozen=True)
class PID(Record):
    """A controller of the gradient: its value, its sum and its filtered difference.

        d_t = β d_{t-1} + (1 - β) (g_t - g_{t-1}),    β = kd / (kd - kp),    g_0 = 0
        θ_t = θ_0 - kp g_t - ki (g_1 + ... + g_t) - kd d_t

    (a, b, β) = (ki - x, x (1 - β), β) with x = kp² / kd. β is in (0, 1) where
    kp and kd have opposite signs, kp being the negative one for ν > 0. With
    kp = kd = 0 it is plain descent; with other signs, or one of the two 0, it
    has no canonical form. It keeps d and not s:
    s_t = (g_t - β d_t / (1 - β)) / (1 - β).

    Args:
        kp: The gain of the gradient, any real number.
        ki: The gain of the sum, in (0, inf): the effective learning rate.
        kd: The gain of the difference, any real number.

    Source:
        Recht, The best things in life are model free, 2018; in this form Ma
        and Yarats, 2019, arXiv:1810.06801.
    """

    kp: float
    ki: float
    kd: float

    @property
    def velocity_scale(self) -> float:
        raise ValueError(
            "PID keeps the filtered difference d of the gradients and no multiple of the "
            "velocity: s = (g - beta * d / (1 - beta)) / (1 - beta)"
        )

    def canonical(self) -> Canonical:
        kp, ki, kd = self.kp, self.ki, self.kd
        if kp == kd == 0:
            return Canonical(0.0, ki, 0.0)
        if not (kp < 0 < kd or kd < 0 < kp):
            raise ValueError(
                "kp and kd must have opposite signs, or both be 0, for the filter "
                f"beta = kd / (kd - kp) to lie in (0, 1), got kp={kp} and kd={kd}"
            )
        x = kp * (kp / kd)
        return Canonical(ki - x, x * -kp / (kd - kp), kd / (kd - kp))

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        x, odds = steps._steady_step, steps.beta / (1 - steps.beta)
        return cls(-x * odds, steps._learning_rate, x * odds**2)


@dataclass(frozen=True)
class Aggregated2(Record):
    """Aggregated momentum (AggMo) of two velocities, one of them without memory.

        v_t = β v_{t-1} + g_t
        θ_t = θ_{t-1} - α (g_t + v_t) / 2

    (a, b, β) = (α/2, α/2, β) and v_t = s_t. It is quasi-hyperbolic with
    ν = 1 / (2 - β), and has those steps alone.

    Args:
        learning_rate: α in (0, inf).
        beta: β in [0, 1), of the second velocity; the first has 0.

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
    def _taking(cls, steps: Canonical) -> Self:
        a, b = steps.gradient_step, steps.velocity_step
        if steps._is_plain:
            return cls(steps._learning_rate, 0.0)
        if steps._is_zero(a - b):
            return cls(a + b, steps.beta)
        raise ValueError("it needs gradient_step = velocity_step, that is nu = 1 / (2 - beta)")
