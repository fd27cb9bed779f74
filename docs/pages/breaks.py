"""Places where long names may break, so that a telephone does not break them within a word."""

from __future__ import annotations

import re
from typing import Any

_LONG = 16  # Letters; shorter names fit every line.


def allow_breaks(app: Any, doctree: Any, name: str) -> None:
    """Let long names in titles and in code break behind a dot or an underscore."""
    from docutils import nodes  # The tests of the other pages do without Sphinx.

    del app, name
    for node in [*doctree.findall(nodes.title), *doctree.findall(nodes.literal)]:
        for text in [*node.findall(nodes.Text)]:
            parts = pieces(text.astext())
            if len(parts) == 1:
                continue
            breaks = [[nodes.Text(part), nodes.raw("", "<wbr>", format="html")] for part in parts]
            text.parent.replace(text, [each for pair in breaks for each in pair][:-1])


def pieces(text: str) -> list[str]:
    """Divide a text behind the dots and underscores of its long words."""
    found = [""]
    for word in re.split(r"(\s+)", text):
        first, *rest = re.split(r"(?<=[._](?=[A-Za-z]))", word) if len(word) > _LONG else [word]
        found[-1] += first
        found += rest
    return found
