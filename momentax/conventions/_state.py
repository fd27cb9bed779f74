"""The velocity handed over from PyTorch and Keras, and back."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments, arithmetic, hyperparameters
from momentax._core.typing import PyTree, Scalar
from momentax._state import _velocity
from momentax._state._replace import replace_velocity
from momentax.conventions._mapping import (
    Counterpart,
    counterparts,
    fit,
    leaves,
    masked,
    name_of,
    placed,
    shown,
    to_numpy,
    written,
)
from momentax.conventions._torch import DampedState, from_torch

# The states whose velocity is a sum of gradients, as SGD's buffers are. An average, or Adam's
# first moment, is none: what debiases or divides it would have to be handed over too.
_SUMS = {"LinearState", "ShiftedState", "DampedState", "TraceState"}


def _held(state: PyTree, path: str | None) -> dict[str, PyTree]:
    """The velocities to hand over, sums of gradients all, by their places.

    Branches of a partition share the parameters between them, so they go together.
    """
    found = {place: v for place, v in _velocity.velocities(state).items() if jax.tree.leaves(v)}
    names = [name for velocity in found.values() for name in leaves(velocity)]
    if path is not None or not found or len(names) > len(set(names)):
        found = dict([_velocity.find_velocity(state, path)])
    for place in found:
        if (kind := type(_velocity.velocity_node(state, place)).__name__) not in _SUMS:
            raise ValueError(
                f"the velocity at {place} is kept in {kind}, which is not the sum of gradients "
                "that SGD keeps; put it there in its own units with momentax.replace_velocity"
            )
    return found


def _fill(
    state: PyTree,
    params: PyTree,
    mapping: PyTree,
    key_of: Callable[[Counterpart, str], Any],
    buffers: Mapping[Any, Any],
    *,
    scale: Any,
    conjugate: bool | None,
    count: int | None,
    path: str | None,
) -> PyTree:
    """The state with each velocity scale × its buffer, or zero where there is none."""
    scale = _scale(scale)
    found = _held(state, path)
    given = counterparts(mapping, leaves(params))
    names = [name for velocity in found.values() for name in leaves(velocity)]
    if extra := sorted(set(names) - given.keys()):
        raise ValueError(
            f"the velocity at {shown(extra[0])} belongs to none of the params; pass those that "
            "the state was made for"
        )
    where = {name: _where(given[name], name) for name in names}
    keys = {name: key_of(given[name], where[name]) for name in names}
    lost = [key for key in buffers if key not in keys.values()]
    if lost and path is None:
        raise ValueError(
            f"the velocity of {lost[0]!r} belongs to no leaf: the mapping omits it, or the state "
            "keeps no velocity there; to fill one velocity of several, give its path"
        )

    def read(at: Any, old: Any) -> Any:
        name = name_of(at)
        if keys[name] not in buffers:
            return jnp.zeros_like(old)
        array = fit(buffers[keys[name]], given[name], old, where[name])
        return placed(scale * _conjugated(array, conjugate, where[name]), old)

    def begin(at: Any, old: Any) -> Any:
        return jnp.asarray(keys[name_of(at)] in buffers, old.dtype)

    def put(node: Any, field: str) -> Any:
        if isinstance(node, DampedState):
            started = jax.tree_util.tree_map_with_path(begin, node.started)
            node = node._replace(started=started)
        velocity = jax.tree_util.tree_map_with_path(read, getattr(node, field))
        return node._replace(**{field: velocity})

    for place in found:
        state = _velocity.map_node(state, place, put)
    return state if count is None else _counted(state, arguments.as_count("count", count, least=0))


def _where(counterpart: Counterpart, name: str) -> str:
    return f"the velocity of {counterpart.name!r} for the parameter at {shown(name)}"


def _scale(value: Any) -> float:
    scale = arguments.as_real("scale", value, "(-inf, inf)")
    if scale == 0:
        raise ValueError("scale must not be 0: the velocity could not be handed back")
    return scale


def _conjugated(array: np.ndarray, conjugate: bool | None, where: str) -> np.ndarray:
    if not np.iscomplexobj(array):
        return array
    if conjugate is None:
        raise ValueError(
            f"{where} is complex, and JAX's gradients are the conjugates of PyTorch's: pass "
            "conjugate=False if the gradients are conjugated before they reach the velocity, "
            "True if jax.grad's are accumulated as they are"
        )
    return array.conj() if arguments.as_flag("conjugate", conjugate) else array


def _is_count(path: Any, leaf: Any) -> bool:
    """Whether a leaf is the field `count` of some state; Flax's variables wrap it once more."""
    key = path[:-1] if path and getattr(path[-1], "name", None) == "value" else path
    named = bool(key) and getattr(key[-1], "name", None) == "count"
    return named and leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)


