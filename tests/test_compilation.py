"""The settings by which the tests compile change nothing that the tests read from a program."""

import os

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import serialize_executable

import momentax
from tests import compilation
from tests.compiled import copies


def lowered_step():
    params = jnp.ones(1 << 12)
    tx = momentax.optimistic(momentax.nesterov(0.9))

    def step(params, state):
        updates, state = tx.update(params, state, params)
        return params + updates, state

    return jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params))


def test_a_program_that_is_loaded_has_the_costs_of_the_compiled_one():
    compiled = compilation.fully_optimized(lowered_step())
    loaded = serialize_executable.deserialize_and_load(*serialize_executable.serialize(compiled))
    assert str(loaded.memory_analysis()) == str(compiled.memory_analysis())
    assert loaded.cost_analysis() == compiled.cost_analysis()
    found = [len(copies(each.as_text(), 1 << 12)) for each in (compiled, loaded)]
    assert found[0] == found[1] > 0


def test_full_optimization_does_not_depend_on_the_setting_of_the_test():
    texts = []
    for disabled in (False, True):
        jax.config.update("jax_disable_most_optimizations", disabled)
        texts.append(compilation.fully_optimized(lowered_step()).as_text())
        assert jax.config.read("jax_disable_most_optimizations") is disabled
    assert len(texts[0].splitlines()) == len(texts[1].splitlines())


def test_an_entry_of_the_cache_is_written_as_a_whole(tmp_path):
    cache = compilation._AtomicCache(str(tmp_path), max_size=-1)
    assert cache.get("key") is None
    for value in (b"first", b"second"):
        cache.put("key", value)
        assert cache.get("key") == value
    assert [path.name for path in tmp_path.iterdir()] == ["key-cache"]


@pytest.mark.parametrize(("largest", "kept"), [(100, 3), (25, 2), (5, 0)])
def test_pruning_removes_the_least_recently_used_entries(tmp_path, monkeypatch, largest, kept):
    monkeypatch.setenv("MOMENTAX_TEST_CACHE", str(tmp_path))
    monkeypatch.setattr(compilation, "LARGEST", largest)
    for age in range(3):
        path = tmp_path / f"{age}-cache"
        path.write_bytes(b"0123456789")
        os.utime(path, (1000 - age, 1000 - age))
    compilation.prune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}-cache" for i in range(kept)]


def test_the_variable_names_the_folder_or_turns_the_cache_off(monkeypatch, tmp_path):
    monkeypatch.setenv("MOMENTAX_TEST_CACHE", "0")
    assert compilation.cache_folder() is None
    monkeypatch.setenv("MOMENTAX_TEST_CACHE", str(tmp_path))
    assert compilation.cache_folder() == tmp_path
    monkeypatch.delenv("MOMENTAX_TEST_CACHE")
    assert compilation.cache_folder().parent.name == "momentax-tests"
