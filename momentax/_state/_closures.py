"""What a transformation reads and contains, found in its `update` function.

An Optax transformation is a pair of functions, whose hyperparameters and inner transformations are
variables that the functions close over. They are looked up here by the name of the function that
made them and by their own names, as of Optax 0.2.7 and 0.2.8; whatever is not found is unknown. The
transformations of momentax tell their hyperparameters themselves, in an attribute of `update`
(`momentax._core.transformations`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from momentax._core.transformations import name_state, public_name

Update = Callable[..., Any]


class Part(NamedTuple):
    """The update function of a transformation and its state."""

    update: Update
    state: Any


class Parts(NamedTuple):
    """The transformations that another one contains.

    parts: each by its name, which is its label in a partition.
    is_partition: whether each gets other parameters than the rest.
    is_masked: whether only some parameters pass through them.
    has_stages: whether each part with a name is an optimizer of its own, for the results of the one
        without a name.
    """

    parts: dict[str, Part]
    is_partition: bool = False
    is_masked: bool = False
    has_stages: bool = False


class _Unknown:
    """The value of a hyperparameter that exists and cannot be read."""


UNKNOWN = _Unknown()

# Transformations that choose the step size at each update and keep no record of it.
_CHOOSE_STEP_SIZES = (
    "momentum_polyak", "scale_by_polyak", "scale_by_backtracking_linesearch",
    "scale_by_zoom_linesearch", "scale_by_distance_over_gradients", "scale_by_l_dog",
    "scale_by_dog", "scale_by_dowg", "dadapt_adamw", "prodigy", "momo", "momo_adam", "mechanize",
    "cocob", "scale_by_cocob", "reduce_on_plateau", "schedule_free",
)  # fmt: skip

# The variable that holds β of the velocity, by the function that made the transformation.
_BETAS = {
    "trace": "decay",
    "ema": "decay",
    **dict.fromkeys(
        (
            "scale_by_adam", "scale_by_amsgrad", "scale_by_adamax", "scale_by_adan",
            "scale_by_belief", "scale_by_yogi", "scale_by_radam", "scale_by_sophia",
            "scale_by_adopt",
        ),
        "b1",
    ),
    "scale_by_lion": "b2",
    "scale_by_muon": "beta",
}  # fmt: skip
_SCALINGS = {"scale": "step_size", "scale_by_schedule": "step_size_fn"}
# The classes of the states of Optax's transformations, by the function that made these. A state
# that `_flax.with_named_nodes` has named by its fields may bear the name of Adam's, which has the
# same fields as two others.
_STATES = {
    **dict.fromkeys(
        (
            "identity", "scale", "scale_by_sign", "scale_by_trust_ratio", "set_to_zero", "clip",
            "clip_by_block_rms", "clip_by_global_norm", "adaptive_grad_clip", "centralize",
            "normalize", "normalize_by_update_norm", "keep_params_nonnegative",
        ),
        ("EmptyState",),
    ),
    "add_decayed_weights": ("EmptyState", "WeightDecaySchedule"),
    "scale_by_schedule": ("ScaleByScheduleState",),
    "trace": ("TraceState",),
    "ema": ("EmaState",),
    **dict.fromkeys(
        ("scale_by_adam", "scale_by_adamax", "scale_by_yogi", "scale_by_radam", "scale_by_adopt"),
        ("ScaleByAdamState",),
    ),
    "scale_by_amsgrad": ("ScaleByAmsgradState",),
    "scale_by_adan": ("ScaleByAdanState",),
    "scale_by_belief": ("ScaleByBeliefState", "ScaleByAdamState"),
    "scale_by_sophia": ("SophiaState", "ScaleByAdamState"),
    "scale_by_lion": ("ScaleByLionState",),
    "scale_by_muon": ("MuonState",),
}  # fmt: skip


def _maker(update: Update) -> tuple[str, str]:
    """Return the library and the name of the function in which an update was defined."""
    library = (getattr(update, "__module__", "") or "").partition(".")[0]
    return library, getattr(update, "__qualname__", "").partition(".<locals>")[0]


def _variables(update: Update) -> dict[str, Any]:
    """Return the variables that a function closes over, by name."""
    cells = getattr(update, "__closure__", None) or ()
    names = getattr(getattr(update, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # The variable has no value yet.
            continue
    return found


def reads_of(update: Update) -> list[tuple[str, Any]] | None:
    """Return the name and the value, or schedule, of each hyperparameter that an update reads.

    A scaling is called learning_rate, and may be negative. Of a transformation of other libraries,
    and of one that contains others in an unknown way, it is not known what it reads: None.
    """
    plain = inspect.unwrap(update)
    (library, maker), variables = _maker(plain), _variables(plain)
    reads = getattr(update, "reads", {})
    unknown = [("learning_rate", UNKNOWN)] if maker in _CHOOSE_STEP_SIZES else []
    if reads or unknown:
        return [*reads.items(), *unknown]
    if library not in ("optax", "momentax") or _transformations(variables):
        return None
    found = {
        "beta": _BETAS.get(maker),
        "learning_rate": _SCALINGS.get(maker),
        "weight_decay": "weight_decay" if maker == "add_decayed_weights" else None,
    }
    return [(name, variables[key]) for name, key in found.items() if key in variables]


def parts_of(update: Update, state: Any) -> Parts | None:
    """Return the transformations that an update contains, or None if it contains none."""
    owner = getattr(update, "__self__", None)
    if isinstance(owner, optax.MultiSteps):
        return _single(owner.inner_opt.update, _field(state, "inner_opt_state"))
    plain = inspect.unwrap(update)
    (library, maker), variables = _maker(plain), _variables(plain)
    if library not in ("optax", "momentax") or getattr(update, "reads", {}):
        return None
    if maker == "with_extra_args_support" and "tx" in variables:
        return _single(variables["tx"].update, state)
    if maker == "chain" and "update_fns" in variables:
        return _chain({str(i): each for i, each in enumerate(variables["update_fns"])}, state)
    if maker == "named_chain" and "transforms" in variables:
        return _chain({name: tx.update for name, tx in variables["transforms"]}, state)
    if maker == "_chain" and "chained" in variables:
        return _single(variables["chained"].update, state)
    if maker == "partition" and "transforms" in variables:
        inner = _field(state, "inner_states")
        parts = {
            str(label): Part(tx.update, _field(inner[label], "inner_state"))
            for label, tx in variables["transforms"].items()
            if label in inner
        }
        return Parts(parts, is_partition=True)
    if maker == "split_by_role" and "branches" in variables:
        inner = variables["branches"]
        parts = {label: Part(tx.update, _field(state, label)) for label, tx in inner.items()}
        return Parts(parts, is_partition=True)
    if maker == "inject_hyperparams" and "inner_factory" in variables:
        others, values = variables["other_hps"], _field(state, "hyperparams")
        made = variables["inner_factory"](**others, **values)
        return _single(made.update, _field(state, "inner_state"))
    if maker == "outer" and "options" in variables:
        options = variables["options"]
        inner = Part(options.tx.update, _field(state, "inner_state"))
        slow = _field(state, "outer_state")
        if options.fragment_count > 1:  # The last fragment has made the fewest outer steps.
            slow = slow[-1]
        return Parts({"": inner, "outer": Part(options.outer.update, slow)}, has_stages=True)
    if maker == "ema_nesterov" and "average" in variables:
        parts = {"inner_state": variables["tx"], "average": variables["average"]}
        return Parts({key: Part(tx.update, _field(state, key)) for key, tx in parts.items()})
    return _wrapped(maker, variables, state)


def _wrapped(maker: str, variables: dict[str, Any], state: Any) -> Parts | None:
    """Return the only transformation that a wrapper closes over, if the state has its state."""
    inner = _transformations(variables)
    if len(inner) != 1:
        return None
    if maker == "lookahead":
        return _single(inner[0].update, _field(state, "fast_state"))
    if maker == "flatten":
        return _single(inner[0].update, state)
    if hasattr(state, "_fields") and not hasattr(state, "inner_state"):
        return None
    return _single(inner[0].update, _field(state, "inner_state"))._replace(
        is_masked=maker == "masked"
    )


def require_own_state(update: Update, state: Any) -> None:
    """Refuse the state of another transformation, if it is known of which class its own is."""
    if states := getattr(update, "states", ()):
        if type(state) not in states:
            needed = " or ".join(map(public_name, states))
            raise TypeError(_mismatch(f"a part of tx keeps a state of the class {needed}", state))
        return
    library, maker = _maker(inspect.unwrap(update))
    known = _STATES.get(maker, ()) if library == "optax" else ()
    if hasattr(state, "_fields"):
        if known and type(state).__name__ not in known:
            needed = " or ".join(known)
            raise ValueError(
                _mismatch(f"Optax's {maker} keeps a state of the class {needed}", state)
            )
    elif isinstance(state, tuple) and state:
        raise ValueError(_mismatch("a part of tx is no chain", state))


def _mismatch(part: str, state: Any) -> str:
    """Say that another transformation than tx has made a state."""
    return (
        f"state does not belong to tx: {part}, and state has {name_state(state)} there; give the "
        "tx whose init made this state"
    )


def _transformations(variables: dict[str, Any]) -> list[Any]:
    return [v for v in variables.values() if isinstance(v, optax.GradientTransformation)]


def _single(update: Update, state: Any) -> Parts:
    return Parts({"": Part(update, state)})


def _chain(updates: dict[str, Update], state: Any) -> Parts:
    """Return the parts of a chain, whose states are in a tuple or a dict."""
    states = state
    if isinstance(state, tuple) and not hasattr(state, "_fields"):
        states = {str(i): each for i, each in enumerate(state)}
    if not isinstance(states, dict) or states.keys() != updates.keys():
        raise ValueError(_mismatch(f"tx has a chain of {len(updates)} transformations", state))
    return Parts({name: Part(update, states[name]) for name, update in updates.items()})


def _field(state: Any, name: str) -> Any:
    if not hasattr(state, name):
        raise ValueError(_mismatch(f"a part of tx keeps a state with the field {name}", state))
    return getattr(state, name)
