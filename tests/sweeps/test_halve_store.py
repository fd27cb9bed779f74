"""Halving that continues from its store."""

from functools import partial

import chex
import jax
import numpy as np
import pytest

from momentax import grid, halve
from momentax.sweeps import (
    mutate,
    repeat,
    uniform,
)
from tests.sweeps.halving import (
    QUADRATIC,
    count_batch_shapes,
    double_output,
    noisy_advance,
    noisy_init,
    noisy_score,
    quadratic_init,
    quadratic_score,
    quadratics,
    shift,
    without_typed_keys,
)
from tests.sweeps.stopping import StoppedError, stop_after


@pytest.mark.parametrize("resample", [None, mutate(jax.random.key(2))], ids=["halve", "resample"])
@pytest.mark.parametrize("batch_size", [8, "auto"])
def test_a_stopped_halving_continues_to_the_same_bits(monkeypatch, tmp_path, resample, batch_size):
    points = repeat(grid(learning_rate=[0.1, 0.5, 1.0], beta=[0.0, 0.7]), 2)

    def advance(state, **point):  # A new function, for which no batch shape is compiled yet.
        return noisy_advance(state, **point)

    functions = noisy_init, advance, noisy_score
    call = partial(halve, *functions, points, rungs=[2, 5, 6], keep=0.5, resample=resample)
    whole = call(batch_size=batch_size, store=tmp_path / "whole")
    without_store = call(batch_size=whole.report.batch_size)
    chex.assert_trees_all_equal(
        *map(without_typed_keys, ((r.values, r.states) for r in (whole, without_store)))
    )
    compiled = count_batch_shapes(advance, noisy_score)
    resumed = []
    for batches in range(1, 20):
        store = tmp_path / f"{batches}"
        with monkeypatch.context() as patch:
            stop_after(patch, batches)
            try:
                call(batch_size=batch_size, store=store)
                break
            except StoppedError:
                pass
        again = call(batch_size="auto", store=store)
        resumed.append(again.report.resumed)
        for one, other in zip(
            jax.tree.leaves(without_typed_keys((whole.values, whole.states, whole.survivors))),
            jax.tree.leaves(without_typed_keys((again.values, again.states, again.survivors))),
            strict=True,
        ):
            assert one.tobytes() == other.tobytes()
    assert len(resumed) >= (3 if batch_size == 8 else 2)
    assert (
        count_batch_shapes(advance, noisy_score) == compiled
    )  # Another batch shape could give other bits.
    assert resumed == sorted(resumed)
    complete = call(batch_size="auto", store=tmp_path / "whole")
    runs = np.isfinite(whole["history"]).sum()
    assert complete.report.resumed == runs
    assert complete.report.programs == 0
    chex.assert_trees_all_equal(
        *map(without_typed_keys, ((r.values, r.states) for r in (whole, complete)))
    )


def test_a_damaged_batch_runs_again(tmp_path):
    points = quadratics(3)
    call = partial(halve, *QUADRATIC, points, rungs=[2, 4], keep=0.5, batch_size=4, store=tmp_path)
    whole = call()
    files = sorted(tmp_path.glob("batch-rung000-*"))
    assert len(files) == 3
    content = files[1].read_bytes()
    files[1].write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.warns(UserWarning, match="1 damaged file in the store") as warned:
        again = call()
    assert len(warned) == 1  # It is reported at one rung only.
    assert again.report.damaged == (files[1].name,)
    assert again.report.resumed == 8 + 6
    chex.assert_trees_all_equal(whole, again)


OTHER_CALLS = {
    "rungs": ({"rungs": [2, 5]}, r"rungs was \[2, 4\] and is \[2, 5\]"),
    "keep": ({"keep": 0.25}, r"keep was 0.5 and is 0.25"),
    "mode": ({"mode": "max"}, r"mode was 'min' and is 'max'"),
    "resample": ({"resample": shift}, r"resample was None and is 'shift'"),
    "points": ({"points": quadratics(4)}, r"axis problem was \d and is \d at index"),
    "score": ({"score": double_output(quadratic_score)}, "its function differs, .* of its jaxpr"),
    "advance": ({"advance": lambda s, **point: s}, "its function differs, .* of its jaxpr"),
    "init": ({"init": double_output(quadratic_init)}, "its function differs, .* of its jaxpr"),
    "batch": ({"batch_size": 2}, r"started with batch_size=4, got 2"),
}


@pytest.mark.parametrize("case", OTHER_CALLS)
def test_the_store_of_another_call_is_refused_and_unchanged(case, tmp_path):
    init, advance, score = QUADRATIC
    mine = {"init": init, "advance": advance, "score": score, "points": quadratics(3)}
    mine |= {"rungs": [2, 4], "keep": 0.5, "batch_size": 4, "store": tmp_path}
    whole = halve(**mine)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    change, text = OTHER_CALLS[case]
    with pytest.raises(ValueError, match=text):
        halve(**(mine | change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    chex.assert_trees_all_equal(whole, halve(**mine))


def test_a_store_distinguishes_mutations(tmp_path):
    call = partial(halve, *QUADRATIC, quadratics(3), rungs=[2, 4], store=tmp_path)
    call(resample=mutate(jax.random.key(0)))
    assert call(resample=mutate(jax.random.key(0))).report.programs == 0
    for other in (
        mutate(jax.random.key(1)),
        mutate(jax.random.key(0), factor=2),
        mutate(jax.random.key(0), beta=uniform(0, 0.9)),
    ):
        with pytest.raises(ValueError, match="resample was 'Mutation"):
            call(resample=other)
    # An address in the text of an object does not count, since it is another in each process.
    there = tmp_path / "partial"
    for _ in range(2):
        halve(
            *QUADRATIC,
            quadratics(3),
            rungs=2,
            store=there,
            resample=partial(lambda *args: shift(*args)),
        )
