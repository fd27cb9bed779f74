"""What `momentax sweep` trains: a network of its own or the user's, or the user's training."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._cli._command import METHODS, Mistake
from momentax._core import arguments

METHOD, EPOCHS, SEED = "heavy_ball", 12, 0  # Where nothing else is said.
_POINT = ("learning_rate", "beta")
_LOSSES, _GAINS = ("loss", "error"), ("accuracy",)


class Task(NamedTuple):
    """What to run at every point.

    run: from a point to a dictionary of numbers.
    training: its pieces, an epoch at a time; None for the user's own training.
    metric: the number by which points are ranked.
    mode: "max" or "min", which end of it is best.
    ties: the numbers that rank points of one metric, and which end of each is best.
    averages: whether its method's gain is 1 - β; None where no method is known.
    title: what it is, for the picture.
    """

    run: Callable[..., dict[str, Any]]
    training: Any
    metric: str
    mode: Any
    ties: dict[str, str]
    averages: bool | None
    title: str


def task(options: Namespace, point: dict[str, Any]) -> Task:
    """Make what the options name, and try it at a point without computing anything."""
    model = options.model and _named("--model", options.model)
    if model and _is_training(options.model, model):
        return _own(options, model, point)
    return _network(options, model)


def _named(option: str, name: str) -> Callable[..., Any]:
    """The function that is named module:function."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise Mistake(f"{option} must be module:function, as mine:network, got {name!r}")
    if os.getcwd() not in sys.path:  # It is there for `python -m`, not for the script.
        sys.path.insert(0, os.getcwd())
    try:
        value = importlib.import_module(module)
    except Exception as error:  # Whatever the module raises.
        kind = type(error).__name__
        raise Mistake(f"{option}: {module} cannot be imported: {kind}: {error}") from error
    for part in path.split("."):
        if not hasattr(value, part):
            raise Mistake(f"{option}: {module} has no {path}")
        value = getattr(value, part)
    if not callable(value):
        raise Mistake(f"{option} {name} must be a function, got {arguments.describe(value)}")
    return value


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if inspect.isclass(function):  # Flax hides that of its classes.
        function = partial(function.__init__, None)
    try:
        return inspect.signature(function)
    except ValueError:  # Some of those that are written in C have none.
        return inspect.Signature()


