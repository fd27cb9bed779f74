"""The JavaScript formulas of the explorer, to be called from Python."""

import json
import math
from collections.abc import Sequence
from typing import Any

from py_mini_racer import MiniRacer

from momentax.explorer._page import FORMULAS, script

_NUMBERS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_WRITE = """
const write = (value) => JSON.stringify(value, (_, each) =>
  typeof each === "number" && !Number.isFinite(each) ? String(each) : each);
"""


class Formulas:
    """Calls a function of the formulas by its name, with arguments and results as JSON."""

    def __init__(self, modules: Sequence[str] = FORMULAS) -> None:
        self.engine = MiniRacer()
        self.engine.eval(script(modules) + _WRITE)

    def eval(self, expression: str) -> Any:
        text = self.engine.eval(f"write({expression})")
        return _numbers(json.loads(str(text)))

    def __call__(self, function: str, *arguments: Any) -> Any:
        return self.eval(f"{function}({', '.join(map(json.dumps, arguments))})")

    def kernel(self, name: str, beta: float, extra: float = 0.0) -> Any:
        """Return the kernel of a method."""
        return self("((n, b, e) => kernelOf(METHODS[n].coefficients(b, e)))", name, beta, extra)


def _numbers(value: Any) -> Any:
    """Put the numbers that JSON does not have in place of their names."""
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    return _NUMBERS.get(value, value) if isinstance(value, str) else value
