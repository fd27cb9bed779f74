"""The state of Keras's SGD: its variables in and out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.conventions._arrays import as_numpy
from momentax.conventions._mapping import Counterpart
from momentax.conventions._transfer import (
    Units,
    counts_of,
    fill_velocity,
    read_velocity,
    require_distinct_keys,
)


class _Roles(NamedTuple):
    """The positions among the variables of a Keras SGD of what they hold.

    iteration: the position of the iteration, or None.
    velocities: the positions of the velocities by name, and by number.
    """

    iteration: int | None
    velocities: dict[str | int, list[int]]


def _find_roles(variables: Sequence[Any]) -> _Roles:
    """Find the iteration and the velocities among the variables of a Keras SGD."""
    if not isinstance(variables, Sequence) or not all(hasattr(v, "assign") for v in variables):
        raise TypeError(
            "variables must be optimizer.variables of a keras.optimizers.SGD, got "
            f"{arguments.describe(variables)}"
        )
    if not variables:
        raise ValueError(
            "variables is empty: pass optimizer.variables of a keras.optimizers.SGD, which "
            "holds at least the iteration and the learning rate"
        )
    iteration, velocities, squares = None, {}, []
    for position, variable in enumerate(variables):
        name = (getattr(variable, "path", None) or variable.name).rpartition("/")[2]
        if name == "iteration":
            if iteration is not None:
                raise ValueError(
                    "variables has several iterations: pass the variables of one optimizer"
                )
            iteration = position
        elif name.endswith("_momentum"):
            number = sum(isinstance(key, int) for key in velocities)
            velocities.setdefault(name, []).append(position)
            velocities[number] = [position]
        elif name.endswith("_velocity"):
            squares.append(name)
        elif name != "learning_rate":
            raise TypeError(
                f"the variables include {name!r}; those of a plain keras.optimizers.SGD are the "
                "iteration, the learning rate and the velocities"
            )
    return _Roles(iteration, _without_adam(velocities, squares))


def _without_adam(
    velocities: dict[str | int, list[int]], squares: list[str]
) -> dict[str | int, list[int]]:
    """Return the velocities of a Keras Muon that are no moments of its AdamW.

    Muon keeps a variable "..._velocity", the second moment, beside each first moment of its AdamW.
    """
    if not squares:
        return velocities
    moments = {name.removesuffix("velocity") + "momentum" for name in squares}
    positions = {place for name in moments for place in velocities.get(name, [])}
    kept = {name: places for name, places in velocities.items() if not positions & set(places)}
    if not kept:
        raise TypeError(
            f"the variables include {squares[0]!r} for each velocity, so that they are those of an "
            "Adam; those of a plain keras.optimizers.SGD or of the matrices of a Muon are needed"
        )
    return kept


def _find_position(roles: _Roles, entry: Counterpart, where: str) -> int | None:
    """Return the position of a counterpart's velocity, or None if there is no momentum."""
    name = entry.name
    if not roles.velocities:
        return None
    if isinstance(name, str):  # Keras calls the velocity of dense/kernel dense_kernel_momentum.
        name = name.replace("/", "_") + "_momentum"
    positions = roles.velocities.get(name, [])
    if len(positions) != 1:
        known = ", ".join(repr(key) for key in roles.velocities if isinstance(key, str)) or "none"
        problem = "occurs several times" if positions else "does not occur"
        raise ValueError(
            f"{where}, which Keras calls {name!r}, {problem} among the variables; the velocities "
            f"are {known}, numbered from 0"
        )
    return positions[0]


