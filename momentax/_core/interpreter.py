"""Run a traced program in NumPy, which starts no device and compiles nothing.

It is used to probe a transformation with a few small arrays. Each operation costs a few
microseconds, whereas compiling the program of a large model takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import xla
from momentax._core.arguments import is_traced


class UnreadableError(Exception):
    """A program depends on a traced value, or contains an operation that is not listed here."""


def evaluate(closed_jaxpr: Any, args: Sequence[Any], *, start_devices: bool) -> list[Any]:
    """Return the outputs of a traced program (a ClosedJaxpr) for NumPy arrays.

    With `start_devices`, JAX runs the operations that are not listed here.

    Raises:
        UnreadableError: The program cannot be run in this way.
    """
    if any(map(is_traced, closed_jaxpr.consts)):
        raise UnreadableError("the program depends on a value that is being traced")
    with np.errstate(all="ignore"):
        return _Interpreter(start_devices).run(closed_jaxpr, args)


class _Interpreter(NamedTuple):
    start_devices: bool

    def run(self, closed_jaxpr: Any, args: Sequence[Any]) -> list[Any]:
        jaxpr = closed_jaxpr.jaxpr
        values = dict(zip(jaxpr.constvars, map(_as_numpy, closed_jaxpr.consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return np.asarray(atom.val) if hasattr(atom, "val") else values[atom]

        for eqn in jaxpr.eqns:
            results = self.apply(jaxpr, eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, map(_as_numpy, results, eqn.outvars), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, jaxpr: Any, eqn: Any, operands: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name in _SAME:
            return operands
        if name in _OPERATIONS:
            return [_OPERATIONS[name](*operands)]
        if name in _WITH_PARAMETERS:
            return [_WITH_PARAMETERS[name](params, *operands)]
        if name in _CALLS:
            return self.run(params[_CALLS[name]], operands)
        if name == "cond":
            return self.run(params["branches"][int(operands[0])], operands[1:])
        if name == "while":
            return self.loop(params, operands)
        if name == "scan":
            return self.scan(params, operands)
        if name == "split":
            return np.split(operands[0], np.cumsum(params["sizes"])[:-1], params["axis"])
        if name in _RANDOM:
            return [np.broadcast_to(np.uint32(0), var.aval.shape) for var in eqn.outvars]
        if self.start_devices and not eqn.effects and "callback" not in name:
            with jax.ensure_compile_time_eval():
                return xla.run_equation(jaxpr, eqn, operands)
        raise UnreadableError(f"the program contains the operation {name}")

    def loop(self, params: dict[str, Any], operands: list[Any]) -> list[Any]:
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        for_test, for_body, carry = operands[:first], operands[first:second], operands[second:]
        while self.run(params["cond_jaxpr"], [*for_test, *carry])[0]:
            carry = self.run(params["body_jaxpr"], [*for_body, *carry])
        return carry

    def scan(self, params: dict[str, Any], operands: list[Any]) -> list[Any]:
        first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
        consts, carry, rows = operands[:first], operands[first:second], operands[second:]
        steps, collected = range(params["length"]), []
        for i in reversed(steps) if params["reverse"] else steps:
            results = self.run(params["jaxpr"], [*consts, *carry, *(each[i] for each in rows)])
            carry = results[: params["num_carry"]]
            collected.append(results[params["num_carry"] :])
        columns = zip(*(collected[::-1] if params["reverse"] else collected), strict=True)
        return [*carry, *map(np.stack, columns)]


def _as_numpy(value: Any, var: Any = None) -> Any:
    """Return a value in NumPy, with the dtype and shape of a variable; a random key is zeros."""
    aval = jax.typeof(value) if var is None else var.aval
    if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
        return np.zeros(aval.shape, np.uint32)
    return np.asarray(value).astype(aval.dtype).reshape(aval.shape)


def _select(which: Any, *cases: Any) -> Any:
    return np.choose(which.astype(np.int64), cases)


def _broadcast(params: dict[str, Any], x: Any) -> Any:
    shape, axes = params["shape"], params["broadcast_dimensions"]
    kept = [x.shape[axes.index(i)] if i in axes else 1 for i in range(len(shape))]
    return np.broadcast_to(np.reshape(x, kept), shape)


def _multiply_matrices(params: dict[str, Any], x: Any, y: Any) -> Any:
    (sum_x, sum_y), (batch_x, batch_y) = params["dimension_numbers"]
    axes_x, axes_y = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip((*sum_x, *batch_x), (*sum_y, *batch_y), strict=True):
        axes_y[j] = i
    batch = [axes_x[i] for i in batch_x]
    free_x = [a for i, a in enumerate(axes_x) if i not in (*sum_x, *batch_x)]
    free_y = [a for i, a in enumerate(axes_y) if i not in (*sum_y, *batch_y)]
    # NumPy has no products in bfloat16, whose kind is "V".
    x, y = (each.astype(np.float32) if each.dtype.kind == "V" else each for each in (x, y))
    return np.einsum(x, axes_x, y, axes_y, batch + free_x + free_y)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, x: function(x, axis=tuple(params["axes"]))


# Calls of other programs, by the parameter that holds the program.
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr",
          "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}  # fmt: skip
# What a probe finds does not depend on random bits, so that zeros replace them.
_RANDOM = {"random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in",
           "random_clone", "random_bits", "threefry2x32"}  # fmt: skip
# Operations whose results have the entries of their operands; the shape is that of the result.
_SAME = {"convert_element_type", "reshape", "squeeze", "expand_dims", "copy", "copy_p",
         "optimization_barrier", "stop_gradient", "sharding_constraint", "reshard", "mesh_cast",
         "reduce_precision"}  # fmt: skip
# `erf_inv` makes normal random numbers, for which any odd increasing function serves here.
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in (
        "abs", "sign", "square", "sqrt", "cbrt", "exp", "exp2", "log", "log1p", "expm1", "sin",
        "cos", "tan", "tanh", "sinh", "cosh", "floor", "ceil", "real", "imag", "conj", "nextafter",
    )},
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "neg": np.negative, "max": np.maximum, "min": np.minimum, "pow": np.power, "rem": np.fmod,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "not": np.invert, "is_finite": np.isfinite, "asinh": np.arcsinh, "atan2": np.arctan2,
    "rsqrt": lambda x: 1 / np.sqrt(x), "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "complex": lambda x, y: x + 1j * y, "clamp": lambda low, x, high: np.clip(x, low, high),
    "select_n": _select, "erf_inv": np.arctanh, "shift_right_logical": np.right_shift,
    "shift_left": np.left_shift,
}  # fmt: skip
_WITH_PARAMETERS: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, *xs: np.concatenate(xs, params["dimension"]),
    "dot_general": _multiply_matrices,
    "integer_pow": lambda params, x: x ** float(params["y"]),
    "bitcast_convert_type": lambda params, x: np.ascontiguousarray(x).view(params["new_dtype"]),
    "iota": lambda params: np.indices(params["shape"])[params["dimension"]],
    "reduce_and": _reduction(np.all),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_or": _reduction(np.any),
    "reduce_sum": _reduction(np.sum),
    "slice": lambda params, x: x[
        tuple(map(slice, params["start_indices"], params["limit_indices"], params["strides"] or
                  (None,) * x.ndim))
    ],
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
}  # fmt: skip
