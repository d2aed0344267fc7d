"""What a person sees: whole characters, honest colours, nothing a terminal would obey."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from logprob_store.view.highlight import Span, coloured, spans, uncertain
from logprob_store.view.safe_text import printable
from logprob_store.view.terminal_tables import frame_table


def rows(*tokens: tuple[str, bytes | None, float | None], section: str = "content") -> pl.DataFrame:
    """Token rows: text, bytes, logprob."""
    return pl.DataFrame(
        {
            "section": [section] * len(tokens),
            "position": list(range(len(tokens))),
            "token": [token for token, _, _ in tokens],
            "bytes": [raw for _, raw, _ in tokens],
            "logprob": [logprob for _, _, logprob in tokens],
        },
        schema={
            "section": pl.String,
            "position": pl.Int32,
            "token": pl.String,
            "bytes": pl.Binary,
            "logprob": pl.Float64,
        },
    )


def test_an_emoji_split_over_tokens_is_one_span() -> None:
    """Three tokens that share the four bytes of an emoji are one span with their joint probability."""
    tokens = rows(
        (" ", b" ", -0.1), ("\\xf0", b"\xf0", -0.2), ("\\x9f\\x92", b"\x9f\x92", -0.3), ("\\x99", b"\x99", 0.0)
    )

    assert spans(tokens) == [
        Span("content", 0, 0, " ", math.exp(-0.1)),
        Span("content", 1, 3, "💙", math.exp(-0.5)),
    ]


def test_bytes_that_never_make_a_character_are_shown_as_such() -> None:
    """An answer cut in the middle of a character ends in a replacement character, and nothing is lost before it."""
    tokens = rows(("a", b"a", -0.1), ("?", b"\xf0\x9f", -0.2))

    assert [span.text for span in spans(tokens)] == ["a", "\ufffd"]


def test_an_unscored_token_has_no_probability() -> None:
    """A flagged token (null logprob) is shown unscored, and so is a character it shares."""
    tokens = rows(("\\xc3", b"\xc3", None), ("\\xa9", b"\xa9", -0.1), ("x", b"x", -0.1))

    assert [(span.text, span.probability) for span in spans(tokens)] == [("é", None), ("x", math.exp(-0.1))]


def test_tokens_without_bytes_are_their_text() -> None:
    """Where the wire gave no bytes, the token's own text is shown."""
    assert [span.text for span in spans(rows(("Grüße", None, -0.1)))] == ["Grüße"]


@pytest.mark.parametrize(
    ("probability", "style"),
    [(0.95, "green"), (0.7, "bright_green"), (0.5, "yellow"), (0.3, "bright_yellow"), (0.1, "red")],
)
def test_colours(probability: float, style: str) -> None:
    """Each band of probability has its colour; the lower edge belongs to it."""
    text = coloured(rows(("x", b"x", math.log(probability) + 1e-12)))

    assert [str(span.style) for span in text.spans] == [style]


def test_uncertain_lists_alternatives() -> None:
    """Tokens under the threshold are listed with what stood beside them; sure ones are not."""
    tokens = rows((" New", b" New", math.log(0.4)), (" York", b" York", math.log(0.9)))
    beside = pl.DataFrame(
        {
            "section": ["content"] * 2,
            "position": [0, 0],
            "token": [" New", " N"],
            "logprob": [math.log(0.4), math.log(0.25)],
        }
    )
    console = Console(width=100)
    with console.capture() as shown:
        console.print(uncertain(tokens, beside))

    assert "' New' 40.0%  ' N' 25.0%" in shown.get()
    assert "York" not in shown.get()


@given(st.text())
def test_printable_leaves_nothing_a_terminal_obeys(text: str) -> None:
    """No control character, override or surrogate is left, whatever the text."""
    shown = printable(text)

    assert len(shown) == len(text)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def test_tables_show_markup_as_text() -> None:
    """Square brackets in answers are text, not instructions for rich."""
    console = Console(width=80)
    with console.capture() as shown:
        console.print(frame_table(pl.DataFrame({"text": ["[red]no[/red] \x1b[31m"], "n": [1]})))

    assert "[red]no[/red] ␛[31m" in shown.get()
