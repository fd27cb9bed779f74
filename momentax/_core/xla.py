"""How to write updates so that XLA reuses donated buffers and copies nothing.

Donation. A jitted step whose arguments are donated (`donate_argnums`) may write its results into
the buffers of these arguments: the new velocity over the old velocity, the new parameters over the
old parameters. XLA decides this when it compiles the program. Where overwriting a buffer is not
safe, XLA first copies the whole buffer and does not report it. On large parameters such a step
takes several times as long. XLA copies a donated buffer for three reasons.

1. An operation that reads the old value may run after the write. XLA orders two operations only if
   one uses the data of the other, and `jax.lax.optimization_barrier` does not order them either.
   Remedy: make the new value use data of the last reader, in a way that changes no bit and that XLA
   cannot simplify: `computed_after`, `value_and_grad_before_writes`.
2. An expression is computed again for each of its readers. XLA fuses elementwise operations into
   the operations that use their results. If the new velocity and the direction both contain
   β v + γ g, then XLA may compute that sum twice, and the second time reads the old v after the
   new one was written. Remedies: compute everything else from the new velocity and nothing from the
   old one; `decay_and_add`, which keeps XLA from simplifying the sum into a form that it computes
   again; and for encoded arrays, an expression that ends in an operation which XLA:CPU does not
   compute again: a conversion from float32 to bfloat16, or a choice (`jnp.where`) between arrays of
   int8.
3. The result does not have the form of the buffer. A donated buffer that is reshaped on the way to
   the result is not reused, and neither is one of another shape or dtype. One buffer can also be
   donated only once, so that no two leaves of a state may be the same array.

The remedies are functions of this module, so that methods, wrappers, storages and `train_step`
only name what they need. tests/test_compiled.py and tests/test_exact_costs.py compile every
transformation and count the copies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments, arithmetic
from momentax._core.typing import PyTree, Scalar


def decay_and_add(count: jax.Array, β: Scalar, v: PyTree, *terms: tuple[Scalar, PyTree]) -> PyTree:
    """Return β v + γ g for the terms (γ, g), in the dtypes of v and ready to overwrite v.

    XLA simplifies v/2 + g/2 to (v + g)/2 and computes that again for each of its readers. So
    where β and γ are the same number, β is hidden from XLA behind a test of the count, or of
    another scalar, which is never negative; XLA does not know that.
    """
    if any(arithmetic.is_known(β, γ) and β == γ != 0 for γ, _ in terms):
        β = jnp.where(count < 0, 0, arithmetic.as_scalar(β))
    return arithmetic.combine((β, v), *terms, like=v)


def computed_after(count: jax.Array, tree: PyTree, *earlier: PyTree) -> PyTree:
    """Return `tree` unchanged, but make it depend on `earlier`, trees of the same shapes.

    Then `tree` may overwrite a buffer from which `earlier` is still to be computed. The count is
    never negative, so that no value of `earlier` enters; XLA does not know that.
    """

    def depend(leaf: jax.Array, *others: jax.Array) -> jax.Array:
        return jnp.where(count < 0, sum(other.astype(leaf.dtype) for other in others), leaf)

    return jax.tree.map(depend, tree, *earlier)


def scalar_computed_after(scalar: jax.Array, earlier: jax.Array) -> jax.Array:
    """Return `scalar` unchanged, but make it depend on `earlier`, another scalar.

    What is multiplied by the scalar then overwrites no buffer from which `earlier` is still to be
    computed. Where `earlier` is NaN, so is the result.
    """
    return jnp.where(jnp.isnan(earlier), earlier, scalar)


def hide_constant(x: jax.Array) -> jax.Array:
    """Return x, but keep XLA from computing constant expressions of x while it compiles."""
    return jax.lax.optimization_barrier(x)


def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return what one of two functions returns, by a condition that may be traced.

    Outside of a traced function the condition is known, and nothing is compiled. `jax.lax.cond`
    would compile both functions at each call, since they are new ones.
    """
    if arguments.is_traced(condition):
        return jax.lax.cond(condition, yes, no)
    return yes() if condition else no()


