"""The accuracy of a velocity in fewer bytes, on problems that distinguish good codes from bad ones.

Each storage, and simpler roundings that one might use in its place, minimize the same quadratics of
4,096 parameters. They are judged by their final loss relative to that in float32.
"""

import functools
import math
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax._cli import _digits
from momentax.theory import optimal_heavy_ball
from tests.storage.cases import RANDOM, STORAGES, wrap

pytestmark = pytest.mark.optimized  # Loops of thousands of steps run faster than they compile.

N = 4096  # 16 blocks.
SEEDS = np.arange(4)
NEAREST = "bfloat16, nearest"


# The storages, and simpler roundings to compare them with. A code is a function of β and a seed
# that returns heavy ball.


def in_storage(case):
    """Heavy ball with its velocity in a storage."""

    def code(beta, seed):
        how = case.make(seed=seed) if case.is_random else case.make()
        return momentax.stored(momentax.heavy_ball(beta), how, min_size=1)

    return code


def rounded_by(rounding):
    """Heavy ball that rounds v' = β v + g after each step, with uniform random numbers."""

    def code(beta, seed):
        def update(g, state, params=None):
            count, v = state
            key = jax.random.fold_in(jax.random.key(seed, impl="rbg"), count)
            v = rounding(beta, v, g, jax.random.uniform(key, v.shape))
            return v, (count + 1, v)

        return optax.GradientTransformation(lambda p: (jnp.int32(0), jnp.zeros_like(p)), update)

    return code


def blocks(power, most, block, up):
    """Codes s (q / most)^power with s the largest magnitude of a block.

    `up` decides whether an entry gets the code above it. It receives the position of the
    entry between the codes below and above, in q and in values, and a uniform random number.
    """

    def rounding(beta, v, g, uniform):
        x = (beta * v + g).reshape(-1, block)
        s = jnp.max(jnp.abs(x), axis=1, keepdims=True)
        share = jnp.minimum(jnp.abs(x) / jnp.where(s > 0, s, 1), 1)
        q = share ** (1 / power) * most
        low = jnp.minimum(jnp.floor(q + 1e-6), most - 1)
        below, above = (low / most) ** power, ((low + 1) / most) ** power
        higher = up(q - low, (share - below) / (above - below), uniform.reshape(x.shape))
        return (jnp.sign(x) * jnp.where(higher, above, below) * s).reshape(v.shape)

    return rounding


def bfloat16_throughout(beta, v, g, uniform):
    """Everything in bfloat16, as in code without mixed precision."""
    beta, v, g = (x.astype(jnp.bfloat16) for x in (beta, v, g))
    return (beta * v + g).astype(jnp.float32)


def nearest_code(q, x, uniform):
    return q >= 0.5


def nearest(q, x, uniform):
    return x >= 0.5


def at_random(q, x, uniform):
    return uniform < x


NAIVE = {
    "bfloat16 throughout": bfloat16_throughout,
    "int8 linear, nearest": blocks(1, 127, 256, nearest),
    "int8 quadratic, nearest code": blocks(2, 127, 256, nearest_code),
    "int8 quadratic, nearest": blocks(2, 127, 256, nearest),
    "int4 linear, at random": blocks(1, 7, 64, at_random),
    "int4 quadratic, at random": blocks(2, 7, 64, at_random),
}
CODES = {
    "float32": lambda beta, seed: momentax.heavy_ball(beta),
    **{kind: in_storage(case) for kind, case in STORAGES.items()},
}


def program(run, naive=tuple(NAIVE)):
    """A function of a code's name and of the arguments of run(code, seed, ...) over all seeds.

    The given naive codes share one compiled program.
    """

    def selected(which, seed, *args):
        def rounding(*given):
            return jax.lax.switch(which, [NAIVE[name] for name in naive], *given)

        return run(rounded_by(rounding), seed, *args)

    def over_seeds(function, leading):
        def mapped(*args):
            axes = [None] * len(args)
            axes[leading] = 0
            return jax.vmap(function, axes)(*args)

        return jax.jit(mapped)

    compiled = {name: over_seeds(functools.partial(run, code), 0) for name, code in CODES.items()}
    compiled_naive = over_seeds(selected, 1)

    def call(name, *args):
        if name in compiled:
            return jax.tree.map(np.asarray, compiled[name](*args))
        return jax.tree.map(np.asarray, compiled_naive(naive.index(name), *args))

    return call


