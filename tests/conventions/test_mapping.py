"""Leaves and their counterparts: names, axes, shapes, and what does not fit."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentax.conventions import (
    Counterpart,
    export_params,
    export_torch_state,
    import_params,
    import_torch_state,
)
from tests.conventions.checkpoints import BIAS, FULL, KERNEL, MAPPING, PARAMS, keep, state_dict

SQUARE = np.eye(3, dtype=np.float32)


@given(st.data())
def test_the_export_inverts_axes_and_shape(data):
    parts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    axes = tuple(data.draw(st.permutations(range(len(parts)))))
    cut = data.draw(st.integers(0, len(parts) - 1))
    shape = (*parts[:cut], tuple(parts[cut:]))  # The last axes are combined in the array.
    array = np.random.default_rng(0).normal(size=[int(np.prod(size)) for size in shape])
    array = array.astype(np.float32)
    leaf = array.reshape(parts).transpose(axes).reshape(-1, parts[axes[-1]])
    mapping = Counterpart("w", axes, shape)
    params = import_params({"w": array}, jnp.asarray(np.zeros_like(leaf)), mapping)
    np.testing.assert_array_equal(params, leaf)
    np.testing.assert_array_equal(export_params(params, mapping)["w"], array)


def test_import_params_ignores_arrays_that_the_mapping_does_not_name():
    arrays = {"w": KERNEL, "b": BIAS, "bn.num_batches_tracked": np.int64(3)}
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    params = import_params(arrays, PARAMS, mapping)
    np.testing.assert_array_equal(params["kernel"], KERNEL.T)
    missing = "'b' for the parameter at ['bias'] is missing in arrays, which has 'w'"
    with pytest.raises(ValueError, match=re.escape(missing)):
        import_params({"w": KERNEL}, PARAMS, mapping)


@pytest.mark.parametrize(
    ("mapping", "kind", "message"),
    [
        (
            {"kernel": Counterpart(0, (1, 0))},
            ValueError,
            "mapping has no counterpart for the parameter at ['bias']; it has counterparts for "
            "['kernel']",
        ),
        (
            {**MAPPING, "scale": 2},
            ValueError,
            "mapping gives ['scale'] the counterpart 2, and the parameters have no such leaf; they "
            "have ['bias'], ['kernel']",
        ),
        ({**MAPPING, "bias": 0}, ValueError, "mapping gives 0 to both ['bias'] and ['kernel']"),
        (
            {**MAPPING, "bias": 1.0},
            TypeError,
            "mapping at ['bias'] must be a name, a number or a Counterpart, got 1.0",
        ),
        (
            {**MAPPING, "bias": True},
            TypeError,
            "mapping at ['bias'] must be a name, a number or a Counterpart, got True",
        ),
        (
            {**MAPPING, "kernel": 0},
            ValueError,
            "the velocity of 0 for the parameter at ['kernel'] has shape (3, 2) where (2, 3) "
            "belongs; axes=(1, 0) would fit",
        ),
        (
            {**MAPPING, "kernel": Counterpart(0, (0, 1))},
            ValueError,
            "has shape (3, 2) where (2, 3) belongs; axes=(1, 0) would fit",
        ),
    ],
)
def test_a_wrong_mapping_is_explained(mapping, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        import_torch_state(FULL, PARAMS, mapping)


@pytest.mark.parametrize(
    ("kernel", "bias", "kind", "message"),
    [
        (
            KERNEL,
            BIAS[:2],
            ValueError,
            "the velocity of 1 for the parameter at ['bias'] has shape (2,) where (3,) belongs",
        ),
        (
            KERNEL.astype(np.float64),
            BIAS,
            TypeError,
            "the velocity of 0 for the parameter at ['kernel'] has dtype float64, which float32 "
            "cannot represent without loss; convert it first, or keep the parameters in float64",
        ),
        (
            KERNEL.astype(np.int32),
            BIAS,
            TypeError,
            "for the parameter at ['kernel'] has dtype int32 where float32 belongs",
        ),
        (
            KERNEL * np.complex64(1),
            BIAS,
            TypeError,
            "for the parameter at ['kernel'] has dtype complex64, which float32 cannot represent",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named_with_its_leaf(kernel, bias, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        import_torch_state(state_dict([kernel, bias]), PARAMS, MAPPING)


def test_a_square_kernel_needs_its_axes():
    """Its shape would not reveal that the transposition was forgotten."""
    params, checkpoint = {"w": jnp.zeros((3, 3))}, state_dict([SQUARE])
    with pytest.raises(ValueError, match=re.escape("one of them: axes=(0, 1) or axes=(1, 0)")):
        import_torch_state(checkpoint, params, {"w": 0})
    state = import_torch_state(checkpoint, params, {"w": Counterpart(0, (0, 1))})
    with pytest.raises(ValueError, match="could have its axes in several orders"):
        export_torch_state(state, checkpoint, {"w": 0}, tensor=keep)
    column = {"w": jnp.zeros((3, 1, 1))}  # Axes of size 1 can be anywhere.
    import_torch_state(state_dict([BIAS.reshape(3, 1, 1)]), column, {"w": 0})


def test_a_counterpart_is_checked_when_it_is_made():
    with pytest.raises(
        ValueError, match=re.escape("permutation of the numbers 0 to 1, got (0, 2)")
    ):
        Counterpart("w", (0, 2))
    with pytest.raises(
        ValueError, match=re.escape("permutation of the numbers 0 to 3, got (1, 0)")
    ):
        Counterpart("w", (1, 0), shape=(10, (2, 3, 3)))
    with pytest.raises(ValueError, match="'w' has a shape, so it needs axes too"):
        Counterpart("w", shape=(10, 4))


def test_a_counterpart_that_does_not_fit_is_explained():
    leaf = {"w": jnp.zeros((18, 10))}
    flat = Counterpart("w", (2, 3, 1, 0), shape=(10, (2, 3, 3)))
    with pytest.raises(
        ValueError, match=re.escape("has shape (10, 16), and its counterpart has (10, 18)")
    ):
        import_params({"w": np.zeros((10, 16), np.float32)}, leaf, {"w": flat})
    with pytest.raises(
        ValueError, match=re.escape("has shape (18, 10), and its axes are (1, 0, 2")
    ):
        import_params(
            {"w": np.zeros((18, 10), np.float32)}, leaf, {"w": Counterpart("w", (1, 0, 2))}
        )
    with pytest.raises(ValueError, match=re.escape("and the leaf has shape (16, 10)")):
        export_params({"w": jnp.zeros((16, 10))}, {"w": flat})
    with pytest.raises(ValueError, match=re.escape("and the leaf has shape (10,)")):
        export_params({"w": jnp.zeros(10)}, {"w": Counterpart("w", (1, 0))})


def test_a_counterpart_prints_python_values():
    counterpart = Counterpart(np.str_("w"), list(np.array([1, 0])))
    assert repr(counterpart) == "Counterpart(name='w', axes=(1, 0), shape=None)"
