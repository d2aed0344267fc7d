"""Functions and fixtures of this folder: they make answers, decode them and show the tables."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs
from logprob_store.request import Answer, make_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.decode.decoder import Decoded


collect_ignore = ["fuzz_atheris.py"]  # a script, whose import needs atheris


def make_answer(
    body: Any, *, prompt_index: int = 0, endpoint: str = "chat", source: str = "api", **asked: Any
) -> Answer:
    """An answer with this body: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = make_request(
        {"model": "m", "logprobs": True, **asked},
        endpoint=endpoint,
        provider="p",
        prompt_index=prompt_index,
        prompt_id=f"p{prompt_index}",
    )
    return Answer(request, 200, {}, content, source)


def make_body(logprobs: Any, **choice: Any) -> dict[str, Any]:
    """A chat body with one choice."""
    return {"choices": [{"index": 0, "message": {"content": "x"}, "logprobs": logprobs, **choice}]}


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


def frames(decoded: Decoded) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The three tables as polars reads them, enums as strings."""
    tables = (decoded.completions, decoded.tokens, decoded.alternatives)
    read = [pl.from_arrow(table) for table in tables]
    assert all(isinstance(frame, pl.DataFrame) for frame in read)
    return tuple(frame.with_columns(pl.col(pl.Enum).cast(pl.String)) for frame in read)  # type: ignore[return-value]


def rebuild(decoded: Decoded) -> dict[int, Any]:
    """The `logprobs` of all choices, from the tables alone."""
    return rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives)


@pytest.fixture
def answer() -> Callable[..., Answer]:
    """`make_answer`."""
    return make_answer


@pytest.fixture
def is_same() -> Callable[[Any, Any], bool]:
    """`same`."""
    return same


@pytest.fixture
def decode_one() -> Callable[..., tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]:
    """Decode one good body and give its completions, tokens and alternatives."""

    def decode(body: Any, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        decoded = decode_answers([make_answer(body, **options)])
        assert decoded.failures == []
        return frames(decoded)

    return decode


@pytest.fixture
def failure_of() -> Callable[..., tuple[str, str]]:
    """Decode one bad body; its error_type and message."""

    def fail(body: Any, **options: Any) -> tuple[str, str]:
        decoded = decode_answers([make_answer(body, **options)])
        assert (len(decoded.completions), len(decoded.tokens), len(decoded.alternatives)) == (0, 0, 0)
        [(index, error)] = decoded.failures
        assert index == 0
        return error.error_type, str(error)

    return fail
