"""Muon: orthogonalized momentum for hidden matrices, another optimizer for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from momentax._core import arguments, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.keywords import explain_keywords, source_of, suggest_synonym
from momentax._core.transformations import Method
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._methods._average import average
from momentax._methods._quasi_hyperbolic import quasi_hyperbolic
from momentax._methods._quasi_hyperbolic_adam import quasi_hyperbolic_adam
from momentax._muon._branches import split_by_role
from momentax._sgd import sgd
from momentax._state._roles import require_overrides
from momentax._wrappers._orthogonalize import orthogonalize

# The learning rate of the default optimizer of the others is 3e-4 where that of muon is 0.02.
_RATIO = 0.015

# What other libraries call an argument.
_NAMES = {
    "ns_steps": "steps",
    "ns_coeffs": "coefficients",
    "ns_coefficients": "coefficients",
    "adjust_lr_fn": "scale",
    "weight_decay_mask": "mask",
    "weight_dimension_numbers": "roles",
    "muon_weight_dimension_numbers": "roles",
    "exclude_layers": "roles",
    "adam_learning_rate": "others",
    "adam_lr_ratio": "others",
    "where": "roles",
}


def _suggest(muon: Callable[..., Any], keyword: str, given: Mapping[str, Any]) -> str | None:
    """Say what to write in place of a keyword of other libraries."""
    rate = source_of(given.get("learning_rate", given.get("lr", 0.02)), "learning_rate")
    name = _NAMES.get(keyword)
    if name == "others":
        return f"write momentax.muon({rate}, others=optax.adamw(3e-4))"
    if name == "roles":
        return f'write momentax.muon({rate}, roles={{"decoder/kernel": "head"}})'
    if keyword in ("momentum", "beta1"):
        return f"write momentax.muon({rate}, beta={source_of(given[keyword], 'beta')})"
    if name is not None:
        return f"write momentax.muon({rate}, {name}=...)"
    return suggest_synonym(muon, keyword, given)


@explain_keywords(_suggest)
def muon(
    learning_rate: ScalarOrSchedule,
    *,
    beta: ScalarOrSchedule = 0.95,
    others: optax.GradientTransformation | None = None,
    roles: Mapping[str, str] | None = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    nesterov: bool = True,
    coefficients: str | Sequence[Sequence[float]] = "polar_express",
    steps: int = 5,
    scale: str | None = "spectral",
    dtype: Any = jnp.float32,
    heads: PyTree | Callable[[PyTree], PyTree] | Mapping[str, int] | None = None,
    split: PyTree | Callable[[PyTree], PyTree] | Mapping[str, Any] | None = None,
    after: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend along orthogonalized momentum in hidden matrices, and by another optimizer elsewhere.

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        U_t = (1 - β) g_t + β v_t, or v_t without nesterov
        θ_t = (1 - α_t λ) θ_{t-1} - α_t s polar(U_t)

    polar(U) has the singular vectors of U and singular values near 1, and s is a scale that depends
    on the shape: `momentax.orthogonalize` says how both are computed. This is

        sgd(α, orthogonalize(quasi_hyperbolic(β, β)), weight_decay=λ, decoupled=True)

    for the hidden matrices and convolutions of `momentax.roles`, and `others` for embeddings, the
    head, biases, gains and what else there is. Look at the table before a long run: a parameter
    with an unusual name may have got a wrong role, which `roles` corrects.

        print(momentax.roles(params))
        tx = momentax.muon(0.02, roles={"decoder/kernel": "head"})

    The spectral norm of a step is about α s, whatever the size of the gradient is. A learning rate
    of 0.02 with scale="spectral" is usual; with scale="rms" it is that of AdamW.

    Args:
        learning_rate: α in [0, inf), of the hidden matrices.
        beta: β in [0, 1), the share of the velocity kept each step.
        others: The complete optimizer of all other parameters, with a learning rate and a weight
            decay of its own, such as `optax.adamw(schedule)`. None makes the steps of
            optax.adamw(0.015 α_t, b1=0.9, b2=0.95, weight_decay=0), whose learning rate follows
            that of muon and is 3e-4 where that is 0.02; with scale="rms" it is α_t itself.
        roles: A dict from names of parameters or modules, or from patterns, to roles, which
            corrects the table of `momentax.roles`. None corrects nothing.
        weight_decay: λ in [0, inf), of the hidden matrices. It is decoupled, and multiplied by α_t
            and not by s.
        mask: The hidden matrices that decay: a tree of bools like the parameters, a prefix of one,
            or a function from the parameters to one. None means all.
        nesterov: Whether to look ahead.
        coefficients: As for `orthogonalize`.
        steps: As for `orthogonalize`: the number of steps, at least 1 and at most 100.
        scale: As for `orthogonalize`: "spectral", "rms", "unit" or None.
        dtype: As for `orthogonalize`.
        heads: As for `orthogonalize`.
        split: As for `orthogonalize`: {"*/qkv/kernel": 3} for a fused kernel.
        after: As for `orthogonalize`: "normuon", "row" or None.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`. `update` needs
        `params`. The state is a MuonState, and `momentax.velocity` of it is one tree of all
        velocities. A parameter whose gradient is None does not change, and neither do its
        moments. In `others` some optimizers of Optax, such as `optax.adamw`, refuse None.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, or an argument of
            `orthogonalize` is refused; at init, roles do not fit the parameters; at update,
            `params` are missing, or a gradient is None and `others` refuses it.
        TypeError: others is not a gradient transformation, or it is a method.

    Example:
        >>> tx = momentax.muon(0.02)
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; decay and
        scale="rms": Liu et al., Muon is scalable for LLM training, 2025, arXiv:2502.16982.
    """
    α = as_schedule("learning_rate", learning_rate)
    β = as_schedule("beta", beta)
    λ = as_schedule("weight_decay", weight_decay)
    trees.require_mask("mask", mask)
    if roles is not None:
        require_overrides("roles", roles)
    is_ahead = arguments.as_flag("nesterov", nesterov)
    method = quasi_hyperbolic(β, β) if is_ahead else average(β, debias=False)
    options: dict[str, Any] = {
        "coefficients": coefficients, "steps": steps, "scale": scale, "dtype": dtype,
        "heads": heads, "split": split, "after": after,
    }  # fmt: skip

    def hidden(params: PyTree, axes: PyTree) -> optax.GradientTransformationExtraArgs:
        # A function, since a tree of the class of a model may be callable as well.
        direction = orthogonalize(method, where=lambda _: axes, **options)
        decaying = mask
        if callable(mask):
            decaying = None if params is None else mask(params)
        return sgd(α, direction, weight_decay=λ, decoupled=True, mask=decaying)

    if others is None:
        same = isinstance(scale, str) and scale == "rms"
        others = _adamw(α if same else lambda t: _RATIO * α(t))
    _require_optimizer(others)
    return split_by_role(hidden, others, roles)


def _adamw(α: Schedule) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer of the others, which makes the steps of `optax.adamw`."""
    return sgd(α, quasi_hyperbolic_adam(0.9, 0.95, nu1=1.0, nu2=1.0, eps=1e-8))


def _require_optimizer(others: Any) -> None:
    arguments.require_transformation("others", others, ", or None", example="optax.adamw(3e-4)")
    if isinstance(others, Method):
        raise TypeError(
            "others must be a complete optimizer, got a method, whose directions are no steps; "
            "write others=momentax.sgd(0.1, method)"
        )
