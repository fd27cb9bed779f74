"""Write the page *Which momentum when* from the recorded results: `python -m docs.make_bake_off`.

It writes docs/guides/which_momentum_when.md and its pictures in docs/images/bake_off, and enters
the page in the list of guides. Nothing is written as long as nothing is recorded.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

from docs.bake_off import pictures
from docs.bake_off.page import TITLE, write_page
from docs.bake_off.record import Record

DOCS = Path(__file__).parent
PAGE = "which_momentum_when"
WIDTH = 1600  # Pixels, for a column of half this width.
_AFTER = "compare"  # The guide before this one.
_ABOUT = "what the recorded comparison of all methods found, and advice from it."


def write(record: Record, docs: Path) -> None:
    """Write the page, its pictures and its entry in the list of guides below a folder."""
    folder = docs / "images" / "bake_off"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures.drawn(record)
    for draw in drawn:
        save(draw(record), folder / f"{draw.__name__}.png")
        plt.close("all")
    for path in folder.glob("*.png"):
        if path.stem not in {draw.__name__ for draw in drawn}:
            path.unlink()
    (docs / "guides" / f"{PAGE}.md").write_text(write_page(record), encoding="utf-8")
    index = docs / "guides" / "index.md"
    index.write_text(with_entry(index.read_text(encoding="utf-8")), encoding="utf-8")


def with_entry(index: str) -> str:
    """Return the list of guides with the entry of the page, after that of the comparison."""
    if f"({PAGE}.md)" in index:
        return index
    lines = []
    for line in index.splitlines():
        lines.append(line)
        if f"]({_AFTER}.md)" in line:
            lines.append(f"- [{TITLE}]({PAGE}.md): {_ABOUT}")
        elif line == _AFTER:
            lines.append(PAGE)
    return "\n".join(lines) + "\n"


def save(figure: Any, path: Path) -> None:
    """Write a figure without transparency and with at most 256 colours."""
    whole = BytesIO()
    figure.savefig(whole, dpi=WIDTH / figure.get_figwidth())
    picture = Image.open(whole).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Write the page, or say why there is none."""
    mpl.use("agg")
    record = Record.read()
    if record is None:
        sys.exit("no results with reference curves are recorded, so that no page was written")
    write(record, DOCS)


if __name__ == "__main__":
    main()
