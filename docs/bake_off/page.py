"""The page *Which momentum when* as Markdown."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise

from docs.bake_off import pictures, tables
from docs.bake_off.advice import advice
from docs.bake_off.record import Record
from docs.bake_off.sections import (
    CAPTIONS,
    DEPARTURES,
    SECTIONS,
    Section,
    about_tasks,
    introduction,
    measurement,
)

TITLE = "Which momentum when"
IMAGES = "../images/bake_off"
_WIDTH = 108


def write_page(record: Record) -> str:
    """Return the page. It shows the pictures of `pictures.drawn`, and what was recorded."""
    drawn = {each.__name__ for each in pictures.drawn(record)}
    names = [name for section in SECTIONS for name in section.parts]
    made = {name: getattr(tables, name)(record) for name in names if name not in pictures.NAMES}
    shown = _shown(drawn | {name for name, text in made.items() if text})
    labels = _labels(shown)
    links = {
        name: f"[{labels[name]}](#{_anchor(section.title)})"
        for section in shown
        for name in section.parts
    }
    parts = [f"# {TITLE}", introduction(record), "## In short"]
    parts += [f"- {item}" for item in advice(record, links.__getitem__)]
    for section in shown:
        text = section.text if isinstance(section.text, str) else section.text(record)
        parts += [f"## {section.title}", text]
        for name in section.parts:
            parts += _part(name, labels[name], made.get(name))
    parts += ["## How it was measured", measurement(record), about_tasks(record)]
    parts += ["## Departures from usual practice", *(f"- {each}" for each in DEPARTURES)]
    return _join([each for part in parts for each in part.split("\n\n") if each])


def _shown(present: set[str]) -> list[Section]:
    """Return the sections that have something to show, with these pictures and tables only."""
    found = [
        section._replace(parts=tuple(name for name in section.parts if name in present))
        for section in SECTIONS
    ]
    return [section for section in found if section.parts]


def _labels(sections: list[Section]) -> dict[str, str]:
    """Number the figures and the tables in the order of the page."""
    names = [name for section in sections for name in section.parts]
    figures = [name for name in names if name in pictures.NAMES]
    others = [name for name in names if name not in pictures.NAMES]
    return {name: f"Figure {i}" for i, name in enumerate(figures, 1)} | {
        name: f"Table {i}" for i, name in enumerate(others, 1)
    }


def _part(name: str, label: str, table: str | None) -> list[str]:
    caption = f"**{label}.** {CAPTIONS[name]}."
    if table is None:
        return [f"![{CAPTIONS[name]}]({IMAGES}/{name}.png)", caption]
    return [caption, table]


def _anchor(title: str) -> str:
    """Return the anchor of a heading, as MyST and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _join(paragraphs: list[str]) -> str:
    """Join paragraphs, and items of one list without an empty line between them."""
    text = _wrap(paragraphs[0])
    for before, each in pairwise(paragraphs):
        both_items = before.startswith("- ") and each.startswith("- ")
        text += ("\n" if both_items else "\n\n") + _wrap(each)
    return text + "\n"


def _wrap(paragraph: str) -> str:
    """Wrap a paragraph or an item of a list; tables, pictures and headings stay as they are.

    No line begins with a percent sign, which would make it a comment.
    """
    if paragraph.startswith(("#", "|", "!")):
        return paragraph
    return textwrap.fill(
        paragraph.replace(" %", "\N{NO-BREAK SPACE}%"), _WIDTH,
        break_long_words=False, break_on_hyphens=False,
        subsequent_indent="  " if paragraph.startswith("- ") else "",
    )  # fmt: skip
