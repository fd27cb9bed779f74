"""Orthogonalized momentum: the polar factor of each matrix of a direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.sharding import (
    devices_that_share,
    place_like,
    replicate_like,
    sharding_in_type,
)
from momentax._core.transformations import Method, transformation
from momentax._core.typing import PyTree, Reals
from momentax._methods._quasi_hyperbolic import quasi_hyperbolic
from momentax._wrappers import _direction
from momentax._wrappers._coefficients import as_coefficients
from momentax._wrappers._matrices import (
    Layout,
    blocks_of,
    from_blocks,
    layouts_of,
    require_choices,
)
from momentax._wrappers._polar_blocks import polar_blocks


class OrthogonalizeState(NamedTuple):
    """The state of orthogonalized momentum.

    row_squares: with after="normuon", for each orthogonalized parameter the running average of the
        mean square of each output's entries, whose axes of inputs have length 1; None for other
        parameters, and None as a whole otherwise.
    inner_state: the state of the method.
    """

    row_squares: PyTree
    inner_state: Any


# The factor of the polar factor as a function of its inputs and outputs.
_SCALES: dict[str, Callable[[int, int], float]] = {
    "spectral": lambda inputs, outputs: math.sqrt(max(1, outputs / inputs)),
    "rms": lambda inputs, outputs: 0.2 * math.sqrt(max(inputs, outputs)),
    "unit": lambda inputs, outputs: math.sqrt(outputs / inputs),
}
_DTYPES = ("float32", "bfloat16", "float16", "float64")
_AFTER = ("normuon", "row")
# NorMuon's share of the average that is kept each step, and what it adds to a root.
_ROW_BETA = 0.95
_ROW_EPS = 1e-10


class _Map(NamedTuple):
    """What happens to each matrix of a direction."""

    rows: Reals
    scale: str | None
    dtype: Any
    after: str | None


def orthogonalize(
    method: optax.GradientTransformation | None = None,
    *,
    coefficients: str | Sequence[Sequence[float]] = "polar_express",
    steps: int = 5,
    scale: str | None = "spectral",
    dtype: Any = jnp.float32,
    where: PyTree | Callable[[PyTree], PyTree] | Mapping[str, Any] | None = None,
    heads: PyTree | Callable[[PyTree], PyTree] | Mapping[str, int] | None = None,
    split: PyTree | Callable[[PyTree], PyTree] | Mapping[str, Any] | None = None,
    after: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replace each matrix of a method's direction by its polar factor, as Muon does.

        U_t = Σ_i σ_i p_i q_iᵀ,    the direction of the method with its singular vectors
        d_t = s Σ_i f(σ_i / ‖U_t‖) p_i q_iᵀ

    The exact polar factor has f = 1: all directions p_i q_iᵀ that U contains get the same length.
    Here f is the result of k steps of the Newton-Schulz iteration, which needs products alone:

        X_0 = U_t / max(‖U_t‖, ε)
        X_j = a_j X_{j-1} + b_j A X_{j-1} + c_j A² X_{j-1},    A = X_{j-1} X_{j-1}ᵀ
        d_t = s X_k

    Each step takes the singular values x to a x + b x³ + c x⁵ and keeps the singular vectors. ‖U‖
    is the Frobenius norm, and ε the smallest normal number of float32, so that the size of U does
    not matter. This is a map of directions and not an optimizer: `sgd` adds the learning rate. All
    sets of coefficients below keep singular values positive, so that d never opposes U. They take
    the singular values x = σ / ‖U‖ to these intervals:

        coefficients             k    [0.001, 1] to     [0.01, 1] to      above 1/2 from x =
        "polar_express"          5    [0.859, 1.141]    [0.859, 1.141]    5.3e-4
        "polar_express"         10    [1.016, 1.060]    [1.016, 1.060]    7.4e-6
        "polar_express_8"        8    [1.000, 1.000]    [1.000, 1.000]    8.5e-5
        "jordan"                 5    [0.471, 1.202]    [0.682, 1.134]    1.1e-3
        "jordan"                10    [0.682, 1.134]    [0.682, 1.134]    2.2e-6
        "you", "quintic"         5    [0.475, 1.145]    [0.978, 1.032]    1.1e-3
        "cans"                   5    [0.884, 1.120]    [0.884, 1.120]    5.0e-4
        "cubic"                  5    [0.119, 1.300]    [0.774, 1.300]    4.3e-3
        "deepseek_v4"           10    [1.000, 1.001]    [1.000, 1.001]    6.7e-6
        "halley"                12    [1.000, 1.000]    [1.000, 1.000]    1.3e-4
        "newton_schulz"         15    [1.000, 1.000]    [1.000, 1.000]    4.3e-5
        "newton_schulz_cubic"   20    [1.000, 1.000]    [1.000, 1.000]    1.6e-4

    "jordan" does not converge, however many steps are made. The cost is proportional to the steps,
    and the fewest that take [0.001, 1] into [0.85, 1.15] are 5 of "polar_express" or "cans", 6 of
    "polar_express_8" or "you", 9 of "deepseek_v4", 11 of "halley", 12 of "newton_schulz" and 18 of
    "newton_schulz_cubic"; those of "jordan" and "cubic" never do. A step costs two products of the
    size of U and one of the size of A. Where U is more than 1.5 times as long as wide, and dtype is
    float32 or float16, A is iterated in place of X, which needs fewer operations and is less exact
    for x below 0.001.

    Axes. Kernels are those of Flax: (inputs, outputs). With where=None a parameter of two axes is
    such a matrix, one of three is a stack (batch, inputs, outputs), as `nn.scan` and experts make
    it, and one of four is the kernel of a convolution (height, width, inputs, outputs), which is
    flattened to (height · width · inputs, outputs). The direction of a parameter with fewer axes
    stays as it is. That of embeddings and of the output layer should also stay, and no rule about
    axes can tell: leave them out with `where`.

    Args:
        method: The method whose direction is orthogonalized, or any transformation of gradients
            into directions. None is Jordan's: quasi_hyperbolic(0.95, 0.95), which is Nesterov's
            momentum as an average.
        coefficients: The name of a set, or rows (a, b, c) of one's own, one for each step. Past the
            end of a set its last row repeats.
        steps: k, the number of steps, at least 1 and at most 100.
        scale: The factor s of a matrix with n inputs and m outputs: "spectral" is √max(1, m/n),
            "rms" is 0.2 √max(n, m), with which the entries are about as large as those of Adam's
            updates, "unit" is √(m/n), and None is 1.
        dtype: The dtype of the iteration: float32, bfloat16, float16 or float64. Norms are
            computed in float32 or wider, and so are all sums.
        where: The parameters to orthogonalize: a tree of values, a prefix of one, a function from
            the parameters to one, or a dict from patterns of names, such as "*/kernel", to values,
            of which the first that matches counts; the direction of a parameter that none matches
            stays as it is. The value True means the axes above, and False that it stays too. A
            letter for each axis says what they are: i for inputs, o for outputs, b for a batch. So
            "ioo" is a kernel of attention with the axes (inputs, heads, outputs of a head), "oi"
            the weight of a `torch.nn.Linear`.
        heads: The axis of attention heads of each parameter that has one, as a tree, a function or
            a dict as for `where`. Each head is then a matrix of its own.
        split: The blocks of outputs of each parameter that holds several matrices side by side, as
            a tree, a function or a dict as for `where`: the number of equal blocks, 3 for a fused
            kernel of queries, keys and values, or a tuple of their widths. Results are those of
            separate parameters.
        after: What happens to the polar factor before it is scaled. "row" gives all outputs the
            same length and keeps the norm of the matrix: each column of a kernel of Flax, which is
            a row of PyTorch's, is divided by the root of its mean square. "normuon" divides by the
            root of the running average of that mean square, with the share 0.95 kept each step.

    Returns:
        A method, whose directions have the shapes and dtypes of the gradients. Its state is
        OrthogonalizeState(row_squares, inner_state).

    Raises:
        ValueError: An argument is out of its range, rows take a singular value to a negative number
            or above 4, or method is found to be a complete optimizer; at init, where, heads or
            split do not fit the parameters, or the axes of a parameter are not known; dtype is
            float64, which JAX does not have without jax_enable_x64.
        TypeError: method is not a gradient transformation, or dtype is none of the four.

    Example:
        >>> tx = momentax.sgd(0.02, momentax.orthogonalize(momentax.heavy_ball(0.95)))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
        Coefficients: Amsel et al., 2025, arXiv:2505.16932 ("polar_express"); You, in the code of
        Dion ("you"); Grishina et al., 2025, arXiv:2506.10935 ("cans"); arXiv:2606.00371 ("cubic").
        scale="rms": Liu et al., 2025, arXiv:2502.16982. after="normuon": Li et al., 2025,
        arXiv:2510.05491; after="row": Muon+, 2026, arXiv:2602.21545. The iteration of the Gram
        matrix: Dao et al., Gram Newton-Schulz, 2026.
    """
    steps = arguments.as_count("steps", steps, most=100)
    dtype = as_dtype(dtype)
    if scale is not None:
        arguments.as_option("scale", scale, _SCALES)
    if after is not None:
        arguments.as_option("after", after, _AFTER)
    to = _Map(as_coefficients(coefficients, steps, dtype), scale, dtype, after)
    require_choices(where, heads, split)
    tx = optax.with_extra_args_support(_as_method(method))

    def init(params):
        require_precision(dtype)
        _require_directions(tx, params, start_devices=True)
        inner = tx.init(params)  # First, since it names a parameter that is wrong.
        layouts = layouts_of(params, where, heads, split)
        squares = _row_squares(params, layouts) if after == "normuon" else None
        return OrthogonalizeState(squares, inner)

    def update(updates, state, params=None, **extra_args):
        require_precision(dtype)
        squares, inner = state
        named = updates if params is None else params
        layouts = layouts_of(named, where, heads, split, complete=params is not None)
        _require_squares(squares, after, has_matrices=bool(layouts))
        d, inner = tx.update(updates, inner, params, **extra_args)
        d, squares = _orthogonalize_tree(to, layouts, updates, d, squares)
        return d, OrthogonalizeState(squares, inner)

    return Method(*transformation(init, update, OrthogonalizeState))


