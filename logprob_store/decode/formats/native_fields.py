"""Helpers for the bodies of servers' native APIs: one answer, a list of answers or pieces of one, and their fields.

`token_objects` reads their tokens.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from logprob_store.decode.formats.body import (
    count_or_none,
    expect_object,
    kind_of,
    list_or_empty,
    loads,
    raw_object,
    reported_error,
    without_bom,
)
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from logprob_store.request import Answer


def objects_of_body(answer: Answer, *, raw: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a body with their paths: itself, or those in a list (several samples, several prompts).

    Args:
        answer: the answer.
        raw: a key whose value may stay raw JSON (bytes), so that the compiled scanner can read it.

    Raises:
        DecodeError: the body is not JSON, neither an object nor a list of some, or an object holds only an error.
    """
    content = without_bom(answer.body)
    held = None if raw is None else raw_object(content)
    if held is not None:
        return [("", {key: bytes(value) if key == raw else loads(bytes(value)) for key, value in held.items()})]
    value = loads(content)
    if not isinstance(value, list):
        return [("", expect_object(value, "the body"))]
    if not value:
        raise DecodeError("the body: expected at least one answer, got an empty list")
    found = [(f"[{n}]", item) for n, item in enumerate(value) if isinstance(item, dict)]
    if not found:
        raise DecodeError(f"the body: expected a list of answers, got one of {kind_of(value[0])}")
    for _, item in found:
        if item.keys() == {"error"}:
            raise reported_error(item["error"])
    return found


def pad_alternatives(value: Any, tokens: int) -> list[Any]:
    """A list of lists of alternatives, one for each token: None is appended for the last tokens if it is shorter.

    A longer list costs all alternatives: it cannot be told which of them belong to which token.

    >>> pad_alternatives([["a"]], 2), pad_alternatives("x", 1), pad_alternatives([["a"], ["b"]], 1)
    ([['a'], None], [None], [None])
    """
    listed = list_or_empty(value)
    listed = listed if len(listed) <= tokens else []
    return listed + [None] * (tokens - len(listed))


def child_path(path: str, key: str) -> str:
    """The JSON path of a key in the object at `path`.

    >>> child_path("", "a"), child_path("[0]", "a")
    ('a', '[0].a')
    """
    return f"{path}.{key}" if path else key


def merge_pieces(
    pieces: Iterable[Mapping[str, Any]], *, texts: Collection[str], lists: Collection[str]
) -> dict[str, Any]:
    """One object made of the pieces of a stream: the texts and lists under these keys joined, of others the last value.

    A value that is no list becomes an item of the joined list, and one that is no text is left out of the joined text.

    Raises:
        DecodeError: a piece reports an error.

    >>> merge_pieces([{"a": "x", "b": [1], "c": 1}, {"a": "y", "b": [2]}], texts=["a"], lists=["b"])
    {'a': 'xy', 'b': [1, 2], 'c': 1}
    """
    joined: dict[str, Any] = {}
    for piece in pieces:
        if piece.get("error"):
            raise reported_error(piece["error"])
        for key, value in piece.items():
            if key in lists and value is not None:
                joined[key] = list_or_empty(joined.get(key)) + (value if isinstance(value, list) else [value])
            elif key in texts and isinstance(value, str):
                held = joined.get(key)
                joined[key] = held + value if isinstance(held, str) else value
            elif key in texts:
                joined.setdefault(key, None)
            elif value is not None or key not in joined:
                joined[key] = value
    return joined


def sum_counts(counts: Iterable[Any]) -> int | None:
    """The sum of counts of tokens; None if one is not usable."""
    known = [count_or_none(count) for count in counts]
    return None if None in known else count_or_none(sum(count or 0 for count in known))


def count_prompt_tokens(counts: Sequence[Any], *, one_prompt: bool = True) -> int | None:
    """The prompt's tokens, from the counts of several answers: of their one prompt, or of all their prompts.

    Different counts are those of different prompts. Equal counts are taken for one prompt unless `one_prompt` is false.

    >>> count_prompt_tokens([5, 5]), count_prompt_tokens([5, 5], one_prompt=False)
    (5, 10)
    >>> count_prompt_tokens([5, 7]), count_prompt_tokens([5, None])
    (12, None)
    """
    known = [count_or_none(count) for count in counts]
    return known[0] if one_prompt and len(set(known)) == 1 else sum_counts(known)


def iso_time_or_none(value: Any) -> datetime | None:
    """The time that an ISO 8601 text names, with any number of digits after the second; None for any other value.

    >>> iso_time_or_none("2025-12-16T12:38:48.457821123+01:00")
    datetime.datetime(2025, 12, 16, 11, 38, 48, 457821, tzinfo=datetime.timezone.utc)
    """
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
