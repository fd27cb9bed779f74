"""A check of the built site: it loads nothing from a network, and each link leads somewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

_LOADED = {(tag, "src") for tag in ("script", "img", "iframe", "source")} | {("link", "href")}
# A <link> of these kinds names a page and loads nothing.
_NAMES = ("next", "prev", "index", "search", "author")
_SCRIPTED = ("explore.html",)  # A script makes the elements of these pages.
_IMPORT = re.compile(r"""url\(\s*['"]?(https?:)?//|@import\s+['"](https?:)?//""")


class Page(NamedTuple):
    """What a page refers to, and what can be referred to in it."""

    anchors: set[str]
    links: list[str]
    loaded: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page({"", "top"}, [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.page.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag in ("a", "area") and "href" in found:
            self.page.links.append(found["href"])
        for name in ("src", "href"):
            named = tag == "link" and found.get("rel") in _NAMES
            if (tag, name) in _LOADED and name in found and not named:
                self.page.loaded.append(found[name])


def read_page(path: Path) -> Page:
    """Return the links, anchors and loaded files of a page."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def faults(folder: Path) -> list[str]:
    """Return a sentence for each link of a built site that leads nowhere or to a network."""
    paths = sorted(folder.rglob("*.html"))
    paths = [path for path in paths if "_static" not in path.parts]  # Templates of the theme.
    pages = {path.resolve(): read_page(path) for path in paths}
    found = []
    for path, page in pages.items():
        here = path.relative_to(folder.resolve())
        for link in page.loaded:
            if link.startswith(("http:", "https:", "//")):
                found.append(f"{here} loads {link}: pages must not need a network")
        for link in dict.fromkeys([*page.links, *page.loaded]):
            if fault := _fault(path, link, pages):
                found.append(f"{here} has the link {link}, {fault}")
    for path in sorted(folder.rglob("*.css")):
        if _IMPORT.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(folder)} loads a file from a network")
    return found


def _fault(path: Path, link: str, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link, or nothing."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or link.startswith("data:"):
        return ""  # To another site, which readers may follow.
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "whose file does not exist"
    anchor = unquote(parts.fragment)
    if target in pages and target.name not in _SCRIPTED and anchor not in pages[target].anchors:
        return "whose anchor does not exist"
    return ""


def check_build(app: Any, error: Exception | None) -> None:
    """Warn of each fault when Sphinx has built the site; `-W` makes it fail."""
    if error is None and app.builder.name == "html":
        from sphinx.util import logging  # The tests of this module do without Sphinx.

        for fault in faults(Path(app.outdir)):
            logging.getLogger(__name__).warning("%s", fault)
