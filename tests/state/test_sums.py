"""Sums, counts and maxima of the entries of arrays, beside NumPy in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax._state import _sums
from momentax._state._sums import Columns, reduce_all

# A scalar, no entries, one row, several rows, and sizes that no rows of 257 to 1,024 make up.
SHAPES = [(), (0,), (5,), (7, 3), (3, 3, 64, 96), (9000,), (20011,), (1031, 1033), (64, 3, 200)]
NAMES = ["sum", "other sum", "count", "largest"]


@pytest.fixture(params=["one CPU", "one GPU", "two devices"], autouse=True)
def number_of_devices(request, monkeypatch):
    number = 2 if request.param == "two devices" else 1
    monkeypatch.setattr(jax, "device_count", lambda: number)
    if request.param == "one GPU":  # Where the reductions of a CPU are not used.
        monkeypatch.setattr(_sums, "_reduce_stacks", _sums._reduce_each)
    return number


def columns_of(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    return Columns({"sum": x, "other sum": y * y}, {"count": x * y < 0}, {"largest": np.abs(x)})


def reduced(columns, **options):
    """Return a dict of the columns of the table that `reduce_all` returns."""
    table = reduce_all(columns, **options)
    return {name: table.column(name) for name in table.columns}


def as_jax(columns):
    return Columns(*({name: jnp.asarray(x) for name, x in kind.items()} for kind in columns))


def twin(columns):
    sums, counts, maxima = columns
    found = {name: x.astype(np.float64).sum() for name, x in sums.items()}
    found |= {name: float(np.count_nonzero(x)) for name, x in counts.items()}
    return found | {name: x.max(initial=0) for name, x in maxima.items()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_columns_are_reduced(shape):
    columns = columns_of(shape, np.float32)
    found = jax.jit(lambda given: reduced(given))(as_jax(columns))
    assert set(found) == set(NAMES)
    chex.assert_shape(list(found.values()), (1,))
    for name, value in twin(columns).items():
        np.testing.assert_allclose(found[name][0], value, rtol=2e-6, atol=1e-3, err_msg=name)
    assert found["count"][0] == twin(columns)["count"]
    assert found["largest"][0] == twin(columns)["largest"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_rows_of_an_array_make_the_whole(shape):
    columns = columns_of(shape, np.float32)
    found = jax.jit(lambda given: reduced(given, by_row=True))(as_jax(columns))
    (rows,) = {x.shape for x in found.values()}
    assert len(rows) == 1
    whole = {name: x.max() if name == "largest" else x.sum() for name, x in found.items()}
    for name, value in twin(columns).items():
        np.testing.assert_allclose(whole[name], value, rtol=2e-6, atol=1e-3, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_double_precision_stays():
    columns = columns_of((3, 5000), np.float64)
    found = reduced(as_jax(columns))
    chex.assert_type(list(found.values()), jnp.float64)
    for name, value in twin(columns).items():
        np.testing.assert_allclose(found[name][0], value, rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("kept", [["sum"], ["sum", "other sum"], ["count"], ["largest"], []])
def test_some_columns_alone(kept):
    columns = Columns(
        *(
            {k: x for k, x in kind.items() if k in kept}
            for kind in columns_of((40, 300), np.float32)
        )
    )
    found = jax.jit(lambda given: reduced(given))(as_jax(columns))
    assert set(found) == set(kept)
    for name, value in twin(columns).items():
        np.testing.assert_allclose(found[name][0], value, rtol=2e-6, atol=1e-3)


def test_a_value_that_is_not_a_number_is_seen():
    x = jnp.ones(9000).at[8500].set(jnp.nan)
    found = reduced(Columns({"sum": x}, {"count": jnp.isnan(x)}, {"largest": jnp.abs(x)}))
    assert np.isnan(found["sum"][0])
    assert np.isnan(found["largest"][0])
    assert found["count"][0] == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_keep_all_entries_in_order(shape, number_of_devices):
    array = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.float32).reshape(shape)
    rows = _sums.in_rows(array)
    np.testing.assert_array_equal(jnp.ravel(rows), jnp.ravel(array))
    if number_of_devices > 1 and rows.shape != array.shape:  # Only the last axis may be split.
        assert rows.shape[: len(shape) - 1] == shape[:-1]


def test_a_sum_of_many_equal_numbers_is_accurate():
    x = jnp.full((1031, 1033), 0.1)
    found = jax.jit(lambda x: reduced(Columns({"sum": x}, {}, {"largest": x})))(x)
    np.testing.assert_allclose(found["sum"][0], np.float64(np.float32(0.1)) * x.size, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_single_precision_beside_x64():
    columns = columns_of((40, 300), np.float32)
    without_sums = Columns({}, columns.counts, columns.maxima)
    found = reduced(as_jax(without_sums))
    chex.assert_type(list(found.values()), jnp.float64)
    for name, value in found.items():
        assert float(value[0]) == float(twin(columns)[name])
