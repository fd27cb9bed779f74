"""The pages of *Extending*: CONTRIBUTING.md, with a page for each kind of thing to add."""

from __future__ import annotations

import re
from pathlib import Path

from docs.pages import ROOT
from docs.pages.files import remove_others, write


def write_pages(folder: Path) -> None:
    """Write CONTRIBUTING.md as an overview and one page for each section "Add ..."."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    added = {_name(s): f"# {_raised(s)}" for s in sections if s.startswith("Add ")}
    others = [f"## {s}" for s in sections if not s.startswith("Add ")]
    names = "\n".join(added)
    overview = re.sub(r"^# .*", "# Extending", head) + "".join(others)
    write(folder / "index.md", f"{overview}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    for name, page in added.items():
        write(folder / f"{name}.md", page)
    remove_others(folder, {f"{name}.md" for name in added} | {"index.md"})


def _name(section: str) -> str:
    return section.partition("\n")[0].lower().replace(" ", "_")


def _raised(section: str) -> str:
    """Return a section whose subsections are one level higher."""
    return re.sub(r"^###", "##", section, flags=re.MULTILINE)
