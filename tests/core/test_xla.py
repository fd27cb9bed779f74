"""The functions that keep XLA from copying change no value and add the dependence."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax._core import xla
from tests.compiled import audit

FLAT = jax.ShapeDtypeStruct((1 << 14,), jnp.float32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)


def test_decay_and_add_is_the_sum():
    v, g, h = (jnp.asarray(np.random.default_rng(i).normal(size=5), jnp.float32) for i in range(3))
    for β in (0.5, 0.9):
        found = xla.decay_and_add(jnp.int32(3), β, v, (0.5, g), (0.25, h))
        np.testing.assert_allclose(found, β * v + 0.5 * g + 0.25 * h, rtol=1e-6)


def plain_sum(count, β, v, *terms):
    return β * v + sum(γ * g for γ, g in terms)


@pytest.mark.parametrize(("add", "copies"), [(plain_sum, 1), (xla.decay_and_add, 0)])
def test_decay_and_add_avoids_a_copy_of_the_velocity(add, copies):
    """Of v/2 + g/2, which both results of the step contain."""

    def step(params, v, count, g):
        v = add(count, 0.5, v, (0.5, g))
        return params - 0.1 * v, v, count + 1

    assert len(audit(step, FLAT, FLAT, COUNT, args=(FLAT,)).copies) == copies


def test_computed_after_changes_no_value():
    tree, earlier = {"a": jnp.arange(3.0)}, {"a": jnp.full(3, jnp.inf)}
    found = xla.computed_after(jnp.int32(0), tree, earlier)
    np.testing.assert_array_equal(found["a"], tree["a"])


def unchanged(count, tree, earlier):
    return tree


@pytest.mark.parametrize(("after", "copies"), [(unchanged, 2), (xla.computed_after, 0)])
def test_computed_after_avoids_copies_of_arrays_that_are_read_later(after, copies):
    """The step stores its gradient over the last one, of which it computes a velocity."""

    def step(params, v, last, count, g):
        v = 0.9 * v + 0.1 * (g + 0.9 * (g - last))
        return params - 0.1 * (v + g), v, after(count, g * 1.0, v), count + 1

    found = audit(step, FLAT, FLAT, FLAT, COUNT, args=(FLAT,))
    assert len(found.copies) == copies


def kernels(program):
    """Return the different bodies of fused operations, without the numbers in their names."""
    bodies = re.findall(r"^%fused_computation.*?^}", program.as_text(), re.MULTILINE | re.DOTALL)
    return {re.sub(r"(?<=[a-z])[._][\d.]+|, metadata=\{.*?\}", "", body) for body in bodies}


@pytest.mark.parametrize(
    ("take", "count"),
    [(xla.part_of, 1), (lambda x, start, n: jax.lax.slice_in_dim(x, start, start + n), 5)],
    ids=["parts", "slices"],
)
def test_equal_parts_of_a_stack_need_one_kernel(take, count):
    stack = jnp.arange(80.0).reshape(10, 2, 4)
    program = jax.jit(lambda x: [2 * take(x, i, 2) for i in range(0, 10, 2)]).lower(stack).compile()
    for i, part in enumerate(program(stack)):
        np.testing.assert_array_equal(part, 2 * stack[2 * i : 2 * i + 2])
    assert len(kernels(program)) == count
    assert xla.part_of(stack, 0, 10) is stack


def test_evaluate_runs_a_traced_program():
    closed = jax.make_jaxpr(lambda x, y: (x + y, x * y))(1.0, 2.0)
    assert [float(x) for x in xla.evaluate(closed, 3.0, 4.0)] == [7.0, 12.0]


@pytest.mark.parametrize("single_device", [True, False])
def test_value_and_gradients_are_those_of_jax(single_device):
    def loss(p):
        h = jnp.tanh(p["x"] @ p["w"])
        return jnp.mean(jnp.square(h @ p["u"])), {"mean": h.mean()}

    rng = np.random.default_rng(0)
    shapes = {"w": (64, 128), "u": (128, 64), "x": (2, 64)}
    params = {name: jnp.asarray(rng.normal(size=s) / 8, jnp.float32) for name, s in shapes.items()}
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    found = jax.jit(lambda p: xla.value_and_grad_before_writes(loss, p, single_device))(params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def refuse():
    raise AssertionError


def test_a_known_condition_calls_one_function_only():
    assert xla.choose(jnp.array(True), lambda: 1, refuse) == 1
    assert xla.choose(jnp.array(False), refuse, lambda: 2) == 2
    traced = jax.jit(lambda x: xla.choose(x > 0, lambda: -x, lambda: 2 * x))
    assert (traced(1.0), traced(-1.0)) == (-1.0, -2.0)
