"""Wrappers: functions from a gradient transformation to a gradient transformation.

What follows holds for all wrappers, so that their docstrings do not repeat it.

- The first argument is the transformation to wrap, `tx`: a method such as
  `momentax.heavy_ball(0.9)`, a complete optimizer such as `momentax.sgd(0.1)`, or any other
  `optax.GradientTransformation`. Anything else raises a TypeError.
- The result is an `optax.GradientTransformationExtraArgs`. Its updates have the shapes and
  dtypes of those of `tx`. Extra arguments of `update` are passed on to `tx`.
- The state is a NamedTuple. Its field `inner_state` is the state of `tx`, in which
  `momentax.velocity` finds the velocity.
- A leaf whose gradient is None gets the update that `tx` gives it.
- Concrete arguments outside of their interval raise a ValueError when the wrapper is made, and
  gradients that do not fit raise one in `update`.
"""
