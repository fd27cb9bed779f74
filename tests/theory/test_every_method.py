"""Rate, edge and variance of every linear transformation, against algebra and against runs.

The algebra is independent of the library: the filter of the paper, as a fraction of two
polynomials in the delay w, and its characteristic polynomial.
"""

from functools import cache, partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory._reading._family import Family
from tests.theory.systems import QUICK

# Methods of one velocity: the transformation and (a, b, β) of v ← β v + g, θ ← θ - (a g + b v).


def quasi_hyperbolic(α, ν, β):
    return α * (1 - ν), α * ν * (1 - β), β


def synthesized(α, β1, β2):
    return α * β2 / β1, α * (1 + β2 - β2 / β1), β1


def linear(draw, α):
    a, b, β, γ = draw(0, 2), draw(0.1, 2), draw(0, 0.95), draw(0.1, 2)
    return sgd(α, momentax.linear(a, b, β, γ)), (α * a, α * b * γ, β)


def spiralling(draw, α):
    a, β = draw(-0.5, -0.05), draw(0.3, 0.95)
    return sgd(α, momentax.linear(a, 1.0, β)), (α * a, α, β)


def heavy_ball(draw, α):
    β, τ = draw(0, 0.99), draw(0, 0.9)
    return sgd(α, momentax.heavy_ball(β, dampening=τ)), (0, α * (1 - τ), β)


def nesterov(draw, α):
    β = draw(0, 0.99)
    return sgd(α, momentax.nesterov(β)), (α, α * β, β)


def parameter_units(draw, α):
    β = draw(0, 0.99)
    return sgd(α, momentax.nesterov(β), velocity_units="parameter"), (α, α * β, β)


def average(draw, α):
    β = draw(0, 0.99)
    return sgd(α, momentax.average(β)), quasi_hyperbolic(α, 1, β)


def quasi(draw, α):
    β, ν = draw(0, 0.99), draw(0, 1.2)
    return sgd(α, momentax.quasi_hyperbolic(β, ν)), quasi_hyperbolic(α, ν, β)


def synthesized_nesterov(draw, α):
    β1, β2 = draw(0.05, 0.95), draw(0, 0.95)
    return sgd(α, momentax.synthesized_nesterov(β1, β2)), synthesized(α, β1, β2)


def triple_momentum(draw, _):
    L, κ = draw(0.5, 100), draw(2, 100)
    r = 1 - κ**-0.5
    tuned = theory.triple_momentum(L / κ, L)
    method = momentax.synthesized_nesterov(tuned.beta1, tuned.beta2)
    return sgd(tuned.learning_rate, method), synthesized(
        (1 + r) / L, r**2 / (2 - r), r**2 / ((1 + r) * (2 - r))
    )


def robust_momentum(draw, _):
    L, κ = draw(0.5, 100), draw(2, 100)
    r = draw(1 - κ**-0.5, 1 - 1 / κ)
    tuned = theory.robust_momentum(L / κ, L, rate=r)
    method = momentax.synthesized_nesterov(tuned.beta1, tuned.beta2)
    return sgd(tuned.learning_rate, method), synthesized(
        κ * (1 - r) ** 2 * (1 + r) / L,
        κ * r**3 / (κ - 1),
        r**3 / ((κ - 1) * (1 - r) ** 2 * (1 + r)),
    )


def overshoot(draw, α):
    β, γ = draw(0.3, 0.95), draw(0, 5)
    return sgd(α, momentax.overshoot(β, γ)), (α * γ / β, α * (1 + γ - γ / β), β)


def mass(draw, α):
    β, c = draw(0.2, 0.95), draw(0, 0.2)
    return sgd(α, momentax.mass(β, c)), (α, α * (β - c), β)


def accelerated_sgd(draw, α):
    κ, ξ, c = draw(20, 1000), draw(2, 10), draw(0.6, 0.9)
    return sgd(α, momentax.accelerated_sgd(κ, ξ, c)), quasi_hyperbolic(
        α * c * (1 + ξ) / (1 + c),
        (c * ξ - 1) / (c * (1 + ξ)),
        (κ - c**2 * ξ) / (κ + c * ξ),
    )


def primal_averaging(draw, α):
    c = draw(0.01, 1)
    return sgd(α, momentax.primal_averaging(c)), (0, α * c, 1 - c)