def part_of(stack: jax.Array, start: int, count: int) -> jax.Array:
    """Return some entries along the first axis, such that equal parts need one compilation.

    XLA:CPU compiles one kernel for all operations that differ in nothing but their operands, and
    takes about 40 ms for each kernel. It writes the place of a slice into the kernel, and a number
    that is known as well, but not an array. That of two different numbers does not become a number.
    """
    if count == len(stack):
        return stack
    place = hide_constant(jnp.asarray(np.array([start, -1, -1], np.int32)))
    first = jax.lax.index_in_dim(place, 0, keepdims=False)
    at = (first, *[np.int32(0)] * (stack.ndim - 1))
    return jax.lax.dynamic_slice(stack, at, (count, *stack.shape[1:]), allow_negative_indices=False)


def run_equation(jaxpr: Any, eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """Run one equation of a traced program, given the values of its operands."""
    from jax.extend.core import ClosedJaxpr

    is_variable = [not hasattr(atom, "val") for atom in eqn.invars]
    inputs = list(itertools.compress(eqn.invars, is_variable))
    single = jaxpr.replace(constvars=[], invars=inputs, outvars=eqn.outvars, eqns=[eqn])
    return evaluate(ClosedJaxpr(single, []), *itertools.compress(operands, is_variable))


def evaluate(closed_jaxpr: Any, *args: Any) -> list[Any]:
    """Run a traced program (a ClosedJaxpr) on the leaves of its arguments."""
    # Imported at the call, which keeps `import momentax` fast.
    from jax.extend.core import jaxpr_as_fun

    return jaxpr_as_fun(closed_jaxpr)(*args)


def is_elementwise(jaxpr: Any) -> bool:
    """Return whether a program is cheap to run twice: entry by entry, with sums and the like.

    A program is not if it multiplies matrices, has a loop, calls the host or has another effect.
    """
    if jaxpr.effects:
        return False
    return all(
        eqn.primitive.name not in EXPENSIVE and all(map(is_elementwise, called_programs(eqn)))
        for eqn in jaxpr.eqns
    )


def called_programs(eqn: Any) -> list[Any]:
    """Return the programs that an equation calls."""
    parameters = [x for p in eqn.params.values() for x in (p if isinstance(p, tuple) else (p,))]
    return [getattr(p, "jaxpr", p) for p in parameters if hasattr(p, "jaxpr") or hasattr(p, "eqns")]


# The order of reads and writes in a training step.

# Calls that XLA inlines.
_INLINED = (
    "jit", "pjit", "closed_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call"
)  # fmt: skip
# Operations that XLA does not fuse, although their result may have the size of an operand.
_CONTRACTIONS = ("dot_general", "conv_general_dilated")
# Operations that take much longer than reading their operands.
EXPENSIVE = (
    *_CONTRACTIONS, "while", "scan", "cholesky", "lu", "eigh", "eig", "svd", "qr", "geqrf",
    "householder_product", "triangular_solve", "tridiagonal", "schur", "fft", "sort", "top_k",
    "custom_linear_solve", "ffi_call", "custom_call", "pure_callback", "io_callback",
)  # fmt: skip
_LARGE = 4096  # Entries. Copying a smaller array costs next to nothing.
# The number of gradients that wait: in a loop the compile time grows with its square.
_MOST = 64


def value_and_grad_before_writes(
    function: Callable[[PyTree], tuple[jax.Array, PyTree]], params: PyTree, single_device: bool
) -> tuple[tuple[jax.Array, PyTree], PyTree]:
    """Compute `jax.value_and_grad(function, has_aux=True)(params)` before any parameter is written.

    Two kinds of operations read a parameter and need not run before it is overwritten: those that
    compute the value, and the backward pass through the layer of that parameter. So each large
    gradient is made to depend on the value, and for each other read of its parameter on the first
    gradient that depends on that read. On several devices the gradients depend on the value alone,
    since reading one entry of a gradient would send it to all devices.
    """
    differentiate = jax.value_and_grad(function, has_aux=True)
    if single_device:
        closed, shapes = jax.make_jaxpr(differentiate, return_shape=True)(params)
        outputs = evaluate(closed, *jax.tree.leaves(params))
        outcome, g = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
        waits = _results_to_wait_for(closed.jaxpr, len(jax.tree.leaves(g)))
    else:
        outcome, g = differentiate(params)
        waits = [[] for _ in jax.tree.leaves(g)]
    gradients, structure = jax.tree.flatten(g)
    results = [outcome[0], *gradients]
    for i in _largest(gradients):
        gradients[i] = _after_first_entries([results[k] for k in (0, *waits[i])], gradients[i])
    return outcome, jax.tree.unflatten(structure, gradients)


def _largest(leaves: Sequence[Any]) -> list[int]:
    """The numbers of the leaves that are large enough to wait."""
    large = [i for i, leaf in enumerate(leaves) if leaf.size >= _LARGE]
    return sorted(large, key=lambda i: -leaves[i].size)[:_MOST]


def _after_first_entries(results: list[jax.Array], leaf: jax.Array) -> jax.Array:
    """Return `leaf` unchanged, but make it depend on the first entry of each result.

    No number equals NaN. XLA does not know that; the code generator behind it does, so that the
    test costs nothing.
    """
    first = [
        jax.lax.slice(x, (0,) * x.ndim, (1,) * x.ndim)
        for x in map(jnp.asarray, results)
        if jnp.size(x)
    ]
    total = sum(jnp.real(x).reshape(()).astype(jnp.float32) for x in first)
    return jnp.where(total == jnp.float32(jnp.nan), jnp.zeros_like(leaf), leaf)


class _Origin(NamedTuple):
    """How a variable of a program depends on the parameters.

    images: the parameters of which the variable is an elementwise function, so that XLA may compute
        it inside of its readers, which then read these parameters.
    reads: the reads of parameters that run before the variable is known, as bits.
    time: the position of its equation.
    """

    images: frozenset[int] = frozenset()
    reads: int = 0
    time: int = -1


class _Reads:
    """All reads of the large parameters in a program, found by following its equations."""

    def __init__(self, jaxpr: Any) -> None:
        self.parameters: list[frozenset[int]] = []  # The parameters of each read.
        large = _largest([var.aval for var in jaxpr.invars])
        self._origins = {jaxpr.invars[i]: _Origin(frozenset([i])) for i in large}
        self._follow(jaxpr)

    def origin(self, atom: Any) -> _Origin:
        is_literal = hasattr(atom, "val")
        return _Origin() if is_literal else self._origins.get(atom, _Origin())

    def _follow(self, jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            body = inlined_body(eqn)
            if body is not None:
                self._rename(eqn.invars, body.invars)
                self._follow(body)
                self._rename(body.outvars, eqn.outvars)
            else:
                self._visit(eqn)

    def _rename(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        self._origins.update(zip(new, map(self.origin, old), strict=True))

    def _visit(self, eqn: Any) -> None:
        images: frozenset[int] = frozenset()
        reads = 0
        for atom in eqn.invars:
            origin = self.origin(atom)
            reads |= origin.reads
            if origin.images and is_elementwise_at(eqn, atom):
                images |= origin.images
            elif origin.images:
                reads |= 1 << len(self.parameters)
                self.parameters.append(origin.images)
        result = _Origin(images, reads, time=len(self._origins))
        self._origins.update(dict.fromkeys(eqn.outvars, result))


def inlined_body(eqn: Any) -> Any:
    """Return the program that an equation calls and that XLA inlines, or None."""
    body = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if body is None or eqn.primitive.name not in _INLINED:
        return None
    return getattr(body, "jaxpr", body)


def is_elementwise_at(eqn: Any, atom: Any) -> bool:
    """Whether an equation is computed entry by entry of one of its operands."""
    has_body = any(hasattr(p, "eqns") or hasattr(p, "jaxpr") for p in eqn.params.values())
    same_size = all(out.aval.size == atom.aval.size for out in eqn.outvars)
    return same_size and not has_body and eqn.primitive.name not in _CONTRACTIONS


def _results_to_wait_for(jaxpr: Any, gradients: int) -> list[list[int]]:
    """For each parameter, the results that its gradient must wait for.

    Result 0 is the value and result i + 1 the gradient of parameter i. The program returns the
    value first and the gradients last.
    """
    found = _Reads(jaxpr)
    outputs = jaxpr.outvars
    results = [found.origin(var) for var in (outputs[0], *outputs[len(outputs) - gradients :])]
    earliest = sorted(range(len(results)), key=lambda k: results[k].time)
    waits: list[set[int]] = [set() for _ in jaxpr.invars]
    for read, parameters in enumerate(found.parameters):
        first = next((k for k in earliest if results[k].reads >> read & 1), None)
        for i in parameters:
            if first is not None and not results[i + 1].reads >> read & 1:
                waits[i].add(first)
    return [sorted(wait) for wait in waits]
