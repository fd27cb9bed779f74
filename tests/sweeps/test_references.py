"""A store recognizes the Python functions that a sweep calls as it runs, not only their names."""

import enum
import functools
import sqlite3
import threading
import types
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.experimental import pallas as pl

import momentax
from momentax import grid, halve, sweep
from momentax.sweeps._run._fingerprint import fingerprint
from momentax.sweeps._run._references import UnknownContentError

SCALAR = jax.ShapeDtypeStruct((), np.float32)
FACTOR = {"a": 1}  # A global, which some callbacks name.


def trace(run, *arguments):
    return fingerprint(jax.jit(run).trace(*arguments).jaxpr)


def through(primitive, callback):
    """Return the function that calls a callback through one of JAX's primitives."""

    def run(x):
        if primitive == "pure":
            return jax.pure_callback(callback, SCALAR, x, vmap_method="sequential")
        return io_callback(callback, SCALAR, x)

    return run


# Each maker returns a callback; its code or something to which it refers depends on the number.


def by_code(number):
    return (lambda x: np.float32(x + 1)) if number == 1 else (lambda x: np.float32(x - 1))


def by_constant(number):
    space = {}
    exec(f"def callback(x): return x * {number}", space)
    return space["callback"]


def by_inner_function(number):
    space = {}
    exec(f"def callback(x):\n def inner(y): return y * {number}\n return inner(x)", space)
    return space["callback"]


def by_closure(number):
    return lambda x: np.float32(x * number)


def by_array(number):
    weights = np.full(3, number, np.float32)
    return lambda x: np.float32(x * weights.sum())


def by_jax_array(number):
    weights = jnp.full(3, number)
    return lambda x: np.float32(x * weights.sum())


def by_function_in_closure(number):
    def inner(x):
        return x * number

    return lambda x: inner(x)


def by_default(number):
    return lambda x, factor=number: x * factor


def by_keyword_default(number):
    return lambda x, *, factor=number: x * factor


def by_attribute(number):
    def callback(x):
        return x * callback.factor

    callback.factor = number
    return callback


def by_partial(number):
    return functools.partial(lambda factor, x: x * factor, number)


def by_global(number):
    space = {"FACTOR": number}
    exec("def callback(x): return x * FACTOR", space)
    return space["callback"]


def by_global_function(number):
    space = {}
    exec(f"def helper(x): return x * {number}\ndef callback(x): return helper(x)", space)
    return space["callback"]


def by_module(number):
    module = types.ModuleType("of_the_user")
    module.inner = types.ModuleType("of_the_user.inner")
    exec(f"def helper(x): return x * {number}", vars(module.inner))
    space = {"of_the_user": module}
    exec("def callback(x): return of_the_user.inner.helper(x)", space)
    return space["callback"]


class Model:
    def __init__(self, number):
        self.number = number

    def __call__(self, x):
        return x * self.number

    def predict(self, x):
        return x * self.number


class Slotted:
    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number

    def __call__(self, x):
        return x * self.number


@dataclass(frozen=True)
class Data:
    number: int

    def __call__(self, x):
        return x * self.number


def by_class(number):
    def call(self, x):
        return x + 1 if number == 1 else x - 1

    return type("Made", (), {"__call__": call})()


def by_property(number):
    made = type("Made", (), {"factor": property(lambda self: number)})()
    return lambda x: x * made.factor


def by_class_attribute(number):
    made = type("Made", (), {"factor": number})
    return lambda x: x * made.factor


def by_enum(number):
    member = enum.Enum("Kind", ["one", "two"])(number)
    return lambda x: x * member.value


def by_containers(number):
    inside = {"a": [1, (2, {3}), frozenset("abc")], "b": {"c": {number}}}
    return lambda x: x * next(iter(inside["b"]["c"]))


def by_generator(number):
    draws = np.random.default_rng(number)
    return lambda x: np.float32(draws.normal())


def by_bound_method(number):
    return [number].count


