"""The analyses over all tasks: means, intervals, groups, pairs, and methods without a rank."""

import numpy as np
import pytest

from tests.bench import reference
from tests.bench.results import SEEDS, cell, of_cells

TASKS = ("one", "two", "three")


@pytest.fixture(autouse=True)
def curves(monkeypatch):
    reference.install(monkeypatch, *TASKS)


def result(**methods):
    """Make a result of methods with a score, a cell or None on each of the tasks."""
    cells = {
        (task, name): cell(y) if isinstance(y, float) else y
        for name, row in methods.items()
        for task, y in zip(TASKS, row, strict=True)
        if y is not None
    }
    return of_cells(cells)


def made(y, offset=0.1, **changes):
    """Make a cell whose better trial of two has the score y, and the other one y + offset."""
    trials = np.array([y + offset, y])
    return cell(y, tuning=trials, finals=trials, **changes)


def test_means_intervals_and_the_profile_are_those_of_the_closed_form():
    found = result(
        slow=[made(-1.9), made(-2.1), made(-1.8)], fast=[made(-2.2), made(-2.0), made(-2.4)]
    ).overall(resamples=20_000)
    assert found.methods == ("fast", "slow")
    S = reference.speed_up([[-2.2, -2.0, -2.4], [-1.9, -2.1, -1.8]])
    G = 2.0 ** (-2 * (np.array([-2.2, -29 / 15]) + 2))
    np.testing.assert_allclose(found.speed_ups, S, rtol=1e-6)
    np.testing.assert_allclose(found.mean, G, rtol=1e-6)
    assert found.task_counts.tolist() == [3, 3]
    # log G is linear in the scores, whose resampled means are nearly normal.
    sd = 2 * np.log(2) * SEEDS.std() / np.sqrt(16) / np.sqrt(3)
    for ends, sign in zip(found.seed_interval, (-1, 1), strict=True):
        np.testing.assert_allclose(np.log(ends / G), sign * 1.96 * sd, rtol=0.05)
    # A quarter of the resamples of two trials has the worse one alone, on all tasks.
    np.testing.assert_allclose(found.tuning_interval.low, G * 2**-0.2, rtol=1e-6)
    np.testing.assert_allclose(found.tuning_interval.high, G, rtol=1e-6)
    ratios = S.max(axis=0) / S
    np.testing.assert_allclose(found.area, ((4 - ratios) / 3).mean(axis=1), rtol=1e-6)
    without = np.stack([np.delete(S, i, axis=1).prod(axis=1) ** 0.5 for i in range(3)])
    np.testing.assert_allclose(found.leave_one_out.low, without.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.leave_one_out.high, without.max(axis=0), rtol=1e-6)
    assert found.common == TASKS
    np.testing.assert_allclose(found.common_mean, G, rtol=1e-6)
    assert np.isnan(found.in_time).all()


def test_the_first_group_has_the_methods_whose_interval_reaches_the_leader():
    """The half-width of log2 G is 2 · 1.96 · 0.0615 / √(16 · 3) = 0.035, of the score 0.017."""
    found = result(
        leader=[-2.5] * 3, near=[-2.49] * 3, far=[-2.45] * 3, lacking=[-2.49, None, None]
    ).overall()
    group = dict(zip(found.methods, found.in_first_group.tolist(), strict=True))
    assert group == {"leader": True, "near": True, "far": False, "lacking": True}


def test_a_method_without_a_rank_on_a_task_is_compared_on_the_others():
    """It is the fastest on its one task and the slowest there by comparison with the leader."""
    edge = cell(-2.9, ["beta"])
    found = result(
        whole=[-2.9, -2.0, -2.0], part=[-2.6, None, edge], none=[edge, None, edge]
    ).overall()
    assert found.methods == ("whole", "part", "none")
    assert found.task_counts.tolist() == [3, 1, 0]
    assert found.mean[1] > found.mean[0]
    assert found.in_first_group.tolist() == [True, False, False]
    assert found.common == ("one",)
    np.testing.assert_allclose(found.common_mean[:2], reference.speed_up([-2.9, -2.6]), rtol=1e-6)
    ends = found.seed_interval.low, found.tuning_interval.high
    for each in (found.mean, *ends, found.common_mean):
        assert np.isnan(each[2])
    assert np.isnan(found.leave_one_out.low[1])
    np.testing.assert_allclose(found.area[1], (4 - 2**0.6) / 3 / 3, rtol=1e-6)
    assert found.area[2] == 0
    rows = {row[0]: row for row in found.table().rows}
    assert rows["none"][1:3] == ["", "0"]
    assert "on common tasks" in rows["method"]
    assert "all methods have a rank on one." in str(found)


