"""Roles: what each parameter of real models is found to be, and how a guess is corrected."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import momentax
from momentax import roles

KEY = jax.random.key(0)


def shapes(model, *inputs):
    """Return the shapes of the parameters of a Linen model."""
    return jax.eval_shape(model.init, KEY, *inputs)["params"]


def matrices(found):
    """Return the role and the axes of each parameter that is no vector."""
    leaves = found.leaves
    return {name: f"{x.role} {x.axes}" for name, x in leaves.items() if x.role != "vector"}


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (64, 32):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.Conv(16, (3, 3))(x)
        x = nn.Conv(16, (3, 3), feature_group_count=16, name="depthwise")(x)
        return nn.Dense(10, name="classifier")(x.reshape(1, -1))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(nn.LayerNorm()(x))
        return x + nn.Dense(16)(nn.gelu(nn.Dense(64)(nn.LayerNorm()(x)))), None


class Transformer(nn.Module):
    scan: bool = False

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 16)(tokens)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (1, 8, 16))
        if self.scan:
            axes: dict = {"params": 0}
            x, _ = nn.scan(Block, axes, split_rngs={"params": True}, length=3)(name="layers")(
                x, None
            )
        else:
            for i in range(2):
                x, _ = Block(name=f"block_{i}")(x)
        return nn.Dense(50, use_bias=False, name="lm_head")(nn.LayerNorm()(x))


BLOCK = {
    "Dense_0/kernel": "hidden io",
    "Dense_1/kernel": "hidden io",
    **{f"attention/{name}/kernel": "hidden ioo" for name in ("key", "query", "value")},
    "attention/out/kernel": "hidden iio",
}
AROUND = {
    "Embed_0/embedding": "embedding io",
    "lm_head/kernel": "head io",
    "pos_embedding": "embedding bio",
}
IMAGE, TOKENS = jnp.ones((1, 6, 6, 1)), jnp.zeros((1, 8), int)
LINEN = {
    "MLP": (
        lambda: shapes(MLP(), jnp.ones((1, 20))),
        {f"Dense_{i}/kernel": f"{role} io" for i, role in enumerate(("hidden", "hidden", "head"))},
        ("Dense_2/kernel",),
    ),
    "CNN": (
        lambda: shapes(CNN(), IMAGE),
        {
            "Conv_0/kernel": "convolution iiio",
            "Conv_1/kernel": "convolution iiio",
            "depthwise/kernel": "depthwise iiio",
            "classifier/kernel": "head io",
        },
        ("Conv_0/kernel",),
    ),
    "transformer": (
        lambda: shapes(Transformer(), TOKENS),
        {f"block_{i}/{name}": role for i in range(2) for name, role in BLOCK.items()} | AROUND,
        (),
    ),
    "scanned transformer": (
        lambda: shapes(Transformer(scan=True), TOKENS),
        {f"layers/{name}": role.replace(" ", " b") for name, role in BLOCK.items()} | AROUND,
        (),
    ),
}


@pytest.mark.parametrize("name", LINEN)
def test_models_of_linen(name):
    make, expected, doubtful = LINEN[name]
    found = roles(make())
    assert matrices(found) == expected
    assert found.doubtful == doubtful
    assert len(found) == len(jax.tree.leaves(make()))


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.attn = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.up, self.down = (nnx.Linear(a, b, rngs=rngs) for a, b in ((16, 64), (64, 16)))


class NNXTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(50, 16, rngs=rngs)
        self.blocks = nnx.List([NNXBlock(rngs)])
        self.out = nnx.Linear(16, 50, rngs=rngs)


def test_a_model_of_nnx():
    found = roles(nnx.state(NNXTransformer(nnx.Rngs(0)), nnx.Param))
    block = {f"blocks/0/attn/{name}/kernel": "hidden ioo" for name in ("key", "query", "value")}
    others = {f"blocks/0/{name}/kernel": "hidden io" for name in ("up", "down")}
    assert matrices(found) == {
        **block,
        **others,
        "blocks/0/attn/out/kernel": "hidden iio",
        "embed/embedding": "embedding io",
        "out/kernel": "head io",
    }
    assert found.doubtful == ("out/kernel",)


class Equinox(eqx.Module):
    embedding: eqx.nn.Embedding
    attn: eqx.nn.MultiheadAttention
    conv: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP
    head: eqx.nn.Linear


def test_a_model_of_equinox_has_its_outputs_first():
    model = Equinox(
        eqx.nn.Embedding(50, 16, key=KEY),
        eqx.nn.MultiheadAttention(4, 16, key=KEY),
        eqx.nn.Conv2d(3, 8, 3, key=KEY),
        eqx.nn.LayerNorm(16),
        eqx.nn.MLP(16, 16, 32, 1, key=KEY),
        eqx.nn.Linear(16, 50, key=KEY),
    )
    attention = ("query_proj", "key_proj", "value_proj", "output_proj")
    assert matrices(roles(eqx.filter(model, eqx.is_inexact_array))) == {
        "embedding/weight": "embedding io",
        **{f"attn/{name}/weight": "hidden oi" for name in attention},
        "conv/weight": "convolution oiii",
        "mlp/layers/0/weight": "hidden oi",
        "mlp/layers/1/weight": "hidden oi",
        "head/weight": "head oi",
    }
    stack = eqx.filter_vmap(lambda key: eqx.nn.Linear(16, 32, key=key))(jax.random.split(KEY, 3))
    assert matrices(roles(stack)) == {"weight": "hidden boi"}


def test_names_are_alike_for_each_container():
    layer = {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}
    haiku = {"mlp/~/linear_0": {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}}
    assert list(roles({"a": [layer]})) == ["a/0/bias", "a/0/kernel"]
    assert list(roles({"a": {"0": layer}})) == ["a/0/bias", "a/0/kernel"]
    assert dict(roles(haiku)) == {"mlp/~/linear_0/b": "vector", "mlp/~/linear_0/w": "hidden"}
    assert dict(roles({})) == {}


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


ALONE = {
    "bert/layer/0/output/dense/kernel": ((64, 16), "hidden io", False),
    "unembed/kernel": ((16, 50), "head io", False),
    "embed_out/kernel": ((16, 50), "head io", False),
    "patch_embed/kernel": ((4, 4, 3, 16), "embedding iiio", True),
    "moe/router/kernel": ((16, 8), "router io", False),
    "decoder/kernel": ((16, 50), "hidden io", True),
    "attn/qkv/kernel": ((16, 48), "hidden io", True),
    "experts/w1": ((8, 16, 64), "hidden bio", True),
    "attn/w_gate": ((16, 64), "hidden io", False),
    "conv1d/kernel": ((3, 16, 32), "convolution iio", False),
    "attn/q/kernel": ((16, 4, 8), "hidden ioo", False),
    "wte": ((50, 16), "embedding io", False),
    "mlp/kernel": ((16, 1), "vector", False),
    "head/kernel": ((16, 1), "head io", False),
    "logits": ((), "vector", False),
    "norm/scale": ((4, 16), "vector", False),
    "": ((3, 2), "hidden io", True),
}


@pytest.mark.parametrize("name", ALONE)
def test_one_parameter_alone(name):
    shape, expected, in_doubt = ALONE[name]
    tree = array(*shape)
    for part in reversed(name.split("/") if name else ()):
        tree = {part: tree}
    found = roles(tree)
    (leaf,) = found.leaves.values()
    role = leaf.role if leaf.role == "vector" else f"{leaf.role} {leaf.axes}"
    assert (role, found.doubtful == (name,)) == (expected, in_doubt)


def test_a_guess_is_corrected_by_a_name_a_module_or_a_pattern():
    params = {
        "decoder": {"kernel": array(8, 50), "bias": array(50)},
        "block_0": {"wq": array(8, 2, 4), "w": array(8, 8)},
        "block_1": {"wq": array(8, 2, 4), "w": array(8, 8)},
    }
    found = roles(params, {"decoder": "head", "block_?/wq": "hidden ibo", "block_1/wq": "vector"})
    assert found["decoder/kernel"] == "head"
    assert found["decoder/bias"] == "vector"
    assert found.leaves["block_0/wq"].axes == "ibo"
    assert found["block_1/wq"] == "vector"
    assert found.doubtful == ()
    again = roles(params, found)  # The table of another call.
    assert matrices(again) == matrices(found)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"dekoder/kernel": "head"}, r"'dekoder/kernel', .* nearest names are 'decoder/kernel'"),
        ({"nothing": "head"}, r"'nothing', which matches no parameter; the names are 'decoder/"),
        ({"decoder": "haed"}, r"must be one of 'hidden', .* got 'haed'; did you mean 'head'\?"),
        ({"decoder": "hidden bii"}, r"must have a letter b, i or o for each axis .* at least one"),
        ({"decoder": "hidden iio"}, r"has 3 letters for the axes of 'decoder/kernel', .*\(8, 50\)"),
        ({"decoder/bias": "hidden"}, r"the parameter 'decoder/bias' has the shape \(50,\)"),
    ],
)
def test_a_mistake_in_a_correction_is_a_sentence(overrides, text):
    params = {"decoder": {"kernel": array(8, 50), "bias": array(50)}}
    with pytest.raises(ValueError, match=rf"^overrides.*{text}"):
        roles(params, overrides)


def test_the_table_shows_every_parameter_and_every_doubt():
    found = roles(shapes(MLP(), jnp.ones((1, 20))))
    text, html = repr(found), found._repr_html_()
    for name in found:
        assert name in text
        assert name in html
    assert "head ?" in text
    assert "roles={'Dense_2/kernel': 'hidden'}" in text
    assert "64 → 32" in text
    assert "no head was found" in repr(roles({"w": np.ones((2, 3))}))
    assert momentax.roles is roles
