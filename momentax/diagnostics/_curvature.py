"""The curvature of a real loss: the spectrum of its Hessian, from products with vectors alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments, arithmetic, trees
from momentax._core.typing import PyTree

_BARS: dict[int, Any] = {}  # Shown now; a program compiled once finds each run's own by number.
_NUMBERS = itertools.count()


class Spectrum(NamedTuple):
    """How the curvatures are distributed, as a quadrature.

    The mean of any function φ over the n curvatures is about
    Σ weights · φ(nodes) / starts, summed over both axes.

    nodes: Ritz values of each start, float64, shape (starts, iterations), ascending.
    weights: of each node, shape (starts, iterations); a start's sum to 1. Where
        its process ended early, the last node is repeated with weight 0.
    size: n, the number of parameters.
    """

    nodes: np.ndarray
    weights: np.ndarray
    size: int

    def density(self, curvatures: Any, width: float) -> np.ndarray:
        """The density of the curvatures where asked, each node a Gaussian of this width."""
        at = arguments.as_reals("curvatures", curvatures)[..., None, None]
        σ = arguments.as_real("width", width, "(0, inf)")
        bumps = np.exp(-(((at - self.nodes) / σ) ** 2) / 2) / (σ * np.sqrt(2 * np.pi))
        return np.sum(self.weights * bumps, (-2, -1)) / len(self.nodes)

    def below(self, curvatures: Any) -> np.ndarray:
        """The share of the curvatures that lie below each of those asked for."""
        at = arguments.as_reals("curvatures", curvatures)[..., None, None]
        return np.sum(self.weights * (self.nodes < at), (-2, -1)) / len(self.nodes)

    def moment(self, power: int) -> tuple[float, float]:
        """Σ λ^power over all n curvatures, and its standard error.

        Power 1 is the Hessian's trace, 2 its squared Frobenius norm. The error
        is NaN for one start.
        """
        power = arguments.as_count("power", power, least=0)
        each = self.size * np.sum(self.weights * self.nodes**power, axis=-1)
        starts = len(each)
        error = np.std(each, ddof=1) / np.sqrt(starts) if starts > 1 else np.nan
        return float(np.mean(each)), float(error)


class Curvature(NamedTuple):
    """The curvature of a loss at a point.

    mu: the smallest curvature found, negative beside a saddle. The true one is
        no larger.
    L: the largest found, also called the sharpness. The true one is no smaller.
    spectrum: how the others are distributed.
    history: "mu" and "L" after each product, shape (iterations,), and with them
        "mu_error" and "L_error": a curvature of the loss lies within this
        distance, up to the rounding of the products.
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


def _tick(number: Any) -> None:
    if bar := _BARS.get(int(number)):
        bar.update()


def _placed(part: jax.Array, like: jax.Array, whole: bool = False) -> jax.Array:
    """An array placed as another, or whole on each of that one's devices.

    Of axes whose sharding is explicit, that is in the types, nothing else would do it.
    """
    sharding = jax.typeof(like).sharding
    if sharding.mesh.empty:
        return part
    spec = jax.sharding.PartitionSpec() if whole else sharding.spec
    return jax.sharding.reshard(part, jax.sharding.NamedSharding(sharding.mesh, spec))


