"""Error messages of the argument checks."""

import datetime
import decimal
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax._core import arguments, hyperparameters, trees


class Pair(NamedTuple):
    left: Any
    right: Any


LIKE = {"a": jnp.ones(2), "b": [jnp.ones(1), Pair(jnp.ones(3), jnp.ones(()))], "d": jnp.ones(4)}
FIRST_DIFFERENCES = {
    "a shape before a missing key": (
        {"a": jnp.ones(3), "b": LIKE["b"]},
        ValueError,
        r"\['a'\] .*: shape \(3,\) where shape \(2,\)",
    ),
    "a dtype before a shape": (
        {"a": jnp.ones(2, int), "b": LIKE["b"], "d": jnp.ones(3)},
        TypeError,
        r"\['a'\] .*: dtype int32 where float32",
    ),
    "a shape before a dtype": (
        {"a": jnp.ones(3), "b": LIKE["b"], "d": jnp.ones(4, int)},
        ValueError,
        r"\['a'\] .*: shape \(3,\) where shape \(2,\)",
    ),
    "a shape before a dtype at one leaf": (
        LIKE | {"d": jnp.ones(3, int)},
        ValueError,
        r"\['d'\] .*: shape \(3,\) where shape \(4,\)",
    ),
    "a deeper shape before an extra key": (
        LIKE | {"b": [jnp.ones(1), Pair(jnp.ones(2), jnp.ones(()))], "e": jnp.ones(1)},
        ValueError,
        r"\['b'\]\[1\].left .*: shape \(2,\) where shape \(3,\)",
    ),
    "an extra key before a shape": (
        {"a": LIKE["a"], "aa": jnp.ones(1), "b": LIKE["b"], "d": jnp.ones(3)},
        ValueError,
        r"\['aa'\] .*: an array where nothing",
    ),
    "a missing key before a shape": (
        {"a": LIKE["a"], "d": jnp.ones(3)},
        ValueError,
        r"\['b'\] .*: nothing where a list",
    ),
    "a longer list before a shape": (
        LIKE | {"b": [*LIKE["b"], jnp.ones(1)], "d": jnp.ones(3)},
        ValueError,
        r"\['b'\]\[2\] .*: an array where nothing",
    ),
    "another container": (
        LIKE | {"b": tuple(LIKE["b"]), "d": jnp.ones(3)},
        ValueError,
        r"\['b'\] .*: a tuple where a list",
    ),
    "a container before the shapes in it": (
        OrderedDict(LIKE | {"a": jnp.ones(3)}),
        ValueError,
        "the root .*: an OrderedDict where a dict",
    ),
}


@pytest.mark.parametrize("case", FIRST_DIFFERENCES)
def test_the_error_names_the_first_path_that_differs(case):
    given, error, text = FIRST_DIFFERENCES[case]
    with pytest.raises(error, match=f"^the gradient at {text}"):
        trees.require_gradients(given, LIKE)
    trees.require_gradients(LIKE, LIKE)
    trees.require_gradients(LIKE | {"b": [None, Pair(None, jnp.ones(()))]}, LIKE)


def test_the_error_names_a_dict_whose_keys_are_in_another_order():
    a, b = ("a", jnp.ones(1)), ("b", jnp.ones(1))
    for given, like in (
        (OrderedDict([b, a]), OrderedDict([a, b])),
        (OrderedDict([b, a]), OrderedDict([a, b, ("c", jnp.ones(1))])),
    ):
        with pytest.raises(ValueError, match=r"at the root .*an OrderedDict .* where an Ordered"):
            trees.require_gradients(given, like)


