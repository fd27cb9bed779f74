"""Wrappers change what any Optax transformation does with its velocity or its updates."""

from momentax._wrappers._cautious import cautious
from momentax._wrappers._grams import grams
from momentax._wrappers._optimistic import OptimisticState, optimistic
from momentax._wrappers._orientation import OrientedState
from momentax._wrappers._restart import RestartState, restart

__all__ = [
    "OptimisticState",
    "OrientedState",
    "RestartState",
    "cautious",
    "grams",
    "optimistic",
    "restart",
]
