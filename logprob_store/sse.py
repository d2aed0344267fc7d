r"""Server-sent events: telling a stream of them from other bodies, and putting events together from their lines.

>>> is_event_stream(b'data: {"a": 1}\n\n'), is_event_stream(b'{"a": 1}')
(True, False)
>>> event_data(b': ping\n\nevent: x\ndata: {"a":\ndata: 1}\n\ndata: [DONE]\n\n')
[b'{"a":\n1}', b'[DONE]']
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

DONE: Final = b"[DONE]"
"""The data of the event that ends a stream of chat completions."""

EVENT_LINE: Final = re.compile(rb"(?:data|event|id|retry)?:|[ \t]+(?:data|event):")
"""Matches the start of a line of an event, or of a comment. Some recordings have blanks in front of the name."""

_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")


class Event(NamedTuple):
    """An event: the line it starts on, all its lines, and its data."""

    line: int
    content: bytes
    data: bytes


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
        return [Event(self._first, b"".join(lines), joined)] if joined else []


def is_event_stream(content: bytes) -> bool:
    """Whether a body begins as a stream of events does."""
    return EVENT_LINE.match(content.lstrip()) is not None


def event_data(content: bytes) -> list[bytes]:
    """The data of each event, its lines joined by newlines; events without data and other fields are left out."""
    reader = EventReader()
    events = [event for line in content.splitlines(keepends=True) for event in reader.add(1, line)]
    return [event.data for event in (*events, *reader.end())]


def _is_whole(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return data == DONE
    return True


def _is_whole_object(value: bytes) -> bool:
    return value == DONE or (value.startswith(b'{"') and value.endswith(b"}") and _is_whole(value))