def import_keras_state(
    variables: Sequence[Any],
    params: PyTree,
    mapping: PyTree,
    *,
    state: PyTree,
    scale: float = 1.0,
    path: str | None = None,
) -> PyTree:
    """Fill a velocity from the variables of a `keras.optimizers.SGD` or `Muon`.

        v = c m, or 0 if Keras has no velocity m, as without momentum

    Keras's velocity is in units of the parameters, and its iteration becomes
    the count. c depends on what the velocity in JAX accumulates:

    - steps, as in `from_keras` and with `velocity_units="parameter"`: c = 1
    - gradients, as in `momentax.sgd` and `optax.sgd`: c = -1 / learning rate of
      the last step made

    The velocity of Muon is a sum of gradients, and that of `momentax.muon` an average: c = 1 -
    momentum, and path=".hidden[0].inner_state.velocity". The moments of Muon's AdamW are not moved.

    Args:
        variables: `optimizer.variables`: the iteration, the learning rate and,
            with momentum, the velocities.
        params: The parameters in JAX, whose leaves the mapping names.
        mapping: For each leaf its `variable.path` in the Keras model, its number
            in the optimizer or a `Counterpart`, as in `import_torch_state`.
        state: The state to fill, as in `import_torch_state`.
        scale: c, other than 0.
        path: The path of the velocity, as in `import_torch_state`.

    Returns:
        The state with the new velocity and the new counts; otherwise unchanged.

    Raises:
        ValueError: A leaf has no counterpart, Keras has none or several of that
            name or none of that shape, a velocity belongs to no leaf, or the
            state's velocity is not a sum of gradients.
        TypeError: The variables are not those of an SGD, or a velocity has a
            dtype that the state's cannot represent without loss.

    Example:
        >>> from types import SimpleNamespace as Variable  # Stands for keras.Variable.
        >>> velocity = Variable(path="sgd/w_momentum", value=-0.1 * grads["w"], assign=None)
        >>> new = momentax.conventions.from_keras(0.1, momentum=0.9).init(params)
        >>> state = momentax.conventions.import_keras_state(
        ...     [velocity], params, {"w": "w"}, state=new
        ... )
    """
    roles = _find_roles(variables)
    positions = sorted({place for found in roles.velocities.values() for place in found})
    iteration = roles.iteration
    return fill_velocity(
        *(state, params, mapping),
        partial(_find_position, roles),
        {position: variables[position] for position in positions},
        units=Units.check(scale, conjugate=False),
        count=None if iteration is None else int(as_numpy(variables[iteration])),
        path=path,
    )


def export_keras_state(
    state: PyTree,
    variables: Sequence[Any],
    mapping: PyTree,
    *,
    count: int | None = None,
    scale: float = 1.0,
    path: str | None = None,
) -> list[np.ndarray]:
    """List the values with which a `keras.optimizers.SGD` or `Muon` continues from a velocity.

        m = v / c

    Args:
        state: The state, with one velocity that sums steps or gradients.
        variables: `optimizer.variables` of the optimizer that will continue,
            built for its model.
        mapping: As in `import_keras_state`.
        count: The iteration to continue from, at least 0. None is the count of
            the state.
        scale: c, as in `import_keras_state`.
        path: The path of the velocity, as in `import_torch_state`.

    Returns:
        One array for each variable, in their order, for `variable.assign`; the
        learning rate is unchanged.

    Raises:
        ValueError: As `import_keras_state`; or count is None, and the state has
            no count or several different ones.
        TypeError: As `import_keras_state`.

    Example:
        >>> from types import SimpleNamespace as Variable  # Stands for keras.Variable.
        >>> velocity = Variable(path="sgd/w_momentum", value=np.zeros(3), assign=None)
        >>> state = momentax.conventions.from_keras(0.1, momentum=0.9).init(params)
        >>> momentax.conventions.export_keras_state(state, [velocity], {"w": "w"})
        [array([0., 0., 0.], dtype=float32)]
    """
    if count is not None:
        count = arguments.as_count("count", count, least=0)
    roles = _find_roles(variables)
    values = [np.array(as_numpy(variable)) for variable in variables]
    units = Units.check(scale, conjugate=False)
    buffers = read_velocity(state, mapping, units=units, path=path) if roles.velocities else {}
    positions = {
        name: _find_position(roles, Counterpart(name), f"the velocity of {name!r}")
        for name in buffers
    }
    require_distinct_keys({repr(name): position for name, position in positions.items()})
    for name, array in buffers.items():
        position = positions[name]
        if position is None or array is None:
            continue
        if array.shape != (shape := values[position].shape):
            raise ValueError(
                f"the velocity of {name!r} has shape {array.shape}, and Keras's has shape {shape}"
            )
        values[position] = array
    if roles.iteration is not None:
        counts = counts_of(state) if count is None else [count]
        if len(counts) != 1:
            raise ValueError(
                f"the state has the counts {counts}; pass the number of steps made as count"
            )
        values[roles.iteration] = np.asarray(counts[0], values[roles.iteration].dtype)
    return values
