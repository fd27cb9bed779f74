"""What builds the site: generated pages, docstrings, mathematics, a check of links.

`setup` connects it all. Pages are generated beside the written ones; git ignores them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The folders of docs/ whose Markdown is generated, and that of the built site.
GENERATED = ("_build", "_generated", "extending", "notebooks", "reference")


def written_pages() -> list[Path]:
    """Return the Markdown files of docs/ that are written by hand."""
    docs = ROOT / "docs"
    paths = sorted(docs.rglob("*.md"))
    return [path for path in paths if path.relative_to(docs).parts[0] not in GENERATED]


def write_pages(app: Any, config: Any) -> None:
    """Write every page that is not written by hand, before Sphinx looks for pages."""
    del config
    from docs.pages import (
        benchmarks,
        communication,
        explorer,
        extending,
        methods,
        notebooks,
        reference,
        search_ranges,
    )

    docs = Path(app.srcdir)
    benchmarks.write_tables(docs / "_generated")
    communication.write_tables(docs / "_generated")
    explorer.write_page(docs / "_generated" / "extra")
    extending.write_pages(docs / "extending")
    methods.write_pages(docs / "methods")
    notebooks.write_pages(docs / "notebooks")
    reference.write_pages(docs / "reference")
    search_ranges.write_table(docs / "_generated")


def read_source(app: Any, name: str, source: list[str]) -> None:
    """Lead the links to notebooks, which fit the repository, to their pages."""
    del app, name
    source[0] = source[0].replace("](../../notebooks/", "](../notebooks/")


def setup(app: Any) -> dict[str, Any]:
    """Connect the parts to Sphinx."""
    from docs.pages import breaks, docstrings, links, mathematics, reference

    app.connect("config-inited", write_pages)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", reference.show_defaults)
    app.connect("autodoc-skip-member", reference.skip_member)
    app.connect("doctree-resolved", breaks.allow_breaks)
    app.connect("build-finished", links.check_build)
    mathematics.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
