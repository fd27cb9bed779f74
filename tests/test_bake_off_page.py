"""The page *Which momentum when*: made of synthetic results, and as it is committed."""

import dataclasses
import re
from functools import partial
from types import SimpleNamespace

import pytest
from PIL import Image

from docs import make_bake_off
from docs.bake_off import tables
from docs.bake_off.advice import advice
from docs.bake_off.pictures import ALL
from docs.bake_off.record import Record
from docs.bake_off.sections import SECTIONS, held_out_failures, measurement
from docs.bake_off.words import count, listed, markdown
from docs.pages import ROOT
from momentax.bench import Result, _files
from tests.bench import synthetic

METHODS = ("sgd", "heavy_ball", "nesterov", "adam", "muon")
TASKS = ("digits_cnn", "ridge", "curves_ae")  # Without a result of Muon on the last one.
INSTALLED = _files.recorded  # The other tests replace it.
READ = partial(synthetic.read, methods=METHODS, on=TASKS)
PAGE = ROOT / "docs" / "guides" / f"{make_bake_off.PAGE}.md"


@pytest.fixture(scope="module")
def record():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "recorded", READ)
        yield Record.read()


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "guides").mkdir()
    index = (ROOT / "docs" / "guides" / "index.md").read_text(encoding="utf-8")
    lines = [line for line in index.splitlines() if make_bake_off.PAGE not in line]
    (tmp_path / "guides" / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_the_page_and_its_pictures_are_written(record, docs):
    make_bake_off.write(record, docs)
    page = (docs / "guides" / f"{make_bake_off.PAGE}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(\.\./images/bake_off/(\w+)\.png\)", page)
    assert sorted(pictures) == sorted(each.__name__ for each in ALL)
    for name in pictures:
        with Image.open(docs / "images" / "bake_off" / f"{name}.png") as picture:
            assert picture.width == make_bake_off.WIDTH
    assert not re.search(r"\bnan\b|\binf\b|None|\bTrue\b|<built-in", page)
    assert not re.search(r"(?<!\\)[<>]", page)  # A quotation, or HTML.
    lines = [line for line in page.splitlines() if not line.startswith("|")]
    assert not any(" %" in line for line in lines)  # At the start of a line it makes a comment.
    anchors = {
        line[3:].lower().replace(" ", "-") for line in page.splitlines() if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    numbered = re.findall(r"^\*\*((?:Figure|Table) \d+)\.\*\*", page, re.MULTILINE)
    assert len(numbered) == len(set(numbered))
    assert set(re.findall(r"\[((?:Figure|Table) \d+)\]", " ".join(page.split()))) <= set(numbered)
    index = (docs / "guides" / "index.md").read_text(encoding="utf-8")
    assert index.count(f"({make_bake_off.PAGE}.md)") == 1
    assert f"compare\n{make_bake_off.PAGE}\n" in index
    assert make_bake_off.with_entry(index) == index


def test_the_note_of_a_table_is_no_quotation():
    table = SimpleNamespace(rows=[["method"], ["nesterov"]], note="> and <: clipped.")
    assert tables._with_note(table).endswith("\n\n\\> and \\<: clipped.")


def test_each_sentence_of_advice_names_its_figure_or_table(record):
    items = advice(record, "REF({})".format)
    assert len(items) >= 7
    assert all("REF(" in item for item in items)
    shown = {name for section in SECTIONS for name in section.parts}
    assert set(re.findall(r"REF\((\w+)\)", " ".join(items))) <= shown


def test_advice_follows_the_verdicts(monkeypatch):
    """A copy of Nesterov is never better, and a method that is much worse is named as such."""
    monkeypatch.setattr(_files, "recorded", READ)
    result = synthetic.recorded(methods=METHODS, on=TASKS, missing=())
    cells = dict(result.cells)
    for task in TASKS:
        control = cells[task, "nesterov"]
        for name, worse in (("adam", 0.0), ("muon", 0.5)):
            y = control.evaluation + worse
            cells[task, name] = cells[task, name]._replace(evaluation=y, edge=[])
    changed = Result(cells, result.protocol, result.about, result.hashes, result.spaces)
    found = Record(changed)
    assert found.tasks_with("adam", "not distinguishable") == list(TASKS)
    assert found.tasks_with("muon", "worse") == list(TASKS)
    worse = next(each for each in advice(found, str) if "Not as a first choice" in each)
    assert f"`muon` on {len(TASKS)} of {len(TASKS)} tasks" in worse
    assert "adam" not in worse
    better = next(
        each for each in advice(found, str) if "Better than" in each or "is better" in each
    )
    assert "adam" not in better


def test_the_page_says_which_methods_fail_a_held_out_variant(record):
    names = ["digits_cnn_other_split", "curves_ae_other_curves"]
    assert sorted(record.held_out.tasks) == sorted(names)
    assert sorted(record.failures) == sorted(("heavy_ball", name) for name in names)
    assert held_out_failures(record).startswith("`heavy_ball` fails on `")
    head, _, *rows = tables.held_out(record).splitlines()
    assert all(name in head for name in names)
    (failed,) = (row for row in rows if "fails" in row)
    ratios = [float(ratio) for ratio in re.findall(r" ([\d.]+) \(", failed)]
    on_tasks = [float(ratio) for ratio in re.findall(r"\(([\d.]+)\)", failed)]
    assert failed.startswith("| heavy_ball |")
    assert ratios == pytest.approx([10 * each for each in on_tasks], rel=1e-2)
    without = dataclasses.replace(record, held_out=None)
    assert without.failures == []
    assert tables.held_out(without) == ""
    assert held_out_failures(without) == "No method fails a variant."


def test_the_page_has_the_verdicts_on_methods_made_worse(record):
    rows = {row.split(" | ")[0]: row for row in tables.made_worse(record).splitlines()[2:]}
    assert rows["| copy_of_heavy_ball"].count("undecided 1 ") == len(TASKS)
    for name in ("negative_beta", "noisy_heavy_ball", "adam_without_debiasing"):
        assert rows[f"| {name}"].count("worse 10") == len(TASKS)
    (section,) = (each for each in SECTIONS if each.parts == ("made_worse",))
    text = section.text(record)
    assert f"{len(TASKS)} of its {len(TASKS)} comparisons are undecided" in text
    assert "Of 9 comparisons of the others 9 are worse, 0 undecided and 0 better" in text
    (item,) = (each for each in advice(record, str) if "verdicts were tested" in each)
    assert "`negative_beta` is worse on 3, better on 0 and undecided on 0" in item


def test_nothing_is_written_without_results(monkeypatch, tmp_path):
    def missing(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(_files, "recorded", missing)
    monkeypatch.setattr(make_bake_off, "DOCS", tmp_path)
    assert Record.read() is None
    with pytest.raises(SystemExit, match="no results with reference curves are recorded"):
        make_bake_off.main()
    assert not [*tmp_path.iterdir()]


def test_sentences_and_tables_are_well_formed():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert count(1, "task") == "one task"
    assert count(20, "task") == "20 tasks"
    assert markdown([["a", "b"], ["x|y", ">4"]]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| x\\|y | \\>4 |",
    ]


def test_the_page_is_committed_as_made_of_the_recorded_results(monkeypatch):
    """Of the page, what costs little to make anew; without results there is no page."""
    monkeypatch.setattr(_files, "recorded", INSTALLED)
    record = Record.read()
    index = (ROOT / "docs" / "guides" / "index.md").read_text(encoding="utf-8")
    assert PAGE.exists() == (record is not None) == (f"({make_bake_off.PAGE}.md)" in index)
    if record is not None:
        page = PAGE.read_text(encoding="utf-8")
        assert tables.tasks(record).partition("\n\n")[0] in page
        assert " ".join(measurement(record).split()) in " ".join(page.split())
        for name in re.findall(r"\(\.\./(images/bake_off/\w+\.png)\)", page):
            assert (ROOT / "docs" / name).exists()