def test_the_tasks_on_which_an_order_rests_are_named():
    found = result(
        steady=[-2.13, -2.13, -2.13], one_hit=[-2.0, -2.0, -2.9], lacking=[None, -2.1, -2.2]
    ).overall()
    changes = {task: {*pairs} for task, pairs in found.order_changes.items()}
    assert changes == {
        "one": set(),
        "two": set(),
        "three": {("one_hit", "steady"), ("lacking", "steady"), ("one_hit", "lacking")},
    }
    assert "change places if one task is left out: 3 without three." in str(found)


def test_the_mean_of_limited_speed_ups_is_marked_as_a_bound():
    found = result(up=[-2.0, -9.0, -2.0], down=[-2.0, -2.0, 0.0], both=[-9.0, 0.0, -2.0]).overall()
    texts = {row[0]: row[1] for row in found.table().rows}
    assert texts["up"] == ">1.59"
    assert texts["down"] == "<0.63"
    assert texts["both"] == "~1.00"
    assert found._repr_html_().count("<tr>") == 4


def test_recorded_costs_give_the_speed_up_in_time(monkeypatch):
    cost = {"milliseconds": 1.0, "compile_seconds": 1.0, "bytes_per_parameter": 4.0}
    cost |= {"gradients": 1.0, "loss_evaluations": 0.0}
    ratios = {"one/nesterov": 1.25, "one/fast": 2.5, "two/nesterov": 1.0, "two/fast": 4.0}
    ratios |= {"three/nesterov": 1.0, "three/fast": 1.0}
    costs = {name: {**cost, "ratio": ratio} for name, ratio in ratios.items()}
    content = {"format": 1, "about": {"versions": {}}, "costs": costs}
    content["tasks"] = {**dict.fromkeys(TASKS, "hash"), "three": "other"}
    reference.install(monkeypatch, *TASKS, costs=content)
    found = result(
        nesterov=[-2.0, -2.0, None], fast=[-2.5, -2.5, None], untimed=[-2.1, -2.1, None]
    ).overall()
    times = dict(zip(found.methods, found.in_time, strict=True))
    assert times["nesterov"] == pytest.approx(1.0)
    assert times["fast"] == pytest.approx((2 / 2 * 2 / 4) ** 0.5)
    assert np.isnan(times["untimed"])
    assert "in time" in str(found)
    # The costs of the third task are those of another version.
    third = result(nesterov=[-2.0] * 3, fast=[-2.5] * 3).overall()
    assert np.isnan(third.in_time).all()


def test_pairs_are_compared_on_their_common_tasks():
    found = result(
        a=[-2.5, -2.0, -2.0], b=[-2.0, -2.0, None], c=[-2.45, -2.05, -2.0], d=[None, None, -2.0]
    ).pairs()
    S = reference.speed_up(np.array([[-2.5, -2.0], [-2.0, -2.0]]))
    ratio = np.sqrt(np.prod(S[0] / S[1]))
    assert found.methods == ("a", "b", "c", "d")
    np.testing.assert_allclose(found.ratios[0, 1], ratio, rtol=1e-6)
    np.testing.assert_allclose(found.ratios[1, 0], 1 / ratio, rtol=1e-6)
    assert found.task_counts[0].tolist() == [3, 2, 3, 1]
    assert np.isnan(found.ratios[1, 3])
    assert found.decided[0, 1]
    assert not found.decided[0, 2]
    rows = found.table().rows
    assert rows[1] == ["a", "", "1.41*", "1.00", "1.00"]
    with pytest.raises(ValueError, match="at least 2 methods"):
        result(a=[-2.0, -2.0, None]).pairs()


def test_a_result_without_speed_ups_says_why(monkeypatch):
    edge = cell(-2.0, ["beta"])
    with pytest.raises(ValueError, match="no method of the result has a rank"):
        result(a=[edge, edge, edge]).overall()
    reference.install(monkeypatch)
    with pytest.raises(ValueError, match="no reference curve of one; momentax has no reference"):
        result(a=[-2.0] * 3).overall()
    with pytest.raises(ValueError, match="no task with a reference curve"):
        result(a=[-2.0] * 3, b=[-2.0] * 3).pairs()


def test_only_tasks_with_a_reference_curve_count(monkeypatch):
    reference.install(monkeypatch, "two")
    found = result(a=[-9.0, -2.0, -9.0], b=[-9.0, -2.5, -9.0]).overall()
    assert found.tasks == ("two",)
    np.testing.assert_allclose(found.mean, [2, 1], rtol=1e-6)
    assert np.isnan(found.leave_one_out.low).all()
