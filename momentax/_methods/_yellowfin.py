"""YellowFin: heavy ball tuned to the curvature, noise and distance that gradients imply."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, hyperparameters, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.transformations import method
from momentax._core.typing import PyTree, Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class YellowFinState(NamedTuple):
    """The state of YellowFin. No average is debiased.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    mean: the average gradient, shaped like the parameters, in float32 or wider.
    weight: the sum of the weights in each average, a 0-d array.
    window: the last squared gradient norms, the newest last, a 1-d array.
    h_min: the average of the least entry of the window, a 0-d array.
    h_max: the average of the largest entry of the window, a 0-d array.
    square: the average squared gradient norm, a 0-d array.
    norm: the average gradient norm, a 0-d array.
    distance: the average distance to the minimizer, a 0-d array.
    learning_rate: α of the last step, a 0-d array.
    beta: β of the last step, a 0-d array.
    """

    count: Any
    velocity: PyTree
    mean: PyTree
    weight: jax.Array
    window: jax.Array
    h_min: jax.Array
    h_max: jax.Array
    square: jax.Array
    norm: jax.Array
    distance: jax.Array
    learning_rate: jax.Array
    beta: jax.Array

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def yellowfin(
    learning_rate: Scalar = 1.0,
    beta: Scalar = 0.0,
    *,
    smoothing: ScalarOrSchedule = 0.999,
    window: int = 20,
) -> optax.GradientTransformationExtraArgs:
    """Tune heavy ball to the curvature, the noise and the distance that gradients imply.

        h_t = ‖g_t‖²
        low, high = E[least h], E[largest h]    of the last 20 steps
        C = E[h] - ‖E[g]‖²                      the variance of the gradients
        D = E[E[‖g‖] / E[h]]                    the distance to the minimizer
        √μ_t = max(x, (√high - √low) / (√high + √low)),    x D² low² = 2 C (1 - x)³
        β_t = s β_{t-1} + (1 - s) μ_t,    α_t = s α_{t-1} + (1 - s) (1 - √μ_t)² / low
        v_t = β_t v_{t-1} + g_t,    v_0 = 0
        d_t = α_t v_t

    E is a running average that keeps the share s and is debiased as `average` is.
    The norms are over all leaves. μ and its learning rate minimize the expected
    squared distance after one step on a quadratic with this noise, among those
    that are stable for every curvature from low to high. While all gradients are
    0, α and β do not change. A gradient with a norm above 2⁶¹ in float32, whose
    square overflows, is scaled to the largest norm of the window, or to 1 where
    that is 0. A gradient that is infinite or NaN makes α, β and all directions
    NaN. The direction is the whole step: use the learning
    rate 1.0 in `sgd`.

    These are the four algorithms of the paper. The authors' code differs: it adds
    1e-6 in many places, averages the logarithm of low, lets α grow over the first
    200 steps, clips gradients and, in its last version, uses μ_t and its learning
    rate directly, without β_t and α_t.

    Args:
        learning_rate: α_0 in [0, inf), the first learning rate, not a schedule.
            Its share of α_t decreases by the factor s each step, so take one at
            which descent is stable.
        beta: β_0 in [0, 1), the first share of the velocity kept, not a schedule.
        smoothing: s in [0, 1), the share of each average kept per step.
        window: The number of last steps whose gradients give the range of the
            curvature, a whole number. With `optax.inject_hyperparams`, list it
            among the static_args.

    Example:
        >>> tx = momentax.sgd(1.0, momentax.yellowfin(0.1))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Zhang and Mitliagkas, YellowFin and the art of momentum tuning, 2017,
        arXiv:1706.03471.
    """
    α_0 = hyperparameters.as_constant("learning_rate", learning_rate)(0)
    β_0 = hyperparameters.as_constant("beta", beta)(0)
    s_t = as_schedule("smoothing", smoothing, "[0, 1)")
    size = arguments.as_count("window", window)

    def init(params):
        count, v = hyperparameters.first_count(s_t), arithmetic.zeros_like(params)
        mean = arithmetic.zeros_like(params)  # Not v again: a buffer can be donated only once.
        last = jnp.zeros(size, hyperparameters.float_dtype())
        scalars = (arithmetic.as_scalar(value) for value in (0, 0, 0, 0, 0, α_0, β_0))
        return YellowFinState(count, v, mean, arithmetic.as_scalar(0), last, *scalars)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state.count, state.velocity
        trees.require_gradients(updates, v)
        s = s_t(t)

        def average(old: jax.Array, new: Any) -> jax.Array:
            return arithmetic.as_scalar(s * old + (1 - s) * new)

        largest = jnp.sqrt(state.window.max())
        usual = jnp.where(largest > 0, largest, 1)
        overflows, c = arithmetic.overflow_factor(updates, norm=usual)
        h = jnp.where(overflows, usual**2, arithmetic.inner_product(updates, updates))
        window = jnp.where(t == 0, h, jnp.concatenate([state.window[1:], h[None]]))
        weight = average(state.weight, 1)
        mean = arithmetic.combine((s, state.mean), ((1 - s) * c, updates), like=state.mean)
        h_min, h_max = average(state.h_min, window.min()), average(state.h_max, window.max())
        square, norm = average(state.square, h), average(state.norm, jnp.sqrt(h))
        tiny = jnp.finfo(h.dtype).tiny
        distance = average(state.distance, norm / jnp.maximum(square, tiny))

        variance = jnp.maximum(
            square / weight - arithmetic.inner_product(mean, mean) / weight**2, 0
        )
        μ, rate = single_step(distance / weight, variance, h_min / weight, h_max / weight)
        below_1 = np.nextafter(μ.dtype.type(1), μ.dtype.type(0))
        # While all gradients are 0 there is no estimate, and β and α do not change.
        β = jnp.where(h_min == 0, state.beta, average(state.beta, jnp.minimum(μ, below_1)))
        α = jnp.where(h_min == 0, state.learning_rate, average(state.learning_rate, rate))
        v = arithmetic.combine((β, v), (c, updates), like=v)
        d = arithmetic.combine((α, v), like=updates)
        averages = weight, window, h_min, h_max, square, norm, distance
        return d, YellowFinState(optax.safe_increment(t), v, mean, *averages, α, β)

    return method(init, update, YellowFinState)


def single_step(
    distance: jax.Array, variance: jax.Array, h_min: jax.Array, h_max: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the β and learning rate that minimize the expected squared distance after one step.

        √β = max(x, (√h_max - √h_min) / (√h_max + √h_min)),    α = (1 - √β)² / h_min

    x is the root of x p = (1 - x)³, p = D² h_min² / (2 C). The closed form 1 - x =
    (2 / r) sinh(arsinh(3 r / 2) / 3), r = √(3 / p), is free of cancellation.

    Args:
        distance: D, the estimated distance to the minimum, a 0-d array.
        variance: C, the estimated variance of the gradient.
        h_min: The smallest curvature of the window, above 0.
        h_max: The largest.
    """
    r = jnp.sqrt(6 * variance) / jnp.maximum(distance * h_min, jnp.finfo(h_min.dtype).tiny)
    r = jnp.minimum(jnp.maximum(r, 1e-18), 1e18)  # At these bounds 1 - x is 1 and 0.
    rest = 2 / r * jnp.sinh(jnp.arcsinh(1.5 * r) / 3)
    low, high = jnp.sqrt(jnp.maximum(h_min, jnp.finfo(h_min.dtype).tiny)), jnp.sqrt(h_max)
    rest = jnp.minimum(rest, 2 * low / (low + jnp.maximum(low, high)))
    return (1 - rest) ** 2, (rest / low) ** 2
