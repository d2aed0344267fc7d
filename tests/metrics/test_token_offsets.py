r"""Text rebuilt from the bytes of tokens, in any order of rows."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.schema import Section


def tokens(*rows: tuple[int, str, int, str | None, bytes | None]) -> pl.DataFrame:
    """Token rows: completion, section, position, string, bytes."""
    schema = {"completion_id": pl.Int64, "section": Section, "position": pl.Int32, "token": pl.String}
    return pl.DataFrame(list(rows), schema={**schema, "bytes": pl.Binary}, orient="row")


@settings(max_examples=40)
@given(st.text(max_size=20), st.data())
def test_a_text_cut_anywhere_is_whole_again(text: str, data: st.DataObject) -> None:
    """Any cut, inside characters too, and any order of rows give the text back, in both engines."""
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    rows = [(0, "content", at, piece.decode("utf-8", "replace"), piece) for at, piece in enumerate(pieces)]
    frame = tokens(*data.draw(st.permutations(rows))).lazy()
    grouped = frame.group_by("completion_id").agg(ls.text())

    assert grouped.collect(engine="streaming")["text"].to_list() == [text]
    assert grouped.collect()["text"].to_list() == [text]


def test_strings_count_where_there_are_no_bytes() -> None:
    """A string stands for itself, OpenAI's escapes for their bytes, an end-of-text token without bytes for nothing."""
    frame = tokens(
        (0, "content", 0, "5 ", None),
        (0, "content", 1, "bytes:\\xe2\\x82", None),
        (0, "content", 2, "bytes:\\xac", None),
        (0, "content", 3, "<eos>", b""),
        (0, "content", 4, None, None),
    )

    assert frame.select(ls.text()).item() == "5 €"


def test_sections_follow_one_another() -> None:
    """Reasoning comes before content, though it comes later in rows and enum; a filter leaves it out."""
    frame = tokens((0, "content", 0, "4", None), (0, "reasoning", 0, "2+2=", None))

    assert frame.select(ls.text()).item() == "2+2=4"
    assert frame.filter(pl.col("section") == "content").select(ls.text()).item() == "4"


@pytest.mark.parametrize(("raw", "expected"), [(b"cut \xf0\x9f", "cut \ufffd"), (b"", "")])
def test_an_answer_cut_within_a_character(raw: bytes, expected: str) -> None:
    """Bytes that are not UTF-8 become one U+FFFD; no bytes are the empty text."""
    frame = tokens((0, "content", 0, "?", raw), (1, "content", 0, "x", b"x"))
    found = frame.with_columns(ls.text().over("completion_id"))

    assert found["text"].to_list() == [expected, "x"]
