"""The curvature of a real loss: the spectrum of its Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import lazy
from momentax._core.arguments import (
    as_count,
    as_flag,
    as_hashable,
    as_items,
    describe,
    dtype_of,
    is_traced,
    require_function,
    require_key,
    require_loss,
)
from momentax._core.arithmetic import compute_dtype, upcast
from momentax._core.trees import path_name, require_kind
from momentax._core.typing import PyTree
from momentax.diagnostics._lanczos import (
    Matrix,
    Ritz,
    draw_start,
    numbered_bar,
    ritz,
    tridiagonalize,
)
from momentax.diagnostics._spectrum import Spectrum


class Curvature(NamedTuple):
    """The curvature of a loss at a point, as `momentax.curvature` measures it.

    mu: the smallest curvature found, negative near a saddle. The true one is no larger.
    L: the largest curvature found, also called the sharpness. The true one is no smaller.
    spectrum: the distribution of all curvatures.
    history: "mu" and "L" after each product, shape (iterations,), and with them "mu_error" and
        "L_error": a curvature of the loss lies within this distance, up to the rounding errors
        of the products.
    """

    mu: float
    L: float
    spectrum: Spectrum
    history: dict[str, np.ndarray]

    def __repr__(self) -> str:
        mu_error, L_error = (self.history[name][-1] for name in ("mu_error", "L_error"))
        starts, iterations = self.spectrum.nodes.shape
        return (
            f"Curvature(mu={self.mu:.6g} ± {mu_error:.1g}, L={self.L:.6g} ± {L_error:.1g}, "
            f"from {starts} × {iterations} products at {self.spectrum.size} parameters)"
        )

    def plot(self, **options: Any) -> Any:
        """Draw the spectrum with `momentax.plotting.spectrum`, which takes the options.

        Args:
            **options: The keywords of `momentax.plotting.spectrum`.

        Returns:
            The matplotlib axes.
        """
        return lazy.plot("spectrum", self, **options)


def curvature(
    loss: Callable[..., Any],
    params: PyTree,
    *args: Any,
    key: jax.Array | None = None,
    num_iterations: int = 64,
    num_samples: int = 1,
    batches: Iterable[tuple[Any, ...]] | None = None,
    model: Callable[..., Any] | None = None,
    gauss_newton: bool = False,
) -> Curvature:
    """Measure the curvature of a loss: the extreme eigenvalues and the spectrum of its Hessian.

        H = mean over the batches of ∇² f(θ, *args, *batch)
        q_1 random,    H q_k = b_{k-1} q_{k-1} + a_k q_k + b_k q_{k+1}

    This is the Lanczos process: a and b make a tridiagonal matrix T_k, whose eigenvalues, the
    Ritz values, approach the eigenvalues of H from within, the extreme ones first. Their
    weights, the squared first entries of the eigenvectors of T_k, are a Gauss quadrature of the
    spectrum that q_1 sees. H is never formed: a product H q costs about two gradients. The
    basis is kept and reorthogonalized: num_iterations vectors of the parameters' size, twice
    that on a CPU. All batches are on the device at once.

    The loss is computed with rounding errors: in float32 they change an eigenvalue by about
    10⁻⁶ L, so that the sign of a mu of that size means nothing.

    With a model, the loss is f(z), z = model(θ), and the Gauss-Newton matrix

        G = mean over the batches of Jᵀ (∂²f/∂z²) J,    J = ∂z/∂θ

    can be measured instead of H. It is positive semidefinite wherever f is convex in z; it
    leaves out the curvature of the model itself.

    Args:
        loss: f, from `(params, *args, *batch)` to a real scalar; with a model, from
            `(outputs, *args, *batch)`. Another call with the same function reuses the compiled
            program.
        params: θ, any pytree of real floating leaves; they are read in float32 or wider.
        args: Further arguments of the loss and the model, the same for every batch.
        key: A random key, from which the starts q_1 are drawn; equal keys give equal results.
            None means jax.random.key(0), since the converged extremes do not depend on it.
        num_iterations: Products with H from each start, at least 1. As many as there are
            parameters suffice, and no more are computed.
        num_samples: Random starts, at least 1. One suffices for mu and L; several average the
            spectrum and give its sampling error.
        batches: Tuples of further arguments, over which H is the mean, each batch with the same
            weight. The program is compiled for each shape among them.
        model: From `(params, *args, *batch)` to the outputs that the loss takes in place of the
            parameters; None where the loss takes the parameters.
        gauss_newton: Measure G instead of H; needs a model.

    Returns:
        Curvature(mu, L, spectrum, history) in float64: the extreme eigenvalues found, of either
        sign, the spectrum, and both extremes after each product with bounds of their errors.
        A progress bar is shown on a terminal.

    Raises:
        ValueError: The loss is not a real scalar, a product is not finite, there is no
            parameter or no batch, a count is below 1, or gauss_newton has no model.
        TypeError: A leaf of params is complex or not floating, an argument is not an array, a
            batch is not a tuple, key is not a random key, loss or model is not a function, or
            anything is traced.
        ModuleNotFoundError: The extra "curvature" is not installed.

    Example:
        >>> found = momentax.curvature(lambda p: jnp.sum(params["w"] * p["w"] ** 2), params)
        >>> round(found.mu, 4), round(found.L, 4)
        (2.0, 6.0)

    Source:
        Lanczos, An iteration method for the solution of the eigenvalue problem, J. Res. Natl.
        Bur. Stand. 45, 1950; Ghorbani, Krishnan and Xiao, An investigation into neural net
        optimization via Hessian eigenvalue density, 2019, arXiv:1901.10159. The process is
        matfree's (Krämer).
    """
    tqdm = _import_tqdm()
    require_function("loss", loss, "from params to a scalar", "params", ...)
    if model is not None:
        require_function("model", model, "from params to outputs", "params", ...)
    iterations = as_count("num_iterations", num_iterations)
    starts = as_count("num_samples", num_samples)
    gauss_newton = as_flag("gauss_newton", gauss_newton)
    if gauss_newton and model is None:
        raise ValueError(
            "gauss_newton=True needs the loss in two parts: pass model, from the params to "
            "outputs, and a loss of these outputs"
        )
    _require_real(params)
    _require_arrays("args", args)
    groups = _group_by_shape(batches)
    key = jax.random.key(0) if key is None else key
    if any(is_traced(leaf) for leaf in jax.tree.leaves((params, args, groups, key))):
        raise TypeError(
            "curvature must be called outside of jit, vmap and grad: it compiles its own program "
            "and reads the result on the host"
        )
    require_key("key", key)
    params = upcast(params)
    _require_scalar_loss(loss, model, params, args, groups)
    matrix = Matrix(as_hashable(loss), as_hashable(model), gauss_newton)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    iterations = min(iterations, size)
    found = []
    with (
        tqdm(total=starts * iterations, desc="Hessian products", disable=None, leave=False) as bar,
        numbered_bar(bar) as number,
    ):
        has_bar = not bar.disable
        for start_key in jax.random.split(key, starts):
            start = draw_start(start_key, size, compute_dtype(*jax.tree.leaves(params)))
            projection, residual = tridiagonalize(
                matrix, iterations, has_bar, number, params, args, groups, start
            )
            found.append(ritz(projection, residual))
    return _summarize(found, size)


def _import_tqdm() -> Any:
    """Import the packages of the extra "curvature", or raise an error that names the extra."""
    try:
        import matfree.decomp  # noqa: F401 - Its absence raises before anything runs.
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"curvature needs {error.name}; install it with `pip install 'momentax[curvature]'`"
        ) from error
    return tqdm


def _summarize(found: list[Ritz], size: int) -> Curvature:
    """Take the extremes over all starts, after each iteration."""
    nodes, weights, histories = map(np.stack, zip(*found, strict=True))
    iterations = np.arange(histories.shape[1])
    lowest, highest = histories[..., 0].argmin(axis=0), histories[..., 1].argmax(axis=0)
    history = {
        "mu": histories[lowest, iterations, 0],
        "L": histories[highest, iterations, 1],
        "mu_error": histories[lowest, iterations, 2],
        "L_error": histories[highest, iterations, 3],
    }
    mu, L = float(history["mu"][-1]), float(history["L"][-1])
    return Curvature(mu, L, Spectrum(nodes, weights, size), history)


def _require_real(params: PyTree) -> None:
    """Refuse parameters that have no Hessian, naming the path of the first one."""
    remedy = "have the loss close over it"
    require_kind(params, jnp.inexact, "curvature needs floating ones", remedy)
    remedy = "make its real and imaginary parts parameters"
    require_kind(params, jnp.floating, "curvature needs real ones", remedy)
    if not sum(np.size(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError("params must hold at least one number, got none")


def _require_arrays(name: str, arguments: PyTree) -> None:
    """Refuse arguments of the loss that a compiled program cannot take."""
    for leaf in jax.tree.leaves(arguments):
        if dtype_of(leaf) is None:
            raise TypeError(
                f"{name}, the arguments of loss, must be arrays, got {describe(leaf)}; have the "
                "loss close over anything else"
            )


def _require_scalar_loss(
    loss: Any, model: Any, params: PyTree, args: tuple[Any, ...], groups: list[Any]
) -> None:
    """Refuse a loss without a real scalar and a model without real outputs, at each batch shape."""
    for _, group in groups:
        arguments = (*args, *jax.tree.map(lambda leaf: leaf[0], group))
        signature = "of params, the further args and the arguments in each of batches"
        require_function("loss", loss, signature, params, *arguments)
        outputs = params
        if model is not None:
            require_function("model", model, signature, params, *arguments)
            outputs = jax.eval_shape(model, params, *arguments)
        if not jax.tree.leaves(outputs):
            raise TypeError(f"model must return arrays, got {describe(outputs)}")
        for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise TypeError(
                    f"model must return real floating outputs, got {leaf.dtype} at "
                    f"{path_name(path)}"
                )
        require_loss(loss, outputs, *arguments)


def _group_by_shape(batches: Iterable[tuple[Any, ...]] | None) -> list[tuple[np.ndarray, PyTree]]:
    """Stack the batches of equal shapes on a leading axis.

    Each group has the indices of its batches beside them, because `jax.lax.scan` needs an array
    also where a batch is an empty tuple.
    """
    groups: dict[Any, list[Any]] = {}
    listed = [()] if batches is None else as_items("batches", batches, "tuples")
    for batch in listed:
        if not isinstance(batch, tuple | list):
            raise TypeError(
                "batches must be tuples of arguments of loss, got "
                f"{describe(batch)}; write (batch,) for a single argument"
            )
        _require_arrays("batches", batch)
        leaves, structure = jax.tree.flatten(tuple(batch))
        kinds = tuple((np.shape(leaf), str(dtype_of(leaf))) for leaf in leaves)
        groups.setdefault((structure, kinds), []).append(tuple(batch))
    if not groups:
        raise ValueError("batches must hold at least one tuple of arguments, got none")
    return [(np.arange(len(group)), jax.tree.map(_stack, *group)) for group in groups.values()]


def _stack(*leaves: Any) -> Any:
    """Stack arrays on the device if one of them is there, and otherwise on the host."""
    on_device = any(isinstance(leaf, jax.Array) for leaf in leaves)
    return jnp.stack(leaves) if on_device else np.stack(leaves)
