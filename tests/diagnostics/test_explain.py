"""Each rule of `explain` finds what it is for in a run, and nothing in runs that are well."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import momentax
from momentax import explain, theory
from momentax._wrappers._readings import READINGS
from momentax.diagnostics import Finding, Measurements
from momentax.diagnostics._rules import RULES

# Quadratics, all runs by one compiled program.

STEPS, SIZE = 1200, 20
SPREAD = np.geomspace(0.1, 1, SIZE)
STEEP = np.geomspace(0.1, 10, SIZE)
RAVINE = np.geomspace(1, 100, SIZE)
NEVER, FAR = STEPS + 1, 1e30

DEFAULTS = {
    "alpha": 0.1,
    "beta": 0.9,
    "curvatures": SPREAD,
    "noise": 0.0,
    "start": 1.0,
    "limit": FAR,  # Of the norm of the gradient.
    "shift_at": NEVER,  # From where on the minimum is at shift_to and not at 0.
    "shift_to": 0.0,
    "nan_at": NEVER,
    "seed": 0,
}


def heavy_ball(alpha, beta, limit):
    clip = optax.clip_by_global_norm(limit)
    return optax.chain(clip, momentax.sgd(alpha, momentax.heavy_ball(beta)))


@jax.jit
def _run(s):
    tx = heavy_ball(s["alpha"], s["beta"], s["limit"])
    tx = momentax.monitor(tx, history=STEPS, curvature=True)

    def step(carry, t):
        params, state = carry
        distance = params["w"] - jnp.where(t < s["shift_at"], 0.0, s["shift_to"])
        gradient = s["curvatures"] * distance
        loss = jnp.sum(gradient * distance) / 2
        key = jax.random.fold_in(jax.random.key(s["seed"]), t)
        gradient = gradient + s["noise"] * jax.random.normal(key, (SIZE,))
        gradient = jnp.where(t == s["nan_at"], jnp.nan, gradient)
        updates, state = tx.update({"w": gradient}, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    params = {"w": s["start"] * jnp.ones(SIZE)}
    (_, state), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))
    return state


@cache
def _run_once(settings):
    values = DEFAULTS | dict(settings)
    values = {
        name: np.asarray(value, np.int32 if isinstance(value, int) else np.float32)
        for name, value in values.items()
    }
    return momentax.measurements(_run(values))


def quadratic(steps=STEPS, **settings):
    """Return the first readings of a run of heavy ball on a quadratic."""
    settings = {k: tuple(v) if np.ndim(v) else v for k, v in settings.items()}
    measured = _run_once(tuple(settings.items()))
    history = {key: values[:steps] for key, values in measured.history.items()}
    return Measurements({key: v[-1] for key, v in history.items()}, history, range(steps))


def names(findings):
    return [finding.rule for finding in findings]


def find(rule, measured, tx=None):
    """Return the only finding of a rule."""
    (found,) = [each for each in explain(measured, tx) if each.rule == rule]
    return found


TUNED = theory.optimal_heavy_ball(1, 100)
# The rule, a run that it finds, and one that it must not find.
RUNS = {
    "exploding": (
        "exploding_velocity",
        {"alpha": 0.45, "curvatures": STEEP, "steps": 200},
        {"alpha": 0.19, "curvatures": STEEP, "steps": 200},
    ),
    "just beyond the edge": (
        "exploding_velocity",
        {"alpha": 0.39, "curvatures": STEEP, "steps": 200},
        {"alpha": 0.3, "curvatures": STEEP, "steps": 200},
    ),
    "edge": (
        "edge_of_stability",
        {"alpha": 0.97 * 0.38, "curvatures": STEEP, "steps": 200},
        {"alpha": 0.19, "curvatures": STEEP, "steps": 200},
    ),
    "overshooting": (
        "oscillation",
        {"alpha": 0.97 * 0.38, "curvatures": STEEP, "steps": 200},
        {"alpha": TUNED.learning_rate, "beta": TUNED.beta, "curvatures": RAVINE, "steps": 100},
    ),
    "underdamped": (
        "oscillation",
        {"alpha": 0.01, "beta": 0.99, "curvatures": [0.1, 1] * 10, "steps": 300},
        {"alpha": 0.01, "beta": 0.5, "curvatures": [0.1, 1] * 10, "steps": 300},
    ),
    "underdamped in many directions": (
        "oscillation",
        {"alpha": 0.05, "beta": 0.99, "curvatures": np.geomspace(0.01, 1, 20), "steps": 300},
        {"alpha": 0.05, "beta": 0.8, "curvatures": np.geomspace(0.01, 1, 20), "steps": 300},
    ),
    "beta too large": (
        "beta_too_large",
        {"beta": 0.99, "noise": 1.0, "start": 5.0},
        {"beta": 0.9, "noise": 1.0, "start": 5.0},
    ),
    "beta too small": (
        "beta_too_small",
        {"alpha": 0.01, "beta": 0.3, "curvatures": [1, 100] * 10, "steps": 600},
        {"alpha": 0.01, "beta": 0.81, "curvatures": [1, 100] * 10, "steps": 600},
    ),
    "beta of 0": (
        "beta_too_small",
        {"alpha": 0.01, "beta": 0.0, "curvatures": [1, 100] * 10, "steps": 600},
        {"alpha": 0.01, "beta": 0.0, "noise": 1.0, "steps": 600},
    ),
    "residual velocity": (
        "residual_velocity",
        {"beta": 0.9, "noise": 1.0, "start": 5.0},
        {"alpha": 0.001, "beta": 0.9, "noise": 0.1, "start": 5.0, "steps": 600},
    ),
    "stale velocity": (
        "stale_velocity",
        {"alpha": 0.01, "beta": 0.99, "noise": 0.1, "start": 10.0, "steps": 200}
        | {"shift_at": 20, "shift_to": 12.0},
        {"alpha": 0.01, "beta": 0.99, "noise": 0.1, "start": 10.0, "steps": 200},
    ),
    "clipping": (
        "clipping_always_active",
        {"noise": 1.0, "limit": 0.5, "steps": 200},
        {"noise": 1.0, "limit": 4.5, "steps": 200},
    ),
    "NaN": ("nonfinite_gradients", {"nan_at": 50, "steps": 100}, {"steps": 100}),
    "long updates": (
        "update_ratio_too_large",
        {"beta": 0.99, "noise": 1.0, "start": 5.0, "alpha": 0.2},
        {"beta": 0.9, "noise": 0.1, "start": 5.0, "alpha": 0.05, "steps": 100},
    ),
    "short updates": (
        "update_ratio_too_small",
        {"alpha": 1e-7, "noise": 0.1, "steps": 100},
        {"alpha": 1e-2, "noise": 0.1, "steps": 100},
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_rule_finds_its_run_and_no_other(case):
    rule, ill, well = RUNS[case]
    for seed in (0, 1, 2):
        assert rule in names(explain(quadratic(seed=seed, **ill))), seed
        assert rule not in names(explain(quadratic(seed=seed, **well))), seed


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_a_tuned_quadratic_needs_no_advice(beta):
    measured = quadratic(alpha=0.4, beta=beta, curvatures=np.geomspace(0.5, 1, SIZE), steps=60)
    assert set(names(explain(measured))) <= {"update_ratio_too_large"}


# The numbers of remedies.


def number_after(word, text):
    return float(re.search(rf"{word} ([0-9.e+-]*[0-9])", text)[1])


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("excess", [1.05, 1.5])
def test_the_learning_rate_against_divergence_is_half_that_of_the_edge(beta, excess):
    edge = 2 * (1 + beta) / 10
    run = quadratic(alpha=excess * edge, beta=beta, curvatures=STEEP, steps=100)
    for without in ((), ("curvature", "edge")):  # Then it follows from the growth alone.
        history = {key: values for key, values in run.history.items() if key not in without}
        tx = heavy_ball(excess * edge, beta, FAR)
        found = find("exploding_velocity", Measurements({}, history, run.counts), tx)
        assert number_after("rate from", found.remedy) == pytest.approx(excess * edge, rel=1e-2)
        assert number_after("to", found.remedy) == pytest.approx(edge / 2, rel=0.06)


def test_the_better_beta_is_that_of_critical_damping():
    found = find("beta_too_small", quadratic(**RUNS["beta too small"][1]))
    assert number_after("to", found.remedy) == pytest.approx((1 - 0.01**0.5) ** 2, abs=0.01)


def test_the_better_beta_lowers_the_floor_of_the_noise():
    run = RUNS["beta too large"][1]
    found = find("beta_too_large", quadratic(**run), heavy_ball(0.1, 0.99, FAR))
    assert "Lower β from 0.99 to 0.9," in found.remedy
    assert "learning rate from 0.1 to 0.01" in found.remedy
    better = quadratic(**(run | {"beta": number_after("to", found.remedy)}))
    floors = [np.median(each.history["loss"][600:]) for each in (quadratic(**run), better)]
    assert floors[1] < 0.2 * floors[0]  # α / (1 - β) falls to a tenth.


def test_the_limit_against_clipping_is_not_always_active():
    run = RUNS["clipping"][1]
    remedy = find("clipping_always_active", quadratic(**run)).remedy
    better = quadratic(**(run | {"limit": number_after("to", remedy)}))
    assert "clipping_always_active" not in names(explain(better))


def test_without_tx_the_learning_rate_is_scaled_and_beta_comes_from_the_age():
    run = quadratic(**RUNS["beta too large"][1])
    remedy = find("beta_too_large", run).remedy
    assert "Lower β from 0.99 to 0.9," in remedy
    assert "multiply the learning rate by 0.1" in remedy


def test_the_learning_rate_of_a_schedule_is_that_of_the_last_reading():
    tx = momentax.sgd(optax.linear_schedule(1.0, 0.0, 1000), momentax.heavy_ball(0.99))
    run = quadratic(**(RUNS["beta too large"][1] | {"steps": 1000}))
    assert "learning rate from 0.001 to 0.0001" in find("beta_too_large", run, tx).remedy


# Networks, with readings of each leaf.

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = jnp.asarray(PIXELS / 16, jnp.float32), jnp.asarray(LABELS)


def network(key, hidden=32):
    keys = jax.random.split(key)
    return {
        "hidden": {
            "kernel": jax.random.normal(keys[0], (64, hidden)) / 6,
            "bias": jnp.zeros(hidden),
        },
        "out": {"kernel": jax.random.normal(keys[1], (hidden, 10)) / 6, "bias": jnp.zeros(10)},
    }


def cross_entropy(params, images, labels):
    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"][None]

    x = dense(jax.nn.relu(dense(images, params["hidden"])), params["out"])
    return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()


def train(tx, loss, params, batches):
    """Train on one batch per step and return the state."""

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), batches)[0][1]


METHODS = {
    "heavy_ball": momentax.sgd(0.05, momentax.heavy_ball(0.9)),
    "nesterov": momentax.sgd(0.05, momentax.nesterov(0.9)),
    "adam": optax.adam(3e-3),
}


@pytest.mark.parametrize("method", METHODS)
def test_healthy_networks_need_no_advice(method):
    tx = momentax.monitor(METHODS[method], history=150, curvature=method == "heavy_ball")

    def state(seed):
        key = jax.random.key(seed)
        rows = jax.random.randint(key, (150, 32), 0, len(PIXELS))
        return train(tx, cross_entropy, network(key), (PIXELS[rows], LABELS[rows]))

    fast = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    state = jax.jit(state, compiler_options=fast)  # Compiling takes longer than running.
    for seed in range(20):
        with jax.numpy_dtype_promotion("standard"):  # Optax's Adam needs it.
            measured = momentax.measurements(state(seed))
        assert measured.history["loss"][-20:].mean() < 0.8
        assert explain(measured, METHODS[method]) == []


@jax.jit
def _train_with_table(params, batches, scale):
    """Train the network with a weight of its loss, beside a table of which few rows are used."""

    def loss(params, images, labels, ids):
        words = jnp.sum((params["table"][ids] - 1) ** 2)
        return scale * cross_entropy(params, images, labels) + words / len(ids)

    tx = momentax.monitor(METHODS["heavy_ball"], history=60, per="leaf")
    return train(tx, loss, params, batches)


@cache
def _network_readings(case):
    params = network(jax.random.key(0))
    params["table"] = jnp.full((400, 8), 0.1)
    params["hidden"]["bias"] -= 30.0 if case == "dead" else 0.0
    rows = jax.random.randint(jax.random.key(1), (60, 16), 0, len(PIXELS))
    batches, scale = (PIXELS[rows], LABELS[rows], rows % 400), 0.01 if case == "dominant" else 1.0
    return momentax.measurements(_train_with_table(params, batches, scale))


def test_a_sparse_leaf_is_found():
    found = find("sparse_leaf", _network_readings("well"), METHODS["heavy_ball"])
    assert found.evidence.startswith("table:")
    assert "9 times its last step" in found.remedy  # β / (1 - β).
    assert not {"dead_leaf", "dominant_leaf"} & {*names(explain(_network_readings("well")))}


def test_dead_leaves_are_found():
    found = find("dead_leaf", _network_readings("dead"))
    assert found.evidence.startswith("hidden/bias: The gradient was exactly 0 in all 60 readings")
    assert "hidden/kernel, out/kernel" in found.evidence
    assert found.severity == "warning"


def test_a_dominant_leaf_is_found():
    found = find("dominant_leaf", _network_readings("dominant"))
    assert found.evidence.startswith("table: It has 100.0%")


def test_a_constant_slope_is_a_plateau():
    problem = momentax.problems.plateau()
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    monitored = momentax.monitor(tx, history=100)
    run = momentax.rollout(problem.loss, problem.start, monitored, 100)
    found = find("plateau", momentax.measurements(run.state), tx)
    assert "Raise β from 0.9 to 0.967" in found.remedy
    assert "the learning rate from 0.1 to 0.3" in found.remedy


# Measurements that are made by hand.


def readings(n=60, every=1, **history):
    history = {key: np.broadcast_to(values, (n,)) for key, values in history.items()}
    return Measurements(
        {k: v[-1] for k, v in history.items()}, history, every * np.arange(n), every
    )


def test_the_evidence_counts_readings_and_names_steps():
    angle = np.full(60, 30.0)
    angle[20:50] = 158.0
    angle[[25, 35]] = 90.0
    found = find("oscillation", readings(every=10, angle=angle))
    assert found.steps == (200, 490)
    assert found.severity == "warning"
    assert found.evidence == (
        "The angle between velocity and gradient exceeded 120° in 28 of the 30 readings between "
        "steps 200 and 490 (median of these 158°)."
    )


def test_a_plateau_is_known_when_it_is_over():
    loss = np.concatenate([np.full(40, 2.3), np.geomspace(2.2, 0.1, 40)])
    gradient = np.concatenate([np.full(40, 0.01), np.full(40, 1.0)])
    measured = readings(80, loss=loss, gradient_norm=gradient, cos=0.5)
    assert find("plateau", measured).steps[1] in range(36, 42)
    # A loss that has converged is none.
    fallen = readings(80, loss=loss[::-1], gradient_norm=gradient[::-1], cos=0.5)
    assert "plateau" not in names(explain(fallen))


def test_a_velocity_that_was_left_over_is_residual():
    gradient = np.concatenate([np.full(30, 1.0), np.full(30, 1e-3)])
    gain = np.concatenate([np.full(30, 9.0), np.full(30, 900.0)])
    measured = readings(gradient_norm=gradient, gain=gain, age=9.0)
    found = find("residual_velocity", measured)
    assert found.steps == (30, 59)
    assert "steady gradients make it at most 10 times as long" in found.evidence
    assert "momentax.reset_velocity(state)" in found.remedy


def test_a_skipped_gradient_is_a_warning_and_a_poisoned_velocity_a_problem():
    entries, velocity = np.zeros(60), np.ones(60)
    entries[30] = 7
    found = find("nonfinite_gradients", readings(nonfinite=entries, velocity_norm=velocity))
    assert (found.severity, found.steps) == ("warning", (30, 30))
    assert "momentax.guard(tx)" in found.remedy
    velocity[30:] = np.nan
    found = find("nonfinite_gradients", readings(nonfinite=entries, velocity_norm=velocity))
    assert (found.severity, found.steps) == ("problem", (30, 59))
    assert "before step 30" in found.remedy or "a step before 30" in found.remedy


def test_the_most_severe_comes_first_and_then_the_earliest():
    angle, entries = np.full(60, 150.0), np.zeros(60)
    entries[50] = 1
    found = explain(readings(angle=angle, nonfinite=entries, update_ratio=1e-8, gradient_norm=1.0))
    order = ["nonfinite_gradients", "oscillation", "update_ratio_too_small"]
    assert sorted(names(found)) == sorted(order)
    assert found[0].rule == "nonfinite_gradients"
    assert [each.steps[0] for each in found[1:]] == [0, 0]


def test_a_rule_whose_readings_are_missing_or_unknown_is_not_applied():
    assert explain(readings(parameter_norm=1.0)) == []
    unknown = {key: np.nan for rule in RULES for key in rule.needs}
    assert explain(readings(**unknown)) == []


EXTREMES = (0.0, 1e-300, 1e300, -1e300, np.inf, -np.inf, np.nan)
BOUNDED_BY = {"cos": 1.0, "angle": 180.0, "opposing_share": 1.0}
BOUNDED = {"cos": 0.5, "angle": 60.0, "opposing_share": 0.3, "gradient_snr": 1.0, "age": 9.0}


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.key)
def test_any_numbers_are_explained_without_a_nan_or_an_infinity(reading):
    """The other readings are those of a velocity that grows, or of one that is at rest."""
    key, least = reading.key, {"[0": 0.0, "[-1": -1.0, "[-1/2": -0.5}
    bounds = least.get(reading.range.split(",")[0], -np.inf), BOUNDED_BY.get(key, np.inf)
    rests = {each.key: np.zeros(60) for each in READINGS}
    grows = dict.fromkeys(rests, np.geomspace(1, 1e6, 60)) | BOUNDED
    for history, tx in ((grows, METHODS["heavy_ball"]), (rests, None)):
        for extreme in EXTREMES:
            for chosen in (np.arange(60) % 2 == 0, np.arange(60) > 20):
                values = np.where(chosen, np.clip(extreme, *bounds), history[key])
                changed = history | {key: values}
                for found in explain(readings(60, **changed), tx):
                    text = f"{found.evidence} {found.remedy}".replace("infinite or NaN", "")
                    assert not re.search(r"\bnan\b|\binf\b", text, re.IGNORECASE), text


def test_a_loss_below_zero_is_judged_by_its_change():
    """Such as a log-likelihood: a share of its size is lower, not nearer to 0."""
    noise = np.random.default_rng(0).normal(0, 0.02, 400)
    rests = np.concatenate([np.linspace(0, -5, 40), np.full(360, -5.0)]) + noise
    falls = -np.geomspace(1, 100, 400) + noise
    rest = {"cos": 0.2, "angle": 78.0, "update_norm": 1.0}
    assert "residual_velocity" in names(explain(readings(400, loss=rests, **rest)))
    assert explain(readings(400, loss=falls, **rest)) == []


@pytest.mark.parametrize("latest", [{}, {"angle": 170.0}])
def test_without_a_history_the_only_finding_says_so(latest):
    found = explain(Measurements(latest, {}, []))
    assert names(found) == ["too_few_readings"]
    assert "history=" in found[0].remedy


def test_the_latest_readings_suffice_for_entries_that_are_not_finite():
    found = explain(Measurements({"nonfinite": 3.0, "velocity_norm": np.nan}, {}, []))
    assert names(found) == ["nonfinite_gradients", "too_few_readings"]


@pytest.mark.parametrize("separator", ["/", ".", " - "])
def test_labels_are_named_whatever_separates_them(separator):
    zeros = {f"encoder{separator}layer{separator}gradient_norm": 0.0}
    found = find("dead_leaf", readings(**zeros, **{f"head{separator}gradient_norm": 1.0}))
    assert found.evidence.startswith(f"encoder{separator}layer: ")


def test_readings_of_the_model_follow_from_those_of_its_leaves():
    first, second = np.random.default_rng(0).normal(size=(2, 60, 5))
    g, v = {"a": first, "b": second}, {"a": -2 * first, "b": -second}
    history = {}
    for name in g:
        norms = np.linalg.norm(g[name], axis=1), np.linalg.norm(v[name], axis=1)
        history |= {f"{name}/gradient_norm": norms[0], f"{name}/velocity_norm": norms[1]}
        history[f"{name}/cos"] = -np.ones(60)
    whole = [np.concatenate([each["a"], each["b"]], axis=1) for each in (v, g)]
    cos = np.sum(whole[0] * whole[1], axis=1) / np.prod(np.linalg.norm(whole, axis=2), axis=0)
    evidence = find("oscillation", readings(**history)).evidence
    assert f"median of these {np.median(np.degrees(np.arccos(cos))):.0f}°" in evidence


# How findings look.


def test_findings_print_as_sentences_and_show_as_an_escaped_table():
    angle = {"angle": 150.0, "a<b/gradient_norm": 0.0, "c/gradient_norm": 1.0}
    found = explain(readings(**angle))
    assert isinstance(found, list)
    assert isinstance(found[0], Finding)
    text = str(found)
    assert "WARNING: oscillation, steps 0 to 59\n    Evidence: The angle" in text
    assert "\n    Remedy: " in text
    html = found._repr_html_()
    assert html.count("<tr>") == len(found) + 1
    assert "a&lt;b" in html
    assert "a<b" not in html


def test_no_findings_print_as_a_sentence():
    found = explain(readings(parameter_norm=1.0))
    assert str(found) == "No findings: none of the rules holds for these readings."
    assert str(found) in found._repr_html_()


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"measurements must be what momentax.measurements\(state"):
        explain({"angle": 3.0})
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        explain(readings(angle=3.0), 0.1)
    state = {"step": 3, "opt_state": momentax.monitor(momentax.sgd(0.1)).init(jnp.ones(2))}
    with pytest.raises(
        TypeError, match=r"write momentax.explain\(momentax.measurements\(state\)\)"
    ):
        explain(state)


def test_every_rule_is_described_and_severities_are_known():
    for rule in RULES:
        assert rule.name in explain.__doc__
        assert rule.severity in ("problem", "warning", "note")
