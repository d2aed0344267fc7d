"""The JSON of a response body: parsing it, reading its plain fields, and the errors it gives.

Servers are sloppy: a field that is not usable becomes None and never costs the answer. A body is malformed only if it
holds no choices.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError
from logprob_store.mended_json import is_utf8, read_int
from logprob_store.reported_errors import find_reported_error
from logprob_store.schema import CHOICES_PER_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_EXCERPT: Final = 160
_MOST_TOKENS: Final = 10**9
"""Larger counts are an error of the server, as in `logprob_store.usage`; many of them do not fit into 64 bits."""
_BOM: Final = b"\xef\xbb\xbf"
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def without_bom(content: bytes) -> bytes:
    """The body without the byte order mark that some proxies put in front of it."""
    return content.removeprefix(_BOM)


def loads(content: bytes) -> Any:
    """The value of JSON as Python's parser reads it, NaN and the infinities included.

    An integer of more digits than Python reads is infinity, so that it costs no more than its place.

    Raises:
        DecodeError: it is not JSON, not UTF-8, or nested too deeply.

    >>> loads(b'[-Infinity]'), loads(b"[" + b"9" * 5000 + b"]")
    ([-inf], [inf])
    """
    try:
        return msgspec.json.decode(content)  # gives the same values two to three times as fast, and refuses NaN
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(content.decode(), parse_int=read_int)
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at character {error.pos} of {len(content)} bytes"
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 at byte {error.start} of {len(content)}"
    except RecursionError:
        problem = "nested too deeply"
    raise DecodeError(f"the answer is {problem}: {excerpt(content)}")


def loads_object(content: bytes) -> dict[str, Any]:
    """The value of a body, as `loads` reads it; raises DecodeError if it is no object."""
    value = loads(without_bom(content))
    if not isinstance(value, dict):
        raise DecodeError(f"the body is {kind_of(value)}, not an object: {excerpt(content)}")
    return value


def kind_of(value: Any) -> str:
    """What a JSON value is, in the words of messages.

    >>> [kind_of(value) for value in (None, True, 1.5, "a", [], {})]
    ['null', 'true', 'a number', 'a text', 'a list', 'an object']
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def expect_object(value: Any, path: str) -> dict[str, Any]:
    """The value, if it is an object; raises DecodeError with the path if not."""
    if not isinstance(value, dict):
        raise DecodeError(f"{path}: expected an object, got {kind_of(value)}")
    return value


def expect_list(value: Any, path: str) -> list[Any]:
    """The value, if it is a list; raises DecodeError with the path if not."""
    if not isinstance(value, list):
        raise DecodeError(f"{path}: expected a list, got {kind_of(value)}")
    return value


def object_or_empty(value: Any) -> dict[str, Any]:
    """The value, if it is an object; an empty one if not."""
    return value if isinstance(value, dict) else {}


def list_or_empty(value: Any) -> list[Any]:
    """The value, if it is a list; an empty one if not."""
    return value if isinstance(value, list) else []


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none if it is no list."""
    return [item for item in list_or_empty(value) if isinstance(item, dict)]


def raw_object(content: bytes) -> dict[str, msgspec.Raw] | None:
    """The values of an object by key, each still raw JSON; None if msgspec does not parse it as an object."""
    try:
        return _OBJECT.decode(content) if is_utf8(content) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def excerpt(content: bytes) -> str:
    r"""The first characters, quoted for a message: without terminal escapes and line breaks.

    >>> print(excerpt(b"<html>\x1b[31m"))
    '<html>\x1b[31m'
    """
    return repr(content[:_EXCERPT].decode(errors="replace"))[: _EXCERPT + 40]


def reported_error(error: Any, partial: str = "") -> DecodeError:
    """The error for an answer that reports an error, in the server's words.

    Args:
        error: the value of the key `error`, or what `find_reported_error` made of the body.
        partial: the text that came before the failure.
    """
    message = error.get("message", error) if isinstance(error, dict) else error
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 3 * _EXCERPT])
    came = f"; before it failed came {partial[:_EXCERPT]!r}" if partial else ""
    return DecodeError(f"the server answered with an error: {printable}{came}", error_type="error_body")


def refuse_reported_error(body: object) -> None:
    """Raise DecodeError if a parsed body reports an error, however much of an answer it holds."""
    found = find_reported_error(body)
    if found is not None:
        raise reported_error(found.said, found.partial)


def number_choices(indices: Sequence[Any]) -> list[int]:
    """The number of each choice: its own index where that is usable and not taken, else its place in the list.

    Some servers number all choices 0, or none; some write the number as a text. Where the place is taken, the lowest
    free number is given.

    Raises:
        DecodeError: there are more choices than a completion_id can number.

    >>> number_choices([1, 0]), number_choices([0, 0]), number_choices([None, None]), number_choices(["0", "1"])
    ([1, 0], [0, 1], [0, 1], [0, 1])
    >>> number_choices([1, None]), number_choices([7]), number_choices([-1])
    ([1, 0], [7], [0])
    """
    if indices == [0]:
        return [0]
    if len(indices) > CHOICES_PER_SAMPLE:
        raise DecodeError(f"choices: {len(indices)}, more than the {CHOICES_PER_SAMPLE} that can be numbered")
    numbers = [index_or_none(index) for index in indices]
    taken: set[int | None] = set()
    for place, number in enumerate(numbers):
        if number in taken:
            numbers[place] = None
        taken.add(number)
    free = (number for number in count() if number not in taken)
    for place, number in enumerate(numbers):
        if number is None:
            numbers[place] = place if place not in taken else next(free)
            taken.add(numbers[place])
    return [number for number in numbers if number is not None]


def index_or_none(index: Any) -> int | None:
    """The number of a choice that an index gives, as a number or a text; None for any other value."""
    if type(index) is str and index.isascii() and index.isdigit() and len(index) <= len(str(CHOICES_PER_SAMPLE)):
        index = int(index)
    return index if type(index) is int and 0 <= index < CHOICES_PER_SAMPLE else None


def compact_json(value: Any, path: str) -> str | None:
    """Compact JSON for the column `tool_calls`; None for null, and for the empty list that some servers always send."""
    if not value:
        return None
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        raise DecodeError(f"{path}: nested too deeply") from None


def text_or_none(value: Any) -> str | None:
    """A string that UTF-8 can encode, None for any other value."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else clean_text(value)


def count_or_none(value: Any) -> int | None:
    """A number of tokens, None for anything but a whole number from 0 to a billion; some servers write 12.0."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def time_or_none(value: Any) -> datetime | None:
    """The time of a number of seconds since the epoch, None for any other value."""
    if type(value) not in (int, float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def keys_for_message(keys: Collection[str]) -> str:
    """What an object has, for a message: its first eight keys, quoted.

    >>> keys_for_message(["id", "object"]), keys_for_message(())
    ("the keys 'id, object'", 'no keys')
    """
    return f"the keys {excerpt(', '.join(map(str, list(keys)[:8])).encode(errors='replace'))}" if keys else "no keys"
