"""Assemble the explorer: one HTML file that needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

_FOLDER = files("momentax.explorer")
# The modules that know no page.
FORMULAS = ("methods.js", "polynomials.js", "formulas.js", "runs.js")
# Each module stands after those that it imports.
MODULES = (
    *FORMULAS,
    "choices.js",
    "model.js",
    "charts.js",
    "views.js",
    "maps.js",
    "controls.js",
    "texts.js",
    "main.js",
)
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class)\b)", re.MULTILINE)


def script(modules: Sequence[str] = MODULES) -> str:
    """Return the text of some modules as one script, in which they share their top-level names."""
    texts = [_FOLDER.joinpath(module).read_text(encoding="utf-8") for module in modules]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


def page() -> str:
    """Return the explorer as the text of one HTML file.

    A person drags the learning rate, β, the condition number, the noise and the start, chooses
    a method and a surface, and sees the path, the loss, the kernel, the stability and the
    theory's numbers at once. The file needs no other file and no network. The fragment of its
    address keeps the settings. `momentax explore` writes this file.

    Returns:
        HTML, to be written in UTF-8.

    Example:
        >>> html = momentax.explorer.page()
        >>> html[:15]
        '<!DOCTYPE html>'

    Source:
        Goh, Why momentum really works, Distill, 2017, for the idea of such a page.
    """
    html = _FOLDER.joinpath("page.html").read_text(encoding="utf-8")
    style = _FOLDER.joinpath("style.css").read_text(encoding="utf-8")
    # Only a function as the replacement leaves the backslashes of the inserted text alone.
    return re.sub(
        r"/\* (style|script) \*/", lambda at: {"style": style, "script": script()}[at[1]], html
    )
