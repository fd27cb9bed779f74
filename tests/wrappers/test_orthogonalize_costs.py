"""What the compiled program of orthogonalized momentum costs: text, memory, operations, copies."""

import math

import jax
import jax.numpy as jnp
import pytest

import momentax
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


def multiplications(jaxpr, times=1):
    """Count the multiplications of all products of matrices in a program, with its loops."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            ((contracted, _), _), x = eqn.params["dimension_numbers"], eqn.invars[0].aval
            out = eqn.outvars[0].aval
            total += times * out.size * math.prod(x.shape[axis] for axis in contracted)
        inner = times * eqn.params["length"] if eqn.primitive.name == "scan" else times
        for value in eqn.params.values():
            for each in value if isinstance(value, tuple) else (value,):
                if hasattr(body := getattr(each, "jaxpr", each), "eqns"):
                    total += multiplications(body, inner)
    return total


def counted(shape, **options):
    tx = momentax.orthogonalize(**options)
    params = jax.ShapeDtypeStruct(shape, jnp.float32)
    return multiplications(jax.make_jaxpr(tx.update)(params, jax.eval_shape(tx.init, params)).jaxpr)


@pytest.mark.parametrize(("count", "n", "m"), [(1, 64, 64), (3, 64, 96), (1, 64, 256), (12, 8, 32)])
def test_the_products_are_as_many_as_the_better_form_needs(count, n, m):
    standard = 10 * n**2 * m + 5 * n**3
    gram = 4 * n**2 * m + 14 * n**3
    for shape in ((count, n, m), (count, m, n)):
        found = counted(shape) / count
        assert found <= 1.1 * min(standard, gram)
    assert counted((count, n, m), dtype=jnp.bfloat16) == count * standard
    # Without the loop, which a compiler need not count, XLA's own count is the same.
    if m == 256:
        compiled = fully_optimized(lowered([(n, m)]))
        assert compiled.cost_analysis()["flops"] == pytest.approx(2 * gram, rel=0.1)


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
    layers, n, m = 16, 512, 1024
    memory = fully_optimized(lowered([(n, m)] * layers)).memory_analysis()
    assert memory.temp_size_in_bytes / (4 * layers * n * m) < 3


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
