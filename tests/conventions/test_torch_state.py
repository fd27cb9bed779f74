"""A run that moves from PyTorch to JAX and back: parameters and buffers."""

import re
import sys
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax.conventions import (
    Counterpart,
    export_params,
    export_torch_state,
    from_keras,
    from_torch,
    import_params,
    import_torch_state,
)
from tests.conventions import checkpoints, trajectories
from tests.conventions.checkpoints import (
    BIAS,
    FULL,
    KERNEL,
    PARAMS,
    SparseTensor,
    Tensor,
    assert_close,
    keep,
    state_dict,
)
from tests.conventions.trajectories import HANDOVER, MAPPING, NAMES, SGD

RECORDED = trajectories.read("torch.json")


def checkpoint_at(count):
    """Return the recorded parameters of the model, and the state dict of its optimizer."""
    point = RECORDED["model"][str(count)]
    return point["params"], state_dict([point["buffers"][name] for name in NAMES], **SGD)


RATES = np.array([trajectories.model_rate(t) for t in range(80)])
OPTIMIZER = from_torch(**SGD | {"lr": lambda count: jnp.asarray(RATES)[count]})


# A whole run.


@pytest.mark.parametrize("first", [20, 40])
def test_a_run_of_pytorch_continues_in_jax_and_back(x64, first):
    arrays, checkpoint = checkpoint_at(first)
    params = import_params(arrays, trajectories.twin_params(), MAPPING)
    state = import_torch_state(
        checkpoint, params, MAPPING, state=OPTIMIZER.init(params), names=NAMES, count=first
    )
    params, state = trajectories.train(params, state, OPTIMIZER)

    expected, expected_state = checkpoint_at(first + HANDOVER)
    assert_close(export_params(params, MAPPING), expected)
    exported = export_torch_state(state, checkpoint, MAPPING, tensor=keep, names=NAMES)
    assert exported["param_groups"] == expected_state["param_groups"]
    assert_close(exported["state"], expected_state["state"])


def test_import_and_export_preserve_every_bit(x64):
    arrays, checkpoint = checkpoint_at(20)
    params = import_params(arrays, trajectories.twin_params(), MAPPING)
    chex.assert_trees_all_equal(export_params(params, MAPPING), arrays)
    state = import_torch_state(checkpoint, params, MAPPING, names=NAMES)
    exported = export_torch_state(state, checkpoint, MAPPING, tensor=keep, names=NAMES)
    chex.assert_trees_all_equal(exported, checkpoint)


class Net(nnx.Module):
    def __init__(self, rngs):
        double = trajectories.DOUBLE
        self.conv = nnx.Conv(2, 3, (3, 3), padding="VALID", rngs=rngs, **double)
        self.out = nnx.Linear(27, 4, rngs=rngs, **double)

    def __call__(self, images):
        return self.out(jnp.tanh(self.conv(images)).reshape(len(images), -1))


def test_flax_nnx_continues_the_same_run(x64):
    arrays, checkpoint = checkpoint_at(20)
    model = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    nnx.update(model, import_params(arrays, nnx.state(model, nnx.Param), MAPPING))
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)
    optimizer.opt_state = import_torch_state(
        checkpoint,
        nnx.state(model, nnx.Param),
        MAPPING,
        state=optimizer.opt_state,
        names=NAMES,
        count=20,
    )
    images = jnp.asarray(trajectories.IMAGES.transpose(0, 2, 3, 1))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(images) - trajectories.LABELS) ** 2))(model)
        optimizer.update(model, grads)

    for _ in range(HANDOVER):
        step(model, optimizer)
    expected, expected_state = checkpoint_at(40)
    assert_close(export_params(nnx.state(model, nnx.Param), MAPPING), expected)
    exported = export_torch_state(
        optimizer.opt_state, checkpoint, MAPPING, tensor=keep, names=NAMES
    )
    assert_close(exported["state"], expected_state["state"])


def descend(optimizers, starts):
    """Make HANDOVER steps with each optimizer from its parameters and state, in one program."""

    def step(carry, _):
        after = {}
        for name, (params, state) in carry.items():
            grads = trajectories.gradient(**params, xp=jnp)
            updates, state = optimizers[name].update(grads, state, params)
            after[name] = jax.tree.map(jnp.add, params, updates), state
        return after, None

    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=HANDOVER)[0])(starts)


