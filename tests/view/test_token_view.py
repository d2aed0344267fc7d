"""Completions as JSON for a page: spans of whole characters, numbers, alternatives, and what is cut."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from builders import chat_body, chat_token
from decode.decoding import decode_one

from logprob_store.view.page.token_view import token_views


def view_of(*tokens: dict[str, Any], **limits: int) -> dict[str, Any]:
    """The view of a chat answer with these tokens."""
    rows, alternatives = (
        frame.with_columns(run=pl.lit("r")) for frame in decode_one(chat_body(tokens), top_logprobs=5)[1:]
    )
    (view,) = token_views(rows, alternatives, **limits).values()
    return view


def test_an_emoji_over_tokens_is_one_span() -> None:
    """Its tokens stay apart, each with the bytes that it has."""
    first, second = "🦊".encode()[:2], "🦊".encode()[2:]
    view = view_of(chat_token("a"), chat_token("\ufffd", raw=first), chat_token("\ufffd", raw=second))

    spans = view["sections"][0]["spans"]
    assert [text for text, _ in spans] == ["a", "🦊"]
    assert [token[1] for token in spans[1][1]] == ["\\xf0\\x9f", "\\xa6\\x8a"]


def test_bytes_that_make_no_character_are_shown() -> None:
    """A half character at the end is one replacement character, and its token says which bytes it was."""
    spans = view_of(chat_token("\ufffd", raw=b"\xf0\x9f"))["sections"][0]["spans"]

    assert spans[0][0] == "\ufffd"
    assert spans[0][1][0][1] == "\\xf0\\x9f"


def test_numbers_are_those_of_the_metrics() -> None:
    """Of p = 1/2, 1/4 with the second one written: rank 2, margin 1/4, entropy 1.5 bits with the hidden 1/4."""
    half, quarter = math.log(0.5), math.log(0.25)
    token = view_of(chat_token("b", quarter, {"a": half, "b": quarter}))["sections"][0]["spans"][0][1][0]

    position, text, logprob, rank, margin, entropy, alternatives = token
    assert (position, text, rank) == (0, "b", 2)
    assert (logprob, margin) == pytest.approx((quarter, 0.25), abs=1e-5)
    assert entropy == pytest.approx(1.5 * math.log(2), abs=1e-5)
    assert [(other, is_written) for other, _, is_written in alternatives] == [("a", 0), ("b", 1)]


def test_alternatives_are_in_the_order_of_their_probability() -> None:
    """Whatever order the server sent them in."""
    token = view_of(chat_token("c", -3.0, {"b": -2.0, "a": -1.0, "c": -3.0}))["sections"][0]["spans"][0][1][0]

    assert [other for other, _, _ in token[6]] == ["a", "b", "c"]


def test_the_chosen_alternative_is_kept_where_few_are() -> None:
    """Though it is not among the likeliest; rank and margin are those of all."""
    token = view_of(chat_token("c", -3.0, {"a": -1.0, "b": -2.0, "c": -3.0}), most_alternatives=1)
    shown = token["sections"][0]["spans"][0][1][0]

    assert [other for other, _, _ in shown[6]] == ["a", "c"]
    assert shown[3] == 3


def test_tokens_beyond_the_most_are_counted() -> None:
    """The first ones are kept."""
    view = view_of(*(chat_token(text) for text in "abcde"), most_tokens=3)

    assert ("".join(text for text, _ in view["sections"][0]["spans"]), view["left_out"]) == ("abc", 2)


def test_a_token_of_a_megabyte_is_cut() -> None:
    """And says how long it is."""
    text, tokens = view_of(chat_token("x" * 1_000_000))["sections"][0]["spans"][0]

    assert text.endswith("(1,000,000 characters)")
    assert len(text) + len(tokens[0][1]) < 5000


def test_a_token_without_a_logprob_has_no_numbers() -> None:
    """Null is what JSON has for it: neither 0 nor NaN."""
    token = view_of(chat_token("a", -9999.0))["sections"][0]["spans"][0][1][0]

    assert token[2:6] == [None, None, None, None]
