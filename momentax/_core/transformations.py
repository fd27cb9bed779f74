"""How the transformations of momentax are made, and the one check of the states that they get."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from momentax._core.arguments import describe
from momentax._core.typing import Schedule


class Method(optax.GradientTransformationExtraArgs):
    """A method of momentax. Its directions follow the gradient, so that `sgd` can negate them."""


class Observed(optax.GradientTransformationExtraArgs):
    """A transformation whose updates are those of another one.

    observed: the other transformation.
    adopt: from parameters and a state of `observed` to a state of this transformation.
    """

    observed: optax.GradientTransformationExtraArgs
    adopt: Callable[[Any, Any], Any]


def transformation(
    init: Callable[..., Any],
    update: Callable[..., Any],
    *states: type,
    reads: Mapping[str, Schedule] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Return a transformation whose `update` refuses every state but those of its own classes.

    The class of a state says what its fields are. Two methods may share a class only if they
    are one recurrence with other hyperparameters, which may change between two updates. `reads`
    tells `momentax.hyperparameters` which schedules of the count the update reads, by their
    names there.
    """

    @functools.wraps(update)
    def checked(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        require_state(state, *states)
        return update(updates, state, params, **extra_args)

    vars(checked).update(reads=dict(reads or {}), states=states)
    return optax.GradientTransformationExtraArgs(init, checked)


def method(
    init: Callable[..., Any],
    update: Callable[..., Any],
    *states: type,
    beta: Schedule | None = None,
) -> Method:
    """Return a method whose `update` refuses every state but those of its own classes.

    `beta` is the share of the velocity that an update keeps, if it is one function of the count.
    """
    reads = {} if beta is None else {"beta": beta}
    return Method(*transformation(init, update, *states, reads=reads))


def require_state(state: Any, *states: type) -> None:
    """Refuse a state that is of none of some classes."""
    # A subclass keeps something else in the same fields, so that it is refused as well.
    if type(state) not in states:
        needed = " or ".join(map(public_name, states))
        raise TypeError(f"state must be of the class {needed}, got {describe_state(state)}")


def public_name(kind: type) -> str:
    """Return the name of a class of states as a user writes it."""
    library = kind.__module__.partition(".")[0]
    return {"momentax": "momentax.states.", "optax": "optax."}.get(library, "") + kind.__name__


def describe_state(state: Any) -> str:
    """Describe what was given as a state, and say what to give instead."""
    if isinstance(state, optax.GradientTransformation):
        return "a gradient transformation; give its state, tx.init(params)"
    given = name_state(state)
    if hasattr(type(state), "_fields"):
        return (
            f"{given}, the state of another transformation; start with tx.init(params), and give "
            "it a velocity in the same units with momentax.replace_velocity"
        )
    given = f"{given}; give what tx.init(params) or tx.update returned"
    if isinstance(state, tuple | list | dict):
        given += (
            ". If a checkpoint has lost the classes of a state, restore it with tx.init(params) "
            "as its target"
        )
    return given


def name_state(state: Any) -> str:
    """Say of which class a state is, without its arrays."""
    kind = type(state)
    if hasattr(kind, "_fields"):
        return f"one of the class {public_name(kind)}"
    if isinstance(state, tuple | list | dict):
        return f"a {kind.__name__} of {len(state)}"
    return describe(state)
