"""The task of `momentax sweep` at each point: training a network, or a function of the user."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import momentax
from momentax._cli import _digits
from momentax._cli._functions import accepts, describe_parameters, import_function, parameters_of
from momentax._cli._training import METRICS, Training
from momentax._cli._usage import UsageError
from momentax._core.arguments import describe, dtype_of, is_real
from momentax._core.metrics import mode_in_name

_POINT = ("learning_rate", "beta")
_OPTIONAL = ("data", "epochs", "method", "seed")  # Optional arguments of a training function.


class Task(NamedTuple):
    """The function that runs at every point, and how its result is ranked.

    run: from a point to a dictionary of numbers.
    training: the training behind it; None for a training function of the user's.
    metric: the name of the number that ranks the points.
    mode: "max" or "min", whether the largest or the smallest value of the metric is best.
    tie_breakers: the numbers that rank points of equal metric, with their modes.
    averages: whether the method's gain is 1 - β, so that its effective learning rate is α
        itself instead of α / (1 - β); None where no method is known.
    title: of the picture.
    resolution: the smallest difference of the metric that means something: that of one test
        image. None where it is not known.
    method: from β to the momentum method; None where no method is known.
    """

    run: Callable[..., dict[str, Any]]
    training: Training | None
    metric: str
    mode: Any
    tie_breakers: dict[str, str]
    averages: bool | None
    title: str
    resolution: float | None
    method: Callable[..., Any] | None


def make_task(options: Namespace, point: dict[str, Any]) -> Task:
    """Make the task that the options name, and trace it at a point without computing anything."""
    model = options.model and import_function("--model", options.model)
    if model and _is_training_function(options.model, model):
        return _make_function_task(options, model, point)
    return _make_network_task(options, model)


def _is_training_function(name: str, model: Callable[..., Any]) -> bool:
    """Return whether a model is a training function and not a network."""
    if parameters_of(model).keys() >= set(_POINT):
        return True
    if accepts(model, None) or accepts(model, rngs=None):
        return False
    raise UsageError(
        f"--model {name} must be a network, called with flax.nnx.Rngs, or a training function "
        f"with the arguments learning_rate and beta, got one with the arguments "
        f"{describe_parameters(model)}"
    )


def _averages(method: str) -> bool:
    return method in ("average", "quasi_hyperbolic")


# A network.


def _make_network_task(options: Namespace, model: Callable[..., Any] | None) -> Task:
    metric = options.metric or ("test_loss" if options.halving is not None else "test_accuracy")
    if metric not in METRICS:
        raise UsageError(f"--metric must be one of {', '.join(METRICS)}, got {metric}")
    network = _digits.Network if model is None else _as_network(model)
    data = _load_pairs(options.data) if options.data else _digits.load()
    if options.model or options.data:
        _require_logits(options, network, data)
    method = getattr(momentax, options.method)
    training = Training(method, options.epochs, options.seed, network, data, metric)
    return Task(
        run=training.run,
        training=training,
        metric=metric,
        mode=options.mode or METRICS[metric],
        tie_breakers={
            name: mode for name, mode in METRICS.items() if name not in (metric, "train_loss")
        },
        averages=_averages(options.method),
        title=_network_title(options, metric),
        resolution=1 / len(data[1][1]) if metric == "test_accuracy" else None,
        method=method,
    )


def _network_title(options: Namespace, metric: str) -> str:
    name = metric.replace("_", " ").capitalize()
    method = options.method.replace("_", " ")
    with_method = f"of {options.model} with {method}" if options.model else f"of {method}"
    epochs = "1 epoch" if options.epochs == 1 else f"{options.epochs} epochs"
    return f"{name} {with_method} on {options.data or 'handwritten digits'} after {epochs}"


def _as_network(model: Callable[..., Any]) -> Callable[..., Any]:
    return model if accepts(model, None) else lambda rngs: model(rngs=rngs)


def _load_data(name: str) -> Any:
    function = import_function("--data", name)
    if not accepts(function):
        raise UsageError(f"--data {name} must be a function without arguments")
    return function()


def _load_pairs(name: str) -> Any:
    """Return the training data and the test data of a network, each checked."""
    data = _load_data(name)
    try:
        train, test = [(inputs, np.asarray(labels)) for inputs, labels in data]
    except (TypeError, ValueError):
        raise UsageError(
            f"--data {name} must return (train, test), each a pair (inputs, labels), "
            f"got {describe(data)}"
        ) from None
    for part, (inputs, labels) in {"train": train, "test": test}.items():
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size or labels.min() < 0:
            raise UsageError(
                f"--data {name}: the labels of {part} must be whole numbers from 0 on, 1-D, "
                f"got {describe(labels)}"
            )
        for leaf in jax.tree.leaves(inputs):
            if not np.ndim(leaf) or len(leaf) != len(labels):
                raise UsageError(
                    f"--data {name}: {part} has {len(labels)} labels, but inputs of shape "
                    f"{np.shape(leaf)}"
                )
    return jax.tree.map(jnp.asarray, (train, test))


def _require_logits(options: Namespace, network: Callable[..., Any], data: Any) -> None:
    """Refuse a network that does not map the inputs to a logit for each of the labels."""
    (inputs, labels), (test_inputs, test_labels) = data
    if options.model is None:
        shapes = {np.shape(leaf)[1:] for leaf in jax.tree.leaves((inputs, test_inputs))}
        if shapes != {(8, 8, 1)}:
            raise UsageError(
                f"--data {options.data} has inputs of shape {(len(labels), *shapes.pop())}, and "
                f"the network for digits takes (n, 8, 8, 1); give your own network with --model"
            )
    wrong = f"--model {options.model} must return a flax.nnx module"
    module = network(nnx.Rngs(0))
    if not isinstance(module, nnx.Module):
        raise UsageError(f"{wrong}, got {describe(module)}")
    logits = nnx.eval_shape(lambda network, inputs: network(inputs), module, inputs)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(labels):
        raise UsageError(
            f"{wrong} from {len(labels)} inputs to logits of shape ({len(labels)}, classes), "
            f"got one to {'a ' + type(logits).__name__ if shape is None else f'shape {shape}'}"
        )
    greatest = max(int(labels.max()), int(test_labels.max()))
    if greatest >= shape[1]:
        raise UsageError(
            f"--data {options.data} has the label {greatest}, and the network {shape[1]} classes, "
            f"0 to {shape[1] - 1}"
        )


# A training function of the user.


def _make_function_task(
    options: Namespace, function: Callable[..., Any], point: dict[str, Any]
) -> Task:
    name = options.model
    given = _optional_arguments(options, function)

    def run(**point: Any) -> dict[str, Any]:
        return function(**point, **given)

    metrics = _metric_names(name, run, point)
    if options.metric is not None and options.metric not in metrics:
        raise UsageError(f"--metric must be one of {', '.join(metrics)}, got {options.metric}")
    metric = options.metric or metrics[0]
    return Task(
        run=run,
        training=None,
        metric=metric,
        mode=options.mode or _mode_of(metric),
        tie_breakers={},
        averages=_averages(options.method) if "method" in given else None,
        title=f"{metric.replace('_', ' ').capitalize()} of {name}",
        resolution=None,
        method=getattr(momentax, options.method) if "method" in given else None,
    )


def _optional_arguments(options: Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments, besides the point's, that a training function takes.

    With several seeds the seed belongs to the point.
    """
    name, parameters = options.model, parameters_of(function)
    if options.halving is not None:
        raise UsageError(
            f"--halving needs a network: {name} is a training function, which runs to its end"
        )
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    taken = [argument for argument in _OPTIONAL if takes_all or argument in parameters]
    for argument in _OPTIONAL:
        if argument in options.given and argument not in taken:
            raise UsageError(f"--{argument} has no effect: {name} has no argument {argument}")
    if options.seeds > 1 and "seed" not in taken:
        raise UsageError(f"--seeds has no effect: {name} has no argument seed")
    if not accepts(function, **dict.fromkeys((*_POINT, *taken))):
        raise UsageError(
            f"--model {name} may have no arguments but {', '.join((*_POINT, *_OPTIONAL))} without "
            f"a default, got {describe_parameters(function)}"
        )
    values: dict[str, Any] = {}
    if "data" in taken:
        values["data"] = _load_data(options.data) if options.data else _digits.load()
    if "epochs" in taken:
        values["epochs"] = options.epochs
    if "method" in taken:
        values["method"] = getattr(momentax, options.method)
    if "seed" in taken and options.seeds == 1:
        values["seed"] = options.seed
    return values