def _binds(function: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    try:
        _signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


def _is_training(name: str, model: Callable[..., Any]) -> bool:
    """Whether it is a training function, and no network."""
    parameters = _signature(model).parameters
    if parameters.keys() >= set(_POINT):
        return True
    if _binds(model, None) or _binds(model, rngs=None):
        return False
    raise Mistake(
        f"--model {name} must be a network, called with flax.nnx.Rngs, or a training function "
        f"with the arguments learning_rate and beta, got one with the arguments "
        f"({', '.join(map(str, parameters.values()))})"
    )


def _data(name: str) -> Any:
    function = _named("--data", name)
    if not _binds(function):
        raise Mistake(f"--data {name} must be a function without arguments")
    return function()


def _pairs(name: str, data: Any) -> Any:
    """The training and the test data of a network, checked."""
    try:
        parts = [(inputs, np.asarray(labels)) for inputs, labels in data]
        train, test = parts
    except (TypeError, ValueError):
        raise Mistake(
            f"--data {name} must return (train, test), each a pair (inputs, labels), "
            f"got {arguments.describe(data)}"
        ) from None
    for part, (inputs, labels) in {"train": train, "test": test}.items():
        wrong = f"--data {name}: the labels of {part} must be whole numbers from 0 on, 1-D"
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size or labels.min() < 0:
            raise Mistake(f"{wrong}, got {arguments.describe(labels)}")
        for leaf in jax.tree.leaves(inputs):
            if not np.ndim(leaf) or len(leaf) != len(labels):
                raise Mistake(
                    f"--data {name}: {part} has {len(labels)} labels, and inputs of shape "
                    f"{np.shape(leaf)}"
                )
    return jax.tree.map(jnp.asarray, (train, test))


def _network(options: Namespace, model: Callable[..., Any] | None) -> Task:
    from flax import nnx

    from momentax._cli import _digits

    metric = options.metric or ("test_loss" if options.halving is not None else "test_accuracy")
    if metric not in _digits.METRICS:
        raise Mistake(f"--metric must be one of {', '.join(_digits.METRICS)}, got {metric}")
    network = _digits.Network if model is None else _network_of(model)
    data = _pairs(options.data, _data(options.data)) if options.data else _digits.load()
    if options.model or options.data:
        _require_logits(options, network(nnx.Rngs(0)), data)
    method = options.method or METHOD
    epochs = EPOCHS if options.epochs is None else options.epochs
    seed = SEED if options.seed is None else options.seed
    training = _digits.training(METHODS[method], epochs, seed, network, data, metric)
    what = f" of {options.model}" if options.model else ""
    return Task(
        run=training.run,
        training=training,
        metric=metric,
        mode=options.mode or _digits.METRICS[metric],
        ties={
            name: mode
            for name, mode in _digits.METRICS.items()
            if name not in (metric, "train_loss")
        },
        averages=_averages(method),
        title=f"{method}{what} on {options.data or 'handwritten digits'}, {epochs} epochs",
    )


def _averages(method: str) -> bool:
    """Whether a gradient moves the parameters by α over its life, not α / (1 - β)."""
    return method in ("average", "quasi_hyperbolic")


def _network_of(model: Callable[..., Any]) -> Callable[..., Any]:
    if _binds(model, None):
        return model
    return lambda rngs: model(rngs=rngs)


def _require_logits(options: Namespace, module: Any, data: Any) -> None:
    """Refuse what is no network for the data."""
    from flax import nnx

    wrong = f"--model {options.model} must return a flax.nnx module"
    if not isinstance(module, nnx.Module):
        raise Mistake(f"{wrong}, got {arguments.describe(module)}")
    (inputs, labels), (others, more) = data
    if options.model is None:
        shapes = {np.shape(leaf)[1:] for leaf in jax.tree.leaves((inputs, others))}
        if shapes != {(8, 8, 1)}:
            raise Mistake(
                f"--data {options.data} has inputs of shape {(len(labels), *shapes.pop())}, and "
                f"the network for digits takes (n, 8, 8, 1); give a network of your own, --model"
            )
    logits = nnx.eval_shape(lambda network, inputs: network(inputs), module, inputs)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(labels):
        raise Mistake(
            f"{wrong} from {len(labels)} inputs to logits of shape ({len(labels)}, classes), "
            f"got one to {'a ' + type(logits).__name__ if shape is None else f'shape {shape}'}"
        )
    greatest = max(int(labels.max()), int(more.max()))
    if greatest >= shape[1]:
        raise Mistake(
            f"--data {options.data} has the label {greatest}, and the network {shape[1]} classes, "
            f"0 to {shape[1] - 1}"
        )


def _own(options: Namespace, function: Callable[..., Any], point: dict[str, Any]) -> Task:
    """The user's own training function."""
    name, parameters = options.model, _signature(function).parameters
    if options.halving is not None:
        raise Mistake(
            f"--halving needs a network: {name} is a training function, which runs to its end"
        )
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    offered = ("data", "epochs", "method", "seed")
    taken = [argument for argument in offered if takes_all or argument in parameters]
    for argument in offered:
        if getattr(options, argument) is not None and argument not in taken:
            raise Mistake(f"--{argument} is of no use: {name} has no argument {argument}")
    if options.seeds > 1 and "seed" not in taken:
        raise Mistake(f"--seeds is of no use: {name} has no argument seed")
    if not _binds(function, **dict.fromkeys((*_POINT, *taken))):
        raise Mistake(
            f"--model {name} may have no arguments but {', '.join((*_POINT, *offered))} without a "
            f"default, got ({', '.join(map(str, parameters.values()))})"
        )
    given: dict[str, Any] = {}
    if "data" in taken:
        if options.data:
            given["data"] = _data(options.data)
        else:
            from momentax._cli import _digits

            given["data"] = _digits.load()
    if "epochs" in taken:
        given["epochs"] = EPOCHS if options.epochs is None else options.epochs
    if "method" in taken:
        given["method"] = METHODS[options.method or METHOD]
    if "seed" in taken and options.seeds == 1:
        given["seed"] = SEED if options.seed is None else options.seed

    def run(**point: Any) -> dict[str, Any]:
        return function(**point, **given)

    numbers = _numbers(name, run, point)
    if options.metric is not None and options.metric not in numbers:
        raise Mistake(f"--metric must be one of {', '.join(numbers)}, got {options.metric}")
    metric = options.metric or numbers[0]
    return Task(
        run=run,
        training=None,
        metric=metric,
        mode=options.mode or _mode(metric),
        ties={},
        averages=_averages(options.method or METHOD) if "method" in taken else None,
        title=name,
    )


def _numbers(name: str, run: Callable[..., Any], point: dict[str, Any]) -> Sequence[str]:
    """The names of the numbers that a training function returns, in its order."""
    wrong = f"--model {name} must return a dictionary of numbers"
    found: list[str] = []  # JAX itself sorts them.

    def traced(point: dict[str, Any]) -> Any:
        result = run(**point)
        if not isinstance(result, dict) or not all(isinstance(key, str) for key in result):
            raise Mistake(f"{wrong} by their names, got a {type(result).__name__}")
        for key, value in result.items():
            if np.shape(value) or not (
                arguments.is_real(value) or str(arguments.dtype_of(value)) == "bool"
            ):
                raise Mistake(f"{wrong}, got {arguments.describe(value)} for {key}")
        found.extend(key for key in result if key != "diverged")
        return result

    try:
        jax.eval_shape(traced, point)
    except jax.errors.JAXTypeError as error:
        first = str(error).partition("\n")[0]
        raise Mistake(
            f"--model {name} cannot be traced by JAX, as it must be to run at many points at "
            f"once: {first}"
        ) from error
    if not found:
        raise Mistake(f"{wrong}, got none")
    return found


def _mode(metric: str) -> str:
    """Which end of a metric is best, where its name tells."""
    for words, mode in ((_LOSSES, "min"), (_GAINS, "max")):
        if any(word in metric for word in words):
            return mode
    raise Mistake(f"--mode must say whether the least (min) or the greatest (max) {metric} is best")
