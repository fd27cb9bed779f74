"""The docstrings of momentax as reStructuredText, for autodoc and autosummary.

A docstring is written to be read in `help()`: formulas in Unicode letters, code in single
backticks, sections in one order. Here the formulas become mathematics, the names become links, and
the sections become headings.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from textwrap import dedent, indent
from typing import Any

from docs.pages.formulas import is_formula, to_mathml
from docs.pages.names import namespace_of, resolve
from docs.pages.terms import terms_of

_SECTION = re.compile(r"^([A-Z]\w+):$")
_TITLES = {"Args": "Arguments", "Attributes": "Fields", "Examples": "Example"}
_CODE = re.compile(
    r"^\s*(def \w+\(|for \w+(, \w+)* in |from \S+ import |import |\w+(, \w+)* = [a-z.]+\()",
    re.MULTILINE,
)
_ITEM = re.compile(r"^(\**\w+(?:, \**\w+)*): (.*)$")
# A letter or a number with a subscript, a superscript or both.
_SCRIPTED = re.compile(
    r"""(?<!\w)
    (?P<base>Δ?[A-Za-zα-ωΣ][\u0302\u0304]?\d?'?[²³]?|μx|\d+\.\d+)
    (?:_(?P<down>\{[^{}]+\}|(?<=[α-ω]_)[a-z]{2,}|\w))?
    (?:\^(?P<up>\{[^{}]+\}|(?<=[α-ω]\^)[a-z]{2,}|\w))?
    (?P<end>[²³ᵀ]?)(?!\w)""",
    re.VERBOSE,
)
_LETTER = re.compile(r"(?<!\w)(Δ?[^\W\d_][\u0302\u0304]?)_(\{[^{}]+\}|\w)(?!\w)")
_LOW = dict(zip("0123456789+-aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
Link = Callable[[str], str]


def to_rst(doc: str, namespace: str = "momentax", fields: Iterable[str] = ()) -> list[str]:
    """Return a docstring as lines of reStructuredText.

    Args:
        doc: The docstring, with or without its indentation.
        namespace: The namespace in which names in backticks are looked up first.
        fields: The fields of a record, which its docstring describes without a section.
    """
    link = partial(link_name, namespace=namespace)
    fields = set(fields)
    sections = list(read_sections(doc))
    # Text behind a section belongs to the whole, and would look like a part of the section.
    whole = [line for title, text in sections if not title for line in [*text, ""]]
    lines = _paragraphs(whole, link, fields)
    for title, text in sections:
        if not title:
            continue
        lines += [f".. rubric:: {_TITLES.get(title, title)}", ""]
        if title in ("Args", "Attributes", "Raises", "Warns"):
            lines += _definitions(text, link)
        elif title in ("Example", "Examples"):
            lines += [*text, ""]
        else:
            lines += _paragraphs(text, link, fields)
    return lines


def link_name(code: str, namespace: str = "momentax") -> str:
    """Return a link to the page of a name, or the code as it is."""
    full = resolve(code, namespace)
    return f":py:obj:`{code} <{full}>`" if full else f"``{code}``"


def read_sections(doc: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the lines of each section; text outside of the sections has none."""
    title, lines = "", []
    for line in inspect.cleandoc(doc).splitlines():
        found = _SECTION.match(line)
        if found or (title and line and not line[0].isspace()):
            yield title, dedent("\n".join(lines)).splitlines()
            title, lines = (found[1], []) if found else ("", [line])
        else:
            lines.append(line)
    yield title, dedent("\n".join(lines)).splitlines()


def _definitions(lines: list[str], link: Link) -> list[str]:
    """Return items such as `beta: β in [0, 1)`, each with its indented lines, as definitions."""
    found: list[str] = []
    for item in _items(lines):
        first, *rest = item
        match = _ITEM.match(first)
        if match is None:
            raise ValueError(f"not an item of a section: {first!r}")
        terms = ", ".join(f"``{name}``" for name in match[1].split(", "))
        body = _paragraphs([match[2], *dedent("\n".join(rest)).splitlines()], link)
        found += [terms, indent("\n".join(body), "    "), ""]
    return [*"\n".join(found).splitlines(), ""]


def _items(lines: list[str]) -> Iterator[list[str]]:
    """Yield groups of lines that begin with a line that is not indented."""
    group: list[str] = []
    for line in lines:
        if line and not line[0].isspace() and group:
            yield group
            group = []
        if line or group:
            group.append(line)
    if group:
        yield group


def _paragraphs(lines: list[str], link: Link, fields: Iterable[str] = ()) -> list[str]:
    """Return text: paragraphs, lists, indented formulas or code, and the fields of a record."""
    found: list[str] = []
    described: list[str] = []  # The fields, which follow the text.
    i = 0
    while i < len(lines):
        if not lines[i].strip():
            i += 1
        elif lines[i].startswith("    "):
            end = _end_of_block(lines, i)
            found += [*_block(dedent("\n".join(lines[i:end])).strip("\n"), link), ""]
            i = end
        elif (match := _ITEM.match(lines[i])) and set(match[1].split(", ")) & set(fields):
            end = i + 1
            while end < len(lines) and (lines[end].startswith("    ") or _is_field(lines[end])):
                end += 1
            described += lines[i:end]
            i = end
        else:
            end = i
            while end < len(lines) and lines[end].strip():
                end += 1
            found += [*_paragraph(lines[i:end], link), ""]
            i = end
    return found + _fields(described, link) if described else found


def _is_field(line: str) -> bool:
    return bool(_ITEM.match(line))


def _fields(lines: list[str], link: Link) -> list[str]:
    return [".. rubric:: Fields", "", *_definitions(lines, link)]


def _end_of_block(lines: list[str], start: int) -> int:
    """Return where an indented block ends; empty lines within it belong to it."""
    end = last = start
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        if lines[end].strip():
            last = end
        end += 1
    return last + 1


def _block(text: str, link: Link) -> list[str]:
    """Return an indented block as mathematics, as terms and texts, or as it is."""
    if is_formula(text):
        return [".. raw:: html", "", f'    <div class="formula">{to_mathml(text)}</div>']
    if _CODE.search(text):
        return [".. code-block:: python", "", *indent(text, "    ").splitlines()]
    if terms := terms_of(text.splitlines()):
        return _described(terms, link)
    shown = "\n".join(map(with_low_letters, text.splitlines()))
    return [".. code-block:: none", "", *indent(shown, "    ").splitlines()]


def _described(terms: list[tuple[str, str]], link: Link) -> list[str]:
    found: list[str] = []
    for term, text in terms:
        shown = f"``{term}``" if "`" not in term else inline(term, link)
        found += [shown, f"    {inline(text, link)}", ""]
    return found


def with_low_letters(line: str) -> str:
    """Write the subscripts of a line in Unicode, as in vₜ, and keep its columns in their places."""
    shown, missing = "", 0
    for part in re.split(r"( {2,})", line):
        if part.isspace():
            shown, missing = shown + part + " " * missing, 0
            continue
        low = _LETTER.sub(lambda found: found[1] + _low(found[2]), part)
        shown, missing = shown + low, missing + len(part) - len(low)
    return shown.rstrip()


def _low(text: str) -> str:
    inner = text.strip("{}")
    known = all(letter in _LOW for letter in inner)
    return "".join(map(_LOW.__getitem__, inner)) if known else f"_{text}"


def _paragraph(lines: list[str], link: Link) -> list[str]:
    """Return a paragraph, a list or terms with their texts, in which names are links."""
    if len(lines) > 1 and (terms := terms_of(lines)):
        return _described(terms, link)
    if re.match(r"[-*] ", lines[0]):
        items = re.split(r"\n(?=[-*] )", "\n".join(lines))
        return [f"- {inline(' '.join(item[2:].split()), link)}" for item in items]
    return [inline(" ".join(line.strip() for line in lines), link)]


def inline(text: str, link: Link = link_name) -> str:
    """Return a line of text with its code as links or literals, and all else as plain text."""
    parts = re.split(r"`([^`]+)`", text)
    found = [_prose(part) if i % 2 == 0 else link(part) for i, part in enumerate(parts)]
    joined = "".join(
        part if i % 2 == 0 else _separated(part, found[i - 1], found[i + 1])
        for i, part in enumerate(found)
    )
    return re.sub(r"::$", r":\\:", re.sub(r"^([-+•*]|\w{1,2}[.)])(?= )", r"\\\1", joined))


def _separated(code: str, before: str, after: str) -> str:
    """Separate inline code from letters beside it, as reStructuredText needs."""
    left = "\\ " if before and not re.search(r"[\s(\[{'\"/:<-]$", before) else ""
    right = "\\ " if after and not re.match(r"[\s.,;:!?)\]}'\"/>-]", after) else ""
    return f"{left}{code}{right}"


def _prose(text: str) -> str:
    """Return text without code, in which letters such as v_{t-1} and ρ^t have their scripts."""
    found, place = [], 0
    for match in _SCRIPTED.finditer(text):
        scripts = [("sub", match["down"]), ("sup", match["up"])]
        shown = [
            f":{role}:`{each.strip('{}').replace('-', '−')}`" for role, each in scripts if each
        ]
        if shown:
            parts = "\\ ".join([match["base"], *shown])
            found += [_escape(text[place : match.start()]), f"{parts}\\ {match['end']}"]
            place = match.end()
    return "".join(found) + _escape(text[place:])


def _escape(text: str) -> str:
    return re.sub(r"([\\*`|]|(?<=\w)_)", r"\\\1", text)


def process(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:  # The signature of Sphinx's event autodoc-process-docstring.
    """Replace the lines of a docstring that autodoc has read."""
    del app, what, options
    fields = inspect.get_annotations(value) if inspect.isclass(value) else {}
    namespace = namespace_of(name)
    lines[:] = to_rst("\n".join(lines), namespace, fields)
