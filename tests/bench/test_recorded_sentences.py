"""What the guide, the docstrings and the help say of records must stay true when there are some."""

from pathlib import Path

import pytest

from momentax import bench
from momentax._cli import _bench_options

ROOT = Path(bench.__file__).parent
GUIDE = ROOT.parents[1] / "docs" / "guides" / "compare.md"


@pytest.mark.parametrize(
    ("file", "sentence", "function"),
    [
        ("results", "No results are recorded yet", bench.Result.recorded),
        ("costs", "No costs are recorded yet", bench.Costs.recorded),
    ],
)
def test_docstrings_say_whether_something_is_recorded(file, sentence, function):
    is_recorded = (ROOT / "recorded" / f"{file}.json").is_file()
    assert (sentence in function.__doc__) is not is_recorded


def test_the_guide_and_the_help_say_whether_results_are_recorded():
    is_recorded = (ROOT / "recorded" / "results.json").is_file()
    assert ("No results are recorded yet" in GUIDE.read_text(encoding="utf-8")) is not is_recorded
    assert ("--rerun" in _bench_options._say_what_is_recorded()) is not is_recorded