# Quadratics.


class Problem(NamedTuple):
    """Heavy ball on N curvatures λ, spaced evenly in log λ over [1/κ, 1].

    If mixed is False, each parameter has its own curvature, in random order, so that
    a block holds slow and fast parameters. If it is True, each parameter is a mixture
    of 64 curvatures or more. At the start all curvatures have the same mean loss. Noise
    in proportion to √λ is added to the gradients; then the loss is the mean over the
    second half of the steps.
    """

    kappa: float
    learning_rate: float
    beta: float
    steps: int
    mixed: bool = False
    start: float = 1.0
    noise: float = 0.0


def tuned(kappa, steps):
    best = optimal_heavy_ball(1 / kappa, 1.0)
    return Problem(kappa, float(best.learning_rate), float(best.beta), steps, mixed=True)


MOST = 3000  # Steps with noise.
# At the tuned α and β the smallest and the largest curvature have a double root each, at which a
# relative error ε of the velocity changes the rate by about √ε. If a single parameter had such a
# curvature, or over many more steps, no velocity in bfloat16 would follow float32. A mixture of
# curvatures does follow it for the number of steps below.
PROBLEMS = {
    "tuned, κ = 10³": tuned(1e3, 200),
    "tuned, κ = 10⁴": tuned(1e4, 300),
    "β = 0.99, α = 1 / L": Problem(1e4, 1.0, 0.99, 1000),
    "β = 0.99": Problem(1e4, 0.1, 0.99, 1000),
    "β = 0.999": Problem(1e4, 0.01, 0.999, 4000),
    "β = 0.9, noise alone": Problem(1e3, 0.1, 0.9, 200, start=0.0, noise=1.0),
    "β = 0.99, noise": Problem(1e4, 0.1, 0.99, 1000, noise=0.05),
    "β = 0.999, noise": Problem(1e4, 0.01, 0.999, MOST, noise=0.05),
}
HADAMARD = functools.reduce(np.kron, [np.array([[1.0, 1.0], [1.0, -1.0]])] * 6) / 8


@functools.cache
def signs():
    """The signs of the noise at every step."""
    return np.random.default_rng(1).integers(0, 2, (MOST, N), np.int8) * 2 - 1


def drawn(problem):
    """The curvatures and the first parameters, for each seed."""
    rng = np.random.default_rng(0)
    λ = np.logspace(-math.log10(problem.kappa), 0, N)
    λ = np.stack([rng.permutation(λ) for _ in SEEDS])
    modes = problem.start * rng.normal(size=λ.shape) / np.sqrt(λ)
    return λ.astype(np.float32), modes.astype(np.float32)


