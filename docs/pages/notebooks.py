"""The notebooks as pages, with the outputs as committed, and a gallery of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from docs.pages import ROOT
from docs.pages.files import remove_others, write


def write_pages(folder: Path) -> None:
    """Copy the notebooks into the folder, and write the gallery and its pictures."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        write(folder / path.name, path.read_bytes())
        write(folder / f"{path.stem}.png", _thumbnail(_read(path)))
    write(folder / "index.md", _gallery(paths))
    kept = {name for path in paths for name in (path.name, f"{path.stem}.png")}
    remove_others(folder, kept | {"index.md"})


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _pictures(notebook: dict[str, Any]) -> list[bytes]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    found = [output.get("data", {}).get("image/png") for output in outputs]
    return [base64.b64decode("".join(picture)) for picture in found if picture]


def _thumbnail(notebook: dict[str, Any]) -> bytes:
    """Return the first picture whose shape suits a card, or the first one."""
    pictures = _pictures(notebook)

    def misfit(picture: bytes) -> float:
        width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))  # PNG's head.
        return abs(width / height - 1.6)

    suited = [picture for picture in pictures if misfit(picture) < 0.4]
    return suited[0] if suited else min(pictures, key=misfit)


def _title_and_claim(notebook: dict[str, Any]) -> tuple[str, str]:
    """Return the title of a notebook and the first sentence of its claim."""
    first = "".join(notebook["cells"][0]["source"])
    title, _, rest = first.removeprefix("# ").partition("\n")
    claim = " ".join(rest.split("**Claim.**", 1)[1].split())
    return title.strip(), claim.partition(". ")[0].rstrip(".") + "."


def _gallery(paths: list[Path]) -> str:
    cards = []
    for path in paths:
        title, claim = _title_and_claim(_read(path))
        cards.append(
            f":::{{grid-item-card}} {title}\n:link: {path.stem}\n:link-type: doc\n"
            f":img-top: {path.stem}.png\n:class-img-top: thumbnail\n\n{claim}\n:::\n"
        )
    names = "\n".join(path.stem for path in paths)
    return (
        f"# Notebooks\n\n{_INTRODUCTION}\n\n::::{{grid}} 1 1 2 2\n:gutter: 3\n\n"
        + "\n".join(cards)
        + f"::::\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


_INTRODUCTION = """Each notebook makes one claim, runs in under a minute on two cores, and ends with
the assertions that hold the claim. The outputs are those of a run of the tests; the files are in
`notebooks/` of the repository."""
