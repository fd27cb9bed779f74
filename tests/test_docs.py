"""The pages of the site: their code runs, their equations are right, no name is left out."""

import inspect
import re
import xml.etree.ElementTree as ElementTree

import jax
import numpy as np
import pytest

import momentax
from docs.pages import ROOT, written_pages
from docs.pages.breaks import pieces
from docs.pages.docstrings import inline, read_sections, to_rst, with_low_letters
from docs.pages.facts import methods
from docs.pages.formulas import is_formula, to_inline_mathml, to_mathml
from docs.pages.links import faults
from docs.pages.names import namespaces, public_names, resolve
from docs.pages.reference import _groups, file_names, show_defaults, skip_member
from momentax import conventions, states, theory

BLOCK = re.compile(r"^(?:% Not run: (.*)\n\n)?```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = {
    str(path.relative_to(ROOT / "docs")): BLOCK.findall(path.read_text(encoding="utf-8"))
    for path in written_pages()
}


@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks])
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    # As a user runs them.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for reason, block in PAGES[page]:
            if not reason:
                exec(compile(block, page, "exec"), names)
    capsys.readouterr()


# Equations.


def text_of(block):
    """Return the letters of a formula in reading order, with scripts behind their base."""
    root = ElementTree.fromstring(to_mathml(block))
    return "".join("".join(root.itertext()).split()).replace("\u00a0", "")


FORMULAS = {
    "v_t = β v_{t-1} + (1 - τ) g_t,    v_0 = 0": "vt=βvt−1+(1−τ)gt,v0=0",
    "θ'_t = θ_t + α_t s_t v_t": "θt\u2032=θt+αtstvt",
    "d_t = (m̂_t + β2 v̂_t) / (√n̂_t + ε)": "dt=(m^t+β2v^t)/(n^t+ε)",
    "‖z_t - x*‖² ≤ 10⁻³": "‖zt−x*‖2≤10−3",
    "v ← βᵏ v    after k steps": "v←βkvafterksteps",
    "d_t = Σᵢ wᵢ vᵢ_t": "dt=∑iwivi,t",
}


@pytest.mark.parametrize("block", FORMULAS)
def test_a_formula_keeps_all_of_its_symbols_in_their_order(block):
    assert is_formula(block)
    assert text_of(block) == FORMULAS[block]


def test_scripts_and_roots_have_their_place():
    assert to_inline_mathml("v_{t-1}") == (
        "<math><mrow><msub><mi>v</mi><mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow></msub></mrow></math>"
    )
    assert "<msubsup><mi>θ</mi><mi>t</mi><mrow><mn>2</mn></mrow></msubsup>" in to_mathml("θ_t²")
    root = "<msqrt><mn>1</mn><mo>−</mo><mi>q</mi></msqrt>"
    assert root in to_inline_mathml("√(1-q) x")
    assert "<msub><mi>β</mi><mn>1</mn></msub>" in to_inline_mathml("β1 v")


SYMBOLS = str.maketrans(
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵏᵗⁿⁱʲ₀₁₂ᵢⱼ-*Σ'\u0302\u0304\u0307\u0308",
    "0123456789+−Tktnij012ij−*∑\u2032^¯˙¨",
)


def formulas():
    for name in public_names().values():
        text = dict(read_sections(inspect.getdoc(name.value)))[""]
        for block in re.findall(r"(?:^    .*\n?|^\n(?=    ))+", "\n".join(text), re.MULTILINE):
            block = inspect.cleandoc(block)
            if is_formula(block) and not inspect.isclass(name.value):
                yield name.full, block


def test_no_formula_of_the_reference_loses_or_gains_a_symbol():
    """Brackets of exponents and roots and the commas of double subscripts are set otherwise."""
    found = list(formulas())
    assert len(found) > 100
    for name, block in found:
        expected = re.sub(r"[\s_^{}(),√]|\.\.\.", "", block.translate(SYMBOLS))
        shown = re.sub(r"[{}(),\u2217…^_]", "", text_of(block))
        assert sorted(expected.replace("*", "")) == sorted(shown.replace("*", "")), name


