"""A monitor: readings of gradient, velocity and update, kept in the state of any transformation."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import optax

from momentax._core import arguments
from momentax._core.transformations import Observed, transformation
from momentax._wrappers._monitor_state import LastStep, MonitorState, Options, first_state
from momentax._wrappers._observation import Call, after_number, constant, observe


def monitor(
    tx: optax.GradientTransformation,
    *,
    every: int = 1,
    per: Any = "model",
    history: int = 0,
    curvature: bool = False,
) -> Observed:
    """Measure what a velocity does while any transformation makes its updates.

    `momentax.measurements(state)` returns the readings. With the gradient g_t as it
    arrives, the velocity v_t after the update, the update Δθ_t and the parameters
    θ_{t-1} before it, they are

        loss                     value, where update is given value=f(θ_{t-1})
        gradient_norm            ‖g_t‖, in [0, inf)
        clipped_gradient_norm    the norm of g_t as it reaches the method, the first part
                                 of an optax.chain or momentax.sgd that has a velocity
        velocity_norm            ‖v_t‖, in [0, inf)
        update_norm              ‖Δθ_t‖, in [0, inf)
        parameter_norm           ‖θ_{t-1}‖, in [0, inf)
        cos                      ⟨v_t, g_t⟩ / (‖v_t‖ ‖g_t‖), in [-1, 1]
        angle                    the angle of v_t and g_t in degrees, in [0, 180]
        gain                     ‖v_t‖ / ‖g_t‖; at constant gradients it tends to 1/(1-β)
                                 for a velocity that sums them, and to 1 for an average
        effective_learning_rate  ‖Δθ_t‖ / ‖g_t‖, in [0, inf)
        update_ratio             ‖Δθ_t‖ / ‖θ_{t-1}‖, in [0, inf)
        opposing_share           the share of entries with v_t g_t < 0, in [0, 1]
        gradient_snr             ⟨g_t, g_{t-1}⟩ / (½ ‖g_t - g_{t-1}‖²), in [-1/2, inf]:
                                 about the squared norm of the mean gradient over the
                                 variance of one gradient
        nonfinite                the number of entries of g_t that are infinite or NaN
        headroom                 log10(m / max |v_t|), the powers of ten from the largest
                                 entry of v_t to the largest number m of its dtype
        age                      Σ k w_k / Σ w_k, the mean lag in steps of the weights w_k
                                 of past gradients in v_t, at the β in force

    and with curvature=True also

        curvature                ⟨g_t - g_{t-1}, Δθ_{t-1}⟩ / ‖Δθ_{t-1}‖², the secant along
                                 the last step
        edge                     the curvature up to which tx is stable, such as
                                 2(1+β)/α, at the values in force; see
                                 `momentax.theory.sharpness_limit`
        alpha                    -⟨g_t, Δθ_{t-1}⟩ / ⟨g_{t-1}, Δθ_{t-1}⟩, where the last step
                                 landed on the parabola with these two slopes: -1 where
                                 it started, 0 at the minimum, 1 on the other side

    A reading that cannot be known is absent: those of a velocity where tx has none,
    ratios by 0, and those of two successive gradients at the first update.

    The sign of a velocity is the one with which gradients enter it, so that the
    angle is 0 where velocity and gradient agree, also for a velocity in parameter
    units, which sums negative steps; its norm contains the learning rate, and its
    gain is absent. Of several velocities of one parameter the first counts, as
    Adam's first moment. Those of `aggregated` are averaged, whatever their
    weights in the direction are. An age or edge of several leaves is the largest
    age and the smallest edge. `curvature` and `alpha` are right if each update of
    tx was applied as it is. `gradient_snr` uses at most 4096 evenly spaced entries
    of a leaf.

    The updates are those of tx to the bit; in a compiled loop around them, XLA may
    round both otherwise. A step without a reading accesses no more memory than one
    of tx. On a CPU, a reading of large arrays takes about as long as an update of `sgd`,
    and longer while the sum of squares of an array is 0, very small or not finite. The
    state is larger by one sample of each leaf, and with curvature=True by one array like
    the parameters.
    A derivative with respect to a hyperparameter is that of tx: the readings count as
    constants.

    Args:
        tx: The transformation to measure, a complete optimizer or a method.
        every: The readings are taken at the counts 0, every, 2 every, ..., at least 1.
        per: What is measured together. "model": all parameters. "leaf": each leaf,
            with keys such as "layer/kernel/cos". Or a tree of strings that label the
            parameters, a prefix of one, or a function from the parameters to one:
            those with the same label, with keys such as "encoder/cos".
        history: The number of readings that the state keeps, at least 0.
        curvature: Whether to measure the curvature along the steps too.

    Returns:
        A transformation with the updates of tx. Its state, a MonitorState, has a
        fixed structure.

    Raises:
        ValueError: every or history is too small, per is another word; at init, the
            labels do not fit the parameters.
        TypeError: An argument has another type.

    Example:
        >>> tx = momentax.monitor(momentax.sgd(0.1), history=100)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> momentax.measurements(state)["gain"]
        1.0

    Source:
        Schneider, Dangel and Hennig, Cockpit: a practical debugging tool for the
        training of deep neural networks, 2021, arXiv:2102.06604, for alpha.
    """
    arguments.require_transformation("tx", tx)
    tx = optax.with_extra_args_support(tx)
    options = Options(
        tx,
        arguments.as_count("every", every),
        _as_per(per),
        arguments.as_count("history", history, least=0),
        arguments.as_flag("curvature", curvature),
    )
    observe_concrete = jax.jit(partial(observe, options))

    def init(params):
        return first_state(tx.init(params), params, options)

    def update(updates, state, params=None, **extra_args):
        _require_options(state, options)
        # As a variable of this function, `momentax.hyperparameters` finds tx here.
        args = updates, state.inner_state, params, extra_args
        u, inner = Call(tx, *args).run()
        call = Call(tx, *constant(args))
        own = constant(state._replace(inner_state=None))
        moment = call.moment(*constant((u, inner)))
        if not any(map(arguments.is_traced, jax.tree.leaves((moment, own)))):
            # Without a trace each operation would be compiled and called separately.
            moment = moment._replace(clipped=constant(call.clipped()))
            after, _ = observe_concrete(moment, own)
            return u, after._replace(inner_state=inner)
        moment = moment._replace(clipped=call.clipped, update=call.update_again(u, inner))
        after, norm_sum = observe(options, moment, own)
        # The parameters are read before the update overwrites them.
        u = after_number(norm_sum, own.monitor_count, u)
        return u, after._replace(inner_state=inner)

    monitored = Observed(*transformation(init, update, MonitorState))
    monitored.observed = tx
    monitored.adopt = lambda params, inner: first_state(inner, params, options)
    return monitored


def _require_options(state: MonitorState, options: Options) -> None:
    """Refuse the state of a monitor with another `curvature` or `per`.

    The number of readings in the history is that of the state.
    """
    if isinstance(state.previous, LastStep) != options.curvature:
        raise TypeError(
            f"state must be one of a monitor with curvature={options.curvature}, got one with "
            f"curvature={not options.curvature}; start with tx.init(params)"
        )
    leaves, groups = len(state.rows), len(state.latest)
    per = options.per
    if isinstance(per, str) and groups != (1 if per == "model" else leaves):
        raise TypeError(
            f"state must be one of a monitor with per={per!r}, got one that measures "
            f"{groups} groups of {leaves} leaves; start with tx.init(params)"
        )


def _as_per(per: Any) -> Any:
    """Return what is measured together: "model", "leaf", or labels of the parameters."""
    if isinstance(per, str):
        return arguments.as_option("per", per, ("model", "leaf"))
    if callable(per):
        arguments.require_function("per", per, "from params to a tree of labels", "params")
        return per
    leaves = jax.tree.leaves(per)
    if not leaves or not all(isinstance(label, str) for label in leaves):
        raise TypeError(
            'per must be "model", "leaf", a tree of strings that labels the parameters, or a '
            f"function from params to one, got {arguments.describe(per)}"
        )
    return per
