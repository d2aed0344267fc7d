r"""The text that tokens spell, rebuilt from their bytes.

A polars expression over the `tokens` table. Leaves out where each token stands in the text (`spelled`).
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.token_bytes import token_bytes


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