def test_the_scale_converts_the_units_of_the_velocity(x64):
    """A dampened run with a constant learning rate continues undampened and in other units."""
    params = jax.tree.map(jnp.asarray, trajectories.START)
    mapping, rate = {"w": Counterpart(0, (0, 1)), "b": 1}, 0.02
    optimizers = {
        "dampened": from_torch(rate, 0.9, 0.5),
        "undampened": momentax.sgd(rate * 0.5, momentax.heavy_ball(0.9)),
        "parameter units": from_keras(rate * 0.5, 0.9),
        "a dampened sum": momentax.sgd(rate, momentax.heavy_ball(0.9, dampening=0.5)),
        "optax": optax.sgd(rate * 0.5, momentum=0.9),
    }
    scales = {"undampened": 2.0, "parameter units": -rate, "a dampened sum": 1.0, "optax": 2.0}

    begin = {"dampened": (params, optimizers["dampened"].init(params))}
    middle, state = descend(optimizers, begin)["dampened"]
    checkpoint = export_torch_state(state, state_dict([None, None]), mapping, tensor=keep)
    states = {
        name: import_torch_state(
            checkpoint, middle, mapping, state=optimizers[name].init(middle), scale=scale
        )
        for name, scale in scales.items()
    }
    starts = {name: (middle, filled) for name, filled in states.items()}
    ends = descend(optimizers, starts | {"dampened": (middle, state)})
    expected, final = ends["dampened"]
    expected_buffers = export_torch_state(final, checkpoint, mapping, tensor=keep)["state"]
    for name, scale in scales.items():
        end, filled = ends[name]
        assert_close(end, expected)
        back = export_torch_state(filled, checkpoint, mapping, tensor=keep, scale=scale)
        assert_close(back["state"], expected_buffers)


def test_the_base_iterate_is_available_right_after_the_import():
    """For PyTorch's Nesterov it is θ = φ + α μ b."""
    checkpoint = state_dict([KERNEL, BIAS], nesterov=True, lr=0.1)
    state = import_torch_state(checkpoint, PARAMS, checkpoints.MAPPING)
    base = momentax.eval_params(PARAMS, state, learning_rate=0.1)
    expected = {"kernel": 0.09 * KERNEL.T, "bias": 0.09 * BIAS}
    chex.assert_trees_all_close(base, jax.tree.map(jnp.asarray, expected), rtol=1e-6)


@pytest.mark.parametrize("conjugate", [False, True])
def test_complex_parameters_continue_with_either_conjugate(x64, conjugate):
    matrix, target, _ = map(jnp.asarray, trajectories.complex_problem())
    first, second = (
        {key: jnp.asarray(part[0] + 1j * part[1]) for key, part in RECORDED["complex"][at].items()}
        for at in ("20", "40")
    )
    checkpoint = state_dict([first["b"]], lr=0.02)
    conj = optax.stateless(lambda updates, _: jax.tree.map(jnp.conj, updates))
    tx = (
        optax.chain(optax.trace(0.9), conj, optax.scale(-0.02))
        if conjugate
        else optax.chain(conj, from_torch(0.02, 0.9))
    )
    params = first["z"]
    with pytest.raises(ValueError, match="the root is complex, and the gradients of JAX are the c"):
        import_torch_state(checkpoint, params, 0, state=tx.init(params))
    state = import_torch_state(checkpoint, params, 0, state=tx.init(params), conjugate=conjugate)

    @jax.jit
    def step(params, state):
        grad = jax.grad(lambda z: jnp.sum(jnp.abs(jnp.dot(matrix, z) - target) ** 2))(params)
        updates, state = tx.update(grad, state, params)
        return params + updates, state

    for _ in range(HANDOVER):
        params, state = step(params, state)
    assert_close(params, second["z"])
    back = export_torch_state(state, checkpoint, 0, tensor=keep, conjugate=conjugate)
    assert_close(back["state"][0]["momentum_buffer"], second["b"])


# Buffers, names and tensors.