def _counted(state: PyTree, count: int) -> PyTree:
    """The state as it is after count steps, for every schedule in it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(count, leaf.dtype) if _is_count(path, leaf) else leaf, state
    )


def _counts(state: PyTree) -> list[int]:
    found = jax.tree_util.tree_leaves_with_path(state)
    return sorted({int(leaf) for path, leaf in found if _is_count(path, leaf)})


def _buffers(
    state: PyTree, mapping: PyTree, *, scale: Any, conjugate: bool | None, path: str | None
) -> dict[str | int, np.ndarray | None]:
    """What the other framework keeps for each velocity, by its counterpart's name.

    None is a velocity that PyTorch would not hold yet.
    """
    scale = _scale(scale)
    found = _held(state, path)
    names = {name: leaf for velocity in found.values() for name, leaf in leaves(velocity).items()}
    elsewhere = tuple(name for velocity in found.values() for name in masked(velocity))
    given = counterparts(mapping, names, elsewhere=elsewhere)
    out: dict[str | int, np.ndarray | None] = {}
    for place, velocity in found.items():
        node = _velocity.velocity_node(state, place)
        started = leaves(node.started) if isinstance(node, DampedState) else {}
        for name, leaf in leaves(velocity).items():
            entry, where = given[name], _where(given[name], name)
            array = _conjugated(written(leaf, entry, where), conjugate, where) / scale
            out[entry.name] = array if started.get(name, True) else None
    return out


def _torch_ids(state_dict: Any, names: Iterable[str] | None) -> dict[str | int, Any]:
    """What a mapping may call each parameter of a torch optimizer, to its key in the state."""
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        raise TypeError(
            "state_dict must be what optimizer.state_dict() of a torch.optim.SGD returns, got "
            f"{type(state_dict).__name__}"
        )
    groups = state_dict["param_groups"]
    ids = [key for group in groups for key in group["params"]]
    if names is None:
        names = [name for group in groups for name in group.get("param_names", ())]
    elif len(names := list(names)) != len(ids):
        raise ValueError(f"names has {len(names)} names, and the optimizer {len(ids)} parameters")
    return dict(zip(names, ids, strict=False)) | dict(zip(ids, ids, strict=True))


def _torch_key(ids: dict[str | int, Any], entry: Counterpart, where: str) -> Any:
    if entry.name in ids:
        return ids[entry.name]
    if isinstance(entry.name, str) and all(isinstance(name, int) for name in ids):
        raise ValueError(
            f"{where} is not to be found: the state dict numbers its parameters; pass names, in "
            "the order that the optimizer got them: of one param group "
            "[name for name, _ in model.named_parameters()]"
        )
    raise ValueError(f"{where} is not in the optimizer, which has {', '.join(map(repr, ids))}")


def import_torch_state(
    state_dict: Mapping[str, Any],
    params: PyTree,
    mapping: PyTree,
    *,
    state: PyTree | None = None,
    names: Iterable[str] | None = None,
    count: int | None = None,
    scale: float = 1.0,
    conjugate: bool | None = None,
    path: str | None = None,
) -> PyTree:
    """Continue from the momentum buffers of a `torch.optim.SGD`.

        v = c b, or 0 where PyTorch has no buffer b

    PyTorch makes a buffer at a parameter's first gradient, so one that is
    missing means that the next step is the first. What the velocity
    accumulates gives c:

    - gradients, as in `from_torch`, `momentax.sgd` and `optax.sgd`: 1
    - steps, as with `velocity_units="parameter"`: -lr, of the last step made;
      where the next has another, `rescale_velocity` follows
    - gradients, where b is dampened by τ: 1 / (1 - τ), and the learning rate is
      lr (1 - τ) from now on
    - gradients times a gain, such as 1 - β in `quasi_hyperbolic`: the gain

    Parameters go with `import_params` and the same mapping.

    Args:
        state_dict: `optimizer.state_dict()`; its values are tensors or arrays.
        params: The parameters in JAX, which say what the leaves are.
        mapping: Each leaf's name in PyTorch, its number in the optimizer or a
            `Counterpart`: a pytree like params, or a dict from paths as
            `velocity_norms` writes them.
        state: The state to fill, with one velocity that sums gradients, at any
            depth: of momentax, `optax.trace` or `optax.sgd`, inside `chain`,
            `masked`, `inject_hyperparams`, `nnx.Optimizer` and so on, or with
            one for each branch of a `partition`. None is a new one of
            `from_torch(**param_group)`.
        names: The parameters' names in the order that the optimizer got them,
            one group after the other, where the state dict does not hold them
            itself: of one group `[name for name, _ in model.named_parameters()]`.
        count: The steps made so far, at least 0, which schedules go on from;
            PyTorch's SGD keeps none. None leaves every count as it is.
        scale: c, other than 0.
        conjugate: For complex parameters, whether the pipeline accumulates the
            gradients of `jax.grad` as they are; those are the conjugates of
            PyTorch's. False if they are conjugated first.
        path: Which velocity alone, as in `velocity`; the buffers of others are
            passed over. None is the only one, or in a `partition` all of them.

    Returns:
        The state with its velocity, its counts and, of `from_torch` with
        dampening, which parameters have had a gradient; else as it was.

    Raises:
        ValueError: A leaf has no counterpart, PyTorch has none of that name or
            not of its shape, a buffer belongs to no leaf, several param groups
            and no state, or a velocity that is no sum of gradients. Messages
            name the leaf and PyTorch's parameter.
        TypeError: state_dict is none of an SGD, or a dtype does not fit or is
            wider than the velocity's.

    Source:
        The conversions are exact: torch.optim.SGD of PyTorch 2.13.
    """
    ids = _torch_ids(state_dict, names)
    buffers = {}
    for key, held in state_dict["state"].items():
        if foreign := sorted(set(held) - {"momentum_buffer"}):
            raise TypeError(f"the state dict holds {foreign[0]!r}: it is not of torch.optim.SGD")
        if key not in ids:
            raise ValueError(f"the state dict holds a buffer for {key!r}, which is in no group")
        if (buffer := held.get("momentum_buffer")) is not None:
            buffers[key] = buffer
    if state is None:
        first, *others = state_dict["param_groups"]
        if others:
            raise ValueError(
                f"the state dict has {1 + len(others)} param groups: give each its "
                "from_torch(**group) in an optax.partition, and pass its state"
            )
        state = from_torch(**first).init(params)
    return _fill(
        *(state, params, mapping),
        functools.partial(_torch_key, ids),
        buffers,
        scale=scale,
        conjugate=conjugate,
        count=count,
        path=path,
    )


def export_torch_state(
    state: PyTree,
    state_dict: Mapping[str, Any],
    mapping: PyTree,
    *,
    tensor: Callable[[np.ndarray], Any] | None = None,
    names: Iterable[str] | None = None,
    scale: float = 1.0,
    conjugate: bool | None = None,
    path: str | None = None,
) -> dict[str, Any]:
    """Make the state dict with which a `torch.optim.SGD` continues from a velocity.

        b = v / c

    Args:
        state: The state, with one velocity that sums gradients.
        state_dict: `optimizer.state_dict()` of the optimizer that shall continue,
            which gives the param groups; its buffers are not read.
        mapping: As in `import_torch_state`.
        tensor: What makes a tensor of a NumPy array. None is `torch.from_numpy`.
        names: As in `import_torch_state`.
        scale: c, as in `import_torch_state`.
        conjugate: As in `import_torch_state`.
        path: Which velocity, as in `import_torch_state`.

    Returns:
        A dict for `optimizer.load_state_dict`: the buffers, each an array of its
        own, which PyTorch goes on writing to, and the param groups as they were
        given. A parameter that has had no gradient under `from_torch` with
        dampening has no buffer.

    Raises:
        ValueError: As `import_torch_state`.
        TypeError: As `import_torch_state`.
    """
    ids = _torch_ids(state_dict, names)
    made = tensor or importlib.import_module("torch").from_numpy
    buffers = _buffers(state, mapping, scale=scale, conjugate=conjugate, path=path)
    return {
        "state": {
            _torch_key(ids, Counterpart(name), repr(name)): {"momentum_buffer": made(array)}
            for name, array in buffers.items()
            if array is not None
        },
        "param_groups": [dict(group) for group in state_dict["param_groups"]],
    }


def _keras_roles(variables: Sequence[Any]) -> tuple[int | None, dict[str | int, list[int]]]:
    """Where the iteration stands among a Keras SGD's variables, and where each velocity."""
    if not isinstance(variables, Sequence) or not all(hasattr(v, "assign") for v in variables):
        raise TypeError(
            "variables must be optimizer.variables of a keras.optimizers.SGD, got "
            f"{arguments.describe(variables)}"
        )
    iteration, velocities = None, {}
    for place, variable in enumerate(variables):
        name = getattr(variable, "path", variable.name).rpartition("/")[2]
        if name == "iteration":
            iteration = place
        elif name.endswith("_momentum"):
            number = sum(isinstance(key, int) for key in velocities)
            velocities.setdefault(name, []).append(place)
            velocities[number] = [place]
        elif name != "learning_rate":
            raise TypeError(
                f"the variables hold {name!r}, and a plain keras.optimizers.SGD keeps none beside "
                "the iteration, the learning rate and velocities"
            )
    return iteration, velocities


