"""Five pictures against images that somebody has looked at."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import compare_images

from tests.plotting import baseline

# The root mean square of the differences, of colours from 0 to 255, that versions of matplotlib
# may have. A line that moves or gets another shade makes a larger one.
TOLERANCE = 1.0


@pytest.mark.parametrize("name", baseline.PICTURES)
def test_a_picture_is_that_of_its_image(name, tmp_path):
    drawn = tmp_path / f"{name}.png"
    baseline.save(name, drawn)
    expected = tmp_path / f"{name}-expected.png"
    expected.write_bytes((baseline.FOLDER / f"{name}.png").read_bytes())
    assert compare_images(str(expected), str(drawn), TOLERANCE) is None


@pytest.mark.parametrize(("steps", "same"), [(60, True), (58, False)])
def test_a_line_that_moves_is_a_difference(steps, same, tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "LAGS", steps)
    drawn = tmp_path / "kernel.png"
    baseline.save("kernel", drawn)
    expected = str(baseline.FOLDER / "kernel.png")
    assert (compare_images(expected, str(drawn), TOLERANCE) is None) == same


def test_the_images_are_small_and_no_others_are_kept():
    files = {path.stem: path for path in baseline.FOLDER.iterdir()}
    assert files.keys() == baseline.PICTURES.keys()
    for path in files.values():
        assert path.stat().st_size < 60_000
        assert np.std(plt.imread(path)) > 0.02
