r"""The bytes of a stored token, the same in every place, also where only `bytes:\xf0\x9f` was sent."""

from __future__ import annotations

import math
from typing import Any, Literal

import polars as pl
import pytest
from builders import answer_with, chat_body
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import decode_answers
from logprob_store.token_bytes import bytes_of_token, bytes_of_tokens, token_bytes
from logprob_store.view.highlight import spans

HALVES = ["bytes:\\xf0\\x9f", "bytes:\\x92\\x99"]
"""A heart, f0 9f 92 99, as OpenAI's legacy completions spell two tokens that share it."""

strings = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.lists(st.sampled_from(["\\xf0", "\\x9f", "\\xg0", "a", "é", " "])).map(lambda parts: "bytes:" + "".join(parts)),
)
tokens = st.tuples(strings, st.none() | st.binary(max_size=4))


def frame(rows: list[tuple[str | None, bytes | None]]) -> pl.DataFrame:
    """Token rows of one answer, all with p = 1/2."""
    schema = {"token": pl.String, "bytes": pl.Binary}
    where = pl.lit("r").alias("run"), pl.lit("content").alias("section"), pl.lit(0, pl.Int64).alias("completion_id")
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        *where,
        position=pl.int_range(pl.len(), dtype=pl.Int32),
        logprob=pl.lit(math.log(0.5)),
        token_id=pl.lit(None, pl.Int32),
    )


@pytest.mark.parametrize(
    ("string", "raw", "expected"),
    [
        ("\ufffd", b"\xf0\x9f", b"\xf0\x9f"),
        ("bytes:\\x92", b"", b""),
        ("é", None, b"\xc3\xa9"),
        (HALVES[0], None, b"\xf0\x9f"),
        ("bytes: a\\xf0", None, b" a\xf0"),
        ("bytes:é\\xf0", None, b"\xc3\xa9\xf0"),
        ("bytes:", None, b"bytes:"),
        ("bytes:\\xzz", None, b"bytes:\\xzz"),
        ("a bytes:\\xf0", None, b"a bytes:\\xf0"),
        (None, None, None),
    ],
)
def test_bytes_of_a_token(string: str | None, raw: bytes | None, expected: bytes | None) -> None:
    """The bytes that were sent, or else those that the string escapes, or else those of the string."""
    assert bytes_of_token(string, raw) == expected


@given(st.lists(tokens, max_size=6))
def test_rows_columns_and_expressions_agree(rows: list[tuple[str | None, bytes | None]]) -> None:
    """One row, a column, and an expression in both engines give the same bytes."""
    expected = [bytes_of_token(*row) for row in rows]
    table = frame(rows)

    assert bytes_of_tokens(table["token"], table["bytes"]).to_list() == expected
    assert table.select(token_bytes())["bytes"].to_list() == expected
    engines: list[Literal["streaming", "in-memory"]] = ["streaming", "in-memory"]
    for engine in engines:
        grouped = table.lazy().group_by("run").agg(token_bytes(pl.col("token"), "bytes")).collect(engine=engine)
        assert grouped["bytes"].explode(empty_as_null=False).to_list() == expected


def test_a_shown_answer_has_the_character() -> None:
    """`logprobs show` prints two halves without bytes as the heart, with their joint probability."""
    (span,) = spans(frame([(half, None) for half in HALVES]))

    assert (span.first, span.last, span.text) == (0, 1, "💙")
    assert span.probability == pytest.approx(0.25)


@pytest.mark.parametrize(("text", "expected"), [("a💙", 0), ("a", 1)])
def test_texts_are_compared_by_bytes(text: str, expected: int) -> None:
    """Tokens of a legacy completion that spell its text by escapes are no difference."""
    listed: dict[str, Any] = {"tokens": ["a", *HALVES], "token_logprobs": [-0.5] * 3, "top_logprobs": None}
    body = {"choices": [{"index": 0, "text": text, "logprobs": listed}]}
    decoded = decode_answers([answer_with(body, endpoint="completions", logprobs=0)])

    assert decoded.failures == []
    found = count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)
    assert found["text_differs"] == expected


def test_a_token_without_bytes_leaves_the_others_theirs() -> None:
    """In a section where only some tokens have bytes, those of these tokens count."""
    parts = [("a", None), ("\\xf0\\x9f", [0xF0, 0x9F]), ("\\x92\\x99", [0x92, 0x99])]
    content = [{"token": token, "logprob": -0.5, "bytes": raw, "top_logprobs": []} for token, raw in parts]
    decoded = decode_answers([answer_with(chat_body(content, "a💙"))])

    assert count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)["text_differs"] == 0


def test_labels_are_read_by_bytes() -> None:
    """The heart is a label of two tokens: 1/2 times 1/2."""
    rows = frame([(half, None) for half in HALVES]).lazy()
    found = ls.label_probabilities(rows, rows, ["💙", "x"]).collect()

    assert found.filter(label="💙")["mass"].item() == pytest.approx(0.25)


def test_a_cut_is_healed_by_bytes() -> None:
    """After a cut within a character, a token that goes on beyond the cut extends it."""
    rows = frame([("bytes:\\xf0\\x9f\\x92", None), ("x", None)])
    lower, _ = rows.select(ls.healing_bounds(pl.lit(b"\xf0\x9f"))).row(0)

    # the first token has 1/2 and goes on; nothing else fits, and nothing is hidden
    assert lower == pytest.approx(1.0)


def test_runs_are_compared_by_bytes() -> None:
    """A token with bytes in one run and an escape in the other is the same token, so there is no divergence."""
    row = {"prompt_id": "p", "sample_index": 0, "choice_index": 0, "completion_id": 0, "text": "?", "run": "r"}
    completions = pl.LazyFrame([row])
    certain = pl.lit(0.0).alias("logprob")
    first, second = (frame([(HALVES[0], raw)]).lazy().with_columns(certain) for raw in (b"\xf0\x9f", None))
    found = ls.compare((first, first, completions), (second, second, completions)).positions.collect()

    assert found["js"].item() == pytest.approx(0.0)  # of two tokens, each certain, it would be ln 2