def _metric_names(name: str, run: Callable[..., Any], point: dict[str, Any]) -> list[str]:
    """Return the names of the numbers that a training function returns, in the same order."""

    def checked(point: dict[str, Any]) -> OrderedDict[str, Any]:
        result = run(**point)
        _require_numbers(name, result)
        return OrderedDict(result)  # JAX sorts the keys of a plain dictionary.

    try:
        shapes = jax.eval_shape(checked, point)
    except jax.errors.JAXTypeError as error:
        first_line = str(error).partition("\n")[0]
        raise UsageError(
            f"--model {name} cannot be traced by JAX, which it must be to run at many points at "
            f"once: {first_line}"
        ) from error
    names = [key for key in shapes if key != "diverged"]
    if not names:
        raise UsageError(f"--model {name} must return a dictionary of numbers, got none")
    return names


def _require_numbers(name: str, result: Any) -> None:
    wrong = f"--model {name} must return a dictionary of numbers"
    if not isinstance(result, dict) or not all(isinstance(key, str) for key in result):
        raise UsageError(f"{wrong} by their names, got a {type(result).__name__}")
    for key, value in result.items():
        is_number = is_real(value) or str(dtype_of(value)) == "bool"
        if np.shape(value) or not is_number:
            raise UsageError(f"{wrong}, got {describe(value)} for {key}")


def _mode_of(metric: str) -> str:
    """Return whether the smallest or the largest value of a metric is best, as its name says."""
    if (mode := mode_in_name(metric)) is None:
        raise UsageError(
            f"--mode must say whether the smallest (min) or the greatest (max) {metric} is best"
        )
    return mode