def by_jitted(number):
    return jax.jit(lambda x: x * number)


def by_vectorized(number):
    return np.vectorize(lambda x: x * number)


def own_module(number):
    """Make a module of the user without a file."""
    module = types.ModuleType("of_the_user")
    exec(f"FACTOR = {number}\ndef helper(x): return x * FACTOR", vars(module))
    return module


def by_module_in_closure(number):
    module = own_module(number)
    return lambda x: module.helper(x)


def by_module_as_default(number):
    module = own_module(number)
    return lambda x, module=module: module.helper(x)


class HoldsModule:
    def __init__(self, number):
        self.module = own_module(number)

    def __call__(self, x):
        return self.module.helper(x)


def by_name_in_module(number):
    space = {"module": own_module(number)}
    exec("def callback(x): return getattr(module, 'helper')(x)", space)
    return space["callback"]


def by_name_in_globals(number):
    space = {"FACTOR": number}
    exec("def callback(x): return x * globals()['FACTOR']", space)
    return space["callback"]


def by_cycle(number):
    loop = [number]
    loop.append(loop)
    return lambda x: x * loop[0]


MAKERS = [
    by_code, by_constant, by_inner_function, by_closure, by_array, by_jax_array,
    by_function_in_closure, by_default, by_keyword_default, by_attribute, by_partial, by_global,
    by_global_function, by_module, Model, lambda number: Model(number).predict, Slotted, Data,
    by_class, by_property, by_class_attribute, by_enum, by_containers, by_generator,
    by_bound_method, by_jitted, by_vectorized, by_module_in_closure,
    by_module_as_default, HoldsModule, by_name_in_module, by_name_in_globals, by_cycle,
]  # fmt: skip


@pytest.mark.parametrize("primitive", ["pure", "io"])
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_a_callback_is_known_by_its_code_and_by_all_to_which_it_refers(maker, primitive):
    first, same, other = (trace(through(primitive, maker(n)), 1.0) for n in (1, 1, 2))
    assert first == same
    assert first.references != other.references


REACHES = {
    "closure": lambda module: lambda x: module.helper(x),
    "default": lambda module: lambda x, m=module: m.helper(x),
    "object": lambda module: functools.partial(
        lambda holder, x: holder.m.helper(x), types.SimpleNamespace(m=module)
    ),
    "name": lambda module: lambda x: getattr(module, "help" + "er")(x),
}


@pytest.mark.parametrize("reach", REACHES)
def test_a_module_of_the_user_counts_by_its_source_and_the_values_that_are_named(reach, tmp_path):
    def traced(source, factor=None):
        (tmp_path / "of_a_user.py").write_text(source)
        module = types.ModuleType("of_a_user")
        module.__file__ = str(tmp_path / "of_a_user.py")
        exec(source, vars(module))
        module.FACTOR = module.FACTOR if factor is None else factor
        return trace(through("pure", REACHES[reach](module)), 1.0)

    source = (
        "import threading\nFACTOR, LOCK = 2, threading.Lock()\ndef helper(x): return x * FACTOR"
    )
    first = traced(source)
    assert first == traced(source)
    assert first == traced(f"# A comment.\n{source}")
    assert first != traced(source.replace("x *", "x +"))
    assert reach == "name" or first != traced(source, factor=3)


def test_modules_that_name_each_other_are_compared():
    def of(number):
        one, two = types.ModuleType("of_user_1"), types.ModuleType("of_user_2")
        one.two, two.one, two.FACTOR = two, one, number
        return through("pure", lambda x: x * one.two.one.two.FACTOR)

    first, same, other = (trace(of(n), 1.0) for n in (1, 1, 2))
    assert first == same
    assert first != other


def of_pallas(number):
    def kernel(x, out):
        out[...] = x[...]

    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((8,), np.float32),
        grid=(2,),
        in_specs=[pl.BlockSpec((4,), lambda i: i if number == 1 else 1 - i)],
        out_specs=pl.BlockSpec((4,), lambda i: i),
        interpret=True,
    )


