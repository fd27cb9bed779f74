"""Muon: each recurrence against its twin, other optimizers, and models of each library."""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import momentax
from momentax import muon
from momentax.states import MuonState
from tests import reference

STEPS = 25
RATES = np.linspace(0.05, 0.01, STEPS + 1)
BETAS = np.linspace(0.5, 0.95, STEPS + 1)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


# Each hidden parameter with the matrices that it holds, as (count, inputs, outputs).
HIDDEN = {
    ("dense", "kernel"): ((4, 3), lambda x: x[None]),
    ("wide", "kernel"): ((3, 8), lambda x: x[None]),
    ("conv", "kernel"): ((3, 3, 2, 5), lambda x: x.reshape(1, 18, 5)),
    ("attn", "query", "kernel"): ((4, 2, 3), lambda x: x.reshape(1, 4, 6)),
    ("layers", "kernel"): ((2, 3, 4), lambda x: x),
    ("torch", "weight"): ((6, 4), lambda x: x.T[None]),
}
OTHERS = {
    ("dense", "bias"): (3,),
    ("attn", "query", "bias"): (2, 3),
    ("layers", "bias"): (2, 4),
    ("torch", "bias"): (6,),
    ("embed", "embedding"): (7, 4),
    ("lm_head", "kernel"): (4, 7),
}
SHAPES = {name: shape for name, (shape, _) in HIDDEN.items()} | OTHERS


def nested(flat):
    tree = {}
    for name, leaf in flat.items():
        node = tree
        for part in name[:-1]:
            node = node.setdefault(part, {})
        node[name[-1]] = leaf
    return tree


def at(tree, name):
    for part in name:
        tree = tree[part]
    return np.asarray(tree)


PARAMS = nested({name: normal(*shape) for name, shape in SHAPES.items()})
GRADS = nested({name: normal(STEPS, *shape, seed=1) for name, shape in SHAPES.items()})


def path(tx, params=PARAMS, gradients=GRADS):
    """Return the parameters after each step, and the last state."""

    def step(carry, g):
        params, state = carry
        u, state = tx.update(g, state, params)
        params = optax.apply_updates(params, u)
        return (params, state), params

    @jax.jit
    def run(params, gradients):
        carry, steps = jax.lax.scan(step, (params, tx.init(params)), gradients)
        return steps, carry[1]

    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes dtypes.
        return run(*jax.tree.map(jnp.asarray, (params, gradients)))


def twin(name, *, weight_decay, nesterov):
    """Return the steps of one hidden parameter in NumPy, as a stack of matrices."""
    as_matrices = HIDDEN[name][1]
    g = at(GRADS, name)

    def of(i):
        return reference.sgd(
            reference.muon,
            lambda θ, t: as_matrices(g[t])[i],
            as_matrices(at(PARAMS, name))[i],
            STEPS,
            learning_rate=RATES.item,
            beta=BETAS.item,
            nesterov=nesterov,
            weight_decay=lambda t: weight_decay,
            decoupled=True,
        )[1:]

    count = len(as_matrices(at(PARAMS, name)))
    return np.stack([of(i) for i in range(count)], axis=1)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.usefixtures("x64")
def test_hidden_matrices_equal_their_twin_under_schedules(nesterov):
    rates, betas = jnp.asarray(RATES), jnp.asarray(BETAS)
    kept = lambda params: jax.tree_util.tree_map_with_path(  # noqa: E731 - a mask.
        lambda path, _: path[0].key != "conv", params
    )
    tx = muon(
        lambda t: rates[t], beta=lambda t: betas[t], weight_decay=0.3, mask=kept,
        nesterov=nesterov, dtype=jnp.float64,
    )  # fmt: skip
    steps, _ = path(tx)
    for name, (_, as_matrices) in HIDDEN.items():
        decay = 0.0 if name[0] == "conv" else 0.3
        expected = twin(name, weight_decay=decay, nesterov=nesterov)
        found = np.stack([as_matrices(each) for each in at(steps, name)])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13, err_msg=str(name))


