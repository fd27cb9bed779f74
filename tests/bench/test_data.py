"""The data of the tasks: checksums, splits, and what they mean."""

import sys

import numpy as np
import pytest

from momentax.bench import _data as data_room
from momentax.bench import tasks
from momentax.bench._tasks import (
    digits_cnn,
    names_char,
    names_embed,
)


@pytest.mark.parametrize("name", list(tasks))
def test_data_have_their_checksum_and_cannot_be_changed(name):
    data = tasks[name].load()
    assert tasks[name].load() is data
    assert data_room.checksum(data) == tasks[name].checksum
    for array in data.values():
        assert array.dtype in (np.uint8, np.int32, np.float32)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_checksum_ignores_the_last_digits_and_nothing_else():
    data = {"x": np.array([[0.1234, -1e-9], [2.0, 3.0]]), "label": np.array([1, 2])}
    sums = [
        data_room.checksum(each)
        for each in (
            data,
            data | {"x": data["x"] + 1e-9},
            data | {"x": data["x"] + 1e-2},
            data | {"x": data["x"].reshape(1, 4)},
            data | {"label": np.array([1, 3])},
            {"y": data["x"], "label": data["label"]},
        )
    ]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 5


def test_data_that_differ_are_refused():
    with pytest.raises(RuntimeError, match=r"the data of the task 'mine' differ .* expected 00"):
        data_room.require_checksum("mine", {"x": np.zeros(3)}, "00")


def test_a_missing_scikit_learn_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"task 'digits_cnn' .* pip install 'momentax\[flax\]'"):
        digits_cnn.load.__wrapped__()


def test_training_and_validation_examples_are_disjoint():
    fields = {"unicode_bn": "codes", "curves_ae": "images", "spiral_deep": "points"}
    for name, field in fields.items():
        data = tasks[name].load()
        train, other = (np.atleast_2d(data[each].T).T for each in (field, f"validation_{field}"))
        assert not {row.tobytes() for row in train} & {row.tobytes() for row in other}


def test_names_are_read_back_from_the_windows():
    text = "\n".join(data_room.unicode_names().values())
    alphabet = sorted(set(text))
    assert len(alphabet) == names_char.CHARACTERS
    for windows in names_char.load().values():
        assert all("".join(alphabet[i] for i in row) in text for row in windows[:5])


def test_blocks_are_those_of_the_words():
    data = names_embed.load()
    names = data_room.unicode_names()
    assert data["words"].max() == names_embed.VOCABULARY - 1
    assert data["blocks"].max() == names_embed.BLOCKS - 1
    code = next(code for code, name in names.items() if name == "GREEK SMALL LETTER BETA")
    blocks = sorted({each >> 7 for each in names})
    words = sorted({word for name in names.values() for word in name.replace("-", " ").split()})
    row = [words.index(word) + 1 for word in ("GREEK", "SMALL", "LETTER", "BETA")] + [0] * 4
    both = np.concatenate([data["words"], data["validation_words"]])
    labels = np.concatenate([data["blocks"], data["validation_blocks"]])
    assert labels[(both == row).all(1)] == blocks.index(code >> 7)
