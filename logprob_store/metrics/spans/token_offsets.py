r"""Tokens and the text they spell, by bytes: where each token begins and ends, and which tokens make a span.

The text is rebuilt from the tokens themselves, so that a stop string cut off, white space stripped or a character that
several tokens share shifts nothing. Leaves out which spans there are (`spans`, `fields`), and texts that were sent
(`aligning`).

A token's bytes are its `bytes`; where the wire gave none, its string's in UTF-8 (OpenAI's `bytes:\xf0\x9f` stands for
the bytes it names). A token whose bytes are given and none (an end-of-text token) is part of no span. A token of an
empty string without bytes spells a character together with the tokens behind it, and belongs where they do. A section
with a token of which neither is known spells nothing.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl
import pyarrow as pa

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.tokens import sequence
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.schema import KEYS
from logprob_store.token_bytes import token_bytes

_TEXT: Final = (*KEYS, "section")
_ORDER: Final = (*_TEXT, "position")

SCORES: Final = pl.Schema(
    {
        "first_position": pl.Int32(),
        "last_position": pl.Int32(),
        "scored_tokens": pl.UInt32(),
        "unscored_tokens": pl.UInt32(),
        "logprob_sum": pl.Float64(),
        "joint_probability": pl.Float64(),
        "mean_logprob": pl.Float64(),
        "confidence": pl.Float64(),
        "perplexity": pl.Float64(),
        "min_probability": pl.Float64(),
    }
)
"""What is said of the tokens of a span."""


def text(raw: Column = "bytes", *, string: Column = "token", order: Column | None = None) -> pl.Expr:
    r"""The text of a group of tokens: their bytes in order, joined and then decoded as UTF-8.

    Token strings lie for tokens that split a character, so a string counts only where the wire gave no bytes (OpenAI's
    `bytes:\xf0\x9f` then stands for the bytes it names). Bytes that are no UTF-8, as where an answer was cut within a
    character, become U+FFFD. Tokens are put in `written_order`, so rows may come in any order: reasoning before
    content; filter or group by `section` for one of them. Needs: `bytes` and `token`, `section` and `position`, or any
    `order`. Source: the data contract. A token with neither bytes nor a string spells nothing; no rows give the empty
    text.

    The last two tokens are one heart:

    >>> rows = {"position": [2, 0, 1], "token": ["\ufffd", "I ", "\ufffd"], "bytes": [b"\x92\x99", None, b"\xf0\x9f"]}
    >>> pl.DataFrame(rows).with_columns(section=pl.lit("content")).select(text()).item()
    'I 💙'
    """
    place = written_order() if order is None else as_column(order)
    # polars joins strings, not bytes: joined as hexadecimal digits, no character is ever taken apart
    joined = token_bytes(string, raw).bin.encode("hex").sort_by(place).str.join("").str.decode("hex")
    return joined.map_batches(_decoded, return_dtype=pl.String, is_elementwise=True).alias("text")


def _decoded(raw: pl.Series) -> pl.Series:
    texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
    return pl.Series(raw.name, texts, dtype=pl.String)


class Spelled:
    """The tokens of some completions in order, and the texts that they spell, one behind the other.

    Attributes:
        tokens: `text` (its number), position, logprob, and `begin` and `end` in the bytes of all texts; `reach` is
            `end`, or where the token ends that spells what an empty one began.
        texts: KEYS, section, `text`, `begin` and `end`, `lost` (whether a token's bytes are unknown).
        raw: the bytes of all texts.
    """

    def __init__(self, tokens: pl.DataFrame, texts: pl.DataFrame, raw: pa.Buffer) -> None:
        self.tokens = tokens
        self.texts = texts
        self.raw = raw

    def bytes_of_texts(self) -> pa.Array:
        """The text of each row of `texts`, as Arrow binary without a copy."""
        offsets = self.texts["begin"].extend(self.texts["end"].tail(1)) if self.texts.height else pl.Series([0])
        return _binary(offsets, self.raw)

    def tokens_of(self, spans: pl.DataFrame) -> pl.DataFrame:
        """One row for each token that has a byte in a span: the `span`, and the token's columns.

        Args:
            spans: `span`, and `begin` and `end` in the bytes of all texts.
        """
        first = self.tokens["reach"].search_sorted(spans["begin"], side="right").cast(pl.Int64)
        behind = self.tokens["begin"].search_sorted(spans["end"], side="left").cast(pl.Int64)
        rows = spans.select("span").with_columns(first=first, behind=behind).filter(pl.col("behind") > pl.col("first"))
        rows = rows.select("span", row=pl.int_ranges("first", "behind")).explode("row")
        return pl.concat([rows.select("span"), self.tokens[rows["row"]]], how="horizontal")


def scores_of(by_span: pl.DataFrame, *more: pl.Expr) -> pl.DataFrame:
    """One row for each `span`: the columns of SCORES over its tokens, and whatever more is asked."""
    return by_span.group_by("span").agg(
        pl.col("position").min().alias("first_position"),
        pl.col("position").max().alias("last_position"),
        sequence.scored_tokens(),
        sequence.unscored_tokens(),
        sequence.logprob_sum(),
        sequence.joint_probability(),
        sequence.mean_logprob(),
        sequence.confidence(),
        sequence.perplexity(),
        sequence.min_probability(),
        *more,
    )


def spell(tokens: pl.LazyFrame) -> Spelled:
    """Where each token stands in the text of its section.

    Args:
        tokens: KEYS, section, position, token, bytes, logprob, of whole sections, in any order.
    """
    given = tokens.select(*_ORDER, "token", "bytes", "logprob").collect(engine="streaming")
    if not given.select(_in_order()).item():
        given = given.sort(_ORDER)
    given = given.with_columns(raw=token_bytes()).filter(_is_text())
    size = pl.col("raw").bin.size(unit="b").cast(pl.Int64).fill_null(0)
    lost = pl.col("raw").is_null()
    placed = given.with_columns(
        text=pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in _TEXT).fill_null(value=True).cum_sum()
        - 1,
        size=size,
        end=size.cum_sum(),
        lost=lost,
    ).with_columns(begin=pl.col("end") - pl.col("size"))
    if (placed["size"] == 0).any():
        behind = pl.when(pl.col("size") > 0).then("end").backward_fill().over("text")
        placed = placed.with_columns(reach=behind.fill_null(pl.col("end")))
    else:
        placed = placed.with_columns(reach="end")
    texts = placed.group_by("text", maintain_order=True).agg(
        *(pl.col(name).first() for name in _TEXT),
        pl.col("begin").first(),
        pl.col("end").last(),
        pl.col("lost").any(),
    )
    return Spelled(placed.select("text", "position", "logprob", "begin", "end", "reach"), texts, _joined(placed["raw"]))


def _in_order() -> pl.Expr:
    """Whether rows are sorted as the contract says."""
    sorted_ = pl.lit(value=True)
    for name in reversed(_ORDER):
        now, before = pl.col(name), pl.col(name).shift()
        sorted_ = (now > before) | ((now == before) & sorted_)
    return sorted_.fill_null(value=True).all()


def _is_text() -> pl.Expr:
    """Not the tokens whose bytes are known to be none."""
    return pl.col("bytes").bin.size().fill_null(1) > 0


def _joined(raw: pl.Series) -> Any:
    array = raw.fill_null(b"").to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = memoryview(array.buffers()[1]).cast("q") if len(array) else [0]
    held = array.buffers()[2] if len(array) else None
    if held is None:
        return pa.py_buffer(b"")
    return held.slice(offsets[array.offset], offsets[array.offset + len(array)] - offsets[array.offset])


def _binary(offsets: pl.Series, raw: Any) -> Any:
    where = offsets.cast(pl.Int64).rechunk().to_arrow()
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, where.buffers()[1], raw])