@pytest.mark.parametrize(
    ("options", "ratio"),
    [({}, 0.015), ({"others": "given"}, None)],
    ids=["default", "given"],
)
@pytest.mark.usefixtures("x64")
def test_the_others_make_the_steps_of_optax(options, ratio):
    rate = optax.cosine_decay_schedule(0.02, 100)
    if ratio is None:
        peer = optax.adamw(1e-3, weight_decay=0.1)
        options = {"others": peer}
    else:
        peer = optax.adamw(lambda t: ratio * rate(t), b1=0.9, b2=0.95, weight_decay=0.0)
    steps, _ = path(muon(rate, **options))
    expected, _ = path(peer)
    for name in OTHERS:
        np.testing.assert_allclose(at(steps, name), at(expected, name), rtol=1e-11, atol=1e-13)
    name = ("dense", "kernel")
    assert np.abs(at(steps, name) - at(expected, name)).max() > 1e-3


def test_learning_rates_and_betas_are_mapped():
    params, g = {"w": jnp.asarray(normal(4, 3), jnp.float32)}, normal(5, 4, 3, seed=2)

    def run(α, β):
        tx, θ = muon(α, beta=β, others=optax.sgd(α)), params
        state = tx.init(θ)
        for each in g:
            u, state = tx.update({"w": jnp.asarray(each, jnp.float32)}, state, θ)
            θ = optax.apply_updates(θ, u)
        return θ["w"]

    values = jnp.array([[0.01, 0.5], [0.02, 0.9], [0.05, 0.99]])
    mapped = jax.jit(jax.vmap(lambda x: run(*x)))(values)
    loop = jnp.stack([jax.jit(run)(*each) for each in values])
    np.testing.assert_allclose(mapped, loop, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(loop[0] - loop[2]).max()) > 1e-2


# The tools that read and change a state.


def small(dtype=jnp.float32):
    params = {
        "dense": {"kernel": normal(4, 3), "bias": normal(3)},
        "head": {"kernel": normal(3, 2)},
    }
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def test_both_velocities_are_read_replaced_and_reset_as_one_tree():
    tx, params = muon(0.02), small()
    state = tx.init(params)
    assert isinstance(state, MuonState)
    _, state = tx.update(params, state, params)
    v = momentax.velocity(state)
    chex.assert_trees_all_equal_shapes(v, params)
    np.testing.assert_allclose(v["dense"]["kernel"], 0.05 * params["dense"]["kernel"], rtol=1e-5)
    np.testing.assert_allclose(v["head"]["kernel"], 0.1 * params["head"]["kernel"], rtol=1e-5)
    norms = momentax.velocity_norms(state)
    assert list(norms) == ["dense/bias", "dense/kernel", "head/kernel"]
    replaced = momentax.replace_velocity(state, params)
    chex.assert_trees_all_equal(momentax.velocity(replaced), params)
    chex.assert_trees_all_equal(momentax.replace_velocity(replaced, v), state)
    reset = momentax.reset_velocity(replaced)
    assert not any(leaf.any() for leaf in jax.tree.leaves(momentax.velocity(reset)))
    path = ".hidden[0].inner_state.velocity"
    assert isinstance(momentax.velocity(state, path=path)["head"]["kernel"], optax.MaskedNode)


def test_hyperparameters_are_those_of_both():
    tx = muon(optax.linear_schedule(0.02, 0.0, 10), weight_decay=0.1, others=optax.adamw(1e-3))
    state = tx.init(small())
    found = momentax.hyperparameters(state, tx)
    assert found["hidden/learning_rate"] == 0.02
    assert found["hidden/beta"] == 0.95
    assert found["hidden/weight_decay"] == 0.1
    assert found["others/learning_rate"] == 1e-3
    assert found["others/beta"] == 0.9
    assert momentax.hyperparameters(state)["hidden/count"] == 0
    tx = muon(1e-3, scale="rms")  # The scale with which Adam's learning rate fits.
    found = momentax.hyperparameters(tx.init(small()), tx)
    assert found["others/learning_rate"] == found["hidden/learning_rate"] == 1e-3


