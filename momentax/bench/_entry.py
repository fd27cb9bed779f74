"""An entry of the comparison: a family of optimizers, its search space and its default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import optax
from scipy.stats import qmc

from momentax._core import arguments
from momentax.bench import _function, _ranges
from momentax.bench._space import Space
from momentax.sweeps import Distribution, log_uniform, momentum_uniform

_RATE, _EFFECTIVE = "learning_rate", "effective_rate"
_LINEAR, _NORMALIZED = log_uniform(1e-3, 300), log_uniform(1e-5, 0.3)  # Of effective rates.
# The spaces of the arguments that a function of one's own may have.
_SPACES = {
    **dict.fromkeys(("beta", "momentum"), momentum_uniform(0.5, 0.997)),
    **dict.fromkeys(("beta1", "b1"), momentum_uniform(0.5, 0.995)),
    **dict.fromkeys(("beta2", "b2"), momentum_uniform(0.8, 0.9999)),
}


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """A method with the hyperparameters that are searched: the same space for every task.

    name: the name in tables and files.
    make: a function called as make(horizon, **hyperparameters) that returns an Optax
        transformation. Use horizon.learning_rate(peak) as its schedule. It may read horizon.steps,
        and does not know the task. The hyperparameters are traced arrays.
    space: a distribution for each hyperparameter, at most four, the most important first.
    default: the hyperparameters of the first trial, those that a user would start with.
    shape: "cosine", the schedule of all entries, or "constant" for a method that replaces the
        schedule by something of its own.
    description: what the method is, in a few words.

    Raises:
        TypeError: make is not a function, or space holds something other than distributions.
        ValueError: space has no hyperparameter or more than four, default has other names than
            space or values outside of it, or shape is another word.

    Example:
        >>> def make(horizon, learning_rate, beta):
        ...     method = momentax.heavy_ball(beta)
        ...     return momentax.sgd(horizon.learning_rate(learning_rate), method)
        >>> momentax.bench.Entry(
        ...     "mine",
        ...     make,
        ...     space={
        ...         "learning_rate": momentax.sweeps.log_uniform(1e-3, 10),
        ...         "beta": momentax.sweeps.momentum_uniform(0.5, 0.99),
        ...     },
        ...     default={"learning_rate": 0.1, "beta": 0.9},
        ... )
        <Entry mine(learning_rate, beta)>
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
        _ranges.require_space(self.space)
        arguments.require_function(
            "make", self.make, "of a horizon and the hyperparameters", None, **dict(self.space)
        )
        arguments.as_text("description", self.description, "'the sign of an average'")
        arguments.as_option("shape", self.shape, ("cosine", "constant"))
        _ranges.require_default(self.default, self.space)

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
        get traced numbers. Unless `space` has learning_rate, the effective rate is searched in its
        place, as for the entries of momentax:

            α = effective_rate / G

        where G is the long-run step of the optimizer for a gradient and a learning rate of 1, such
        as 1/(1 - β) for heavy ball and 1 for Adam. G falls back to 1 where that step is below 1e-4
        or not finite. The range of the effective rate is 1e-3 to 300, and 1e-5 to 0.3 for an
        optimizer whose steps do not grow with the gradient.

        Args:
            function: A function such as `lambda learning_rate, beta: ...` that returns a complete
                optimizer.
            name: The name in tables; None takes that of the function.
            space: Distributions of hyperparameters. An argument that it lacks gets the range of
                its name: beta or momentum 0.5 to 0.997, beta1 or b1 0.5 to 0.995, beta2 or b2 0.8
                to 0.9999. beta=0.9 in a signature is therefore searched, with 0.9 as its first
                trial. Arguments with a default and without a range keep their default.
                "effective_rate" gives another range for the effective rate.
            default: The hyperparameters of the first trial; what it lacks is the function's own
                default, or the middle of the range.

        Raises:
            TypeError: function is not a function, has no argument learning_rate, or uses a
                traced array as a Python value, as `if beta > 0.9` does.
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
        parameters = _function.parameters_of(function)
        ranges = {**_SPACES, **_function.as_mapping("space", space, (*parameters, _EFFECTIVE))}
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
            made = partial(_function.with_learning_rate, function)
            _function.require_traceable(own, made, first)
        else:
            made = partial(_function.with_effective_rate, function)
            _function.require_traceable(own, made, {_EFFECTIVE: 1.0, **first})
            is_linear = _function.is_homogeneous(function, first)
            usual, start = (_LINEAR, 0.5) if is_linear else (_NORMALIZED, 1e-3)
            rates = ranges.get(_EFFECTIVE, usual)
            start = start if rates is usual else float(rates.quantile(0.5))
            searched, first = {_EFFECTIVE: rates, **searched}, {_EFFECTIVE: start, **first}
        given = _function.as_mapping("default", default, searched)
        return cls(own, made, searched, {**first, **given})

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

    def widen(self, names: str | Iterable[str]) -> Entry:
        """Return the entry with wider ranges of some hyperparameters.

        Both ends of a range move by a factor of ten: those of a rate or an age to a tenth and to
        ten times of what they are, and those of β and ν by a factor of ten of 1 - β, within
        [0, 1). The points of `trials` are then others.

        Args:
            names: Names of hyperparameters in the space; one, or several.

        Raises:
            ValueError: A name is not in the space, there is none, or its range is linear and is not
                that of a rate, an age or β.
            TypeError: names is neither a name nor a list of names.

        Example:
            >>> entry = momentax.bench.entries["nesterov"].widen("beta")
            >>> entry.space["beta"]
            Distribution(low=0.0, high=0.9997, scale='momentum')
        """
        given = [names] if isinstance(names, str) else names
        if not isinstance(given, Iterable):
            raise TypeError(
                f"names must be names of hyperparameters, such as {list(self.space)[:1]}, got "
                f"{arguments.describe(names)}"
            )
        chosen = [arguments.as_option("names", name, tuple(self.space)) for name in given]
        if not chosen:
            raise ValueError(f"names must have at least one of {', '.join(self.space)}, got none")
        wider = {name: _ranges.widened(name, self.space[name]) for name in chosen}
        if fixed := [name for name, each in wider.items() if each is None]:
            raise ValueError(
                "names must be rates, ages, β, or hyperparameters on a logarithmic scale; that of "
                f"{fixed[0]} is linear, and nothing says how far it can be widened"
            )
        return replace(self, space={**self.space, **wider})

    def with_weight_decay(self) -> Entry:
        """Return the entry with decoupled weight decay as one more hyperparameter.

            θ_t = θ_{t-1} + u_t - α_t λ θ_{t-1}

        All parameters decay, and not their velocity: this is `weight_decay` of `momentax.sgd` with
        decoupled=True, and of `optax.adamw`. α_t is the method's own learning rate; the parameters
        that Muon gives to Adam decay by the rate of Adam. λ is searched from 1e-5 to 1 on a
        logarithmic scale, and its default is 1e-4. So that four hyperparameters are searched, the
        last one of an entry with four that is no rate, such as ε of Adam, is not searched and
        stays at its default.

        A `make` with an argument weight_decay gets λ, and so does a function that has one. The
        decay is added to the updates of other functions. An entry that searches weight_decay is
        returned as it is.

        Raises:
            TypeError: `make` has no argument weight_decay.

        Example:
            >>> momentax.bench.entries["adam"].with_weight_decay()
            <Entry adam(learning_rate, beta1, beta2, weight_decay)>
        """
        if _ranges.DECAY in self.space:
            return self
        if not _function.takes_decay(self.make) and not _function.is_made(self.make):
            raise TypeError(
                f"the entry {self.name} has no weight decay: make must have an argument "
                "weight_decay, as in def make(horizon, learning_rate, weight_decay=0.0)"
            )
        space, default = _ranges.with_decay(self.space, self.default)
        fixed = {name: each for name, each in self.default.items() if name not in default}
        make = partial(self.make, **fixed) if fixed else self.make
        return replace(self, make=make, space=space, default=default)


def trials_of(
    space: Mapping[str, Distribution], default: Mapping[str, float], count: int
) -> dict[str, np.ndarray]:
    """Return the hyperparameters of the trials in a search space, as `Entry.trials` does."""
    count = arguments.as_count("count", count, most=2**16)
    sobol: Any = qmc.Sobol  # Its argument seed is called rng in newer versions of SciPy.
    shares = sobol(_ranges.MOST_AXES, scramble=True, seed=0).random_base2(
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
    """Return which rates, β and ages lie within 5% of an end of their range, on its scale."""
    ranges = entry.space if isinstance(entry, Entry) else entry.ranges
    return _ranges.names_at_edge(ranges, hyperparameters)
