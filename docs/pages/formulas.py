"""Formulas in Unicode letters, as docstrings have them, set as mathematics (MathML).

Browsers set MathML themselves, so that a page needs neither a script nor a network. Division stays
a slash: a formula on the page says what the line in `help()` says.
"""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from typing import NamedTuple

from docs.pages.terms import terms_of

FUNCTIONS = {
    *("arccos", "cos", "exp", "log", "log10", "max", "mean", "min", "mod", "round", "sign", "sin"),
    *("decode", "encode", "method", "init", "advance", "score", "minimize", "Var"),
}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵏᵗⁿⁱʲ", "0123456789+−Tktnij", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₜ", "0123456789ijkt", strict=True))
_ACCENTS = {"\u0302": "^", "\u0304": "¯", "\u0307": "˙", "\u0308": "¨", "\u0303": "~"}
_TOKEN = re.compile(
    r"""
      (?P<code>"[^"]*" | [A-Za-z]{2,}(?:_[A-Za-z0-9]{2,})+ | [A-Za-z]+\.[a-z]\w*)
    | (?P<number>\d+(?:\.\d+)?|[½¼¾])
    | (?P<up>[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵏᵗⁿⁱʲ]+)
    | (?P<down>[₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₜ]+)
    | (?P<letter>k[PID](?![a-z]) | μ[xy](?![a-z]) | 1⁻)
    | (?P<word>[A-Za-z][a-z0-9]+(?=[\s,.:()\[]|$) | [A-Za-z]{2,}(?![\u0300-\u036f\w])
        | [A-Za-z][a-z]+(?=_\w\b) | [a-z]{2,})
    | (?P<article>a(?=\ [a-z]{2}))
    | (?P<single>[^\W\d_][\u0300-\u036f]?)
    | (?P<prime>')
    | (?P<script>[_^])
    | (?P<root>√)
    | (?P<open>[(\[{⌊⟨])
    | (?P<close>[)\]}⌋⟩])
    | (?P<space>\s+)
    | (?P<operator>\.\.\.?|.)
    """,
    re.VERBOSE,
)
_CLOSES = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⟨": "⟩"}
_RELATIONS = set("=<>≤≥≈←→∈Σ")
_RELATION = re.compile(r" [=<>≤≥≈←→∈] ")
_CODE = re.compile(
    r'[a-z]\.\w+\(|^\s*def |^[a-z]{2,} = [a-z_]{2,}\(| -> |^\)$|^[a-z_]+\(.*, \w+=".*\)$',
    re.MULTILINE,
)


class _Token(NamedTuple):
    kind: str
    text: str


def is_formula(block: str) -> bool:
    """Return whether an indented block of a docstring is a formula, and not code or a table."""
    lines = [line for line in block.splitlines() if line.strip()]
    if _CODE.search(block) and "∇" not in block:
        return False
    if len(lines) > 2 and all(len(_parts(line)) > 3 for line in lines):  # A table of numbers.
        return False
    terms = terms_of(lines)
    if any(not _RELATIONS & set(text) for _, text in terms) and not any(
        _RELATION.search(term) for term, _ in terms
    ):
        return False
    words = re.findall(r"(?<![\w_.\"^])[A-Za-z]{3,}(?![\w_.(\"])", block)
    words = [word for word in words if word not in FUNCTIONS | {"for", "and"}]
    return bool(_RELATIONS & set(block)) and len(words) <= 2 + 3 * len(lines)


def to_mathml(block: str) -> str:
    """Return a block of formulas as MathML, a line to a row and aligned columns as columns."""
    lines = [line.rstrip() for line in block.splitlines()]
    columns = _columns(lines)
    rows = [[_mrow(cell) for cell in _cells(line, columns)] for line in lines]
    wide = f'<mtd columnspan="{max(map(len, rows))}">'  # It does not widen the first column.
    cells = ["".join(f"{wide if len(row) == 1 else '<mtd>'}{c}</mtd>" for c in row) for row in rows]
    return (
        '<math display="block"><mtable columnalign="left" displaystyle="true">'
        f"{''.join(f'<mtr>{row}</mtr>' for row in cells)}</mtable></math>"
    )


