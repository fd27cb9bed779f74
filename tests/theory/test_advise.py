"""Advice on pipelines and spectra of every kind, against what then happens."""

from functools import cache
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import curvature, problems, theory
from momentax.theory import Advice, StateSpace, advise, sharpness_limit
from tests.theory.systems import Record


def pipeline(rng):
    """One to three random linear filters in a chain, weight decay at times, then a step."""
    stages = int(rng.integers(1, 4))
    size = 1 + stages
    z, g = np.eye(size + 1)[:size], np.eye(size + 1)[size]
    u, rows = g, []
    for k in range(1, size):
        β = rng.uniform(0, 0.95)
        a, b, gain = [(0, 1, 1), (1, β, 1), (0, 1, 1 - β), (0.3, 0.7, 1 - β)][rng.integers(4)]
        rows.append(β * z[k] + gain * u)
        u = a * u + b * rows[-1]
    decay = rng.choice([0, 1e-3])
    step = (1 - decay) * z[0] - 10 ** rng.uniform(-4, 1) * u
    M = np.stack([step, *rows])
    return StateSpace(M[:, :size], M[:, size], np.eye(size)[0])


PIPELINES = [pipeline(np.random.default_rng(seed)) for seed in range(200)]


@cache
def limits():
    return [sharpness_limit(system) for system in PIPELINES]


def growth(system, λ):
    """log |z| per step along each curvature, over 2⁴⁰ steps, by squaring the matrix of one."""
    λ = np.asarray(λ, np.float64)[..., None, None]
    M, size = system.A + λ * np.outer(system.B, system.C), 0.0
    for _ in range(40):
        M = M @ M
        scale = np.abs(M).max(axis=(-2, -1), keepdims=True)
        M, size = M / scale, 2 * size + np.log(scale[..., 0, 0])
    return size / 2**40


def test_200_pipelines_diverge_beyond_the_edge():
    for system, limit in zip(PIPELINES, limits(), strict=True):
        assert 0 < limit < np.inf
        grows = growth(system, limit * np.array([0.99, 1.01])) >= 0
        for factor, unstable in zip((0.99, 1.01), grows, strict=True):
            said = advise(system, 0.1 * limit, factor * limit, certified=False)
            assert isinstance(said, Advice)
            assert said.edge == limit
            assert said.margin == pytest.approx(1 / factor)
            assert said.stable is (factor < 1)
            assert bool(unstable) is (factor > 1)


def test_200_pipelines_take_the_half_life_to_halve_an_error():
    for system, limit in zip(PIPELINES, limits(), strict=True):
        mu, L = 0.001 * limit, 0.9 * limit
        said = advise(system, mu, L, certified=False)
        assert said.stable
        along = growth(system, np.geomspace(mu, L, 40))
        slowest = along.max()
        assert np.log(said.rate) >= slowest - 1e-9
        np.testing.assert_allclose(said.half_life, np.log(0.5) / np.log(said.rate))
        if along[0] == pytest.approx(slowest, rel=1e-9):
            np.testing.assert_allclose(said.half_life, np.log(0.5) / slowest, rtol=1e-3)


def test_the_advised_setting_converges_at_the_predicted_rate():
    rng = np.random.default_rng(0)
    for system in PIPELINES:
        mu = 10 ** rng.uniform(-3, 3)
        L = mu * 10 ** rng.uniform(0.1, 3)
        α, β, ρ = advise(system, mu, L, certified=False).tuned
        tuned = StateSpace(np.array([[1, -α * β], [0, β]]), np.array([-α, 1]), np.eye(2)[0])
        slowest = growth(tuned, np.geomspace(mu, L, 10)).max()
        np.testing.assert_allclose(slowest, np.log(ρ), rtol=1e-3)


