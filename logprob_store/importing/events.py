"""Server-sent events in a file: the lines of each event, and its data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.decode.formats.body import loads
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT_LINE: Final = re.compile(rb"(?:data|event|id|retry)?:")
"""Matches the start of a line of an event, or of a comment."""

_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_DONE: Final = b"[DONE]"


class Event(NamedTuple):
    """An event: the line it starts on, all its lines, and its data."""

    line: int
    content: bytes
    data: bytes


class EventReader:
    r"""Puts events together from their lines.

    An event ends with a blank line. Where recordings have lost the blank lines, it ends where its data is whole.

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

    def add(self, number: int, line: bytes) -> Iterator[Event]:
        """Take a line, which is line `number` of the file; the events that end with it or before it."""
        for part in _LINE.findall(line) if b"\r" in line else (line,):
            if part:
                yield from self._add_one(number, part)

    def _add_one(self, number: int, line: bytes) -> Iterator[Event]:
        is_data = line.startswith(b"data:")
        value = line[5:].strip()
        if self._data and is_data and _is_whole(b"\n".join(self._data)):
            yield from self.end()
        self._first = self._first if self._lines else number
        self._lines.append(line)
        if is_data:
            self._data.append(value)
        if self._data and (not line.strip() or value == _DONE):
            yield from self.end()

    def end(self) -> Iterator[Event]:
        """The event whose lines are waiting, if it has data. Lines without data belong to the next event."""
        if self._data:
            lines, data, self._lines, self._data = self._lines, self._data, [], []
            yield Event(self._first, b"".join(lines), b"\n".join(data))


def _is_whole(data: bytes) -> bool:
    try:
        loads(data)
    except DecodeError:
        return data == _DONE
    return True
