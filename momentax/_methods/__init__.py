"""Methods: functions from hyperparameters to a transformation of gradients into directions.

What follows holds for all methods, so that their docstrings do not repeat it.

Calls. A method returns an `optax.GradientTransformationExtraArgs`. Its `update(updates, state,
params=None, **extra_args)` takes gradients and returns directions of the same shapes and dtypes.
Extra arguments that a method does not use are ignored. A method takes no learning rate, weight
decay, mask or clipping: `momentax.sgd` or `optax.chain` adds them. A method that takes a learning
rate, such as `hypergradient`, adapts it and says so.

Hyperparameters. Each is a number, a 0-d array, which may be traced, or an Optax schedule: a
function from the number of updates made so far, first 0, to a scalar. All are kept in float32 or
wider, whatever the dtype of the parameters is.

State. The state is a NamedTuple of arrays with the fields `count`, the number of updates made so
far, and `velocity`, shaped like the parameters. Velocities and all other floating fields are kept
in float32 or wider. Structure, shapes and dtypes do not change from `init` on. A field that is a
scalar is shared by all leaves.

None. A gradient of None means that there is no gradient for that leaf at this step: its velocity
stays unchanged, and None is returned. Scalars of the state, such as counts, still advance.

Errors. When a method is called, a concrete hyperparameter outside of its interval raises a
ValueError, and a value that is not a number, such as a string, raises a TypeError. `init` raises a
TypeError for an array among the parameters that is neither floating nor complex. A parameter that
is no array, such as a function in an Equinox module, has no velocity. `update` raises a TypeError
for the state of another transformation, and a ValueError if the structure or the shapes of the
gradients differ from those of the velocity. What a schedule returns is checked at `init`, and at
each update where the value is known. Each message names the argument or the path of the leaf, the
value given and what to write instead.

What a state says about itself. The class of every state that has a velocity declares, for the
tools in momentax._state and momentax.conventions:

- `restarts_with_velocity`: the fields that are set to zero together with the velocity;
- `sums_gradients`: True if the velocity is a sum of gradients, as the momentum buffer of SGD is in
  other frameworks, and False for an average, whose debiasing another framework cannot take over;
- `shift`: how far the base iterate lies from the parameters along the velocity (see
  `eval_params`): a field of the state, or the class attribute 0.0;
- `leading_axes`: how many axes the velocity has before those of the parameters, if it has any.
"""
