"""The tables of *Bytes and messages*: formulas of what devices send and keep.

`tests/test_communication.py` compares the formulas with compiled programs at small sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from docs.pages.files import write

DEVICES = (8, 64, 512, 4096)
PARAMETERS = {"10⁹": 10**9, "10¹²": 10**12}
EVERY = 30  # K, the updates from one round of outer momentum to the next.
# Bytes an entry of each array that an encoded array consists of; int8 has blocks of 256 entries.
CODES = {"float32": (4.0,), "bfloat16": (2.0,), "int8": (1.0, 4 / 256)}


class Operation(NamedTuple):
    """A collective: its name as XLA writes it, and its bytes for each parameter.

    An all-gather and an all-to-all are counted by the arrays that a device has afterwards, an
    all-reduce and a reduce-scatter by those that it has before.
    """

    name: str
    bytes: float

    def sent(self, parameters: float, devices: int) -> float:
        """Return the bytes that each device sends, on a ring of devices."""
        share = (devices - 1) / devices
        return (2 if self.name == "all-reduce" else 1) * share * self.bytes * parameters

    def messages(self, devices: int) -> int:
        """Return the messages that each device sends, on a ring of devices."""
        return (2 if self.name == "all-reduce" else 1) * (devices - 1)


class Scheme(NamedTuple):
    """A way to train on several devices: its collectives, and after how many updates they run."""

    operations: tuple[Operation, ...]
    every: int = 1

    def sent(self, parameters: float, devices: int) -> float:
        """Return the bytes that each device sends in a round."""
        return sum(each.sent(parameters, devices) for each in self.operations)

    def messages(self, devices: int) -> int:
        """Return the messages that each device sends in a round, for one array of parameters."""
        return sum(each.messages(devices) for each in self.operations)


def outer(code: str, every: int = EVERY) -> Scheme:
    """Return outer momentum, whose workers send pseudo-gradients in a code."""
    if code == "float32":
        return Scheme((Operation("all-reduce", 4.0),), every)
    names = ("all-to-all", "all-gather")
    return Scheme(tuple(Operation(name, part) for name in names for part in CODES[code]), every)


REPLICATED = Scheme((Operation("all-reduce", 4.0),))
SPLIT = Scheme((Operation("reduce-scatter", 4.0), Operation("all-gather", 4.0)))
# XLA makes a reduce-scatter of an all-reduce and a slice on GPUs and TPUs, and not on CPUs.
SPLIT_ON_CPU = Scheme((Operation("all-reduce", 4.0), Operation("all-gather", 4.0)))

SCHEMES = {
    "velocity replicated": REPLICATED,
    "velocity split, `shard_velocity`": SPLIT,
    f"`outer`, K = {EVERY}": outer("float32"),
    f"`outer`, K = {EVERY}, `bfloat16()`": outer("bfloat16"),
    f"`outer`, K = {EVERY}, `int8()`": outer("int8"),
}
# The velocities of a method, each of which a storage may keep in fewer bytes, and other buffers.
METHODS = {
    "`heavy_ball`, `nesterov`, `lion`, `muon`": (1, 0),
    "`aggregated`, 3 velocities": (3, 0),
    "`quasi_hyperbolic_adam`, `nadam`": (1, 1),
}


def kept(velocities: int, others: int, code: str, parameters: float, split_over: int = 1) -> float:
    """Return the bytes of an optimizer's state on each device."""
    return (velocities * sum(CODES[code]) + 4 * others) * parameters / split_over


def write_tables(folder: Path) -> None:
    """Write a file for each table, which guides/communication.md includes."""
    write(folder / "communication_sent.md", _sent_table())
    write(folder / "communication_messages.md", _messages_table())
    write(folder / "communication_kept.md", _kept_table())


def _sent_table() -> str:
    rows = [
        (f"{count} parameters, {name}", *(
            size(scheme.sent(parameters, n) / scheme.every) for n in DEVICES
        ), size(scheme.sent(parameters, DEVICES[-1])))
        for count, parameters in PARAMETERS.items()
        for name, scheme in SCHEMES.items()
    ]  # fmt: skip
    return _table(("", *(f"{n:,} devices" for n in DEVICES), "most in one update"), rows)


def _messages_table() -> str:
    rows = [
        (name, *(number(scheme.messages(n) / scheme.every) for n in DEVICES))
        for name, scheme in SCHEMES.items()
    ]
    return _table(("", *(f"{n:,} devices" for n in DEVICES)), rows)


def _kept_table() -> str:
    rows = [
        (f"{count} parameters, {method}, {code}", size(kept(*buffers, code, parameters)), *(
            size(kept(*buffers, code, parameters, n)) for n in DEVICES
        ))
        for count, parameters in PARAMETERS.items()
        for method, buffers in METHODS.items()
        for code in CODES
    ]  # fmt: skip
    return _table(("", "replicated", *(f"split over {n:,}" for n in DEVICES)), rows)


def size(count: float) -> str:
    """Write a number of bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def number(value: float) -> str:
    """Write a number of messages."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
