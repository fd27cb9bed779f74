"""Search that continues from its store."""

from functools import partial

import jax
import pytest

from momentax import grid, search, sweep
from momentax.sweeps import uniform
from tests.sweeps.stopping import StoppedError, stop_after
from tests.sweeps.test_search import SQUARE, bits, distance, find


@pytest.mark.parametrize("batches", [0, 1, 3, 5])
def test_a_stopped_search_continues_to_the_same_bits(monkeypatch, tmp_path, batches):
    def run(x, method):
        return {"loss": (x - 0.3) ** 2 + (0.1 if method == "a" else 0.0)}

    call = partial(
        search, run, {"x": uniform(-1.0, 1.0), "method": ["a", "b"]}, budget=14, batch_size=4,
        progress=False,
    )  # fmt: skip
    whole = call()
    with monkeypatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(StoppedError):
            call(store=tmp_path)
    again = call(store=tmp_path)
    assert (again.report.resumed > 0) == (batches > 0)
    assert bits(again) == bits(whole)
    complete = call(store=tmp_path)
    assert complete.report.resumed == 14
    assert complete.report.programs == 0
    assert bits(complete) == bits(whole)


def test_a_store_is_continued_with_a_larger_budget_and_read_with_a_smaller_one(tmp_path):
    find(budget=11, store=tmp_path)
    longer = find(budget=20, store=tmp_path)
    assert longer.report.resumed == 11
    assert bits(longer) == bits(find(budget=20))
    shorter = find(budget=9, store=tmp_path)
    assert (shorter.report.resumed, shorter.report.programs) == (9, 0)
    assert bits(shorter) == bits(find(budget=9))


def test_a_damaged_batch_runs_again(tmp_path):
    whole = find(budget=24, store=tmp_path)
    damaged = sorted(tmp_path.glob("batch-*"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="1 damaged file in the store"):
        again = find(budget=24, store=tmp_path)
    assert again.report.resumed == 16
    assert bits(again) == bits(whole)


OTHERS = {
    "space": (
        {"space": SQUARE | {"x": uniform(-2.0, 1.0)}},
        "space was .*low=-1.0.* and is .*low=-2",
    ),
    "metric": ({"metric": "sum", "mode": "min"}, "metric was 'loss' and is 'sum'"),
    "mode": ({"mode": "max"}, "mode was 'min' and is 'max'"),
    "initial": ({"initial": 12}, "initial was 8 and is 12"),
    "key": ({"key": jax.random.key(3)}, "key was "),
    "batch size": ({"batch_size": 4, "initial": 8}, "was started with batch_size=8, got 4"),
    "function": ({"run": lambda x, y: {"loss": x + y, "sum": x}}, "its function differs"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return the store of a search."""
    store = tmp_path_factory.mktemp("search")
    find(budget=9, store=store)
    return store


@pytest.mark.parametrize(("change", "message"), OTHERS.values(), ids=OTHERS)
def test_a_store_of_another_search_is_refused(kept, change, message):
    mine = {"run": distance, "space": SQUARE, "budget": 13, "metric": "loss", "store": kept}
    with pytest.raises(ValueError, match=message):
        search(**(mine | change))


def test_a_store_of_a_sweep_is_refused(kept, tmp_path):
    points = grid(x=[0.0], y=[0.5])
    with pytest.raises(ValueError, match="was started by search and is given to sweep"):
        sweep(distance, points, store=kept)
    sweep(distance, points, store=tmp_path)
    with pytest.raises(ValueError, match="was started by sweep and is given to search"):
        find(budget=9, store=tmp_path)
