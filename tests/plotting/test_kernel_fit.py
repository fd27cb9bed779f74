"""The picture of a fitted kernel: its lines hold the weights and the responses."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from momentax import memory
from momentax.plotting import kernel_fit


def amplitude(w, f):
    return np.abs(np.exp(-2j * np.pi * np.outer(f, np.arange(len(w)))) @ w)


def test_the_lines_are_the_weights_and_the_responses_of_target_and_fit():
    w = (1 + np.arange(300)) ** -1.5
    found = memory.fit(w, buffers=3)
    _, axes = plt.subplots(1, 2)
    left, right = found.plot(ax=axes)
    assert (left, right) == tuple(axes)
    target, fitted, *each = left.lines
    n = len(target.get_xdata())
    np.testing.assert_array_equal(target.get_xdata(), np.arange(n))
    np.testing.assert_array_equal(target.get_ydata(), w[:n])
    both = np.maximum(w, found.kernel.weights(300))
    assert both[n - 1] >= 0.01 > both[n:].max()  # To where all are a hundredth of the first.
    np.testing.assert_allclose(fitted.get_ydata(), found.kernel.weights(n), rtol=1e-12)
    parts = [line.get_ydata() for line in each[:3]]
    np.testing.assert_allclose(np.sum(parts, axis=0), fitted.get_ydata(), rtol=1e-9)
    f = right.lines[0].get_xdata()
    np.testing.assert_allclose(right.lines[0].get_ydata(), amplitude(w, f), rtol=1e-9)
    long = found.kernel.weights(60000)
    np.testing.assert_allclose(right.lines[1].get_ydata(), amplitude(long, f), rtol=1e-3)
    texts = [text.get_text() for text in left.get_legend().get_texts()]
    assert texts[1] == f"3 exponentials, error {found.error:.2g}"


def test_exponentials_of_opposite_signs_and_zeros_of_the_response_do_not_set_the_scale():
    w = np.ones(64) / 64
    left, right = kernel_fit(memory.fit(w, buffers=4, nonnegative=False))
    assert left.get_ylim()[1] < 4 * w.max()
    assert right.get_ylim()[0] > 5e-4
    (_, fitted, *_) = left.lines
    assert left.get_xlim()[1] > len(w)
    assert np.abs(fitted.get_ydata()).max() <= left.get_ylim()[1]


def test_errors_say_what_to_give():
    with pytest.raises(TypeError, match=r"fit must be what momentax.memory.fit returns, got \[1.0"):
        kernel_fit([1.0, 0.5])
    with pytest.raises(ValueError, match="ax must hold 2 axes"):
        kernel_fit(memory.fit([1.0, 0.5], buffers=1), ax=[plt.subplots()[1]])
