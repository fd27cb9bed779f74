"""Lion: the sign of an average of the gradients with more weight on the newest."""

from __future__ import annotations

from typing import Any, NamedTuple

import optax

from momentax._core import arithmetic, hyperparameters, trees, xla
from momentax._core.hyperparameters import as_schedule
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class LionState(NamedTuple):
    """The state of Lion.

    count: updates made so far, a 0-d int32 array.
    velocity: v, the running average of the gradients, shaped like the parameters, in float32
        or wider.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def lion(
    beta1: ScalarOrSchedule = 0.9, beta2: ScalarOrSchedule = 0.99
) -> optax.GradientTransformationExtraArgs:
    """Move by the sign of a mixture of the running average v and the gradient g.

        d_t = sign(β1 v_{t-1} + (1 - β1) g_t)
        v_t = β2 v_{t-1} + (1 - β2) g_t,    v_0 = 0

    β1 = β2 is `sign_average`, and β1 = 0 is signSGD. sign(0) = 0, and the sign of a
    complex number z is z / |z|. The sign of what is infinite or NaN is NaN: the
    sign ±1 would hide that v stays infinite or NaN after one such gradient. The
    paper uses decoupled weight decay. If β1 ≤ β2 are numbers, as by default, a
    compiled step updates v in place; otherwise it copies v.

    Args:
        beta1: β1 in [0, 1), the share of the average in the mixture.
        beta2: β2 in [0, 1), the share of the average kept each step.

    Example:
        >>> tx = momentax.sgd(1e-4, momentax.lion(), weight_decay=1.0, decoupled=True)
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Chen and others, Symbolic discovery of optimization algorithms, 2023,
        arXiv:2302.06675.
    """
    β1 = as_schedule("beta1", beta1)
    β2 = as_schedule("beta2", beta2)
    numbers = hyperparameters.concrete_value(beta1), hyperparameters.concrete_value(beta2)

    def init(params):
        return LionState(hyperparameters.first_count(β1, β2), arithmetic.zeros_like(params))

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state
        trees.require_gradients(updates, v)
        # Coefficients are computed from exact numbers: in float32 1 - 0.9999 is 1e-4 only to
        # within 1e-8, which may change a sign.
        b1, b2 = (s(t) if b is None else b for s, b in zip((β1, β2), numbers, strict=True))
        new = xla.decay_and_add(t, b2, v, (1 - b2, updates))
        mixture = arithmetic.combine(*_mixture_terms(b1, b2, v, new, updates), like=v)
        return arithmetic.sign(mixture, like=updates), LionState(optax.safe_increment(t), new)

    return method(init, update, LionState, beta=β2)


def _mixture_terms(β1: Any, β2: Any, v: PyTree, new: PyTree, g: PyTree) -> Any:
    """Return the terms of β1 v_{t-1} + (1 - β1) g_t, from the new velocity where that is exact.

    A step that reads the new velocity only is done in place (see momentax._core.xla). The same
    mixture is (β1 v_t + (β2 - β1) g_t) / β2. The rounding error of v_t changes it by at most
    β1 (1 - β2) / (β2 (1 - β1)) times the rounding error of the original terms. That factor is
    at most 1 for β1 ≤ β2, and without bound as β2 goes to 0, where v_t = g_t does not depend
    on v_{t-1}.
    """
    if not arithmetic.is_known(β1, β2) or not 0 < β1 <= β2:
        return (β1, v), (1 - β1, g)
    return (β1 / β2, new), ((β2 - β1) / β2, g)
