"""An entry of the comparison: a family of optimizers, its search space and its default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import qmc

from momentax._core import arguments
from momentax._core.hyperparameters import as_constant
from momentax._core.typing import Scalar, Schedule
from momentax.bench._space import Space
from momentax.sweeps import Distribution, log_uniform, momentum_uniform

_MOST_AXES = 4
_EDGE = 0.05
_WARMUP = 0.05  # The share of the steps in which the learning rate rises.
_RATE, _EFFECTIVE = "learning_rate", "effective_rate"
_LINEAR, _NORMALIZED = log_uniform(1e-3, 300), log_uniform(1e-5, 0.3)  # Of effective rates.
_LONG_RUN = 2000  # Steps, after which a velocity with β = 0.997 has settled.
# The spaces of the arguments that a function of one's own may have.
_SPACES = {
    **dict.fromkeys(("beta", "momentum"), momentum_uniform(0.5, 0.997)),
    **dict.fromkeys(("beta1", "b1"), momentum_uniform(0.5, 0.995)),
    **dict.fromkeys(("beta2", "b2"), momentum_uniform(0.8, 0.9999)),
}


class Horizon(NamedTuple):
    """The length of a run, and the shape of the learning rate's schedule over it.

    steps: N, the number of updates of the run.
    shape: "cosine" or "constant", what follows after the warm-up.
    """

    steps: int
    shape: str = "cosine"

    def learning_rate(self, peak: Scalar) -> Schedule:
        """Return the schedule with a given peak.

            α_t = peak · min(1, (t + 1) / w) · c_t,    w = max(1, N/20)

        with c_t = ½ (1 + cos(π max(0, t - w) / (N - w))) or c_t = 1.

        Args:
            peak: The largest learning rate, a number in [0, inf) or a 0-d array, traced or not.

        Raises:
            ValueError: peak is negative or not finite.
            TypeError: peak is not a number.

        Example:
            >>> rate = momentax.bench.Horizon(200).learning_rate(2.0)
            >>> [round(float(rate(t)), 3) for t in (0, 9, 105, 200)]
            [0.2, 2.0, 1.0, 0.0]
        """
        shape = arguments.as_option("shape", self.shape, ("cosine", "constant"))
        w = max(1.0, _WARMUP * self.steps)
        peak = jnp.asarray(as_constant("peak", peak, "[0, inf)")(0), jnp.float32)

        def schedule(count: Any) -> Any:
            t = jnp.asarray(count, jnp.float32)
            rise = jnp.minimum(1.0, (t + 1) / w)
            if shape == "constant":
                return peak * rise
            share = jnp.clip((t - w) / max(self.steps - w, 1.0), 0.0, 1.0)
            return peak * rise * 0.5 * (1 + jnp.cos(jnp.pi * share))

        return schedule


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """A method with the hyperparameters that are searched: the same space for every task.

    name: the name in tables and files.
    make: a function (horizon, **hyperparameters) to an Optax transformation. It gives the peak of
        its learning rate to `horizon.learning_rate`, may read `horizon.steps`, and does not know
        the task. The hyperparameters are tracers.
    space: a distribution for each hyperparameter, at most four.
    default: the hyperparameters of the first trial, those that a user would start with.
    shape: "cosine", the schedule of all entries, or "constant" for a method that replaces the
        schedule by something of its own.
    description: what the method is, in a few words.

    Raises:
        TypeError: make is not a function, or space holds something other than distributions.
        ValueError: space has no hyperparameter or more than four, default has other names than
            space or values outside of it, or shape is another word.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    space: Mapping[str, Distribution]
    default: Mapping[str, float]
    shape: str = "cosine"
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        arguments.as_text("name", self.name, "'my_method'")
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(
                f"name must be a name for tables and files, without a slash, got {self.name!r}"
            )
        _require_space(self.space)
        arguments.require_function(
            "make", self.make, "of a horizon and the hyperparameters", None, **dict(self.space)
        )
        arguments.as_text("description", self.description, "'the sign of an average'")
        arguments.as_option("shape", self.shape, ("cosine", "constant"))
        _require_default(self.default, self.space)

    def __repr__(self) -> str:
        about = f": {self.description}" if self.description else ""
        return f"<Entry {self.name}({', '.join(self.space)}){about}>"

    @classmethod
    def of(
        cls,
        function: Callable[..., optax.GradientTransformation],
        *,
        name: str | None = None,
        space: Mapping[str, Distribution] | None = None,
        default: Mapping[str, float] | None = None,
    ) -> Entry:
        """Make an entry of a function of a learning rate and other hyperparameters.

        Its argument learning_rate gets a schedule with a warm-up and a cosine to 0, and the others
        get numbers. Unless `space` has learning_rate, the effective rate is searched in its place,
        as for the entries of momentax:

            α = effective_rate / G

        where G is the long-run step of the optimizer for a gradient and a learning rate of 1, such
        as 1/(1 - β) for heavy ball and 1 for Adam. Its range is 1e-3 to 300, and 1e-5 to 0.3 for an
        optimizer whose steps do not grow with the gradient.

        Args:
            function: A function such as `lambda learning_rate, beta: ...` that returns a complete
                optimizer.
            name: The name in tables; None takes that of the function.
            space: Distributions of hyperparameters. An argument that it lacks gets the range of
                its name: beta or momentum 0.5 to 0.997, beta1 or b1 0.5 to 0.995, beta2 or b2 0.8
                to 0.9999. Arguments with a default and without a range keep their default.
                "effective_rate" gives another range for the effective rate.
            default: The hyperparameters of the first trial; what it lacks is the function's own
                default, or the middle of the range.

        Raises:
            TypeError: function is not a function, or has no argument learning_rate.
            ValueError: An argument has neither a default nor a range, there are more than four
                hyperparameters, or space or default has a name that is not an argument.

        Example:
            >>> def mine(learning_rate, beta):
            ...     return momentax.sgd(learning_rate, momentax.heavy_ball(beta))
            >>> momentax.bench.Entry.of(mine)
            <Entry mine(effective_rate, beta)>
        """
        arguments.require_function("function", function, "from a learning rate to an optimizer")
        if name is not None:
            arguments.as_text("name", name, "'mine'")
        parameters = _parameters_of(function)
        ranges = {**_SPACES, **_as_mapping("space", space, (*parameters, _EFFECTIVE))}
        searched = {key: ranges[key] for key in parameters if key in ranges}
        for key, parameter in parameters.items():
            if key not in (*ranges, _RATE) and parameter.default is inspect.Parameter.empty:
                raise ValueError(
                    f"the argument {key} of function has neither a default nor a known range; give "
                    f"one, as in space={{{key!r}: momentax.sweeps.log_uniform(1e-3, 1)}}"
                )
        first = {
            key: float(parameters[key].default)
            if isinstance(parameters[key].default, int | float)
            else float(each.quantile(0.5))
            for key, each in searched.items()
        }
        own = getattr(function, "__name__", "mine") if name is None else name
        if _RATE in searched:
            made = partial(_with_learning_rate, function)
        else:
            made = partial(_with_effective_rate, function)
            usual, start = (
                (_LINEAR, 0.5) if _is_homogeneous(function, first) else (_NORMALIZED, 1e-3)
            )
            rates = ranges.get(_EFFECTIVE, usual)
            start = start if rates is usual else float(rates.quantile(0.5))
            searched, first = {_EFFECTIVE: rates, **searched}, {_EFFECTIVE: start, **first}
        return cls(own, made, searched, {**first, **_as_mapping("default", default, searched)})

    def trials(self, count: int = 32) -> dict[str, np.ndarray]:
        """Return the hyperparameters of the trials.

        The first trial is the default. The others are the points of one scrambled Sobol sequence,
        the same for all entries, on the scales of the space.

        Args:
            count: The number of trials, from 1 to 65536.

        Returns:
            A float64 array of shape (count,) for each hyperparameter.

        Raises:
            ValueError: count is out of range.
            TypeError: count is not a whole number.
        """
        return trials_of(self.space, self.default, count)