def _product(
    loss: Callable[..., Any],
    model: Callable[..., Any] | None,
    gauss_newton: bool,
    params: PyTree,
    direction: PyTree,
    loss_args: tuple[Any, ...],
) -> PyTree:
    """The Hessian, or the Gauss-Newton matrix, times a direction."""

    def outputs(params: PyTree) -> PyTree:
        return params if model is None else model(params, *loss_args)

    def rest(outputs: PyTree) -> jax.Array:
        return loss(outputs, *loss_args)

    if not gauss_newton:
        gradient = jax.grad(lambda params: rest(outputs(params)))
        return jax.jvp(gradient, (params,), (direction,))[1]
    z, pull_back = jax.vjp(outputs, params)
    _, dz = jax.jvp(outputs, (params,), (direction,))
    return pull_back(jax.jvp(jax.grad(rest), (z,), (dz,))[1])[0]


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _lanczos(
    loss: Callable[..., Any],
    model: Callable[..., Any] | None,
    gauss_newton: bool,
    iterations: int,
    shown: bool,
    number: Any,
    params: PyTree,
    args: tuple[Any, ...],
    groups: list[tuple[np.ndarray, PyTree]],
    key: jax.Array,
) -> tuple[Any, jax.Array]:
    """The projection of the Hessian on a Krylov space, and the last residual's norm."""
    from matfree import decomp

    leaves, structure = jax.tree.flatten(params)
    dtype = arithmetic.compute_dtype(*leaves)
    ends = np.cumsum([leaf.size for leaf in leaves])
    count = sum(len(places) for places, _ in groups)

    def shaped(vector: jax.Array) -> PyTree:
        parts = zip(jnp.split(vector, ends[:-1]), leaves, strict=True)
        return structure.unflatten(
            _placed(part.reshape(leaf.shape).astype(leaf.dtype), leaf) for part, leaf in parts
        )

    def joined(tree: PyTree) -> jax.Array:
        parts = (_placed(part, part, whole=True) for part in jax.tree.leaves(tree))
        return jnp.concatenate([part.ravel().astype(dtype) for part in parts])

    def product(vector: jax.Array) -> jax.Array:
        if shown:
            jax.debug.callback(_tick, number)

        def add(total: jax.Array, placed: Any) -> tuple[jax.Array, None]:
            _, batch = placed
            Hv = _product(loss, model, gauss_newton, params, shaped(vector), (*args, *batch))
            return total + joined(Hv), None

        total = jnp.zeros_like(vector)
        for group in groups:
            total, _ = jax.lax.scan(add, total, group)
        return total / count

    # An accelerator's shortened products would cost the basis its orthogonality.
    with jax.default_matmul_precision("highest"):
        # Isotropic, so that it is orthogonal to no eigenvector, as a vector of signs may be.
        start = jax.random.normal(key, (int(ends[-1]),), dtype)
        # Lanczos that reorthogonalises in full is Arnoldi. This keeps the lengths apart from the
        # rest, which is NaN once a length is exactly 0.
        basis = decomp.hessenberg(iterations, reortho="full", custom_vjp=False)
        result = basis(product, start)
    return result.J_small, jnp.linalg.norm(result.residual)


class _Ritz(NamedTuple):
    values: np.ndarray
    weights: np.ndarray
    history: np.ndarray  # A row per iteration: mu, L and their errors.


def _ritz(projection: Any, residual: Any) -> _Ritz:
    """What a Krylov space of one start tells, after each of its dimensions."""
    from scipy.linalg import eigh_tridiagonal  # Not on importing momentax.

    digits = jnp.finfo(projection.dtype)
    rounding = 10 * digits.eps
    H = np.asarray(projection, np.float64)
    diagonal, lengths = np.diagonal(H), np.append(np.diagonal(H, -1), np.float64(residual))
    first = np.abs([diagonal[0], lengths[0]])
    size = first[np.isfinite(first)].max(initial=0)
    if 0 < size < np.sqrt(digits.tiny / digits.eps) or (size > 0 and np.isinf(lengths[0])):
        raise ValueError(
            f"the curvatures, about {size:.1g}, are of a size whose square leaves the range of "
            f"{projection.dtype}; multiply the loss by a number that brings them near 1"
        )
    rows = []
    values = weights = np.zeros(0)
    for k in range(1, len(H) + 1):
        if not np.all(np.isfinite([diagonal[k - 1], lengths[k - 1]])):
            raise ValueError(
                f"the Hessian times a vector is not finite in product {k}: the loss or a "
                "derivative of it overflows or is undefined at these params or in this batch; "
                "jax.debug_nans(True) shows where"
            )
        values, vectors = eigh_tridiagonal(diagonal[:k], lengths[: k - 1])
        weights = vectors[0] ** 2
        floor = rounding * np.abs(values).max()
        errors = np.maximum(lengths[k - 1] * np.abs(vectors[-1, [0, -1]]), floor)
        rows.append((*values[[0, -1]], *errors))
        if lengths[k - 1] <= floor:
            break  # The space is invariant: the Ritz values are curvatures.
    beyond = (0, len(H) - len(values))
    return _Ritz(
        np.pad(values, beyond, mode="edge"),
        np.pad(weights, beyond),
        np.pad(rows, (beyond, (0, 0)), mode="edge"),
    )


