"""What the compiled program of orthogonalized momentum costs: text, memory, operations, copies."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax._core import interpreter
from momentax._wrappers import _newton_schulz
from tests.compilation import fully_optimized
from tests.compiled import audit


def lowered(shapes, **options):
    tx = momentax.orthogonalize(**options)
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params))


SHAPES = {"square": [(64, 64)], "wide": [(64, 256)], "stack": [(12, 64, 256)], "mixed": [(96, 64)]}


@pytest.mark.parametrize("shapes", SHAPES)
def test_the_program_does_not_grow_with_the_steps(shapes):
    short, long = (len(lowered(SHAPES[shapes], steps=k).as_text()) for k in (5, 10))
    assert long < 1.3 * short


def test_the_program_does_not_grow_with_equal_leaves_as_one_iteration_for_each_would():
    one, many = (len(lowered([(64, 256)] * n).as_text()) for n in (1, 12))
    assert many < 3 * one


def counted(monkeypatch, shape, **options):
    """Count the multiplications of all products of matrices that an update makes."""
    tx = momentax.orthogonalize(momentax.heavy_ball(0.0), **options)
    x, made = np.ones(shape, np.float32), []
    multiply = interpreter._multiply_matrices

    def count(params, x, y):
        out = multiply(params, x, y)
        made.append(out.size * math.prod(x.shape[i] for i in params["dimension_numbers"][0][0]))
        return out

    monkeypatch.setitem(interpreter._WITH_PARAMETERS, "dot_general", count)
    program = jax.make_jaxpr(lambda x: tx.update(x, tx.init(x))[0])(x)
    interpreter.evaluate(program, [x], start_devices=False)
    return sum(made)


@pytest.mark.parametrize(
    ("count", "n", "m", "steps"),
    [(1, 16, 16, 5), (3, 16, 24, 5), (1, 16, 64, 5), (4, 8, 32, 5), (1, 8, 24, 6), (1, 8, 24, 10)],
)
def test_the_products_are_as_many_as_the_better_form_needs(monkeypatch, count, n, m, steps):
    standard = 2 * steps * n**2 * m + steps * n**3
    gram = {5: 4 * n**2 * m + 14 * n**3}.get(steps, standard)
    for shape in ((count, n, m), (count, m, n)):
        assert counted(monkeypatch, shape, steps=steps) <= count * min(standard, gram)
    found = counted(monkeypatch, (count, n, m), steps=steps, dtype=jnp.bfloat16)
    assert found == count * standard


def test_a_quarter_of_a_symmetric_product_is_not_computed_twice(monkeypatch):
    monkeypatch.setattr(_newton_schulz, "_WORTH_HALVING", 8)
    n, m = 16, 64
    assert counted(monkeypatch, (n, m)) == 0.75 * (2 * n**2 * m + 14 * n**3) + 2 * n**2 * m
    x = np.random.default_rng(0).normal(size=(2, 15, 40)).astype(np.float32)
    tx = momentax.orthogonalize(momentax.heavy_ball(0.0))
    halved = tx.update(x, tx.init(x))[0]
    monkeypatch.undo()
    np.testing.assert_allclose(halved, tx.update(x, tx.init(x))[0], atol=1e-4)


@pytest.mark.parametrize(("n", "m"), [(256, 256), (256, 1024)])
def test_memory_is_that_of_one_iterate_whatever_the_steps(n, m):
    temporary = []
    for k in (5, 10):
        memory = fully_optimized(lowered([(n, m)], steps=k)).memory_analysis()
        temporary.append(memory.temp_size_in_bytes / (4 * n * m))
    # The matrix, the next one, its Gram matrix and a polynomial of that.
    assert max(temporary) < 2 + 4 * n / m
    assert temporary[1] <= temporary[0] + 0.01


def test_memory_of_many_layers_is_that_of_the_updates_and_a_part():
    layers, n, m = 64, 512, 1024
    memory = fully_optimized(lowered([(n, m)] * layers)).memory_analysis()
    assert memory.temp_size_in_bytes / (4 * layers * n * m) < 3.1


def test_every_donated_buffer_is_reused():
    tx = momentax.sgd(0.02, momentax.orthogonalize(after="normuon"))
    params = [
        jax.ShapeDtypeStruct(s, jnp.float32) for s in ((128, 64), (64, 64), (3, 64, 32), (64,))
    ]

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    found = audit(step, params, jax.eval_shape(tx.init, params), args=(params,))
    assert found.aliased == found.donated
