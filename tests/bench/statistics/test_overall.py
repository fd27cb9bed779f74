"""Speed-ups over all tasks, by hand and by quadrature."""

import numpy as np
import pytest

from momentax.bench.statistics import (
    ReferenceCurve,
    geometric_mean,
    leave_one_out,
    performance_profile,
    profile_area,
    speed_ups,
)

NAN = np.nan
S = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.5, 4.0, 1.2], [0.25, 3.0, NAN, 1.5]])


def random_speed_ups(methods=5, tasks=8, seed=0):
    return np.exp(np.random.default_rng(seed).uniform(-np.log(4), np.log(4), (methods, tasks)))


def test_speed_ups_are_those_of_the_mean_scores():
    curves = {
        "a": ReferenceCurve([0.25, 1, 4], [-1.0, -2.0, -3.0]),
        "b": ReferenceCurve([100, 400, 1600], [0.0, -1.0, -1.5], steps=400),
        "other": ReferenceCurve([1, 2], [1.0, 0.0]),
    }
    scores = {
        "a": {"adam": [-2.0, -3.0], "sgd": [-2.2, -1.8]},
        "b": {"muon": [-9.0, -8.0], "adam": [0.0, 1.0]},
    }
    found = speed_ups(scores, curves)
    assert found.methods == ("adam", "sgd", "muon")
    assert found.tasks == ("a", "b")
    expected = [[curves["a"].speed_up(-2.5), 0.25], [1.0, NAN], [NAN, 4.0]]
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    np.testing.assert_array_equal(found.beyond, [[0, -1], [0, 0], [0, 1]])


def test_curves_that_do_not_fit_are_explained():
    scores = {"a": {"adam": [1.0, 2.0]}}
    with pytest.raises(ValueError, match="a ReferenceCurve for each task, but has no 'a'"):
        speed_ups(scores, {})
    with pytest.raises(TypeError, match=r"curves\['a'\] must be a ReferenceCurve, got 3"):
        speed_ups(scores, {"a": 3})


def test_geometric_mean_by_hand_and_over_fewer_tasks():
    value, tasks = geometric_mean(S)
    np.testing.assert_allclose(value, [1, 4.8**0.25, 1.125 ** (1 / 3)])
    np.testing.assert_array_equal(tasks, [4, 4, 3])
    samples = random_speed_ups(60, 8).reshape(10, 6, 8)
    np.testing.assert_allclose(
        geometric_mean(samples).value, np.prod(samples, axis=-1) ** (1 / 8), rtol=1e-12
    )
    assert geometric_mean([2.0, 8.0]) == (pytest.approx(4), 2)


def test_a_method_without_any_rank_has_no_mean():
    value, tasks = geometric_mean([[NAN, NAN], [2.0, NAN]])
    np.testing.assert_array_equal(value, [NAN, 2.0])
    np.testing.assert_array_equal(tasks, [0, 1])


def test_leave_one_out_by_hand():
    found = leave_one_out(S)
    np.testing.assert_allclose(found.means[1], np.cbrt([2.4, 9.6, 1.2, 4.0]))
    np.testing.assert_allclose(found.means[2], [4.5**0.5, 0.375**0.5, 1.125 ** (1 / 3), 0.75**0.5])
    np.testing.assert_allclose(found.low, found.means.min(axis=1))
    np.testing.assert_allclose(found.high, found.means.max(axis=1))
    # Over all tasks the order is 1 < 1.04 < 1.48. Without the first it is 1 < 1.34 < 2.12, without
    # the second and the last the third method is last.
    np.testing.assert_array_equal(found.order_changes, [True, True, False, True])


def test_equal_methods_do_not_change_places():
    twins = np.array([[1.1, 0.7, 2.0]] * 2)
    twins[1] *= 1 + np.array([2e-15, -1e-15, 0])
    assert not leave_one_out(twins).order_changes.any()
    assert not leave_one_out([[1.0, 2.0, NAN], [NAN] * 3]).order_changes.any()
    np.testing.assert_array_equal(leave_one_out([[NAN, 2.0, NAN]]).means, [[2, NAN, 2]])


def profile_by_loops(S, ratios):
    return [
        [
            sum(max(S[:, t]) / S[m, t] <= ratio for t in range(S.shape[1])) / S.shape[1]
            for ratio in ratios
        ]
        for m in range(len(S))
    ]


def test_performance_profile_by_loops():
    S, ratios = random_speed_ups(), np.linspace(1, 16, 31)
    ρ = performance_profile(S, ratios)
    np.testing.assert_allclose(ρ, profile_by_loops(S, ratios))
    assert performance_profile(S, ratios.reshape(1, 31)).shape == (5, 1, 31)
    np.testing.assert_allclose(performance_profile(S, 2.0), np.ravel(profile_by_loops(S, [2])))
    np.testing.assert_allclose(performance_profile(S, 1).sum(), 1)  # One is the fastest on each.
    np.testing.assert_allclose(performance_profile(S, 16), 1)


def test_a_ratio_that_is_met_exactly_is_within():
    ρ = performance_profile([[0.1 * 3], [0.1]], [1.0, 3.0])
    np.testing.assert_array_equal(ρ, [[1, 1], [0, 1]])


def test_a_missing_rank_is_within_no_ratio_and_an_empty_task_does_not_count():
    ρ = performance_profile(np.column_stack([S, [NAN] * 3]), [1, 2, 1e9])
    np.testing.assert_array_equal(ρ[2], [0.5, 0.5, 0.75])
    np.testing.assert_array_equal(ρ[1], [0.5, 0.75, 1.0])
    np.testing.assert_allclose(profile_area(S)[2], (1 + 1 + 0 + 0) / 4)


@pytest.mark.parametrize("largest", [1.5, 4.0, 10.0])
def test_profile_area_is_the_integral_of_the_profile(largest):
    S = random_speed_ups()
    edges = np.linspace(1, largest, 20_001)
    middles = (edges[1:] + edges[:-1]) / 2
    expected = performance_profile(S, middles).mean(axis=1)
    np.testing.assert_allclose(profile_area(S, largest), expected, atol=1e-4)


@pytest.mark.parametrize("function", [geometric_mean, leave_one_out, profile_area])
@pytest.mark.parametrize("bad", [[[1.0, 0.0]], [[1.0, -1.0]], [[1.0, np.inf]]])
def test_speed_ups_that_are_not_positive_are_refused(function, bad):
    with pytest.raises(ValueError, match=r"speed_ups must be in \(0, inf\), got"):
        function(bad)


def test_wrong_shapes_are_explained():
    shape = r"have the shape \(methods, tasks\), got an array of shape \(2,\)"
    for function in (leave_one_out, profile_area):
        with pytest.raises(ValueError, match=shape):
            function([1.0, 2.0])
    with pytest.raises(ValueError, match="at least 2 tasks to leave one out, got 1"):
        leave_one_out([[1.0], [2.0]])
    with pytest.raises(ValueError, match="a rank of at least one method"):
        profile_area([[NAN, NAN]])
