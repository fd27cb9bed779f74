"""Count the messages between devices in a compiled program."""

import re
from collections import Counter

# An instruction that sends data between devices; what it computes stands before its name.
_COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|"
    r"collective-broadcast)(?:-start)?\("
)
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def collectives(program, least=1):
    """Return how many collectives of each kind a compiled program has.

    Those whose results all have fewer entries than `least` are left out.
    """
    return Counter(kind for kind, entries in _found(program) if entries >= least)


def results_of_products(program):
    """Return the shapes of the results of all products of matrices in a program."""
    found = re.findall(r" = \w+\[([\d,]*)\]\S* (?:dot|custom-call)\(", program.as_text())
    return {tuple(map(int, dims.split(","))) for dims in found if dims}


def _found(program):
    for line in program.as_text().splitlines():
        if match := _COLLECTIVE.search(line):
            shapes = [dims.split(",") for dims in _SHAPE.findall(match[1])]
            sizes = [_size(dims) for dims in shapes]
            yield match[2], max(sizes, default=1)


def _size(dims):
    size = 1
    for dim in filter(None, dims):
        size *= int(dim)
    return size