def descend(code, seed, given, signs, α, β, steps, mixed, noise):
    λ, θ = (part[seed] for part in given)
    tx = code(β, seed.astype(jnp.uint32))

    def rotate(x):
        H = jnp.asarray(HADAMARD, jnp.float32)
        return (H @ x.reshape(64, 64) @ H).ravel()

    def mix(x):  # This is its own inverse.
        return jax.lax.cond(mixed, rotate, lambda x: x, x)

    def step(t, carry):
        θ, state, total = carry
        ξ = noise * jnp.sqrt(λ) * signs[t % MOST].astype(jnp.float32)
        d, state = tx.update(mix(λ * mix(θ)) + ξ, state)
        θ = θ - α * d
        loss = jnp.sum(λ * mix(θ) ** 2) / 2
        return θ, state, total + jnp.where(t >= first, loss, 0)

    first = jnp.where(noise > 0, steps // 2, steps - 1)
    θ = mix(θ)
    *_, total = jax.lax.fori_loop(0, steps, step, (θ, tx.init(θ), jnp.zeros(())))
    return total / (steps - first).astype(jnp.float32)


DESCEND = program(descend)


@functools.cache
def losses(code, name):
    problem = PROBLEMS[name]
    α, β, noise = map(np.float32, (problem.learning_rate, problem.beta, problem.noise))
    given = drawn(problem), signs(), α, β, problem.steps, problem.mixed, noise
    return DESCEND(code, SEEDS, *given).astype(float)


def excess(code, name):
    """The final loss relative to that in float32, the median over the seeds."""
    return float(np.median(losses(code, name) / losses("float32", name)))


def failures(code, case, largest_beta):
    """The problems on which the loss of a code exceeds the limit for a storage."""
    failed = []
    for name, problem in PROBLEMS.items():
        if problem.beta <= largest_beta:
            low_noise = problem.noise and problem.beta <= 0.99
            bound = case.excess_with_noise if low_noise else case.excess
            if not excess(code, name) <= bound:
                failed.append(name)
    return failed


@pytest.mark.parametrize("kind", STORAGES)
def test_a_storage_ends_with_nearly_the_loss_of_float32(kind):
    assert not failures(kind, STORAGES[kind], STORAGES[kind].largest_beta)


def test_bfloat16_to_the_nearest_fails_where_the_velocity_no_longer_decays():
    assert "β = 0.999" in failures(NEAREST, STORAGES[NEAREST], 1.0)


@pytest.mark.parametrize("code", NAIVE)
def test_naive_roundings_fail_with_noise_and_without(code):
    case = STORAGES[NEAREST if code.startswith("bfloat16") else "int8"]
    failed = failures(code, case, 0.99)
    assert {PROBLEMS[name].noise > 0 for name in failed} == {True, False}


@pytest.mark.parametrize("code", [name for name in NAIVE if name.startswith("int4")])
def test_four_bits_are_too_few(code):
    """Rounding that adds d Var(v) a step raises the noise floor by the factor 1 + d / (1 - β²).

    With exact mean, the best n codes for a normal velocity have d ≈ √3 π / n²
    (twice the distortion of Panter and Dite, 1951), which is 0.021 for 16 codes.
    Scales from block maxima increase it. At β = 0.9 the floor exceeds the
    limit for 8 bits.
    """
    floor = math.sqrt(3) * math.pi / 16**2 / (1 - 0.9**2)
    assert floor > 0.1
    assert excess(code, "β = 0.9, noise alone") > 1 + floor


# Without gradients.


def decay(code, seed, β, steps):
    """The velocity of one gradient after further steps without any, and the sum of its steps."""
    g = jax.random.normal(jax.random.key(seed), (N,))
    tx = code(β, seed.astype(jnp.uint32))

    def step(t, carry):
        state, _, total = carry
        v, state = tx.update(jnp.zeros(N), state)
        return state, v, total + v

    v, state = tx.update(g, tx.init(g))
    _, last, total = jax.lax.fori_loop(0, steps, step, (state, v, v))
    return g, v, last, total


DECAY = program(decay, ("bfloat16 throughout",))


def decayed(code, β, length=5):
    """How a velocity decays without gradients, compared with exact arithmetic.

    Returns the distance that the parameters move, relative to the exact one; the error of the last
    velocity in standard errors; and the share of entries that never changed.
    """
    steps = round(length / (1 - β))
    g, first, last, total = (x.astype(float) for x in DECAY(code, SEEDS, np.float32(β), steps))
    β = float(np.float32(β))
    moved = np.sum(np.sign(g) * total) / np.sum(abs(g)) * (1 - β) / (1 - β ** (steps + 1))
    off = np.sign(g) * last - abs(g) * β**steps
    return moved, off.mean() / (off.std() / math.sqrt(off.size)), np.mean(last == first)


@pytest.mark.parametrize("code", RANDOM)
@pytest.mark.parametrize("β", [0.9, 0.99, 0.999])
def test_the_mean_of_a_decaying_velocity_is_exact(code, β):
    moved, errors, _ = decayed(code, β)
    assert abs(moved - 1) < 0.01
    assert abs(errors) < 3


@pytest.mark.parametrize("β", [0.9, 0.99, 0.995])
def test_a_velocity_rounded_to_the_nearest_moves_parameters_as_far_within_a_tenth(β):
    moved, errors, _ = decayed(NEAREST, β)
    assert abs(moved - 1) < 0.1
    assert abs(errors) > 3  # It is biased.


def test_a_velocity_rounded_to_the_nearest_does_not_decay_above_the_limit():
    moved, _, same = decayed(NEAREST, 0.999)
    assert same == 1
    assert moved > 4
    moved, _, same = decayed("bfloat16 throughout", 0.999)  # β is rounded to 1.
    assert same == 1


# Steady gradients.


def accumulate_steady(code, seed, g, β, noise, steps):
    """The mean velocity over the second half of the steps, relative to g / (1 - β)."""
    tx = code(β, seed.astype(jnp.uint32))
    key = jax.random.key(seed, impl="rbg")

    def step(t, carry):
        state, total = carry
        ξ = jax.random.normal(jax.random.fold_in(key, t), g.shape)
        v, state = tx.update(g * (1 + noise * ξ), state)
        return state, total + jnp.where(t >= first, v, 0)

    first = steps // 2
    _, total = jax.lax.fori_loop(0, steps, step, (tx.init(g), jnp.zeros_like(g)))
    return total / (steps - first).astype(jnp.float32) * (1 - β) / g


STEADY = program(accumulate_steady, ("bfloat16 throughout",))
# Two blocks, in each of which some gradients are 256 times as large as others.
STEADY_GRADIENTS = np.geomspace(1, 256, 512).reshape(256, 2).T.ravel().astype(np.float32)


@functools.cache
def shortfalls(code, β, noise=0.0):
    """By which share the velocity of each gradient is too small in the long run."""
    given = STEADY_GRADIENTS, np.float32(β), np.float32(noise), round(24 / (1 - β))
    return 1 - STEADY(code, SEEDS, *given).astype(float)


def stated(row):
    """The shortfalls in percent that the docstring of bfloat16 states, by β."""
    doc = momentax.storage.bfloat16.__doc__
    lines = [re.search(rf"^ +{name}  +(.*)$", doc, re.MULTILINE)[1] for name in ("β", row)]
    βs, shares = (map(float, re.findall(r"[\d.]+", line)) for line in lines)
    return dict(zip(βs, shares, strict=True))


@pytest.mark.parametrize(
    ("row", "noise"), [("steady gradients", 0.0), ("gradients with 10 % of noise", 0.1)]
)
def test_the_shortfall_of_rounding_to_the_nearest_is_as_stated(row, noise):
    table = stated(row)
    assert set(table) >= {0.9, 0.98, 0.99, 0.995}
    for β, share in table.items():
        found = 100 * shortfalls(NEAREST, β, noise).mean()
        assert abs(found - share) < 0.5, (β, found)


def test_the_warning_and_the_guide_state_the_same_shortfalls():
    table = stated("steady gradients")
    warning = STORAGES[NEAREST].make().advice
    for β in (0.9, 0.98, 0.99):
        assert f"{table[β]:g} %" in warning
    guide = (Path(__file__).parents[2] / "docs/guides/storage.md").read_text(encoding="utf-8")
    (heading,) = re.findall(r"lost under steady gradients\nat β = ([\d., ]+)\. ", guide)
    (row,) = re.findall(r"^\| `storage\.bfloat16\(stochastic=False\)`.*$", guide, re.MULTILINE)
    shares = ", ".join(f"{table[float(β)]:g} %" for β in heading.split(", "))
    assert f"| {shares} |" in row


@pytest.mark.parametrize("code", RANDOM)
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("β", [0.9, 0.99, 0.995])
def test_the_mean_velocity_of_steady_gradients_is_exact(code, β, noise):
    found = shortfalls(code, β, noise)
    error = found.std() / math.sqrt(found.size)
    assert error < 0.006
    assert abs(found.mean()) < 4 * error + 1e-4


# The mean over the seeds.


def accumulate(code, seed, gradients):
    tx = code(jnp.float32(0.9), seed.astype(jnp.uint32))

    def step(state, g):
        return tx.update(g, state)[::-1]

    return jax.lax.scan(step, tx.init(gradients[0]), gradients)[1]


BIASED = ("bfloat16 throughout", "int8 linear, nearest", "int8 quadratic, nearest")
ACCUMULATE = program(accumulate, BIASED)
MANY = 200


@functools.cache
def accumulated():
    """Gradients of all sizes, and the velocities in float64 after each of them."""
    rng = np.random.default_rng(0)
    sizes = np.exp(2 * rng.normal(size=N))
    g = (sizes * rng.normal(size=(30, N))).astype(np.float32)
    v = [np.zeros(N)]
    for row in g.astype(float):
        v.append(float(np.float32(0.9)) * v[-1] + row)
    return g, np.array(v[1:])


@functools.cache
def sums(code):
    """Errors of the magnitudes, summed over 64 groups of 64 entries, by seed, step and group."""
    g, truth = accumulated()
    seeds = np.arange(1 if code in NAIVE else MANY)
    v = ACCUMULATE(code, seeds, g).astype(float)
    signs = np.sign(truth)
    return np.sum((signs * (v - truth)).reshape(*v.shape[:2], 64, 64), axis=-1)


def errors(code):
    """Errors of the mean over the seeds, in standard errors of a code whose mean is exact."""
    alike = "bfloat16" if code.startswith("bfloat16") else "int8"
    unbiased = sums(code if code in RANDOM else alike)
    return sums(code).mean(axis=0) / (unbiased.std(axis=0) / math.sqrt(MANY))


@pytest.mark.parametrize("code", RANDOM)
def test_the_mean_over_the_seeds_is_the_velocity(code):
    found = errors(code)
    for step in (0, -1):
        whole = found[step].sum() / math.sqrt(found[step].size)
        assert abs(whole) < 3
        assert np.mean(found[step] ** 2) < 1.6
        assert np.max(abs(found[step])) < 4


@pytest.mark.parametrize("code", BIASED)
def test_rounding_to_the_nearest_is_biased(code):
    assert np.mean(errors(code)[-1] ** 2) > 1.6
    assert np.max(abs(errors(code)[-1])) > 4


# A network.


@functools.cache
def digits():
    """Images of digits, 1,437 for training, with the batches and first parameters of each seed."""
    train, test = (jax.tree.map(np.asarray, tuple(part)) for part in _digits.load())
    batches, starts = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(len(train[1]))[: 44 * 32].reshape(44, 32) for _ in range(8)]
        batches.append(np.concatenate(orders))
        starts.append(
            {
                "first": rng.normal(size=(64, 64)).astype(np.float32) / 8,
                "last": rng.normal(size=(64, 10)).astype(np.float32) / 8,
                "first bias": np.zeros(64, np.float32),
                "last bias": np.zeros(10, np.float32),
            }
        )
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    return train, test, np.stack(batches), starts


