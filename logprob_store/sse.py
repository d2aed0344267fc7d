r"""Server-sent events: telling a stream of them from other bodies, their lines, and whether their choices have ended.

>>> is_event_stream(b'data: {"a": 1}\n\n'), is_event_stream(b'{"a": 1}')
(True, False)
>>> event_data(b': ping\n\nevent: x\ndata: {"a":\ndata: 1}\n\ndata: [DONE]\n\n')
[b'{"a":\n1}', b'[DONE]']
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from logprob_store.mended_json import is_json, loads_leniently
from logprob_store.reported_errors import find_own_error, says_something

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE: Final = b"[DONE]"
"""The data of the event that ends a stream of chat completions."""

EVENT_LINE: Final = re.compile(rb"(?:data|event|id|retry)?:|[ \t]+(?:data|event):")
"""Matches the start of a line of an event, or of a comment. Some recordings have blanks in front of the name."""

_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_NAME: Final = re.compile(rb"(?:^|[\r\n])[ \t]*event:([^\r\n]*)")


_TYPE_NAME: Final = re.compile(rb"[a-z_]+(?:[.-][a-z_]+)+")
_TYPE_FIRST: Final = re.compile(rb'\{\s*"type"\s*:')
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Event(NamedTuple):
    """An event: the line it starts on, all its lines, and its data, which has the event's name as `type`."""

    line: int
    content: bytes
    data: bytes

    @property
    def is_error(self) -> bool:
        """Whether the event is named `error`, whatever its data says."""
        if b"event:" not in self.content:
            return False
        names = _NAME.findall(self.content)
        return bool(names) and names[-1].strip().lower() == b"error"


class EventReader:
    r"""Puts events together from their lines.

    An event ends with a blank line. Where recordings have lost the blank lines, it ends where its data is whole, and
    one that was cut off ends where the next whole object begins. Events without data are dropped: they only keep a
    connection open.

    >>> reader = EventReader()
    >>> [event.data for line in (b"data: 1\n", b"data: 2\n") for event in reader.add(1, line)]
    [b'1']
    >>> [event.data for event in reader.end()]
    [b'2']
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._data: list[bytes] = []
        self._first = 1

    @property
    def is_open(self) -> bool:
        """Whether lines of an event are waiting for its end."""
        return bool(self._lines)

    def add(self, number: int, line: bytes) -> list[Event]:
        """Take a line, which is line `number` of the file; the events that end with it or before it."""
        if b"\r" not in line:
            return self._add_one(number, line)
        return [event for part in _LINE.findall(line) if part for event in self._add_one(number, part)]

    def _add_one(self, number: int, line: bytes) -> list[Event]:
        ended: list[Event] = []
        if not self._lines:
            self._first = number
        field = line.lstrip(b" \t")
        if field.startswith(b"data:"):
            value = field[5:].strip()
            if self._data and (_is_whole(b"\n".join(self._data)) or _is_whole_object(value)):
                ended = self.end()
                self._first = number
            self._lines.append(line)
            self._data.append(value)
            return [*ended, *self.end()] if value == DONE else ended
        self._lines.append(line)
        return self.end() if self._data and not line.strip() else ended

    def end(self) -> list[Event]:
        """The event whose lines are waiting, if it has data. Lines without data belong to the next event."""
        if not self._data:
            return []
        lines, data, self._lines, self._data = self._lines, self._data, [], []
        joined = b"\n".join(data)
        content = b"".join(lines)
        return [Event(self._first, content, _with_type(joined, content))] if joined else []


def is_event_stream(content: bytes) -> bool:
    """Whether a body begins as a stream of events does."""
    return EVENT_LINE.match(content.lstrip()) is not None


def event_data(content: bytes) -> list[bytes]:
    r"""The data of each event, its lines joined by newlines; events without data and other fields are left out.

    That of an event named `error` is an object that reports the error, whatever was sent.

    >>> event_data(b'event: error\ndata: "busy"\n\n')
    [b'{"error": {"message": "busy"}}']
    """
    reader = EventReader()
    events = [event for line in content.splitlines(keepends=True) for event in reader.add(1, line)]
    return [_as_error(event.data) if event.is_error else event.data for event in (*events, *reader.end())]


def _as_error(data: bytes) -> bytes:
    """The data of an event named `error`, put under the key `error` unless it reports an error by itself."""
    text = data.decode(errors="replace")
    try:
        value = loads_leniently(data)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict):
        if find_own_error(value) is not None:
            return data
        said = {**value, "message": value.get("message") or text}
    else:
        known = isinstance(value, str) and says_something(value)
        said = {"message": value if known else f"event: error, data: {text}"}
    return json.dumps({"error": said}).encode()


class ChoiceEnds:
    """Follows the choices in the pieces of a stream, to tell whether each of them came to its end.

    A choice ends with its `finish_reason`, or with the usage behind all choices. A stream that never has that key only
    says that it ends, by `[DONE]`.

    >>> ends = ChoiceEnds()
    >>> ends.add({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]})
    >>> ends.is_open
    True
    >>> ends.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    >>> ends.is_open
    False
    """

    def __init__(self) -> None:
        self._pieces_of: Counter[int] = Counter()
        self._ended: set[int] = set()
        self._says_ends = False

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take the next piece into account."""
        listed = piece.get("choices")
        choices = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        if not choices and piece.get("usage"):
            self._ended |= self._pieces_of.keys()
        for choice in choices:
            self._says_ends |= "finish_reason" in choice
            number = _number_of(choice.get("index"))
            if choice.get("finish_reason"):
                self._ended.add(number)
            if choice.get("finish_reason") or choice.get("delta") or choice.get("text"):
                self._pieces_of[number] += 1

    @property
    def has_ended_one(self) -> bool:
        """Whether a choice has ended."""
        return bool(self._ended)

    @property
    def is_open(self) -> bool:
        """Whether a choice has begun that has not ended, though the stream says of choices when they end."""
        if not self._says_ends or self._ended >= self._pieces_of.keys():
            return False
        return not counts_tokens(self._pieces_of, self._ended)


