"""What `Entry.of` and `run` need to know of a function of one's own."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic
from momentax.bench._horizon import Horizon
from momentax.bench._ranges import DECAY

_LONG_RUN = 2000  # Steps, after which a velocity with β = 0.997 has settled.
_LIBRARIES = (Path(jax.__path__[0]), Path(optax.__path__[0]), Path(__file__).parents[1])
# What JAX raises if Python needs the value of an array that is traced.
_NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def with_learning_rate(
    function: Callable[..., Any], horizon: Horizon, *, learning_rate: Any, **others: Any
) -> Any:
    """Return the optimizer with a given peak of its learning rate."""
    return _call(function, horizon.learning_rate(learning_rate), others)


def with_effective_rate(
    function: Callable[..., Any], horizon: Horizon, *, effective_rate: Any, **others: Any
) -> Any:
    """Return the optimizer whose long-run step for a gradient of 1 has a given peak."""
    gain = jnp.abs(_long_run_step(function, others))
    # A method without such a step, as one whose steps shrink to 0, keeps its learning rate.
    gain = jnp.where(jnp.isfinite(gain) & (gain > 1e-4), gain, 1.0)
    return _call(function, horizon.learning_rate(effective_rate / gain), others)


def takes_decay(function: Callable[..., Any]) -> bool:
    """Return whether a function has an argument of its own for the weight decay."""
    return DECAY in inspect.signature(function).parameters


def is_made(make: Callable[..., Any]) -> bool:
    """Return whether `Entry.of` made the function, which adds the decay where it is missing."""
    return getattr(make, "func", None) in (with_learning_rate, with_effective_rate)


def _call(
    function: Callable[..., Any], learning_rate: Callable[..., Any], others: Mapping[str, Any]
) -> Any:
    """Return the optimizer that a user's function makes.

    A weight decay λ that the function does not take is added to the updates: u ← u - α_t λ θ.
    """
    own = {name: each for name, each in others.items() if name != DECAY or takes_decay(function)}
    tx = function(learning_rate=learning_rate, **own)
    arguments.require_transformation("the value that the function returns", tx)
    if len(own) < len(others):
        tx = optax.chain(tx, _shrink(learning_rate, others[DECAY]))
    return optax.with_extra_args_support(tx)


def _shrink(α: Callable[..., Any], λ: Any) -> optax.GradientTransformation:
    """Return u ← u - α_t λ θ, in the dtype of u."""

    def init(params: Any) -> jax.Array:
        del params
        return jnp.int32(0)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        shrink = -α(state) * λ  # The state is the count.
        return arithmetic.combine((1.0, updates), (shrink, params), like=updates), state + 1

    return optax.GradientTransformation(init, update)


def _step_of(tx: Any, gradient: Any = 1.0) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Return the start and the step of a loop in which an optimizer gets a constant gradient.

    The loop carries the updates and the state.
    """
    params = {"kernel": jnp.eye(2), "bias": jnp.ones(2)}
    g = jax.tree.map(lambda leaf: gradient * jnp.ones_like(leaf), params)

    def loss(params: Any) -> jax.Array:
        return sum(map(jnp.sum, jax.tree.leaves(params)), jnp.float32(0))

    def step(_: Any, carry: Any) -> Any:
        return tx.update(g, carry[1], params, value=jnp.float32(1), grad=g, value_fn=loss)

    return (jax.tree.map(jnp.zeros_like, params), tx.init(params)), step


def _long_run_step(function: Callable[..., Any], others: Any, gradient: float = 1.0) -> jax.Array:
    """Return the long-run step of an optimizer with learning rate 1 for a constant gradient."""
    # The step of the decay does not come from the gradient.
    without = {name: 0.0 if name == DECAY else each for name, each in others.items()}
    if not takes_decay(function):
        without.pop(DECAY, None)
    start, step = _step_of(_call(function, _one, without), gradient)
    if shapes_of(start) != shapes_of(jax.eval_shape(step, 0, start)):
        return jnp.float32(jnp.nan)  # No loop can carry the state; `check` says so.
    u, _ = jax.lax.fori_loop(0, _LONG_RUN, step, start)
    return jnp.mean(u["bias"])


def _one(count: Any) -> float:
    del count
    return 1.0


def shapes_of(tree: Any) -> tuple[Any, list[Any]]:
    """Return the structure of a tree, and the shape and dtype of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def is_homogeneous(function: Callable[..., Any], others: Any) -> bool:
    """Return whether the steps of an optimizer grow with the gradient."""
    run = jax.jit(lambda gradient: _long_run_step(function, others, gradient))
    # Small gradients, since clipping limits the steps of large ones.
    return abs(float(run(1e-2))) > 3 * abs(float(run(1e-3)))


def require_traceable(
    name: str, make: Callable[..., Any], hyperparameters: Mapping[str, float]
) -> None:
    """Refuse a method that uses a traced array as a Python value, as in `if beta > 0.9`.

    Args:
        name: The name of the method.
        make: A function (horizon, **hyperparameters) to an Optax transformation.
        hyperparameters: Any valid ones.
    """

    def step(hyperparameters: Any) -> Any:
        start, step = _step_of(optax.with_extra_args_support(make(Horizon(100), **hyperparameters)))
        return step(0, start)

    try:
        jax.eval_shape(step, {key: jnp.float32(each) for key, each in hyperparameters.items()})
    except _NEEDS_A_VALUE as error:
        raise TypeError(
            f"{name} uses a traced array as a Python value{_place_of(error)}. Use jnp.where and "
            "jax.numpy instead of if, float, math and numpy. Hyperparameters, gradients and states "
            "are traced, so that one program runs all trials"
        ) from error
    except Exception:  # Parameters of other shapes may be needed; the runs themselves say it.
        return


def _place_of(error: Exception) -> str:
    """Say which line outside of the libraries an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        each
        for each in frames
        if not any(Path(each.filename).is_relative_to(library) for library in _LIBRARIES)
    ]
    if not own or not own[-1].line:
        return ""
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: `{own[-1].line}`)"


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a user's function, which must have a learning rate."""
    kinds = inspect.Parameter
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    if "learning_rate" not in parameters:
        raise TypeError(
            "function must have an argument named learning_rate; it has "
            f"{', '.join(parameters) or 'none'}"
        )
    if any(each.kind is kinds.POSITIONAL_ONLY for each in parameters.values()):
        raise TypeError("function must accept its arguments by name, got positional-only ones")
    return parameters


def as_mapping(name: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return a dictionary that has only some names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dictionary, got {arguments.describe(value)}")
    if unknown := [key for key in value if key not in known]:
        raise ValueError(
            f"unknown name {arguments.describe(unknown[0])} in {name}; allowed: {', '.join(known)}"
        )
    return dict(value)
