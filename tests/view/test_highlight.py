"""Spans of whole characters, their colours, and the table of unlikely tokens."""

from __future__ import annotations

import math

import polars as pl
import pytest
from rich.console import Console

from logprob_store.view.highlight import Span, coloured, spans, uncertain


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


def test_bytes_that_make_no_character_are_a_replacement_character() -> None:
    """An answer cut in the middle of a character ends in a replacement character; the text before it is kept."""
    tokens = rows(("a", b"a", -0.1), ("?", b"\xf0\x9f", -0.2))

    assert [span.text for span in spans(tokens)] == ["a", "\ufffd"]


def test_an_unscored_token_has_no_probability() -> None:
    """A token with a null logprob is unscored, and so is a character that it shares with other tokens."""
    tokens = rows(("\\xc3", b"\xc3", None), ("\\xa9", b"\xa9", -0.1), ("x", b"x", -0.1))

    assert [(span.text, span.probability) for span in spans(tokens)] == [("é", None), ("x", math.exp(-0.1))]


def test_tokens_without_bytes_show_their_text() -> None:
    """If the server sent no bytes, the token's text is shown."""
    assert [span.text for span in spans(rows(("Grüße", None, -0.1)))] == ["Grüße"]


@pytest.mark.parametrize(
    ("probability", "style"),
    [(0.95, "green"), (0.7, "bright_green"), (0.5, "yellow"), (0.3, "bright_yellow"), (0.1, "red")],
)
def test_colours(probability: float, style: str) -> None:
    """Each range of probability has its colour; the lower bound belongs to the range."""
    text = coloured(rows(("x", b"x", math.log(probability) + 1e-12)))

    assert [str(span.style) for span in text.spans] == [style]


def test_uncertain_lists_alternatives() -> None:
    """Tokens under the threshold are listed with their alternatives, bytes that are no character as bytes."""
    tokens = rows((" New", b" New", math.log(0.4)), (" York", b" York", math.log(0.9)))
    alternatives = pl.DataFrame(
        {
            "section": ["content"] * 2,
            "position": [0, 0],
            "token": [" New", "\ufffd"],
            "bytes": [b" New", b"\xf0\x9f"],
            "logprob": [math.log(0.4), math.log(0.25)],
        }
    )
    console = Console(width=100)
    with console.capture() as shown:
        console.print(uncertain(tokens, alternatives))

    assert r"' New' 40.0%  '\xf0\x9f' 25.0%" in shown.get()
    assert "York" not in shown.get()
