"""The tests of Optax that an optimizer of momentax may fail, each with its reason.

Each row has a pattern of names of tests, such as "AliasTest::test_preserve_dtype_.*_bfloat16", and
the reason. The same tests fail for `optax.sgd` too, which test_excuses.py checks.
"""

EXCUSES: dict[str, str] = {}