def generalized_primal_averaging(draw, α):
    x, y = draw(0, 0.99), draw(0.1, 0.99)
    return sgd(α, momentax.generalized_primal_averaging(x, y)), quasi_hyperbolic(α, y, x)


def pid(draw, α):
    kp, ki, kd = draw(-1, -0.1), draw(0.5, 2), draw(0.5, 3)
    β = kd / (kd - kp)
    return sgd(α, momentax.pid(kp, ki, kd)), quasi_hyperbolic(α * ki, kp**2 / (ki * kd), β)


def proportional_integral_derivative(draw, α):
    β, kI, kD = draw(0.3, 0.95), draw(1, 5), draw(0, 5)
    method = momentax.proportional_integral_derivative(β, kI, kD)
    # (1 - w) / (1 - β w) = (1 - (1 - β) / (1 - β w)) / β
    return sgd(α, method), (
        α * (1 + kD * (1 - β) / β),
        α * (kI - kD * (1 - β) ** 2 / β),
        β,
    )


def amplified(draw, α):
    β, factor = draw(0, 0.99), draw(0, 5)
    return sgd(α, momentax.amplified(β, factor)), (α, α * factor * (1 - β), β)


def lazy(draw, α):
    β = draw(0, 0.99)
    return sgd(α, momentax.lazy(momentax.nesterov(β))), (α, α * β, β)


def item(draw, _):
    q = 1 / draw(2, 50)
    r = 1 - q**0.5
    return sgd(1.0, momentax.item(q, 1.0)), synthesized(
        1 + r, r**2 / (2 - r), r**2 / ((1 + r) * (2 - r))
    )


FROZEN = 7  # The step at which coefficients that never settle are frozen.


def roots_sequence():
    θ = [1.0]
    for _ in range(FROZEN + 1):
        θ.append((1 + np.sqrt(1 + 4 * θ[-1] ** 2)) / 2)
    return θ[FROZEN - 1 :]


def accelerated(draw, α):
    ahead, β = FROZEN / (FROZEN + 3), (FROZEN - 1) / (FROZEN + 2)
    return sgd(α, momentax.accelerated()), (α, α * ahead, β)


def fista(draw, α):
    before, now, after = roots_sequence()
    return sgd(α, momentax.accelerated("fista")), (α, α * (now - 1) / after, (before - 1) / now)


def optimized_gradient(draw, α):
    _, now, after = roots_sequence()
    # From y = x - v and z = x - θ v: x⁺ = y - g, z⁺ = z - 2 θ g, v⁺ = (x⁺ - z⁺) / θ⁺.
    tx = sgd(α, momentax.accelerated("ogm", horizon=50))
    return tx, (α, α * (2 * now - 1) / after, (now - 1) / after)


CHANGING = [accelerated, fista, optimized_gradient]
KERNEL = [
    *CHANGING,
    linear,
    spiralling,
    heavy_ball,
    nesterov,
    parameter_units,
    average,
    quasi,
    synthesized_nesterov,
    triple_momentum,
    robust_momentum,
    overshoot,
    mass,
    accelerated_sgd,
    primal_averaging,
    generalized_primal_averaging,
    pid,
    proportional_integral_derivative,
    amplified,
    lazy,
    item,
]


class Kernel:
    """z² - T z + D = 0 with T = 1 + β - λ (a + b), D = β (1 - λ a)."""

    def __init__(self, a, b, β):
        self.a, self.b, self.β = a, b, β

    def coefficients(self, λ):
        return 1 + self.β - λ * (self.a + self.b), self.β * (1 - λ * self.a)

    def radius(self, λ):
        T, D = self.coefficients(λ)
        if T**2 < 4 * D:
            return np.sqrt(D)
        return (abs(T) + np.sqrt(T**2 - 4 * D)) / 2

    def rate(self, μ, L):
        # A real root is monotonic in λ, and so is √D: the worst curvature is an end.
        return max(self.radius(μ), self.radius(L))

    def edge(self):
        a, b, β = self.a, self.b, self.β
        # 1 - D = 0 and 1 + T + D = 0; the other, 1 - T + D = λ (a (1 - β) + b), is positive.
        edges = [2 * (1 + β) / (a * (1 + β) + b), -(1 - β) / (a * β) if a * β else np.inf]
        return min(edge for edge in edges if edge > 0)

    def variance(self, λ):
        T, D = self.coefficients(λ)
        # The coefficients of the noise in θ_t - T θ_{t-1} + D θ_{t-2}.
        now, before = -(self.a + self.b), self.a * self.β
        squares = (1 + D) * (now**2 + before**2) + 2 * T * now * before
        return squares / ((1 - D) * ((1 + D) ** 2 - T**2))


