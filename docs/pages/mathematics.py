"""Equations as MathML, which browsers set themselves: no script, no network.

`$...$` and `{math}` take LaTeX. The directive `{formula}` takes the notation of the docstrings:
Unicode letters, `_` for subscripts, a line of mathematics for each line.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.docutils import SphinxDirective

from docs.pages.formulas import to_mathml


class Formula(SphinxDirective):
    """Set formulas that are written as in docstrings."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the formulas as HTML."""
        text = to_mathml("\n".join(self.content))
        return [nodes.raw("", f'<div class="formula">{text}</div>', format="html")]


def visit_inline(translator: Any, node: nodes.Node) -> None:
    """Write LaTeX within a line."""
    translator.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.Node) -> None:
    """Write LaTeX that stands by itself."""
    text = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{text}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Make this the way in which Sphinx writes mathematics."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.add_directive("formula", Formula)
