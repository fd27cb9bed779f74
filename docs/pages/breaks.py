"""Places where long names may break, so that a telephone does not break them within a word."""

from __future__ import annotations

import re
from typing import Any

_LONG = 16  # Letters; shorter names fit every line.
_BREAKS = re.compile(r"(?<=[._])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z][a-z])")


def allow_breaks(app: Any, doctree: Any, name: str) -> None:
    """Let long names in titles, code and signatures break between their words."""
    from docutils import nodes  # The tests of the other pages do without Sphinx.
    from sphinx.addnodes import desc_name

    del app, name
    kinds = (nodes.title, nodes.literal, desc_name)
    for node in [node for kind in kinds for node in doctree.findall(kind)]:
        for text in [*node.findall(nodes.Text)]:
            parts = pieces(text.astext())
            if len(parts) == 1:
                continue
            breaks = [[nodes.Text(part), nodes.raw("", "<wbr>", format="html")] for part in parts]
            text.parent.replace(text, [each for pair in breaks for each in pair][:-1])


def pieces(text: str) -> list[str]:
    """Divide the long words of a text behind dots, underscores and before capitals."""
    found = [""]
    for word in re.split(r"(\s+)", text):
        first, *rest = _BREAKS.split(word) if len(word) > _LONG else [word]
        found[-1] += first
        found += rest
    return found