CHAINS = {
    "plain descent": (optax.sgd(0.1), 20.0),
    "heavy ball": (momentax.sgd(0.1, momentax.heavy_ball(0.9)), 38.0),
    "optax's Nesterov": (optax.sgd(0.1, 0.9, nesterov=True), 2 * 1.9 / 2.8 / 0.1),
    "decay and an average": (
        optax.chain(optax.add_decayed_weights(0.01), optax.trace(0.8), optax.scale(-0.1)),
        None,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.usefixtures("x64")
def test_runs_diverge_beyond_the_edge_and_converge_below_it(name):
    tx, known = CHAINS[name]
    limit = sharpness_limit(tx)
    assert isinstance(limit, float)
    if known is not None:
        np.testing.assert_allclose(limit, known, rtol=1e-9)
    curvatures = jnp.array([0.99, 1.01]) * limit
    run = momentax.rollout(
        lambda θ: jnp.sum(curvatures * θ**2) / 2, jnp.ones(2), tx, 4000, record="params"
    )
    before, after = np.abs(run.history["params"]).T
    assert before[-50:].max() < 1e-3 * before[:50].max()
    assert after[-50:].max() > 1e3 * after[:50].max()


def test_a_saddle_is_reported_separately():
    problem = problems.saddle(2.0)
    found = curvature(problem.loss, problem.start, key=jax.random.key(0))
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.5))
    said = advise(tx, found, certified=False)
    np.testing.assert_allclose(said.escape, theory.escape_rate(tx, -2.0), rtol=1e-6)
    assert said.stable
    assert said.tuned.rate == pytest.approx(0, abs=1e-3)  # One curvature is positive: 1.
    assert any(
        line.startswith("The loss curves down here, with curvature -2 along one direction")
        for line in str(said).split("\n")
    )
    assert advise(tx, 1.0, 2.0, certified=False).escape is None
    assert advise(tx, -2.0, 1.0, certified=False).escape == pytest.approx(said.escape, rel=1e-5)


def test_a_curvature_below_the_rounding_error_is_neither_slow_nor_negative():
    curvatures = np.concatenate([np.zeros(30), [0.5, 1, 3]])
    problem = problems.quadratic(np.diag(curvatures))
    found = curvature(problem.loss, problem.start, key=jax.random.key(0))
    said = advise(optax.sgd(0.1), found, certified=False)
    assert said.escape is None
    np.testing.assert_allclose(said.rate, 1 - 0.1 * 0.5, rtol=1e-5)


def test_the_sentences():
    tx = momentax.sgd(0.005, momentax.heavy_ball(0.9))
    assert str(advise(tx, 2.0, 200.0, certified=False)).split("\n") == [
        "Stable: the largest curvature is 200 and the edge is at 760, so the learning rate may be "
        "up to 3.8 times as large.",
        "The slowest direction, of curvature 2, halves its error every 13.2 steps (rate 0.948683).",
        "The stiffest direction oscillates, once in 5.84 steps.",
        "Heavy ball's best for curvatures from 2 to 200 is learning_rate=0.0165289 and "
        "beta=0.669421: it halves an error every 3.45 steps, 3.81 times as fast as now, "
        "at 0.990099 of its own edge.",
    ]
    said = advise(momentax.sgd(0.1, momentax.heavy_ball(0.9)), 2.0, 200.0)
    assert said.certified_rate is None
    assert said.half_life == np.inf
    assert said.sentences[0] == (
        "Unstable: the largest curvature, 200, is not below the edge at 38; the learning rate must "
        "be below 0.19 times the present value."
    )
    ascends = advise(optax.sgd(-0.1), 1.0, 2.0)
    assert ascends.sentences[0].startswith("Unstable: it ascends along every positive curvature")
    assert "it ends it in a step" in str(advise(tx, 2.0, 2.0, certified=False))