def of_vmap_rule(number):
    @jax.custom_batching.custom_vmap
    def run(x):
        return x

    run.def_vmap(lambda size, batched, x: (x * number, batched[0]))
    return run


@pytest.mark.parametrize("make", [of_pallas, of_vmap_rule])
def test_what_the_text_of_a_jaxpr_leaves_out_is_compared(make):
    first, same, other = (trace(make(n), jnp.ones(8)) for n in (1, 1, 2))
    assert first == same
    assert first != other


def test_a_rule_of_a_derivative_counts_where_it_is_used():
    def of(number):
        function = jax.custom_jvp(lambda x: x)
        function.defjvp(lambda x, dx: (x[0], dx[0] * number))
        return function

    one, other = (trace(of(n), 1.0) for n in (1, 2))
    assert one == other  # It is not called.
    one, other = (trace(jax.grad(of(n)), 1.0) for n in (1, 2))
    assert one != other


def test_a_debug_callback_counts_by_its_code_and_not_by_what_it_has_collected():
    def of(collected, number):
        def note(x):
            collected.append(x * number)

        def again(x):
            collected.append(x + 1)

        again.__name__, again.__qualname__ = note.__name__, note.__qualname__
        return lambda x: jax.debug.callback(note if number else again, x)

    assert trace(of([], 1), 1.0) == trace(of([3], 1), 1.0)
    assert trace(of([], 1), 1.0) != trace(of([], 0), 1.0)


UNKNOWN = {
    "lock": threading.Lock,
    "generator": lambda: (i for i in range(3)),
    "connection": lambda: sqlite3.connect(":memory:"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_cannot_be_compared_is_refused_with_a_sentence(kind, tmp_path):
    held = UNKNOWN[kind]()
    run = through("pure", lambda x: (x, held)[0])
    with pytest.raises(UnknownContentError):
        trace(run, 1.0)
    with pytest.raises(ValueError, match="store cannot keep this sweep: its functions refer to"):
        sweep(lambda beta: run(beta), grid(beta=[0.5]), store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert sweep(lambda beta: run(beta), grid(beta=[0.5])).values.tolist() == [0.5]
    if kind == "connection":
        held.close()


def test_an_ffi_target_is_refused():
    with pytest.raises(UnknownContentError, match="the FFI target 'of the user'"):
        trace(jax.ffi.ffi_call("of the user", SCALAR), 1.0)


def test_a_store_continues_the_same_callback_and_refuses_another(tmp_path):
    points = grid(beta=[0.25, 0.5])

    def swept(number):
        run = through("pure", by_function_in_closure(number))
        return sweep(lambda beta: run(beta), points, store=tmp_path)

    assert swept(2).values.tolist() == [0.5, 1.0]
    assert swept(2).report.resumed == 2
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"the code of pure_callback <lambda> has changed, or"):
        swept(3)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_halving_with_another_resample_of_the_same_name_is_refused(tmp_path):
    def halved(factor):
        def resample(rung, settings, points):
            return {"beta": settings["beta"] * np.float32(factor)}

        functions = (lambda beta: beta, lambda x, beta: x * beta, lambda x: x)
        points = grid(beta=[0.25, 0.5, 0.75])
        return halve(*functions, points, rungs=2, store=tmp_path, resample=resample)

    halved(0.5)
    assert halved(0.5).report.resumed == 6
    with pytest.raises(ValueError, match="the code of the argument resample has changed"):
        halved(0.25)
    other = momentax.sweeps.mutate(jax.random.key(1))
    with pytest.raises(ValueError, match=r"resample was '.*resample.*' and is 'Mutation"):
        halve(lambda beta: beta, lambda x, beta: x * beta, lambda x: x,
              grid(beta=[0.25, 0.5, 0.75]), rungs=2, store=tmp_path, resample=other)  # fmt: skip
