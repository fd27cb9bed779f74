"""The models of the tasks, each against another way to compute it."""

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench import _layers as layers
from momentax.bench._tasks import (
    curves_ae,
    digits_cnn,
    names_char,
    names_embed,
    poisson_pinn,
    unicode_bn,
)

KEY = jax.random.key(0)


def random_params(task, scale=0.3):
    """Return parameters of a task, all random, in NumPy, which compiles nothing."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: task.init(None, key), KEY)
    return jax.tree.map(lambda leaf: np.float32(scale * random.normal(size=leaf.shape)), shapes)


def test_batches_are_drawn_without_replacement_in_each_epoch():
    rows = np.asarray(jax.jit(lambda key: layers.epochs(key, 50, 8, 6 * 2_000 + 1))(KEY))
    assert rows.shape == (12_001, 8)
    assert rows.min() == 0
    assert rows.max() == 49
    epochs = np.sort(rows[:-1].reshape(2_000, 48), axis=1)
    assert (np.diff(epochs) > 0).all()
    assert len(np.unique(epochs, axis=0)) > 500  # Other examples are left out each time.
    first = np.bincount(rows[:-1:6].ravel(), minlength=50)
    assert (abs(first - 320) < 5 * np.sqrt(320)).all()  # All come first equally often.


def test_one_draw_initializes_all_arrays():
    shapes = {"a": layers.Normal((200, 50), 2.0), "b": {"kernel": layers.Normal((60, 70), 0.1)}}
    params = layers.initialize(KEY, {**shapes, "c": layers.ones(3)})
    np.testing.assert_allclose(np.std(params["a"]), 2.0, rtol=0.05)
    np.testing.assert_allclose(np.std(params["b"]["kernel"]), 0.1, rtol=0.05)
    np.testing.assert_array_equal(params["c"], np.ones(3))


def test_the_convolution_by_matrices_is_a_convolution():
    x, kernel = jax.random.normal(KEY, (2, 8, 8, 3)), jax.random.normal(KEY, (27, 5))
    expected = jax.lax.conv_general_dilated(
        x, kernel.reshape(3, 3, 3, 5), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(digits_cnn.convolve(kernel, x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(digits_cnn.pool(x)[0, 1, 2], x[0, 2:4, 4:6].mean((0, 1)), rtol=1e-5)


def test_batch_normalization_uses_the_examples_at_hand():
    layer = {"scale": jnp.full(3, 2.0), "bias": jnp.ones(3)}
    x = unicode_bn.normalize(layer, 5 + 3 * jax.random.normal(KEY, (40, 3)))
    np.testing.assert_allclose(x.mean(0), np.ones(3), atol=1e-5)
    np.testing.assert_allclose(x.std(0), np.full(3, 2.0), rtol=1e-4)


def test_no_character_sees_those_behind_it():
    params = random_params(names_char)
    tokens = np.tile(np.random.default_rng(0).integers(39, size=32, dtype=np.uint8), (2, 1))
    tokens[1, 20] = (tokens[1, 20] + 1) % 39
    first, second = np.asarray(jax.jit(names_char.logits)(params, tokens))
    np.testing.assert_array_equal((abs(first - second) > 1e-4).any(-1), np.arange(32) >= 20)
    assert np.isfinite(first).all()


def test_the_recurrent_unit_stops_at_the_end_of_a_name():
    params = random_params(names_embed)
    embedded, inputs, recurrent = (params[name] for name in ("embedding", "inputs", "recurrent"))
    h = np.zeros(48)
    for word in (7, 11, 5):
        x = embedded[word] @ inputs["kernel"] + inputs["bias"]
        y = h @ recurrent["kernel"] + recurrent["bias"]
        r, z = (1 / (1 + np.exp(-(x + y)[part])) for part in (slice(48), slice(48, 96)))
        h = z * h + (1 - z) * np.tanh(x[96:] + r * y[96:])
    expected = h @ params["head"]["kernel"] + params["head"]["bias"]
    words = np.array([[7, 11, 5, 0, 0, 0, 0, 0]], np.int32)
    found = jax.jit(names_embed.logits)(jax.tree.map(jnp.asarray, params), words)
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)


def test_the_loss_of_curves_is_a_divergence_of_kullback_and_leibler():
    params = random_params(curves_ae, 0.1)
    images = curves_ae.load()["images"][:3]
    found = jax.jit(curves_ae.cost)(params, images)
    x = images / 255.0
    for i, name in enumerate(curves_ae.LAYERS):
        x = x @ np.float64(params[name]["kernel"]) + params[name]["bias"]
        x = x if i in (3, 7) else np.tanh(x)
    p, q = images / 255.0, 1 / (1 + np.exp(-x))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(a > 0, a * np.log(a / b), 0) for a, b in ((p, q), (1 - p, 1 - q))]
    np.testing.assert_allclose(found, np.sum(terms) / 3, rtol=1e-5)


def test_the_laplacian_of_the_network_is_that_of_differences(x64):
    params = jax.tree.map(np.float64, random_params(poisson_pinn))
    h, points = 1e-4, np.random.default_rng(0).random((5, 2))
    around = [points + h * np.array(step) for step in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]]
    edge = np.array([[0.0, 0.3], [1.0, 0.6], [0.2, 0.0], [0.7, 1.0]])
    solve = jax.jit(lambda points: poisson_pinn.solve(params, points))
    values, laplacians = solve(np.concatenate([*around, edge]))
    u = np.reshape(values[:25], (5, 5))
    np.testing.assert_allclose(laplacians[:5], (u[1:].sum(0) - 4 * u[0]) / h**2, rtol=1e-5)
    np.testing.assert_allclose(values[25:], np.zeros(4), atol=1e-15)


def test_the_loss_of_the_equation_is_zero_at_its_solution():
    h, points = 1e-4, np.random.default_rng(0).random((5, 2))
    u = lambda x, y: np.sin(2 * np.pi * x) * np.sin(3 * np.pi * y)  # noqa: E731 - As in the text.
    x, y = points.T
    np.testing.assert_allclose(poisson_pinn.solution(jnp.float32(points)), u(x, y), atol=1e-5)
    around = u(x + h, y) + u(x - h, y) + u(x, y + h) + u(x, y - h)
    np.testing.assert_allclose((around - 4 * u(x, y)) / h**2, -13 * np.pi**2 * u(x, y), atol=1e-3)