DECAYED = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, 0.9))
WORDS = {
    "decay does not scale with the gradients": (
        DECAYED,
        (1.0, 10.0),
        "Stable: the largest curvature is 10 and the edge is at 37.5, so the gradients may be up "
        "to 3.75 times as large.",
    ),
    "decay holds back what curves down": (
        DECAYED,
        (-0.1, 10.0),
        "The loss curves down here, with curvature -0.1 along one direction: this is no minimum, "
        "and the distance along it does not grow.",
    ),
    "too slow for float64": (
        optax.sgd(0.1),
        (1e-17, 10.0),
        "Stable: the largest curvature is 10 and the edge is at 20, so the learning rate may be up "
        "to 2 times as large.",
    ),
    "too slow to halve": (
        optax.sgd(0.1),
        (1e-17, 10.0),
        "The slowest direction, of curvature 1e-17, hardly ever halves its error (rate 1).",
    ),
    "an error that ends at once": (
        optax.sgd(0.1),
        (10.0, 10.0),
        "The slowest direction, of curvature 10, ends its error in a few steps (rate 0).",
    ),
    "too much decay": (
        optax.chain(optax.add_decayed_weights(50.0), optax.sgd(0.1, 0.9)),
        (1.0, 10.0),
        "Unstable at every positive curvature.",
    ),
    "growth that a curvature stops": (
        optax.chain(optax.add_decayed_weights(-0.1), optax.sgd(0.1)),
        (1.0, 2.0),
        "Stable from 1 to 2, but not along all curvatures below that.",
    ),
    "no learning rate": (
        optax.sgd(0.0),
        (1.0, 10.0),
        "Not stable: no gradient moves the parameters; is the learning rate 0?",
    ),
    "on the edge": (
        optax.sgd(0.25),
        (1.0, 8.0),
        "Unstable: the largest curvature, 8, is not below the edge at 8; the learning rate must be "
        "below 1 times the present value.",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_sentences_give_the_reason(name):
    tx, given, sentence = WORDS[name]
    said = advise(tx, *given, certified=False)
    assert sentence in said.sentences
    assert said.stable is not any(line.startswith(("Unst", "Not")) for line in said.sentences)


def test_with_decay_the_margin_is_one_of_the_gradients():
    """With gradients multiplied by the margin and the same decay, a pipeline is at its edge."""

    def tx(of_gradients):
        return optax.chain(
            optax.scale(of_gradients), optax.add_decayed_weights(0.5), optax.sgd(0.1, 0.9)
        )

    margin = advise(tx(1.0), 1.0, 10.0, certified=False).margin
    assert advise(tx(0.999 * margin), 1.0, 10.0, certified=False).stable
    assert not advise(tx(1.001 * margin), 1.0, 10.0, certified=False).stable


def test_nothing_is_tuned_or_proved_for_unknown_curvatures():
    for mu in (0.0, -1.0):
        said = advise(optax.sgd(0.1), mu, 10.0)
        assert said.tuned is None
        assert said.certified_rate is None
        assert not any(line.startswith(("Heavy", "Not only")) for line in said.sentences)
    # With a flat direction the loss is not strongly convex; the other curvatures are tuned for.
    problem = problems.quadratic(np.diag([0.0, 1.0, 3.0]))
    said = advise(optax.sgd(0.1), curvature(problem.loss, problem.start, key=jax.random.key(0)))
    assert said.certified_rate is None
    np.testing.assert_allclose(said.tuned, theory.optimal_heavy_ball(1.0, 3.0), rtol=1e-4)


def test_a_curvature_on_the_edge_is_not_stable():
    said = advise(momentax.sgd(0.38, momentax.heavy_ball(0.9)), 1.0, 10.0, certified=False)
    assert (said.stable, said.half_life) == (False, np.inf)
    assert said.sentences[0].startswith("Unstable: the largest curvature, 10, is not below the ed")


def test_a_certificate_holds_beyond_quadratics(monkeypatch):
    tx = optax.sgd(0.1)
    said = advise(tx, 1.0, 10.0)
    np.testing.assert_allclose(said.certified_rate, 0.9, rtol=1e-4)
    assert said.sentences[-1].endswith(
        "for every smooth strongly convex function with these curvatures."
    )
    assert advise(tx, 1.0, 10.0, certified=False).certified_rate is None
    assert find_spec("cvxpy")
    monkeypatch.setattr("momentax.theory._advise.find_spec", lambda name: None)
    assert advise(tx, 1.0, 10.0).certified_rate is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((3.0,), TypeError, "^L is missing: give the smallest curvature mu and the largest"),
        ((Record(1.0, 2.0), 3.0), TypeError, "^L must be left out where mu is a Curvature"),
        ((1.0, -1.0), ValueError, r"^L must be in \(0, inf\), got -1.0"),
        ((2.0, 1.0), ValueError, r"^mu must not exceed L, got mu=2.0 and L=1.0; are they swapped"),
    ],
)
def test_bad_arguments(given, error, message):
    with pytest.raises(error, match=message):
        advise(PIPELINES[0], *given)
    with pytest.raises(TypeError, match=r"^certified must be True or False"):
        advise(PIPELINES[0], 1.0, 2.0, certified=1)
