"""The data of the tasks: their sources, their splits, and checksums that pin them."""

from __future__ import annotations

import hashlib
import unicodedata
from functools import cache

import numpy as np

Data = dict[str, np.ndarray]

_DECIMALS = 3  # Another version of libm or LAPACK changes the digits far behind these.


def checksum(data: Data) -> str:
    """Return the SHA-256 of arrays with their names and shapes, reals rounded to 3 decimals."""
    digest = hashlib.sha256()
    for name, array in data.items():
        digest.update(f"{name}{array.shape}".encode())
        if array.dtype.kind == "f":
            array = np.rint(array.astype(np.float64) * 10**_DECIMALS)
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def require_checksum(task: str, data: Data, expected: str) -> Data:
    """Return data as arrays that cannot be written to, after a comparison with their checksum."""
    found = checksum(data)
    if found != expected:
        raise RuntimeError(
            f"the data of the task {task!r} differ from those of the recorded results: their "
            f"SHA-256 is {found}, expected {expected}; use the versions of Python, NumPy and "
            "scikit-learn that the results name, or record new results"
        )
    for array in data.values():
        array.flags.writeable = False  # One copy serves all runs.
    return data


def shuffled(count: int) -> np.ndarray:
    """Return the order in which examples are divided into training and validation examples."""
    return np.random.RandomState(0).permutation(count)


def digits(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 digits: gray levels 0..16 of shape (n, 8, 8), and labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            f"the task {task!r} takes its data from scikit-learn, which is not installed; "
            "pip install 'momentax[flax]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.uint8).reshape(-1, 8, 8)
    return images, np.asarray(labels, np.int32)


# Ideographs and syllables, whose names are numbers or follow from a rule.
_RULED = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HANGUL SYLLABLE")
_NAMES_CHECKSUM = "03ce3aea0397"  # Of the names joined by newlines, its first 12 digits.


@cache
def unicode_names() -> dict[int, str]:
    """Return the names of the 12,886 characters of Unicode 3.2, by their code points.

    Python keeps this table unchanged for the sake of internationalized domain names.
    """
    table = unicodedata.ucd_3_2_0
    names = {code: table.name(chr(code), "") for code in range(0x110000)}
    names = {code: name for code, name in names.items() if name and not name.startswith(_RULED)}
    found = hashlib.sha256("\n".join(names.values()).encode()).hexdigest()[:12]
    if found != _NAMES_CHECKSUM:
        raise RuntimeError(
            "the table unicodedata.ucd_3_2_0 of this Python differs from that of CPython: the "
            f"SHA-256 of its names begins with {found}, expected {_NAMES_CHECKSUM}"
        )
    return names