# Any other filter that is the same at every step: α, the numerator and denominator of the
# direction, coupled decay, and the factor by which decoupled decay multiplies the parameters.


def times(*polynomials):
    product = np.ones(1)
    for each in polynomials:
        product = np.convolve(product, each)
    return product


def velocity(β, gain=1.0):
    return np.array([gain]), np.array([1, -β])


def chained(*filters):
    numerators, denominators = zip(*filters, strict=True)
    return times(*numerators), times(*denominators)


def mixed(*filters):
    """The mean of some filters."""
    numerator = sum(
        times(of, *(other for k, (_, other) in enumerate(filters) if k != i))
        for i, (of, _) in enumerate(filters)
    )
    return numerator / len(filters), times(*(of for _, of in filters))


class Filter:
    def __init__(self, α, numerator, denominator, coupled=0.0, keep=1.0):
        self.α, self.coupled = α, coupled
        size = max(len(numerator) + 1, len(denominator) + 1)
        self.noise = np.zeros(size)
        self.noise[1 : len(numerator) + 1] = numerator  # θ_t depends on g at θ_{t-1}.
        self.free = np.zeros(size)
        self.free[: len(denominator) + 1] = times([1, -keep], denominator)

    def roots(self, λ):
        return np.roots(self.free + self.α * (λ + self.coupled) * self.noise)

    def radius(self, λ):
        return np.abs(self.roots(λ)).max()

    def rate(self, μ, L):
        return peak(self.radius, μ, L)

    def edge(self):
        return first_unstable(self.radius)

    def variance(self, λ):
        """The variance of Σ_i c_i Σ_k z_iᵏ ε_{t-k}, by partial fractions."""
        z = self.roots(λ)
        numerator = np.polyval(-self.α * self.noise[1:], z)
        slopes = np.array([np.prod(each - np.delete(z, i)) for i, each in enumerate(z)])
        c = numerator / slopes
        return (np.outer(c, c) / (1 - np.outer(z, z))).sum().real


def peak(radius, μ, L):
    points = np.geomspace(μ, L, 400)
    top = int(np.argmax([radius(λ) for λ in points]))
    low, high = points[max(top - 1, 0)], points[min(top + 1, 399)]
    for _ in range(80):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if radius(left) < radius(right) else (low, right)
    return max(radius(λ) for λ in (low, high, points[top]))


def first_unstable(radius):
    low = 1e-3
    while radius(low * 1.02) < 1:
        low *= 1.02
    high = low * 1.02
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) < 1 else (low, middle)
    return low


def aggregated(draw, α):
    βs = (0.0, draw(0.3, 0.9), draw(0.9, 0.99))
    return sgd(α, momentax.aggregated(βs)), lambda: Filter(α, *mixed(*map(velocity, βs)))


def positive_negative(draw, α):
    β, β0 = draw(0.3, 0.95), draw(0, 2)

    def algebra():
        numerator = (1 - β**2) / np.hypot(1 + β0, β0) * np.array([1 + β0, -β0])
        return Filter(α, numerator, [1, 0, -(β**2)])

    return sgd(α, momentax.positive_negative(β, β0)), algebra


def optimistic(draw, α):
    β = draw(0.1, 0.9)
    tx = momentax.optimistic(sgd(α, momentax.heavy_ball(β)))
    return tx, lambda: Filter(α, [2, -1], [1, -β])


def coupled_decay(draw, α):
    β, ω = draw(0.1, 0.95), draw(0.01, 0.2)
    tx = sgd(α, momentax.nesterov(β), weight_decay=ω)
    return tx, lambda: Filter(α, [1 + β, -β], [1, -β], coupled=ω)


def decoupled_decay(draw, α):
    β, ω = draw(0.1, 0.95), draw(0.01, 0.2)
    tx = sgd(α, momentax.nesterov(β), weight_decay=ω, decoupled=True)
    return tx, lambda: Filter(α, [1 + β, -β], [1, -β], keep=1 - α * ω)


def optax_sgd(draw, α):
    return optax.sgd(α), lambda: Filter(α, [1], [1])


def optax_momentum(draw, α):
    β = draw(0.1, 0.95)
    return optax.sgd(α, β), lambda: Filter(α, *velocity(β))


