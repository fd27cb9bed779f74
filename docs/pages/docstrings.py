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

_SECTION = re.compile(r"^([A-Z]\w+):$")
_TITLES = {"Args": "Arguments", "Example": "Example", "Examples": "Example"}
_CODE = re.compile(
    r"^\s*(def \w+\(|for \w+(, \w+)* in |from \S+ import |import |\w+(, \w+)* = [a-z.]+\()",
    re.MULTILINE,
)
_ITEM = re.compile(r"^(\**\w+(?:, \**\w+)*): (.*)$")
_SUBSCRIPT = re.compile(r"(?<!\w)([A-Za-zα-ω][\u0302\u0304]?\d?'?)_(\{[^{}]+\}|\w)(?!\w)")
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
    lines: list[str] = []
    for title, text in read_sections(doc):
        if title:
            lines += [f".. rubric:: {_TITLES.get(title, title)}", ""]
        if title in ("Args", "Raises", "Warns"):
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
    i = 0
    while i < len(lines):
        if not lines[i].strip():
            i += 1
        elif lines[i].startswith("    "):
            end = _end_of_block(lines, i)
            found += [*_block(dedent("\n".join(lines[i:end])).strip("\n")), ""]
            i = end
        elif (match := _ITEM.match(lines[i])) and set(match[1].split(", ")) & set(fields):
            end = i + 1
            while end < len(lines) and (lines[end].startswith("    ") or _is_field(lines[end])):
                end += 1
            found += [*_fields(lines[i:end], link), ""]
            i = end
        else:
            end = i
            while end < len(lines) and lines[end].strip():
                end += 1
            found += [*_paragraph(lines[i:end], link), ""]
            i = end
    return found


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


def _block(text: str) -> list[str]:
    """Return an indented block as mathematics, or as it is if it is code or a table."""
    if is_formula(text):
        return [".. raw:: html", "", f'    <div class="formula">{to_mathml(text)}</div>']
    code = _CODE.search(text)
    language = "python" if code else "none"
    return [f".. code-block:: {language}", "", *indent(text, "    ").splitlines()]


def _paragraph(lines: list[str], link: Link) -> list[str]:
    """Return a paragraph, or the items of a list, in which names are links."""
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
    """Return text without code, in which letters such as v_{t-1} have their subscripts."""
    first, *rest = _SUBSCRIPT.split(text)
    found = [_escape(first)]
    for base, below, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        below = below.strip("{}").replace("-", "−")
        found.append(f"{base}\\ :sub:`{below}`\\ {_escape(after)}")
    return "".join(found)


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
