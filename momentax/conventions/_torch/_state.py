"""The state of PyTorch's SGD: its momentum buffers in and out."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from momentax._core.arguments import as_items, describe, require_function
from momentax._core.typing import PyTree
from momentax.conventions._mapping import Counterpart
from momentax.conventions._torch._muon import from_torch_muon
from momentax.conventions._torch._optimizer import from_torch
from momentax.conventions._transfer import (
    Units,
    fill_velocity,
    read_velocity,
    require_distinct_keys,
)


def _param_groups(state_dict: Any) -> list[Mapping[str, Any]]:
    """Return the param groups of a state dict, checked to list their parameters."""
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        raise TypeError(
            "state_dict must be what optimizer.state_dict() of a torch.optim.SGD returns, got "
            f"a value of type {type(state_dict).__name__}"
        )
    groups = state_dict["param_groups"]
    if not isinstance(groups, list | tuple) or not groups:
        raise ValueError(
            "state_dict['param_groups'] must be a list of at least one param group, as "
            f"optimizer.state_dict() returns it, got {describe(groups)}"
        )
    for i, group in enumerate(groups):
        keys = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(keys, list | tuple) or not all(map(_is_key, keys)):
            raise ValueError(
                f"state_dict['param_groups'][{i}] must have a list 'params' of the numbers or "
                "names of its parameters, as optimizer.state_dict() returns it, got "
                f"{describe(keys)}"
            )
    return list(groups)


def _is_key(key: Any) -> bool:
    return isinstance(key, int | np.integer | str) and not isinstance(key, bool)


def _parameter_ids(state_dict: Any, names: Iterable[str] | None) -> dict[str | int, Any]:
    """Map each name and number of a parameter to its key in the state of the optimizer."""
    groups = _param_groups(state_dict)
    keys = [key for group in groups for key in group["params"]]
    ids: dict[str | int, Any] = {}
    for key in keys:
        if key in ids:
            raise ValueError(f"the parameter {key!r} occurs twice in state_dict['param_groups']")
        ids[key] = key
    for i, group in enumerate(groups):
        if (given := group.get("param_names")) is not None:
            where = f"state_dict['param_groups'][{i}]['param_names']"
            _add_names(ids, given, group["params"], where, "the group")
    if names is not None:
        _add_names(ids, names, keys, "names", "the optimizer")
    return ids


def _add_names(
    ids: dict[str | int, Any], names: Any, keys: Sequence[Any], where: str, owner: str
) -> None:
    """Add the names of parameters to `ids`, in the order of the parameters' keys."""
    names = as_items(where, names, "a name for each parameter")
    if len(names) != len(keys):
        raise ValueError(
            f"{where} has {len(names)} names, and {owner} has {len(keys)} parameters: give one "
            "name for each, in their order"
        )
    for name, key in zip(names, keys, strict=True):
        if not isinstance(name, str):
            raise TypeError(f"{where} must hold names, got {describe(name)}")
        if (other := ids.setdefault(name, key)) != key:
            raise ValueError(
                f"{where} gives the name {name!r} to the parameter {key!r}, which is already the "
                f"name of the parameter {other!r}: each name must belong to one parameter"
            )


def _find_key(ids: dict[str | int, Any], entry: Counterpart, where: str) -> Any:
    """Return the key of a counterpart in the state of the optimizer."""
    if entry.name in ids:
        return ids[entry.name]
    known = ", ".join(map(repr, ids)) or "no parameters"
    named = {key for name, key in ids.items() if isinstance(name, str)}
    if isinstance(entry.name, str) and named != set(ids.values()):
        raise ValueError(
            f"{where} cannot be found, because the state dict numbers its parameters and names "
            f"{'some' if named else 'none'} of them; it has {known}; pass names in the order of "
            "the optimizer's parameters, which for one param group is "
            "[name for name, _ in model.named_parameters()]"
        )
    raise ValueError(f"{where} is not in the optimizer, which has {known}")


