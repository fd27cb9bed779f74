"""Orthogonalized momentum: singular values, exact polar factors, invariants and bad numbers."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax._wrappers import _direction
from momentax._wrappers._coefficients import COEFFICIENTS
from tests import reference

LENGTHS = {"polar_express_8": 8, "deepseek_v4": 10, "halley": 12}
CONVERGE = {**LENGTHS, "newton_schulz": 15, "newton_schulz_cubic": 30}
SETS = [name for name in COEFFICIENTS if name != "quintic"]
PLAIN = momentax.heavy_ball(0.0)  # Its direction is the gradient.


def polar(x, **options):
    """Orthogonalize arrays that a method returns unchanged, without a scale unless one is given."""
    tx = momentax.orthogonalize(PLAIN, **{"scale": None, **options})
    return jax.jit(lambda x: tx.update(x, tx.init(x))[0])(x)


def taken(name, k):
    rows = COEFFICIENTS[name]
    return [rows[min(j, len(rows) - 1)] for j in range(k)]


def image(name, k, s):
    """Return where k steps take singular values."""
    for a, b, c in taken(name, k):
        s = a * s + b * s**3 + c * s**5
    return s


def matrix(singular_values, n, m, seed=0):
    """Return a matrix with some singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    s = np.asarray(singular_values)
    p, q = (np.linalg.qr(rng.normal(size=(each, len(s))))[0] for each in (n, m))
    return p * s @ q.T


def exact(x, f=np.ones_like):
    """Return P f(σ / ‖x‖) Qᵀ of a matrix, or of each matrix of a stack."""
    p, s, qt = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    norm = np.linalg.norm(s, axis=-1, keepdims=True)
    return p * f(s / norm)[..., None, :] @ qt


# Singular values.

GRID = np.unique(np.concatenate([np.geomspace(1e-6, 1, 100001), np.linspace(1e-3, 1, 200001)]))
_ROW = re.compile(
    r'^ +"(\w+)",?(?: "\w+")? +(\d+) +\[(.*), (.*)\] +\[(.*), (.*)\] +(\S+)$', re.MULTILINE
)
TABLE = _ROW.findall(momentax.orthogonalize.__doc__)


def test_the_table_of_the_docstring_has_every_set():
    assert {name for name, *_ in TABLE} == set(SETS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}, {row[1]}")
def test_the_table_of_the_docstring_is_true(row):
    name, k, *bounds, half = row
    y = image(name, int(k), GRID)
    found = [f(y[least <= GRID]) for least in (1e-3, 1e-2) for f in (np.min, np.max)]
    np.testing.assert_allclose(list(map(float, bounds)), found, atol=6e-4)
    below = np.flatnonzero(y < 0.5)
    assert GRID[below[-1]] == pytest.approx(float(half), rel=0.05)
    assert y.min() > 0


def test_the_steps_that_the_docstring_names_are_the_fewest_of_that_quality():
    text = " ".join(momentax.orthogonalize.__doc__.split())
    text = text[text.index("the fewest that take") : text.index("never do")]
    inside = {}
    for k, names in re.findall(r'(\d+) of ((?:"\w+"(?: or )?)+)', text):
        inside |= dict.fromkeys(re.findall(r"\w{3,}", names), int(k))
    for name in SETS:
        images = (image(name, k, np.geomspace(1e-3, 1, 3000)) for k in range(1, 21))
        enough = [k for k, y in enumerate(images, 1) if y.min() >= 0.85 and y.max() <= 1.15]
        assert enough[:1] == ([inside[name]] if name in inside else []), name
    assert set(re.findall(r'"(\w+)"', text)) == set(SETS)


# The factor of the smallest singular values, as others have published it, tells a wrong digit.
SLOPES = {
    ("jordan", 5): 485,
    ("jordan", 10): 2.35e5,
    ("you", 5): 493,
    ("polar_express", 5): 989,
    ("polar_express_8", 5): 976,
    ("polar_express_8", 8): 6364,
    ("cans", 5): 1049,
    ("cubic", 5): 119,
    ("deepseek_v4", 10): 7.9e4,
    ("halley", 12): 4096,
}


