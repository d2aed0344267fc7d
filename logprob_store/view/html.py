"""One completion for a notebook: its tokens shaded by how unsure the model was, readable on white and on black.

The letters keep the page's own colour; only what lies behind them is coloured. Pointing at a token shows its
probability and its alternatives.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

from logprob_store.view.highlight import spans
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.view.highlight import Span

_DARKEST: Final = 0.6
"""Opacity behind a token of probability 0."""
_BOX: Final = "white-space: pre-wrap; font-family: monospace; line-height: 1.6"


def completion_html(tokens: pl.DataFrame, alternatives: pl.DataFrame, caption: str) -> str:
    """One completion as HTML.

    Args:
        tokens: its rows of tokens, in order.
        alternatives: its rows of alternatives.
        caption: a line below the text.

    >>> import polars as pl
    >>> rows = pl.DataFrame({"section": ["content"], "position": [0], "token": ["<b>"], "bytes": [b"<b>"],
    ...     "logprob": [0.0]})
    >>> completion_html(rows, rows.clear(), "confidence 1")
    '<div style="white-space: pre-wrap; font-family: monospace; line-height: 1.6"><span style="background: \
rgba(220, 50, 47, 0.00)" title="p 1.000">&lt;b&gt;</span></div><div style="opacity: 0.7">confidence 1</div>'
    """
    others: dict[tuple[str, int], list[str]] = {}
    for section, position, token, logprob in alternatives.select("section", "position", "token", "logprob").iter_rows():
        probability = "-" if logprob is None else f"{100 * math.exp(logprob):.1f}%"
        others.setdefault((section, position), []).append(f"{printable(token or '?')!r} {probability}")
    shown, section = [], "content"
    for span in spans(tokens):
        if span.section != section:
            section = span.section
            shown.append(f'\n<span style="opacity: 0.7">[{escape(section)}]</span> ')
        shown.append(_span(span, others.get((span.section, span.first), [])))
    return f'<div style="{_BOX}">{"".join(shown)}</div><div style="opacity: 0.7">{escape(caption)}</div>'


def _span(span: Span, others: list[str]) -> str:
    known = span.probability is not None
    opacity = _DARKEST * (1 - span.probability) if span.probability is not None else 0.0
    said = f"p {span.probability:.3f}" if known else "no logprob"
    title = escape("\n".join([said, *others]), quote=True)
    border = "" if known else "; border-bottom: 1px dotted"
    text = escape(printable(span.text, keep="\n"))
    return f'<span style="background: rgba(220, 50, 47, {opacity:.2f}){border}" title="{title}">{text}</span>'
