"""One completion for the terminal: its text coloured by probability, and the alternatives of unlikely tokens.

Text is rebuilt from the bytes of its tokens. A span is the shortest sequence of tokens that makes whole characters: an
emoji split over three tokens is one span, coloured by their joint probability.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from logprob_store.token_bytes import shown_token, token_bytes
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

_COLOURS: Final = ((0.9, "green"), (0.7, "bright_green"), (0.5, "yellow"), (0.3, "bright_yellow"), (0.0, "red"))
_UNSCORED: Final = "magenta"
_UNCERTAIN_BELOW: Final = 0.7
_UNSPELLED: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands in for a token whose text the server did not send, only its id."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens that make whole characters.

    `first` and `last` are positions in the section. `probability` is the product of the tokens' probabilities, None if
    one of them is unscored.
    """

    section: str
    first: int
    last: int
    text: str
    probability: float | None


def spans(tokens: pl.DataFrame) -> list[Span]:
    """The spans of one completion, in order, section by section.

    Args:
        tokens: token rows with columns section, position, token, bytes and logprob (nats), in order.

    >>> import polars as pl
    >>> rows = pl.DataFrame({"section": ["content"] * 2, "position": [0, 1], "token": ["?", "?"],
    ...     "bytes": [bytes([0xf0, 0x9f]), bytes([0x92, 0x99])], "logprob": [-0.5, -0.5]})
    >>> spans(rows)
    [Span(section='content', first=0, last=1, text='💙', probability=0.36787944117144233)]
    """
    found: list[Span] = []
    for (section,), rows in tokens.group_by("section", maintain_order=True):
        found += _section_spans(str(section), rows)
    return found


def _section_spans(section: str, rows: pl.DataFrame) -> list[Span]:
    found = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    first, text, total = None, "", 0.0
    for position, raw, logprob in rows.select("position", token_bytes(), "logprob").iter_rows():
        first = position if first is None else first
        text += decoder.decode(_UNSPELLED.encode() if raw is None else raw)
        total += math.nan if logprob is None else logprob
        if not decoder.getstate()[0]:
            found.append(Span(section, first, position, text, _probability(total)))
            first, text, total = None, "", 0.0
    if first is not None:
        rest = text + decoder.decode(b"", final=True)
        found.append(Span(section, first, int(rows["position"][-1]), rest, _probability(total)))
    return found


def _probability(total: float) -> float | None:
    """The probability of a sum of logprobs in nats; NaN stands for an unscored token."""
    return None if math.isnan(total) else math.exp(total)


def coloured(tokens: pl.DataFrame) -> Text:
    """The text of one completion, each span in the colour of its probability; a change of section is labelled."""
    text = Text()
    section = "content"
    for span in spans(tokens):
        if span.section != section:
            section = span.section
            text.append(f"\n[{section}] ", style="dim")
        text.append(printable(span.text, keep="\n"), style=_style(span.probability))
    return text


def _style(probability: float | None) -> str:
    if probability is None:
        return _UNSCORED
    return next(colour for least, colour in _COLOURS if probability >= least)


def legend() -> Text:
    """A line that explains the colours."""
    text = Text("probability: ", style="dim")
    for least, colour in _COLOURS:
        text.append(f" {least:.1f}+ " if least else " less ", style=colour)
    text.append(" unscored ", style=_UNSCORED)
    return text


def uncertain(tokens: pl.DataFrame, alternatives: pl.DataFrame, *, below: float = _UNCERTAIN_BELOW) -> RenderableType:
    """A table of the tokens with a probability under `below`, each with its alternatives and their probabilities."""
    table = Table(title=f"tokens with p < {below}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("position", "token", "p", "alternatives"):
        is_number = name in {"position", "p"}  # a number that is folded is another number
        table.add_column(
            name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold", min_width=len(name)
        )
    alternatives_at = {
        (section, position): rows
        for (section, position), rows in alternatives.group_by("section", "position", maintain_order=True)
    }
    for section, position, token, raw, logprob in tokens.select(
        "section", "position", "token", "bytes", "logprob"
    ).iter_rows():
        if logprob is not None and math.exp(logprob) >= below:
            continue
        rows = alternatives_at.get((section, position))
        others = [] if rows is None else rows.select("token", "bytes", "logprob").iter_rows()
        table.add_row(
            str(position),
            Text(_quoted(token, raw)),
            "-" if logprob is None else f"{math.exp(logprob):.3f}",
            Text("  ".join(f"{_quoted(other, raw)} {_percent(value)}" for other, raw, value in others)),
        )
    return table if table.row_count else Text(f"no token has p < {below}", style="dim")


def _quoted(token: str | None, raw: bytes | None) -> str:
    text = shown_token(token, raw)
    return _UNSPELLED if text is None else f"'{printable(text)}'"


def _percent(logprob: float | None) -> str:
    return "-" if logprob is None else f"{100 * math.exp(logprob):.1f}%"
