"""The task of `momentax sweep` at each point: training a network, or a function of the user."""

from __future__ import annotations

import sys
import traceback
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import momentax
from momentax._cli import _digits
from momentax._cli._arguments import did_you_mean
from momentax._cli._functions import accepts, describe_parameters, import_function, parameters_of
from momentax._cli._training import METRICS, REGRESSION_METRICS, Training, is_regression
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
    data: a sentence that says what data the user's function is given; empty without one.
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
    data: str


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
    if options.metric is not None:
        _require_metric(options.metric, METRICS)
    network = _digits.Network if model is None else _as_network(model)
    data = _load_pairs(options.data) if options.data else _digits.load()
    metrics = REGRESSION_METRICS if is_regression(data[0][1]) else METRICS
    first = "test_accuracy" if options.halving is None and metrics is METRICS else "test_loss"
    metric = options.metric or first
    _require_metric(metric, metrics)
    if options.model or options.data:
        _require_outputs(options, network, data)
    method = getattr(momentax, options.method)
    training = Training(method, options.epochs, options.seed, network, data, metric)
    return Task(
        run=training.run,
        training=training,
        metric=metric,
        mode=options.mode or metrics[metric],
        tie_breakers={
            name: mode for name, mode in metrics.items() if name not in (metric, "train_loss")
        },
        averages=_averages(options.method),
        title=_network_title(options, metric),
        resolution=1 / len(data[1][1]) if metric == "test_accuracy" else None,
        method=method,
        data=_describe_data(options.model, data) if options.model else "",
    )


def _require_metric(metric: str, metrics: Iterable[str]) -> None:
    if metric not in metrics:
        raise UsageError(
            f"--metric must be one of {', '.join(metrics)}, got {metric}"
            f"{did_you_mean(metric, metrics)}"
        )


def _describe_data(model: str, data: Any) -> str:
    inputs, labels = data[0]
    return (
        f"{model} is called with inputs {_shapes(inputs)}, and its outputs are compared with "
        f"labels {_shapes(labels)}"
    )


def _shapes(tree: Any) -> str:
    """Describe the shape and dtype of each array in a tree, whose first dimension is n."""
    found = []
    for path, leaf in jax.tree.leaves_with_path(tree):
        sizes = ", ".join(["n", *map(str, np.shape(leaf)[1:])]) + "," * (np.ndim(leaf) == 1)
        name = f"{jax.tree_util.keystr(path)} " if path else ""
        found.append(f"{name}of shape ({sizes}) and dtype {leaf.dtype}")
    return ", ".join(found)


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
        if not _are_labels(labels):
            raise UsageError(
                f"--data {name}: the labels of {part} must be whole numbers from 0 on, 1-D, or "
                f"finite real numbers, 1-D or 2-D, got {describe(labels)}"
            )
        for leaf in jax.tree.leaves(inputs):
            if not np.ndim(leaf) or len(leaf) != len(labels):
                raise UsageError(
                    f"--data {name}: {part} has {len(labels)} labels, but inputs of shape "
                    f"{np.shape(leaf)}"
                )
    if is_regression(train[1]) != is_regression(test[1]):
        raise UsageError(
            f"--data {name}: the labels of train and test must be of one kind, got the dtypes "
            f"{train[1].dtype} and {test[1].dtype}"
        )
    train, test = jax.tree.map(jnp.asarray, (train, test))
    if _shapes(train) != _shapes(test):
        raise UsageError(
            f"--data {name}: train and test must have the same shapes but for the number of "
            f"examples n, got {_shapes(train)} and {_shapes(test)}"
        )
    return train, test


def _are_labels(labels: Any) -> bool:
    if not labels.size:
        return False
    if is_regression(labels):
        return labels.ndim in (1, 2) and bool(np.isfinite(labels).all())
    return labels.dtype.kind in "iu" and labels.ndim == 1 and labels.min() >= 0


