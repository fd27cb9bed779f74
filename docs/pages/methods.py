"""The pages of *Methods*: one for each method, from its docstring, its facts and its pictures."""

from __future__ import annotations

import inspect
from pathlib import Path

from docs.pages.docstrings import inline, read_sections, to_rst
from docs.pages.facts import Facts, methods
from docs.pages.files import remove_others, write
from docs.pages.pictures import write_pictures

_PICTURES = {
    "memory": (
        "Memory and frequency response",
        "Left: the weight of each past gradient in the direction. The circle is the age at which "
        "half of all weight is reached, the diamond the mean age. Right: how much of a gradient "
        "that oscillates reaches the direction, from slow changes to a change of sign at every "
        "step.",
    ),
    "map": (
        "Stability and speed",
        "The factor by which an error shrinks in each step, the worst over the curvatures from 1 "
        "to 100, at every learning rate and β: brighter is faster. Beyond the black line, the "
        "stability edge, the method diverges. The star is the best setting.",
    ),
    "factors": (
        "Stability and speed",
        "The factor by which an error shrinks in each step along each curvature, at a third of "
        "the largest learning rate that is stable for curvatures from 1 to 100. Beyond the "
        "stability edge the factor exceeds 1.",
    ),
    "run": (
        "A run",
        "Sixty steps in the ravine κ x² + y² with κ = 20, beside plain descent at its best "
        "learning rate. The learning rates are in the legend.",
    ),
}


def write_pages(folder: Path) -> None:
    """Write the page of each method with its pictures, and the table of all methods."""
    facts = methods()
    drawn = write_pictures(folder / "pictures", facts)
    for name, fact in facts.items():
        write(folder / f"{name}.rst", _page(fact, drawn[name]))
    write(folder / "index.rst", _index(facts))
    remove_others(folder, {f"{name}.rst" for name in facts} | {"index.rst"}, ".rst")


def _page(fact: Facts, pictures: list[str]) -> str:
    sections = dict(read_sections(inspect.getdoc(fact.function) or ""))
    summary, _, *rest = to_rst("\n".join(sections[""]))
    parts = [
        _heading(fact.title, "="),
        f".. code-block:: python\n\n    momentax.{fact.name}{_signature(fact)}",
        summary,
    ]
    if fact.when:
        parts += [f".. admonition:: When to use it\n    :class: tip\n\n    {inline(fact.when)}"]
    parts += [_heading("Equation"), "\n".join(rest)]
    if fact.coefficients:
        parts += [_heading("Coefficients"), _coefficients(fact)]
    for name in pictures:
        parts += _picture(fact, name)
    if "memory" not in pictures:
        parts += [_NOT_LINEAR]
    parts += [
        _heading("State and other libraries"),
        f"It keeps {fact.bytes_per_parameter()} bytes of state for each float32 parameter.",
        f"Other libraries that have it: {_sentence(fact.others)}" if fact.others else _NOBODY,
        _heading("Source"),
        "\n".join(to_rst("\n".join(sections["Source"]))),
        f"All arguments with their intervals: :py:obj:`momentax.{fact.name}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    """Return an entry of the table as the end of a sentence on another page."""
    text = inline(text.rstrip("."))
    return text.replace(", see below", ", see :doc:`the table <table>`") + "."


_NOBODY = "We know of no other library that has it."
_NOT_LINEAR = """.. note::

    This method is not a fixed linear filter of the gradients, so it has no kernel, no frequency
    response and no map of its stability."""


def _heading(title: str, line: str = "-") -> str:
    return f"{title}\n{line * len(title)}"


def _signature(fact: Facts) -> str:
    """Return the arguments with their defaults, without types."""
    given = inspect.signature(fact.function)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in given.parameters.values()]
    return str(inspect.Signature(bare))


def _coefficients(fact: Facts) -> str:
    cells = [fact.coefficients[name] for name in ("a", "b", "beta", "gain")]
    rows = ["   * - a\n     - b\n     - β\n     - γ"]
    rows += ["   * - " + "\n     - ".join(inline(cell) for cell in cells)]
    return (
        "The coefficients of the common form v ← β v + γ g, d = a g + b v. The sign ⁺ marks the "
        "value of the next step and ⁻ that of the previous one.\n\n"
        ".. list-table::\n   :header-rows: 1\n\n" + "\n".join(rows)
    )


def _picture(fact: Facts, name: str) -> list[str]:
    title, about = _PICTURES[name]
    settings = ", ".join(f"{k} = {v}" for k, v in fact.arguments.items())
    given = f" The picture has {settings}." if settings and name in ("memory", "run") else ""
    image = f".. image:: pictures/{fact.name}_{name}.png\n   :alt: {title} of {fact.title}"
    return [_heading(title), inline(about + given), image]


def _index(facts: dict[str, Facts]) -> str:
    rows = ["   * - Method\n     - When to use it\n     - Bytes"]
    for name, fact in facts.items():
        cells = (inline(fact.when), str(fact.bytes_per_parameter()))
        title = f":doc:`{fact.title} <{name}>`"
        rows.append("\n     - ".join([f"   * - {title}", *cells]))
    names = "\n".join(f"   {name}" for name in facts)
    return (
        "\n\n".join(
            [
                _heading("Methods", "="),
                inline(_INTRODUCTION),
                f":doc:`The table of all methods <table>` has {_IN_THE_TABLE}.",
                ".. list-table::\n   :header-rows: 1\n   :widths: 27 63 10\n\n" + "\n".join(rows),
                f".. toctree::\n   :hidden:\n\n   table\n{names}",
            ]
        )
        + "\n"
    )


_IN_THE_TABLE = "the coefficients, the sources and the other libraries"
_INTRODUCTION = (
    "A method maps gradients to directions, and `momentax.sgd(learning_rate, method)` makes steps "
    "along them. Each page has the equation, the memory, the frequency response and the stability "
    "of a method, in pictures that the library made from its code. Bytes are those of the state "
    "for each float32 parameter."
)
