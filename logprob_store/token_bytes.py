r"""From a stored token to its bytes, for columns, expressions and single rows.

The bytes of a token are its `bytes`; where the server sent none, its string in UTF-8. OpenAI's legacy completions
spell a token that is no whole character as `bytes:\xf0\x9f`: without `bytes`, that string stands for the bytes that it
names. A token with neither has no known bytes: null, or None.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

ESCAPED_PREFIX: Final = "bytes:"
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")


def token_bytes(string: str | pl.Expr = "token", raw: str | pl.Expr = "bytes") -> pl.Expr:
    r"""The bytes of each token, as a Binary expression; null where neither column has a value.

    Args:
        string: the strings of the tokens.
        raw: their bytes, null where the server sent none.

    >>> rows = {"token": ["a", "\ufffd", "bytes:\\x92\\x99", None], "bytes": [None, b"\xf0\x9f", None, None]}
    >>> pl.DataFrame(rows).select(token_bytes()).to_series().to_list()
    [b'a', b'\xf0\x9f', b'\x92\x99', None]
    """
    columns = [pl.col(column) if isinstance(column, str) else column for column in (string, raw)]
    found = pl.map_batches(columns, _bytes_of_columns, return_dtype=pl.Binary, is_elementwise=True)
    return found.alias("bytes")


def bytes_of_tokens(tokens: pl.Series, raw: pl.Series) -> pl.Series:
    """The bytes of each token of a String and a Binary column: `token_bytes` for columns in memory."""
    if not raw.null_count():
        return raw
    found = pl.select(pl.coalesce(raw, tokens.cast(pl.Binary))).to_series()
    escaped = raw.is_null() & tokens.str.starts_with(ESCAPED_PREFIX)
    if not escaped.any():
        return found
    rows = escaped.arg_true()
    return found.scatter(rows, pl.Series([bytes_of_token(token, None) for token in tokens.gather(rows)]))


def bytes_of_token(token: str | None, raw: bytes | None) -> bytes | None:
    r"""The bytes of one token; None where neither argument says them.

    >>> bytes_of_token("é", None), bytes_of_token("bytes: \\xf0\\x9f", None), bytes_of_token("\ufffd", b"\x99")
    (b'\xc3\xa9', b' \xf0\x9f', b'\x99')
    """
    if raw is not None:
        return raw
    if token is None:
        return None
    own = token.encode()
    if token.startswith(ESCAPED_PREFIX) and _ESCAPE.search(own):
        return _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), own[len(ESCAPED_PREFIX) :])
    return own


def shown_token(token: str | None, raw: bytes | None) -> str | None:
    r"""The text of a token for a person: its bytes as text, where they are no whole character as `\xf0\x9f`.

    >>> shown_token("Hi", b"Hi"), shown_token("\ufffd", b"\xf0\x9f"), shown_token("Hi", None)
    ('Hi', '\\xf0\\x9f', 'Hi')
    """
    return token if raw is None else raw.decode(errors="backslashreplace")


def _bytes_of_columns(columns: Sequence[pl.Series]) -> pl.Series:
    return bytes_of_tokens(*columns)
