"""Every public callable, with a valid call of it.

The valid call of a function is the one that the example in its docstring makes. Constructors and
methods of classes, which need no example, take their arguments by name from `ARGUMENTS`. A new
function is found and called without a change of this file.
"""

import contextlib
import doctest
import inspect
import io
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import momentax
from momentax.bench._facts import task_hash
from momentax.theory import state_space
from tests.bench.results import result
from tests.sweeps.results import small_result
from tests.test_docstrings import PUBLIC, namespace, namespaces


class Call(NamedTuple):
    """A public callable and the arguments of a valid call, by name.

    name: as a user writes it, such as "momentax.sweeps.SweepResult.best".
    function: the callable; the instance of a method and the class of a class method are bound.
    doc: its docstring.
    arguments: the given arguments by the names of the parameters. Each keyword of a parameter such
        as **axes is an argument of its own.
    unread: the arguments that the callable takes and, as its documentation says, does not read.
    """

    name: str
    function: Callable[..., Any]
    doc: str
    arguments: dict[str, Any]
    unread: tuple[str, ...] = ()

    def __call__(self, **replaced: Any) -> Any:
        """Make the valid call with some arguments replaced."""
        given = self.arguments | replaced
        parameters = inspect.signature(self.function).parameters.values()
        positional = [
            given.pop(p.name) for p in parameters if p.kind == p.POSITIONAL_ONLY and p.name in given
        ]
        for p in parameters:
            if p.kind == p.VAR_POSITIONAL:
                before = [q.name for q in parameters if q.kind == q.POSITIONAL_OR_KEYWORD]
                positional += [given.pop(name) for name in before if name in given]
                positional += given.pop(p.name, ())
        return self.function(*positional, **given)


