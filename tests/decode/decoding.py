"""Decoding one body in a test, and the tables and values that come of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl
from builders import answer_with

from logprob_store.decode.bulk.scan_loop import load_scan_loop
from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.decode.decoder import Decoded

Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: floats by their bits, 0 and 0.0 alike, True and 1 not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        if math.isnan(one) if type(one) is float else False:
            return type(other) is float and math.isnan(other)
        return one == other and (one != 0 or math.copysign(1, one) == math.copysign(1, other))
    return type(one) is type(other) and one == other


def frames(decoded: Decoded) -> Frames:
    """The three tables as polars reads them, enums as strings."""
    tables = (decoded.completions, decoded.tokens, decoded.alternatives)
    read = [pl.from_arrow(table) for table in tables]
    assert all(isinstance(frame, pl.DataFrame) for frame in read)
    return tuple(frame.with_columns(pl.col(pl.Enum).cast(pl.String)) for frame in read)  # type: ignore[return-value]


def assert_scanned(decoded: Decoded, *, but: Sequence[int] = ()) -> None:
    """Check that the scanner read all answers but these; where it is not compiled, it reads none."""
    if load_scan_loop() is not None:
        assert decoded.not_scanned == list(but)


def rebuild(decoded: Decoded) -> dict[int, Any]:
    """The `logprobs` of all choices, from the tables alone."""
    return rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives)


def rebuilt(body: Any, **options: Any) -> dict[int, Any]:
    """The `logprobs` of all choices of a good body, rebuilt from its tables; it may have none."""
    decoded = decode_answers([answer_with(body, **{"logprobs": False, **options})])
    assert decoded.failures == []
    return rebuild(decoded)


def decode_one(body: Any, **options: Any) -> Frames:
    """The completions, tokens and alternatives of a good body."""
    decoded = decode_answers([answer_with(body, **options)])
    assert decoded.failures == []
    return frames(decoded)


def failure_of(body: Any, **options: Any) -> tuple[str, str]:
    """The error_type and the message of the one failure that a bad body becomes."""
    decoded = decode_answers([answer_with(body, **options)])
    assert (len(decoded.completions), len(decoded.tokens), len(decoded.alternatives)) == (0, 0, 0)
    [(index, error)] = decoded.failures
    assert index == 0
    return error.error_type, str(error)


def columns(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """The rows of some columns of a table, in order."""
    return frame.select(names).rows()