@pytest.mark.parametrize(("name", "k"), SLOPES)
def test_slopes_at_zero_are_the_published_ones(name, k):
    slope = np.prod([a for a, _, _ in taken(name, k)])
    assert slope == pytest.approx(SLOPES[name, k], rel=4e-3)


def test_closed_forms_of_the_textbook_rows():
    def derivatives(name):
        p = np.polynomial.Polynomial([0, 0, 0, 0, 0, 0])
        a, b, c = COEFFICIENTS[name][-1]
        p = np.polynomial.Polynomial([0, a, 0, b, 0, c])
        return [p(1), p.deriv()(1), p.deriv(2)(1)]

    np.testing.assert_allclose(derivatives("halley"), [1, 0, 1], atol=1e-15)
    np.testing.assert_allclose(derivatives("newton_schulz"), [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(derivatives("newton_schulz_cubic")[:2], [1, 0], atol=1e-15)
    assert derivatives("jordan")[0] == pytest.approx(0.7010)


SHAPES = {"wide": (5, 9), "tall": (9, 5), "square": (6, 6), "row": (1, 4), "entry": (1, 1)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SETS)
def test_singular_values_go_where_the_set_takes_them_and_vectors_stay(name):
    rng, k = np.random.default_rng(1), LENGTHS.get(name, 5)
    x = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    found = polar(x, coefficients=name, steps=k, dtype=jnp.float64)
    expected = {key: exact(each, lambda s: image(name, k, s)) for key, each in x.items()}
    # The slope of "cans" is 5e4 at 1, where the only singular value of a row is.
    tolerance = 1e-10 if name == "cans" else 1e-12
    chex.assert_trees_all_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CONVERGE)
def test_sets_that_converge_give_the_exact_polar_factor(name):
    x = matrix(np.geomspace(0.02, 1, 6), 6, 8)
    k = CONVERGE[name]
    found = polar(x, coefficients=name, steps=k, dtype=jnp.float64)
    tolerance = {"polar_express_8": 1e-9, "halley": 1e-6, "deepseek_v4": 1e-3}.get(name, 1e-12)
    np.testing.assert_allclose(found, exact(x), atol=tolerance)
    np.testing.assert_allclose(found, scipy.linalg.polar(x)[0], atol=tolerance)


@pytest.mark.usefixtures("x64")
def test_the_last_row_repeats_and_rows_of_ones_own_are_the_set():
    x = np.random.default_rng(2).normal(size=(4, 6))
    rows = [(3.4445, -4.7750, 2.0315)]
    options = {"dtype": jnp.float64, "steps": 7}
    np.testing.assert_array_equal(
        polar(x, coefficients=rows, **options), polar(x, coefficients="jordan", **options)
    )
    expected = reference.newton_schulz(x, [*reference.POLAR_EXPRESS, *reference.POLAR_EXPRESS[-1:]])
    np.testing.assert_allclose(polar(x, dtype=jnp.float64, steps=6), expected, atol=1e-12)
    np.testing.assert_array_equal(
        polar(x, coefficients="you", **options), polar(x, coefficients="quintic", **options)
    )


# Coefficients that are refused.

AOL = [
    (4.0098, -7.0585, 2.4635),
    (3.4585, -5.5479, 2.5959),
    (2.7573, -3.2939, 1.4254),
    (2.7215, -3.0494, 1.3169),
]


def test_the_set_that_reverses_large_singular_values_is_refused():
    with pytest.raises(ValueError, match=r"'aol' takes singular values above 0\.8837"):
        momentax.orthogonalize(coefficients="aol")
    with pytest.raises(ValueError, match=r"in step 1 the row \(4\.0098, .* takes 1 to -0\.5852"):
        momentax.orthogonalize(coefficients=AOL)


@given(
    rows=st.lists(
        st.tuples(st.floats(0.5, 5), st.floats(-8, 2), st.floats(-1, 5)), min_size=1, max_size=3
    )
)
def test_rows_are_accepted_exactly_if_they_keep_singular_values_positive_and_bounded(rows):
    s = np.linspace(0, 1 + 8 * np.finfo(np.float32).eps, 20001)
    least, largest = np.inf, 0.0
    for a, b, c in [*rows, *rows[-1:] * 4][:5]:
        # What a step reaches is an interval from 0 on, as its map is continuous.
        s = np.linspace(0, s.max(), 20001)
        least = min(least, np.min(a + b * s**2 + c * s**4))
        s = a * s + b * s**3 + c * s**5
        largest = max(largest, s.max())
        if largest > 5 or least < 0:
            break
    margin = 1e-6
    if least > margin and largest < 4 - margin:
        momentax.orthogonalize(coefficients=rows)
    elif least < -margin or largest > 4 + margin:
        with pytest.raises(ValueError, match=r"^coefficients must keep singular values positive"):
            momentax.orthogonalize(coefficients=rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficients": "jordans"}, "^coefficients must be one of 'polar_express', "),
        ({"coefficients": (3.4, -4.8, 2.0)}, "^coefficients must be the name of a set or rows"),
        ({"coefficients": [(3.4, np.nan, 2.0)]}, "^coefficients must be in .* got nan"),
        ({"coefficients": [(1.5, -0.5, 0.0)] * 6}, "6 rows and steps is 5.*give steps=6"),
        ({"coefficients": "cans", "dtype": jnp.bfloat16}, "'cans' are not safe in bfloat16"),
        ({"steps": 0}, "^steps must be a whole number, at least 1, got 0"),
        ({"steps": 101}, "^steps must be at most 100"),
        ({"scale": "original"}, "^scale must be one of 'spectral', 'rms', 'unit', got 'original'"),
        ({"after": "rows"}, "^after must be one of 'normuon', 'row', got 'rows'"),
        ({"dtype": jnp.int32}, "^dtype must be one of jnp.float32, "),
        ({"dtype": None}, "^dtype must be one of jnp.float32, .* got None"),
        ({"method": 0.02}, "^method must be a gradient transformation such as .* got 0.02"),
        ({"method": momentax.sgd(0.1)}, "^method must return directions"),
        ({"method": optax.adam(0.1)}, "^method must return directions"),
    ],
)
def test_bad_arguments_raise_when_the_method_is_made(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        momentax.orthogonalize(**options)


def test_float64_without_64_bits_is_refused_where_it_would_be_used():
    tx = momentax.orthogonalize(dtype=jnp.float64)
    with pytest.raises(ValueError, match=r"^dtype is float64, .*jax_enable_x64"):
        tx.init(jnp.ones((2, 2)))
    with jax.enable_x64(True):
        state = tx.init(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^dtype is float64, .*jax_enable_x64"):
        tx.update(jnp.ones((2, 2)), state)


# Invariants.


@pytest.mark.usefixtures("x64")
def test_transposed_rotated_and_scaled_matrices():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 7))
    p, q = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (4, 7))
    variants = {"x": x, "transposed": x.T, "rotated": p @ x @ q, "scaled": 1e-3 * x, "zero": 0 * x}
    out = polar(variants, dtype=jnp.float64)
    np.testing.assert_allclose(out["transposed"], out["x"].T, atol=1e-13)
    np.testing.assert_allclose(out["rotated"], p @ out["x"] @ q, atol=1e-12)
    np.testing.assert_allclose(out["scaled"], out["x"], atol=1e-12)
    np.testing.assert_array_equal(out["zero"], 0)