def test_code_and_tables_are_no_formulas():
    assert not is_formula("updates, state = tx.update(grads, state, params)")
    assert not is_formula(
        "beta    β, the share kept each step: `b1` of Adam, but `b2` of\n    Lion"
    )
    assert not is_formula("optax.chain(\n    cautious(tx),\n)")


# The reference.


def test_every_public_name_has_a_place_in_the_reference():
    listed = [name.full for ns in namespaces() for names in _groups(ns).values() for name in names]
    assert sorted(listed) == sorted(public_names())
    for namespace, module in namespaces().items():
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):
                assert resolve(f"{namespace}.{name}") in public_names()
    files = [file_names().get(full, full).lower() for full in public_names()]
    assert len(set(files)) == len(files)


def test_docstrings_become_headings_definitions_and_links():
    lines = to_rst(
        """Do it, as `nesterov(0.9)` does.

            v_t = |g_t|

        With `x_*` and a_ *star*.

        Args:
            beta: β in [0, 1), the share
                kept each step.

        Raises:
            ValueError: beta is wrong.
        """
    )
    text = "\n".join(lines)
    assert ":py:obj:`nesterov(0.9) <momentax.nesterov>`" in text
    assert '<div class="formula"><math' in text
    assert "``x_*`` and a\\_ \\*star\\*" in text
    assert "``beta``\n    β in [0, 1), the share kept each step." in text
    assert ".. rubric:: Raises\n\n``ValueError``\n    beta is wrong." in text


def test_letters_in_a_sentence_have_their_subscripts():
    found = inline("The gradient g_t at θ'_{t-1}, and `x_t` of a_name and |z_0|.")
    assert found == (
        r"The gradient g\ :sub:`t`\  at θ'\ :sub:`t−1`\ , and ``x_t`` of a\_name and "
        r"\|z\ :sub:`0`\ \|."
    )


def test_letters_in_a_sentence_have_their_superscripts():
    assert inline("ρ^{2t} and λ^power of θ²_t") == (
        r"ρ\ :sup:`2t`\  and λ\ :sup:`power`\  of θ²\ :sub:`t`\ "
    )
    assert inline("0.1^{i-1}, Σ_k w_k², q_iᵀ and α_max") == (
        r"0.1\ :sup:`i−1`\ , Σ\ :sub:`k`\  w\ :sub:`k`\ ², q\ :sub:`i`\ ᵀ and α\ :sub:`max`\ "
    )
    assert inline("learning_rate and x_ray") == r"learning\_rate and x\_ray"


def test_terms_with_texts_become_definitions_and_other_tables_keep_their_columns():
    doc = """Do it.

        "loss"     f(θ_t), which `rollout`
                   reads
        "angle"    a number

    a_rule*    One text,
               on two lines.
    another    Another text.

        gradient, whole            ->  a part of it
        v_t from v_{t-1}           ->  and x_y_1
        in one column
    """
    text = "\n".join(to_rst(doc))
    assert '``"loss"``\n    f(θ\\ :sub:`t`\\ ), which :py:obj:`rollout <' in text
    assert '``"angle"``\n    a number' in text
    assert "``a_rule*``\n    One text, on two lines.\n\n``another``\n    Another text." in text
    assert "    vₜ from vₜ₋₁               ->  and x_y_1" in text
    assert with_low_letters("v_t  a") == "vₜ   a"


def test_text_behind_a_section_comes_before_it_and_fields_come_last():
    doc = """A record.

    x: a number.

    More of the record.

    Raises:
        TypeError: x is none.

    Still more.
    """
    text = "\n".join(to_rst(doc, fields=["x"]))
    order = [
        "A record.",
        "More of the record.",
        "Still more.",
        "rubric:: Fields",
        "rubric:: Raises",
    ]
    assert sorted(order, key=text.index) == order
    assert "rubric:: Fields" in "\n".join(to_rst("A record.\n\nAttributes:\n    x: a number."))


_Z = 3.0902323


