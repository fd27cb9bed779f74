"""Each convention against its own recurrence, the other conventions and another library."""

import dataclasses
import functools
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
from tests.conventions.records import (
    ALL,
    CONVENTIONS,
    DRAWN,
    START,
    STEPS,
    TORCH_ONLY,
    TWINS,
    betas,
    gradient,
    rates,
    run,
    trajectory,
)


def assert_same(*pairs):
    """Assert that the two records of each pair are the same to 12 digits."""
    for record, expected in pairs:
        assert type(record) is type(expected)
    values, expected = (
        [value for record in records for value in vars(record).values()]
        for records in zip(*pairs, strict=True)
    )
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)


# Conversions.


@pytest.mark.parametrize("kind", list(CONVENTIONS)[1:])  # Plain descent has many names.
@given(data=st.data())
@settings(max_examples=30)
def test_every_ordered_pair_round_trips(kind, data):
    drawn = data.draw(DRAWN[kind])
    records = [convert(drawn, to) for to in CONVENTIONS[kind]]
    pairs = [
        (convert(convert(one, type(other)), type(one)), one)
        for one, other in itertools.permutations(records, 2)
    ]
    assert_same(*pairs, (convert(convert(drawn, Canonical), type(drawn)), drawn))


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
def test_a_record_converts_to_the_conventions_with_its_steps_and_to_no_others(kind, record):
    path, _ = trajectory(record)
    for to in TWINS:
        if to in CONVENTIONS[kind]:
            other, _ = trajectory(convert(record, to))
            np.testing.assert_allclose(other, path, rtol=0, atol=1e-12, err_msg=str(to))
        else:
            with pytest.raises(ValueError, match=f"{to.__name__} cannot express the steps Can"):
                convert(record, to)


@functools.cache
def optimizer_paths():
    """Return θ_1 .. θ_T of the optimizer of each record, all compiled as one program."""
    records = [record for _, record in ALL] + TORCH_ONLY
    with jax.enable_x64(True):
        optimizers = [(record, record.optimizer()) for record in records]
        start = jnp.asarray(START)

        def step(carry, _):
            after = []
            for (record, tx), (θ, state) in zip(optimizers, carry, strict=True):
                sign = -1 if getattr(record, "maximize", False) else 1
                updates, state = tx.update(sign * gradient(θ, jnp), state, θ)
                after.append((θ + updates, state))
            return after, [θ for θ, _ in after]

        scan = jax.jit(lambda carry: jax.lax.scan(step, carry, length=STEPS))
        _, paths = scan([(start, tx.init(start)) for _, tx in optimizers])
        return dict(zip(records, map(np.asarray, paths), strict=True))


@pytest.mark.parametrize("record", [record for _, record in ALL] + TORCH_ONLY, ids=repr)
def test_the_optimizer_follows_the_recurrence_of_its_convention(record):
    path = optimizer_paths()[record]
    np.testing.assert_allclose(path, trajectory(record)[0][1:], rtol=0, atol=1e-12)


def canonical_velocity(record, path):
    """Return the canonical s after all gradients along a path."""
    steps, s = record.canonical(), 0.0
    for t, θ in enumerate(path[:-1]):  # For ascent of -f the two signs cancel.
        g = gradient(θ) + steps.weight_decay * θ
        s = steps.beta * s + (steps.first_gain if t == 0 else 1) * g
    return s


@pytest.mark.parametrize(
    "record", [record for kind, record in ALL if kind != "plain"] + TORCH_ONLY[:4]
)
def test_the_velocity_is_its_scale_times_the_canonical_velocity(record):
    path, velocity = trajectory(record)
    s = canonical_velocity(record, path)
    if isinstance(record, PID):
        with pytest.raises(ValueError, match=r"PID keeps .* not a multiple of the velocity"):
            _ = record.velocity_scale
        np.testing.assert_allclose(velocity, s, rtol=0, atol=1e-11)  # By its docstring's formula.
    else:
        np.testing.assert_allclose(velocity, record.velocity_scale * s, rtol=0, atol=1e-12)


def test_the_base_iterate_differs_from_the_parameters_by_a_multiple_of_the_velocity():
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
        expected = path[-1] + shift * canonical_velocity(record, path)
        np.testing.assert_allclose(expected, base, rtol=0, atol=1e-13)


# What only PyTorch's record can express: dampening, decay, ascent.


