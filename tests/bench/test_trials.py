"""The analyses of trials: the expected best, sensitivity, and one setting for all tasks."""

import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest

import momentax
from momentax.bench import Result, Space, _trials, entries, run
from momentax.sweeps import log_uniform, uniform
from tests.bench import reference, tiny
from tests.bench.results import cell, of_cells

N = 32
ENTRY = entries["nesterov"]
SPACES = {"nesterov": Space(ENTRY.space, ENTRY.default)}
POINTS = ENTRY.trials(N)


@pytest.fixture(autouse=True)
def curves(monkeypatch):
    reference.install(monkeypatch, "one", "two", "three")


def tuned(y, evaluation=None, edge=()):
    """Make a cell of trials with these scores, whose best four were confirmed exactly."""
    order = np.argsort(y, kind="stable")
    finals, again = np.full((2, len(y)), np.nan)
    finals[order[:4]], again[order[:8]] = y[order[:4]], y[order[:8]] + 0.05
    best = int(order[0])
    mean = y[best] if evaluation is None else evaluation
    return cell(
        mean,
        edge,
        tuning=y,
        finals=finals,
        again=again,
        chosen=best,
        hyperparameters={name: float(column[best]) for name, column in POINTS.items()},
    )


def valley(centre=0.5, slope=0.5):
    """Return scores that rise with the distance of the effective rate from the best one."""
    return -2.5 + slope * np.abs(np.log10(POINTS["effective_rate"] / centre))


def test_the_expected_best_is_the_mean_over_all_subsets():
    y, e = np.array([-2.0, -1.0, -3.0, -2.5, -1.5]), np.array([-1.9, -1.2, -2.2, -2.4, -1.0])
    found = of_cells({("one", "a"): cell(-2.0, tuning=y, finals=y, again=e)})
    means = [y.mean()]
    for k in range(2, 6):
        subsets = combinations(range(5), k)
        means.append(np.mean([e[min(each, key=y.__getitem__)] for each in subsets]))
    best = found.expected_best("one", "a")
    np.testing.assert_allclose(best.mean, means, rtol=1e-12)
    assert np.all((best.band.low <= best.mean) & (best.mean <= best.band.high))
    some = found.expected_best("one", "a", counts=[[5, 1]])
    np.testing.assert_allclose(some.mean, [[means[4], means[0]]])
    assert found.expected_best("one", "a", counts=1).mean == pytest.approx(means[0])
    twice = found.expected_best("one", "a", counts=5, replacement=True)
    shares = (1 - np.arange(5) / 5) ** 5 - (1 - np.arange(1, 6) / 5) ** 5
    assert twice.mean == pytest.approx(shares @ e[np.argsort(y)])
    with pytest.raises(ValueError, match="counts must be whole numbers from 1 to 5"):
        found.expected_best("one", "a", counts=6)


def test_numbers_of_trials_that_cannot_be_corrected_are_unknown():
    found = of_cells({("one", "nesterov"): tuned(valley())})
    best = found.expected_best("one", "nesterov")
    assert np.flatnonzero(np.isnan(best.mean)).tolist() == [*range(1, 7)]
    assert best.mean[-1] == pytest.approx(valley().min() + 0.05)
    assert best.mean[0] == pytest.approx(valley().mean())


def test_the_trials_to_match_the_control_are_counted():
    y = np.array([-2.0, -1.0, -3.0, -2.5, -1.5])
    faster = y - 0.4
    cells = {
        ("one", "nesterov"): cell(-2.0, tuning=y, finals=y, again=y),
        ("one", "fast"): cell(-2.0, tuning=faster, finals=faster, again=faster),
        ("one", "edge"): cell(-2.0, ["beta"], tuning=y, finals=y, again=y),
        ("two", "other"): cell(-2.0),
    }
    found = of_cells(cells)
    means = found.expected_best("one", "fast").mean
    assert found.trials_to_match("one", "fast") == 1 + int(np.argmax(means <= -3.0)) == 3
    assert found.trials_to_match("one", "nesterov", "fast") is None
    assert found.trials_to_match("one", "nesterov") == 5
    with pytest.raises(ValueError, match="control 'edge' has no rank on the task 'one'"):
        found.trials_to_match("one", "fast", "edge")
    with pytest.raises(ValueError, match="no runs of the method 'other' on the task 'one'"):
        found.trials_to_match("one", "other")


