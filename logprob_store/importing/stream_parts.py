"""The streams of a file, told apart: by the id of their pieces, by where an answer begins, and by where it ends.

Streams may lie one behind the other or be mixed, as events or as JSON values. `decode.formats.pieces` says what a piece
tells about its stream. A piece without an id belongs to the stream of the piece before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from logprob_store.decode.formats.pieces import Piece, StreamState
from logprob_store.decode.formats.registry import BODIES, STREAMS
from logprob_store.importing.glued_events import take_apart
from logprob_store.importing.raw_json import RawObject, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from logprob_store.decode.formats.base import StreamFormat
    from logprob_store.importing.items import SourceItem

_WHOLE: Final = msgspec.Raw(b'"chat.completion"')
"""The `object` of most answers, which is no piece."""

_MOST_OPEN: Final = 256
"""Streams that may wait for their next piece at a time. Beyond that the oldest is taken to be cut off."""

_OTHER_KEYS: Final = frozenset({"request", "response", "custom_id", "key", "choices", "output"})
"""Keys that an error in the place of a piece does not have."""


@dataclass(slots=True)
class Stream:
    """A stream of a file: its format, None while no piece tells, and its items and their values so far.

    `may_be_whole` says that it is none: one answer, or the same answer several times, which no stream would send.
    `needs_end` says that it is none unless its choices end: its pieces look like answers.
    """

    form: StreamFormat | None
    items: list[SourceItem] = field(default_factory=list)
    values: list[RawObject | None] = field(default_factory=list)
    state: StreamState = field(default_factory=StreamState)
    is_done: bool = False
    may_be_whole: bool = True
    needs_end: bool = False

    def add(self, item: SourceItem, value: RawObject | None, piece: Piece | None) -> None:
        """Add the next piece."""
        is_first_or_equal = not self.items or item.content == self.items[0].content
        self.may_be_whole = self.may_be_whole and is_first_or_equal and piece is not None and piece.may_be_whole
        self.items.append(item)
        self.values.append(value)
        if piece is not None:
            self.needs_end = self.needs_end or (piece.needs_end and item.data is None)
            self.state.add(piece)

    @property
    def has_ended(self) -> bool:
        """Whether no further piece is needed; the usage may still come."""
        return self.is_done or self.state.has_ended

    @property
    def body(self) -> bytes:
        """All pieces, as they stand in the file."""
        if self.items[0].data is not None:
            return b"".join(item.content for item in self.items).lstrip()
        return b"[" + b",".join(item.content for item in self.items if not item.is_done_mark) + b"]"


class StreamParts:
    """Sorts the items of a file into streams and items that are no pieces of any."""

    def __init__(self) -> None:
        self._open: list[Stream] = []
        self._latest: Stream | None = None

    def sort(self, items: Iterable[SourceItem]) -> Iterator[SourceItem | Stream]:
        """The streams, each when it has ended, and the other items; in the order of the file where none are mixed."""
        for item in items:
            value = _value_of(item)
            if value is None and item.data is not None and not item.is_done_mark:
                for part in take_apart(item):
                    yield from self._add(part, _value_of(part))
            else:
                yield from self._add(item, value)
        yield from self._close(self._open)

    def _add(self, item: SourceItem, value: RawObject | None) -> Iterator[SourceItem | Stream]:
        if item.element == 0:  # a list never continues the stream of another list
            yield from self._close(self._open)
        if item.is_done_mark:
            yield from self._add_done_mark(item)
            return
        form, piece = (None, None) if value is None or value.get("object") == _WHOLE else _describe(value)
        if piece is not None and piece.needs_id and item.data is None and piece.stream_id is None:
            piece = piece if piece.needs_end or self._waits_for_end else None
        if piece is None:
            yield from self._add_other(item, value)
            return
        stream = self._stream_of(piece, form)
        if stream is None:
            yield from self._close_those_before()
            stream = Stream(form)
            self._open.append(stream)
            if len(self._open) > _MOST_OPEN:
                yield from self._close(self._open[:1])
        stream.form = form
        stream.add(item, value, piece)
        self._latest = stream

    @property
    def _waits_for_end(self) -> bool:
        """Whether the latest stream is none unless its end follows."""
        return self._latest is not None and self._latest.needs_end and not self._latest.has_ended

    def _add_done_mark(self, item: SourceItem) -> Iterator[SourceItem | Stream]:
        """End the latest stream. A mark without a stream says nothing."""
        stream = self._latest
        if stream is not None:
            stream.is_done = True
            stream.add(item, None, None)
            yield from self._close([stream])

    def _add_other(self, item: SourceItem, value: RawObject | None) -> Iterator[SourceItem | Stream]:
        """Add an item that no format takes for a piece: an error, a ping, a damaged event, or no part of a stream."""
        latest = self._latest
        is_event = item.data is not None or (item.content == b"null" and latest is not None and not latest.has_ended)
        if latest is None and not is_event and not self._open:
            yield item
            return
        is_body = value is not None and any(form.recognises(value) for form in BODIES)
        if latest is not None and not is_body and (is_event or (not latest.has_ended and _is_error(value))):
            latest.add(item, value, None)
            return
        yield from self._close_those_before()
        if not is_event or is_body:
            yield item
            return
        self._latest = Stream(None)
        self._latest.add(item, value, None)
        self._open.append(self._latest)

    def _stream_of(self, piece: Piece, form: StreamFormat | None) -> Stream | None:
        """The open stream that a piece belongs to; None if it begins another."""
        same_form = [stream for stream in self._open if stream.form in (form, None)]
        latest = self._latest if self._latest in same_form else None
        if piece.stream_id is not None:
            found = [stream for stream in same_form if stream.state.stream_id == piece.stream_id]
            stream = found[-1] if found else None
            if stream is None and latest is not None and latest.state.stream_id is None and not latest.state.has_begun:
                stream = latest  # what stands before the first piece with an id
        else:
            stream = self._stream_without_id(piece, same_form) or latest
        return None if stream is None or stream.state.begins_anew(piece) else stream

    def _stream_without_id(self, piece: Piece, streams: list[Stream]) -> Stream | None:
        """The stream that knows the same parts of an answer, or else the first whose next number the piece has."""
        waiting = [stream for stream in streams if not stream.has_ended]
        known = [stream for stream in waiting if stream.state.item_ids & piece.item_ids]
        if piece.item_ids and piece.number is None and not known:  # a part begins: of the stream that waits for one
            return next((stream for stream in waiting if not stream.state.item_ids), None)
        if known or piece.number is None:
            return known[-1] if known else None
        following = [stream for stream in waiting if stream.state.number == piece.number - 1]
        return following[0] if following else None

    def _close_those_before(self) -> Iterator[SourceItem | Stream]:
        """The streams that nothing can continue once something else has begun."""
        ended = [stream for stream in self._open if stream.has_ended or stream.state.stream_id is None]
        yield from self._close(ended)

    def _close(self, streams: Iterable[Stream]) -> Iterator[SourceItem | Stream]:
        for stream in list(streams):
            self._open = [other for other in self._open if other is not stream]
            self._latest = None if self._latest is stream else self._latest
            if stream.may_be_whole or (stream.needs_end and not stream.has_ended):
                yield from stream.items
            else:
                yield stream


def _value_of(item: SourceItem) -> RawObject | None:
    """The item's JSON object, its values still raw; None if the item is no object."""
    if item.problem is not None:
        return None
    if item.data is not None:
        return read_object(item.data)
    return item.raw if item.raw is not None else read_object(item.content)


def _describe(value: RawObject) -> tuple[StreamFormat | None, Piece | None]:
    """The first format that takes an object for a piece, and what it says about it."""
    for form in STREAMS:
        piece = form.describe(value)
        if piece is not None:
            return form, piece
    return None, None


def _is_error(value: RawObject | None) -> bool:
    """Whether an object is an error and nothing else, as a server sends it in the place of the next piece."""
    return value is not None and "error" in value and not value.keys() & _OTHER_KEYS


def name_of(stream: Stream) -> str | None:
    """The endpoint or format of a stream's body, if its format has one."""
    return getattr(stream.form, "BODY", None) or getattr(stream.form, "NAME", None)