@pytest.mark.parametrize("name", SETS)
def test_the_direction_never_opposes_the_gradient(name):
    rng = np.random.default_rng(4)
    x = {
        "rank one": np.outer(rng.normal(size=6), rng.normal(size=9)),
        "ones": np.ones((6, 9)),
        "long tail": matrix(np.geomspace(1e-6, 1, 6), 6, 9),
        "flat": matrix(np.ones(6), 6, 9),
    }
    x = {key: jnp.asarray(each, jnp.float32) for key, each in x.items()}
    out = polar(x, coefficients=name, steps=LENGTHS.get(name, 5))
    for key, each in x.items():
        assert np.vdot(out[key], each) > 0.5 * np.linalg.norm(each), key
        assert np.linalg.norm(out[key], 2) < 1.31, key


@pytest.mark.parametrize("power", [-45, -40, -36, -30, -20, 0, 20, 30, 37, 38])
def test_the_size_of_the_direction_does_not_matter(power):
    x = np.random.default_rng(5).uniform(-3, 3, size=(8, 13))
    large = np.asarray(x * 10.0**power, np.float32)
    out = polar({"x": large, "one": np.asarray(x, np.float32)})
    if power < -36:  # XLA takes numbers below the smallest normal one as 0.
        assert np.isfinite(out["x"]).all()
    else:
        np.testing.assert_allclose(out["x"], out["one"], atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_seen_in_its_own_matrix_alone(bad):
    x = np.random.default_rng(6).normal(size=(3, 4, 5)).astype(np.float32)
    expected = polar(x)
    x[1, 2, 3] = bad
    out = np.asarray(polar(x))
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], expected[np.array([0, 2])])


