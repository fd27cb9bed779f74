"""Hyperparameters: numbers, arrays, tracers and schedules, and the values that are refused."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax._core import arguments
from tests.cases import INTERVALS, TRANSFORMATIONS
from tests.contracts.harness import (
    build_with,
    every_transformation,
    every_transformation_with,
    three_updates,
    tree,
    with_extra_args,
)


@every_transformation
def test_a_number_an_array_a_tracer_and_a_schedule_mean_the_same(name):
    case, params = TRANSFORMATIONS[name], tree()

    def run(**hyperparameters):
        return three_updates(with_extra_args(name, case.make(**hyperparameters)), params)

    expected = run(**case.hyperparameters)
    for wrap, is_schedule in (
        (np.float64, False),
        (jnp.float32, False),
        (lambda value: lambda count: value, True),
        (lambda value: lambda count: jnp.float32(value), True),
    ):
        given = {
            key: value if is_schedule and key in case.fixed else wrap(value)
            for key, value in case.hyperparameters.items()
        }
        chex.assert_trees_all_close(run(**given), expected, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(
        jax.jit(lambda given: run(**given))(case.hyperparameters), expected, rtol=1e-6, atol=1e-7
    )


@every_transformation_with(lambda case: case.fixed)
def test_a_schedule_is_refused_where_a_number_is_needed(name):
    for key in TRANSFORMATIONS[name].fixed:
        with pytest.raises(TypeError, match=rf"^{key} must be a number or a 0-d array, got the f"):
            build_with(name, **{key: lambda count: 0.1})


@every_transformation_with(lambda case: case.swept)
def test_vmap_over_a_hyperparameter_equals_a_loop(name):
    case, params = TRANSFORMATIONS[name], tree()
    values = jnp.array(case.values)

    def run(value):
        return three_updates(build_with(name, **{case.swept: value}), params)

    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jax.jit(run), values))
    mapped = jax.jit(jax.vmap(run))(values)
    chex.assert_trees_all_close(mapped, loop, rtol=1e-6, atol=1e-6)


@every_transformation_with(lambda case: case.decay)
def test_beta_keeps_float32_precision_on_bfloat16_parameters(name):
    params = jnp.ones(3, jnp.bfloat16)
    tx = build_with(name, **{TRANSFORMATIONS[name].decay: 0.999})  # 1 in bfloat16.
    _, state = tx.update(params, tx.init(params), params)
    first = momentax.velocity(state)
    _, state = tx.update(jnp.zeros_like(params), state, jnp.zeros_like(params))
    ratio = np.asarray(momentax.velocity(state) / first)
    np.testing.assert_allclose(ratio, 0.999, rtol=1e-6)


BAD = [
    (1.5, ValueError, "got 1.5"),
    (-2.0, ValueError, "got -2.0"),
    (jnp.float32(1.5), ValueError, "got 1.5"),
    (float("nan"), ValueError, "got nan"),
    (float("inf"), ValueError, "got inf"),
    (True, TypeError, "got True"),
    (jnp.array(True), TypeError, "got True"),
    ("0.9", TypeError, "got '0.9'"),
    (None, TypeError, "got None"),
    (0.5j, TypeError, "got 0.5j"),
    ([0.5, 0.9], TypeError, r"got \[0.5, 0.9\]; .*jax.vmap or momentax.sweep"),
    (
        np.array([[0.5], [0.9]]),
        ValueError,
        r"got .* of shape \(2, 1\); .*jax.vmap or momentax.sweep",
    ),
    (jnp.array([0.5, 0.9]), ValueError, r"got .* of shape \(2,\); .*jax.vmap or momentax.sweep"),
]


def displayed(case, key):
    """Return a pattern for the name of a hyperparameter in errors."""
    return re.escape(case.displayed.get(key, key))


@every_transformation
@pytest.mark.parametrize(("value", "error", "text"), BAD, ids=lambda value: str(value)[:20])
def test_a_bad_value_raises_at_construction(name, value, error, text):
    case = TRANSFORMATIONS[name]
    for key in case.hyperparameters:
        interval = case.intervals.get(key) or INTERVALS.get(key, "(-inf, inf)")
        number = text.startswith(("got 1.5", "got -2.0"))
        if number and arguments.is_within(interval, float(value)):
            build_with(name, **{key: value})
            continue
        message = rf"^{displayed(case, key)} must be in {re.escape(interval)}, {text}"
        if (name, key, value is None) == ("item", "L", True):
            message = "^L is missing"  # It may be left out where mu is a Curvature.
        with pytest.raises(error, match=message):
            build_with(name, **{key: value})


def test_the_error_says_when_rounding_moves_a_value_out_of_its_interval():
    with pytest.raises(ValueError, match=r"got 0.9999999999, which float32 rounds to 1.0"):
        momentax.heavy_ball(0.9999999999)
    with pytest.raises(ValueError, match=r"got 1.0 in bfloat16; keep it in float32"):
        momentax.heavy_ball(jnp.bfloat16(0.999))
    with jax.enable_x64(True):
        momentax.heavy_ball(0.9999999999)


@every_transformation_with(lambda case: case.swept)
def test_a_traced_vector_is_refused_and_a_traced_scalar_passes(name):
    key = TRANSFORMATIONS[name].swept
    init = jax.jit(lambda value: build_with(name, **{key: value}).init(jnp.zeros(2)))
    label = displayed(TRANSFORMATIONS[name], key)
    with pytest.raises(ValueError, match=rf"^{label} must be in .*, got a traced array of shape"):
        init(jnp.zeros(2))
    init(jnp.float32(7))


def schedules_of(name):
    """Return for each hyperparameter that may be a schedule its value and its interval."""
    case = TRANSFORMATIONS[name]
    return {
        key: (value, case.intervals.get(key) or INTERVALS.get(key, "(-inf, inf)"))
        for key, value in case.hyperparameters.items()
        if key not in case.fixed
    }


def constant(value, count):
    return value


def select_by_count(first, later, count):
    return first if count == 0 else later


def step(tx, params, updates):
    state = tx.init(params)
    for _ in range(updates):
        _, state = tx.update(params, state, params)


@every_transformation_with(lambda case: set(case.hyperparameters) - set(case.fixed))
@pytest.mark.parametrize("bad", [2.5, -2.5, np.nan, np.inf, 1e-40])
def test_a_known_value_of_a_schedule_outside_of_its_interval_raises(name, bad):
    params = jnp.ones(2)
    for key, (good, interval) in schedules_of(name).items():
        if arguments.is_within(interval, 0.0 if bad == 1e-40 else bad):
            continue
        label = displayed(TRANSFORMATIONS[name], key)
        message = rf"^{label} must be in {re.escape(interval)}, got a schedule that returns "
        for convert in (float, jnp.float32):
            late = partial(select_by_count, convert(good), convert(bad))
            with pytest.raises(ValueError, match=message):
                build_with(name, **{key: partial(constant, convert(bad))}).init(params)
            with pytest.raises(ValueError, match=rf"{message}.* at count 1$"):
                step(build_with(name, **{key: late}), params, 2)


@every_transformation_with(lambda case: case.swept and case.swept not in case.fixed)
def test_a_traced_value_of_a_schedule_passes(name):
    key = TRANSFORMATIONS[name].swept
    params, values = jnp.ones(2), jnp.array([TRANSFORMATIONS[name].values[1], jnp.nan, jnp.nan])
    tx = build_with(name, **{key: lambda count: values[count]})
    jax.jit(lambda params: tx.update(params, tx.init(params), params))(params)
    jax.eval_shape(lambda params: step(tx, params, 2), params)


def test_a_schedule_may_state_an_interval_of_its_own():
    corrected = momentax.schedules.momentum_corrected(lambda count: 0.1 * 0.5**count, 0.9)
    params = jnp.ones(2)
    step(momentax.heavy_ball(corrected), params, 3)  # β' is 1.8 from step 1 on.
    with pytest.raises(ValueError, match=r"^nu must be in \[0, 1\], got a schedule .* at count 1"):
        step(momentax.quasi_hyperbolic(0.9, partial(select_by_count, 0.5, 1.5)), params, 2)


def test_a_derived_beta_that_rounds_to_one_is_refused():
    with pytest.raises(ValueError, match=r"^beta must be in \[0, 1\), got a schedule .* 1.0"):
        momentax.pid(kp=-1e-12, ki=1.0, kd=1.0).init(jnp.ones(2))


@pytest.mark.parametrize("method", ["adan", "nadam", "quasi_hyperbolic_adam"])
def test_an_eps_that_is_zero_in_the_dtype_that_uses_it_is_refused(method):
    make = getattr(momentax, method)
    with pytest.raises(
        ValueError, match=r"^eps must be in \(0, inf\), got 1e-40, which float32 round"
    ):
        make(eps=1e-40)
    with pytest.raises(ValueError, match=r"^eps must be in \(0, inf\), got 0.0"):
        make(eps=jnp.float32(0))
    with jax.enable_x64(True):
        for eps in (1e-40, lambda count: 1e-40, jnp.float64(1e-40)):
            tx = make(eps=eps)
            assert tx.init(jnp.ones(2, jnp.float64)).count == 0
            with pytest.raises(ValueError, match=r"^eps must be at least 1.2e-38 for .* float32"):
                tx.init({"a": jnp.ones(2, jnp.float32)})


@every_transformation_with(lambda case: case.swept and case.swept not in case.fixed)
@pytest.mark.parametrize("returned", [jnp.ones(2), True, "0.9", None], ids=str)
def test_the_error_names_a_schedule_that_does_not_return_a_scalar(name, returned):
    key = TRANSFORMATIONS[name].swept
    tx, params = build_with(name, **{key: lambda count: returned}), jnp.ones(2)
    label = displayed(TRANSFORMATIONS[name], key)
    with pytest.raises(
        (TypeError, ValueError), match=f"^{label} must be a schedule of scalars, got one"
    ):
        tx.update(params, tx.init(params), params)