def _keras_place(roles: dict[str | int, list[int]], entry: Counterpart, where: str) -> int | None:
    name = entry.name
    if not roles:  # Without momentum.
        return None
    if isinstance(name, str):  # Keras calls the velocity of dense/kernel dense_kernel_momentum.
        name = name.replace("/", "_") + "_momentum"
    places = roles.get(name, [])
    if len(places) != 1:
        known = ", ".join(repr(key) for key in roles if isinstance(key, str)) or "none"
        wrong = "is there several times" if places else "is not there"
        raise ValueError(f"{where}, for Keras {name!r}, {wrong}; it has {known}, numbered from 0")
    return places[0]


def import_keras_state(
    variables: Sequence[Any],
    params: PyTree,
    mapping: PyTree,
    *,
    state: PyTree,
    scale: float = 1.0,
    path: str | None = None,
) -> PyTree:
    """Continue from the variables of a `keras.optimizers.SGD`.

        v = c m, or 0 where Keras keeps no velocity m at all

    Keras's velocity is in units of the parameters, and its iteration becomes
    the count. What the velocity in JAX accumulates gives c:

    - steps, as in `from_keras` and with `velocity_units="parameter"`: 1
    - gradients, as in `momentax.sgd` and `optax.sgd`: -1 / learning rate, of the
      last step made

    Args:
        variables: `optimizer.variables`: the iteration, the learning rate and,
            with momentum, the velocities.
        params: The parameters in JAX, which say what the leaves are.
        mapping: Each leaf's `variable.path` in the Keras model, its number in
            the optimizer or a `Counterpart`, as in `import_torch_state`.
        state: The state to fill, as in `import_torch_state`.
        scale: c, other than 0.
        path: Which velocity, as in `import_torch_state`.

    Returns:
        The state with its velocity and its counts; else as it was.

    Raises:
        ValueError: A leaf has no counterpart, Keras has none or several of that
            name or not of its shape, a velocity belongs to no leaf, or the
            state's is no sum of gradients.
        TypeError: The variables are none of an SGD, or a dtype does not fit or
            is wider than the velocity's.
    """
    iteration, roles = _keras_roles(variables)
    places = {place for found in roles.values() for place in found}
    return _fill(
        *(state, params, mapping),
        functools.partial(_keras_place, roles),
        {place: variables[place] for place in sorted(places)},
        scale=scale,
        conjugate=False,
        count=None if iteration is None else int(to_numpy(variables[iteration])),
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
    """List the values with which a `keras.optimizers.SGD` continues from a velocity.

        m = v / c

    Args:
        state: The state, with one velocity that sums steps, or gradients.
        variables: `optimizer.variables` of the optimizer that shall continue,
            built for its model.
        mapping: As in `import_keras_state`.
        count: The iteration to continue from, at least 0. None is the state's
            own count.
        scale: c, as in `import_keras_state`.
        path: Which velocity, as in `import_torch_state`.

    Returns:
        One array for each variable, in their order, for `variable.assign`; the
        learning rate is the variable's own.

    Raises:
        ValueError: As `import_keras_state`; or count is None, and the state has
            none or several that differ.
        TypeError: As `import_keras_state`.
    """
    iteration, roles = _keras_roles(variables)
    values = [np.array(to_numpy(variable)) for variable in variables]
    buffers = _buffers(state, mapping, scale=scale, conjugate=False, path=path) if roles else {}
    for name, array in buffers.items():
        place = _keras_place(roles, Counterpart(name), f"the velocity of {name!r}")
        if place is None or array is None:
            continue
        if array.shape != (shape := values[place].shape):
            raise ValueError(f"the velocity of {name!r} has shape {array.shape}, Keras's {shape}")
        values[place] = array
    if iteration is not None:
        counts = _counts(state) if count is None else [arguments.as_count("count", count, least=0)]
        if len(counts) != 1:
            raise ValueError(f"the state holds the counts {counts}: pass count=, the steps made")
        values[iteration] = np.asarray(counts[0], values[iteration].dtype)
    return values


def rescale_velocity(
    state: PyTree,
    old_learning_rate: Scalar,
    new_learning_rate: Scalar,
    *,
    velocity_units: str = "parameter",
    path: str | None = None,
) -> PyTree:
    """Correct the velocity for a change of the learning rate.

        v ← v α_new / α_old    in parameter units
        v ← v α_old / α_new    in gradient units

    Call it between the last step at α_old and the first at α_new. A velocity in
    parameter units then steps on as if it were in gradient units (the momentum
    correction of Goyal et al.): what it holds is repriced at α_new. One in
    gradient units steps on as if it were in parameter units: what it holds keeps
    α_old. Without it, either goes its own way.

    Args:
        state: An optimizer state with one velocity, or a pytree that holds one.
        old_learning_rate: α_old in (0, inf), of the last step made.
        new_learning_rate: α_new in (0, inf), of the next step; in parameter units
            it may be 0.
        velocity_units: "parameter" or "gradient", what the velocity accumulates.
        path: Which velocity, as in `velocity`.

    Returns:
        The state with its velocity rescaled, in its own dtypes.

    Raises:
        ValueError: A concrete learning rate lies outside its interval: at an
            α_old of 0 a velocity of steps has kept nothing of those gradients,
            at an α_new of 0 no velocity of gradients moves on as one of steps
            does. Or as `velocity`.
        TypeError: A learning rate is no number.

    Source:
        Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1
        hour, 2017, arXiv:1706.02677.
    """
    arguments.as_option("velocity_units", velocity_units, ("parameter", "gradient"))
    in_parameters = velocity_units == "parameter"
    old = _rate("old_learning_rate", old_learning_rate, "(0, inf)")
    new = _rate("new_learning_rate", new_learning_rate, "[0, inf)" if in_parameters else "(0, inf)")
    factor = new / old if in_parameters else old / new
    velocity = _velocity.velocity(state, path=path)
    velocity = arithmetic.combine((factor, velocity), like=velocity)
    return replace_velocity(state, velocity, path=path)


def _rate(name: str, value: Any, interval: str) -> Any:
    """A learning rate that is no schedule; a concrete 0 is refused in a JAX array too."""
    if callable(value):
        raise TypeError(f"{name} must be a number or a 0-d array, got {value!r}")
    if isinstance(value, jax.Array) and not arguments.is_traced(value):
        value = np.asarray(value)
    return hyperparameters.as_schedule(name, value, interval)(0)
