"""Lion: the sign of an average of the gradients that leans towards the newest."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from momentax._core import arithmetic, hyperparameters, trees, xla
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._linear import LinearState


def lion(
    beta1: ScalarOrSchedule = 0.9, beta2: ScalarOrSchedule = 0.99
) -> optax.GradientTransformationExtraArgs:
    """Move by the sign of a mixture of the running average v and the gradient g.

        d_t = sign(β1 v_{t-1} + (1 - β1) g_t)
        v_t = β2 v_{t-1} + (1 - β2) g_t,    v_0 = 0

    β1 = β2 is `sign_average`, and β1 = 0 signSGD. sign(0) = 0, and of a complex
    number z it is z / |z|. The paper's optimizer decays decoupled:
    `sgd(1e-4, lion(), weight_decay=1.0, decoupled=True)`.

    A step writes v in place where β1 ≤ β2 are numbers, as by default. Where
    β1 > β2, or one of them is a schedule or traced, the compiled step copies v.

    Args:
        beta1: β1 in [0, 1), the share of the average in the mixture.
        beta2: β2 in [0, 1), the share of the average kept each step.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state, LinearState(count, velocity), holds one velocity, in
        float32 or wider.

    Raises:
        ValueError: A concrete beta1 or beta2 lies outside its interval.

    Source:
        Chen and others, Symbolic discovery of optimization algorithms, 2023,
        arXiv:2302.06675.
    """
    β1 = as_schedule("beta1", beta1, "[0, 1)")
    β2 = as_schedule("beta2", beta2, "[0, 1)")
    numbers = hyperparameters.concrete_value(beta1), hyperparameters.concrete_value(beta2)

    def init(params):
        return LinearState(jnp.zeros((), jnp.int32), arithmetic.zeros_like(params))

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state
        trees.require_gradients(updates, v)
        # Numbers are rounded last: of 0.9999 float32 leaves 1e-4 only to within 1e-8, which may
        # turn a sign.
        b1, b2 = (s(t) if b is None else b for s, b in zip((β1, β2), numbers, strict=True))
        new = xla.decay_and_add(t, b2, v, (1 - b2, updates))
        mixture = arithmetic.combine(*_terms(b1, b2, v, new, updates), like=v)
        return arithmetic.sign(mixture, like=updates), LinearState(optax.safe_increment(t), new)

    return optax.GradientTransformationExtraArgs(init, update)


def _terms(β1: Any, β2: Any, v: PyTree, new: PyTree, g: PyTree) -> Any:
    """The terms of β1 v + (1 - β1) g, from the new velocity where that loses no digit.

    Where both outputs of a step read the old velocity, XLA copies it. The same
    mixture is (β1 v_t + (β2 - β1) g_t) / β2. Rounding v_t moves it by a factor
    β1 (1 - β2) / (β2 (1 - β1)) more, at most, than rounding its own terms: by no
    more for β1 ≤ β2, but without bound towards β2 = 0, where v_t = g_t holds
    nothing of v_{t-1} and no form of it could tell the sign.
    """
    if not arithmetic.is_known(β1, β2) or not 0 < β1 <= β2:
        return (β1, v), (1 - β1, g)
    return (β1 / β2, new), ((β2 - β1) / β2, g)