def test_decay_ascent_and_dampening_of_torch_survive_the_canonical_form():
    for record in TORCH_ONLY:
        assert_same((convert(record, Canonical), record.canonical()))
        assert_same((convert(record.canonical(), Torch), record))
    steps = Torch(0.1, 0.9, 0.75, weight_decay=0.01, maximize=True).canonical()
    assert steps == Canonical(0.0, 0.025, 0.9, 0.01, True, 4.0)


@given(α=rates, μ=betas, τ=st.one_of(st.floats(-3, 0.99), st.floats(1.01, 3)))
def test_dampening_round_trips(α, μ, τ):
    back = Torch.from_canonical(Torch(α, μ, τ).canonical())
    np.testing.assert_allclose([back.lr, 1 - back.dampening], [α, 1 - τ], rtol=1e-12)


@pytest.mark.parametrize("to", [Keras, Optax, Sutskever, Average, QuasiHyperbolic])
@pytest.mark.parametrize("first", [1, 7])
def test_a_dampened_run_continues_from_its_buffer_in_any_convention(to, first):
    record = Torch(0.05, 0.9, 0.5)
    with pytest.raises(ValueError, match=r"cannot express first_gain=2\.0; .* dataclasses\.repl"):
        convert(record, to)
    path, _ = trajectory(record)
    begun, buffer = trajectory(record, steps=first)
    other = to.from_canonical(dataclasses.replace(record.canonical(), first_gain=1.0))
    velocity = buffer * (other.velocity_scale / record.velocity_scale)
    rest, _ = run(other, begun[-1], STEPS - first, v=velocity)
    np.testing.assert_allclose(rest, path[first:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("to", [to for to in TWINS if to is not Torch])
def test_decay_and_ascent_are_refused_by_conventions_without_them(to):
    sentence = rf"{to.__name__} cannot express weight_decay=0\.1; to drop it, use dataclasses\.repl"
    with pytest.raises(ValueError, match=sentence):
        convert(Torch(0.1, weight_decay=0.1), to)
    with pytest.raises(ValueError, match=r"cannot express maximize=True; .*maximize=False\)"):
        convert(Torch(0.1, maximize=True), to)
    steps = Torch(0.1, weight_decay=0.1, maximize=True).canonical()
    to.from_canonical(dataclasses.replace(steps, weight_decay=0.0, maximize=False))


# Against qhoptim.common.param_conv of qhoptim 1.1.0: (α, ν, β). Its robust momentum with
# (L, κ, ρ) has α = κ (1 - ρ)² (1 + ρ) / L, β₁ = κ ρ³ / (κ - 1) and
# β₂ = ρ³ / ((κ - 1) (1 - ρ)² (1 + ρ)); the triple momentum is the one with ρ = 1 - 1/√κ.


def robust_momentum(L, κ, ρ):
    slack = (1 - ρ) ** 2 * (1 + ρ)
    return SynthesizedNesterov(κ * slack / L, κ * ρ**3 / (κ - 1), ρ**3 / ((κ - 1) * slack))


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
        (
            robust_momentum(10.0, 100.0, 0.9),
            (0.7206896551724136, 0.8612440191387559, 0.7363636363636364),
        ),
        (robust_momentum(2.0, 25.0, 0.9), (0.9870129870129866, 0.49342105263157876, 0.759375)),
    ],
    ids=repr,
)
def test_conversion_to_quasi_hyperbolic_agrees_with_qhoptim(record, expected):
    α, ν, β = expected
    assert_same((convert(record, QuasiHyperbolic), QuasiHyperbolic(α, β, ν)))


# Singular cases.


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (Torch(0.1, 0.9, 1.0), "dampening = 1 has no canonical form: only the first gradient"),
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
def test_a_record_without_a_canonical_form_gives_the_reason(record, sentence):
    for act in (record.canonical, record.optimizer, lambda: convert(record, QuasiHyperbolic)):
        with pytest.raises(ValueError, match=sentence):
            act()


def test_dampening_1_has_no_velocity_scale():
    with pytest.raises(ValueError, match="dampening = 1"):
        _ = Torch(0.1, 0.9, 1.0).velocity_scale