# Arguments.


def _as_method(method: Any) -> optax.GradientTransformation:
    if method is None:
        return quasi_hyperbolic(0.95, 0.95)
    arguments.require_transformation(
        "method", method, ", or None", example="momentax.heavy_ball(0.95)"
    )
    _require_directions(method, np.ones((2, 2), np.float32), start_devices=False)
    return method


def _require_directions(method: Any, params: PyTree, *, start_devices: bool) -> None:
    """Refuse a complete optimizer: the polar factor would lose its learning rate."""
    if isinstance(method, Method):
        return
    opposed = _direction.opposed_parameter(method, params, start_devices=start_devices)
    if opposed is not None:
        raise ValueError(
            "method must return directions, which follow the gradient, got one whose updates "
            "already descend: it is a complete optimizer, whose learning rate the polar factor "
            "would lose; write momentax.sgd(0.02, momentax.orthogonalize("
            "momentax.heavy_ball(0.95)))"
        )


def as_dtype(value: Any) -> Any:
    try:
        dtype = jnp.dtype(value) if isinstance(value, str | type | np.dtype) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.name not in _DTYPES:
        listed = ", ".join(f"jnp.{name}" for name in _DTYPES)
        raise TypeError(f"dtype must be one of {listed}, got {arguments.describe(value)}")
    return dtype