def optax_nesterov(draw, α):
    β = draw(0.1, 0.95)
    return optax.sgd(α, β, nesterov=True), lambda: Filter(α, [1 + β, -β], [1, -β])


def optax_ema(draw, α):
    β = draw(0.1, 0.95)
    return optax.chain(optax.ema(β), optax.scale(-α)), lambda: Filter(α, *velocity(β, 1 - β))


def optax_two_traces(draw, α):
    β, other = draw(0.1, 0.5), draw(0.6, 0.9)
    tx = optax.chain(optax.trace(β), optax.trace(other), optax.scale(-α))
    return tx, lambda: Filter(α, *chained(velocity(β), velocity(other)))


def optax_trace_of_an_average(draw, α):
    β, other = draw(0.1, 0.5), draw(0.6, 0.9)
    tx = optax.chain(optax.ema(β, debias=False), optax.sgd(α, other, nesterov=True))
    return tx, lambda: Filter(α, *chained(velocity(β, 1 - β), ([1 + other, -other], [1, -other])))


def optax_coupled_decay(draw, α):
    β, ω = draw(0.1, 0.9), draw(0.01, 0.2)
    tx = optax.chain(optax.add_decayed_weights(ω), optax.sgd(α, β))
    return tx, lambda: Filter(α, *velocity(β), coupled=ω)


def optax_decoupled_decay(draw, α):
    β, ω = draw(0.1, 0.9), draw(0.01, 0.2)
    tx = optax.chain(optax.trace(β), optax.add_decayed_weights(ω), optax.scale_by_learning_rate(α))
    return tx, lambda: Filter(α, *velocity(β), keep=1 - α * ω)


def optax_optimistic(draw, α):
    one, other = draw(0.5, 1), draw(0.1, 1)
    tx = optax.optimistic_gradient_descent(α, one, other)
    return tx, lambda: Filter(α, [one + other, -other], [1])


def optax_partition(draw, α):
    β = draw(0.1, 0.9)

    def labels(params):
        return jax.tree.map(lambda _: "all", params)

    return optax.partition({"all": optax.sgd(α, β)}, labels), lambda: Filter(α, *velocity(β))


def optax_injected(draw, α):
    β = draw(0.1, 0.9)
    tx = optax.inject_hyperparams(optax.sgd)(α, momentum=β)
    return optax.chain(optax.trace(0.3), tx), lambda: Filter(
        α, *chained(velocity(0.3), velocity(β))
    )


def optax_schedule(draw, α):
    β = draw(0.1, 0.9)
    schedule = optax.linear_schedule(10 * α, α, 100)  # Its values are float32.
    return optax.sgd(schedule, β), lambda: Filter(float(np.float32(α)), *velocity(β))


FILTERS = [
    aggregated,
    positive_negative,
    optimistic,
    coupled_decay,
    decoupled_decay,
    optax_sgd,
    optax_momentum,
    optax_nesterov,
    optax_ema,
    optax_two_traces,
    optax_trace_of_an_average,
    optax_coupled_decay,
    optax_decoupled_decay,
    optax_optimistic,
    optax_partition,
    optax_injected,
    optax_schedule,
]


class Steps:
    """A and B of each step of a period, the parameter first in the state."""

    def __init__(self, *steps):
        self.steps = [(np.array(A, float), np.array(B, float)) for A, B in steps]

    def loops(self, λ):
        first = np.eye(len(self.steps[0][1]))[0]
        return [A + λ * np.outer(B, first) for A, B in self.steps]

    def radius(self, λ):
        whole = np.eye(len(self.steps[0][1]))
        for M in self.loops(λ):
            whole = M @ whole
        return np.abs(np.linalg.eigvals(whole)).max() ** (1 / len(self.steps))

    def rate(self, μ, L):
        return peak(self.radius, μ, L)

    def edge(self):
        return first_unstable(self.radius)

    def variance(self, λ):
        n, loops = len(self.steps[0][1]), self.loops(λ)
        whole, added = np.eye(n), np.zeros((n, n))
        for M, (_, B) in zip(loops, self.steps, strict=True):
            whole, added = M @ whole, M @ added @ M.T + np.outer(B, B)
        flat = np.linalg.solve(np.eye(n * n) - np.kron(whole, whole), added.ravel())
        Σ, seen = flat.reshape(n, n), []
        for M, (_, B) in zip(loops, self.steps, strict=True):
            seen.append(Σ[0, 0])
            Σ = M @ Σ @ M.T + np.outer(B, B)
        return np.mean(seen)


