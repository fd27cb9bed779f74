"""Muon in 8 bits: the bytes of its state, and the losses of a small transformer."""

import jax
import numpy as np

import momentax
from tests.benchmarks import muon


def test_the_state_of_a_matrix_takes_little_more_than_a_byte_an_entry():
    txs = muon.optimizers(10)
    counts = 3 * 4  # Of the method, the decay and the learning rate.
    taken, entries = muon.bytes_of_matrices(txs["int8"])
    assert entries == muon.LAYERS * 12 * muon.WIDTH**2
    assert taken == entries + 4 * entries // 256 + counts
    assert muon.bytes_of_matrices(txs["float32"])[0] == 4 * entries + counts
    normuon = momentax.muon(0.02, after="normuon")
    more, _ = muon.bytes_of_matrices(momentax.stored(normuon, momentax.storage.int8()))
    assert 1.03 < more / entries < 1.09  # One more number for each output.


def test_a_small_transformer_trains_as_in_float32():
    *_, losses = muon.train(30, [0])
    full, small = losses["float32"]["0"], losses["int8"]["0"]
    assert np.mean(full[-5:]) < 0.8 * full[0]
    np.testing.assert_allclose(np.mean(small[-5:]), np.mean(full[-5:]), rtol=0.02)
    np.testing.assert_allclose(small[0], full[0], rtol=1e-6)
    assert list(muon.train(30, [0], losses)) == []  # Nothing is computed again.


def test_every_matrix_of_the_transformer_is_found():
    params = jax.eval_shape(lambda: muon.init(jax.random.key(0), 90))
    found = momentax.roles(params)
    assert found.doubtful == ()
    hidden = [name for name, role in found.items() if role == "hidden"]
    assert len(hidden) == 6
    assert all(found.leaves[name].axes == "bio" for name in hidden)