def trials_of(
    space: Mapping[str, Distribution], default: Mapping[str, float], count: int
) -> dict[str, np.ndarray]:
    """Return the hyperparameters of the trials in a search space, as `Entry.trials` does."""
    count = arguments.as_count("count", count, most=2**16)
    sobol: Any = qmc.Sobol  # Its argument seed is called rng in newer versions of SciPy.
    shares = sobol(_MOST_AXES, scramble=True, seed=0).random_base2(
        max(0, int(np.ceil(np.log2(count))))
    )[:count]
    values = {
        name: each.quantile(share)
        for (name, each), share in zip(space.items(), shares.T, strict=False)
    }
    for name, column in values.items():
        column[0] = default[name]
    return values


def names_at_edge(entry: Entry | Space, hyperparameters: Mapping[str, float]) -> list[str]:
    """Return which rates, β and ages lie within 5% of an end of their range, on its scale.

    A lower end of 0 does not count: no β or ν lies below it. Neither do the ends of other
    hyperparameters, such as ε or a number of poles: one that hardly matters is near an end by
    chance.
    """
    return [
        name
        for name, each in entry.space.items()
        if re.search("rate|beta|momentum|age$|^b[0-9]$|^nu$", name)
        and (
            hyperparameters[name] > each.quantile(1 - _EDGE)
            or (hyperparameters[name] < each.quantile(_EDGE) and each.low != 0)
        )
    ]