def to_inline_mathml(text: str) -> str:
    """Return one formula as MathML within a line of text."""
    return f"<math>{_mrow(text)}</math>"


def _parts(line: str) -> list[tuple[int, str]]:
    """Return the parts of a line between runs of spaces, each with its place in the line."""
    return [(part.start(), part[0]) for part in re.finditer(r"\S+(?: {1,2}\S+)*", line)]


def _columns(lines: list[str]) -> list[int]:
    """Return the places at which the parts of two lines or more begin."""
    starts = Counter(start for line in lines for start, _ in _parts(line))
    return [0, *sorted(start for start, count in starts.items() if count > 1 and start > 0)]


def _cells(line: str, columns: list[int]) -> list[str]:
    """Split a line at the columns; a part that is below none of them stays in its cell."""
    cells = [""]
    for start, text in _parts(line):
        if start in columns[1:]:
            cells += [""] * (columns.index(start) + 1 - len(cells))
        cells[-1] += f"    {text}" if cells[-1] or start else text
    return [re.sub(r"^    (?=\S)", "", cell) if i else cell for i, cell in enumerate(cells)]


def _mrow(text: str) -> str:
    tokens = [_Token(m.lastgroup or "", m[0]) for m in _TOKEN.finditer(text)]
    return f"<mrow>{''.join(_Parser(tokens).sequence())}</mrow>"


