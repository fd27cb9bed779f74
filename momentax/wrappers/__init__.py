"""Wrappers change what any Optax transformation does with its velocity or its updates."""

from momentax.wrappers._cautious import cautious
from momentax.wrappers._grams import grams
from momentax.wrappers._optimistic import OptimisticState, optimistic
from momentax.wrappers._orientation import OrientedState
from momentax.wrappers._restart import RestartState, restart

__all__ = [
    "OptimisticState",
    "OrientedState",
    "RestartState",
    "cautious",
    "grams",
    "optimistic",
    "restart",
]
