"""Trees with encoded arrays: packing, decoding and encoding, for the codec of every storage."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax._core import codecs
from tests.storage.cases import STORAGES

every_storage = pytest.mark.parametrize("kind", STORAGES)


def encoded_tree(kind):
    """A tree with an encoded leaf, a small one, one without a gradient and one in bfloat16."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 256)), jnp.float32)
    encoded = STORAGES[kind].make().encode(x, None)
    return {"encoded": encoded, "small": jnp.ones(3), "none": None}, x


@every_storage
def test_unpacking_undoes_packing_and_packed_fields_hold_plain_arrays(kind):
    tree, x = encoded_tree(kind)
    packed_type = STORAGES[kind].make().packed_type
    packed = codecs.pack(tree, packed_type)
    assert isinstance(packed, packed_type)
    assert codecs.is_packed(packed)
    assert isinstance(tree["encoded"], packed_type.codec)
    values = packed[0]
    assert values["encoded"].shape == x.shape
    assert values["small"] is tree["small"]
    assert values["none"] is None
    for other in packed[1:]:
        assert other["small"] is None
    chex.assert_trees_all_equal(codecs.unpack({"state": (packed, 3)}), {"state": (tree, 3)})
    chex.assert_trees_all_equal(
        codecs.pack_like({"state": (tree, 3)}, {"state": (packed, 3)}), {"state": (packed, 3)}
    )


@every_storage
def test_decoding_gives_float32_arrays_and_encoding_them_again_changes_nothing(kind):
    tree, x = encoded_tree(kind)
    packed = {"state": codecs.pack(tree, STORAGES[kind].make().packed_type), "count": jnp.int32(1)}
    decoded = codecs.decode(packed)
    assert decoded["state"]["encoded"].dtype == jnp.float32
    np.testing.assert_allclose(decoded["state"]["encoded"], x, atol=0.05 * np.abs(x).max())
    chex.assert_trees_all_equal(codecs.encode_like(decoded, packed), packed)


def test_a_tree_without_encoded_arrays_is_returned_itself():
    tree = {"a": jnp.ones(3), "b": (None, 2.0)}
    assert codecs.decode(tree) is tree


@every_storage
def test_encoded_arrays_pass_through_jit_and_conditionals(kind):
    tree, _ = encoded_tree(kind)
    encoded = tree["encoded"]
    same = jax.jit(lambda e: jax.lax.cond(True, lambda: e, lambda: e.encode(e.decode())))(encoded)
    assert type(same) is type(encoded)
    chex.assert_trees_all_equal(same, encoded)
