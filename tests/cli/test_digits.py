"""The digits that `momentax sweep` trains on by default, and its network for them."""

import chex
import jax
import numpy as np
from flax import nnx

from momentax._cli import _digits


def test_the_split_is_fixed_balanced_and_complete():
    train, test = _digits.load()
    again, _ = _digits.load()
    chex.assert_trees_all_equal(train, again)
    assert train.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert float(train.images.min()) == 0
    assert float(train.images.max()) == 1
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    assert counts.sum() == 1797
    shares = np.bincount(np.asarray(test.labels)) / counts
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    both = np.concatenate([train.images, test.images]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797  # No image is in both parts.


def test_the_matrix_product_is_the_convolution():
    random = np.random.default_rng(0)
    for features, channels in ((16, 1), (32, 16)):
        images = random.normal(size=(5, 8, 8, channels)).astype(np.float32)
        kernel = random.normal(size=(3, 3, channels, features)).astype(np.float32)
        convolution, product = (
            nnx.Conv(
                channels,
                features,
                (3, 3),
                kernel_init=lambda *_, kernel=kernel: kernel,
                rngs=nnx.Rngs(0),
                **options,
            )
            for options in ({}, {"conv_general_dilated": _digits.convolve_by_matmul})
        )
        chex.assert_trees_all_close(product(images), convolution(images), rtol=1e-5, atol=1e-5)


def test_the_network_has_the_stated_number_of_parameters():
    params = nnx.eval_shape(lambda: nnx.state(_digits.Network(nnx.Rngs(0)), nnx.Param))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in _digits.Network.__doc__