def logits_of(p, images):
    flat = images.reshape(len(images), 64)
    hidden = jax.nn.relu(flat @ p["first"] + p["first bias"][None])
    return hidden @ p["last"] + p["last bias"][None]


def accuracies(kind):
    """The test accuracy of a small network for each seed; all but the biases is encoded."""
    (images, labels), (test_images, test_labels), batches, starts = digits()
    tx = momentax.sgd(0.1, wrap(kind, momentax.heavy_ball(0.9), min_size=256))

    def loss(p, rows):
        given = jnp.asarray(images)[rows], jnp.asarray(labels)[rows]
        logits = logits_of(p, given[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, given[1]).mean()

    def step(carry, rows):
        p, state = carry
        updates, state = tx.update(jax.grad(loss)(p, rows), state, p)
        return (optax.apply_updates(p, updates), state), None

    @jax.jit
    @jax.vmap
    def train(start, batches):
        p, _ = jax.lax.scan(step, (start, tx.init(start)), batches)[0]
        return logits_of(p, jnp.asarray(test_images)).argmax(-1)

    return (np.asarray(train(starts, batches)) == test_labels).mean(axis=1)


def test_digits_are_learned_equally_well_with_every_storage():
    """A plausibility check: at β = 0.9 a small network ends with the same accuracy in any code.

    It can show that something is wrong and not that a code is good, since naive
    roundings pass it too. The quadratics above distinguish those.
    """
    exact = accuracies(None)
    assert exact.mean() > 0.95
    for kind in STORAGES:
        difference = accuracies(kind) - exact
        noise = max(difference.std(ddof=1) / math.sqrt(5), 1 / 360)
        assert abs(difference.mean()) < 3 * noise, (kind, difference)