def require_precision(dtype: Any) -> None:
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            "dtype is float64, which JAX only has after jax.config.update('jax_enable_x64', True); "
            "enable it or give dtype=jnp.float32"
        )


def _require_squares(squares: PyTree, after: str | None, *, has_matrices: bool) -> None:
    """Refuse the averages of a state for another `after`."""
    has_squares = bool(jax.tree.leaves(squares))
    if has_squares != (after == "normuon") and (has_squares or has_matrices):
        kept = "with" if has_squares else "without"
        raise ValueError(
            f"state must be one of after={after!r}, got one {kept} row_squares: start with "
            "tx.init(params), and give it the velocity with momentax.replace_velocity"
        )


# The tree.


def _row_squares(params: PyTree, layouts: Mapping[Any, Layout]) -> PyTree:
    def zeros(path: Any, leaf: Any) -> jax.Array | None:
        layout = layouts.get(path)
        if layout is None:
            return None
        inputs = tuple(axis for axis, letter in enumerate(layout.axes) if letter == "i")
        return trees.computed(partial(_zeros_over, inputs), leaf)

    return jax.tree_util.tree_map_with_path(zeros, params)


def _zeros_over(axes: tuple[int, ...], leaf: Any) -> jax.Array:
    """Return real zeros of length 1 along some axes, split over devices along the others."""
    return jnp.sum(arithmetic.zeros_like(leaf).real, axis=axes, keepdims=True)