class _Parser:
    """Reads tokens from left to right; each atom takes the scripts that follow it."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens, self.i = tokens, 0

    def sequence(self, until: str | None = None) -> list[str]:
        """Return the atoms up to a closing bracket, which is consumed, or the end."""
        atoms: list[str] = []
        while self.i < len(self.tokens):
            kind, text = self.tokens[self.i]
            if kind == "close" and text == until:
                self.i += 1
                return atoms
            if kind in ("word", "article", "space") and (words := self.words()):
                atoms.append(f"<mtext>{escape(words)}</mtext>")
            elif kind == "space":
                self.i += 1
                atoms.append(f'<mspace width="{2 if len(text) > 1 else 0.17}em"></mspace>')
            else:
                atoms.append(self.scripted(self.atom()))
        return atoms

    def words(self) -> str:
        """Consume words of prose, and return them with the spaces around them."""
        rest = self.tokens[self.i :]
        count = 0
        for kind, text in rest:
            after_word = count > 0 and rest[count - 1].kind == "word"
            is_base = rest[count + 1 : count + 2] and rest[count + 1].kind == "script"
            if not (
                kind in ("space", "article")
                or (kind == "word" and text not in FUNCTIONS and not is_base)
                or (kind == "operator" and text in ",.:;" and after_word)
            ):
                break
            count += 1
        taken = rest[:count]
        if not any(kind == "word" for kind, _ in taken):
            return ""
        self.i += count
        return "".join(text for _, text in taken).replace(" ", "\u00a0")

    def atom(self) -> str:
        """Consume one letter, number, operator, root or bracketed group."""
        kind, text = self.tokens[self.i]
        self.i += 1
        if kind == "number":
            return f"<mn>{text}</mn>"
        if kind == "code":
            return f'<mtext class="code">{escape(text)}</mtext>'
        if kind == "word":
            return f'<mi mathvariant="normal">{text}</mi>'
        if kind in ("letter", "single"):
            return _letter(text)
        if kind == "root":
            return self.root()
        if kind == "open":
            inner = "".join(self.sequence(_CLOSES[text]))
            # The first minus of a row is a sign.
            return f"<mrow>{_fence(text)}<mrow>{inner}</mrow>{_fence(_CLOSES[text])}</mrow>"
        if kind in ("up", "down", "prime"):  # Without a base, as in 10⁻³ after an operator.
            return f"<msup><mrow></mrow>{_small(text)}</msup>"
        return _operator(text)

    def root(self) -> str:
        kind, text = self.tokens[self.i]
        if kind == "open" and text == "(":
            self.i += 1
            return f"<msqrt>{''.join(self.sequence(')'))}</msqrt>"
        return f"<msqrt>{self.scripted(self.atom())}</msqrt>"

    def scripted(self, base: str) -> str:
        """Return an atom with the subscripts and superscripts that follow it."""
        below, above = [], []
        if two := re.fullmatch(r"<msub>(<mi>.</mi>)(<mi>.</mi>)</msub>", base):
            base, below = two[1], [two[2]]
        elif re.fullmatch(r"<mi>[α-ω]</mi>", base) and (number := self.digit()):
            below.append(number)
        while self.i < len(self.tokens):
            kind, text = self.tokens[self.i]
            if kind == "script":
                self.i += 1
                (below if text == "_" else above).append(self.script())
            elif kind in ("up", "down"):
                self.i += 1
                (below if kind == "down" else above).append(_small(text))
            elif kind == "prime":
                self.i += 1
                above.append("<mo>\u2032</mo>")
            elif text == "*" and self.is_star():
                self.i += 1
                above.append("<mo>*</mo>")
            else:
                break
        return _with_scripts(base, below, above)

    def digit(self) -> str:
        """Consume the number of a name such as β1, which is no factor."""
        if self.i < len(self.tokens) and self.tokens[self.i].kind == "number":
            self.i += 1
            return f"<mn>{self.tokens[self.i - 1].text}</mn>"
        return ""

    def is_star(self) -> bool:
        """Return whether a star marks a minimizer, as in θ*, and does not multiply."""
        after = self.tokens[self.i + 1] if self.i + 1 < len(self.tokens) else _Token("space", " ")
        before = self.tokens[self.i - 1].kind
        return before in ("single", "letter") and after.kind in ("space", "close", "operator")

    def script(self) -> str:
        kind, text = self.tokens[self.i]
        if kind == "open" and text in "{(":
            self.i += 1
            return f"<mrow>{''.join(self.sequence(_CLOSES[text]))}</mrow>"
        self.i += 1
        if kind == "word":
            return f"<mtext>{text}</mtext>"
        return f"<mn>{text}</mn>" if kind == "number" else _letter(text)


def _letter(text: str) -> str:
    if text == "1⁻":
        return "<msup><mn>1</mn><mo>−</mo></msup>"
    if len(text) == 2 and text[1] in _ACCENTS:
        return f"<mover><mi>{text[0]}</mi><mo>{_ACCENTS[text[1]]}</mo></mover>"
    if text == "Σ":
        return '<mo largeop="true">∑</mo>'
    if len(text) == 2:  # kP, μx.
        return f"<msub><mi>{text[0]}</mi><mi>{text[1]}</mi></msub>"
    return f"<mi>{text}</mi>"


def _small(text: str) -> str:
    plain = "".join((_SUPERSCRIPTS | _SUBSCRIPTS).get(letter, letter) for letter in text)
    parts = re.findall(r"\d+|[a-zT]|[+−']", plain)
    kinds = {"+": "mo", "−": "mo", "'": "mo"}
    inner = "".join(
        f"<{(k := 'mn' if p[0].isdigit() else kinds.get(p, 'mi'))}>{p}</{k}>" for p in parts
    )
    return f"<mrow>{inner}</mrow>"


def _fence(text: str) -> str:
    return f'<mo stretchy="false" form="{"prefix" if text in _CLOSES else "postfix"}">{text}</mo>'


def _operator(text: str) -> str:
    shown = {"-": "−", "*": "\u2217", "...": "…"}.get(text, text)
    if shown in "|‖":
        return f'<mo stretchy="false" lspace="0" rspace="0">{shown}</mo>'
    if shown in "/":
        return '<mo lspace="0.15em" rspace="0.15em">/</mo>'
    return f"<mo>{escape(shown)}</mo>"


def _with_scripts(base: str, below: list[str], above: list[str]) -> str:
    if not below and not above:
        return base
    sub = below[0] if len(below) == 1 else f"<mrow>{'<mo>,</mo>'.join(below)}</mrow>"
    sup = above[0] if len(above) == 1 else f"<mrow>{''.join(above)}</mrow>"
    if below and above:
        return f"<msubsup>{base}{sub}{sup}</msubsup>"
    return f"<msub>{base}{sub}</msub>" if below else f"<msup>{base}{sup}</msup>"
