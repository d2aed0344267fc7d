r"""The text that tokens spell: rebuilt from their bytes, with the place of each token in it.

The text comes from the tokens themselves, so no offset is wrong where the server cut off a stop string, stripped white
space or split a character over several tokens. Which spans of the text are scored is in `words` and `fields`; offsets
in a text that was sent are in `given.alignment`.

`token_bytes` says what the bytes of a token are. A token of zero bytes, such as an end-of-text token, is in no span. A
token with an empty string and without bytes is part of the character that the tokens after it complete. A section with
a token of unknown bytes has no text.
"""

from __future__ import annotations

from typing import Final

import polars as pl
import pyarrow as pa

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.right_table import only_of_tokens
from logprob_store.metrics.tokens import sequence
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.schema import KEYS
from logprob_store.token_bytes import token_bytes

_TEXT_KEYS: Final = (*KEYS, "section")
_ORDER: Final = (*_TEXT_KEYS, "position")
LOCATED: Final = (*_ORDER, "token", "bytes", "logprob")
"""The columns of tokens that `locate_tokens` reads."""

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
"""The columns of `span_scores`."""


def text(raw: Column = "bytes", *, string: Column = "token", order: Column | None = None) -> pl.Expr:
    r"""The text of a group of tokens.

    Never join the column `token`: its strings are wrong for tokens that split a character.

    Formula: the bytes of the tokens in `written_order`, joined and decoded as UTF-8. Rows may come in any order.
    Reasoning comes before content: filter or group by `section` for one section. Bytes that are not UTF-8, as where an
    answer was cut within a character, become U+FFFD.
    Range: any text.
    Needs: `bytes` and `token`; `section` and `position`, or any `order`.
    Nulls: where `bytes` is null, the string counts (`bytes:\xf0\x9f`, as OpenAI writes it, for the bytes that it
    names). A token with neither adds nothing. No rows give the empty text.
    Source: the format of the store, docs/store.md.

    The last two tokens are one heart:

    >>> rows = {"position": [2, 0, 1], "token": ["\ufffd", "I ", "\ufffd"], "bytes": [b"\x92\x99", None, b"\xf0\x9f"]}
    >>> pl.DataFrame(rows).with_columns(section=pl.lit("content")).select(text()).item()
    'I 💙'
    """
    place = written_order() if order is None else as_column(order)
    # Polars joins strings, not bytes. As hexadecimal digits they are joined without taking a character apart.
    joined = token_bytes(string, raw).bin.encode("hex").sort_by(place).str.join("").str.decode("hex")
    decoded = joined.map_batches(_decode, return_dtype=pl.String, is_elementwise=True)
    return only_of_tokens(decoded.alias("text"), raw)


def _decode(raw: pl.Series) -> pl.Series:
    texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
    return pl.Series(raw.name, texts, dtype=pl.String)


class TokenOffsets:
    """The tokens of some completions in order, and their texts (one per section), all in one buffer of bytes.

    All offsets are in bytes of that buffer.

    Attributes:
        tokens: `text` (the number of its text), position, logprob, `begin`, `end`, and `reach`: `end`, or for a token
            of an empty string the end of the token that completes its character.
        texts: KEYS, section, `text` (its number), `begin`, `end`, `unknown` (whether a token's bytes are unknown).
        raw: the buffer.
    """

    def __init__(self, tokens: pl.DataFrame, texts: pl.DataFrame, raw: pa.Buffer) -> None:
        self.tokens = tokens
        self.texts = texts
        self.raw = raw

    def bytes_of_texts(self) -> pa.LargeBinaryArray:
        """The text of each row of `texts`, as Arrow binary, without a copy."""
        edges = self.texts["begin"].extend(self.texts["end"].tail(1)) if self.texts.height else pl.Series([0])
        buffer = edges.cast(pl.Int64).rechunk().to_arrow().buffers()[1]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(edges) - 1, [None, buffer, self.raw])

    def tokens_of(self, spans: pl.DataFrame) -> pl.DataFrame:
        """One row for each token that has a byte in a span: the `span`, and the columns of the token.

        Args:
            spans: `span`, `begin` and `end`.
        """
        first = self.tokens["reach"].search_sorted(spans["begin"], side="right").cast(pl.Int64)
        stop = self.tokens["begin"].search_sorted(spans["end"], side="left").cast(pl.Int64)
        rows = spans.select("span").with_columns(first=first, stop=stop).filter(pl.col("stop") > pl.col("first"))
        rows = rows.select("span", row=pl.int_ranges("first", "stop")).explode("row")
        return pl.concat([rows.select("span"), self.tokens[rows["row"]]], how="horizontal")


def span_scores(by_span: pl.DataFrame, *more: pl.Expr) -> pl.DataFrame:
    """One row per `span`: the columns of SCORES over its tokens, and those of the expressions in `more`."""
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


def locate_tokens(tokens: pl.LazyFrame) -> TokenOffsets:
    """Where each token stands in the text of its section.

    Args:
        tokens: KEYS, section, position, token, bytes, logprob, of whole sections, in any order.
    """
    given = tokens.select(LOCATED).collect(engine="streaming")
    if not given.select(_is_sorted()).item():
        given = given.sort(_ORDER)
    given = given.with_columns(raw=token_bytes()).filter(_may_have_bytes())
    size = pl.col("raw").bin.size(unit="b").cast(pl.Int64).fill_null(0)
    begins_text = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in _TEXT_KEYS)
    placed = given.with_columns(
        text=begins_text.fill_null(value=True).cum_sum() - 1,
        size=size,
        end=size.cum_sum(),
        unknown=pl.col("raw").is_null(),
    ).with_columns(begin=pl.col("end") - pl.col("size"))
    if (placed["size"] == 0).any():
        next_end = pl.when(pl.col("size") > 0).then("end").backward_fill().over("text")
        placed = placed.with_columns(reach=next_end.fill_null(pl.col("end")))
    else:
        placed = placed.with_columns(reach="end")
    texts = placed.group_by("text", maintain_order=True).agg(
        *(pl.col(name).first() for name in _TEXT_KEYS),
        pl.col("begin").first(),
        pl.col("end").last(),
        pl.col("unknown").any(),
    )
    columns = placed.select("text", "position", "logprob", "begin", "end", "reach")
    return TokenOffsets(columns, texts, _joined(placed["raw"]))


def _is_sorted() -> pl.Expr:
    """Whether the rows are in the order in which a store has them."""
    sorted_ = pl.lit(value=True)
    for name in reversed(_ORDER):
        now, before = pl.col(name), pl.col(name).shift()
        sorted_ = (now > before) | ((now == before) & sorted_)
    return sorted_.fill_null(value=True).all()


def _may_have_bytes() -> pl.Expr:
    """All tokens but those whose `bytes` are known to be empty."""
    return pl.col("bytes").bin.size().fill_null(1) > 0


def _joined(raw: pl.Series) -> pa.Buffer:
    """The bytes of all tokens, one after another, as they already stand in Arrow's buffer."""
    array = raw.fill_null(b"").to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = memoryview(array.buffers()[1]).cast("q") if len(array) else [0]
    values = array.buffers()[2] if len(array) else None
    if values is None:
        return pa.py_buffer(b"")
    first = offsets[array.offset]
    return values.slice(first, offsets[array.offset + len(array)] - first)
