"""One completion for a notebook: its tokens shaded by how unsure the model was, readable on white and on black.

The letters keep the page's own colour; only what lies behind them is coloured, and a line below says the same without
colour: none where the model was sure, one, or two. Pointing at a token shows its probability and its alternatives; the
unsure ones are also in a table below that opens by keyboard or touch.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final, TypeAlias

from logprob_store.counted import counted
from logprob_store.html_tables import html_table
from logprob_store.view.highlight import spans
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.view.highlight import Span

_SHADE: Final = "221, 101, 38"
"""An orange: unlike red, not dark for any kind of sight."""
_DARKEST: Final = 0.6
"""Opacity behind a token of probability 0."""
_Unsure: TypeAlias = "tuple[str, int, float, str]"
"""A token, its position, its probability and its alternatives."""
_LINES: Final = ((0.3, "; border-bottom: 3px double"), (0.7, "; border-bottom: 1px solid"))
_UNSURE_BELOW: Final = 0.7
_MOST_LISTED: Final = 100
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
rgba(221, 101, 38, 0.00)" title="p 1.000">&lt;b&gt;</span></div><div style="opacity: 0.7">confidence 1</div>'
    """
    others: dict[tuple[str, int], list[str]] = {}
    for section, position, token, logprob in alternatives.select("section", "position", "token", "logprob").iter_rows():
        probability = "-" if logprob is None else f"{100 * math.exp(logprob):.1f}%"
        others.setdefault((section, position), []).append(f"{printable(token or '?')!r} {probability}")
    shown, section = [], "content"
    unsure: list[_Unsure] = []
    for span in spans(tokens):
        if span.section != section:
            section = span.section
            shown.append(f'\n<span style="opacity: 0.7">[{escape(section)}]</span> ')
        alternatives_here = others.get((span.section, span.first), [])
        shown.append(_span(span, alternatives_here))
        if span.probability is not None and span.probability < _UNSURE_BELOW:
            unsure.append((repr(printable(span.text)), span.first, span.probability, ", ".join(alternatives_here)))
    text = f'<div style="{_BOX}">{"".join(shown)}</div><div style="opacity: 0.7">{escape(caption)}</div>'
    return text + _unsure_table(unsure)


def _unsure_table(unsure: list[_Unsure]) -> str:
    """The unsure tokens, the least sure first, behind a line that opens them; nothing where there is none."""
    if not unsure:
        return ""
    least = sorted(unsure, key=lambda row: row[2])[:_MOST_LISTED]
    left = f", of which {_MOST_LISTED} are listed" if len(unsure) > _MOST_LISTED else ""
    said = f"{counted(len(unsure), 'token')} below {_UNSURE_BELOW}{left}"
    table = html_table(least, header=("token", "position", "p", "alternatives"))
    return f"<details><summary>{said}</summary>{table}</details>"


def _span(span: Span, others: list[str]) -> str:
    said, opacity, line = "no logprob", 0.0, "; border-bottom: 1px dotted"
    if span.probability is not None:
        p = span.probability
        said, opacity = f"p {p:.3f}", _DARKEST * (1 - p)
        line = next((style for below, style in _LINES if p < below), "")
    title = escape("\n".join([said, *others]), quote=True)
    text = escape(printable(span.text, keep="\n"))
    return f'<span style="background: rgba({_SHADE}, {opacity:.2f}){line}" title="{title}">{text}</span>'