def test_the_sensitivity_has_the_trials_the_good_region_and_the_width():
    y = valley()
    y[3] = 0.0
    found = of_cells({("one", "nesterov"): tuned(y)}, spaces=SPACES).sensitivity("one", "nesterov")
    for name, column in POINTS.items():
        np.testing.assert_array_equal(found.hyperparameters[name], column)
    S = reference.speed_up(y)
    np.testing.assert_allclose(found.speed_ups, S, rtol=1e-6)
    assert found.beyond[3] == -1
    for share in (0.9, 0.7):
        good = sum(each >= share * max(S) for each in S[1:])
        region = found.regions[share]
        assert region.share.value == good / (N - 1)
        # Wilson's interval: the shares p with |p - good / n| = 1.96 √(p (1 - p) / n).
        for p in region.share[1:]:
            distance = abs(p - region.share.value)
            assert distance == pytest.approx(1.95996 * np.sqrt(p * (1 - p) / (N - 1)), rel=1e-4)
        k = region.trials
        assert (1 - good / (N - 1)) ** k <= 0.1 < (1 - good / (N - 1)) ** (k - 1)
    assert found.rate == "effective_rate"
    low, high = np.log10(1e-3), np.log10(300)
    bins = ((np.log10(POINTS["effective_rate"]) - low) / (high - low) * 12).astype(int)
    good = {each for each, speed in zip(bins, S, strict=True) if speed >= 0.7 * max(S)}
    assert found.width.decades == pytest.approx(len(good) * (high - low) / 12)


def test_the_default_is_no_point_of_the_good_region():
    """It was not drawn at random."""
    y = np.full(N, -1.0)
    y[0] = -3.0
    found = of_cells({("one", "nesterov"): tuned(y)}, spaces=SPACES).sensitivity("one", "nesterov")
    assert found.regions[0.9].share.value == 0
    assert found.regions[0.9].trials == np.inf


def test_a_space_without_a_rate_on_a_log_scale_has_no_width():
    ranges = {"size": log_uniform(0.1, 1), "learning_rate": uniform(0, 1)}
    points = {"size": np.array([0.5, 0.2]), "learning_rate": np.array([0.1, 0.7])}
    space = Space(ranges, {"size": 0.5, "learning_rate": 0.1}, points)
    trials = cell(-2.0, hyperparameters={"size": 0.5, "learning_rate": 0.1}, chosen=0)
    other = of_cells({("one", "mine"): trials}, spaces={"mine": space}).sensitivity("one", "mine")
    assert other.rate is None
    assert other.width is None


def test_hyperparameters_that_are_not_known_are_not_made_up():
    cells = {("one", "nesterov"): tuned(valley())}
    with pytest.raises(ValueError, match="does not have the search space of 'nesterov'"):
        of_cells(cells).sensitivity("one", "nesterov")
    points = {name: 1.001 * column for name, column in POINTS.items()}
    other = of_cells(cells, spaces={"nesterov": SPACES["nesterov"]._replace(trials=points)})
    with pytest.raises(ValueError, match=r"chosen trial \d+ of 'nesterov' on 'one' has others in"):
        other.sensitivity("one", "nesterov")
    with pytest.raises(ValueError, match="no speed-ups on the task 'four': momentax has no ref"):
        of_cells({("four", "nesterov"): tuned(valley())}, spaces=SPACES).sensitivity(
            "four", "nesterov"
        )


