"""Formulas become MathML while the pages are built: browsers show them without any script."""

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\(?P<open>[(\[])(?P<text>.*?)\\[)\]]</\1>', re.DOTALL
)


def on_page_content(content: str, **_) -> str:
    """Replaces what `pymdownx.arithmatex` marked."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match) -> str:
    display = "block" if match["open"] == "[" else "inline"
    return convert(html.unescape(match["text"]).strip(), display=display)
