"""A wheel of the checkout works in an empty environment."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.wheel


def run(*command, **options):
    """Run a command without the paths of this process, and return what it prints."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, env=env, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quick_start_of_the_readme_runs_with_the_wheel_alone(tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("momentax-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"momentax"}
    run(sys.executable, "-m", "venv", str(tmp_path / "empty"))
    folder = "Scripts" if os.name == "nt" else "bin"
    run(str(tmp_path / "empty" / folder / "pip"), "install", str(wheel))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quick_start = re.search(
        r"^## Quick start\s+```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    shown = run(str(tmp_path / "empty" / folder / "python"), "-c", quick_start[1], cwd=tmp_path)
    assert shown.startswith("[")
    shown = run(str(tmp_path / "empty" / folder / "momentax"), "analyze", "--help", cwd=tmp_path)
    assert "--learning-rate" in shown