def _orthogonalize_tree(
    to: _Map, layouts: Mapping[Any, Layout], updates: PyTree, d: PyTree, squares: PyTree
) -> tuple[PyTree, PyTree]:
    """Return the direction with its matrices replaced, and the new averages of squares."""
    named, structure = jax.tree_util.tree_flatten_with_path(updates, is_leaf=trees.is_none)
    leaves = structure.flatten_up_to(d)
    averages: list[Any] = [None] * len(leaves)
    if squares is not None:
        averages = structure.flatten_up_to(squares)
    chosen = {
        i: layouts[path] for i, (path, g) in enumerate(named) if g is not None and path in layouts
    }
    given = [leaves[i] for i in chosen], [averages[i] for i in chosen]
    change = partial(_orthogonalize_arrays, to, list(chosen.values()))
    changed, kept = _in_automatic_axes(change, given)(*given)
    for i, array, average in zip(chosen, changed, kept, strict=True):
        leaves[i], averages[i] = array, average
    after = None if squares is None else structure.unflatten(averages)
    return structure.unflatten(leaves), after


def _in_automatic_axes(change: Callable[..., Any], given: Any) -> Callable[..., Any]:
    """Let the compiler place what lies between the arrays and the results of a function.

    Devices that share an update iterate whole matrices each, and the types of explicit mesh axes
    have no name for what is sent on the way there and back.
    """
    shardings = jax.tree.map(sharding_in_type, given)
    if devices_that_share() is None or not jax.tree.leaves(shardings):
        return change
    places = jax.tree.map(lambda x: jax.typeof(x).sharding, given)
    return jax.sharding.auto_axes(change, out_sharding=places)


def _orthogonalize_arrays(
    to: _Map, layouts: Sequence[Layout], arrays: Sequence[Any], averages: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Return arrays whose matrices are replaced, and the new averages of squares."""
    wide = [_replicated(array) for array in arrays]
    factors = polar_blocks(
        [blocks_of(*pair) for pair in zip(wide, layouts, strict=True)], to.rows, to.dtype
    )
    new, new_averages = [], []
    for array, kept, layout, blocks in zip(arrays, averages, layouts, factors, strict=True):
        if to.after is not None:
            before = [None] * len(blocks)
            if kept is not None:
                before = blocks_of(_replicated(kept), layout)
            pairs = [_normalize_rows(o, w) for o, w in zip(blocks, before, strict=True)]
            blocks = [o for o, _ in pairs]
            if kept is not None:
                w = from_blocks([w for _, w in pairs], layout, kept.shape)
                kept = _placed_like(w, kept)
        if to.scale is not None:
            blocks = [o * _SCALES[to.scale](o.shape[1], o.shape[2]) for o in blocks]
        whole = from_blocks(blocks, layout, array.shape).astype(array.dtype)
        new.append(_placed_like(whole, array))
        new_averages.append(kept)
    return new, new_averages


def _replicated(leaf: Any) -> jax.Array:
    """Return a leaf in its compute dtype, and whole on each device of an explicit mesh."""
    leaf = jnp.asarray(leaf, arithmetic.compute_dtype(leaf))
    return leaf if sharding_in_type(leaf) is None else replicate_like(leaf, leaf)


def _placed_like(array: jax.Array, leaf: jax.Array) -> jax.Array:
    return array if sharding_in_type(leaf) is None else place_like(array, leaf)


def _normalize_rows(o: jax.Array, w: jax.Array | None) -> tuple[jax.Array, Any]:
    """Return matrices whose outputs are divided by their sizes, with their norms kept.

    w is the running average of the mean square of each output, or None for the present one alone.
    """
    square = (o * jnp.conj(o)).real
    mean = jnp.mean(square, axis=1, keepdims=True)
    if w is not None:
        mean = w = _ROW_BETA * w + (1 - _ROW_BETA) * mean
    u = o / (jnp.sqrt(mean) + _ROW_EPS).astype(o.dtype)
    before, after = (
        jnp.sqrt(jnp.sum((x * jnp.conj(x)).real, axis=(1, 2), keepdims=True)) for x in (o, u)
    )
    return u * (before / jnp.where(after == 0, 1, after)).astype(u.dtype), w
