"""Read from a compiled program what a donated step does with memory."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tests.compilation import fully_optimized

# An instruction that copies, in any computation of the module: its name, then its type.
_COPY = re.compile(r"\s*(?:ROOT )?%?[\w.-]+ = (\(?\w+\[[^=]*?) copy(?:-start)?\(")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


class Audit(NamedTuple):
    """The costs of a step; "per parameter" is per element of the first donated argument.

    copies: each copy of at least as many elements as the smallest leaf of the parameters, of any
        dtype and shape and also inside of fusions, loops and branches: its line in the program.
    temporary: bytes per parameter that the step allocates.
    aliased: bytes of the outputs that lie in buffers which were donated.
    donated: bytes that were donated.
    accessed: bytes per parameter that the step reads and writes.
    """

    copies: list[str]
    temporary: float
    aliased: int
    donated: int
    accessed: float


def audit(step: Callable[..., Any], *donated: Any, args: tuple[Any, ...] = ()) -> Audit:
    """Compile step(*donated, *args) without running it, and return its costs.

    The first donated argument is the parameters. Arrays may be given as
    `jax.ShapeDtypeStruct`. A step that is jitted already keeps its own donation.
    """
    jitted = step
    if not hasattr(step, "lower"):
        jitted = jax.jit(step, donate_argnums=tuple(range(len(donated))), keep_unused=True)
    compiled = fully_optimized(jitted.lower(*donated, *args))
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(donated[0])]
    memory = compiled.memory_analysis()
    return Audit(
        copies=copies(compiled.as_text(), min(sizes)),
        temporary=memory.temp_size_in_bytes / sum(sizes),
        aliased=memory.alias_size_in_bytes,
        donated=sum(
            math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize
            for leaf in jax.tree.leaves(donated)
        ),
        accessed=compiled.cost_analysis()["bytes accessed"] / sum(sizes),
    )


def copies(program: str, least: int) -> list[str]:
    """Return the lines of an optimized HLO program that copy at least so many elements."""

    def large(type_: str) -> bool:
        shapes = (dims.split(",") for dims in _SHAPE.findall(type_))
        return any(math.prod(int(dim) for dim in dims if dim) >= least for dims in shapes)

    found = map(_COPY.match, program.splitlines())
    return [match.string.strip() for match in found if match and large(match[1])]