def _number_of(index: Any) -> int:
    """The number of a choice, which some servers send as a text; 0 for any other value."""
    is_text = isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10  # noqa: PLR2004
    return int(index) if type(index) is int or is_text else 0


def counts_tokens(pieces_of_index: Mapping[int, int], ended: set[int] | frozenset[int]) -> bool:
    """Whether the indices of a stream's choices count its tokens, as in the chat streams of TGI before 2.0.

    >>> counts_tokens({1: 1, 2: 1, 3: 1}, {3}), counts_tokens({0: 1, 1: 1}, {0, 1}), counts_tokens({0: 9}, {0})
    (True, False, False)
    """
    indices = list(pieces_of_index)
    return (
        len(indices) > 1
        and indices[0] > 0  # choices begin at 0
        and all(after == before + 1 for before, after in pairwise(indices))
        and ended == {indices[-1]}
        and set(pieces_of_index.values()) == {1}
    )


def _with_type(data: bytes, lines: bytes) -> bytes:
    """The data of an event, with the event's name as its `type` where only the line `event:` has it.

    The names that stand in the data of most servers are of two words (`response.completed`, `message-end`); others,
    such as `message`, say nothing.
    """
    names = _NAME.findall(lines) if b"event:" in lines and data.startswith(b"{") else []
    if not names or _TYPE_FIRST.match(data) or not _TYPE_NAME.fullmatch(name := names[-1].strip()):
        return data
    try:
        held = _OBJECT.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return data
    if "type" in held:
        return data
    return b'{"type":"%b"%b%b' % (name, b"," if held else b"", data[1:].lstrip())


def _is_whole(data: bytes) -> bool:
    return data == DONE or is_json(data)


def _is_whole_object(value: bytes) -> bool:
    return value == DONE or (value.startswith(b'{"') and value.endswith(b"}") and _is_whole(value))