def test_complex_matrices_have_their_unitary_factors():
    rng = np.random.default_rng(7)
    x = (rng.normal(size=(4, 9)) + 1j * rng.normal(size=(4, 9))).astype(np.complex64)
    p, _, qh = np.linalg.svd(x, full_matrices=False)
    for dtype in (jnp.float32, jnp.bfloat16):
        options = {"coefficients": "polar_express_8", "steps": 8, "dtype": dtype}
        np.testing.assert_allclose(polar(x, **options), p @ qh, atol=2e-5)


# Dtypes and the Gram form.


def errors(spectrum, shape, dtype, **options):
    x = matrix(spectrum, *shape)
    expected = polar_twin(x, **options)
    found = np.asarray(polar(jnp.asarray(x, jnp.float32), dtype=dtype, **options), np.float64)
    return np.linalg.norm(found - expected, 2)


def polar_twin(x, coefficients, steps=5):
    return exact(x, lambda s: image(coefficients, steps, s))


@pytest.mark.parametrize("name", ["polar_express", "jordan", "you", "cans"])
def test_float32_is_close_to_float64_in_both_forms(name):
    for shape, least, tolerance in (
        ((32, 40), 1e-4, 3e-4),
        ((32, 64), 1e-2, 1e-4),
        ((64, 32), 1e-2, 1e-4),
        ((32, 64), 1e-4, 3e-3),
    ):
        found = errors(np.geomspace(least, 1, 32), shape, jnp.float32, coefficients=name)
        assert found < tolerance, (shape, least)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 8, 12])
def test_the_gram_form_makes_every_number_of_steps(steps):
    found = errors(
        np.geomspace(1e-2, 1, 16), (16, 48), jnp.float32, coefficients="jordan", steps=steps
    )
    assert found < 1e-3


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.bfloat16, 0.5), (jnp.float16, 0.2), ("float16", 0.2)]
)
def test_half_precision_is_as_close_as_its_digits_allow(dtype, tolerance):
    # In bfloat16 the Gram form would be wrong by more than 1 here.
    for shape in ((16, 16), (16, 64)):
        found = errors(np.geomspace(1e-3, 1, 16), shape, dtype, coefficients="polar_express")
        assert found < tolerance


def test_terms_of_a_step_do_not_cancel():
    """Rounding errors of the products are amplified by the coefficients, of which three cancel."""
    x = [matrix(np.geomspace(0.3, 1, 6), 6, 8, seed).astype(np.float32) for seed in range(20)]
    truth = exact(x, lambda s: image("polar_express", 5, s))
    plain = np.stack(x) / np.linalg.norm(x, axis=(1, 2), keepdims=True)
    for a, b, c in np.float32(taken("polar_express", 5)):
        r = plain @ np.swapaxes(plain, 1, 2)
        plain = a * plain + (b * r + c * r @ r) @ plain
    errors = [np.abs(each - truth).mean() for each in (polar(np.stack(x)), plain)]
    assert errors[0] < 0.7 * errors[1]


def test_a_converging_set_reaches_the_exact_factor_in_the_gram_form():
    x = jnp.asarray(matrix(np.geomspace(1e-2, 1, 16), 16, 64), jnp.float32)
    found = polar(x, coefficients="polar_express_8", steps=8)
    np.testing.assert_allclose(found, exact(x), atol=2e-4)


