"""What is known of a method: its code, the table of all methods, and docs/methods.toml."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

import momentax
from docs.pages import ROOT


@dataclass(frozen=True)
class Facts:
    """A method and what its page says of it.

    name: its name in code.
    title: its name in words.
    when: when to use it; empty if nothing is written.
    others: the other libraries that have it, by the table; empty if we know of none.
    coefficients: a, b, β and γ of a linear method by name, by the table.
    arguments: the hyperparameters of the pictures, where they are not the defaults.
    family: the method as an expression in β; empty if β is its argument `beta`.
    learning_rate: α of the run that is drawn of a method that is not linear; None draws none.
    """

    name: str
    title: str
    when: str = ""
    others: str = ""
    coefficients: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    family: str = ""
    learning_rate: float | None = None

    @property
    def function(self) -> Callable[..., Any]:
        """The function of momentax."""
        return getattr(momentax, self.name)

    def transformation(self) -> Any:
        """Return the method with the hyperparameters of the pictures."""
        return self.function(**{name: _value(text) for name, text in self.arguments.items()})

    def method_of_beta(self) -> Callable[[Any], Any] | None:
        """Return the method as a function of β, or None if it has no such form."""
        if self.family:
            return eval(f"lambda β: {self.family}", {"momentax": momentax, "max": jnp.maximum})
        if "beta" in inspect.signature(self.function).parameters:
            others = {name: x for name, x in self.arguments.items() if name != "beta"}
            return lambda β: self.function(beta=β, **others)
        return None

    def bytes_per_parameter(self) -> int:
        """Return the bytes of state that the method keeps for each float32 parameter."""
        params = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
        leaves = jax.tree.leaves(jax.eval_shape(self.transformation().init, params))
        return round(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / params.size)


def _value(given: Any) -> Any:
    """Return a hyperparameter; text is an expression, such as another method."""
    return eval(given, {"momentax": momentax}) if isinstance(given, str) else given


@cache
def methods() -> dict[str, Facts]:
    """Return every public method by name, those of docs/methods.toml first and in its order."""
    table = _table()
    written = tomllib.loads((ROOT / "docs" / "methods.toml").read_text(encoding="utf-8"))
    found = {
        name
        for name in momentax.__all__
        if inspect.isfunction(value := getattr(momentax, name))
        and value.__module__.startswith("momentax._methods.")
    }
    if unknown := sorted(set(written) - found):
        raise ValueError(f"docs/methods.toml describes {unknown}, which are no methods of momentax")
    names = [*written, *sorted(found - set(written))]
    known = {n: {"title": _title(n)} | table.get(n, {}) | written.get(n, {}) for n in names}
    return {name: Facts(name, **facts) for name, facts in known.items()}


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _table() -> dict[str, dict[str, Any]]:
    """Return the coefficients and the other libraries of each method in docs/methods/table.md."""
    found: dict[str, dict[str, Any]] = {}
    text = (ROOT / "docs" / "methods" / "table.md").read_text(encoding="utf-8")
    for name, rest in re.findall(r"^\| `(\w+)\([^`]*` \|(.*)\|$", text, re.MULTILINE):
        *cells, others = (cell.strip() for cell in rest.split(" | "))
        row: dict[str, Any] = {"others": others}
        if len(cells) == 5:  # A linear method: a, b, β, γ and the source.
            row["coefficients"] = dict(zip(("a", "b", "beta", "gain"), cells, strict=False))
        known = found.setdefault(name, row)
        if others not in known["others"]:  # Another form of a method that has a row.
            known["others"] = "; ".join(filter(None, (known["others"], others)))
    return found