def test_a_file_and_parts_of_a_result_keep_the_trials(tmp_path, monkeypatch):
    found = of_cells({("one", "nesterov"): tuned(valley())}, spaces=SPACES)
    path = tmp_path / "bench.json"
    found.save(path)
    loaded = Result.load(path)
    # A later version may make other trials.
    monkeypatch.setattr(_trials, "trials_of", lambda *arguments: {})
    again = loaded.sensitivity("one", "nesterov")
    for name, column in POINTS.items():
        np.testing.assert_allclose(again.hyperparameters[name], column, rtol=1e-5)
    assert found.join(loaded).spaces.keys() == {"nesterov"}
    assert found.select(["nesterov"]).spaces == SPACES
    old = {key: each for key, each in json.loads(path.read_text()).items() if key != "spaces"}
    path.write_text(json.dumps(old))
    assert Result.load(path).spaces == {}


def test_results_of_other_spaces_are_not_joined_unless_asked():
    one = of_cells({("one", "nesterov"): tuned(valley())}, spaces=SPACES)
    wider = {**ENTRY.space, "effective_rate": log_uniform(1e-3, 1000)}
    spaces = {"nesterov": Space(wider, ENTRY.default)}
    two = of_cells({("two", "nesterov"): tuned(valley())}, spaces=spaces)
    with pytest.raises(ValueError, match="nesterov was searched in another space; anyway=True"):
        one.join(two)
    assert one.join(two, anyway=True).spaces == {}
    # Nothing of the other method is taken here.
    same_task = dataclasses.replace(one, spaces=spaces)
    assert one.join(same_task).cells.keys() == one.cells.keys()


def test_a_run_keeps_the_spaces_of_entries_of_ones_own():
    def mine(learning_rate, beta=0.8):
        return momentax.sgd(learning_rate, momentax.nesterov(beta))

    found = run(mine, tiny.make(name="one"), trials=4, seeds=2, progress=False)
    assert found.spaces["mine"].default == {"effective_rate": 0.5, "beta": 0.8}
    found = dataclasses.replace(found, hashes={"one": "hash"})
    assert found.sensitivity("one", "mine").hyperparameters["beta"][0] == 0.8


def test_the_best_single_setting_is_the_best_on_average():
    ys = [valley(centre) for centre in (0.05, 0.5, 5.0)]
    cells = {
        (task, "nesterov"): tuned(y, evaluation=y.min() + 0.2)
        for task, y in zip(("one", "two", "three"), ys, strict=True)
    }
    result = of_cells(cells, spaces=SPACES)
    found = result.best_single_setting("nesterov")
    S = [reference.speed_up(y + 0.2) for y in ys]
    means = [np.exp(np.mean([np.log(row[i]) for row in S])) for i in range(N)]
    assert found.trial == int(np.argmax(means))
    assert found.mean == pytest.approx(max(means), rel=1e-6)
    assert found.default == pytest.approx(means[0], rel=1e-6)
    best = [reference.speed_up(y.min() + 0.2) for y in ys]
    assert found.tuned == pytest.approx(np.prod(best) ** (1 / 3), rel=1e-6)
    assert found.tuned > found.mean
    assert found.hyperparameters["beta"] == POINTS["beta"][found.trial]
    np.testing.assert_allclose(found.speed_ups, [row[found.trial] for row in S], rtol=1e-6)
    own = [reference.speed_up(y) for y in ys]
    good = [all(row[i] >= 0.7 * max(row) for row in own) for i in range(1, N)]
    assert found.regions[0.7].share.value == pytest.approx(np.mean(good))
    assert found.edge == []


def test_the_best_single_setting_leaves_out_tasks_without_a_rank():
    cells = {("one", "nesterov"): tuned(valley()), ("two", "nesterov"): tuned(valley(), edge=["a"])}
    found = of_cells(cells, spaces=SPACES).best_single_setting("nesterov")
    assert found.tasks == ("one",)
    assert found.mean == found.tuned
    only = {("two", "nesterov"): cells["two", "nesterov"]}
    with pytest.raises(ValueError, match="'nesterov' has no rank on a task with a reference"):
        of_cells(only, spaces=SPACES).best_single_setting("nesterov")
