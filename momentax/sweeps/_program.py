"""A function of one point: traced once, compiled for each batch shape."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from momentax._core.typing import PyTree
from momentax.sweeps._devices import Devices
from momentax.sweeps._keys import is_key

if TYPE_CHECKING:  # It loads slowly, and only a sweep that runs needs it.
    from jax.extend.core import ClosedJaxpr


class Fingerprint(NamedTuple):
    """What a traced function computes, the same in every process.

    text: its jaxpr.
    data: a digest of the arrays that it closes over.
    """

    text: str
    data: str


class Program:
    """A function (shared, point) -> outputs, traced for one point and run for many.

    What is shared is the same for all points of a batch, the leaves of a point
    are stacked on a leading axis, and so are the outputs'.
    """

    def __init__(self, function: Callable[[PyTree, PyTree], PyTree]):
        self._traced = jax.jit(function)
        self._batched: dict[Any, Any] = {}
        self.chosen: dict[Any, Any] = {}  # The engine's batch sizes, for the next time.

    def trace(self, shared: PyTree, point: PyTree) -> Traced:
        """Trace the function; JAX does so once for the same shapes and settings."""
        traced = self._traced.trace(shared, point)
        return Traced(self, traced.jaxpr, traced.out_info)

    def batched(self, jaxpr: ClosedJaxpr, devices: Devices) -> Any:
        """The jitted function of what is shared and of the leaves of a batch."""
        key = id(jaxpr), devices
        if key not in self._batched:
            from jax.extend.core import jaxpr_as_fun

            split = PartitionSpec(devices.axes)
            evaluated = jaxpr_as_fun(jaxpr)

            def one(*leaves: Any) -> list[Any]:
                """A point's outputs; a constant comes out of a jaxpr as Python's number."""
                out = evaluated(*leaves)
                dtypes = (aval.dtype for aval in jaxpr.out_avals)
                return [jnp.asarray(x, dtype) for x, dtype in zip(out, dtypes, strict=True)]

            def local(same: list[Any], each: list[Any]) -> list[Any]:
                if len(each[0]) == 1:  # The program of one point, as a loop would run it.
                    return [out[None] for out in one(*same, *(leaf[0] for leaf in each))]
                return jax.vmap(lambda *point: one(*same, *point))(*each)

            # A point's program knows nothing of the others, so nothing is to be checked of them.
            mapped = jax.shard_map(
                local,
                mesh=devices.mesh,
                in_specs=(PartitionSpec(), split),
                out_specs=split,
                axis_names=set(devices.axes),
                check_vma=False,
            )
            self._batched[key] = jaxpr, jax.jit(mapped)  # The jaxpr lives on, and so its id.
        return self._batched[key][1]


class Traced(NamedTuple):
    """A program for points of given shapes.

    program: what was traced.
    jaxpr: of one point.
    out: the outputs' shapes and dtypes, a pytree.
    """

    program: Program
    jaxpr: ClosedJaxpr
    out: PyTree

    def fingerprint(self) -> Fingerprint:
        """What tells it from others, in any process."""
        digest = hashlib.sha256()
        for array in _arrays(self.jaxpr):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        text = self.jaxpr.pretty_print(use_color=False)
        return Fingerprint(re.sub(r" at 0x[0-9a-f]+", "", text), digest.hexdigest())


class Compiled:
    """A traced program on its devices, with what is shared given."""

    def __init__(self, traced: Traced, shared: PyTree, point: PyTree, devices: Devices):
        self.traced, self.devices = traced, devices
        self._shared = [devices.copied(leaf) for leaf in jax.tree.leaves(shared)]
        self._point = jax.tree.leaves(point)
        self._call = traced.program.batched(traced.jaxpr, devices)
        self._seconds: dict[int, float] = {}
        self.ran: list[int] = []  # The batch sizes of the calls.

    def compile(self, batch: int) -> float:
        """Compile for a batch size; bytes that it takes on each device, or NaN."""
        each = [
            jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype, sharding=self.devices.sharding)
            for leaf in self._point
        ]
        begin = time.perf_counter()
        memory = self._call.lower(self._shared, each).compile().memory_analysis()
        self._seconds.setdefault(batch, self.devices.agreed(time.perf_counter() - begin))
        if memory is None:
            return float("nan")
        return (
            memory.temp_size_in_bytes
            + memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.generated_code_size_in_bytes
        )

    def seconds(self, batch: int) -> float:
        """How long it took to compile."""
        return self._seconds[batch]

    def __call__(self, points: PyTree) -> PyTree:
        """The outputs for a batch, when they are there."""
        each = jax.tree.leaves(points)
        out = jax.block_until_ready(self._call(self._shared, each))
        self.ran.append(len(each[0]))
        return jax.tree.unflatten(jax.tree.structure(self.traced.out), out)


def _arrays(jaxpr: Any) -> Iterator[np.ndarray]:
    """The arrays in a jaxpr, at any depth, in order."""
    from jax.extend.core import Literal

    for constant in getattr(jaxpr, "consts", ()):
        yield _numbers(constant)
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            if isinstance(variable, Literal):
                yield _numbers(variable.val)
        for _, parameter in sorted(equation.params.items()):
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(inner, "eqns"):
                    yield from _arrays(inner)


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(value) if is_key(value) else value)