@pytest.mark.parametrize(("name", "apart"), [("polar_express", 5e-6), ("jordan", 1e-6)])
def test_equal_shapes_are_iterated_together_to_the_same_result(name, apart):
    """A stack and a single matrix are equally near to float64, and differ by rounding alone.

    XLA may round a norm or a product differently. One unit in the last place of the norm changes
    the result of polar_express by about 1e-6 here, so that no two programs agree to less.
    """
    shapes = [(6, 8), (8, 6), (6, 8), (5, 24), (24, 5), (7, 7)]
    x = [jnp.asarray(matrix(np.geomspace(0.3, 1, min(s)), *s, i)) for i, s in enumerate(shapes)]
    x = [*(leaf.astype(jnp.float32) for leaf in x), jnp.stack([x[0], x[2]]).astype(jnp.float32)]
    for together, each in zip(polar(x, coefficients=name), x, strict=True):
        alone = polar(each, coefficients=name)
        truth = exact(each, lambda s: image(name, 5, s))
        other_norm = exact(each, lambda s: image(name, 5, s * (1 + 2**-23)))
        unit = np.abs(other_norm - truth).max()
        np.testing.assert_allclose(together, truth, rtol=0, atol=6 * unit)
        np.testing.assert_allclose(alone, truth, rtol=0, atol=6 * unit)
        np.testing.assert_allclose(together, alone, rtol=0, atol=apart)


# The method.


def run(tx, gradients):
    def step(state, g):
        d, state = tx.update(g, state)
        return state, d

    return jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g)[1])(gradients)


@pytest.mark.usefixtures("x64")
def test_the_default_method_is_jordans():
    gradients, v, expected = np.random.default_rng(9).normal(size=(12, 6, 4)), 0.0, []
    for g in gradients:
        v = 0.95 * v + 0.05 * g
        expected.append(reference.newton_schulz(0.05 * g + 0.95 * v))
    found = run(momentax.orthogonalize(dtype=jnp.float64), gradients)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.parametrize(
    ("scale", "factor"),
    [
        (None, lambda n, m: 1.0),
        ("spectral", lambda n, m: max(1, m / n) ** 0.5),
        ("rms", lambda n, m: 0.2 * max(n, m) ** 0.5),
        ("unit", lambda n, m: (m / n) ** 0.5),
    ],
)
def test_scales_are_functions_of_the_inputs_and_outputs(scale, factor):
    rng = np.random.default_rng(10)
    x = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 9), (9, 4), (5, 5))]
    for plain, scaled in zip(polar(x), polar(x, scale=scale), strict=True):
        np.testing.assert_allclose(scaled, factor(*plain.shape) * plain, rtol=1e-5, atol=1e-6)


def test_the_scale_rms_makes_entries_as_large_as_it_says():
    x = jnp.asarray(matrix(np.ones(6), 6, 20), jnp.float32)
    out = polar(x, coefficients="polar_express_8", steps=8, scale="rms")
    assert np.sqrt(np.mean(np.square(out))) == pytest.approx(0.2, rel=1e-4)


AROUND = {
    "sgd": lambda tx: momentax.sgd(0.1, tx),
    "cautious": lambda tx: momentax.sgd(0.1, momentax.cautious(tx)),
    "stored": lambda tx: momentax.stored(
        momentax.sgd(0.1, tx), momentax.storage.int8(), min_size=1
    ),
    "guard": lambda tx: momentax.guard(momentax.sgd(0.1, tx)),
    "restart": lambda tx: momentax.restart(momentax.sgd(0.1, tx), 3),
    "monitor": lambda tx: momentax.monitor(momentax.sgd(0.1, tx), every=1, history=2),
    "inject": lambda tx: optax.inject_hyperparams(lambda lr: momentax.sgd(lr, tx))(lr=0.1),
}
KERNEL = momentax.memory.Kernel.from_exponentials([(0.5, 0.5), (0.9, 0.5)])
INSIDE = {
    "heavy_ball": lambda: momentax.heavy_ball(0.95),
    "quasi_hyperbolic": lambda: momentax.quasi_hyperbolic(0.9, 0.7),
    "aggregated": momentax.aggregated,
    "kernel": lambda: momentax.memory.method(KERNEL),
    "mars": momentax.mars,
    "trace": lambda: optax.trace(0.9, nesterov=True),
    "stored": lambda: momentax.stored(
        momentax.heavy_ball(0.9), momentax.storage.int8(), min_size=1
    ),
    "cautious": lambda: momentax.cautious(momentax.nesterov(0.9)),
    "twice": momentax.orthogonalize,
}
PARAMS = {"w": jnp.linspace(-1.0, 2.0, 24).reshape(4, 6) ** 3, "b": jnp.linspace(-1.0, 1.0, 5)}