def test_a_missing_buffer_means_that_the_next_step_is_the_first():
    dampened = {"dampening": 0.5, "lr": 0.1}
    checkpoint = state_dict([KERNEL, None], **dampened)
    state = import_torch_state(checkpoint, PARAMS, checkpoints.MAPPING)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, checkpoints.MAPPING, tensor=keep), checkpoint
    )
    tx = from_torch(**checkpoint["param_groups"][0])
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    _, state = tx.update(grads, state, PARAMS)
    np.testing.assert_allclose(momentax.velocity(state)["bias"], 1.0)  # Not dampened.
    np.testing.assert_allclose(momentax.velocity(state)["kernel"], 0.9 * KERNEL.T + 0.5, rtol=1e-6)
    entry = dict(checkpoint["state"][0]) | {"momentum_buffer": None}
    fresh = import_torch_state(checkpoint | {"state": {0: entry}}, PARAMS, checkpoints.MAPPING)
    exported = export_torch_state(fresh, checkpoint, checkpoints.MAPPING, tensor=keep)
    assert exported["state"] == {}
    assert not momentax.velocity(fresh)["kernel"].any()


def test_names_come_from_the_mapping_the_state_dict_or_the_caller():
    by_name = {"kernel": Counterpart("fc.weight", (1, 0)), "bias": "fc.bias"}
    by_path = {"['kernel']": Counterpart("fc.weight", (1, 0)), "['bias']": "fc.bias"}
    named = state_dict([KERNEL, BIAS], param_names=["fc.weight", "fc.bias"])
    keyed = {
        "state": {"fc.weight": FULL["state"][0], "fc.bias": FULL["state"][1]},
        "param_groups": [{"momentum": 0.9, "params": ["fc.weight", "fc.bias"]}],
    }
    expected = import_torch_state(FULL, PARAMS, checkpoints.MAPPING)
    for mapping in (by_name, by_path):
        for checkpoint in (named, keyed):
            state = import_torch_state(checkpoint, PARAMS, mapping)
            chex.assert_trees_all_equal(state, expected)
            back = export_torch_state(state, checkpoint, mapping, tensor=keep)
            chex.assert_trees_all_equal(back, checkpoint)
        state = import_torch_state(FULL, PARAMS, mapping, names=["fc.weight", "fc.bias"])
        chex.assert_trees_all_equal(state, expected)


def test_names_may_be_an_iterator():
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    state = import_torch_state(FULL, PARAMS, mapping, names=iter("wb"))
    np.testing.assert_array_equal(momentax.velocity(state)["bias"], BIAS)


def test_tensors_are_made_by_torch_by_default(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=Tensor))
    state = import_torch_state(FULL, PARAMS, checkpoints.MAPPING)
    exported = export_torch_state(state, FULL, checkpoints.MAPPING)
    np.testing.assert_array_equal(exported["state"][0]["momentum_buffer"].array, KERNEL)


def test_tensors_on_any_device_and_in_bfloat16_are_read():
    checkpoint = state_dict([Tensor(KERNEL, narrow=True), Tensor(BIAS)])
    chex.assert_trees_all_equal(
        import_torch_state(checkpoint, PARAMS, checkpoints.MAPPING),
        import_torch_state(FULL, PARAMS, checkpoints.MAPPING),
    )
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    narrow = optax.trace(0.9, accumulator_dtype=jnp.bfloat16)
    checkpoint = state_dict([Tensor(KERNEL, narrow=True), Tensor(BIAS, narrow=True)])
    state = import_torch_state(checkpoint, params, checkpoints.MAPPING, state=narrow.init(params))
    np.testing.assert_array_equal(state.trace["bias"].astype(jnp.float32), BIAS)


def test_a_sparse_buffer_becomes_a_dense_velocity():
    checkpoint = state_dict([SparseTensor(KERNEL), BIAS])
    chex.assert_trees_all_equal(
        import_torch_state(checkpoint, PARAMS, checkpoints.MAPPING),
        import_torch_state(FULL, PARAMS, checkpoints.MAPPING),
    )


# Errors.


