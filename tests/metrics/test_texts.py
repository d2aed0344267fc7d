"""Perplexity of given text, by token, byte and word."""

from __future__ import annotations

from math import log
from typing import Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.metrics.given.alignment import asked_texts, token_lengths


def scored(text: str, pieces: list[tuple[str | None, float | None]], *, first: int = 0) -> dict[str, Any]:
    """The scores of one text from the tokens that the server sent for it."""
    tokens = pl.LazyFrame(
        {
            "run": "r",
            "completion_id": 0,
            "section": "prompt",
            "position": range(first, first + len(pieces)),
            "token": [token for token, _ in pieces],
            "bytes": pl.Series([None] * len(pieces), dtype=pl.Binary),
            "logprob": pl.Series([logprob for _, logprob in pieces], dtype=pl.Float64),
        }
    )
    done = {"run": "r", "completion_id": [0], "prompt_id": "a", "prompt_index": 0, "sample_index": 0, "choice_index": 0}
    prompts = pl.LazyFrame({"run": "r", "prompt_index": [0], "messages": f'"{text}"'})
    return ls.text_scores(tokens, pl.LazyFrame(done), prompts).collect().row(0, named=True)


def test_by_token_byte_and_word() -> None:
    """2 + 4 bits for " you" and " all": 3 bits per token, 6 / 8 per byte, 3 per word."""
    row = scored("Hi you all", [("Hi", None), (" you", log(1 / 4)), (" all", log(1 / 16))])

    assert (row["scored_tokens"], row["scored_bytes"], row["scored_words"]) == (2, 8, 2)
    assert row["perplexity"] == pytest.approx(8)
    assert row["bits_per_byte"] == pytest.approx(6 / 8)
    assert row["byte_perplexity"] == pytest.approx(2 ** (6 / 8))
    assert row["word_perplexity"] == pytest.approx(8)


def test_a_begin_of_text_token_is_neither_scored_nor_measured() -> None:
    """After a begin-of-text token, the first token of the text has a logprob, and all its bytes count."""
    row = scored("Hi you", [("<s>", None), ("Hi", log(1 / 4)), (" you", log(1 / 4))])

    assert (row["scored_tokens"], row["unscored_tokens"], row["scored_bytes"], row["scored_words"]) == (2, 0, 6, 2)


def test_a_first_token_without_a_row_is_unscored_all_the_same() -> None:
    """Servers such as vLLM send no row for the first token; the counts equal those with a null."""
    echoed = scored("Hi you", [("Hi", None), (" you", log(1 / 4))])
    left_out = scored("Hi you", [(" you", log(1 / 4))], first=1)

    assert left_out == echoed
    assert left_out["unscored_tokens"] == 1


def test_bytes_are_bytes() -> None:
    """A space and é are three bytes and one word."""
    row = scored("a é", [("a", None), (" é", log(1 / 8))])

    assert (row["scored_bytes"], row["scored_words"]) == (3, 1)
    assert row["bits_per_byte"] == pytest.approx(1)


def test_tokens_that_spell_something_else_have_no_length() -> None:
    """The perplexity per token is known; the lengths and what is divided by them are null."""
    row = scored("Hi you", [("token_id:1", None), ("token_id:2", log(1 / 4))])

    assert row["perplexity"] == pytest.approx(4)
    assert (row["scored_bytes"], row["scored_words"], row["bits_per_byte"], row["word_perplexity"]) == (None,) * 4


def test_nothing_scored_is_null() -> None:
    """A text without a scored token has null scores, not a perplexity of 1."""
    row = scored("Hi", [("Hi", None)])

    assert (row["scored_tokens"], row["unscored_tokens"]) == (0, 1)
    assert [row[name] for name in ("logprob_sum", "perplexity", "bits_per_byte", "word_perplexity")] == [None] * 4


def test_a_corpus_is_a_ratio_of_sums() -> None:
    """1 bit for 1 byte and 1 bit for 7 bytes: 2 / 8, not the mean of 1 and 1 / 7. Rows without lengths are left out."""
    rows = pl.DataFrame(
        {"logprob_sum": [-log(2), -log(2), -99.0], "scored_bytes": [1, 7, None], "scored_words": [1, 1, 9]}
    )
    found = rows.select(ls.bits_per_byte(), ls.byte_perplexity()).row(0)

    assert found == pytest.approx((0.25, 2**0.25))


def test_no_bytes_are_null() -> None:
    """No bytes give null."""
    rows = pl.DataFrame(
        {"logprob_sum": [None, 0.0], "scored_bytes": [3, 0]}, schema_overrides={"logprob_sum": pl.Float64}
    )

    assert rows.select(ls.bits_per_byte()).item() is None


def test_chats_and_strange_messages_are_left_out() -> None:
    """Messages of any other form than a text, or a text with continuations, are left out."""
    messages = ['[{"role":"user","content":"Hi"}]', '{"contents":[]}', None, '"a\\u00e9\\n"', "7"]

    assert asked_texts(pl.LazyFrame({"messages": messages})).select("context").collect().rows() == [("aé\n",)]


@pytest.mark.parametrize(
    ("tokens", "text", "sizes"),
    [
        (["a", "b"], "ab", [1, 1]),
        (["<s>", "a"], "a", [3, 1]),
        (["\ufffd", "\ufffd"], "💙", [0, 4]),
        (["a", "\ufffd", None, "b"], "a💙b", [1, 0, 4, 1]),
        (["💙", "\ufffd", "\ufffd"], "💙💙", [4, 0, 4]),
        (["\ufffd", "", "\ufffd", "x"], "💙x", [0, 0, 4, 1]),
        (["x", "bytes: \\xe6\\x9d", "bytes:\\xb1"], "x 東", [1, 3, 1]),
        (["a"], "b", [None]),
        (["b"], "ab", [None]),
        ([], "", []),
    ],
)
def test_lengths_of_tokens(tokens: list[str | None], text: str, sizes: list[int | None]) -> None:
    """Known tokens have their own length; the last of the unknown tokens between them has the rest."""
    assert token_lengths(tokens, [None] * len(tokens), text) == sizes


def test_bytes_of_the_wire_come_first() -> None:
    """The bytes of a token count, not its string."""
    assert token_lengths(["\ufffd", "\ufffd"], [b"\xf0\x9f", b"\x92\x99"], "💙") == [2, 2]


def test_a_missing_first_token() -> None:
    """The first token may be missing with `first_missing`, unless the next token's bytes are unknown."""
    assert token_lengths(["b"], [None], "ab", first_missing=True) == [1]
    assert token_lengths(["\ufffd", "b"], [None] * 2, "a💙b", first_missing=True) == [None, None]


@pytest.mark.parametrize(
    ("tokens", "text", "sizes"),
    [
        # a begin-of-text token before a heart in two tokens, whose bytes are unknown
        (["<s>", "\ufffd", "\ufffd!"], "💙!", [3, 0, 5]),
        # the last "b" is the third token's, as its string shows
        (["b", "\ufffd", "\ufffdbb", "!"], "b💙bb!", [1, 0, 6, 1]),
        # "a" is found at byte 1, so byte 0 has no token
        (["a", "a\ufffd", "\ufffdab"], "aaéaab", [None, None, None]),
    ],
)
def test_lost_bytes_lie_between_their_neighbours(tokens: list[str], text: str, sizes: list[int | None]) -> None:
    """Tokens whose bytes are lost have the bytes between the tokens around them."""
    assert token_lengths(tokens, [None] * len(tokens), text) == sizes