def optax_lookahead(draw, α):
    β, slow = draw(0.1, 0.9), draw(0.2, 0.9)

    def algebra():
        step = [[1, 0, -α * β], [0, 1, 0], [0, 0, β]], [-α, 0, 1]  # Of (fast, slow, v).
        back = np.array([[slow, 1 - slow, 0], [slow, 1 - slow, 0], [0, 0, 1]])
        return Steps(step, step, step, (back @ step[0], back @ step[1]))

    return optax.lookahead(optax.sgd(α, β), 4, slow), algebra


def optax_accumulated(draw, α):
    β = draw(0.1, 0.9)

    def algebra():
        # Of (θ, v, the previous gradient); float32 holds the mean of the two exactly.
        keep = [[1, 0, 0], [0, 1, 0], [0, 0, 0]], [0, 0, 1]
        move = [[1, -α * β, -α / 2], [0, β, 0.5], [0, 0, 0]], [-α / 2, 0.5, 0]
        return Steps(keep, move)

    return optax.MultiSteps(optax.sgd(α, β), 2).gradient_transformation(), algebra


def optax_apply_every(draw, α):
    β = draw(0.1, 0.9)

    def algebra():
        # The sum enters at each third step; the trace takes zeros between.
        keep = [[1, -α * β, 0], [0, β, 0], [0, 0, 1]], [0, 0, 1]
        move = [[1, -α * β, -α], [0, β, 1], [0, 0, 0]], [-α, 1, 0]
        return Steps(keep, keep, move)

    return optax.chain(optax.apply_every(3), optax.sgd(α, β)), algebra


def restarted(draw, α):
    β = draw(0.3, 0.95)

    def algebra():
        step = [[1, -α * β], [0, β]], [-α, 1]
        forget = [[1, 0], [0, 0]], [-α, 1]
        return Steps(forget, step, step)

    return sgd(α, momentax.restart(momentax.heavy_ball(β), 3)), algebra


PERIODIC = [optax_lookahead, optax_accumulated, optax_apply_every, restarted]


# These factories do not accept tracers, or are read at a step, so each case is read separately.
READ_SEPARATELY = [*CHANGING, triple_momentum, robust_momentum, optax_schedule]


@cache
def family(make):
    """The systems of a method, compiled once with all that is drawn as traced hyperparameters."""

    def factory(learning_rate, **drawn):
        draws = (drawn[f"draw_{i}"] for i in count())
        return make(lambda low, high: next(draws), learning_rate)[0]

    return Family(factory)


@cache
def case(make, seed):
    """The transformation, its algebra, its system and some random shares."""
    rng = np.random.default_rng([seed, *map(ord, make.__name__)])
    learning_rate, drawn = 10 ** rng.uniform(-2, 0), {}

    def draw(low, high):
        drawn[f"draw_{len(drawn)}"] = value = rng.uniform(low, high)
        return value

    with jax.enable_x64(True):  # Some transformations keep coefficients as arrays from the start.
        tx, algebra = make(draw, learning_rate)
        if make not in READ_SEPARATELY:
            system = family(make)({"learning_rate": learning_rate, **drawn}, full=True).state_space
    if make in READ_SEPARATELY:
        system = theory.state_space(tx, step=FROZEN if make in CHANGING else None)
    algebra = Kernel(*algebra) if make in KERNEL else algebra()
    return tx, algebra, system, rng.uniform(size=3)


# Methods whose coefficients converge are also run. The scope puts the tests of a method next to
# each other, so that one worker has them all and reads the method once.
CONVERGING = [make for make in KERNEL + FILTERS + PERIODIC if make not in CHANGING]


def for_each(methods):
    return pytest.mark.parametrize("make", methods, ids=lambda make: make.__name__, scope="module")


@for_each(CONVERGING + CHANGING)
@pytest.mark.parametrize("seed", [0, 1])
def test_rate_edge_and_variance_equal_the_closed_forms(make, seed):
    _, algebra, system, share = case(make, seed)
    edge = algebra.edge()
    np.testing.assert_allclose(theory.sharpness_limit(system), edge, rtol=1e-9)
    L = edge * (0.3 + 0.65 * share[0])
    μ = L / (2 + 48 * share[1])
    np.testing.assert_allclose(theory.rate(system, μ, L), algebra.rate(μ, L), rtol=1e-9)
    λ = np.array([μ, L, edge * share[2]])
    expected = [3 * algebra.variance(each) for each in λ]
    np.testing.assert_allclose(theory.stationary_variance(system, λ, 3.0), expected, rtol=1e-9)