@pytest.mark.parametrize(
    ("inside", "around"),
    [*((each, "sgd") for each in INSIDE), *(("heavy_ball", a) for a in AROUND)],
)
def test_composes_with_methods_inside_and_wrappers_around(inside, around):
    tx = AROUND[around](momentax.orthogonalize(INSIDE[inside]()))
    u, state = jax.jit(lambda: tx.update(PARAMS, tx.init(PARAMS), PARAMS))()
    assert np.vdot(u["w"], PARAMS["w"]) < 0
    assert 0.05 < np.linalg.norm(u["w"], 2) < 0.3
    if inside in ("heavy_ball", "trace"):
        np.testing.assert_array_equal(momentax.velocity(state)["b"].shape, (5,))
        found = momentax.hyperparameters(state, tx)
        assert found["learning_rate"] == 0.1
        assert found["beta"] == (0.95 if inside == "heavy_ball" else 0.9)


def test_the_signs_of_its_updates_are_found_without_a_device():
    small, tx = np.ones((2, 2), np.float32), momentax.cautious(momentax.orthogonalize())
    assert _direction.opposed_parameter(tx, small, start_devices=False) is None
    ascent = optax.chain(tx, optax.scale(-1.0))
    assert _direction.opposed_parameter(ascent, small, start_devices=False) == "the root"


# What happens to the rows of the polar factor.


def test_outputs_get_the_same_length_and_the_norm_is_kept():
    x = np.random.default_rng(11).normal(size=(6, 9)).astype(np.float32)
    plain, row = (np.asarray(polar(x, after=after)) for after in (None, "row"))
    lengths = np.linalg.norm(row, axis=0)
    np.testing.assert_allclose(lengths, np.linalg.norm(plain) / 3, rtol=1e-5)
    np.testing.assert_allclose(row / lengths, plain / np.linalg.norm(plain, axis=0), atol=1e-6)
    # The average of one step has the same mean squares, up to a factor.
    np.testing.assert_allclose(polar(x, after="normuon"), row, atol=1e-6)
    np.testing.assert_allclose(polar(1e-6 * x, after="normuon"), row, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_normuon_averages_the_squares_of_each_output_of_each_matrix():
    rng = np.random.default_rng(12)
    gradients, w, expected = rng.normal(size=(6, 2, 5, 3)), [0.0, 0.0], []
    for g in gradients:
        o = [reference.newton_schulz(each) for each in g]
        each, w = zip(*map(reference.normalize_rows, o, w), strict=True)
        expected.append(np.stack(each))
    tx = momentax.orthogonalize(PLAIN, dtype=jnp.float64, after="normuon")
    np.testing.assert_allclose(run(tx, gradients), expected, atol=1e-12)
    state = tx.init({"w": gradients[0], "b": gradients[0, 0, 0]})
    assert state.row_squares["w"].shape == (2, 1, 3)
    assert state.row_squares["b"] is None


def test_an_output_that_is_zero_stays_zero():
    x = np.random.default_rng(13).normal(size=(4, 5)).astype(np.float32)
    x[:, 2] = 0
    for after in ("row", "normuon"):
        out = np.asarray(polar({"x": x, "zero": 0 * x}, after=after)["x"])
        np.testing.assert_array_equal(out[:, 2], 0)
        np.testing.assert_array_equal(polar(0 * x, after=after), 0)
        assert np.linalg.norm(out) == pytest.approx(np.linalg.norm(polar(x)), rel=1e-5)
