"""Read from a compiled program what its devices send to each other."""

import math
import re
from collections import Counter
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|"
    r"collective-broadcast)(?:-start)?\((.*)"
)
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+))"
)
_GROUP = re.compile(
    r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]|"
    r"mesh\[(.*?)\](?:, device_ids=\(.*?\))? \{(.*?)\})"
)


class Collective(NamedTuple):
    """An operation by which devices send arrays to each other.

    operation: its name, such as "all-reduce".
    dtypes: the dtypes of the arrays.
    entries: the entries of the largest array of the result on one device.
    bytes: the bytes of the result on one device.
    sent: the bytes that each device sends if it has one neighbour to send to, as on a ring.
    branch: the computation that contains it if that is a branch of a conditional, or None.
    """

    operation: str
    dtypes: frozenset[str]
    entries: int
    bytes: int
    sent: float
    branch: str | None


def collectives(program: str) -> list[Collective]:
    """Return the collectives of an optimized HLO program."""
    bodies, name = {}, None
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[1]
            bodies[name] = []
        elif name is not None:
            bodies[name].append(line)
    roots = {}
    for lines in bodies.values():
        for listed, single in _BRANCHES.findall("\n".join(lines)):
            for branch in (listed or single).split(","):
                _mark(branch.strip().lstrip("%"), branch.strip().lstrip("%"), bodies, roots)
    return [
        _read(found, roots.get(name))
        for name, lines in bodies.items()
        for found in filter(None, map(_COLLECTIVE.search, lines))
    ]


def count_collectives(compiled, least=1):
    """Count the collectives of each kind in a compiled program.

    Those whose results all have fewer entries than `least` are left out.
    """
    found = collectives(compiled.as_text())
    return Counter(each.operation for each in found if each.entries >= least)


def _mark(name, branch, bodies, roots):
    """Note the branch of a computation and of all that it calls."""
    if name in roots:
        return
    roots[name] = branch
    for called in _CALLED.findall("\n".join(bodies.get(name, ()))):
        _mark(called, branch, bodies, roots)


def _read(found, branch):
    shapes = [(dtype, _entries(dims)) for dtype, dims in _SHAPE.findall(found[1])]
    size = sum(entries * _itemsize(dtype) for dtype, entries in shapes)
    # A permutation lists pairs of devices, and each of them sends its whole array.
    count = 2 if found[2] == "collective-permute" else _group_size(found[3])
    share = (count - 1) / count
    sent = {"all-reduce": 2 * share, "reduce-scatter": count - 1, "collective-permute": 1}
    dtypes = frozenset(dtype for dtype, _ in shapes)
    largest = max((entries for _, entries in shapes), default=1)
    return Collective(found[2], dtypes, largest, size, size * sent.get(found[2], share), branch)


def _entries(dims):
    return math.prod(int(dim) for dim in dims.split(",") if dim)


def _itemsize(dtype):
    return 1 if dtype == "pred" else int(re.search(r"\d+", dtype)[0]) // 8


def _group_size(text):
    """Return the number of devices that send to each other."""
    found = _GROUP.search(text)
    if found is None:
        raise ValueError(f"the devices of a collective were not found in {text}")
    listed, size, mesh, axes = found.groups()
    if listed is not None:
        return listed.count(",") + 1
    if size is not None:
        return int(size)
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", axes))