STEPS, LANES = 3000, 400
NOISE = np.random.default_rng(0).normal(size=(STEPS, LANES))


def run(tx, H, curvatures, noisy):
    """‖θ_t‖ on a quadratic, |θ_t| along two curvatures, and the mean of θ_t² under noise."""

    def step(carried, noise):
        params, state = carried
        θ = params.fast if isinstance(params, optax.LookaheadParams) else params
        g = {
            "all": H @ θ["all"],
            "each": curvatures * θ["each"],
            "noisy": noisy * θ["noisy"] + noise,
        }
        updates, state = tx.update(g, state, params)
        seen = jnp.linalg.norm(θ["all"]), jnp.abs(θ["each"]), jnp.mean(θ["noisy"] ** 2)
        return (optax.apply_updates(params, updates), state), seen

    def whole(θ, noise):
        pair = tx.init.__module__.endswith("lookahead")
        params = optax.LookaheadParams.init_synced(θ) if pair else θ
        return jax.lax.scan(step, (params, tx.init(params)), noise)[1]

    θ = {"all": np.ones(len(H)), "each": np.ones(2), "noisy": np.zeros(LANES)}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        compiled = jax.jit(whole, compiler_options=QUICK)
        return jax.tree.map(np.asarray, compiled(jax.tree.map(jnp.asarray, θ), NOISE))


def factor(sizes, digits):
    """By how much sizes shrink or grow per step, once the fast modes are gone."""
    within = np.abs(np.log10(np.maximum(sizes, 1e-320))) < digits
    end = len(sizes) if within.all() else int(np.argmin(within))
    tail = sizes[end // 2 : end]
    width = len(tail) // 8  # An oscillation is near 0 now and then, but not for so long.
    tops = [tail[i * width : (i + 1) * width].max() for i in range(8)]
    return np.exp(np.polyfit(np.arange(8) * width, np.log(tops), 1)[0])


@for_each(CONVERGING)
def test_compiled_runs_shrink_diverge_and_settle_as_predicted(make):
    tx, _, system, share = case(make, 0)
    edge = theory.sharpness_limit(system)
    L = edge * (0.3 + 0.65 * share[0])
    μ = L / (2 + 48 * share[1])
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    H = basis * np.geomspace(μ, L, 4) @ basis.T
    sides, noisy = edge * np.array([0.99, 1.01]), edge * (0.2 + 0.6 * share[2])
    seen, beside, variance = run(tx, H, sides, noisy)
    digits = 30 if make is optax_accumulated else 250  # Its mean is float32.
    found = [factor(each, digits) for each in (seen, *beside.T)]
    expected = [theory.rate(system, μ, L), *theory.rate_at(system, sides)]
    assert found[1] < 1 < found[2]
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    predicted = theory.stationary_variance(system, noisy, 1.0)
    np.testing.assert_allclose(np.mean(variance[500:]), predicted, rtol=0.02)


PUBLISHED = {  # κ: heavy ball and Nesterov's momentum as tuned for quadratics.
    10: (0.519494, 0.640789),
    100: (0.818182, 0.884722),
    1000: (0.938693, 0.963491),
    10000: (0.980198, 0.988453),
}


@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy ball", "Nesterov"])
def test_the_tuned_methods_have_the_published_rates(nesterov):
    family = Family(partial(optax.sgd, nesterov=nesterov))
    for κ, published in PUBLISHED.items():
        s, n = np.sqrt(κ), np.sqrt(3 * κ + 1)
        settings, rate = ((4 / (1 + 1 / s) ** 2, ((s - 1) / (s + 1)) ** 2), (s - 1) / (s + 1))
        if nesterov:
            settings, rate = ((4 / (3 + 1 / κ), (n - 2) / (n + 2)), 1 - 2 / n)
        system = family(dict(zip(("learning_rate", "momentum"), settings, strict=True)), full=True)
        found = theory.rate(system.state_space, 1 / κ, 1)
        np.testing.assert_allclose(found, rate, rtol=1e-9)
        assert round(found, 6) == published[nesterov]
