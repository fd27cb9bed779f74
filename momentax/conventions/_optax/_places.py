"""Which states of Optax and momentax keep a velocity of the same recurrence."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from momentax._core import arguments
from momentax._core.transformations import public_name
from momentax._core.typing import PyTree
from momentax._state import _velocity


class Kind(NamedTuple):
    """What the state of a recurrence keeps, by the names of its fields.

    recurrence: states of one recurrence can be moved from one class to another.
    velocity: the field of the velocity.
    squares: the field of the second moment, or None.
    """

    recurrence: str
    velocity: str
    squares: str | None = None


UNKNOWN = Kind("unknown", "")
_OPTAX = {
    "TraceState": Kind("sum", "trace"),
    "EmaState": Kind("average", "ema"),
    "ScaleByAdamState": Kind("adam", "mu", "nu"),
    "ScaleByLionState": Kind("lion", "mu"),
}
_MOMENTAX = {
    "LinearState": Kind("sum", "velocity"),
    "ShiftedState": Kind("sum", "velocity"),
    "AverageState": Kind("average", "velocity"),
    "QuasiHyperbolicAdamState": Kind("adam", "velocity", "squares"),
    "NadamState": Kind("adam", "velocity", "squares"),
    "LionState": Kind("lion", "velocity"),
}
# The recurrences of momentax in which one of Optax continues, besides the equal one. The state of
# `optax.ema` does not say whether it debiases. `average(debias=False)` has the state of a sum.
_ALSO_IN = {"average": "sum"}
# What to write on the other side, by the recurrence.
_IN_OPTAX = {
    "sum": "optax.trace, optax.sgd or, from average(debias=False), optax.ema(debias=False)",
    "average": "optax.ema",
    "adam": "optax.adam or optax.nadam",
    "lion": "optax.lion",
}
_IN_MOMENTAX = {
    "sum": "momentax.heavy_ball or nesterov",
    "average": "momentax.average, with the same debias",
    "adam": "momentax.quasi_hyperbolic_adam with nu1=1 and nu2=1, or nadam",
    "lion": "momentax.lion",
}


class Place(NamedTuple):
    """A velocity in a state.

    path: the path of the velocity.
    node: the state that keeps it, decoded.
    kind: what the class of that state keeps; `UNKNOWN` has no counterpart.
    """

    path: str
    node: Any
    kind: Kind


def places_of(state: PyTree) -> list[Place]:
    """Return every velocity in a state, without those of branches without parameters."""
    places = []
    for path, velocity in _velocity.velocities(state).items():
        if jax.tree.leaves(velocity):
            node = _velocity.velocity_node(state, path)
            name = type(node).__name__
            table = _OPTAX if _velocity.is_optax_state(node, name) else _MOMENTAX
            places.append(Place(path, node, table.get(name, UNKNOWN)))
    return places


class Side(NamedTuple):
    """One of the two states between which a velocity moves.

    argument: what messages call the state.
    places: its velocities.
    """

    argument: str
    places: list[Place]

    @classmethod
    def of(cls, argument: str, state: PyTree, *, of_optax: bool) -> Side:
        """Return the velocities of a state, checked to be of the library that it must be of."""
        if isinstance(state, optax.GradientTransformation):
            raise TypeError(
                f"{argument} must be a state, got a gradient transformation; give what its init "
                "or its update returned"
            )
        places = places_of(state)
        if not places:
            owner = "Optax" if of_optax else "momentax"
            raise ValueError(
                f"{argument} must hold a state of {owner} that keeps a velocity, got "
                f"{arguments.describe(state) if jax.tree.leaves(state) else 'one without arrays'}"
            )
        for place in places:
            if place.kind is UNKNOWN or _is_of_optax(place) != of_optax:
                raise ValueError(_refusal(argument, place, of_optax))
        return cls(argument, places)


def _is_of_optax(place: Place) -> bool:
    return _velocity.is_optax_state(place.node, type(place.node).__name__)


def _refusal(argument: str, place: Place, of_optax: bool) -> str:
    """Say why the state of a place cannot be moved, and which ones can."""
    table, owner = (_OPTAX, "optax") if of_optax else (_MOMENTAX, "momentax.states")
    known = ", ".join(f"{owner}.{name}" for name in table)
    return (
        f"{argument} keeps its velocity at {place.path} in the class "
        f"{public_name(type(place.node))}, which has no counterpart; those of {known} have one. To "
        "move the velocity alone, use momentax.velocity and momentax.replace_velocity"
    )


def pairs_of(source: Side, target: Side) -> list[tuple[Place, Place]]:
    """Return the velocities of two states in their order, checked to be of the same recurrences."""
    if len(source.places) != len(target.places):
        there, here = (", ".join(place.path for place in side.places) for side in (source, target))
        raise ValueError(
            f"{source.argument} must hold as many velocities as {target.argument}, got "
            f"{len(source.places)} at {there} for {len(target.places)} at {here}"
        )
    pairs = list(zip(source.places, target.places, strict=True))
    for old, new in pairs:
        theirs, ours = (old, new) if _is_of_optax(old) else (new, old)
        recurrence = theirs.kind.recurrence
        if ours.kind.recurrence not in (recurrence, _ALSO_IN.get(recurrence)):
            options = _IN_MOMENTAX if theirs is old else _IN_OPTAX
            raise ValueError(
                f"{source.argument} keeps at {old.path} the state of another recurrence than "
                f"{target.argument} at {new.path}: {public_name(type(old.node))} continues in "
                f"{options[old.kind.recurrence]}, not in {public_name(type(new.node))}"
            )
    return pairs
