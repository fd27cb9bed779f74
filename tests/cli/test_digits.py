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
    sizes = ((1, 16), (16, 32))

    @jax.jit
    def convolve(key):  # An argument, so that XLA does not evaluate all of it while compiling.
        images = [jax.random.normal(key, (5, 8, 8, size[0])) for size in sizes]
        return [
            [
                nnx.Conv(*size, (3, 3), rngs=nnx.Rngs(key), **options)(image)
                for image, size in zip(images, sizes, strict=True)
            ]
            for options in ({}, {"conv_general_dilated": _digits.convolve_by_matmul})
        ]

    convolutions, products = convolve(jax.random.key(0))
    chex.assert_trees_all_close(products, convolutions, atol=1e-5)


def test_the_network_has_as_many_parameters_as_it_says():
    params = nnx.eval_shape(lambda: nnx.state(_digits.Network(nnx.Rngs(0)), nnx.Param))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in _digits.Network.__doc__
