"""Each convention against its own recurrence, the others, and values of another library."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentax import conventions
from momentax.conventions import (
    PID,
    AcceleratedSGD,
    Aggregated2,
    Average,
    Canonical,
    Keras,
    Optax,
    QuasiHyperbolic,
    Sutskever,
    SynthesizedNesterov,
    Torch,
    convert,
)

# Twins: each convention's own recurrence in float64 NumPy, from the velocity v if one is given.
# They return the points where gradients are taken, θ_0 .. θ_T, and the last velocity.


def torch(r, gradient, θ, steps, v=None):
    path = [θ]
    for _ in range(steps):
        g = -gradient(θ) if r.maximize else gradient(θ)
        g = g + r.weight_decay * θ
        if r.momentum != 0:
            v = g if v is None else r.momentum * v + (1 - r.dampening) * g
            g = g + r.momentum * v if r.nesterov else v
        θ = θ - r.lr * g
        path.append(θ)
    return np.stack(path), v


def keras(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = r.momentum * v - r.learning_rate * g
        θ = θ + r.momentum * v - r.learning_rate * g if r.nesterov else θ + v
        path.append(θ)
    return np.stack(path), v


def optax(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = g + r.momentum * v
        θ = θ - r.learning_rate * (g + r.momentum * v if r.nesterov else v)
        path.append(θ)
    return np.stack(path), v


def sutskever(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        ahead = θ + r.momentum * v if r.nesterov else θ
        v = r.momentum * v - r.learning_rate * gradient(ahead)
        θ = θ + v
        path.append(θ + r.momentum * v if r.nesterov else θ)
    return np.stack(path), v


def average(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        v = r.beta * v + (1 - r.beta) * gradient(θ)
        θ = θ - r.learning_rate * v
        path.append(θ)
    return np.stack(path), v


def quasi_hyperbolic(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = r.beta * v + (1 - r.beta) * g
        θ = θ - r.learning_rate * ((1 - r.nu) * g + r.nu * v)
        path.append(θ)
    return np.stack(path), v


def accelerated_sgd(r, gradient, w, steps):
    δ, κ, ξ, c = r.learning_rate, r.kappa, r.xi, r.c
    A = 1 - c**2 * ξ / κ
    ζ = c / (c + 1 - A)
    mean, path = w, [w]
    for _ in range(steps):
        g = gradient(w)
        mean = A * mean + (1 - A) * (w - δ * κ / c * g)
        w = ζ * (w - δ * g) + (1 - ζ) * mean
        path.append(w)
    return np.stack(path), w - mean


def synthesized_nesterov(r, gradient, ξ, steps):
    before, path = ξ, [ξ]
    for _ in range(steps):
        step = r.beta1 * (ξ - before) - r.learning_rate * gradient(path[-1])
        before, ξ = ξ, ξ + step
        path.append(ξ + r.beta2 * (ξ - before))
    return np.stack(path), ξ - before


def pid(r, gradient, start, steps):
    β = r.kd / (r.kd - r.kp) if r.kd else 0.0
    total, d, before, path = 0.0, 0.0, 0.0, [start]
    for _ in range(steps):
        g = gradient(path[-1])
        total = total + g
        d = β * d + (1 - β) * (g - before)
        before = g
        path.append(start - (r.kp * g + r.ki * total + r.kd * d))
    return np.stack(path), (before - β * d / (1 - β)) / (1 - β)


def aggregated(r, gradient, θ, steps):
    β = np.array([[0.0], [r.beta]])
    v, path = np.zeros((2, θ.size)), [θ]
    for _ in range(steps):
        v = β * v + gradient(θ)
        θ = θ - r.learning_rate / 2 * v.sum(0)
        path.append(θ)
    return np.stack(path), v[1]


TWINS = {
    Torch: torch,
    Keras: keras,
    Optax: optax,
    Sutskever: sutskever,
    Average: average,
    QuasiHyperbolic: quasi_hyperbolic,
    AcceleratedSGD: accelerated_sgd,
    SynthesizedNesterov: synthesized_nesterov,
    PID: pid,
    Aggregated2: aggregated,
}


# A nonlinear strongly convex loss: f(θ) = Σ log cosh(θ - centre) + curvature θ² / 2.
CENTRE = np.array([1.5, -0.7, 0.2, -2.0, 3.0])
CURVATURE = np.array([0.05, 0.3, 1.0, 2.0, 0.6])
START = np.array([2.0, 1.0, -3.0, 0.5, -1.0])
STEPS = 250


def gradient(θ, np=np):
    return np.tanh(θ - CENTRE) + CURVATURE * θ


def trajectory(record, start=START, steps=STEPS, **velocity):
    sign = -1 if getattr(record, "maximize", False) else 1  # Ascend where there is a maximum.
    return TWINS[type(record)](record, lambda θ: sign * gradient(θ), start, steps, **velocity)


# What converts into what. A record's steps are of one kind, and a kind has the conventions below.
CLASSICAL = {Torch, Keras, Optax, Sutskever}
MIXING = {QuasiHyperbolic, SynthesizedNesterov, PID}
CONVENTIONS = {
    "plain": set(TWINS),
    "heavy ball": CLASSICAL | MIXING | {Average},
    "nesterov": CLASSICAL | MIXING | {AcceleratedSGD},
    "aggregated": MIXING | {AcceleratedSGD, Aggregated2},
    "mixed": MIXING | {AcceleratedSGD},
}
EXAMPLES = {
    "plain": [
        Torch(0.1),
        Torch(0.1, dampening=1.0),  # PyTorch ignores it without momentum.
        Keras(0.1, nesterov=True),
        Optax(0.1),
        Sutskever(0.1, 0.0),
        Average(0.1, 0.0),
        QuasiHyperbolic(0.1, 0.9, 0.0),
        QuasiHyperbolic(0.1, 0.0, 0.6),
        AcceleratedSGD(0.1, 10.0, 2.0, 0.5),
        SynthesizedNesterov(0.1, 0.0, 0.0),
        SynthesizedNesterov(0.05, 0.5, 1.0),
        PID(0.0, 0.1, 0.0),
        Aggregated2(0.1, 0.0),
    ],
    "heavy ball": [
        Torch(0.05, 0.9),
        Keras(0.05, 0.9),
        Optax(0.05, 0.9),
        Sutskever(0.05, 0.9),
        Average(0.5, 0.9),
        QuasiHyperbolic(0.5, 0.9, 1.0),
        SynthesizedNesterov(0.05, 0.9, 0.0),
    ],
    "nesterov": [
        Torch(0.05, 0.9, nesterov=True),
        Keras(0.05, 0.9, True),
        Optax(0.05, 0.9, True),
        Sutskever(0.05, 0.9, True),
        QuasiHyperbolic(0.5, 0.9, 0.9),
        SynthesizedNesterov(0.05, 0.9, 0.9),
    ],
    "aggregated": [Aggregated2(0.1, 0.9), QuasiHyperbolic(0.5, 0.75, 0.8)],
    "mixed": [
        QuasiHyperbolic(0.4, 0.9, 0.7),
        QuasiHyperbolic(0.1, 0.5, -0.3),
        AcceleratedSGD(0.05),
        AcceleratedSGD(0.05, 40.0, 1.5, 0.5),  # c ξ < 1: ν < 0.
        SynthesizedNesterov(0.05, 0.8, 0.3),
        PID(-0.9, 0.4, 2.5),
        PID(0.1, 0.2, -0.3),  # ν < 0.
    ],
}
ALL = [(kind, record) for kind, records in EXAMPLES.items() for record in records]
DAMPENED = [
    Torch(0.05, 0.9, 0.5),
    Torch(0.05, 0.9, 0.9, weight_decay=0.1, maximize=True),
    Torch(0.05, 0.8, -0.4),
]
OWN = [
    *DAMPENED,
    Torch(0.05, 0.9, weight_decay=0.1, nesterov=True, maximize=True),
    Torch(0.05, weight_decay=0.1, maximize=True),
]

rates = st.floats(0.01, 0.1)
betas = st.floats(0.05, 0.95)
shares = st.floats(0.1, 0.9)
DRAWN = {
    "plain": st.builds(Torch, rates),
    "heavy ball": st.one_of(
        st.builds(Torch, rates, betas),
        st.builds(Average, rates, betas),
    ),
    "nesterov": st.one_of(
        st.builds(Torch, rates, betas, nesterov=st.just(True)),
        st.builds(lambda α, β: QuasiHyperbolic(α, β, β), rates, betas),
    ),
    "aggregated": st.builds(Aggregated2, rates, betas),
    "mixed": st.one_of(
        st.builds(QuasiHyperbolic, st.floats(0.05, 0.5), betas, shares),
        st.builds(AcceleratedSGD, rates, st.floats(20, 2000), st.floats(1.5, 20)),
        st.builds(lambda α, β, r: SynthesizedNesterov(α, β, r * β), rates, betas, shares),
        st.builds(lambda p, i, ν: PID(-p, i, p**2 / (i * ν)), st.floats(0.1, 1), shares, shares),
    ),
}


def assert_same(record, expected):
    assert type(record) is type(expected)
    np.testing.assert_allclose(
        dataclasses.astuple(record), dataclasses.astuple(expected), rtol=1e-12, atol=1e-13
    )


# Conversions.


@pytest.mark.parametrize("kind", list(CONVENTIONS)[1:])  # Plain descent has many names.
@given(data=st.data())
@settings(max_examples=30)
def test_every_ordered_pair_round_trips(kind, data):
    drawn = data.draw(DRAWN[kind])
    records = [convert(drawn, to) for to in CONVENTIONS[kind]]
    for one, other in itertools.permutations(records, 2):
        assert_same(convert(convert(one, type(other)), type(one)), one)
    assert_same(convert(convert(drawn, Canonical), type(drawn)), drawn)


@pytest.mark.parametrize("kind", CONVENTIONS)
@given(data=st.data())
@settings(max_examples=8)
def test_every_pair_follows_one_trajectory(kind, data):
    drawn = data.draw(DRAWN[kind])
    path, _ = trajectory(drawn)
    for to in CONVENTIONS[kind]:
        other, _ = trajectory(convert(drawn, to))
        np.testing.assert_allclose(other, path, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "record"), ALL, ids=repr)
def test_a_record_converts_into_the_conventions_that_have_its_steps_and_no_other(kind, record):
    path, _ = trajectory(record)
    for to in TWINS:
        if to in CONVENTIONS[kind]:
            other, _ = trajectory(convert(record, to))
            np.testing.assert_allclose(other, path, rtol=0, atol=1e-12, err_msg=str(to))
        else:
            with pytest.raises(ValueError, match=f"no {to.__name__} takes the steps Canonical"):
                convert(record, to)


@pytest.mark.parametrize("record", [record for _, record in ALL] + OWN, ids=repr)
@pytest.mark.usefixtures("x64")
def test_the_optimizer_follows_the_conventions_own_recurrence(record):
    tx, start = record.optimizer(), jnp.asarray(START)
    sign = -1 if getattr(record, "maximize", False) else 1

    def step(carry, _):
        θ, state = carry
        updates, state = tx.update(sign * gradient(θ, jnp), state, θ)
        return (θ + updates, state), θ + updates

    _, path = jax.jit(lambda carry: jax.lax.scan(step, carry, length=STEPS))(
        (start, tx.init(start))
    )
    np.testing.assert_allclose(path, trajectory(record)[0][1:], rtol=0, atol=1e-12)


def canonical_velocity(record, path):
    """The canonical s after all the gradients along a path."""
    steps, s = record.canonical(), 0.0
    for t, θ in enumerate(path[:-1]):  # Ascent of -f: two signs that cancel.
        g = gradient(θ) + steps.weight_decay * θ
        s = steps.beta * s + (steps.first_gain if t == 0 else 1) * g
    return s


@pytest.mark.parametrize("record", [record for kind, record in ALL if kind != "plain"] + OWN[:4])
def test_the_velocity_is_its_scale_times_the_canonical_one(record):
    path, velocity = trajectory(record)
    s = canonical_velocity(record, path)
    if isinstance(record, PID):
        with pytest.raises(ValueError, match=r"PID keeps .* no multiple of the velocity"):
            _ = record.velocity_scale
        np.testing.assert_allclose(velocity, s, rtol=0, atol=1e-11)  # As its docstring says.
    else:
        np.testing.assert_allclose(velocity, record.velocity_scale * s, rtol=0, atol=1e-12)


def test_the_base_iterate_is_a_multiple_of_the_velocity_away():
    α, μ, β1, β2 = 0.05, 0.9, 0.8, 0.3
    θ, v = START, 0.0
    ξ, before = START, START
    for _ in range(40):
        v = μ * v - α * gradient(θ + μ * v)
        θ = θ + v
        step = β1 * (ξ - before) - α * gradient(ξ + β2 * (ξ - before))
        before, ξ = ξ, ξ + step
    for base, record, shift in (
        (θ, Sutskever(α, μ, nesterov=True), α * μ),
        (ξ, SynthesizedNesterov(α, β1, β2), α * β2),
    ):
        path, _ = trajectory(record, steps=40)
        away = path[-1] + shift * canonical_velocity(record, path)
        np.testing.assert_allclose(away, base, rtol=0, atol=1e-13)


# PyTorch's own: dampening, decay, ascent.


def test_torch_keeps_decay_ascent_and_dampening_through_the_canonical_form():
    for record in OWN:
        assert_same(convert(record, Canonical), record.canonical())
        assert_same(convert(record.canonical(), Torch), record)
    steps = Torch(0.1, 0.9, 0.75, weight_decay=0.01, maximize=True).canonical()
    assert steps == Canonical(0.0, 0.025, 0.9, 0.01, True, 4.0)


@given(α=rates, μ=betas, τ=st.one_of(st.floats(-3, 0.99), st.floats(1.01, 3)))
def test_dampening_round_trips(α, μ, τ):
    back = Torch.from_canonical(Torch(α, μ, τ).canonical())
    np.testing.assert_allclose([back.lr, 1 - back.dampening], [α, 1 - τ], rtol=1e-12)


@pytest.mark.parametrize("to", [Keras, Optax, Sutskever, Average, QuasiHyperbolic])
@pytest.mark.parametrize("first", [1, 7])
def test_a_dampened_run_goes_on_from_its_buffer_in_any_convention(to, first):
    record = Torch(0.05, 0.9, 0.5)
    with pytest.raises(ValueError, match=r"no place for first_gain=2\.0, which dataclasses\.repl"):
        convert(record, to)
    path, _ = trajectory(record)
    begun, buffer = trajectory(record, steps=first)
    other = to.from_canonical(dataclasses.replace(record.canonical(), first_gain=1.0))
    velocity = buffer * (other.velocity_scale / record.velocity_scale)
    start = begun[-1]
    rest, _ = trajectory(other, start=start, steps=STEPS - first, v=velocity)
    np.testing.assert_allclose(rest, path[first:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("to", [to for to in TWINS if to is not Torch])
def test_decay_and_ascent_are_refused_where_there_is_no_place_for_them(to):
    with pytest.raises(ValueError, match=r"no place for weight_decay=0\.1, which dataclasses\.re"):
        convert(Torch(0.1, weight_decay=0.1), to)
    with pytest.raises(ValueError, match=r"maximize=True, which .*maximize=False\) leaves out"):
        convert(Torch(0.1, maximize=True), to)
    steps = Torch(0.1, weight_decay=0.1, maximize=True).canonical()
    to.from_canonical(dataclasses.replace(steps, weight_decay=0.0, maximize=False))


# Against qhoptim.common.param_conv of qhoptim 1.1.0: (α, ν, β). Its robust momentum with
# (L, κ, ρ) has α = κ (1 - ρ)² (1 + ρ) / L, β₁ = κ ρ³ / (κ - 1) and
# β₂ = ρ³ / ((κ - 1) (1 - ρ)² (1 + ρ)); the triple momentum is the one with ρ = 1 - 1/√κ.


def robust(L, κ, ρ):
    shrink = (1 - ρ) ** 2 * (1 + ρ)
    return SynthesizedNesterov(κ * shrink / L, κ * ρ**3 / (κ - 1), ρ**3 / ((κ - 1) * shrink))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            AcceleratedSGD(0.1, 1000.0, 10.0, 0.7),
            (0.4529411764705882, 0.7792207792207793, 0.9881827209533267),
        ),
        (AcceleratedSGD(0.02, 50.0, 3.0, 0.5), (0.02666666666666667, 0.25, 0.9563106796116505)),
        (
            AcceleratedSGD(0.05, 100.0, 1.2, 0.7),
            (0.045294117647058825, -0.10389610389610392, 0.9858389527965093),
        ),
        (PID(-0.9, 0.4, 2.5), (0.4, 0.81, 0.7352941176470589)),
        (PID(-3.0, 1.0, 30.0), (1.0, 0.3, 0.9090909090909091)),
        (SynthesizedNesterov(0.1, 0.9, 0.9), (1.0000000000000002, 0.9, 0.9)),
        (SynthesizedNesterov(0.05, 0.8, 0.3), (0.25000000000000006, 0.925, 0.8)),
        (robust(10.0, 100.0, 0.9), (0.7206896551724136, 0.8612440191387559, 0.7363636363636364)),
        (robust(2.0, 25.0, 0.9), (0.9870129870129866, 0.49342105263157876, 0.759375)),
    ],
    ids=repr,
)
def test_conversion_to_quasi_hyperbolic_agrees_with_qhoptim(record, expected):
    α, ν, β = expected
    assert_same(convert(record, QuasiHyperbolic), QuasiHyperbolic(α, β, ν))


# Singular cases.


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (Torch(0.1, 0.9, 1.0), "dampening = 1 has no canonical form: the buffer holds the first"),
        (SynthesizedNesterov(0.1, 0.0, 0.5), r"beta1 = 0 with beta2 = 0\.5 has no canonical form"),
        (PID(-1.0, 0.1, 0.0), r"opposite signs.*got kp=-1\.0 and kd=0\.0"),  # β = 0.
        (PID(0.0, 0.1, 1.0), "opposite signs"),  # β = 1.
        (PID(1.0, 0.1, 1.0), "opposite signs"),  # A division by 0.
        (PID(1.0, 0.1, 2.0), "opposite signs"),  # β = 2.
        (PID(-2.0, 0.1, -1.0), "opposite signs"),  # β = -1.
        (PID(-1e-200, 0.1, -1e-200), "opposite signs"),  # Their product underflows.
        (PID(-1e200, 0.1, 1e-200), "gradient_step must be in"),  # It overflows.
    ],
    ids=repr,
)
def test_a_record_without_a_canonical_form_says_why(record, sentence):
    for act in (record.canonical, record.optimizer, lambda: convert(record, QuasiHyperbolic)):
        with pytest.raises(ValueError, match=sentence):
            act()


def test_dampening_1_has_no_velocity_to_scale():
    with pytest.raises(ValueError, match="dampening = 1"):
        _ = Torch(0.1, 0.9, 1.0).velocity_scale


@pytest.mark.parametrize(
    ("to", "steps", "sentence"),
    [
        (Torch, Canonical(0.1, 0.2, 0.9), r"gradient_step = 0 \(heavy ball\) or velocity_step"),
        (Keras, Canonical(0.1, 0.2, 0.9), r"gradient_step = 0 \(heavy ball\) or velocity_step"),
        (Torch, Canonical(0.1, 0.09, 0.9, first_gain=2.0), "PyTorch dampens heavy ball alone"),
        (Torch, Canonical(0.1, 0.2, 0.0, first_gain=2.0), "PyTorch dampens heavy ball alone"),
        (Torch, Canonical(0.0, -0.1, 0.9), r"lr must be in \(0, inf\), got -0\.1"),
        (Keras, Canonical(0.0, 0.0, 0.9), "effective learning rate, .* must be positive, got 0"),
        (Average, Canonical(0.1, 0.1, 0.9), "it needs gradient_step = 0"),
        (Average, Canonical(0.0, -0.1, 0.9), r"learning_rate must be in \(0, inf\), got -1"),
        (QuasiHyperbolic, Canonical(1.0, -0.5, 0.5), "must be positive, got 0"),
        (SynthesizedNesterov, Canonical(1.0, -0.5, 0.5), "must be positive, got 0"),
        (PID, Canonical(1.0, -1.0, 0.5), r"must be positive, got -1\.0"),
        (AcceleratedSGD, Canonical(0.0, 0.1, 0.9), r"gradient_step > 0 \(so no heavy ball\)"),
        (AcceleratedSGD, QuasiHyperbolic(1.0, 0.9, 1.0).canonical(), "gradient_step > 0"),
        (AcceleratedSGD, Canonical(-0.1, 0.1, 0.9), "gradient_step > 0"),
        (AcceleratedSGD, Canonical(1.0, -0.35, 0.5), r"\(1 \+ c\) \* velocity_step .* c=0\.7"),
        (Aggregated2, Canonical(0.1, 0.2, 0.9), r"velocity_step, that is nu = 1 / \(2 - beta\)"),
        (QuasiHyperbolic, Canonical(1.5e308, 1.5e308, 0.5), "learning_rate must be in"),
    ],
)
def test_a_convention_without_the_steps_says_what_it_needs(to, steps, sentence):
    with pytest.raises(ValueError, match=rf"no {to.__name__} takes the steps .*: .*{sentence}"):
        to.from_canonical(steps)


@given(c=st.floats(0.05, 1), record=DRAWN["mixed"])
def test_accelerated_sgd_has_the_same_steps_for_every_c(c, record):
    steps = record.canonical()
    found = AcceleratedSGD.from_canonical(steps, c=c)
    assert found.c == c
    assert_same(found.canonical(), steps)
    assert_same(AcceleratedSGD.from_canonical(found.canonical(), c=c), found)


@given(c=st.floats(0.01, 1), α=rates)
def test_accelerated_sgd_reaches_beta_0_for_every_c(c, α):
    found = AcceleratedSGD.from_canonical(Canonical(α, 0.0, 0.0), c=c)
    np.testing.assert_allclose(
        dataclasses.astuple(found.canonical())[:3], (α, 0, 0), rtol=1e-12, atol=1e-15
    )


# Construction.


def test_fields_are_python_floats_and_frozen():
    given = (np.float32(0.5), jnp.float32(0.25), np.array(1), 0)
    record = Torch(*given, nesterov=np.False_)
    assert record == Torch(0.5, 0.25, 1.0, 0.0)
    kinds = [type(value) for value in dataclasses.astuple(record)]
    assert kinds == [float, float, float, float, bool, bool]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.lr = 0.2
    for cls in (*TWINS, Canonical):
        assert cls.__name__ in conventions.__all__


POSITIVE = {"lr", "learning_rate", "ki", "kappa", "xi"}
SHARES = {"momentum", "beta", "beta1"}


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, field.name) for cls in (*TWINS, Canonical) for field in dataclasses.fields(cls)],
)
def test_every_field_is_checked_and_named(cls, name):
    record = next((r for _, r in ALL if type(r) is cls), Canonical(0.0, 0.1, 0.9))
    if name in ("nesterov", "maximize"):
        for value in (1, "yes", None, 0.0):
            with pytest.raises(TypeError, match=f"{name} must be True or False, got"):
                dataclasses.replace(record, **{name: value})
        return
    for value in (True, "0.9", None, 1j, [[1.0], [2.0, 3.0]]):
        with pytest.raises(TypeError, match=f"{name} must be real numbers in .*, got "):
            dataclasses.replace(record, **{name: value})
    with pytest.raises(ValueError, match=rf"{name} must be one number in .*, got shape \(2,\)"):
        dataclasses.replace(record, **{name: [0.5, 0.6]})
    outside = {np.nan, np.inf, -np.inf}
    outside |= {0.0, -0.1} if name in POSITIVE else set()
    outside |= {1.0, -0.1} if name in SHARES else set()
    outside |= {-0.1} if name == "weight_decay" else set()
    outside |= {0.0, 1.1} if name == "c" else set()
    for value in outside:
        with pytest.raises(ValueError, match=rf"{name} must be in [\[(].*, got {value}"):
            dataclasses.replace(record, **{name: value})
    with pytest.raises(TypeError, match=f"{name} must be concrete: .* outside of jit and vmap"):
        jax.jit(lambda value: dataclasses.replace(record, **{name: value}) and value)(0.5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Torch(0.1, nesterov=True), r"nesterov needs momentum > 0 .* momentum=0\.0"),
        (lambda: Torch(0.1, 0.9, 0.1, nesterov=True), r"dampening = 0, .*dampening=0\.1"),
        (
            lambda: AcceleratedSGD(0.1, 4.8, 10.0),
            r"kappa must be at least c² xi = 4\.\d+, got",
        ),
        (lambda: Canonical(0.1, 0.1, 0.9, first_gain=0.0), "first_gain must not be 0"),
        (lambda: AcceleratedSGD.from_canonical(Canonical(1, 1, 0.5), c=0), r"^c must be in \(0, 1"),
    ],
)
def test_combinations_that_are_no_method_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_convert_names_what_is_no_record():
    with pytest.raises(TypeError, match=r"record must be a record such as Torch\(lr=0\.1\), got 3"):
        convert(3, Torch)
    with pytest.raises(TypeError, match="to must be a class of records such as QuasiHyperbolic"):
        convert(Torch(0.1), Torch(0.1))
    with pytest.raises(TypeError, match=r"canonical must be a Canonical, got Torch.*see convert"):
        Keras.from_canonical(Torch(0.1))