@pytest.mark.parametrize(
    ("to", "steps", "sentence"),
    [
        (Torch, Canonical(0.1, 0.2, 0.9), r"gradient_step = 0 \(heavy ball\) or velocity_step"),
        (Keras, Canonical(0.1, 0.2, 0.9), r"gradient_step = 0 \(heavy ball\) or velocity_step"),
        (Torch, Canonical(0.1, 0.09, 0.9, first_gain=2.0), "PyTorch dampens only heavy ball"),
        (Torch, Canonical(0.1, 0.2, 0.0, first_gain=2.0), "PyTorch dampens only heavy ball"),
        (Torch, Canonical(0.0, -0.1, 0.9), r"lr must be in \(0, inf\), got -0\.1"),
        (Keras, Canonical(0.0, 0.0, 0.9), "effective learning rate, .* must be positive, got 0"),
        (Average, Canonical(0.1, 0.1, 0.9), "the steps must have gradient_step = 0"),
        (Average, Canonical(0.0, -0.1, 0.9), r"learning_rate must be in \(0, inf\), got -1"),
        (QuasiHyperbolic, Canonical(1.0, -0.5, 0.5), "must be positive, got 0"),
        (SynthesizedNesterov, Canonical(1.0, -0.5, 0.5), "must be positive, got 0"),
        (PID, Canonical(1.0, -1.0, 0.5), r"must be positive, got -1\.0"),
        (AcceleratedSGD, Canonical(0.0, 0.1, 0.9), r"gradient_step > 0 \(so no heavy ball\)"),
        (AcceleratedSGD, QuasiHyperbolic(1.0, 0.9, 1.0).canonical(), "gradient_step > 0"),
        (AcceleratedSGD, Canonical(-0.1, 0.1, 0.9), "gradient_step > 0"),
        (AcceleratedSGD, Canonical(1.0, -0.35, 0.5), r"\(1 \+ c\) \* velocity_step .* c=0\.7"),
        (Aggregated2, Canonical(0.1, 0.2, 0.9), r"velocity_step, so nu = 1 / \(2 - beta\)"),
        (QuasiHyperbolic, Canonical(1.5e308, 1.5e308, 0.5), "learning_rate must be in"),
    ],
)
def test_a_convention_without_the_steps_names_the_condition(to, steps, sentence):
    with pytest.raises(ValueError, match=rf"{to.__name__} cannot express .*: .*{sentence}"):
        to.from_canonical(steps)


@given(c=st.floats(0.05, 1), record=DRAWN["mixed"])
def test_accelerated_sgd_has_the_same_steps_for_every_c(c, record):
    steps = record.canonical()
    found = AcceleratedSGD.from_canonical(steps, c=c)
    assert found.c == c
    assert_same((found.canonical(), steps))
    assert_same((AcceleratedSGD.from_canonical(found.canonical(), c=c), found))


@given(c=st.floats(0.01, 1), α=rates)
def test_accelerated_sgd_reaches_beta_0_for_every_c(c, α):
    found = AcceleratedSGD.from_canonical(Canonical(α, 0.0, 0.0), c=c)
    np.testing.assert_allclose(
        dataclasses.astuple(found.canonical())[:3], (α, 0, 0), rtol=1e-12, atol=1e-15
    )


# Construction.


def test_fields_are_frozen_python_floats_and_bools():
    given = (np.float32(0.5), jnp.float32(0.25), np.array(1), 0)
    record = Torch(*given, nesterov=np.False_)
    assert record == Torch(0.5, 0.25, 1.0, 0.0)
    kinds = [type(value) for value in dataclasses.astuple(record)]
    assert kinds == [float, float, float, float, bool, bool]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.lr = 0.2
    for cls in (*TWINS, Canonical):
        assert getattr(conventions, cls.__name__) is cls


POSITIVE = {"lr", "learning_rate", "ki", "kappa", "xi"}
SHARES = {"momentum", "beta", "beta1"}


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, field.name) for cls in (*TWINS, Canonical) for field in dataclasses.fields(cls)],
)
def test_every_field_is_checked_and_named_in_the_message(cls, name):
    record = next((r for _, r in ALL if type(r) is cls), Canonical(0.0, 0.1, 0.9))
    if name in ("nesterov", "maximize"):
        for value in (1, "yes", None, 0.0):
            with pytest.raises(TypeError, match=f"{name} must be True or False, got"):
                dataclasses.replace(record, **{name: value})
        return
    for value in (True, "0.9", None, 1j, [[1.0], [2.0, 3.0]]):
        with pytest.raises(TypeError, match=f"{name} must be a real number in .*, got "):
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
def test_combinations_that_are_not_a_method_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_convert_refuses_what_is_not_a_record():
    with pytest.raises(TypeError, match=r"record must be a record such as Torch\(lr=0\.1\), got 3"):
        convert(3, Torch)
    with pytest.raises(TypeError, match="to must be a class of records such as QuasiHyperbolic"):
        convert(Torch(0.1), Torch(0.1))
    with pytest.raises(TypeError, match=r"canonical must be a Canonical, which .* got Torch"):
        Keras.from_canonical(Torch(0.1))