def _with_learning_rate(
    function: Callable[..., Any], horizon: Horizon, *, learning_rate: Any, **others: Any
) -> Any:
    return _call(function, horizon.learning_rate(learning_rate), others)


def _call(function: Callable[..., Any], learning_rate: Any, others: Any) -> Any:
    """Return the optimizer that a user's function makes."""
    tx = function(learning_rate=learning_rate, **others)
    arguments.require_transformation("what function returns", tx)
    return optax.with_extra_args_support(tx)


def _with_effective_rate(
    function: Callable[..., Any], horizon: Horizon, *, effective_rate: Any, **others: Any
) -> Any:
    gain = jnp.abs(_long_run_step(function, others))
    # A method without such a step, as one whose steps shrink to 0, keeps its learning rate.
    gain = jnp.where(jnp.isfinite(gain) & (gain > 1e-4), gain, 1.0)
    return _call(function, horizon.learning_rate(effective_rate / gain), others)


def _long_run_step(function: Callable[..., Any], others: Any, gradient: float = 1.0) -> jax.Array:
    """Return the long-run step of an optimizer with learning rate 1 for a constant gradient."""
    tx = _call(function, _one, others)
    params = {"kernel": jnp.eye(2), "bias": jnp.ones(2)}
    g = jax.tree.map(lambda leaf: gradient * jnp.ones_like(leaf), params)

    def loss(params: Any) -> jax.Array:
        return sum(map(jnp.sum, jax.tree.leaves(params)), jnp.float32(0))

    def step(_: Any, carry: Any) -> Any:
        return tx.update(g, carry[1], params, value=jnp.float32(1), grad=g, value_fn=loss)

    start = (jax.tree.map(jnp.zeros_like, params), tx.init(params))
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


def _is_homogeneous(function: Callable[..., Any], others: Any) -> bool:
    """Return whether the steps of an optimizer grow with the gradient."""
    run = jax.jit(lambda gradient: _long_run_step(function, others, gradient))
    # Small gradients, since clipping limits the steps of large ones.
    return abs(float(run(1e-2))) > 3 * abs(float(run(1e-3)))


def _require_space(space: Any) -> None:
    example = 'such as {"learning_rate": momentax.sweeps.log_uniform(1e-3, 1)}'
    if not isinstance(space, Mapping) or not all(
        isinstance(name, str) and isinstance(each, Distribution) for name, each in space.items()
    ):
        raise TypeError(
            f"space must be a dictionary from names to distributions, {example}, got "
            f"{arguments.describe(space)}"
        )
    if not 1 <= len(space) <= _MOST_AXES:
        raise ValueError(
            f"space must have 1 to {_MOST_AXES} hyperparameters, {example}, got {len(space)}"
        )


def _require_default(default: Any, space: Mapping[str, Distribution]) -> None:
    if not isinstance(default, Mapping) or set(default) != set(space):
        raise ValueError(
            f"default must have a number for each of {', '.join(space)}, got "
            f"{arguments.describe(default)}"
        )
    for name, each in space.items():
        value = arguments.as_real(f"default[{name!r}]", default[name], arguments.ANY_REAL)
        if not each.low <= value <= each.high:
            raise ValueError(
                f"default[{name!r}] must lie in its range, [{each.low:g}, {each.high:g}], got "
                f"{value:g}"
            )


def _parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a user's function, which must have a learning rate."""
    kinds = inspect.Parameter
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    if "learning_rate" not in parameters:
        raise TypeError(
            "function must make an optimizer from an argument learning_rate, as in "
            f"def mine(learning_rate, beta), got the arguments {', '.join(parameters) or 'none'}"
        )
    if any(each.kind is kinds.POSITIONAL_ONLY for each in parameters.values()):
        raise TypeError("function must accept its arguments by name, got positional-only ones")
    return parameters


def _as_mapping(name: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return a dictionary that has only some names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dictionary, got {arguments.describe(value)}")
    if unknown := [key for key in value if key not in known]:
        raise ValueError(
            f"{name} must have no other names than {', '.join(known)}, got "
            f"{arguments.describe(unknown[0])}"
        )
    return dict(value)
