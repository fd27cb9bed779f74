"""The tests of Optax that an optimizer of momentax may fail, each with its reason.

Each row has a pattern of names of tests, such as "AliasTest::test_preserve_dtype_.*_bfloat16", and
the reason. The same tests fail for `optax.sgd` too, which test_excuses.py checks.
"""

_NESTEROV = (
    "sgd|sgd_parameter_units_decoupled|restart_every_4|guard|monitor|stored_int8|"
    "stored_bfloat16|stored_bfloat16_nearest|guard_bounded_velocity|guard_spikes"
)
EXCUSES: dict[str, str] = {
    rf"AliasTest::test_optimization_({_NESTEROV})_rosenbrock_complex64": (
        "Nesterov's method needs more than the 10,000 steps of the test, and a higher learning "
        "rate diverges. `optax.sgd(1e-3, 0.9, nesterov=True)` ends at the same point."
    ),
}