def _momentum_buffers(state_dict: Mapping[str, Any], ids: dict[str | int, Any]) -> dict[Any, Any]:
    """Return the momentum buffers of a state dict by their keys."""
    buffers = {}
    if not isinstance(state_dict["state"], Mapping):
        raise TypeError(
            "state_dict['state'] must be a dict from parameters to their buffers, as "
            f"optimizer.state_dict() returns it, got {describe(state_dict['state'])}"
        )
    for key, entries in state_dict["state"].items():
        if not isinstance(entries, Mapping):
            raise TypeError(
                f"state_dict['state'][{key!r}] must be a dict that may hold a 'momentum_buffer', "
                f"got {describe(entries)}"
            )
        if foreign := sorted(set(entries) - {"momentum_buffer"}):
            raise TypeError(
                f"the state dict has an entry {foreign[0]!r}, so it is not of torch.optim.SGD"
            )
        if key not in ids:
            raise ValueError(f"the state dict has a buffer for {key!r}, which is in no param group")
        if ids[key] in buffers:
            raise ValueError(
                f"the state dict has two buffers for the parameter {ids[key]!r}, one of them as "
                f"{key!r}"
            )
        if (buffer := entries.get("momentum_buffer")) is not None:
            buffers[ids[key]] = buffer
    return buffers


def _new_state(state_dict: Mapping[str, Any], params: PyTree) -> PyTree:
    """Return the initial state of the optimizer that a state dict describes."""
    group, *others = state_dict["param_groups"]
    if others:
        raise ValueError(
            f"the state dict has {1 + len(others)} param groups: combine a from_torch(**group) for "
            "each of them with optax.partition, and pass its state"
        )
    make = from_torch_muon if "ns_coefficients" in group else from_torch
    return make(**group).init(params)


def _from_numpy() -> Callable[[np.ndarray], Any]:
    try:
        return importlib.import_module("torch").from_numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensor=None makes tensors with PyTorch, which is not installed; install it, or give "
            "a function from a NumPy array to a tensor, such as tensor=numpy.asarray",
            name=error.name,
        ) from error