def _require_outputs(options: Namespace, network: Callable[..., Any], data: Any) -> None:
    """Refuse a network that does not map the inputs to what is compared with the labels."""
    (inputs, labels), (test_inputs, test_labels) = data
    if options.model is None:
        shapes = {np.shape(leaf)[1:] for leaf in jax.tree.leaves((inputs, test_inputs))}
        if shapes != {(8, 8, 1)}:
            raise UsageError(
                f"--data {options.data} has inputs of shape {(len(labels), *shapes.pop())}, and "
                f"the network for digits takes (n, 8, 8, 1); give your own network with --model"
            )
        if is_regression(labels):
            raise UsageError(
                f"--data {options.data} has labels that are real numbers, and the network for "
                "digits takes classes; give your own network with --model"
            )
    shape = _output_shape(options, network, inputs)
    if is_regression(labels):
        if shape != labels.shape and shape != (*labels.shape, 1):
            raise UsageError(
                f"--model {options.model} must return outputs of the labels' shape, "
                f"{labels.shape}, for inputs {_shapes(inputs)}, got shape {shape}"
            )
        return
    if len(shape) != 2 or shape[0] != len(labels):
        raise UsageError(
            f"--model {options.model} must return a flax.nnx module from {len(labels)} inputs to "
            f"logits of shape ({len(labels)}, classes), got one to shape {shape}"
        )
    greatest = max(int(labels.max()), int(test_labels.max()))
    if greatest >= shape[1]:
        raise UsageError(
            f"--data {options.data} has the label {greatest}, and the network {shape[1]} classes, "
            f"0 to {shape[1] - 1}"
        )


def _output_shape(options: Namespace, network: Callable[..., Any], inputs: Any) -> Any:
    """Return the shape of a network's outputs, without computing them."""
    module = nnx.eval_shape(lambda: _as_module(options.model, network(nnx.Rngs(0))))
    try:
        outputs = nnx.eval_shape(lambda network, inputs: network(inputs), module, inputs)
    except (TypeError, ValueError) as error:  # What JAX and Flax raise of shapes that do not fit.
        raise UsageError(
            f"--model {options.model} fails on inputs {_shapes(inputs)}, where n is "
            f"{len(jax.tree.leaves(inputs)[0])}: {_first_line(error)}{_place(error)}"
        ) from error
    if not hasattr(outputs, "shape"):
        raise UsageError(
            f"--model {options.model} must return a flax.nnx module from inputs to an array, got "
            f"one to a {type(outputs).__name__}"
        )
    return outputs.shape


def _as_module(name: str, module: Any) -> nnx.Module:
    if not isinstance(module, nnx.Module):
        raise UsageError(f"--model {name} must return a flax.nnx module, got {describe(module)}")
    return module


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _place(error: Exception) -> str:
    """Return the innermost line of the user's own files that an error comes from, if any."""
    folders = (sys.prefix, sys.base_prefix, str(Path(momentax.__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith((*folders, "<"))]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


# A training function of the user.


def _make_function_task(
    options: Namespace, function: Callable[..., Any], point: dict[str, Any]
) -> Task:
    name = options.model
    given = _optional_arguments(options, function)

    def run(**point: Any) -> dict[str, Any]:
        return function(**point, **given)

    handed = _describe_given(name, given["data"]) if "data" in given else ""
    metrics = _metric_names(name, run, point, handed)
    metric = options.metric or metrics[0]
    _require_metric(metric, metrics)
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
        data=handed,
    )


def _describe_given(name: str, data: Any) -> str:
    """Describe the data of a training function; its own --data may return anything."""
    shapes = jax.tree.map(lambda leaf: f"{np.shape(leaf)} {dtype_of(leaf)}", data)
    text = describe(shapes).replace("'", "")
    return f"{name} is given data of the shapes and dtypes {text}"


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


def _metric_names(
    name: str, run: Callable[..., Any], point: dict[str, Any], handed: str
) -> list[str]:
    """Return the names of the numbers that a training function returns, in the same order.

    handed: a sentence about the data that it is given, to be shown if shapes do not fit.
    """

    def checked(point: dict[str, Any]) -> OrderedDict[str, Any]:
        result = run(**point)
        _require_numbers(name, result)
        return OrderedDict(result)  # JAX sorts the keys of a plain dictionary.

    try:
        shapes = jax.eval_shape(checked, point)
    except jax.errors.JAXTypeError as error:
        raise UsageError(
            f"--model {name} cannot be traced by JAX, which it must be to run at many points at "
            f"once: {_first_line(error)}"
        ) from error
    except (TypeError, ValueError) as error:
        if not handed:  # The error keeps its traceback.
            raise
        raise UsageError(f"{handed}; it fails: {_first_line(error)}{_place(error)}") from error
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