# A valid argument for each name that constructors and methods of classes use.
ARGUMENTS: dict[str, Callable[[], Any]] = {
    "L": lambda: 1.0,
    "momentax.bench.Costs.about": lambda: {"versions": {}},
    "momentax.bench.Costs.cells": dict,
    "momentax.bench.Costs.hashes": dict,
    "momentax.bench.Entry.default": lambda: {"beta": 0.9},
    "momentax.bench.Entry.make": lambda: lambda horizon, beta: None,
    "momentax.bench.Entry.name": lambda: "mine",
    "momentax.bench.Entry.of.function": lambda: lambda learning_rate: optax.sgd(learning_rate),
    "momentax.bench.Entry.space": lambda: {"beta": momentax.sweeps.uniform(0.5, 0.95)},
    "momentax.bench.Entry.widen.names": lambda: "beta",
    "momentax.bench.Horizon.learning_rate.peak": lambda: 0.5,
    "momentax.bench.Result.about": lambda: {"versions": {}},
    "momentax.bench.Result.cells": dict,
    "momentax.bench.Result.hashes": dict,
    "momentax.bench.Result.fail_where_variants_fail.variants": lambda: result(
        "spiral_deep_wider", nesterov=-2.0, adam=-2.5
    ),
    "momentax.bench.Result.join.other": lambda: INSTANCES["momentax.bench.Result"](),
    "momentax.bench.Result.protocol": lambda: momentax.bench.Protocol(),
    "momentax.bench.Task.batch_size": lambda: None,
    "momentax.bench.Task.measure.loss": lambda: [1.0, 0.1],
    "momentax.bench.statistics.ReferenceCurve.horizons": lambda: [0.25, 1.0, 4.0],
    "momentax.bench.statistics.ReferenceCurve.scores": lambda: [-1.0, -2.0, -3.0],
    "momentax.bench.statistics.ReferenceCurve.score.horizons": lambda: [500.0, 1000.0],
    "momentax.bench.statistics.ReferenceCurve.speed_up.scores": lambda: [-1.5, -2.5],
    "momentax.bench.statistics.ReferenceCurve.beyond.scores": lambda: [-1.5, -2.5],
    "momentax.bench.statistics.ReferenceCurve.label.score": lambda: -1.5,
    "momentax.diagnostics.Measurements.counts": lambda: [0, 1],
    "momentax.diagnostics.Measurements.history": lambda: {"cos": [0.9, 0.5]},
    "momentax.diagnostics.Measurements.latest": lambda: {"cos": 0.5},
    "momentax.diagnostics.Measurements.plot.options": dict,
    "axis": lambda: "beta",
    "beta": lambda: 0.9,
    "beta1": lambda: 0.9,
    "beta2": lambda: 0.5,
    "bookkeeping": lambda: {"foreach": None},
    "checksum": lambda: "2c26b46b68ffc68f",
    "canonical": lambda: momentax.conventions.Canonical(0.0, 0.1, 0.9),
    "config": lambda: {"name": "SGD"},
    "conditions": lambda: {"beta": 0.9},
    "count": lambda: 2,
    "curvatures": lambda: [0.5, 1.0],
    "dims": lambda: {"beta": {"beta": np.array([0.0, 0.9])}},
    "description": lambda: "A network that recognizes digits.",
    "direction": lambda: np.array([1, -1]),
    "diverged": lambda: np.zeros((3, 2), bool),
    "draw": lambda: lambda data, key, steps: jnp.zeros((steps, 0)),
    "exponentials": lambda: [(0.9, 1.0)],
    "factor": lambda: 1.25,
    "floor": lambda: 1e-4,
    "frequencies": lambda: [0.1, 0.5],
    "gradient_step": lambda: 0.0,
    "high": lambda: 1.0,
    "index": lambda: (0, 1),
    "infimum": lambda: 0.0,
    "init": lambda: lambda data, key: {"w": jnp.ones(3)},
    "kappa": lambda: 10.0,
    "kd": lambda: 2.0,
    "key": lambda: jax.random.key(0),
    "ki": lambda: 1.0,
    "kp": lambda: -0.5,
    "learning_rate": lambda: 0.1,
    "load": lambda: dict,
    "loss": lambda: lambda params, batch, data: jnp.sum(params["w"] ** 2),
    "low": lambda: 0.1,
    "mean": lambda: {"loss": np.ones((3, 2))},
    "method": lambda: "nesterov",
    "metric": lambda: "loss",
    "momentum": lambda: 0.9,
    "momentax.sweeps.Mutation.ranges": lambda: None,
    "mu": lambda: 0.1,
    "n": lambda: 3,
    "name": lambda: "kernel",
    "nu": lambda: 0.7,
    "options": dict,
    "path": lambda: "result.npz",
    "point": lambda: {"beta": 0.9},
    "points": lambda: small_result().points,
    "power": lambda: 2,
    "probability": lambda: np.array([0.25, 0.5]),
    "ranges": lambda: {"beta": momentax.sweeps.uniform(0.0, 0.5)},
    "response": lambda: momentax.memory.of(momentax.heavy_ball(0.9))._response,
    "scale": lambda: "log",
    "score": lambda: lambda params, data: jnp.sum(params["w"] ** 2),
    "seed": lambda: (0, 1),
    "source": lambda: "Generated.",
    "standard_error": lambda: 0.1,
    "steps": lambda: 5,
    "task": lambda: "ridge",
    "tx": lambda: momentax.sgd(0.1),
    "validate": lambda: lambda params, data: jnp.sum(params["w"] ** 2),
    "values": lambda: {"loss": np.ones((3, 2))},
    "momentax.sweeps.Distribution.step.values": lambda: np.array([0.25, 0.5]),
    "value": lambda: 0.5,
    "velocity_step": lambda: 0.1,
    "weights": lambda: [0.5, 0.5],
    "width": lambda: 0.5,
}