def _as_tensor(tensor: Callable[[np.ndarray], Any], array: np.ndarray) -> Any:
    """Return a tensor of an array; refuse a function that returns nothing."""
    made = tensor(array)
    if made is None:
        raise TypeError("tensor must return a tensor for each array, got None")
    return made


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
    """Fill a velocity from the momentum buffers of a `torch.optim.SGD` or `Muon`.

        v = c b, or 0 where PyTorch has no buffer b

    PyTorch makes a buffer at the first gradient of a parameter, so where there
    is no buffer, the next step is the first. c depends on what the velocity
    accumulates:

    - gradients, as in `from_torch`, `momentax.sgd` and `optax.sgd`: c = 1
    - steps, as with `velocity_units="parameter"`: c = -lr of the last step made;
      if the next step has another lr, call `momentax.rescale_velocity` too
    - gradients, while b is dampened by τ: c = 1 / (1 - τ), and from then on the
      learning rate is lr (1 - τ)
    - gradients times a gain, such as 1 - β in `quasi_hyperbolic`: c = the gain

    The buffers of Muon are averages, as those of `from_torch_muon` and `momentax.muon`: c = 1.

    `import_params` imports the parameters with the same mapping.

    Args:
        state_dict: `optimizer.state_dict()`, with tensors or arrays as values.
        params: The parameters in JAX, whose leaves the mapping names.
        mapping: For each leaf its name in PyTorch, its number in the optimizer
            or a `Counterpart`: a pytree like params, or a dict with paths as
            keys, such as "['dense']['kernel']".
        state: The state to fill. It has one velocity that sums gradients, at any
            depth: of momentax, `optax.trace` or `optax.sgd`, inside `chain`,
            `masked`, `inject_hyperparams`, `nnx.Optimizer` and so on; or it has
            one for each branch of a `partition`. None is a new state of
            `from_torch(**param_group)`, or of `from_torch_muon`.
        names: The names of the parameters in the order of the optimizer's
            parameters, one group after the other, if the state dict does not
            have them. For one group: `[name for name, _ in
            model.named_parameters()]`.
        count: The number of steps made so far, at least 0, from which schedules
            continue; PyTorch's SGD does not store it. None leaves every count
            unchanged.
        scale: c, other than 0.
        conjugate: For complex parameters, whether the pipeline accumulates the
            gradients of `jax.grad` unchanged, which are the conjugates of
            PyTorch's. False if it conjugates them first.
        path: The path of the only velocity to fill, as in `velocity`; buffers of
            other parameters are ignored. None is the only velocity, or all
            velocities of a `partition`.

    Returns:
        The state with the new velocity, the new counts and, for `from_torch`
        with dampening, which parameters have had a gradient; otherwise unchanged.

    Raises:
        ValueError: A leaf has no counterpart, PyTorch has none of that name or
            shape, a buffer belongs to no leaf, there are several param groups
            and no state, or a velocity is not a sum of gradients. Messages name
            the leaf and PyTorch's parameter.
        TypeError: state_dict is not of an SGD, or a buffer has a dtype that the
            velocity's cannot represent without loss.

    Example:
        >>> buffer = {"momentum_buffer": np.ones(3, np.float32)}
        >>> checkpoint = {"state": {0: buffer}, "param_groups": [{"params": [0], "momentum": 0.9}]}
        >>> state = momentax.conventions.import_torch_state(checkpoint, params, {"w": 0})

    Source:
        The conversions are exact: torch.optim.SGD and Muon of PyTorch 2.13.
    """
    ids = _parameter_ids(state_dict, names)
    buffers = _momentum_buffers(state_dict, ids)
    if state is None:
        state = _new_state(state_dict, params)
    return fill_velocity(
        *(state, params, mapping),
        partial(_find_key, ids),
        buffers,
        units=Units.check(scale, conjugate),
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
    """Make the state dict with which a `torch.optim.SGD` or `Muon` continues from a velocity.

        b = v / c

    Args:
        state: The state, with one velocity that sums gradients.
        state_dict: `optimizer.state_dict()` of the optimizer that will continue.
            It gives the param groups; its buffers are not read.
        mapping: As in `import_torch_state`.
        tensor: A function that makes a tensor from a NumPy array. None is
            `torch.from_numpy`.
        names: As in `import_torch_state`.
        scale: c, as in `import_torch_state`.
        conjugate: As in `import_torch_state`.
        path: The path of the velocity, as in `import_torch_state`.

    Returns:
        A dict for `optimizer.load_state_dict` with the param groups as given and
        the buffers. Each buffer is a copy, because PyTorch updates it in place. A
        parameter that has had no gradient under `from_torch` with dampening has
        no buffer.

    Raises:
        ValueError: As `import_torch_state`.
        TypeError: As `import_torch_state`.
        ModuleNotFoundError: tensor is None and PyTorch is not installed.

    Example:
        >>> state = momentax.conventions.from_torch(lr=0.1, momentum=0.9).init(params)
        >>> checkpoint = {"state": {}, "param_groups": [{"params": [0], "momentum": 0.9}]}
        >>> momentax.conventions.export_torch_state(
        ...     state, checkpoint, {"w": 0}, tensor=np.asarray
        ... )["state"]
        {0: {'momentum_buffer': array([0., 0., 0.], dtype=float32)}}
    """
    ids = _parameter_ids(state_dict, names)
    if tensor is not None:
        require_function("tensor", tensor, "from a NumPy array to a tensor", "array")
    as_tensor = partial(_as_tensor, tensor or _from_numpy())
    buffers = read_velocity(state, mapping, units=Units.check(scale, conjugate), path=path)
    keys = {name: _find_key(ids, Counterpart(name), repr(name)) for name in buffers}
    require_distinct_keys({repr(name): key for name, key in keys.items()})
    return {
        "state": {
            keys[name]: {"momentum_buffer": as_tensor(array)}
            for name, array in buffers.items()
            if array is not None
        },
        "param_groups": [
            {name: copy.copy(value) for name, value in group.items()}
            for group in state_dict["param_groups"]
        ],
    }
