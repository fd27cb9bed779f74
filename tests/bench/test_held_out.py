"""The held-out variants of tasks, and the rule that a failed variant makes its task a failure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax.bench import Protocol, _facts, _files, held_out, tasks
from momentax.bench._data import checksum
from momentax.bench._held_out import BASES
from momentax.bench._tasks import curves_ae, spiral_deep
from tests.bench.results import cell, of_cells

KEY = jax.random.key(0)


def arrays_of(task):
    return {name: jnp.asarray(array) for name, array in task.load().items()}


def joined(data, name):
    return np.concatenate([data[name], data[f"validation_{name}"]])


def test_four_variants_have_a_task_each():
    assert list(held_out) == [
        "curves_ae_other_curves",
        "spiral_deep_wider",
        "digits_cnn_other_split",
        "names_embed_larger_blocks",
    ]
    assert set(BASES.values()) < set(tasks)
    assert not set(held_out) & set(tasks)
    with pytest.raises(KeyError, match="there is no held-out variant 'ridge'"):
        held_out["ridge"]


@pytest.mark.parametrize("name", held_out)
def test_a_variant_has_its_checksum_and_differs_from_its_task(name):
    task, base = held_out[name], tasks[BASES[name]]
    assert checksum(task.load()) == task.checksum
    key = jax.eval_shape(lambda: KEY)
    shapes = [
        jax.eval_shape(
            lambda key, each=each: (
                each.init(arrays_of(each), key),
                each.train(momentax.sgd(0.1), key, steps=2),
            ),
            key,
        )
        for each in (task, base)
    ]
    differs = task.checksum != base.checksum, shapes[0][0] != shapes[1][0]
    assert (
        differs
        == {
            "curves_ae_other_curves": (True, False),
            "spiral_deep_wider": (False, True),
            "digits_cnn_other_split": (True, False),
            "names_embed_larger_blocks": (True, True),
        }[name]
    )
    assert (task.steps, task.batch_size, task.floor) == (base.steps, base.batch_size, base.floor)
    assert _facts.task_hash(task) != _facts.task_hash(base)


def test_the_hash_of_a_variant_changes_with_the_code_of_its_task(monkeypatch):
    first = {name: _facts.task_hash(task) for name, task in held_out.items()}
    source_of = _facts.inspect.getsource

    def changed(module):
        source = source_of(module)
        return (
            source.replace("jnp.tanh", "jnp.sin") if module in (curves_ae, spiral_deep) else source
        )

    monkeypatch.setattr(_facts.inspect, "getsource", changed)
    second = {name: _facts.task_hash(task) for name, task in held_out.items()}
    assert [name for name in held_out if first[name] != second[name]] == [
        "curves_ae_other_curves",
        "spiral_deep_wider",
    ]


def test_the_other_curves_are_new_and_of_the_same_kind():
    ours, theirs = (
        each.load() for each in (held_out["curves_ae_other_curves"], tasks["curves_ae"])
    )
    images, others = joined(ours, "images"), joined(theirs, "images")
    assert images.shape == others.shape
    assert not {row.tobytes() for row in images} & {row.tobytes() for row in others}
    assert images.mean() == pytest.approx(others.mean(), rel=0.02)


def test_the_other_split_has_the_same_digits():
    ours, theirs = (
        each.load() for each in (held_out["digits_cnn_other_split"], tasks["digits_cnn"])
    )

    def pairs(data, part=""):
        rows = zip(data[f"{part}images"], data[f"{part}labels"], strict=True)
        return sorted((image.tobytes(), int(label)) for image, label in rows)

    assert sorted(pairs(ours) + pairs(ours, "validation_")) == sorted(
        pairs(theirs) + pairs(theirs, "validation_")
    )
    shared = set(pairs(ours, "validation_")) & set(pairs(theirs, "validation_"))
    assert len(shared) < 120  # 72 of 360 are expected.


def test_the_larger_blocks_are_unions_of_the_smaller_ones():
    ours = held_out["names_embed_larger_blocks"].load()
    theirs = tasks["names_embed"].load()
    np.testing.assert_array_equal(joined(ours, "words"), joined(theirs, "words"))
    pairs = set(
        zip(joined(theirs, "blocks").tolist(), joined(ours, "blocks").tolist(), strict=True)
    )
    assert len(pairs) == 120  # Each block of 128 lies in one block of 256.
    larger = [block for _, block in sorted(pairs)]
    assert set(np.diff(larger)) == {0, 1}
    assert (larger[0], larger[-1]) == (0, 61)


def test_the_wider_network_has_one_and_a_half_times_the_units():
    params = jax.eval_shape(lambda key: held_out["spiral_deep_wider"].init(None, key), KEY)
    assert params["layers"]["kernel"].shape == (24, 24, 24)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in held_out["spiral_deep_wider"].description


@pytest.fixture(autouse=True)
def nothing_recorded(monkeypatch):
    monkeypatch.setattr(_files, "recorded", lambda name: {"tasks": {}})


def results(variant, base):
    """Make a result on a task and one on its variant, of cells or of scores."""
    made = []
    for name, cells in (("spiral_deep", base), ("spiral_deep_wider", variant)):
        made.append(
            of_cells(
                {
                    (name, method): each if hasattr(each, "edge") else cell(each)
                    for method, each in cells.items()
                }
            )
        )
    return made


def test_a_method_that_is_far_worse_on_the_variant_has_failed_the_task():
    # Relative to Nesterov, the loss of the first method is 0.3 of it on the task, and 3 times it on
    # the variant: 10 times as much. That of the second grows by a factor of 2.5.
    base, variant = (
        {"bad": -2.5, "good": -2.2, "nesterov": -2.0},
        {"bad": -0.5, "good": -0.8, "nesterov": -1.0},
    )
    result, variants = results(variant, base)
    found = result.fail_where_variants_fail(variants)
    failed = found.cells["spiral_deep", "bad"]
    assert failed.failed == ("spiral_deep_wider",)
    np.testing.assert_array_equal(failed.evaluation, np.zeros(16))  # The score of the start.
    for method in ("good", "nesterov"):
        assert found.cells["spiral_deep", method] is result.cells["spiral_deep", method]
    assert found.compare()["spiral_deep"]["bad"].verdict == "worse"
    assert "0.00 worse failed" in str(found.table())
    assert "on a held-out variant, spiral_deep_wider" in str(found.table())
    strict = result.fail_where_variants_fail(variants, factor=2)
    assert strict.cells["spiral_deep", "good"].failed == ("spiral_deep_wider",)
    lenient = result.fail_where_variants_fail(variants, factor=11)
    assert lenient.cells["spiral_deep", "bad"].failed == ()
    # Relative to the other method, the control itself is 2.5 times better on the variant.
    other = result.fail_where_variants_fail(variants, "good", factor=2)
    assert other.cells["spiral_deep", "bad"].failed == ("spiral_deep_wider",)


def test_a_method_whose_runs_on_the_variant_diverge_has_failed():
    half = cell(-1.0, diverged=(0, 8))
    result, variants = results(
        {"half": half, "less": cell(-1.0, diverged=(0, 7)), "nesterov": -1.0},
        dict.fromkeys(("half", "less", "nesterov"), -2.0),
    )
    found = result.fail_where_variants_fail(variants)
    assert [key[1] for key, each in found.cells.items() if each.failed] == ["half"]


def test_where_a_wider_range_might_help_a_larger_loss_is_no_failure():
    variant = {"own": cell(0.0, ["beta"]), "other": 0.0, "nesterov": -2.0}
    base = {"own": -2.0, "other": -2.0, "nesterov": cell(-2.0, ["beta"])}
    result, variants = results(variant, base)
    assert not any(each.failed for each in result.fail_where_variants_fail(variants).cells.values())
    result, variants = results(variant, {**base, "nesterov": -2.0, "other": cell(-2.0, ["beta"])})
    found = result.fail_where_variants_fail(variants).cells
    assert [key[1] for key, each in found.items() if each.failed] == ["other"]
    assert found["spiral_deep", "other"].edge == []  # A failure has a rank: the last.


def test_what_cannot_be_compared_is_a_sentence():
    result, variants = results({"nesterov": -1.0}, {"nesterov": -2.0, "adam": -2.0})
    with pytest.raises(ValueError, match="variants must have adam on spiral_deep_wider"):
        result.fail_where_variants_fail(variants)
    with pytest.raises(ValueError, match="variants must have held-out variants of spiral_deep"):
        result.fail_where_variants_fail(result)
    with pytest.raises(TypeError, match="variants must be a Result"):
        result.fail_where_variants_fail({})
    _, other = results({"nesterov": -1.0}, {})
    shorter = of_cells(other.cells, protocol=Protocol(seeds=8))
    with pytest.raises(ValueError, match="seeds: 16 in the result, 8 in variants"):
        result.fail_where_variants_fail(shorter)


def test_a_file_keeps_what_failed(tmp_path):
    result, variants = results({"bad": 0.0, "nesterov": -2.0}, {"bad": -2.0, "nesterov": -2.0})
    found = result.fail_where_variants_fail(variants)
    found.save(tmp_path / "bench.json")
    loaded = momentax.bench.Result.load(tmp_path / "bench.json")
    assert loaded.cells["spiral_deep", "bad"].failed == ("spiral_deep_wider",)
    assert loaded.to_dataframe()["failed"].tolist() == ["spiral_deep_wider", ""]
