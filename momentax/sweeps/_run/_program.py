"""Programs of one point: traced once, and compiled for each batch shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from momentax._core import arguments
from momentax._core.sharding import Devices
from momentax._core.trees import Difference
from momentax._core.typing import PyTree
from momentax._core.xla import evaluate
from momentax.sweeps._axes import describe_point
from momentax.sweeps._run._fingerprint import Fingerprint, fingerprint

if TYPE_CHECKING:  # The module loads slowly.
    from jax.extend.core import ClosedJaxpr

_PROGRAMS: WeakKeyDictionary[Any, dict[Any, Program]] = WeakKeyDictionary()


class Program:
    """A function (shared, point) -> outputs, traced for one point and run for many.

    `shared` is the same for all points of a batch. The leaves of a point are
    stacked on a leading axis, and so are the outputs.
    """

    def __init__(self, function: Callable[[PyTree, PyTree], PyTree]):
        self._jitted = jax.jit(function)
        self._batched: dict[Any, Any] = {}
        self._single: dict[Any, Any] = {}
        self.batch_choices: dict[Any, Any] = {}  # Batch sizes that were chosen, for later calls.

    def trace(self, shared: PyTree, point: PyTree) -> Traced:
        """Trace the function; JAX does so once for the same shapes and settings."""
        traced = self._jitted.trace(shared, point)
        return Traced(self, traced.jaxpr, traced.out_info, traced)

    def batched(self, jaxpr: ClosedJaxpr, devices: Devices) -> Any:
        """Return the jitted function of the leaves of `shared` and of a batch."""
        key = id(jaxpr), devices
        if key not in self._batched:
            # The entry holds the jaxpr too, so that its id stays in use.
            self._batched[key] = jaxpr, jax.jit(_map_over_points(jaxpr, devices))
        return self._batched[key][1]

    def single(self, traced: Traced, device: Any) -> Any:
        """Return the compiled function of the leaves of one point, as a loop would run it."""
        key = id(traced.jaxpr), device
        if key not in self._single:
            with jax.default_device(device):
                self._single[key] = traced.jaxpr, traced.stage.lower().compile()
        return self._single[key][1]


class FunctionError(Exception):
    """A function that the traced one calls failed; `name` is its name, and the cause its error."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class Traced(NamedTuple):
    """A program for points of given shapes.

    program: what was traced.
    jaxpr: the jaxpr of one point.
    out: the outputs' shapes and dtypes, a pytree.
    stage: what JAX compiles to run one point.
    """

    program: Program
    jaxpr: ClosedJaxpr
    out: PyTree
    stage: jax.stages.Traced

    def fingerprint(self) -> Fingerprint:
        """Return what distinguishes the program from others, in any process."""
        return fingerprint(self.jaxpr)