# Values that are not numbers of JAX, and how a message shows each.
STRANGE = {
    "np.str_": (np.str_("0.9"), "'0.9'"),
    "a dtype's name": (np.str_("float32"), "'float32'"),
    "bytes": (b"0.9", "b'0.9'"),
    "an array of a string": (np.array("0.9"), "'0.9'"),
    "an array of strings": (np.array(["0.9"]), r"\['0.9'\] of shape \(1,\)"),
    "an object array": (np.array(None), "None"),
    "a number in an object array": (np.array(0.9, object), "0.9"),
    "a date": (np.datetime64("2020-01-01"), r"datetime.date\(2020, 1, 1\)"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), r"\['2020-01-01'\] of shape \(1,\)"),
    "a duration": (np.timedelta64(3, "D"), r"datetime.timedelta\(days=3\)"),
    "Python's date": (datetime.date(2020, 1, 1), r"datetime.date\(2020, 1, 1\)"),
    "longdouble": (np.longdouble("0.5"), r"np.longdouble\('0.5'\)"),
    "Decimal": (decimal.Decimal("0.9"), r"Decimal\('0.9'\)"),
    "a record": (np.zeros(2, [("a", "i4")]), r"\[\(0,\), \(0,\)\] of shape \(2,\)"),
    "a random key": (jax.random.key(0), r"a random key of shape \(\)"),
    "random keys": (jax.random.split(jax.random.key(0)), r"a random key of shape \(2,\)"),
    "a ragged list": ([[1], [1, 2]], r"\[\[1\], \[1, 2\]\]"),
    "a dict": ({"beta": 0.9}, r"\{'beta': 0.9\}"),
    "a long list": ([0.5] * 10_000, r"\[(0.5, )+.*\.\.\."),
}


