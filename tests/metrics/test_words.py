"""Surprisal of words, sentences and lines: which tokens count for which span."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.token_tables import Piece, token_table

import logprob_store as ls


def spans(*answers: list[Piece], unit: Any = "word") -> list[dict[str, Any]]:
    """The rows of the spans, in order."""
    return ls.span_surprisal(token_table(*answers), unit).sort("completion_id", "span_index").collect().to_dicts()


def texts(text: str, unit: str) -> list[str]:
    """The spans of a text that is one token."""
    return [row["span"] for row in spans([(text, -1.0)], unit=unit)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of France is Paris.", ["The", "capital", "of", "France", "is", "Paris"]),
        ("don't e-mail 3.14, O\u2019Neill", ["don't", "e-mail", "3.14", "O\u2019Neill"]),
        ("Žluťoučký kůň — हिन्दी", ["Žluťoučký", "kůň", "हिन्दी"]),
        ("💙 is_a: (word)", ["is_a", "word"]),
        ("東京は日本。", ["東京は日本"]),
        (" ... ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    """Runs of letters, digits and marks, with single apostrophes, hyphens and dots inside."""
    assert texts(text, "word") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 3.14 at example.com today.", ["It costs 3.14 at example.com today."]),
        ('He said "Go." Then (left.) So...  Yes', ['He said "Go."', "Then (left.)", "So...", "Yes"]),
        ("- one\n- two\n\nThree", ["- one", "- two", "Three"]),
        ("東京です。大阪です！はい", ["東京です。", "大阪です！", "はい"]),  # noqa: RUF001  the sign is meant
        ("\n\n  Hi.  \n", ["Hi."]),
        ("Dr. Who", ["Dr.", "Who"]),
        ("टोक्यो है। यहां", ["टोक्यो है।", "यहां"]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    """A sentence ends where white space follows its sign and closing quotes and brackets, and at the end of a line."""
    assert texts(text, "sentence") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", ["a", "b"]),
        ("a\r\n\r\n  b \rc\n", ["a", "  b ", "c"]),
        ("\n", []),
    ],
)
def test_lines(text: str, expected: list[str]) -> None:
    """A line ends with its line break, of any kind; blank lines are left out."""
    assert texts(text, "line") == expected


def test_a_words_surprisal_is_the_sum_over_its_tokens() -> None:
    """Both " Par" and "is." count for Paris, with space and dot; "," alone counts for no word."""
    one, two = spans([("So", -1.0), (",", -8.0), (" Par", -2.0), ("is.", -4.0)])

    assert (one["span"], one["surprisal"], one["scored_tokens"]) == ("So", 1.0, 1)
    assert (two["span"], two["surprisal"], two["logprob_sum"]) == ("Paris", 6.0, -6.0)
    assert two["perplexity"] == pytest.approx(math.exp(3))
    assert (two["first_position"], two["last_position"], two["straddling_tokens"]) == (2, 3, 0)
    assert (two["begin_byte"], two["end_byte"]) == (4, 9)


def test_a_token_of_two_words_counts_for_the_first_and_straddles_both() -> None:
    """A logprob cannot be divided: "New" has the score, "York" has none, and both count a straddling token."""
    new, york, city = spans([("New York", -3.0), (" City", -1.0)])

    assert (new["surprisal"], new["straddling_tokens"]) == (3.0, 1)
    assert (york["surprisal"], york["scored_tokens"], york["straddling_tokens"]) == (None, 0, 1)
    assert (city["surprisal"], city["straddling_tokens"]) == (1.0, 0)


def test_an_emoji_of_several_tokens_shifts_nothing() -> None:
    """The tokens of the emoji count for no word, and the words around it have the right bytes."""
    pieces: list[Piece] = [("Blue", -1.0), (b" \xf0\x9f", -9.0), (b"\x92\x99", -9.0), (" Heart", -2.0)]

    assert [(row["span"], row["surprisal"]) for row in spans(pieces)] == [("Blue", 1.0), ("Heart", 2.0)]


def test_bytes_that_are_not_utf8_shift_nothing() -> None:
    """A byte that is not UTF-8 takes one byte and is in no word."""
    rows = spans([(b"a \xff\xf0b", -1.0), (b" c", -2.0)])

    assert [(row["span"], row["begin_byte"]) for row in rows] == [("a", 0), ("b", 4), ("c", 6)]


def test_white_space_between_lines_counts_for_the_line_before() -> None:
    """The sums over lines add up to the sum of the answer; white space before the first line counts for that line."""
    one, two = spans([("\n", -1.0), ("a", -2.0), ("\n\n", -4.0), ("b\n", -8.0), ("\n", -16.0)], unit="line")

    assert (one["surprisal"], two["surprisal"]) == (7.0, 24.0)


def test_nulls_are_left_out_and_counted() -> None:
    """A word without any scored token has no surprisal."""
    one, two = spans([("a", None), (" b", -1.0), ("c", None)])

    assert (one["surprisal"], one["scored_tokens"], one["unscored_tokens"]) == (None, 0, 1)
    assert (two["surprisal"], two["scored_tokens"], two["unscored_tokens"]) == (1.0, 1, 1)


def test_a_section_with_an_unknown_token_has_no_spans() -> None:
    """A token with neither string nor bytes makes the text of its own section unknown, and of no other."""
    tokens = pl.concat([token_table([("a", -1.0)], [("b", -2.0), ("c", -3.0)])]).with_columns(
        token=pl.when((pl.col("completion_id") == 0) | (pl.col("position") == 1)).then("token")
    )

    assert ls.span_surprisal(tokens).select("span").collect().to_series().to_list() == ["a"]


def test_no_tokens_give_no_rows() -> None:
    """An empty table, and prompts alone, have no spans."""
    prompt = token_table([("a", -1.0)]).with_columns(section=pl.lit("prompt"))

    assert ls.span_surprisal(token_table()).collect().height == 0
    assert ls.span_surprisal(prompt, "line").collect().height == 0


def test_a_misspelt_unit_is_an_error() -> None:
    """The message lists the units."""
    with pytest.raises(ValueError, match="'words' is none of word, sentence, line"):
        ls.span_surprisal(token_table(), "words")  # type: ignore[arg-type]


TEXTS = st.text(st.sampled_from("ab1é💙東。.!?'- \n\r_\""), max_size=25)


@settings(max_examples=60)
@given(st.data(), st.lists(TEXTS, max_size=3), st.sampled_from(["sentence", "line"]))
def test_sentences_and_lines_add_up(data: Any, written: list[str], unit: str) -> None:
    """However a text is cut into tokens, the sums of its spans add up to the sum of its tokens."""
    answers = [cut(data, text) for text in written]
    rows = spans(*answers, unit=unit)

    for number, (text, pieces) in enumerate(zip(written, answers, strict=True)):
        mine = [row for row in rows if row["completion_id"] == number]
        assert bool(mine) == bool(text.strip())
        if mine:
            total = sum(logprob for _, logprob in pieces if logprob is not None)
            assert sum(row["logprob_sum"] or 0.0 for row in mine) == pytest.approx(total)
        assert all(text.encode()[row["begin_byte"] : row["end_byte"]].decode() == row["span"] for row in mine)


@settings(max_examples=60)
@given(st.data(), TEXTS)
def test_words_are_those_of_a_slow_reference(data: Any, text: str) -> None:
    """A token counts for the first word of which it has a byte, if any, and straddles where it has bytes of two."""
    pieces = cut(data, text)
    raw = text.encode()
    words = [
        (len(text[: found.start()].encode()), len(text[: found.end()].encode()))
        for found in re.finditer(r"\w+(?:['.\-]\w+)*", text)
    ]
    sums, straddling, at = [0.0] * len(words), [0] * len(words), 0
    for piece, logprob in pieces:
        touched = [n for n, (begin, end) in enumerate(words) if begin < at + len(piece) and end > at]
        at += len(piece)
        if touched:
            sums[touched[0]] += logprob or 0.0
        for number in touched if len(touched) > 1 else []:
            straddling[number] += 1
    rows = spans(pieces)

    assert [row["span"].encode() for row in rows] == [raw[begin:end] for begin, end in words]
    assert [row["logprob_sum"] or 0.0 for row in rows] == pytest.approx(sums)
    assert [row["straddling_tokens"] for row in rows] == straddling


def cut(data: Any, text: str) -> list[Piece]:
    """A text as tokens, cut anywhere."""
    raw = text.encode()
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw)), max_size=len(raw)))})
    logprob = st.floats(-5, -1e-3)
    return [(raw[a:b], data.draw(logprob)) for a, b in itertools.pairwise(cuts)]
