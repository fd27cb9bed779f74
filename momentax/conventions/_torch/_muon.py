"""The Muon of PyTorch, step for step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.transformations import method
from momentax._core.typing import Reals, ScalarOrSchedule, Schedule
from momentax._methods._average import average
from momentax._methods._linear import LinearState
from momentax._methods._quasi_hyperbolic import quasi_hyperbolic
from momentax._sgd import sgd
from momentax._wrappers._newton_schulz import polar_factors
from momentax._wrappers._orthogonalize import as_dtype, require_precision
from momentax.conventions._arrays import as_number
from momentax.conventions._torch._optimizer import BOOKKEEPING

# The factor of a step by the inputs and outputs of a kernel.
_SCALES = {
    "original": lambda inputs, outputs: max(1.0, outputs / inputs) ** 0.5,
    "match_rms_adamw": lambda inputs, outputs: 0.2 * max(inputs, outputs) ** 0.5,
}


def from_torch_muon(
    lr: ScalarOrSchedule = 1e-3,
    weight_decay: ScalarOrSchedule = 0.1,
    momentum: ScalarOrSchedule = 0.95,
    nesterov: bool = True,
    ns_coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    *,
    dtype: Any = jnp.float32,
    **bookkeeping: Any,
) -> optax.GradientTransformationExtraArgs:
    """Build the optimizer that makes the steps of `torch.optim.Muon` on kernels of Flax.

        v_t = μ_t v_{t-1} + (1 - μ_t) g_t,    v_0 = 0
        U_t = (1 - μ_t) g_t + μ_t v_t with nesterov, or v_t
        X_0 = U_t / max(‖U_t‖, ε),    A = X_{j-1} X_{j-1}ᵀ
        X_j = a X_{j-1} + (b A + c A²) X_{j-1}
        θ_t = (1 - α_t λ) θ_{t-1} - α_t s X_k

    The kernels are those of Flax, (inputs, outputs), where PyTorch has (outputs, inputs): the scale
    s is √max(1, outputs / inputs). PyTorch's documentation writes the velocity as a sum; its code
    averages, as here. PyTorch always iterates in bfloat16 and also takes the norm in it, so that
    its steps are exact within 0.3% only; here the norm is taken in float32 or wider. All parameters
    must be matrices: combine the optimizer with another one by `optax.partition`, as a program of
    PyTorch does, or use `momentax.muon`, which does this.

    A param group of `optimizer.state_dict()` is accepted as it is: `from_torch_muon(**group)`. Its
    momentum buffers are moved by `import_torch_state` and `export_torch_state`, with
    `Counterpart(name, axes=(1, 0))` for each kernel. To fill the hidden matrices of `momentax.muon`
    with them, pass path=".hidden[0].inner_state.velocity" as well.

    Args:
        lr: α in [0, inf), as PyTorch's scheduler sets it for each step.
        weight_decay: λ in [0, inf), decoupled and not multiplied by s; `update` needs `params`.
        momentum: μ in [0, 1).
        nesterov: Whether to look ahead.
        ns_coefficients: (a, b, c), real numbers.
        eps: ε in [0, inf), in units of the gradient.
        ns_steps: k, the number of steps, at least 1 and at most 99.
        adjust_lr_fn: "original" or None for s = √max(1, outputs / inputs), "match_rms_adamw" for
            s = 0.2 √max(inputs, outputs).
        dtype: The dtype of the iteration: float32, bfloat16 as in PyTorch, float16 or float64.
        **bookkeeping: The other entries of a param group (`params`, `initial_lr`, ...), which do
            not change any step.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, as `momentax.sgd`
        returns it.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, or adjust_lr_fn is another
            word; at init, a parameter is no matrix.
        TypeError: torch.optim.Muon has no such argument, nesterov is not a bool, or dtype is none
            of the four.

    Example:
        >>> tx = momentax.conventions.from_torch_muon(lr=0.02, weight_decay=0.0)
        >>> kernel = jnp.ones((3, 2))
        >>> updates, state = tx.update(kernel, tx.init(kernel), kernel)

    Source:
        torch.optim.Muon of PyTorch 2.13.
    """
    if unknown := sorted(set(bookkeeping) - BOOKKEEPING):
        raise TypeError(
            f"from_torch_muon has no argument {unknown[0]!r}, and neither has torch.optim.Muon; "
            "remove entries of your own from a param group before you pass it"
        )
    α = as_schedule("lr", as_number(lr), "[0, inf)")
    λ = as_schedule("weight_decay", as_number(weight_decay))
    μ = as_schedule("momentum", as_number(momentum))
    row = arguments.as_reals("ns_coefficients", ns_coefficients)
    if row.shape != (3,):
        raise ValueError(f"ns_coefficients must be three numbers, got {ns_coefficients!r}")
    ε = arguments.as_real("eps", eps, "[0, inf)")
    steps = arguments.as_count("ns_steps", ns_steps, most=99)
    scale = "original" if adjust_lr_fn is None else adjust_lr_fn
    arguments.as_option("adjust_lr_fn", scale, _SCALES)
    is_ahead = arguments.as_flag("nesterov", nesterov)
    kernel = quasi_hyperbolic(μ, μ) if is_ahead else average(μ, debias=False)
    polar = _Polar(np.tile(row, (steps, 1)), ε, scale, as_dtype(dtype))
    return sgd(α, _direction(kernel, polar, μ), weight_decay=λ, decoupled=True)


class _Polar(NamedTuple):
    """What happens to each matrix of a direction."""

    rows: Reals
    eps: float
    scale: str
    dtype: Any

    def __call__(self, g: Any, d: Any) -> Any:
        if g is None:
            return d
        wide = jnp.asarray(d, arithmetic.compute_dtype(d))
        inputs, outputs = wide.shape
        stack = wide[None] if inputs <= outputs else wide.T[None]
        factor = polar_factors(stack, self.rows, self.dtype, self.eps)[0]
        factor = factor if inputs <= outputs else factor.T
        return (_SCALES[self.scale](inputs, outputs) * factor).astype(jnp.result_type(d))


def _direction(
    kernel: optax.GradientTransformationExtraArgs, polar: _Polar, μ: Schedule
) -> optax.GradientTransformationExtraArgs:
    """Return the method whose directions are the polar factors of those of a kernel."""

    def init(params):
        require_precision(polar.dtype)
        state = kernel.init(params)  # First, since it names a parameter that is wrong.
        for path, leaf in jax.tree_util.tree_leaves_with_path(trees.only_arrays(params)):
            if jnp.ndim(leaf) != 2:
                raise ValueError(
                    f"the parameter at {trees.path_name(path)} has the shape {jnp.shape(leaf)}, "
                    "and torch.optim.Muon takes matrices only: give the others another optimizer "
                    "with optax.partition, or use momentax.muon"
                )
        return state

    def update(updates, state, params=None, **extra_args):
        require_precision(polar.dtype)
        d, state = kernel.update(updates, state, params, **extra_args)
        return jax.tree.map(polar, updates, d, is_leaf=trees.is_none), state

    return method(init, update, LinearState, beta=μ)
