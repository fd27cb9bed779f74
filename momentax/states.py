"""Every state that an optimizer of momentax can hold.

A state is a NamedTuple of arrays. Its docstring says what each field is, and its class
attributes say what restarts with the velocity and whether the velocity sums gradients.

`momentax.states.register_serialization()` lets `jax.export` serialize a program, such as a
training step, whose arguments or results hold states. `momentax.states.migrate` puts the arrays
of a checkpoint back into the classes, also from the layout of an older version.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax._methods._accelerated import AcceleratedState as AcceleratedState
    from momentax._methods._adan import AdanState as AdanState
    from momentax._methods._aggregated import AggregatedState as AggregatedState
    from momentax._methods._average import AverageState as AverageState
    from momentax._methods._hypergradient import HypergradientState as HypergradientState
    from momentax._methods._item import ItemState as ItemState
    from momentax._methods._lazy import LazyState as LazyState
    from momentax._methods._linear import LinearState as LinearState
    from momentax._methods._linear import ShiftedState as ShiftedState
    from momentax._methods._lion import LionState as LionState
    from momentax._methods._mars import ExactMarsState as ExactMarsState
    from momentax._methods._mars import MarsState as MarsState
    from momentax._methods._momentum_polyak import MomentumPolyakState as MomentumPolyakState
    from momentax._methods._nadam import NadamState as NadamState
    from momentax._methods._positive_negative import PositiveNegativeState as PositiveNegativeState
    from momentax._methods._proportional_integral_derivative import (
        ProportionalIntegralDerivativeState as ProportionalIntegralDerivativeState,
    )
    from momentax._methods._quasi_hyperbolic_adam import (
        QuasiHyperbolicAdamState as QuasiHyperbolicAdamState,
    )
    from momentax._methods._storm import RecursiveState as RecursiveState
    from momentax._methods._storm import StormState as StormState
    from momentax._methods._torque_aware import TorqueAwareState as TorqueAwareState
    from momentax._methods._yellowfin import YellowFinState as YellowFinState
    from momentax._muon._branches import MuonState as MuonState
    from momentax._sgd import DecayState as DecayState
    from momentax._sgd import ScaleState as ScaleState
    from momentax._state._migrate import migrate as migrate
    from momentax._wrappers._ema_nesterov import EmaNesterovState as EmaNesterovState
    from momentax._wrappers._failures import GuardState as GuardState
    from momentax._wrappers._hyperball import HyperballState as HyperballState
    from momentax._wrappers._monitor_state import MonitorState as MonitorState
    from momentax._wrappers._optimistic import OptimisticState as OptimisticState
    from momentax._wrappers._orientation import OrientedState as OrientedState
    from momentax._wrappers._orthogonalize import OrthogonalizeState as OrthogonalizeState
    from momentax._wrappers._outer import OuterState as OuterState
    from momentax._wrappers._restart import RestartState as RestartState
    from momentax.conventions._torch._optimizer import DampedState as DampedState
    from momentax.memory._method import FilterState as FilterState
    from momentax.storage._stored import StoredState as StoredState


def register_serialization() -> None:
    """Let `jax.export` serialize programs whose arguments or results hold states.

    Call it once in each process that serializes or deserializes one; later calls change
    nothing. States of Optax are registered in the same way with
    `jax.export.register_namedtuple_serialization`.

    Example:
        >>> momentax.states.register_serialization()
        >>> tx = momentax.heavy_ball(0.9)
        >>> exported = jax.export.export(jax.jit(tx.update))(params, tx.init(params))
        >>> content = exported.serialize()
    """
    import contextlib

    import optax
    from jax import export  # A slow import, which importing momentax does not need.

    from momentax._wrappers._ema_nesterov import StepAverage
    from momentax._wrappers._monitor_state import LastGradient, LastStep
    from momentax.storage._bfloat16 import Bfloat16Velocity
    from momentax.storage._int8 import Int8Velocity

    parts = LastGradient, LastStep, StepAverage, Bfloat16Velocity, Int8Velocity
    states = (__getattr__(name) for name in __all__ if name.endswith("State"))
    for kind in (*states, *parts):
        if kind not in _registered:
            export.register_namedtuple_serialization(
                kind, serialized_name=f"momentax.{kind.__name__}"
            )
            _registered.add(kind)
    if optax.MaskedNode not in _registered:  # In the state of muon.
        with contextlib.suppress(ValueError):  # Somebody else has registered it.
            export.register_namedtuple_serialization(
                optax.MaskedNode, serialized_name="optax.MaskedNode"
            )
        _registered.add(optax.MaskedNode)


_registered: set[type] = set()
__getattr__, __dir__, __all__ = lazy_exports(__name__)