def test_defaults_that_are_constants_are_shown_by_their_values():
    def function(means, *, z=_Z, other=None, kind="A_B"):
        del means, z, other, kind

    signature = "(means, *, z=_Z, other=None, kind='A_B')"
    shown, _ = show_defaults(None, "", "", function, None, signature, "")
    assert shown == "(means, *, z=3.09023, other=None, kind='A_B')"
    assert show_defaults(None, "", "", property(function), None, None, "") is None


def test_long_names_may_break_between_their_words():
    assert pieces("momentax.theory.stability_edge") == [
        "momentax.", "theory.", "stability_", "edge"
    ]  # fmt: skip
    assert pieces("QuasiHyperbolicAdamState") == ["Quasi", "Hyperbolic", "Adam", "State"]
    assert pieces("heavy_ball(0.9) is short") == ["heavy_ball(0.9) is short"]
    assert pieces("a proportional_integral_derivative one") == [
        "a proportional_", "integral_", "derivative one"
    ]  # fmt: skip


def test_members_that_are_defined_anew_are_shown_with_the_text_of_their_base():
    def is_shown(cls, name):
        return skip_member(None, "", name, vars(cls)[name], False, None) is None

    average = conventions.Average
    assert is_shown(average, "velocity_scale")
    assert is_shown(average, "canonical")
    assert not is_shown(average, "_from_steps")
    assert not is_shown(states.LinearState, "velocity")  # A field.


def test_every_docstring_has_a_page():
    for name in public_names().values():
        fields = inspect.get_annotations(name.value) if inspect.isclass(name.value) else ()
        assert to_rst(inspect.getdoc(name.value), fields=fields)


# Methods.


def test_every_method_has_a_page_and_the_facts_are_of_methods():
    facts = methods()
    rooms = {name for name in momentax.__all__ if "_methods" in module_of(name)}
    assert set(facts) == rooms
    assert sum(bool(fact.when) for fact in facts.values()) > 25


def module_of(name):
    return getattr(getattr(momentax, name), "__module__", "")


CONSTANTS = {  # The letters of the table, in the pictures' settings and in the defaults.
    "heavy_ball": {"β": 0.9, "τ": 0.0},
    "nesterov": {"β": 0.9},
    "quasi_hyperbolic": {"β": 0.9, "ν": 0.7},
    "synthesized_nesterov": {"β1": 0.9, "β2": 0.5},
    "overshoot": {"β": 0.9, "γ": 5.0},
    "primal_averaging": {"c": 0.1},
    "pid": {"kP": -0.5, "kI": 1.0, "kD": 2.0, "β": 0.8},
    "generalized_primal_averaging": {"μx": 0.9, "μy": 0.7},
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_coefficients_of_the_table_are_those_of_the_code(name):
    fact = methods()[name]

    def value(text):
        text = re.sub(r"[⁺⁻]", "", text).replace("−", "-").replace("²", "**2")
        text = re.sub(r"(?<=μy) (?=μx)|(?<=μx) (?=μy)", "*", text)
        return eval(text, {}, CONSTANTS[name])

    a, b, β, γ = (value(fact.coefficients[key]) for key in ("a", "b", "beta", "gain"))
    lags = np.arange(6)
    weights = a * (lags == 0) + b * γ * β**lags
    found = theory.impulse_response(fact.transformation(), 6)
    np.testing.assert_allclose(found, weights, rtol=1e-9, atol=1e-12)


# Links.


def test_the_check_of_the_built_site_finds_each_fault(tmp_path):
    good = '<a href="b.html#here">b</a><img src="p.png"><a href="https://example.org">out</a>'
    (tmp_path / "a.html").write_text(f'<p id="x">{good}</p>', encoding="utf-8")
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html#x">a</a></p>', encoding="utf-8")
    (tmp_path / "p.png").write_bytes(b"")
    assert faults(tmp_path) == []
    bad = (
        '<a href="c.html">1</a><a href="b.html#there">2</a><img src="q.png">'
        '<script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "a.html").write_text(bad, encoding="utf-8")
    (tmp_path / "s.css").write_text("p { background: url(https://example.org/x.png) }")
    assert len(faults(tmp_path)) == 6  # b's link to a lost its anchor, too.
