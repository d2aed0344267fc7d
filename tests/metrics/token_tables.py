"""Answers as tables of tokens."""

from __future__ import annotations

import polars as pl

Piece = tuple[bytes | str, float | None]
"""A token and its logprob: bytes give a token with bytes, a string gives one without."""


def token_table(*answers: list[Piece], section: str = "content") -> pl.LazyFrame:
    """The tokens of answers, each a list of tokens."""
    rows = [
        {
            "run": "r",
            "completion_id": number,
            "section": section,
            "position": position,
            "token": piece if isinstance(piece, str) else piece.decode("utf-8", "replace"),
            "bytes": piece if isinstance(piece, bytes) else None,
            "logprob": logprob,
        }
        for number, pieces in enumerate(answers)
        for position, (piece, logprob) in enumerate(pieces)
    ]
    schema = {
        "run": pl.String,
        "completion_id": pl.Int64,
        "section": pl.String,
        "position": pl.Int32,
        "token": pl.String,
        "bytes": pl.Binary,
        "logprob": pl.Float64,
    }
    return pl.LazyFrame(rows, schema=schema)
