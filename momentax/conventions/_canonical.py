"""The canonical form, in which all conventions meet, and the base class of their records."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import jax.numpy as jnp
import optax

from momentax._core import arguments
from momentax._core.hyperparameters import interval_of
from momentax._methods._linear import linear
from momentax._sgd import sgd

# The metadata of a field whose interval is the record's own. Every other field has the interval
# that its name has in the whole library.
POSITIVE = {"interval": "(0, inf)"}
UNBOUNDED = {"interval": arguments.ANY_REAL}


def as_float(name: str, value: Any, interval: str) -> float:
    """Return a hyperparameter as a float, checked to lie in its interval."""
    if arguments.is_traced(value):
        raise TypeError(
            f"{name} must be concrete: conventions are converted in Python floats, outside of "
            "jit and vmap"
        )
    return arguments.as_real(name, value, interval)


def _interval_of(name: str) -> str:
    """Return where a field may lie. Conversions divide by learning rates, which cannot be 0."""
    return "(0, inf)" if name in ("learning_rate", "lr") else interval_of(name)


@dataclass(frozen=True)
class Record(ABC):
    """The hyperparameters of one convention, under its names and with its meaning."""

    # The fields beyond the two steps and β that the convention can express.
    _expressible: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                value = arguments.as_flag(field.name, value)
            else:
                interval = field.metadata.get("interval") or _interval_of(field.name)
                value = as_float(field.name, value, interval)
            object.__setattr__(self, field.name, value)

    @abstractmethod
    def canonical(self) -> Canonical:
        """Return the steps of the convention in the canonical form.

        Raises:
            ValueError: The steps have no canonical form.
        """

    @property
    @abstractmethod
    def velocity_scale(self) -> float:
        """The velocity of the convention as a multiple of the canonical s.

        To convert a velocity from one convention to another, multiply it by the
        quotient of the two scales.

        Raises:
            ValueError: The convention does not keep a multiple of s.
        """

    @classmethod
    @abstractmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        """Return the record with these steps, or raise a ValueError with the reason."""

    @classmethod
    def from_canonical(cls, canonical: Canonical) -> Self:
        """Return the record of this convention that has given canonical steps.

        Conditions on the steps hold to 12 digits. Where β or the velocity step
        is 0, only the sum of the steps matters: these are the steps of plain
        descent, which every convention has.

        Args:
            canonical: The steps.

        Returns:
            The record.

        Raises:
            ValueError: The convention does not have these steps, or it does not
                have their weight decay, maximize or first gain.
            TypeError: canonical is not a Canonical.
        """
        return cls._convert(canonical, cls._from_steps)

    @classmethod
    def _convert(cls, canonical: Canonical, from_steps: Callable[[Canonical], Self]) -> Self:
        """Check the canonical form, and put the steps in front of the reason for a failure."""
        if not isinstance(canonical, Canonical):
            raise TypeError(
                "canonical must be a Canonical, which record.canonical() returns, got "
                f"{arguments.describe(canonical)}"
            )
        try:
            for name, default in (("weight_decay", 0.0), ("maximize", False), ("first_gain", 1.0)):
                value = getattr(canonical, name)
                if value != default and name not in cls._expressible:
                    raise ValueError(
                        f"{cls.__name__} cannot express {name}={value}; to drop it, use "
                        f"dataclasses.replace(canonical, {name}={default})"
                    )
            return from_steps(canonical)
        except ValueError as reason:
            steps = ", ".join(
                f"{name}={value if isinstance(value, bool) else format(value, '.6g')}"
                for name, value in vars(canonical).items()
            )
            raise ValueError(
                f"{cls.__name__} cannot express the steps Canonical({steps}): {reason}"
            ) from None

    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """Build the momentax optimizer with the steps of the convention.

        Returns:
            A complete optimizer, as `momentax.sgd` returns it. Its velocity is
            the canonical s; the velocity of the convention is `velocity_scale`
            times s.

        Raises:
            ValueError: As `canonical`.
        """
        steps = self.canonical()
        first = steps.first_gain
        gain = 1.0 if first == 1 else lambda count: jnp.where(count == 0, first, 1.0)
        method = linear(steps.gradient_step, steps.velocity_step, steps.beta, gain)
        return sgd(1.0, method, weight_decay=steps.weight_decay, maximize=steps.maximize)


@dataclass(frozen=True)
class Canonical(Record):
    """The steps along gradient and velocity, which all conventions convert to.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        s_t = β s_{t-1} + γ_t g_t,    s_0 = 0
        θ_t = θ_{t-1} - a g_t - b s_t

    θ is the iterate at which gradients are taken. In a convention that looks
    ahead (Sutskever's form of Nesterov's momentum, `SynthesizedNesterov`) θ is
    the look-ahead point, which libraries store as their parameters; the base
    iterate of the convention is θ plus a multiple of s.

    γ_t is 1 except at the first step of a PyTorch run with dampening τ, where
    it is 1 / (1 - τ): PyTorch puts the first gradient into its buffer
    undamped. A run that continues from a buffer is past its first step, and
    dataclasses.replace(canonical, first_gain=1.0) describes it exactly.

    Args:
        gradient_step: a, any real number, in parameters per gradient.
        velocity_step: b, any real number, in parameters per velocity.
        beta: β in [0, 1), the share of the velocity kept each step.
        weight_decay: λ in [0, inf), coupled (L2): it enters the velocity.
        maximize: Whether the sign of ∇f is minus; decay shrinks θ in either case.
        first_gain: γ_1, the weight of the first gradient; not 0.
    """

    gradient_step: float
    velocity_step: float
    beta: float
    weight_decay: float = 0.0
    maximize: bool = False
    first_gain: float = 1.0

    _expressible: ClassVar = ("weight_decay", "maximize", "first_gain")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_gain == 0:
            raise ValueError(
                "first_gain must not be 0, or the velocity would omit the first gradient"
            )

    def canonical(self) -> Canonical:
        return self

    @property
    def velocity_scale(self) -> float:
        return 1.0

    @classmethod
    def _from_steps(cls, steps: Canonical) -> Self:
        return cls(**vars(steps))

    @property
    def _long_run_velocity_step(self) -> float:
        """The step along the velocity in the long run under a gradient of 1: b / (1 - β)."""
        return self.velocity_step / (1 - self.beta)

    def _effective_learning_rate(self) -> float:
        """Return a + b / (1 - β), checked to be positive."""
        rate = self.gradient_step + self._long_run_velocity_step
        if not rate > 0:
            raise ValueError(
                "the effective learning rate, gradient_step + velocity_step / (1 - beta), must be "
                f"positive, got {rate}"
            )
        return rate

    def _is_negligible(self, step: float) -> bool:
        """Whether a step is 0 to 12 digits, relative to the two steps of the record."""
        whole = abs(self.gradient_step) + abs(self._long_run_velocity_step)
        return abs(step) <= 1e-12 * whole

    def _is_plain_descent(self) -> bool:
        """Whether the velocity is the gradient itself or does not enter the step."""
        return self.beta == 0 or self._is_negligible(self._long_run_velocity_step)


R = TypeVar("R", bound=Record)


def convert(record: Record, to: type[R]) -> R:
    """Express the steps of a record in another convention.

    Both records lead to the same iterates θ, where gradients are taken, from
    the same start. A velocity that exists already is to be multiplied by the
    quotient of the two `velocity_scale`s. The conversion is done in Python
    floats, through `record.canonical()` and `to.from_canonical(...)`.

    Args:
        record: A record of this module.
        to: The class of the new record, such as `QuasiHyperbolic`.

    Returns:
        A record of that class.

    Raises:
        ValueError: The conversion does not exist: the record's steps have no
            canonical form, `to` does not have such steps, or `to` cannot express
            the record's weight decay, maximize or dampening.
        TypeError: record is not a record, or `to` is not a class of records.

    Example:
        >>> from momentax.conventions import QuasiHyperbolic, Torch, convert
        >>> convert(Torch(lr=0.1, momentum=0.5), to=QuasiHyperbolic)
        QuasiHyperbolic(learning_rate=0.2, beta=0.5, nu=1.0)
    """
    if not isinstance(record, Record):
        raise TypeError(
            f"record must be a record such as Torch(lr=0.1), got {arguments.describe(record)}"
        )
    if not (isinstance(to, type) and issubclass(to, Record)):
        raise TypeError(
            f"to must be a class of records such as QuasiHyperbolic, got {arguments.describe(to)}"
        )
    return to.from_canonical(record.canonical())