WRAPPED = {
    "guard": lambda: momentax.guard(muon(0.02), max_velocity_norm=10.0),
    "monitor": lambda: momentax.monitor(muon(0.02)),
    "restart": lambda: momentax.restart(muon(0.02)),
    "cautious": lambda: momentax.cautious(muon(0.02)),
    "hyperball": lambda: momentax.hyperball(muon(0.02)),
    "stored": lambda: momentax.stored(muon(0.02), momentax.storage.int8(), min_size=8),
    "MultiSteps": lambda: optax.MultiSteps(muon(0.02), 2).gradient_transformation(),
    "inject_hyperparams": lambda: optax.inject_hyperparams(
        lambda learning_rate, beta: muon(learning_rate, beta=beta)
    )(learning_rate=0.02, beta=0.9),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_composes_and_trains(name):
    tx = WRAPPED[name]()
    dtype = jnp.bfloat16 if name in ("hyperball", "guard") else jnp.float32

    def loss(params, batch):
        x = jnp.tanh(batch @ params["dense"]["kernel"] + params["dense"]["bias"][None])
        return jnp.mean((x @ params["head"]["kernel"] - 1).astype(jnp.float32) ** 2)

    params, batch = small(dtype), jnp.asarray(normal(8, 4), dtype)
    with jax.numpy_dtype_promotion("standard"):
        step = momentax.train_step(loss, tx, donate=False)
        state, losses = tx.init(params), []
        for _ in range(12):
            params, state, value = step(params, state, batch)
            losses.append(float(value))
    assert losses[-1] < 0.95 * losses[0]
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))


def test_a_missing_gradient_leaves_its_parameter_as_it_is():
    tx, params = muon(0.02, weight_decay=0.1), small()
    _, state = tx.update(params, tx.init(params), params)
    g = {"dense": {"kernel": None, "bias": None}, "head": params["head"]}
    u, after = tx.update(g, state, params)
    assert not u["dense"]["kernel"].any()
    assert not u["dense"]["bias"].any()
    assert u["head"]["kernel"].all()
    v, held = momentax.velocity(after), momentax.velocity(state)
    chex.assert_trees_all_equal(v["dense"], held["dense"])


MISSING = {
    "sgd": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optax.rmsprop(0.1, momentum=0.9),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
}


@pytest.mark.parametrize("name", MISSING)
def test_an_optimizer_of_optax_keeps_moments_where_a_gradient_is_missing(name):
    params = {"embed": {"embedding": normal(3, 4)}, "a": {"bias": normal(3)}}
    params = jax.tree.map(jnp.float32, params | {"b": {"bias": normal(3, seed=1)}})
    tx = muon(0.02, others=MISSING[name]())
    missing = {**params, "a": {"bias": None}, "embed": {"embedding": None}}

    def step(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    with jax.numpy_dtype_promotion("standard"):
        state, _ = step(tx.init(params), params)
        held, u = step(state, missing)
        again, _ = jax.lax.scan(step, state, jax.tree.map(lambda x: x[None], missing))
        _, after = step(held, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(held, state)
    chex.assert_trees_all_close(again, held, rtol=1e-6)
    assert not u["a"]["bias"].any()
    assert not u["embed"]["embedding"].any()
    assert u["b"]["bias"].all()
    assert all(leaf.all() for leaf in jax.tree.leaves(after))
    before, kept = ([x for x in jax.tree.leaves(s) if x.shape] for s in (state, held))
    changed = sum(bool((x != y).any()) for x, y in zip(before, kept, strict=True))
    # Of the three parameters one has a gradient, and its moments change.
    assert changed == sum(leaf.shape == (3,) for leaf in before) // 2 > 0
    refusing = muon(0.02, others=optax.adamw(0.1))
    with pytest.raises(ValueError, match=r"^the gradient at \['a'\]\['bias'\] is None, .* zeros"):
        refusing.update(missing, refusing.init(params), params)


# Models.

INPUTS = jnp.asarray(normal(16, 6), jnp.float32)
TARGETS = jnp.asarray(normal(16, 2, seed=3), jnp.float32)


def error(outputs):
    return jnp.mean((outputs - TARGETS) ** 2)


@pytest.fixture
def _relaxed():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.first, self.head = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.first(x)))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="head")(jnp.tanh(nn.Dense(8, name="first")(x)))