@pytest.mark.parametrize(
    ("checkpoint", "mapping", "kind", "message"),
    [
        (
            FULL,
            {"bias": 2},
            ValueError,
            "the velocity of 2 for the parameter at ['bias'] is not in the optimizer, which has 0",
        ),
        (
            FULL,
            {"bias": "fc.bias"},
            ValueError,
            "the velocity of 'fc.bias' for the parameter at ['bias'] cannot be found, because the "
            "state dict numbers its parameters and names none of them; it has 0, 1; pass names in "
            "the order",
        ),
        (
            state_dict([KERNEL, BIAS, BIAS]),
            {},
            ValueError,
            "the velocity of 2 belongs to no leaf: the mapping omits it",
        ),
        (
            {**FULL, "state": {0: {"step": 3, "exp_avg": KERNEL}}},
            {},
            TypeError,
            "the state dict has an entry 'exp_avg', so it is not of torch.optim.SGD",
        ),
        (
            {**FULL, "state": {"0": FULL["state"][0]}},
            {},
            ValueError,
            "the state dict has a buffer for '0', which is in no param group",
        ),
        (
            {"conv.weight": KERNEL},
            {},
            TypeError,
            "state_dict must be what optimizer.state_dict() of a torch.optim.SGD returns, got a ",
        ),
    ],
)
def test_a_wrong_state_dict_is_explained(checkpoint, mapping, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        import_torch_state(checkpoint, PARAMS, checkpoints.MAPPING | mapping)


def test_the_other_arguments_are_checked():
    mapping = checkpoints.MAPPING
    with pytest.raises(ValueError, match="scale must not be 0"):
        import_torch_state(FULL, PARAMS, mapping, scale=0.0)
    with pytest.raises(ValueError, match="count must be a whole number, at least 0, got -1"):
        import_torch_state(FULL, PARAMS, mapping, count=-1)
    with pytest.raises(ValueError, match="names has 1 names, and the optimizer has 2 parameters"):
        import_torch_state(FULL, PARAMS, mapping, names=["w"])
    other = momentax.sgd(0.1).init({"kernel": PARAMS["kernel"], "scale": jnp.ones(3)})
    with pytest.raises(ValueError, match=re.escape("['scale'] belongs to none of the params")):
        import_torch_state(FULL, PARAMS, mapping, state=other)


# Names and numbers of parameters in several groups.

GROUPS = {
    "names in the later group": ([[0], [1]], [None, ["b"]]),
    "names in the first group": ([[0], [1]], [["w"], None]),
    "names in both groups": ([[0], [1]], [["w"], ["b"]]),
    "keys that are not in order": ([[1], [0]], [["b"], ["w"]]),
    "keys that are names": ([["w"], ["b"]], [None, None]),
}
SQUARES = {"w": jnp.zeros(3), "b": jnp.zeros(3)}
FIRST, SECOND = np.full(3, 1.0, np.float32), np.full(3, 2.0, np.float32)


def grouped(keys, names, first=0, second=1):
    """Return a state dict with two groups, whose buffers belong to "w" and to "b"."""
    groups = [
        {"params": part} | ({} if given is None else {"param_names": given})
        for part, given in zip(keys, names, strict=True)
    ]
    state = {first: {"momentum_buffer": FIRST}, second: {"momentum_buffer": SECOND}}
    return {"state": state, "param_groups": groups}


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("path", [None, "[1].velocity"])
def test_each_parameter_gets_its_own_buffer_or_a_sentence(case, path):
    """For every mapping by name and number, in any combination of groups with names."""
    keys, names = GROUPS[case]
    checkpoint = grouped(keys, names, *(("w", "b") if case == "keys that are names" else (0, 1)))
    named = {name for part in names if part for name in part}
    named |= {key for part in keys for key in part if isinstance(key, str)}
    start = momentax.sgd(0.1).init(SQUARES)
    for mapping in ({"w": w, "b": b} for w in ("w", 0) for b in ("b", 1)):
        known = named | ({0, 1} if checkpoint["state"].keys() == {0, 1} else set())
        if set(mapping.values()) <= known:
            state = import_torch_state(checkpoint, SQUARES, mapping, state=start, path=path)
            np.testing.assert_array_equal(momentax.velocity(state)["w"], FIRST)
            np.testing.assert_array_equal(momentax.velocity(state)["b"], SECOND)
            back = export_torch_state(state, checkpoint, mapping, tensor=keep, path=path)
            chex.assert_trees_all_equal(back["state"], checkpoint["state"])
        else:
            with pytest.raises(ValueError, match=r"cannot be found|is not in the optimizer"):
                import_torch_state(checkpoint, SQUARES, mapping, state=start, path=path)


def test_the_argument_names_goes_on_over_all_groups():
    checkpoint = grouped([[0], [1]], [None, ["b"]])
    start = momentax.sgd(0.1).init(SQUARES)
    mapping = {"w": "first", "b": "b"}
    state = import_torch_state(checkpoint, SQUARES, mapping, state=start, names=["first", "b"])
    np.testing.assert_array_equal(momentax.velocity(state)["b"], SECOND)
    with pytest.raises(
        ValueError, match="gives the name 'b' to the parameter 0, which is already the name of"
    ):
        import_torch_state(checkpoint, SQUARES, mapping, state=start, names=["b", "first"])


@pytest.mark.parametrize("path", [None, "[1].velocity"])
@pytest.mark.parametrize("mapping", [{"w": 1, "b": "b"}, {"w": "b", "b": 1}])
def test_a_number_and_a_name_of_one_parameter_are_not_given_to_two_leaves(mapping, path):
    checkpoint = grouped([[0], [1]], [["w"], ["b"]])
    state = momentax.sgd(0.1).init(SQUARES)
    with pytest.raises(ValueError, match="both map to the parameter 1 of the other framework"):
        import_torch_state(checkpoint, SQUARES, mapping, state=state, path=path)
    with pytest.raises(ValueError, match="both map to the parameter 1 of the other framework"):
        export_torch_state(state, checkpoint, mapping, tensor=keep, path=path)


def test_a_buffer_under_a_name_is_that_of_the_number():
    checkpoint = grouped([[0], [1]], [["w"], ["b"]], first="w")
    state = momentax.sgd(0.1).init(SQUARES)
    mapping = {"w": 0, "b": 1}
    state = import_torch_state(checkpoint, SQUARES, mapping, state=state, path="[1].velocity")
    np.testing.assert_array_equal(momentax.velocity(state)["w"], FIRST)
    checkpoint["state"][0] = checkpoint["state"]["w"]
    with pytest.raises(ValueError, match="two buffers for the parameter 0, one of them as "):
        import_torch_state(checkpoint, SQUARES, mapping, state=state)


WRONG_GROUPS = {
    "no group": ({"state": {}, "param_groups": []}, "must be a list of at least one param group"),
    "groups that are None": ({"state": {}, "param_groups": None}, "must be a list of at least one"),
    "a group without params": (
        {"state": {}, "param_groups": [{"lr": 0.1}]},
        "['param_groups'][0] must have a list 'params' of the numbers or names",
    ),
    "a group that is a number": (
        {"state": {}, "param_groups": [{"params": [0]}, 3]},
        "['param_groups'][1] must have a list 'params'",
    ),
    "params that are arrays": (
        {"state": {}, "param_groups": [{"params": [FIRST]}]},
        "['param_groups'][0] must have a list 'params'",
    ),
    "a parameter twice": (grouped([[0], [0]], [None, None]), "the parameter 0 occurs twice in"),
    "too few names": (
        grouped([[0, 1], []], [["w"], None]),
        "['param_groups'][0]['param_names'] has 1 names, and the group has 2 parameters",
    ),
    "too many names": (
        grouped([[0], [1]], [None, ["b", "w"]]),
        "['param_groups'][1]['param_names'] has 2 names, and the group has 1 parameters",
    ),
    "a name twice": (
        grouped([[0], [1]], [["w"], ["w"]]),
        "gives the name 'w' to the parameter 1, which is already the name of the parameter 0",
    ),
    "a name that is another key": (
        grouped([["w"], ["b"]], [["b"], ["w"]]),
        "gives the name 'b' to the parameter 'w', which is already the name of the parameter 'b'",
    ),
    "names in one word": (grouped([[0, 1], []], ["wb", None]), "must be a sequence of a name for"),
    "names that are numbers": (grouped([[0], [1]], [[0], [1]]), "must hold names, got 0"),
    "a buffer of None": (
        {"state": {0: None}, "param_groups": [{"params": [0]}]},
        "state_dict['state'][0] must be a dict",
    ),
    "a state that is a list": (
        {"state": [], "param_groups": [{"params": [0]}]},
        "state_dict['state'] must be a dict from parameters to their buffers",
    ),
}


@pytest.mark.parametrize("case", WRONG_GROUPS)
def test_wrong_param_groups_are_explained(case):
    checkpoint, message = WRONG_GROUPS[case]
    state = momentax.sgd(0.1).init(SQUARES)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        import_torch_state(checkpoint, SQUARES, {"w": 0, "b": 1}, state=state)


def test_names_must_be_a_sequence_of_names():
    for names in ("ab", 3, [1, 2], b"ab"):
        with pytest.raises(TypeError, match="names must "):
            import_torch_state(FULL, PARAMS, checkpoints.MAPPING, names=names)


def test_the_exported_groups_are_copies():
    state = momentax.sgd(0.1).init(PARAMS)
    exported = export_torch_state(state, FULL, checkpoints.MAPPING, tensor=keep)
    exported["param_groups"][0]["params"].append(7)
    assert FULL["param_groups"][0]["params"] == [0, 1]
