"""Find out before any training whether updates oppose the gradient, as steps do."""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import interpreter, trees
from momentax._core.arguments import dtype_of
from momentax._core.sharding import without_ambient_mesh
from momentax._core.typing import PyTree
from momentax._wrappers._orientation import is_comparable, negative

# A learning rate may be 0 at first, and optax.MultiSteps makes a step only at some updates.
_COUNTS = np.unique([*range(64), *(2**i for i in range(6, 31))]).astype(np.int32)

# Up to so many entries in all, the parameters keep their shapes, which masks and labels may read.
_LARGEST_EXACT = 2**14


def opposed_parameter(
    tx: optax.GradientTransformation, params: PyTree, *, start_devices: bool = True
) -> str | None:
    """Return the path of a parameter whose updates by `tx` oppose its gradient, or None.

    The updates for g and for -g from the same state are compared, as in `cautious`. Large
    parameters are replaced by small arrays, so that a rule that reads their shapes may see
    another one. None may also mean that this is unknown: hyperparameters are traced, or `tx`
    does not take these parameters or needs arguments of its own.

    Args:
        tx: The transformation.
        params: Its parameters; only their structure, shapes and dtypes are read.
        start_devices: Whether JAX may run operations that the interpreter does not list.
    """
    return _first_parameter(tx, params, -1, start_devices)


def followed_parameter(
    tx: optax.GradientTransformation, params: PyTree, *, start_devices: bool = True
) -> str | None:
    """Return the path of a parameter whose updates by `tx` follow its gradient, or None.

    It is found as by `opposed_parameter`, and None may also mean that this is unknown.
    """
    return _first_parameter(tx, params, 1, start_devices)