class Equinox(eqx.Module):
    first: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        self.first = eqx.nn.Linear(6, 8, key=key)
        self.head = eqx.nn.Linear(8, 2, key=key)

    def __call__(self, x):
        return self.head(jnp.tanh(self.first(x)))


@pytest.mark.usefixtures("_relaxed")
def test_an_nnx_optimizer_trains():
    model = NNX(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, muon(0.02), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, g = nnx.value_and_grad(lambda model: error(model(INPUTS)))(model)
        optimizer.update(model, g)
        return value

    losses = [float(step(model, optimizer)) for _ in range(10)]
    assert losses[-1] < losses[0]
    v = momentax.velocity(optimizer)
    assert v["first"]["kernel"].shape == (6, 8)
    hidden = jax.tree.leaves(momentax.velocity(optimizer.opt_state.hidden))
    assert [leaf.shape for leaf in hidden] == [(6, 8)]


@pytest.mark.usefixtures("_relaxed")
def test_a_train_state_of_linen_trains():
    model = Linen()
    params = model.init(jax.random.key(0), INPUTS)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=muon(0.02))

    @jax.jit
    def step(state):
        def loss(params):
            return error(state.apply_fn({"params": params}, INPUTS))

        value, g = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=g), value

    losses = []
    for _ in range(10):
        state, value = step(state)
        losses.append(float(value))
    assert losses[-1] < losses[0]
    (hidden,) = jax.tree.leaves(momentax.velocity(state.opt_state.hidden))
    assert hidden.shape == (6, 8)


@pytest.mark.usefixtures("_relaxed")
def test_a_model_of_equinox_makes_the_steps_of_its_transposed_kernels():
    """The scale depends on which axis is that of the outputs."""
    model = Equinox(jax.random.key(0))
    tx = muon(0.02, others=optax.sgd(0.1))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    flax = {
        name: {"kernel": layer.weight.T, "bias": layer.bias}
        for name, layer in (("first", model.first), ("head", model.head))
    }
    flax_state = tx.init(flax)

    @eqx.filter_jit
    def step(model, state):
        g = eqx.filter_grad(lambda model: error(jax.vmap(model)(INPUTS)))(model)
        u, state = tx.update(g, state, model)
        return eqx.apply_updates(model, u), state

    @jax.jit
    def flax_step(params, state):
        g = jax.grad(lambda params: error(Linen().apply({"params": params}, INPUTS)))(params)
        u, state = tx.update(g, state, params)
        return optax.apply_updates(params, u), state

    for _ in range(3):
        model, state = step(model, state)
        flax, flax_state = flax_step(flax, flax_state)
    np.testing.assert_allclose(model.first.weight.T, flax["first"]["kernel"], atol=1e-5)
    np.testing.assert_allclose(model.head.weight.T, flax["head"]["kernel"], atol=1e-5)


# Roles and mistakes.


