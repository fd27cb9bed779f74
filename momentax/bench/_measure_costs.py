"""Measuring what a step of each method costs, in turns with plain gradient descent."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.bench import _facts
from momentax.bench._costs import BASELINE, Cost, Costs
from momentax.bench._entries import entries
from momentax.bench._entry import Entry
from momentax.bench._horizon import Horizon
from momentax.bench._run import as_entries, as_tasks
from momentax.bench._task import Task
from momentax.storage import bytes_per_parameter

_ROWS = 16  # The number of batches, which are used again and again.
_SECONDS = 0.1  # The time that a round of gradient descent takes at least.
_COUNTED = 10  # The steps in which evaluations of the loss are counted.


class _Arguments(NamedTuple):
    """What a loop of training steps gets: hyperparameters, data, parameters and batches."""

    hyperparameters: Any
    data: Any
    params: PyTree
    batches: PyTree


class _Program(NamedTuple):
    """A compiled loop of training steps.

    run: a function of the number of steps and the arguments.
    given: the arguments.
    compile_seconds: the time to trace and compile it.
    bytes_per_parameter: of the optimizer's state.
    gradients: evaluations of the gradient in a step.
    loss_evaluations: evaluations of the loss alone in a step.
    """

    run: Callable[..., Any]
    given: _Arguments
    compile_seconds: float
    bytes_per_parameter: float
    gradients: float
    loss_evaluations: float

    def seconds(self, steps: int) -> float:
        """Return the time of a step."""
        start = time.perf_counter()
        jax.block_until_ready(self.run(np.int32(steps), self.given))
        return (time.perf_counter() - start) / steps


def costs(
    methods: Any = None, tasks: Any = None, *, rounds: int = 9, progress: bool = True
) -> Costs:
    """Measure what a training step of each method costs on each task.

    Each method runs at its default hyperparameters. A round runs plain gradient descent and then
    the method, for as many steps each, so that both see the same load of the machine. Measure on a
    machine that does nothing else. A compilation cache on disk makes the compile times meaningless.
    On models as small as these the ratio says little of large ones, where the gradient takes most
    of the time.

    Args:
        methods: Names of `momentax.bench.entries`, values of type Entry, or functions of a learning
            rate, as for `momentax.bench.run`; one, or several. None measures all entries.
        tasks: Names of `momentax.bench.tasks` or values of type Task; one, or several. None
            measures on all tasks.
        rounds: The number of rounds, at least 1.
        progress: Whether to write a line for each method and task to standard error.

    Returns:
        A Costs.

    Raises:
        ValueError: A name is not one of those, two methods or tasks have one name, or rounds is
            below 1.
        TypeError: An argument has another type.

    Example:
        >>> found = momentax.bench.costs("nesterov", "ridge", rounds=1, progress=False)
        >>> found.cells["ridge", "nesterov"].gradients
        1.0
    """
    chosen, on = as_entries(methods), as_tasks(tasks)
    rounds, shows = arguments.as_count("rounds", rounds), arguments.as_flag("progress", progress)
    hashes = {name: _facts.task_hash(task) for name, task in on.items()}
    start, cells = time.monotonic(), dict[tuple[str, str], Cost]()
    for task in on.values():
        baseline = _compile(entries[BASELINE], task)
        for entry in chosen.values():
            is_baseline = entry is entries[BASELINE]
            program = baseline if is_baseline else _compile(entry, task)
            cost = _in_turns(baseline, program, rounds)
            cells[task.name, entry.name] = cost
            if shows:
                line = f"{task.name} {entry.name}: {cost.milliseconds:.3g} ms a step"
                print(f"{line}, {cost.ratio:.2f} times SGD", file=sys.stderr, flush=True)
    return Costs(cells, _facts.about((time.monotonic() - start) / 3600), hashes)


def _in_turns(baseline: _Program, program: _Program, rounds: int) -> Cost:
    """Time a program in turns with plain gradient descent."""
    for each in (baseline, program):
        each.seconds(2)  # The first run allocates memory.
    steps = max(3, math.ceil(_SECONDS / baseline.seconds(3)))
    pairs = np.array([[each.seconds(steps) for each in (baseline, program)] for _ in range(rounds)])
    is_same = baseline is program
    ratio = 1.0 if is_same else float(np.median(pairs[:, 1] / pairs[:, 0]))
    milliseconds = float(1000 * np.median(pairs[:, 1]))
    return Cost(milliseconds, ratio, *program[2:])


def _compile(entry: Entry, task: Task) -> _Program:
    """Compile a loop of training steps."""
    data = {name: jnp.asarray(array) for name, array in task.load().items()}
    init_key, batch_key = jax.random.split(jax.random.key(0))
    batches = task.draw(data, batch_key, _ROWS)
    values = {name: jnp.float32(value) for name, value in entry.default.items()}
    given = _Arguments(values, data, task.init(data, init_key), batches)
    horizon = Horizon(task.steps, entry.shape)
    calls: list[None] = []

    def noted(value: jax.Array) -> jax.Array:
        calls.append(None)
        return value

    loop = _loop(entry, task, horizon, noted)
    start = time.perf_counter()
    compiled = jax.jit(loop).lower(np.int32(1), given).compile()
    seconds = time.perf_counter() - start
    tx = entry.make(horizon, **values)
    state = jax.eval_shape(tx.init, given.params)
    memory = bytes_per_parameter(state, params=given.params)
    # A method that does not call value_fn while it is traced never does.
    gradients, losses = _count(entry, task, horizon, given) if calls else (0.0, 0.0)
    return _Program(compiled, given, seconds, memory, 1 + gradients, losses)


def _loop(
    entry: Entry, task: Task, horizon: Horizon, noted: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array, _Arguments], Any]:
    """Return a function that makes training steps as `Task.train` does, and scores nothing.

    noted: what each loss passes through that the method itself evaluates.
    """

    def run(count: jax.Array, given: _Arguments) -> Any:
        tx = optax.with_extra_args_support(entry.make(horizon, **given.hyperparameters))

        def step(i: jax.Array, carry: Any) -> Any:
            params, state = carry
            batch = jax.tree.map(
                lambda rows: jax.lax.dynamic_index_in_dim(rows, i % _ROWS, keepdims=False),
                given.batches,
            )

            def value_fn(params: PyTree) -> jax.Array:
                return task.loss(params, batch, given.data)

            def own_value_fn(params: PyTree) -> jax.Array:
                return noted(value_fn(params))

            value, g = jax.value_and_grad(value_fn)(params)
            u, state = tx.update(g, state, params, value=value, grad=g, value_fn=own_value_fn)
            return optax.apply_updates(params, u), state

        return jax.lax.fori_loop(0, count, step, (given.params, tx.init(given.params)))

    return run


def _count(entry: Entry, task: Task, horizon: Horizon, given: _Arguments) -> tuple[float, float]:
    """Count how often a method's update evaluates the gradient, and the loss alone, in a step."""
    counts = {"gradients": 0, "losses": 0}

    def add(name: str) -> Callable[[Any], None]:
        def one_more(value: Any) -> None:
            del value  # Under vmap there is one call for each value.
            counts[name] += 1

        return one_more

    @jax.custom_jvp
    def noted(value: jax.Array) -> jax.Array:
        jax.debug.callback(add("losses"), value)
        return value

    @noted.defjvp
    def noted_with_gradient(primals: Any, tangents: Any) -> Any:
        jax.debug.callback(add("gradients"), *primals)
        return primals[0], tangents[0]

    jax.block_until_ready(jax.jit(_loop(entry, task, horizon, noted))(np.int32(_COUNTED), given))
    jax.effects_barrier()
    return counts["gradients"] / _COUNTED, counts["losses"] / _COUNTED
