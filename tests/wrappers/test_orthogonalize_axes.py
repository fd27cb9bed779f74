"""Which parameters are matrices: axes, heads, fused kernels, and how each of them is named."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax

PLAIN = momentax.heavy_ball(0.0)  # Its direction is the gradient.


def polar(x, **options):
    tx = momentax.orthogonalize(PLAIN, **options)
    return jax.jit(lambda x: tx.update(x, tx.init(x))[0])(x)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(found, expected):
    # XLA may transpose a tall matrix or multiply it as it is, which rounds differently.
    np.testing.assert_allclose(found, expected, atol=1e-5)


# The usual axes are those of Flax, by their number.


def test_vectors_keep_the_direction_of_the_method():
    x = {"kernel": draw(4, 6), "bias": draw(6), "scale": draw(), "empty": draw(0, 3)}
    out = polar(x)
    for key in ("bias", "scale", "empty"):
        np.testing.assert_array_equal(out[key], x[key])
    assert np.linalg.norm(out["kernel"], 2) == pytest.approx(1.5**0.5, rel=0.2)


def test_a_stack_of_layers_is_its_layers_one_by_one():
    for shape in ((3, 4, 6), (3, 6, 4), (3, 4, 12)):
        x = draw(*shape)
        close(polar(x), [polar(each) for each in x])


def test_the_kernel_of_a_convolution_is_flattened():
    x = draw(3, 2, 4, 8)
    close(polar(x), polar(x.reshape(24, 8)).reshape(x.shape))


def test_letters_say_what_the_axes_are():
    x = draw(3, 4, 6)
    whole = polar(x.reshape(3, 24)).reshape(x.shape)
    close(polar(x, where="ioo"), whole)
    close(polar(jnp.moveaxis(x, 0, 2), where="ooi"), jnp.moveaxis(whole, 0, 2))
    close(polar(jnp.moveaxis(x, 0, 1), where="oio"), jnp.moveaxis(whole, 0, 1))
    close(polar(x, where="iio"), polar(x.reshape(12, 6)).reshape(x.shape))
    close(polar(x, where="bio"), polar(x))
    close(polar(x, where="ibo"), jnp.stack([polar(x[:, i]) for i in range(4)], axis=1))
    close(polar(x, where="boi"), [polar(each.T).T for each in x])
    close(polar(draw(2, 3, 4, 6), where="bbio"), [[polar(m) for m in e] for e in draw(2, 3, 4, 6)])


def test_a_weight_of_pytorch_is_the_transposed_kernel_of_flax():
    x = draw(4, 6)
    for scale in ("spectral", "unit"):
        for after in (None, "row"):
            options = {"scale": scale, "after": after}
            close(polar(x.T, where="oi", **options), polar(x, **options).T)


# Heads and fused kernels are matrices of their own.


def test_each_head_is_a_separate_matrix():
    query, out = draw(6, 2, 4), draw(2, 4, 6, seed=1)
    params = {"attention": {"query": {"kernel": query}, "out": {"kernel": out}}}
    found = polar(params, heads={"*/query/kernel": 1, "*/out/kernel": 0})["attention"]
    close(found["query"]["kernel"], jnp.stack([polar(query[:, i]) for i in range(2)], axis=1))
    close(found["out"]["kernel"], [polar(each) for each in out])
    tree = {"attention": {"query": {"kernel": 1}, "out": {"kernel": -3}}}
    chex.assert_trees_all_equal(polar(params, heads=tree)["attention"], found)
    letters = {"*/query/kernel": "ibo", "*/out/kernel": "bio"}
    chex.assert_trees_all_equal(polar(params, where=letters)["attention"], found)
    layers = polar(draw(3, 6, 2, 4), heads=2)  # Also in a stack of layers.
    close(layers, [polar(each, heads=1) for each in draw(3, 6, 2, 4)])


@pytest.mark.parametrize("after", [None, "row", "normuon"])
def test_a_fused_kernel_is_exactly_its_parts(after):
    x = draw(6, 18)
    parts = {"q": x[:, :6], "k": x[:, 6:12], "v": x[:, 12:]}
    options = {"after": after, "scale": "unit"}
    separate = polar(parts, **options)
    joined = jnp.concatenate([separate["q"], separate["k"], separate["v"]], axis=1)
    np.testing.assert_array_equal(polar(x, split=3, **options), joined)
    np.testing.assert_array_equal(polar(x, split=(6, 6, 6), **options), joined)
    np.testing.assert_array_equal(polar(x.T, where="oi", split=3, **options), joined.T)
    assert np.abs(polar(x, **options) - joined).max() > 0.01
    unequal = polar({"a": x[:, :4], "b": x[:, 4:]}, **options)
    found = polar({"w": x}, split={"w": [4, 14]}, **options)["w"]
    close(found, jnp.concatenate([unequal["a"], unequal["b"]], axis=1))


def test_heads_within_blocks_and_blocks_of_several_axes():
    x = draw(5, 3, 2, 4)  # Inputs; queries, keys and values; heads; outputs of a head.
    expected = jnp.stack([polar(x[:, i], heads=1) for i in range(3)], axis=1)
    close(polar(x, where="ibbo"), expected)
    close(
        polar(x, where="iooo", split=3),
        jnp.stack([polar(x[:, i], where="ioo") for i in range(3)], 1),
    )


def test_the_average_of_normuon_has_the_axes_of_the_outputs():
    tx = momentax.orthogonalize(after="normuon", heads={"h": 1}, split={"s": 2})
    params = {"c": draw(3, 3, 2, 8), "h": draw(6, 2, 4), "s": draw(6, 8), "b": draw(4)}
    state = tx.init(params)
    shapes = {"c": (1, 1, 1, 8), "h": (1, 2, 4), "s": (1, 8)}
    assert {k: w.shape for k, w in state.row_squares.items() if w is not None} == shapes
    _, after = jax.jit(tx.update)(params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    one = momentax.orthogonalize(after="normuon")
    _, separate = one.update({"a": params["s"][:, :4]}, one.init({"a": params["s"][:, :4]}))
    close(after.row_squares["s"][:, :4], separate.row_squares["a"])


# Where: trees, prefixes, functions and patterns.

TREE = {"embed": {"kernel": draw(9, 4)}, "dense": {"kernel": draw(4, 6), "bias": draw(6)}}


def of_params(params):
    return {"embed": False, "dense": jax.tree.map(lambda x: x.ndim > 1, params["dense"])}


CHOICES = {
    "tree": {"embed": {"kernel": False}, "dense": {"kernel": True, "bias": False}},
    "prefix": {"embed": False, "dense": True},
    "function": of_params,
    "patterns": {"dense/*": True},
    "first pattern": {"embed/*": False, "*": True},
    "letters": {"dense/kernel": "io"},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_chosen_parameters_are_orthogonalized(choice):
    out = polar(TREE, where=CHOICES[choice])
    close(out["dense"]["kernel"], polar(TREE["dense"]["kernel"]))
    np.testing.assert_array_equal(out["dense"]["bias"], TREE["dense"]["bias"])
    np.testing.assert_array_equal(out["embed"]["kernel"], TREE["embed"]["kernel"])


def test_all_or_none():
    chex.assert_trees_all_equal(polar(TREE, where=True), polar(TREE))
    chex.assert_trees_all_equal(polar(TREE, where=False), TREE)


def test_a_tuple_of_parameters_takes_a_tuple_of_choices():
    params = (draw(4, 6), draw(5, 3), draw(3))
    out = polar(params, where=(True, False, False), split=(3, None, None))
    close(out[0], polar(params[0], split=3))
    np.testing.assert_array_equal(out[1], params[1])


BAD = [
    ({"where": "ob"}, r"^where must have a bool for each parameter, or a letter .* got 'ob'"),
    ({"where": {"dense/*": 1.0}}, "^where must have a bool .* got 1.0"),
    ({"where": {"dense/kernel": "bio"}}, r"^where must be, for .* of shape \(4, 6\), one letter"),
    ({"where": {"mlp/*": True}}, "^where has the pattern 'mlp/.', which matches no .* 'dense/b"),
    ({"where": {"dense": {"kernel": True}}}, "^where must be a tree with the structure of params"),
    ({"where": lambda params: [True]}, "^where must be a tree with the structure of params"),
    ({"where": lambda: True}, "^where must be a function from params to a tree"),
    ({"heads": 1.5}, "^heads must have the number of an axis"),
    ({"heads": {"dense/kernel": 2}}, r"^heads must be, for .* one of its 2 axes, got 2"),
    ({"heads": {"dense/kernel": 1}}, r"\['kernel'\] has shape \(4, 6\), from which its axes"),
    ({"heads": {"dense/kernel": 1}, "where": {"dense/kernel": "io"}}, "^heads must be, .* beside"),
    ({"heads": {"dense/bias": 0}}, r"^heads has 0 for the parameter at .*\['bias'\], which is not"),
    ({"split": {"dense/kernel": 4}}, "^split must be, for .* a divisor of its 6 outputs, got 4"),
    ({"split": {"dense/kernel": (4, 4)}}, "^split must be, for .* widths whose sum is 6, .* got "),
    ({"split": {"dense/bias": 2}}, r"^split has 2 for the parameter at .*\['bias'\]"),
    ({"split": 0}, "^split must be a whole number, at least 1, got 0"),
    ({"split": {"dense/kernel": (0, 6)}}, "^each width in split must be a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_choices_that_do_not_fit_raise_at_init_and_name_the_parameter(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        momentax.orthogonalize(**options).init(TREE)


@pytest.mark.parametrize(
    ("module", "letters"),
    [("query", "ibo"), ("value", "ibo"), ("out", "bio"), ("Conv_0", "iio"), ("conv1", "iio")],
)
def test_a_kernel_whose_name_denies_that_it_is_a_stack_is_refused(module, letters):
    params = {"layer": {module: {"kernel": draw(4, 2, 3)}}}
    with pytest.raises(ValueError, match=rf'where=\{{"layer/{module}/kernel": .*"{letters}"'):
        momentax.orthogonalize().init(params)
    momentax.orthogonalize(where={f"*/{module}/kernel": "iio", "*": True}).init(params)


def test_many_axes_need_letters():
    with pytest.raises(ValueError, match=r"\['w'\] has shape \(2, 2, 2, 2, 2\), from which"):
        momentax.orthogonalize().init({"w": draw(2, 2, 2, 2, 2)})
    momentax.orthogonalize(where={"w": "biiio"}).init({"w": draw(2, 2, 2, 2, 2)})


# Containers and parts of trees.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.MultiHeadDotProductAttention(num_heads=2)(x)
        return nn.Dense(3)(nn.Conv(4, (3,))(x))


def test_the_parameters_of_linen():
    params = nn.meta.unbox(Block().init(jax.random.key(0), jnp.ones((1, 5, 4))))["params"]
    where = {"*out/kernel": "iio", "*Conv_0/kernel": "iio", "*Dense_0/*": True}
    where |= dict.fromkeys(("*query/kernel", "*key/kernel", "*value/kernel"), "ioo")
    tx = momentax.orthogonalize(PLAIN, where=where)
    out = tx.update(params, tx.init(params))[0]
    attention = "MultiHeadDotProductAttention_0"
    query = params[attention]["query"]["kernel"]
    close(out[attention]["query"]["kernel"], polar(query.reshape(4, -1)).reshape(query.shape))
    conv = params["Conv_0"]["kernel"]
    close(out["Conv_0"]["kernel"], polar(conv.reshape(12, 4)).reshape(conv.shape))
    np.testing.assert_array_equal(out["Dense_0"]["bias"], params["Dense_0"]["bias"])


def test_the_parameters_of_nnx_are_named_alike():
    params = nnx.state(nnx.Linear(4, 6, rngs=nnx.Rngs(0)), nnx.Param)
    tx = momentax.orthogonalize(PLAIN, where={"kernel": True}, split={"kernel": 2})
    out = tx.update(params, tx.init(params), params)[0]
    kernel = params["kernel"][...]
    close(out["kernel"][...], polar(kernel, split=2))


@pytest.mark.parametrize("choice", CHOICES)
def test_parts_of_a_tree_and_missing_gradients(choice):
    tx = momentax.orthogonalize(PLAIN, where=CHOICES[choice], after="normuon")
    mask = {"embed": {"kernel": False}, "dense": {"kernel": True, "bias": True}}
    masked = optax.masked(tx, mask)
    if choice != "first pattern":  # The pattern "embed/*" matches nothing that is left.
        out, _ = masked.update(TREE, masked.init(TREE), TREE)
        close(out["dense"]["kernel"], tx.update(TREE, tx.init(TREE))[0]["dense"]["kernel"])
    state = tx.init(TREE)
    for params in (None, TREE):
        g = {"embed": TREE["embed"], "dense": {"kernel": None, "bias": TREE["dense"]["bias"]}}
        out, after = tx.update(g, state, params)
        assert out["dense"]["kernel"] is None
        chex.assert_trees_all_equal(after.row_squares, state.row_squares)