def test_roles_correct_what_is_orthogonalized():
    params = small()
    tx = muon(0.02, roles={"head": "hidden", "dense/kernel": "embedding"}, others=optax.sgd(0.1))
    u, state = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(u["dense"]["kernel"], -0.1 * params["dense"]["kernel"], rtol=1e-6)
    sizes = np.linalg.svd(np.asarray(u["head"]["kernel"]), compute_uv=False) / 0.02
    assert np.all((sizes > 0.8) & (sizes < 1.2))
    (hidden,) = jax.tree.leaves(momentax.velocity(state.hidden))
    assert hidden.shape == (3, 2)


def test_a_fused_kernel_is_split_and_heads_are_separate():
    w = jnp.asarray(normal(4, 6), jnp.float32)
    fused, three = {"attn": {"qkv": w}}, {"attn": dict(zip("abc", jnp.split(w, 3, 1), strict=True))}
    tx = muon(0.02, split={"attn/qkv": 3})
    u, _ = tx.update(fused, tx.init(fused), fused)
    tx = muon(0.02)
    parts, _ = tx.update(three, tx.init(three), three)
    joined = jnp.concatenate(list(parts["attn"].values()), axis=1)
    np.testing.assert_allclose(u["attn"]["qkv"], joined, rtol=1e-5, atol=1e-8)
    heads = {"query": {"kernel": w.reshape(4, 3, 2)}}
    for tx in (muon(0.02, heads={"query/kernel": 1}), muon(0.02, roles={"query": "hidden ibo"})):
        u, _ = tx.update(heads, tx.init(heads), heads)
        np.testing.assert_allclose(u["query"]["kernel"].reshape(4, 6), joined, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"learning_rate": None}, TypeError, r"^learning_rate must be in \[0, inf\), got None"),
        ({"others": momentax.heavy_ball()}, TypeError, "others must be a complete optimizer, got"),
        ({"others": optax.adamw}, TypeError, r"others must be a gradient .*write optax.adamw\("),
        ({"roles": {"w": "matrix"}}, ValueError, r"roles\['w'\] must be one of 'hidden', .*got"),
        ({"ns_steps": 3}, TypeError, r"write momentax.muon\(0.02, steps=...\)"),
        ({"momentum": 0.9}, TypeError, r"write momentax.muon\(0.02, beta=0.9\)"),
        ({"adam_learning_rate": 0.1}, TypeError, r"others=optax.adamw\(3e-4\)"),
        ({"scale": "big"}, ValueError, r"^scale must be one of 'spectral', 'rms', 'unit'"),
        ({"steps": 0}, ValueError, "^steps must be a whole number, at least 1, got 0"),
        ({"nesterov": 1}, TypeError, "^nesterov must be True or False, got 1"),
    ],
)
def test_a_mistake_is_a_sentence(keywords, error, text):
    with pytest.raises(error, match=text):
        muon(**({"learning_rate": 0.02} | keywords))


def test_mistakes_that_need_parameters_are_sentences():
    params = small()
    tx = muon(0.02)
    with pytest.raises(ValueError, match=r"^muon needs the parameters: call update\("):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match=r"^roles has the name 'haed', .* nearest .* 'head'"):
        muon(0.02, roles={"haed": "head"}).init(params)
    with pytest.raises(ValueError, match=r"^tx is not linear"):
        momentax.theory.state_space(tx)


def test_a_function_of_the_parameters_chooses_what_decays():
    params = small()
    tx = muon(0.1, weight_decay=0.5, mask=lambda params: {**params, "dense": False, "head": True})
    plain = muon(0.1)
    u, _ = tx.update(params, tx.init(params), params)
    expected, _ = plain.update(params, plain.init(params), params)
    chex.assert_trees_all_close(u, expected, rtol=1e-6)
    tx = muon(0.1, weight_decay=0.5, mask=lambda params: params["dense"] is not None)
    u, _ = tx.update(params, tx.init(params), params)
    gap = u["dense"]["kernel"] - expected["dense"]["kernel"]
    np.testing.assert_allclose(gap, -0.05 * params["dense"]["kernel"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(u["head"]["kernel"], expected["head"]["kernel"])