class Compiled:
    """A traced program on its devices, with its shared arguments.

    compiling: makes the context in which XLA compiles.
    """

    def __init__(
        self,
        traced: Traced,
        shared: PyTree,
        point: PyTree,
        devices: Devices,
        compiling: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.traced, self.devices = traced, devices
        self._shared = [devices.replicate(leaf) for leaf in jax.tree.leaves(shared)]
        self._point = jax.tree.leaves(point)
        self._call = traced.program.batched(traced.jaxpr, devices)
        self._compiling = compiling
        self._seconds: dict[int, float] = {}
        self.batch_sizes: list[int] = []  # Of the calls so far.

    def compile(self, batch_size: int) -> float:
        """Compile for a batch size; return the bytes it takes on each device, NaN if unknown."""
        batch = [
            jax.ShapeDtypeStruct(
                (batch_size, *leaf.shape), leaf.dtype, sharding=self.devices.sharding
            )
            for leaf in self._point
        ]
        start = time.perf_counter()
        memory = self._compile(batch).memory_analysis()
        seconds = self.devices.reduce_over_processes(time.perf_counter() - start)
        self._seconds.setdefault(batch_size, seconds)
        if memory is None:
            return float("nan")
        return (
            memory.temp_size_in_bytes
            + memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.generated_code_size_in_bytes
        )

    def _compile(self, batch: PyTree) -> Any:
        with self._compiling():
            return self._call.lower(self._shared, batch).compile()

    def compile_seconds(self, batch_size: int) -> float:
        """Return how long it took to compile for a batch size."""
        return self._seconds[batch_size]

    def __call__(self, points: PyTree) -> PyTree:
        """Return the outputs for a batch, once they are computed."""
        batch = [self._place(leaf) for leaf in jax.tree.leaves(points)]
        size = len(batch[0])
        if size not in self._seconds and size not in self.batch_sizes:
            self._compile(batch)  # JAX keeps the program, and the call finds it.
        out = jax.block_until_ready(self._call(self._shared, batch))
        self.batch_sizes.append(size)
        return jax.tree.unflatten(jax.tree.structure(self.traced.out), out)

    def compile_one(self) -> Any:
        """Return the compiled program of a single point, on the first of the devices."""
        self.batch_sizes.append(self.devices.count)
        with self._compiling():
            return self.traced.program.single(self.traced, self.devices.all[0])

    def _place(self, leaf: Any) -> jax.Array:
        """Return a batch's leaf on the devices; that of a state is there."""
        return self.devices.shard(leaf) if isinstance(leaf, np.ndarray) else leaf


def cached_program(function: Any, key: Any, make: Callable[[Callable[[], Any]], Any]) -> Program:
    """Return the program that `make` builds from a function; a later call returns the same one.

    `make` is given a weak reference to the function, so that the program is
    deleted together with the function.
    """
    try:
        programs = _PROGRAMS.setdefault(function, {})
        reference: Callable[[], Any] = ref(function)
    except TypeError:  # The function has no hash or no weak reference, so it is not cached.
        programs, reference = {}, lambda: function
    if key not in programs:
        programs[key] = Program(make(reference))
    return programs[key]


def require_untraced(name: str) -> None:
    """Refuse to run inside of a function that JAX traces into a program, as under jax.jit."""
    if arguments.is_traced(jax.device_put(np.int32(0))):  # This compiles nothing.
        raise TypeError(
            f"{name} cannot run inside of a function that JAX traces, as under jax.jit or "
            f"jax.lax.scan: it compiles and runs programs itself. Call {name} outside of it"
        )


def trace_at(
    program: Program,
    shared: PyTree,
    point_shapes: PyTree,
    name: str,
    point: Mapping[str, Any],
    fixed: Collection[str] | None = None,
) -> Traced:
    """Trace a program for one point; an error names the function and the point.

    fixed: the axes whose values are part of the program, if other axes could be too.
    """
    try:
        traced = program.trace(shared, point_shapes)
    except Exception as error:  # The caller's function can raise anything.
        if isinstance(error, FunctionError):
            name, error = error.name, error.__cause__ or error
        # A TypeError or ValueError keeps its class, since callers may catch it.
        kind = next((k for k in (TypeError, ValueError) if isinstance(error, k)), RuntimeError)
        text = (
            f"{name} failed at the point {describe_point(point)}: {type(error).__name__}: {error}"
        )
        if fixed is not None and isinstance(error, jax.errors.JAXTypeError):
            # The function needs the value of a tracer.
            axes = [axis for axis in point if axis not in fixed]
            text += f"\nIf it needs the value of an axis itself, write static={axes[:1]!r}"
        raise kind(text) from error
    # JAX makes an array that is being traced an argument, or keeps it as a constant.
    closed_over = len(traced.jaxpr.in_avals) - len(jax.tree.leaves((shared, point_shapes)))
    if closed_over or any(map(arguments.is_traced, traced.jaxpr.consts)):
        raise TypeError(
            f"{name} uses an array that JAX traces, as under jax.jit, jax.grad or jax.vmap, from "
            "outside of it, whose value is not known; call this outside of the traced function, "
            "or make the value an axis of the points"
        )
    return traced


def compare_shapes(leaf: Any, like: Any, path: Any) -> Difference | None:
    """Return the difference of two leaves in shape or dtype, or None if there is none."""
    given, expected = (f"{x.dtype}{list(x.shape)}" for x in (leaf, like))
    return None if given == expected else Difference(path, given, expected, TypeError)


def _map_over_points(jaxpr: ClosedJaxpr, devices: Devices) -> Callable[..., Any]:
    """Return the function of a batch: vmap over a device's points, shard_map over devices."""
    split = PartitionSpec(devices.axes)
    dtypes = [aval.dtype for aval in jaxpr.out_avals]

    def one(*leaves: Any) -> list[Any]:
        """Evaluate one point; a jaxpr may return a constant as a Python number."""
        return [
            jnp.asarray(x, dtype) for x, dtype in zip(evaluate(jaxpr, *leaves), dtypes, strict=True)
        ]

    def local(shared: list[Any], batch: list[Any]) -> list[Any]:
        if len(batch[0]) == 1:  # The program of a single point, as a loop would run it.
            return [out[None] for out in one(*shared, *(leaf[0] for leaf in batch))]
        return jax.vmap(lambda *point: one(*shared, *point))(*batch)

    # A point's program does not depend on other points, so there is nothing to check.
    return jax.shard_map(
        local,
        mesh=devices.mesh,
        in_specs=(PartitionSpec(), split),
        out_specs=split,
        axis_names=set(devices.axes),
        check_vma=False,
    )