def scales_by_learning_rate(tx: optax.GradientTransformation, params: PyTree) -> bool:
    """Return whether a transformation contains `momentax.sgd`, which may also ascend."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = jax.eval_shape(tx.init, trees.only_arrays(params))
    except Exception:  # The transformation does not take these parameters; its init says why.
        return False

    def is_ours(node: Any) -> bool:
        return getattr(type(node), "scales_by_learning_rate", False)

    return any(map(is_ours, jax.tree.leaves(state, is_leaf=is_ours)))


def _first_parameter(
    tx: optax.GradientTransformation, params: PyTree, sign: int, start_devices: bool
) -> str | None:
    """Return the path of the first parameter whose updates have a sign along the gradient."""
    for extra_args in (_extra_args, _more_extra_args):
        try:
            return _Probe(tx, params, extra_args, start_devices).first_with(sign)
        # The parameters, gradients and extra arguments are not the real ones, so that tx may
        # raise anything. If the real ones fail as well, `update` raises the error.
        except Exception:
            continue
    return None


class _Probe:
    """The updates of a transformation, computed in NumPy for small arrays."""

    def __init__(
        self,
        tx: optax.GradientTransformation,
        params: PyTree,
        extra_args: Callable[[PyTree, PyTree], dict[str, Any]],
        start_devices: bool,
    ):
        self.tx, self.extra_args = optax.with_extra_args_support(tx), extra_args
        self.start_devices = start_devices
        arrays = jax.tree.leaves(trees.only_arrays(params))
        is_small = sum(map(np.size, arrays)) <= _LARGEST_EXACT
        longest = _LARGEST_EXACT if is_small else 2
        self.params = jax.tree.map(partial(_sample, longest=longest), params)
        self.gradients = jax.tree.map(_gradient, self.params)

    def first_with(self, sign: int) -> str | None:
        """Return the path of the first parameter whose updates follow its gradient, or oppose it.

        They follow it for the sign 1 and oppose it for the sign -1.
        """
        named = jax.tree_util.tree_leaves_with_path(self.gradients)
        # Most transformations are known from their first update. Others make a step only at a
        # later count, or compare a gradient with the last.
        for counts, earlier_updates in ((_COUNTS[:1], 0), (_COUNTS, 0), (_COUNTS, 1)):
            if not named:
                return None
            cosines = self.cosines(counts, earlier_updates)
            for path, _ in named:
                if sign * cosines.get(path, 0) > 0:
                    return trees.path_name(path)
            named = [(path, g) for path, g in named if cosines.get(path) == 0]
        return None

    def cosines(self, counts: np.ndarray, earlier_updates: int) -> dict[Any, float]:
        """Return the cosine of each gradient and the change of the update that it leads to."""
        respond: Any = partial(self.respond, earlier_updates=earlier_updates)
        if len(counts) > 1:
            respond = jax.vmap(respond, in_axes=(0, None))
        else:
            counts = counts[0]
        trace = without_ambient_mesh(jax.make_jaxpr(respond, return_shape=True))
        with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
            warnings.simplefilter("ignore")
            closed, shapes = trace(counts, self.gradients)
            inputs = [counts, *jax.tree.leaves(self.gradients)]
            outputs = interpreter.evaluate(closed, inputs, start_devices=self.start_devices)
        named, structure = jax.tree_util.tree_flatten_with_path(self.gradients)
        both = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
        columns = zip(named, *map(structure.flatten_up_to, both), strict=True)
        return {
            path: _first_cosine(g, ahead, back)
            for (path, g), ahead, back in columns
            # Where there is no array, another transformation has the parameter.
            if is_comparable(g) and isinstance(ahead, np.ndarray)
        }

    def respond(self, count: jax.Array, g: PyTree, earlier_updates: int) -> tuple[PyTree, PyTree]:
        """Return the updates that g and -g lead to, with the counts of the state increased."""
        state = self.tx.init(self.params)
        for _ in range(earlier_updates):
            _, state = self.update(g, state)
        state = jax.tree.map(partial(_advance, count), state)
        return self.update(g, state)[0], self.update(negative(g), state)[0]

    def update(self, g: PyTree, state: Any) -> tuple[PyTree, Any]:
        return self.tx.update(g, state, self.params, **self.extra_args(g, self.params))


def _sample(leaf: Any, longest: int) -> Any:
    """Return an array in the place of a parameter, and None for what is no array.

    Axes longer than `longest` are shortened to it.
    """
    if not trees.is_array(leaf):
        return None
    shape = tuple(min(length, longest) for length in np.shape(leaf))
    values = np.linspace(0.5, 1.5, math.prod(shape)).reshape(shape)
    return values.astype(dtype_of(leaf))


def _gradient(leaf: Any) -> np.ndarray:
    """Return a gradient that is not 0 after its mean is subtracted."""
    if not is_comparable(leaf):
        return leaf
    phase = 1 + 0.5j if np.iscomplexobj(leaf) else 1
    return (np.resize([1, 0.6, -0.8, 0.4], leaf.shape) * phase).astype(leaf.dtype)


def _advance(count: jax.Array, leaf: jax.Array) -> jax.Array:
    """Increase a leaf of a state that is a count."""
    is_count = leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.signedinteger)
    return leaf + count.astype(leaf.dtype) if is_count else leaf


def _extra_args(g: PyTree, params: PyTree) -> dict[str, Any]:
    """Return the arguments that `train_step` gives, for a quadratic loss with the gradient g."""

    def loss(at: PyTree) -> jax.Array:
        def term(g: Any, x: Any, x0: Any) -> jax.Array:
            return jnp.sum(jnp.real(jnp.conj(g) * (x - x0)) + jnp.abs(x - x0) ** 2 / 2)

        terms = jax.tree.leaves(jax.tree.map(term, g, at, params))
        return functools.reduce(operator.add, terms, jnp.float32(10))

    return {"value": loss(params), "grad": g, "value_fn": loss}


def _more_extra_args(g: PyTree, params: PyTree) -> dict[str, Any]:
    """Return arguments that some methods need, and that others refuse."""
    usual = _extra_args(g, params)
    before = jax.tree.map(jnp.zeros_like, g)
    return {**usual, "prev_grad": before, "obj_fn": usual["value_fn"]}


def _first_cosine(g: np.ndarray, ahead: Any, back: Any) -> float:
    """Return the cosine of the gradient and the change of the update, at the first clear count.

    A change that may be a rounding error of a much larger update is not clear.
    """
    g, ahead, back = (np.reshape(x, (-1, g.size)).astype(complex) for x in (g, ahead, back))
    change, size = ahead - back, np.linalg.norm
    along, length = np.real(change @ np.conj(g[0])), size(change, axis=1)
    with np.errstate(all="ignore"):
        cosine = along / (length * size(g))
        clear = (length > 1e-4 * (size(ahead, axis=1) + size(back, axis=1))) & (abs(cosine) > 0.1)
    return cosine[np.argmax(clear)] if clear.any() else 0