# An instance of each public class whose constructor is not for users, for its methods.
INSTANCES: dict[str, Callable[[], Any]] = {
    "momentax.bench.Costs": lambda: momentax.bench.Costs({}, {"versions": {}}, {}),
    "momentax.bench.Entry": lambda: momentax.bench.entries["nesterov"],
    "momentax.bench.Horizon": lambda: momentax.bench.Horizon(100),
    "momentax.bench.Result": lambda: result(
        "ridge", task_hash(momentax.bench.tasks["ridge"]), nesterov=-2.0, adam=-2.5
    ).join(result("spiral_deep", nesterov=-2.0, adam=-2.5)),
    "momentax.bench.Task": lambda: momentax.bench.tasks["ridge"],
    "momentax.diagnostics.Curvature": lambda: momentax.diagnostics.Curvature(
        0.5, 1.0, INSTANCES["momentax.diagnostics.Spectrum"](), {}
    ),
    "momentax.memory.Fit": lambda: momentax.memory.fit([1.0, 0.5, 0.2], buffers=1),
    "momentax.memory.Kernel": lambda: momentax.memory.of(momentax.heavy_ball(0.9)),
    "momentax.Rollout": lambda: momentax.Rollout(
        {"w": np.zeros(1)}, (), {"loss": np.array([1.0, 0.5])}
    ),
    "momentax.diagnostics.Spectrum": lambda: momentax.diagnostics.Spectrum(
        np.array([[0.5, 1.0]]), np.array([[0.5, 0.5]]), 2
    ),
    "momentax.theory.Analysis": lambda: momentax.theory.analyze(
        momentax.theory.StateSpace(np.eye(1), -np.ones(1), np.ones(1)), 0.5, 1.0
    ),
}


def public_callables() -> dict[str, Any]:
    """Return every public function, class and public method of a class, by its public name.

    A class of named fields that JAX builds again with any leaves, which every NamedTuple is,
    cannot check them: its constructor is left out, and its methods are not.
    """
    found = {}
    for name, value in PUBLIC.items():
        if not (inspect.isclass(value) and issubclass(value, (tuple, momentax.sweeps.Mean))):
            found[name] = value
        if inspect.isclass(value):
            found |= {f"{name}.{method}": value for method in _public_methods(value)}
    return found


def _public_methods(cls: type) -> list[str]:
    """Return the methods that take an argument, without those that JAX's registration needs."""
    inherited = {
        name for base in cls.__mro__[1:] if base in PUBLIC.values() for name in dir(base)
    } - vars(cls).keys()  # They are tried on the public base.
    return [
        name
        for name, member in inspect.getmembers(cls)
        if name not in inherited
        and not name.startswith(("_", "tree_"))
        and (inspect.isfunction(member) or inspect.ismethod(member))
        and (getattr(member, "__module__", "") or "").startswith("momentax")
        and len(inspect.signature(member).parameters) > inspect.isfunction(member)
    ]


def valid_call(name: str) -> Call:
    """Return the valid call of a public callable, or raise a ValueError that says what to add."""
    value = public_callables()[name]
    if inspect.isfunction(value):
        return Call(name, value, inspect.getdoc(value) or "", _arguments_of_example(name, value))
    if name in PUBLIC:
        return Call(name, value, inspect.getdoc(value) or "", _arguments_by_name(name, value))
    owner, _, method = name.rpartition(".")
    function = getattr(value, method)
    if inspect.isfunction(function):
        function = getattr(_instance(owner, value), method)
    documented = [getattr(base, method, None) for base in value.__mro__]
    doc = "\n".join(filter(None, map(inspect.getdoc, documented)))
    return Call(name, function, doc, _arguments_by_name(name, function))


def _instance(name: str, cls: type) -> Any:
    if issubclass(cls, momentax.sweeps.SweepResult):
        result = small_result()
        return cls(result.points, result.values, result.diverged)
    if name in INSTANCES:
        return INSTANCES[name]()
    return cls(**_arguments_by_name(name, cls))


