"""The polar factors of many matrices: those of equal shapes are stacked and iterated together.

Devices that share an update iterate a part of each stack each. A matrix whose parts lie on several
devices is then sent to one of them, and the parts of the result back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, PartitionSpec

from momentax._core import xla
from momentax._core.sharding import (
    Devices,
    automatic_mesh,
    devices_that_share,
    split_dimension,
)
from momentax._core.typing import Reals
from momentax._wrappers._newton_schulz import polar_factors


class _Block(NamedTuple):
    """One stack of matrices: the number of its array and of the block in it."""

    leaf: int
    number: int
    is_tall: bool


def polar_blocks(
    blocks: Sequence[Sequence[jax.Array]], rows: Reals, dtype: Any
) -> list[list[jax.Array]]:
    """Return the polar factors of the blocks of each array, as `polar_factors` computes them."""
    devices = devices_that_share()
    groups: dict[Any, list[_Block]] = {}
    factors: list[list[Any]] = [list(each) for each in blocks]
    for i, each in enumerate(blocks):
        for number, x in enumerate(each):
            count, inputs, outputs = x.shape
            n, m = sorted((inputs, outputs))
            # A stack with a share for each device is iterated alone, since nothing is sent then.
            alone = None if devices is None or count % devices.count else (i, number)
            block = _Block(i, number, inputs > outputs)
            groups.setdefault((n, m, x.dtype, alone), []).append(block)
    for (*_, alone), members in groups.items():
        stacks = [_turned(factors[b.leaf][b.number], b.is_tall) for b in members]
        joined = stacks[0] if len(stacks) == 1 else jax.lax.concatenate(stacks, 0)
        iterate = partial(polar_factors, rows=rows, dtype=dtype)
        if devices is None:
            joined = iterate(joined)
        else:
            joined = _share(iterate, joined, devices, is_sent=alone is None)
        start = 0
        for b, stack in zip(members, stacks, strict=True):
            if devices is None:
                part = xla.part_of(joined, start, len(stack))
            else:  # The compiler sees which devices hold a part at a known place.
                part = jax.lax.slice_in_dim(joined, start, start + len(stack), axis=0)
            factors[b.leaf][b.number] = _turned(part, b.is_tall)
            start += len(stack)
    return factors


def _turned(stack: jax.Array, is_tall: bool) -> jax.Array:
    return jax.lax.transpose(stack, (0, 2, 1)) if is_tall else stack


def _share(iterate: Any, stack: jax.Array, devices: Devices, *, is_sent: bool) -> jax.Array:
    """Iterate a part of a stack on each device.

    `is_sent` says that the devices hold parts of each matrix before and after, and not whole ones.
    """
    count, *sizes = stack.shape
    # Without a dimension that divides, the result is sent whole to each device.
    parts = next((axis for axis in (1, 2) if sizes[axis - 1] % devices.count == 0), None)
    missing = -count % devices.count
    padded = jax.lax.pad(stack, stack.dtype.type(0), ((0, missing, 0), (0, 0, 0), (0, 0, 0)))
    if is_sent:
        padded = split_dimension(padded, devices, parts)
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    whole = PartitionSpec(devices.axes)
    polar = jax.shard_map(
        iterate,
        mesh=automatic_mesh(devices.mesh) if mesh.empty else None,
        in_specs=whole,
        out_specs=whole,
        axis_names={name for name in devices.mesh.axis_names if types.get(name) != AxisType.Manual},
        check_vma=False,  # The iteration starts from constants, which are the same on all devices.
    )(padded)
    if is_sent:
        polar = split_dimension(polar, devices, parts)
    return jax.lax.slice_in_dim(polar, 0, count, axis=0)
