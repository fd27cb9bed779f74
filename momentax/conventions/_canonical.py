"""The form in which all conventions meet, and what every record of one can do."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import jax.numpy as jnp
import optax

from momentax._core import arguments
from momentax._methods._linear import linear
from momentax._sgd import sgd

# Where each hyperparameter may lie, whichever record has it; others are any real number.
_INTERVALS = {
    **dict.fromkeys(("lr", "learning_rate", "ki", "kappa", "xi"), "(0, inf)"),
    **dict.fromkeys(("momentum", "beta", "beta1"), "[0, 1)"),
    "weight_decay": "[0, inf)",
    "c": "(0, 1]",
}
_REALS = "(-inf, inf)"


def real(name: str, value: Any) -> float:
    """Return a hyperparameter as a float in its interval."""
    if arguments.is_traced(value):
        raise TypeError(
            f"{name} must be concrete: conventions are converted in Python floats, outside of "
            "jit and vmap"
        )
    return arguments.as_real(name, value, _INTERVALS.get(name, _REALS))


@dataclass(frozen=True)
class Record(ABC):
    """Hyperparameters under the names, and with the meaning, of one convention."""

    # What a convention can hold beyond the two steps and β.
    _holds: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check = arguments.as_flag if field.type == "bool" else real
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    @abstractmethod
    def canonical(self) -> Canonical:
        """Give the steps that the convention takes, in the canonical form.

        Raises:
            ValueError: The convention takes steps that the form has not.
        """

    @property
    @abstractmethod
    def velocity_scale(self) -> float:
        """The convention's own velocity as a multiple of the canonical s.

        A velocity goes from one convention to another by the quotient of their
        scales.

        Raises:
            ValueError: The convention keeps no multiple of s.
        """

    @classmethod
    @abstractmethod
    def _taking(cls, steps: Canonical) -> Self:
        """The record that takes these steps; ValueError with the reason where there is none."""

    @classmethod
    def from_canonical(cls, canonical: Canonical) -> Self:
        """Find the record that takes the steps of a canonical form.

        Conditions on the steps hold to 12 digits. Where β or the velocity step
        is 0 only the sum of the steps matters: all that is plain descent,
        which every convention has.

        Args:
            canonical: The steps to take.

        Returns:
            The record.

        Raises:
            ValueError: The convention has no such steps, or no place for the
                weight decay, maximize or first gain.
            TypeError: canonical is no Canonical.
        """
        return cls._found(canonical, cls._taking)

    @classmethod
    def _found(cls, canonical: Canonical, taking: Callable[[Canonical], Self]) -> Self:
        if not isinstance(canonical, Canonical):
            raise TypeError(f"canonical must be a Canonical, got {canonical!r}; see convert")
        try:
            for name, default in (("weight_decay", 0.0), ("maximize", False), ("first_gain", 1.0)):
                value = getattr(canonical, name)
                if value != default and name not in cls._holds:
                    raise ValueError(
                        f"it has no place for {name}={value}, which "
                        f"dataclasses.replace(canonical, {name}={default}) leaves out"
                    )
            return taking(canonical)
        except ValueError as reason:
            raise ValueError(f"no {cls.__name__} takes the steps {canonical}: {reason}") from None

    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """Build the momentax optimizer that takes the convention's steps.

        Returns:
            A complete optimizer, as of `momentax.sgd`. Its velocity is the
            canonical s; the convention's own is `velocity_scale` times that.

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
    """The steps along gradient and velocity in which all conventions meet.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        s_t = β s_{t-1} + γ_t g_t,    s_0 = 0
        θ_t = θ_{t-1} - a g_t - b s_t

    θ is the iterate where gradients are taken. Where a convention looks ahead
    (Sutskever's form of Nesterov's momentum, `SynthesizedNesterov`) that is
    the look-ahead point, which libraries keep as their parameters; the
    convention's base iterate is θ plus a multiple of s.

    γ_t is 1 but at the first step, where it is 1 / (1 - τ) for a PyTorch run
    with dampening τ: PyTorch puts the first gradient into its buffer undamped.
    A run that goes on from a buffer is past that step; there
    dataclasses.replace(canonical, first_gain=1.0) is exact.

    Args:
        gradient_step: a, any real number, in parameters per gradient.
        velocity_step: b, any real number, in parameters per velocity.
        beta: β in [0, 1), the share of the velocity kept each step.
        weight_decay: λ in [0, inf), coupled (L2): it enters the velocity.
        maximize: Whether the sign before ∇f is minus; decay still shrinks.
        first_gain: γ_1, the weight of the first gradient; not 0.
    """

    gradient_step: float
    velocity_step: float
    beta: float
    weight_decay: float = 0.0
    maximize: bool = False
    first_gain: float = 1.0

    _holds: ClassVar = ("weight_decay", "maximize", "first_gain")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_gain == 0:
            raise ValueError("first_gain must not be 0: the velocity would miss a gradient")

    def canonical(self) -> Canonical:
        return self

    @property
    def velocity_scale(self) -> float:
        return 1.0

    @classmethod
    def _taking(cls, steps: Canonical) -> Self:
        return cls(**vars(steps))

    @property
    def _steady_step(self) -> float:
        """What the steps along the velocity come to under a constant unit gradient."""
        return self.velocity_step / (1 - self.beta)

    @property
    def _learning_rate(self) -> float:
        """The effective learning rate a + b / (1 - β), checked."""
        rate = self.gradient_step + self._steady_step
        if not rate > 0:
            raise ValueError(
                "its effective learning rate, gradient_step + velocity_step / (1 - beta), must be "
                f"positive, got {rate}"
            )
        return rate

    def _is_zero(self, step: float) -> bool:
        """Whether a step is 0 to 12 digits of the whole."""
        return abs(step) <= 1e-12 * (abs(self.gradient_step) + abs(self._steady_step))

    @property
    def _is_plain(self) -> bool:
        """Whether this is plain descent, the velocity being the gradient or of no weight."""
        return self.beta == 0 or self._is_zero(self._steady_step)


R = TypeVar("R", bound=Record)


def convert(record: Record, to: type[R]) -> R:
    """Say the same steps in another convention.

    Both follow the same iterates θ, where gradients are taken, from the same
    start; a velocity that exists already is multiplied by the quotient of the
    two `velocity_scale`s. Conversion runs in Python floats, through
    `record.canonical()` and `to.from_canonical(...)`.

    Args:
        record: A record of this module.
        to: The class of the record wanted, such as `QuasiHyperbolic`.

    Returns:
        A record of that class.

    Raises:
        ValueError: No map exists: the record takes steps that the canonical
            form has not, or steps that `to` has not; or it has weight decay,
            maximize or dampening where `to` has no place for it.
        TypeError: record is no record, or `to` no class of records.
    """
    if not isinstance(record, Record):
        raise TypeError(f"record must be a record such as Torch(lr=0.1), got {record!r}")
    if not (isinstance(to, type) and issubclass(to, Record)):
        raise TypeError(f"to must be a class of records such as QuasiHyperbolic, got {to!r}")
    return to.from_canonical(record.canonical())