def _key_of(name: str, parameter: inspect.Parameter) -> str:
    """Return the key of an argument in ARGUMENTS, which may begin with that of its callable."""
    own = f"{name}.{parameter.name}"
    return own if own in ARGUMENTS else parameter.name


def _arguments_by_name(name: str, function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    if missing := [p.name for p in required if _key_of(name, p) not in ARGUMENTS]:
        raise ValueError(
            f"{name} has no valid call: add valid values of {', '.join(missing)} to ARGUMENTS in "
            "tests/public_calls.py"
        )
    given = {}
    for p in required:
        value = ARGUMENTS[_key_of(name, p)]()
        given |= value if p.kind == p.VAR_KEYWORD else {p.name: value}
    return given


class _Reached(BaseException):
    """Ends an example where it calls the function."""


def _arguments_of_example(name: str, function: Any) -> dict[str, Any]:
    """Run the example of a function up to its call, and return the arguments by name."""

    def stop(*args: Any, **keywords: Any) -> Any:
        raise _Reached(args, keywords)

    with contextlib.ExitStack() as stack:
        for owner, attribute in _places(function):
            stack.enter_context(mock.patch.object(owner, attribute, stop))
        names = namespace()
        try:
            for example in doctest.DocTestParser().get_examples(inspect.getdoc(function) or ""):
                exec(compile(example.source, name, "single"), names)
        except _Reached as reached:
            args, keywords = reached.args
            return _by_name(function, args, keywords)
    raise ValueError(
        f"{name} has no valid call: call it as {name}(...) in the example of its docstring"
    )


def _places(function: Any) -> Iterator[tuple[Any, str]]:
    """Yield each public namespace that has a function, with its name there."""
    for _, owner in namespaces():
        for attribute in owner.__all__:
            if getattr(owner, attribute) is function:
                yield owner, attribute


def _by_name(function: Any, args: Any, keywords: Any) -> dict[str, Any]:
    bound = inspect.signature(function).bind(*args, **keywords)
    given = {}
    for p in bound.signature.parameters.values():
        if p.kind == p.VAR_KEYWORD:
            given |= bound.arguments.get(p.name) or ARGUMENTS[p.name]()
        elif p.name in bound.arguments:
            given[p.name] = bound.arguments[p.name]
    # Reading a transformation compiles a program; its system is as valid and is read once.
    for p in bound.signature.parameters.values():
        tx = given.get(p.name)
        if isinstance(tx, optax.GradientTransformation) and "StateSpace" in str(p.annotation):
            given[p.name] = state_space(tx)
    return given


def returned_calls(name: str) -> list[Call]:
    """Return valid calls of what a public function returns: a transformation or a schedule."""
    call = valid_call(name)
    tx = call()
    if not isinstance(tx, optax.GradientTransformation):
        return [Call(f"{name}.schedule", tx, call.doc, {"count": 3})]
    names = namespace()
    params, grads = names["params"], names["grads"]
    state = tx.init(params)
    extra = {"value": jnp.float32(1.0), "prev_grad": grads}
    update = optax.with_extra_args_support(tx).update
    given = {"updates": grads, "state": state, "params": params} | extra
    needed = [key for key in ("params", *extra) if _is_needed(update, given, key)]
    for key in extra:
        if key not in needed:
            del given[key]
    # A transformation of Optax is given the parameters whether it reads them or not.
    unread = tuple({"params", *extra} - {*needed})
    return [
        Call(f"{name}.init", tx.init, call.doc, {"params": params}),
        Call(f"{name}.update", update, call.doc, given, unread),
    ]


def _is_needed(update: Any, given: dict[str, Any], key: str) -> bool:
    """Return whether an update needs an argument, which it refuses to be without."""
    try:
        update(**{name: value for name, value in given.items() if name != key})
    except (TypeError, ValueError):
        return True
    return False


@contextlib.contextmanager
def as_a_user(folder: Any) -> Iterator[None]:
    """Run calls in a folder of their own, as JAX is set for users, without output or figures."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(before)
        plt.close("all")
