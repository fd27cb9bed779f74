"""How the commands read what was typed: numbers, names and near misses, each with its sentence.

Like `_parser` it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from momentax._core.without_jax import is_within, printable

_WIDTH = 88
# The words that other tools use, and the beginning of the option that means the same here.
_ALIASES = {
    "alpha": "learning-rate",
    "dataset": "data",
    "dir": "output",
    "folder": "output",
    "jobs": "devices",
    "momentum": "beta",
    "network": "model",
    "num": "steps",
    "optimizer": "method",
    "out": "output",
    "resume": "store",
    "step-size": "learning-rate",
    "workers": "devices",
    "α": "learning-rate",
    "β": "beta",
}
# What argparse says of an option, and the sentence instead.
_SENTENCES = {
    r"(must .*)": r"{} \1",
    r"expected one argument": "{} needs a value after it",
    r"expected at least one argument": "{} needs at least one value after it",
    r"ignored explicit argument (.*)": r"{} takes no value, got \1",
}


class Parser(argparse.ArgumentParser):
    """A parser that ends the program with one sentence where something is mistyped.

    Names that do not exist are found first, so that `--lr` is not reported as a
    `--learning-rate` that is missing. Negative numbers of any form are values, as in `-1e-3`.
    """

    def __init__(
        self, *args: Any, description: str = "", examples: Sequence[str] = (), **options: Any
    ) -> None:
        self._names: list[str] = []
        self._commands: Collection[str] = ()
        shown = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            *args,
            description=textwrap.fill(description, _WIDTH),
            epilog=f"examples:\n{shown}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument, and keep its names for those that are nearly the same."""
        action = super().add_argument(*names, **options)
        self._names += action.option_strings
        return action

    def add_subparsers(self, **options: Any) -> Any:
        """Add the commands, and keep them."""
        commands = super().add_subparsers(**options)
        self._commands = commands.choices
        return commands

    # The overloads of argparse differ in their types alone.
    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Parse as argparse does, once all names are known to exist."""
        given = list(sys.argv[1:] if args is None else args)
        for each in given:
            if each == "--":
                break
            if each.startswith("-") and len(each) > 1 and not _is_number(each):
                self._require_option(each.partition("=")[0])
            elif self._commands:
                if each not in self._commands:
                    near = did_you_mean(each, self._commands, otherwise="; the commands are ")
                    self.error(f"there is no command {each!r}{near}")
                break  # What follows belongs to the command.
        return super().parse_known_args(_protect_negative_numbers(given), namespace)

    def error(self, message: str) -> NoReturn:
        """Print one sentence and end the program with status 2."""
        if found := re.fullmatch(r"argument (\S+?): (.*)", message, re.DOTALL):
            for pattern, sentence in _SENTENCES.items():
                if re.fullmatch(pattern, found[2]):
                    message = re.sub(pattern, sentence.replace("{}", found[1]), found[2])
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            names = found[1].split(", ")
            listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
            message = f"{listed} {'are' if len(names) > 1 else 'is'} required"
        self.exit(2, f"{self.prog}: error: {shown(message)}\n")

    def _require_option(self, name: str) -> None:
        """Report an option that does not exist; argparse accepts beginnings of a name."""
        if name in self._names:
            return
        if name.startswith("--") and any(each.startswith(name) for each in self._names):
            return
        near = _nearest_option(name, self._names)
        self.error(
            f"there is no option {name}"
            + (f"; did you mean {near}?" if near else f"; {self.prog} --help lists all options")
        )


def shown(text: str) -> str:
    """Return lines for a terminal, with control characters escaped."""
    return "\n".join(map(printable, text.split("\n")))


def did_you_mean(text: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence that names the nearest of some names, or else lists them."""
    names = list(names)
    if near := difflib.get_close_matches(text, names, 1):
        return f"; did you mean {near[0]}?"
    return f"{otherwise}{', '.join(names)}" if otherwise else ""


def _nearest_option(name: str, names: Sequence[str]) -> str | None:
    """Return the option that a person may have meant, or None."""
    bare = name.lstrip("-").lower().replace("_", "-")
    known = {each.lstrip("-").lower(): each for each in names if each.startswith("--")}
    if bare in known:
        return known[bare]
    initials = {"".join(word[0] for word in each.split("-")): each for each in known if "-" in each}
    for stem in (bare, bare.removesuffix("s"), _ALIASES.get(bare, ""), initials.get(bare, "")):
        if stem and (found := [each for each in known if each.startswith(stem)]):
            return known[found[0]]
    if found := initials.get(bare.removesuffix("s")):
        return known[found]
    near = difflib.get_close_matches(bare, known, 1)
    return known[near[0]] if near else None


def numeric(text: str) -> float:
    """Return a number, also one that is negative, infinite or in exponent form."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text.strip()!r}") from None


def real(interval: str) -> Callable[[str], float]:
    """Return the type of a number in an interval such as "[0, 1)"."""

    def read(text: str) -> float:
        value = numeric(text)
        if not is_within(interval, value):
            raise argparse.ArgumentTypeError(f"must be in {interval}, got {value}")
        return value

    return read


def whole(least: int, below: float = math.inf) -> Callable[[str], int]:
    """Return the type of a whole number in [least, below); 1e3 is 1000."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            if not _is_number(text) or not float(text).is_integer():
                wrong = f"must be a whole number, at least {least}, got {text.strip()!r}"
                raise argparse.ArgumentTypeError(wrong) from None
            value = int(float(text))
        start = text.strip() if len(text) < 40 else f"{text[:40].strip()}..."
        if value < least:
            wrong = f"must be a whole number, at least {least}, got {start}"
            raise argparse.ArgumentTypeError(wrong)
        if value >= below:
            raise argparse.ArgumentTypeError(f"must be below {below}, got {start}")
        return value

    return read


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return the type of one of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"must be one of {', '.join(names)}, got {text!r}{did_you_mean(text, names)}"
            )
        return text

    return read


def folder(text: str) -> Path:
    """Return the path of a folder, also one whose name is a negative number."""
    return Path(text.strip() if _is_number(text) else text)


def _protect_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """Return the arguments such that argparse takes each negative number as a value.

    Before Python 3.14 it takes -1e-3 and -inf as options. With a leading space they are not
    taken as options, and Python ignores the space where it reads a number.
    """
    return [f" {each}" if each.startswith("-") and _is_number(each) else each for each in arguments]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def several(known: tuple[str, ...], noun: str) -> Callable[[str], tuple[str, ...]]:
    """Return the type of names with commas between them."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        for name in names:
            if name not in known:
                near = did_you_mean(name, known, otherwise=f"; the {noun}s are ")
                raise argparse.ArgumentTypeError(
                    f"must be names of {noun}s with commas between them, got {name!r}{near}"
                )
        if len(set(names)) < len(names):
            raise argparse.ArgumentTypeError(f"must name each {noun} once, got {text!r}")
        return names

    return read


def add_output(command: argparse.ArgumentParser, files: str) -> None:
    """Add the option --output to a command that writes files."""
    command.add_argument(
        "--output",
        type=folder,
        default=Path(),
        metavar="FOLDER",
        help=f"folder for {files} (default: the current one)",
    )


def choice(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of an argument that is one of some names."""
    return {"type": one_of(names), "metavar": f"{{{','.join(names)}}}"}