def _require_real(params: PyTree) -> None:
    """Refuse parameters that the Hessian is not taken by, naming the first one's path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = arguments.dtype_of(leaf)
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"the parameter at {trees.path_name(path)} has dtype {dtype}, and curvature needs "
                "real ones; make its real and imaginary parts parameters"
            )
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"the parameter at {trees.path_name(path)} has dtype "
                f"{dtype or type(leaf).__name__}, and curvature needs floating ones; have the loss "
                "close over it"
            )
    if not sum(np.size(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError("params must hold at least one number, got none")


def _require_outputs(outputs: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                "model must return real floating outputs, got "
                f"{leaf.dtype} at {trees.path_name(path)}"
            )


def _require_arrays(loss_args: PyTree) -> None:
    """Refuse arguments of the loss that no compiled program takes."""
    for leaf in jax.tree.leaves(loss_args):
        if arguments.dtype_of(leaf) is None:
            raise TypeError(
                f"the arguments of loss must be arrays, got {arguments.describe(leaf)}; "
                "have the loss close over anything else"
            )


def _require_key(key: Any) -> None:
    dtype = arguments.dtype_of(key)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and key.ndim == 0) and not (dtype == jnp.uint32 and key.ndim == 1):
        raise TypeError(
            f"key must be a random key such as jax.random.key(0), got {arguments.describe(key)}"
        )


def _grouped(batches: Iterable[tuple[Any, ...]] | None) -> list[tuple[np.ndarray, PyTree]]:
    """Batches of the same shapes stacked on a leading axis, with their places, which none lacks."""
    groups: dict[Any, list[Any]] = {}
    for batch in [()] if batches is None else batches:
        if not isinstance(batch, tuple | list):
            raise TypeError(
                "batches must be tuples of arguments of loss, got "
                f"{arguments.describe(batch)}; write (batch,) for a single argument"
            )
        _require_arrays(batch)
        leaves, structure = jax.tree.flatten(tuple(batch))
        kinds = tuple((np.shape(leaf), str(arguments.dtype_of(leaf))) for leaf in leaves)
        groups.setdefault((structure, kinds), []).append(tuple(batch))
    if not groups:
        raise ValueError("batches must hold at least one tuple of arguments, got none")

    def stack(*leaves: Any) -> Any:
        on_device = any(isinstance(leaf, jax.Array) for leaf in leaves)
        return jnp.stack(leaves) if on_device else np.stack(leaves)

    return [(np.arange(len(group)), jax.tree.map(stack, *group)) for group in groups.values()]


def curvature(
    loss: Callable[..., Any],
    params: PyTree,
    *args: Any,
    key: jax.Array,
    num_iterations: int = 64,
    num_samples: int = 1,
    batches: Iterable[tuple[Any, ...]] | None = None,
    model: Callable[..., Any] | None = None,
    gauss_newton: bool = False,
) -> Curvature:
    """Measure the curvature of a loss: the extreme eigenvalues and the spectrum of its Hessian.

        H = mean over the batches of ∇² f(θ, *args, *batch)
        q_1 random,    H q_k = b_{k-1} q_{k-1} + a_k q_k + b_k q_{k+1}

    The Lanczos process: a and b make a tridiagonal matrix T_k, whose
    eigenvalues, the Ritz values, close in on the eigenvalues of H, the extreme
    ones first, from within. Their weights, the squared first entries of T_k's
    eigenvectors, are a Gauss quadrature of the spectrum that q_1 sees. H is
    never formed: a product H q costs about two gradients. The basis is kept and
    reorthogonalised, num_iterations vectors of the parameters' size, on a CPU
    twice; all batches are on the device at once.

    The curvature is that of what the loss computes: in float32 an eigenvalue
    is known to about 10⁻⁶ L, so that a mu of that size has no sign.

    With a model, the loss is f(z), z = model(θ), and the Gauss-Newton matrix

        G = mean over the batches of Jᵀ (∂²f/∂z²) J,    J = ∂z/∂θ

    can be measured in place of H. It is positive semidefinite wherever f is
    convex in z; what it leaves out is the model's own curvature.

    Args:
        loss: f, from `(params, *args, *batch)` to a real scalar; with a model,
            from `(outputs, *args, *batch)`. Calling again with the same function
            reuses the compiled program.
        params: θ, any pytree of real floating leaves; they are read in float32
            or wider.
        args: Further arguments of the loss and the model, the same for every batch.
        key: A random key. Equal keys give equal results.
        num_iterations: Products with H from each start, at least 1; as many as
            there are parameters suffice, and no more are made.
        num_samples: Random starts, at least 1. One does for mu and L; several
            average the spectrum and tell its sampling error.
        batches: Further tuples of arguments, over which H is the mean, each
            batch with the same weight. Each shape among them is compiled once.
        model: From `(params, *args, *batch)` to the outputs that the loss takes
            in place of the parameters; None where the loss takes these.
        gauss_newton: Measure G in place of H; needs a model.

    Returns:
        Curvature(mu, L, spectrum, history) in float64: the extreme eigenvalues
        found, of either sign, Spectrum(nodes, weights, size), and both extremes
        after each product with bounds of their errors. A terminal shows a bar
        meanwhile.

    Raises:
        ValueError: The loss is no real scalar, a product is not finite, there
            is no parameter or no batch, a count is below 1, or gauss_newton
            has no model.
        TypeError: A leaf of params is complex or not floating, an argument
            is no array, a batch no tuple, key no random key, or anything is traced.
        ModuleNotFoundError: The extra `curvature` is not installed.

    Source:
        Lanczos, An iteration method for the solution of the eigenvalue problem,
        J. Res. Natl. Bur. Stand. 45, 1950; Ghorbani, Krishnan and Xiao, An
        investigation into neural net optimization via Hessian eigenvalue
        density, 2019, arXiv:1901.10159. The process is matfree's (Krämer).
    """
    try:
        import matfree.decomp  # noqa: F401  Asked for here, to say what to install.
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"curvature needs {error.name}; install it with `pip install 'momentax[curvature]'`"
        ) from error

    iterations = arguments.as_count("num_iterations", num_iterations)
    starts = arguments.as_count("num_samples", num_samples)
    if arguments.as_flag("gauss_newton", gauss_newton) and model is None:
        raise ValueError(
            "gauss_newton=True needs the loss in two parts: pass model, from the params to "
            "outputs, and a loss of these outputs"
        )
    _require_real(params)
    _require_arrays(args)
    groups = _grouped(batches)
    if any(arguments.is_traced(leaf) for leaf in jax.tree.leaves((params, args, groups, key))):
        raise TypeError(
            "curvature must be called outside of jit, vmap and grad: it compiles its own program "
            "and reads the result on the host"
        )
    _require_key(key)
    params = arithmetic.upcast(params)
    for _, group in groups:
        loss_args = (*args, *jax.tree.map(lambda leaf: leaf[0], group))
        outputs = params
        if model is not None:
            outputs = jax.eval_shape(model, params, *loss_args)
            _require_outputs(outputs)
        arguments.require_loss(loss, outputs, *loss_args)

    loss, model = arguments.as_hashable(loss), arguments.as_hashable(model)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    iterations = min(iterations, size)
    each = []
    with tqdm(total=starts * iterations, desc="Hessian products", disable=None, leave=False) as bar:
        _BARS[number := next(_NUMBERS)] = bar
        try:
            for start in jax.random.split(key, starts):
                projection, residual = _lanczos(
                    loss,
                    model,
                    bool(gauss_newton),
                    iterations,
                    not bar.disable,
                    np.int32(number),
                    params,
                    args,
                    groups,
                    start,
                )
                each.append(_ritz(projection, residual))
            jax.effects_barrier()
        finally:
            del _BARS[number]
    nodes, weights, rows = map(np.stack, zip(*each, strict=True))
    steps = np.arange(iterations)
    lowest, highest = rows[..., 0].argmin(axis=0), rows[..., 1].argmax(axis=0)
    history = {
        "mu": rows[lowest, steps, 0],
        "L": rows[highest, steps, 1],
        "mu_error": rows[lowest, steps, 2],
        "L_error": rows[highest, steps, 3],
    }
    mu, L = float(history["mu"][-1]), float(history["L"][-1])
    return Curvature(mu, L, Spectrum(nodes, weights, size), history)
