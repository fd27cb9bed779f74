"""The bracket: which points continue, and from which state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax import grid, halve
from momentax.sweeps import (
    mutate,
    repeat,
    zipped,
)
from momentax.sweeps._bracket import Bracket
from tests.sweeps.halving import (
    QUADRATIC,
    halve_in_a_loop,
    quadratics,
    require_equal,
    scripted,
    shift,
)


def test_ties_keep_the_first():
    functions, points = scripted([1, 4], [0, 4], [1, 3], [0, 4], [0, 4])
    result = halve(*functions, points, rungs=2, keep=0.6)
    np.testing.assert_array_equal(result["advanced"], [1, 2, 1, 2, 2])
    np.testing.assert_array_equal(result.survivors, [1, 3, 4])
    functions, points = scripted(*[[7, 7, 7]] * 9)
    result = halve(*functions, points, rungs=3)
    np.testing.assert_array_equal(result["advanced"], [3, 2, 2, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(result.survivors, [0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("resampled", [False, True])
def test_a_diverged_point_is_never_selected(bad, mode, resampled):
    functions, points = scripted(
        [0, bad, 0], [1, 1, bad], [bad, 0, 0], [2, 2, 2], [bad] * 3, [3, 3, 3]
    )
    resample = (lambda rung, settings, points: settings) if resampled else None
    options = {"rungs": 3, "keep": 0.99, "mode": mode, "resample": resample}
    result = halve(*functions, points, **options)
    require_equal(result, halve_in_a_loop(functions, points, [1, 2, 3], 0.99, mode, resample))
    if resampled:
        parents = result["parent"][:, 1:]
        assert np.isfinite(np.take_along_axis(result["history"][:, :2], parents, 0)).all()
    else:
        np.testing.assert_array_equal(result["advanced"], [2, 3, 1, 3, 1, 3])
        np.testing.assert_array_equal(result.diverged, [True, True, True, False, True, False])
        np.testing.assert_array_equal(result.survivors, [3, 5] if mode == "min" else [5, 3])


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize("rung", [0, 1, 2])
def test_all_points_may_diverge_at_any_rung(rung, resampled):
    row = [1.0] * 3
    row[rung] = np.nan
    functions, points = scripted(*[row] * 4)
    resample = (lambda rung, settings, points: settings) if resampled else None
    result = halve(*functions, points, rungs=3, keep=0.99, resample=resample)
    assert result.states is None
    assert result.survivors.shape == (0,)
    diverged = 4 if resampled else [4, 3, 2][rung]
    assert np.count_nonzero(result.diverged) == diverged
    np.testing.assert_array_equal(result["advanced"].max(), rung + 1)
    assert np.isnan(result["history"][:, rung + 1 :]).all()
    with pytest.raises(ValueError, match="history cannot be ranked"):
        result.best("history")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_setting_with_a_diverged_seed_is_not_selected(bad):
    def init(x, seed):
        return x

    def advance(state, x, seed):
        return jnp.where((x == 0) & (seed == 1), bad, state)

    def score(state):
        return state

    points = repeat(grid(x=[0.0, 1.0, 2.0]), 3)
    result = halve(init, advance, score, points, rungs=2, keep=0.5)
    np.testing.assert_array_equal(result["advanced"], [[1, 1, 1], [2, 2, 2], [1, 1, 1]])
    np.testing.assert_array_equal(result.survivors, [3, 4, 5])
    single = halve(init, advance, score, repeat(grid(x=[0.0]), 3), rungs=2)
    assert not len(single.survivors)
    at_the_end = halve(init, advance, score, points, rungs=1)
    # The other seeds of a setting keep their states, after those of all complete settings.
    np.testing.assert_array_equal(at_the_end.survivors, [3, 4, 5, 6, 7, 8, 0, 2])


def test_one_point_always_survives_and_is_enough():
    result = halve(*QUADRATIC, quadratics(0, high=0.5), rungs=4, keep=1e-9)
    np.testing.assert_array_equal(np.sort(result["advanced"]), [1] * 11 + [4])
    one = zipped(problem=[0], learning_rate=[0.1], beta=[0.5])
    for resample in (None, mutate(jax.random.key(0)), shift):
        result = halve(*QUADRATIC, one, rungs=[2, 5], resample=resample)
        require_equal(result, halve_in_a_loop(QUADRATIC, one, [2, 5], resample=resample))
        assert result["advanced"] == [5]
    functions = (lambda seed: seed), (lambda state, seed: 2 * state), (lambda state: state)
    only = halve(*functions, grid(seed=[0, 1, 2]), rungs=3)
    np.testing.assert_array_equal(only["advanced"], [3, 3, 3])  # All seeds are of one setting.


def test_the_budget_is_that_of_successive_halving():
    points = zipped(problem=range(27), learning_rate=[0.1] * 27, beta=[0.5] * 27)
    result = halve(*QUADRATIC, points, rungs=[1, 3, 9, 27], keep=1 / 3, batch_size=12)
    reached = np.isfinite(result["history"]).sum(0)
    np.testing.assert_array_equal(reached, [27, 9, 3, 1])
    np.testing.assert_array_equal(reached * np.diff([0, 1, 3, 9, 27]), [27, 18, 18, 18])
    assert result["advanced"].sum() == 81  # Advancing every point to the end would take 729.


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.29, 1 / 3, 0.5, 0.57, 0.7, 0.9])
def test_the_share_that_continues_is_exact(keep):
    share = (1, 3) if keep == 1 / 3 else (round(100 * keep), 100)
    for count in range(1, 151):
        bracket = Bracket(grid(run=range(count)), 3, keep, 1, None)
        expected = bracket.expected_total()
        for rung in range(3):
            scores = np.random.default_rng(rung).random(count)
            bracket.judge(rung, rung + 1, scores, np.zeros(count, bool))
        sizes = [count]
        for _ in range(2):  # In integers, so that rounding cannot lose a point.
            sizes.append(max(1, sizes[-1] * share[0] // share[1]))
        np.testing.assert_array_equal(np.isfinite(bracket.history).sum(0), sizes)
        assert expected == sum(sizes)  # The progress bar counts to this number.


def test_runs_continue_from_the_best_in_turn():
    functions, points = scripted([5, 0], [1, 0], [4, 0], [2, 0], [3, 0], [6, 0], [7, 0])
    result = halve(
        *functions, points, rungs=2, keep=0.3, resample=lambda rung, settings, points: settings
    )
    # The best 2 of 7 runs are 1 and 3; the others, best first, are 4, 2, 0, 5 and 6.
    np.testing.assert_array_equal(result["parent"][:, 1], [1, 1, 3, 3, 1, 3, 1])
    np.testing.assert_array_equal(result["settings.run"][:, 1], [1, 1, 3, 3, 1, 3, 1])
    np.testing.assert_array_equal(result["advanced"], 2)
