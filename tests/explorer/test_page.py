"""The page of the explorer as text: complete, self-contained, small, and in the distributions."""

import json
import re
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from py_mini_racer import MiniRacer

import momentax
from momentax.explorer._page import FORMULAS, MODULES, script
from tests.explorer.engine import Formulas
from tests.explorer.test_formulas import METHODS

ROOT = Path(momentax.__file__).parent
FILES = {path.name for path in (ROOT / "explorer").iterdir() if path.is_file()}


def test_the_page_is_one_file_without_network():
    html = momentax.explorer.page()
    assert html.startswith("<!DOCTYPE html>")
    assert len(html.encode()) < 300_000
    assert not re.findall(r"https?://|//cdn|@import|url\(|src=|<link(?! rel=\"icon\")", html)
    assert html.count("</script>") == html.count("</style>") == 1  # No text ends them early.
    assert "/* script */" not in html
    assert "/* style */" not in html


def test_every_module_is_part_of_the_page_after_those_that_it_imports():
    assert set(MODULES) == {name for name in FILES if name.endswith(".js")}
    for i, name in enumerate(MODULES):
        text = (ROOT / "explorer" / name).read_text(encoding="utf-8")
        imported = re.findall(r'from "\./(.+?)"', text)
        assert set(imported) <= set(MODULES[:i]), f"{name} imports a later module"
        # So that any JavaScript engine can run the formulas.
        assert name not in FORMULAS or not re.search(r"\b(document|window)\b", text)


def test_the_script_has_no_import_no_export_and_no_name_twice():
    text = script()
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    # A name that two modules define is a syntax error.
    assert MiniRacer().eval(f"typeof new Function({json.dumps(text)})") == "function"


def test_the_modules_name_every_method_and_surface():
    engine = Formulas((*FORMULAS, "choices.js"))
    assert engine.eval("Object.keys(METHOD_CHOICES)") == list(METHODS)
    assert engine.eval("Object.keys(SURFACE_CHOICES)") == engine.eval("Object.keys(SURFACES)")
    assert len(engine.eval("PRESETS.map((preset) => preset.title)")) == 6
    for text in engine.eval("PRESETS.map((preset) => preset.text)"):
        assert len(re.findall(r"[.] [A-Z]|[.]$", text)) == 2, f"not two sentences: {text}"


def test_sliders_reach_both_ends_of_their_ranges_and_back():
    engine = Formulas((*FORMULAS, "choices.js"))
    for method in METHODS:
        ranges = engine("((m) => rangesOf({...PRESETS[0].settings(), method: m}))", method)
        for name, limits in ranges.items():
            for value in (limits["low"], limits["high"], (limits["low"] + limits["high"]) / 2):
                there = engine("toScale", value, limits)
                assert engine("fromScale", there, limits) == pytest.approx(value, abs=1e-12), name


def test_both_distributions_hold_the_files_of_the_page():
    for builder in (WheelBuilder, SdistBuilder):
        included = builder(str(ROOT.parent)).recurse_included_files()
        names = {Path(file.distribution_path).as_posix() for file in included}
        assert {f"momentax/explorer/{name}" for name in FILES} <= names
        assert not [name for name in names if "node_modules" in name]