@pytest.mark.parametrize("case", STRANGE)
def test_values_that_are_not_numbers_are_refused(case):
    value, shown = STRANGE[case]
    for name, interval, make in (
        ("beta", r"\[0, 1\)", momentax.heavy_ball),
        ("gain", r"\(-inf, inf\)", lambda value: momentax.linear(0.0, 1.0, 0.9, value)),
        ("learning_rate", r"\[0, inf\)", momentax.sgd),
    ):
        with pytest.raises(TypeError, match=rf"^{name} must be in {interval}, got {shown}"):
            make(value)
    tx = momentax.heavy_ball(lambda count: value)
    with pytest.raises(TypeError, match=rf"^beta must be a schedule .*that returns {shown}"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    with pytest.raises(TypeError, match=rf"^decoupled must be True or False, got {shown}"):
        momentax.sgd(0.1, decoupled=value)
    with pytest.raises(TypeError, match=rf"^steps must be a whole number, at least 1, got {shown}"):
        momentax.schedules.warmup(steps=value)
    with pytest.raises(ValueError, match=rf"^velocity_units must be one of .*, got {shown}"):
        momentax.sgd(0.1, velocity_units=value)
    if case != "a long list":
        if case == "a dtype's name":  # A word makes a static axis.
            assert momentax.grid(x=[value]).static == ("x",)
        else:
            with pytest.raises(TypeError, match=r"^axis x must hold numbers, got"):
                momentax.grid(x=[value])
        if case != "longdouble":  # The theory runs in NumPy, which has longdouble.
            with pytest.raises(TypeError, match=r"^beta must be real numbers"):
                momentax.theory.half_life(value)


def test_a_method_as_learning_rate_is_not_described_as_a_vector():
    with pytest.raises(TypeError, match=r"^learning_rate comes first and the method second: "):
        momentax.sgd(momentax.heavy_ball())


def test_an_array_of_words_is_refused():
    with pytest.raises(ValueError, match=r"^velocity_units must be one of .*, got \['gradient'"):
        momentax.sgd(0.1, velocity_units=np.array(["gradient", "parameter"]))
    assert arguments.as_option("word", np.str_("max"), ("max", "min")) == "max"


HUGE = {
    "an integer beyond float64": (10**400, r"an integer of 1329 bits"),
    "an integer that Python does not print": (-(10**5000), r"an integer of 16610 bits"),
    "a float beyond float32": (1e300, r"1e\+300, which float32 rounds to inf"),
    "an array beyond float32": (np.array(-1e300), r"-1e\+300, which float32 rounds to -inf"),
    "an integer beyond float32": (10**39, r"10{39}, which float32 rounds to inf"),
}


@pytest.mark.parametrize("case", HUGE)
def test_numbers_beyond_float32_are_refused(case):
    value, shown = HUGE[case]
    with pytest.raises(ValueError, match=rf"^gain must be in \(-inf, inf\), got {shown}$"):
        momentax.linear(0.0, 1.0, 0.9, value)
    tx = momentax.linear(0.0, 1.0, 0.9, lambda count: value)
    with pytest.raises(ValueError, match=rf"^gain must be a schedule .*that returns {shown}$"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    if not isinstance(value, int):
        shown = shown.replace(",", " at index 1,")
        with pytest.raises(ValueError, match=rf"^axis x must be in .*, got {shown}$"):
            momentax.grid(x=[0.5, float(value)])
    else:
        with pytest.raises((TypeError, ValueError), match=r"^axis x "):
            momentax.grid(x=[0.5, value])


@pytest.mark.usefixtures("x64")
def test_float64_accepts_larger_numbers():
    momentax.linear(0.0, 1.0, 0.9, 1e300)
    assert momentax.grid(x=[1e300]).axes["x"] == 1e300


@pytest.mark.parametrize("wrap", [float, np.float32, jnp.float32])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_negative_and_nan_learning_rates_of_every_type_are_refused(wrap, value):
    with pytest.raises(ValueError, match=rf"^learning_rate must be in \[0, inf\), got {value}$"):
        momentax.sgd(wrap(value))
    momentax.sgd(jnp.float32(0))  # inject_hyperparams passes a warm-up's first value as an array.


@pytest.mark.parametrize("case", [*STRANGE, "an object", "a set", "an integer beyond float64"])
def test_a_parameter_of_another_dtype_is_refused_and_one_without_dtype_has_no_velocity(case):
    others = {"an object": object(), "a set": {1, 2}, "an integer beyond float64": 10**400}
    leaf = STRANGE[case][0] if case in STRANGE else others[case]
    if not jax.tree_util.all_leaves([leaf]):
        return  # This is a container of parameters and not a parameter.
    text, params = r"\['b'\]\['c'\] has dtype", {"a": jnp.ones(2), "b": {"c": leaf}}
    if hasattr(leaf, "dtype") or isinstance(leaf, int):
        with pytest.raises(TypeError, match=f"^the parameter at {text} .*leave it out with optax"):
            momentax.heavy_ball().init(params)
    else:
        assert momentax.heavy_ball().init(params).velocity["b"]["c"] is None
    like = {"a": jnp.ones(()), "b": {"c": jnp.ones(np.shape(leaf))}}
    tx = momentax.heavy_ball()
    wrong = r"^the gradient at \['b'\]\['c'\] does not fit .*: (dtype|an? )"
    with pytest.raises(TypeError, match=wrong):
        tx.update(like | {"b": {"c": leaf}}, tx.init(like))


def test_shapes_without_values_are_parameters():
    shapes = {"a": jax.ShapeDtypeStruct((2,), jnp.bfloat16)}
    state = jax.eval_shape(momentax.heavy_ball().init, shapes)
    assert state.velocity["a"].dtype == jnp.float32
    assert optax.tree.zeros_like(state.velocity)["a"].shape == (2,)


def test_no_message_shows_an_address():
    def loss(params):
        return params

    for value, text in (
        (loss, "the function loss"),
        (momentax.sgd(0.1), "a gradient transformation"),
        ([loss], "[<function test_no_message_shows_an_address.<locals>.loss>]"),
    ):
        assert arguments.describe(value) == text
    for value in (
        momentax.storage.int8(),
        momentax.storage.bfloat16(),
        momentax.problems.saddle(),
        momentax.train_step(loss, momentax.sgd(0.1)),
    ):
        assert " at 0x" not in repr(value)


def test_numbered_betas_share_the_interval_and_the_scale_of_beta():
    assert hyperparameters.interval_of("beta4") == hyperparameters.interval_of("beta")
    assert hyperparameters.scale_of("beta10") == hyperparameters.scale_of("beta")
    assert not hyperparameters.is_listed("betas")


REFUSED = {
    "a count beyond int32": (
        lambda: arguments.as_count("steps", 2**31),
        ValueError,
        "steps must be at most 2147483647, the largest int32 count, got 2147483648",
    ),
    "a count beyond its own limit": (
        lambda: arguments.as_count("size", 9, most=8),
        ValueError,
        "size must be at most 8, got 9",
    ),
    "a list for a string": (
        lambda: arguments.as_text("path", ["a"], '"[0].trace"'),
        TypeError,
        r"path must be a string such as \"\[0\].trace\", got \['a'\]",
    ),
    "a string for a sequence": (
        lambda: arguments.as_items("names", "ab", "names"),
        TypeError,
        "names must be a sequence of names, got 'ab'",
    ),
    "a set for a sequence": (
        lambda: arguments.as_items("names", {"a"}, "names"),
        TypeError,
        "names must be a sequence of names, got {'a'}",
    ),
    "a number for a sequence": (
        lambda: arguments.as_items("names", np.float32(1), "names"),
        TypeError,
        "names must be a sequence of names, got 1.0",
    ),
    "shapes that do not broadcast": (
        lambda: arguments.broadcast(beta=np.ones(2), learning_rate=np.ones(3)),
        ValueError,
        r"the arguments must have shapes that broadcast, got beta of shape \(2,\), learning_rate",
    ),
    "a function of too few arguments": (
        lambda: arguments.require_function("loss", lambda: 0, "of params", "params"),
        TypeError,
        "loss must be a function of params, got the function <lambda>, which takes no arguments",
    ),
    "a function of other names": (
        lambda: arguments.require_function("run", lambda x: 0, "of a point", beta=0.9),
        TypeError,
        "run must be a function of a point, got the function <lambda>, which takes x",
    ),
    "a function that needs more": (
        lambda: arguments.require_function("loss", lambda p, x: 0, "of params", "params"),
        TypeError,
        "which takes p, x",
    ),
    "an integer beyond float64": (
        lambda: arguments.as_reals("beta", [10**400], "[0, 1)"),
        ValueError,
        r"beta must be real numbers in \[0, 1\), got \[10",
    ),
    "an integer beyond 64 bits": (
        lambda: arguments.as_reals("beta", 2**70, "[0, 1)"),
        ValueError,
        r"beta must be in \[0, 1\), got 1.18",
    ),
    "a mask of numbers": (
        lambda: trees.require_mask("mask", {"w": 1}),
        TypeError,
        "mask must be a tree of bools, a prefix of one or a function",
    ),
    "a mask of no arguments": (
        lambda: trees.require_mask("mask", lambda: True),
        TypeError,
        "mask must be a function from params to a tree of bools",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_checks_name_the_argument(case):
    call, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        call()


class Unprintable:
    """A class whose representation raises, such as a record of the wrong parts."""

    def __repr__(self):
        return {}["nothing"]


def test_a_value_that_cannot_be_printed_is_described_by_its_type():
    assert arguments.describe(Unprintable()) == "an object of type Unprintable"
    value: Any = Unprintable()
    with pytest.raises(TypeError, match=r"^beta must be in \[0, 1\), got an object of type"):
        momentax.heavy_ball(value)


def test_checks_pass_what_is_right():
    assert arguments.as_items("names", (name for name in "ab"), "names") == ("a", "b")
    assert arguments.as_reals("x", [2**70, 1]).tolist() == [2.0**70, 1.0]
    arguments.require_function("loss", lambda p, x: 0, "of params", "params", ...)
    arguments.require_function("loss", min, "of params", "params")  # It has no signature.
    for mask in (None, True, {"w": np.bool_(True)}, {}, lambda params: params):
        trees.require_mask("mask", mask)
