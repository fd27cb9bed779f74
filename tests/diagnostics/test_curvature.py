"""`curvature` against dense Hessians of quadratics, of a small network, and of its parts."""

import io
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import momentax
from momentax import problems
from momentax.diagnostics import Curvature, curvature
from tests.diagnostics.matrices import INDEFINITE, quadratic, symmetric

KEY = jax.random.key(0)
PROBLEM = problems.quadratic(INDEFINITE)

PROBLEMS = {
    "ravine": problems.ravine(1000.0),
    "saddle": problems.saddle(2.0),
    "rosenbrock": problems.rosenbrock(),
    "an indefinite matrix": PROBLEM,
    "one parameter": problems.quadratic([[-3.0]]),
    "a vector of signs is an eigenvector": problems.quadratic([[2.0, 1.0], [1.0, 2.0]]),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.usefixtures("x64")
def test_is_exact_on_problems_of_known_curvatures(name):
    problem = PROBLEMS[name]
    place = problem.minimum if name == "rosenbrock" else problem.start
    found = curvature(problem.loss, jnp.asarray(place, float), key=KEY)
    assert isinstance(found, Curvature)
    assert isinstance(found.mu, float)
    assert repr(found).startswith(f"Curvature(mu={problem.curvatures[0]:.6g} ± ")
    np.testing.assert_allclose((found.mu, found.L), problem.curvatures[[0, -1]], rtol=1e-10)


MATRICES = {
    "a sphere": np.eye(6),
    "repeated curvatures": symmetric([1.0, 1, 1, 2, 2, -3]),
    "rank one": symmetric([0.0] * 5 + [5.0]),
    "a hilltop": symmetric([-6.0, -5, -4, -3, -2, -1]),
    "a plane": np.zeros((6, 6)),
    "condition 1e8": symmetric(np.geomspace(1e-8, 1, 6)),
    "large": 1e15 * symmetric([-1.0, 0, 1, 2, 3, 4]),
    "small": 1e-15 * symmetric([-1.0, 0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("bits", [32, 64])
def test_is_exact_on_ill_conditioned_matrices_and_where_the_process_ends_early(name, bits):
    H = MATRICES[name]
    with jax.enable_x64(bits == 64):
        H = jnp.asarray(H, f"float{bits}")
        found = curvature(quadratic, jnp.ones(6, H.dtype), H, key=jax.random.key(0))
    known = np.linalg.eigvalsh(np.asarray(H, np.float64))
    rounding = {32: 1e-6, 64: 1e-14}[bits] * np.abs(known).max()
    np.testing.assert_allclose((found.mu, found.L), known[[0, -1]], atol=rounding, rtol=0)
    nodes = found.spectrum.nodes
    assert np.all(np.diff(nodes) >= 0)
    assert np.all((known[0] - rounding <= nodes) & (nodes <= known[-1] + rounding))
    np.testing.assert_allclose(found.spectrum.weights.sum(), 1)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.tanh(nn.Dense(6)(x)))


X, Y = jax.random.normal(jax.random.key(1), (40, 4)), jnp.arange(40) % 3
PARAMS = Network().init(jax.random.key(2), X)


def outputs(params, x, y):
    return Network().apply(params, x)


def entropy(logits, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def loss(params, x, y):
    return entropy(outputs(params, x, y), x, y)


def dense(f, params, *arguments):
    """The eigenvalues of the Hessian, formed in full."""
    flat, shaped = ravel_pytree(params)
    H = jax.jit(jax.hessian(lambda flat: f(shaped(flat), *arguments)))(flat)
    return np.linalg.eigvalsh(np.asarray(H, np.float64))


def test_equals_the_dense_hessian_of_a_network():
    known = dense(loss, PARAMS, X, Y)
    found = curvature(loss, PARAMS, X, Y, key=KEY)
    assert found.mu < -0.01  # A network at its start has curvature of both signs.
    np.testing.assert_allclose((found.mu, found.L), known[[0, -1]], rtol=1e-4)
    assert found.history["L_error"][-1] < 1e-4 * found.L


def test_a_loss_written_with_a_model_has_the_same_curvature():
    whole = curvature(loss, PARAMS, X, Y, key=KEY)
    parts = curvature(entropy, PARAMS, X, Y, key=KEY, model=outputs)
    np.testing.assert_allclose((parts.mu, parts.L), (whole.mu, whole.L), rtol=1e-4)


def test_gauss_newton_equals_its_dense_matrix_and_has_no_negative_curvature():
    flat, shaped = ravel_pytree(PARAMS)
    J = jax.jit(jax.jacobian(lambda flat: outputs(shaped(flat), X, Y).ravel()))(flat)
    logits = outputs(PARAMS, X, Y)
    H = jax.jit(jax.hessian(lambda z: entropy(z.reshape(logits.shape), X, Y)))(logits.ravel())
    J, H = np.asarray(J, np.float64), np.asarray(H, np.float64)
    known = np.linalg.eigvalsh(J.T @ H @ J)
    found = curvature(entropy, PARAMS, X, Y, key=KEY, model=outputs, gauss_newton=True)
    np.testing.assert_allclose(found.L, known[-1], rtol=1e-4)
    assert abs(found.mu) < 1e-5 * found.L
    hessian = dense(loss, PARAMS, X, Y)
    assert abs(hessian[-1] - known[-1]) > 1e-3 * known[-1]  # The two matrices differ.


def test_batches_give_the_curvature_of_their_mean():
    halves = [(X[:20], Y[:20]), (X[20:], Y[20:])]
    whole = curvature(loss, PARAMS, X, Y, key=KEY)
    for batches in (halves, iter(halves), [list(batch) for batch in halves]):
        found = curvature(loss, PARAMS, key=KEY, batches=batches)
        np.testing.assert_allclose((found.mu, found.L), (whole.mu, whole.L), rtol=1e-4)
    on_host = [jax.tree.map(np.asarray, batch) for batch in halves]
    np.testing.assert_allclose(
        curvature(loss, PARAMS, key=KEY, batches=on_host).L, whole.L, rtol=1e-4
    )


def test_batches_of_different_shapes_have_equal_weights_and_follow_the_arguments():
    def f(θ, scale, x):
        return scale * jnp.sum(x) * jnp.sum(θ**2) / 2

    batches = [(jnp.ones(1),), (jnp.full(2, 2.0),), (jnp.ones(1),)]
    found = curvature(f, jnp.ones(3), 10.0, key=KEY, batches=batches)
    np.testing.assert_allclose((found.mu, found.L), 10 * (1 + 4 + 1) / 3, rtol=1e-6)
    twice = curvature(lambda θ: jnp.sum(θ**2), jnp.ones(3), key=KEY, batches=[(), ()])
    np.testing.assert_allclose(twice.L, 2, rtol=1e-6)


def test_the_structure_of_the_parameters_does_not_matter():
    H = jnp.asarray(INDEFINITE, jnp.float32)

    def joined(parts):
        return quadratic(jnp.concatenate([jnp.ravel(part) for part in parts]), H)

    θ = jnp.ones(30)
    flat = curvature(quadratic, θ, H, key=KEY)
    tree = {"a": θ[:12].reshape(3, 4), "b": (θ[12:13], [θ[13], None, θ[14:]]), "c": θ[:0]}
    found = curvature(lambda p: joined(jax.tree.leaves(p)), tree, key=KEY)
    np.testing.assert_allclose(found.spectrum.nodes, flat.spectrum.nodes, atol=1e-4)
    np.testing.assert_allclose(found.history["L"], flat.history["L"], atol=1e-4)
    turned = {"b": θ[:12], "a": θ[12:]}  # JAX orders its leaves by name.
    found = curvature(lambda p: joined([p["b"], p["a"]]), turned, key=KEY)
    np.testing.assert_allclose((found.mu, found.L), (flat.mu, flat.L), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_leaves_of_every_precision_are_read_in_float32_or_wider():
    def f(p):
        assert {leaf.dtype for leaf in p.values()} == {np.dtype("float32"), np.dtype("float64")}
        parts = [jnp.sum(c * p[name].astype(float) ** 2) for c, name in enumerate("abcd", 1)]
        return sum(parts, start=p["a"][0].astype(float) * p["d"][0] / 8)

    dtypes = {"a": jnp.bfloat16, "b": jnp.float16, "c": jnp.float32, "d": jnp.float64}
    params = {name: jnp.ones(2, dtype) for name, dtype in dtypes.items()}
    known = np.linalg.eigvalsh(np.diag([2.0, 8]) + np.array([[0, 1 / 8], [1 / 8, 0]]))
    found = curvature(f, params, key=KEY)
    np.testing.assert_allclose((found.mu, found.L), known, rtol=1e-7)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_takes_parameters_that_are_sharded_over_devices(kind):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType[kind],))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    params = {"a": jax.device_put(jnp.ones((4, 3)), rows), "b": jnp.ones(2)}
    found = curvature(lambda p: jnp.sum(p["a"] ** 4) - jnp.sum(p["b"] ** 2), params, key=KEY)
    np.testing.assert_allclose((found.mu, found.L), (-2, 12), rtol=1e-6)


def test_parameters_and_arguments_may_be_python_numbers():
    found = curvature(lambda p, c: c * p["x"] ** 2, {"x": 1.5}, 2, key=KEY)
    assert (found.mu, found.L) == pytest.approx((4, 4))
    assert found.spectrum.size == 1


def test_history_approaches_the_extremes_and_bounds_its_errors():
    found = curvature(PROBLEM.loss, PROBLEM.start, key=KEY, num_iterations=25, num_samples=3)
    history, curvatures = found.history, PROBLEM.curvatures
    assert {row.shape for row in history.values()} == {(25,)}
    assert np.all(np.diff(history["mu"]) < 1e-5)
    assert np.all(np.diff(history["L"]) > -1e-5)
    assert history["mu"][-1] == found.mu
    assert history["L"][-1] == found.L
    for name in ("mu", "L"):
        nearest = np.abs(history[name][:, None] - curvatures).min(axis=1)
        assert np.all(nearest <= history[f"{name}_error"])
    assert history["L_error"][0] > 0.1
    assert history["L_error"][-1] < 1e-3
    assert np.all(history["L"] <= curvatures[-1] + 1e-5)


def test_the_extremes_are_those_of_all_starts():
    found = curvature(PROBLEM.loss, PROBLEM.start, key=KEY, num_iterations=6, num_samples=5)
    np.testing.assert_allclose(found.mu, found.spectrum.nodes.min())
    np.testing.assert_allclose(found.L, found.spectrum.nodes.max())


def test_equal_keys_give_equal_results_and_other_keys_other_ones():
    def nodes(key=None):
        counts = {"num_iterations": 6, "num_samples": 2}
        return curvature(PROBLEM.loss, PROBLEM.start, key=key, **counts).spectrum.nodes

    np.testing.assert_array_equal(nodes(KEY), nodes(KEY))
    assert np.abs(nodes(KEY) - nodes(jax.random.key(1))).max() > 0.01
    assert np.abs(nodes(KEY)[0] - nodes(KEY)[1]).max() > 0.01
    np.testing.assert_array_equal(nodes(KEY), nodes(jax.random.PRNGKey(0)))
    np.testing.assert_array_equal(nodes(), nodes(jax.random.key(0)))  # The default.


def test_the_progress_bar_is_shown_on_a_terminal_only(monkeypatch, capfd):
    problem = problems.ravine()
    curvature(problem.loss, problem.start, key=KEY)
    assert capfd.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    curvature(problem.loss, problem.start, key=KEY)
    assert "Hessian products" in terminal.getvalue()
    assert "2/2" in terminal.getvalue() or "0/2" in terminal.getvalue()


def test_a_loss_without_a_hash_is_compiled_at_every_call():
    class Loss:
        __hash__ = None
        c = 1.0

        def __call__(self, θ):
            return self.c * jnp.sum(θ**2)

    f = Loss()
    np.testing.assert_allclose(curvature(f, jnp.ones(2), key=KEY).L, 2, rtol=1e-6)
    f.c = 3.0
    np.testing.assert_allclose(curvature(f, jnp.ones(2), key=KEY).L, 6, rtol=1e-6)


def bowl(θ):
    return jnp.sum(jax.tree.leaves(θ)[0] ** 2)


REFUSED = {
    "a loss of many values": ({"loss": lambda θ: θ}, ValueError, r"loss must return one scalar"),
    "a complex loss": (
        {"loss": lambda θ: jnp.sum(θ).astype(complex)},
        ValueError,
        "loss must return one real scalar, got complex64",
    ),
    "complex params": (
        {"params": {"w": jnp.ones(2), "z": jnp.ones(2, complex)}},
        TypeError,
        r"the parameter at \['z'\] has dtype complex64, and curvature needs real ones; make its",
    ),
    "integer params": (
        {"params": {"steps": jnp.arange(2)}},
        TypeError,
        r"the parameter at \['steps'\] has dtype int32, and curvature needs floating ones; have",
    ),
    "a string among the params": (
        {"params": ["a"]},
        TypeError,
        r"params must hold arrays only, got 'a' at \[0\]",
    ),
    "no params": ({"params": {}}, ValueError, "params must hold at least one number, got none"),
    "empty params": ({"params": jnp.ones((0, 3))}, ValueError, "params must hold at least one"),
    "an infinite product": (
        {"loss": lambda θ: jnp.sum(θ**1.5), "params": jnp.zeros(3)},
        ValueError,
        "the Hessian times a vector is not finite in product 1: the loss or",
    ),
    "a loss whose square overflows": (
        {"loss": lambda θ: 1e20 * jnp.vdot(jnp.arange(3.0), θ**2)},
        ValueError,
        "the curvatures, about [0-9]e[+]20, have squares outside the range of float32; multiply "
        "the loss by a number",
    ),
    "a loss whose square underflows": (
        {"loss": lambda θ: 1e-20 * bowl(θ)},
        ValueError,
        "the curvatures, about 2e-20, have squares outside",
    ),
    "a string in a batch": (
        {"batches": [("train",)]},
        TypeError,
        "batches, the arguments of loss, must be arrays, got 'train'; have the loss close over",
    ),
    "a function in args": ({"args": (bowl,)}, TypeError, "args, the arguments of loss, must be"),
    "batches that are not tuples": (
        {"batches": jnp.ones((2, 3))},
        TypeError,
        r"batches must be tuples of arguments of loss, got .*; write \(batch,\) for a single",
    ),
    "no batches": ({"batches": []}, ValueError, "batches must hold at least one tuple"),
    "a seed for a key": (
        {"key": 0},
        TypeError,
        r"key must be a random key, as jax.random.key\(0\), got 0",
    ),
    "several keys": ({"key": jax.random.split(KEY)}, TypeError, "key must be a random key"),
    "no iterations": ({"num_iterations": 0}, ValueError, "num_iterations must be a whole number"),
    "half a start": ({"num_samples": 0.5}, TypeError, "num_samples must be a whole number"),
    "no model": ({"gauss_newton": True}, ValueError, "gauss_newton=True needs the loss in two"),
    "a model for a flag": (
        {"gauss_newton": bowl},
        TypeError,
        "gauss_newton must be True or False",
    ),
    "a model of integers": (
        {"model": lambda θ: {"class": jnp.argmax(θ)}},
        TypeError,
        r"model must return real floating outputs, got int32 at \['class'\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    changed, error, message = REFUSED[name]
    given = {"loss": bowl, "params": jnp.ones(3), "key": KEY} | changed
    f, params, args = given.pop("loss"), given.pop("params"), given.pop("args", ())
    with pytest.raises(error, match=f"^{message}"):
        curvature(f, params, *args, **given)


def test_refuses_to_be_traced():
    for traced in (jax.jit, jax.grad, jax.vmap):
        with pytest.raises(TypeError, match=r"^curvature must be called outside of jit, vmap and"):
            traced(lambda θ: curvature(bowl, θ, key=KEY).L)(jnp.ones(3))


@pytest.mark.parametrize("missing", ["matfree", "tqdm"])
def test_names_the_extra_where_it_is_not_installed(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"^curvature needs {missing}; install it with `pip install 'momentax\[curvature\]'`"
    with pytest.raises(ModuleNotFoundError, match=message):
        curvature(bowl, jnp.ones(3), key=KEY)


def test_its_result_tunes_heavy_ball_for_the_loss():
    problem = problems.ravine(50.0)
    found = curvature(problem.loss, problem.start, key=KEY)
    tuning = momentax.theory.optimal_heavy_ball(found.mu, found.L)
    tx = momentax.sgd(tuning.learning_rate, momentax.heavy_ball(tuning.beta))
    run = momentax.rollout(problem.loss, problem.start, tx, 150)
    assert run.history["loss"][-1] < 1e-8


def test_params_with_a_function_are_refused():
    params = {"a": jnp.ones(2), "b": jnp.tanh}
    with pytest.raises(TypeError, match=r"arrays only, got .* at \['b'\]; .*eqx.partition"):
        momentax.curvature(lambda p: jnp.sum(p["a"] ** 2), params)
