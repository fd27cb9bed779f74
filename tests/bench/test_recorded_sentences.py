"""What the guide, the docstrings and the help say of records must stay true when there are some."""

import re
from pathlib import Path

from momentax import bench
from momentax._cli import _bench_options

ROOT = Path(bench.__file__).parent
GUIDE = ROOT.parents[1] / "docs" / "guides" / "compare.md"


def test_docstrings_say_what_is_recorded():
    files = {path.stem for path in (ROOT / "recorded").glob("*.json")}
    assert ("No costs are recorded yet" in bench.Costs.recorded.__doc__) is not ("costs" in files)
    (sentence,) = re.findall(r"This version has ([^.]*)\.", bench.Result.recorded.__doc__)
    assert set(re.findall(r'"(\w+)"', sentence)) == files - {"costs", "reference"}


def test_the_guide_and_the_help_say_whether_results_are_recorded():
    is_recorded = (ROOT / "recorded" / "results.json").is_file()
    assert ("No results are recorded yet" in GUIDE.read_text(encoding="utf-8")) is not is_recorded
    assert ("--rerun" in _bench_options._say_what_is_recorded()) is not is_recorded
