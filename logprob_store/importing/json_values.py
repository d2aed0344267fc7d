"""JSON values that do not stand one on each line: printed over several, glued, in lists, comma-ended, or damaged.

A program that is killed leaves half a value, and the next one goes on behind it. Values are read one by one. Where one
is damaged, reading goes on at the next object that looks like one of its neighbours: with the same first key, or at the
start of a line, and with the keys of a record. Of a damaged object that holds many records, such as a HAR file, these
are read one by one. Memory holds one value and one block.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from logprob_store.decode.formats.body import loads
from logprob_store.errors import DecodeError
from logprob_store.importing.readers.registry import begins_container, is_record_of_container
from logprob_store.mended_json import read_int

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping

LONGEST_LINE: Final = 32 << 20
"""Bytes of a line that are read at once. The values of a longer line are read one by one."""

LONGEST_VALUE: Final = 256 << 20
"""Characters of the longest value that is read from a longer line, from a list or from several lines."""

_BLOCK: Final = 1 << 16
_LONGEST_DOCUMENT: Final = 96 << 20
"""Bytes of a document that is parsed as a whole, which is ten times as fast."""

_KEPT_CHARACTERS: Final = 1 << 20
"""Characters of a damaged place that are kept to tell it from others."""

_BLANKS: Final = re.compile(r"[\s,\x00\ufeff]*")
"""A byte order mark is one where files with one were joined, and a NUL where file systems left blocks of it."""

_ENDS: Final = re.compile(r"[\s,\x00\ufeff\]}]*")
"""What stands behind a record of a damaged object."""

_REST_OF_LINE: Final = re.compile(r"[ \t\r,\x00\ufeff]*(?:\n|$)")
_OBJECT: Final = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:')
_LAST_CHARACTERS: Final = 16
"""An error so close to the end of a text may be due to the end: the longest literal and escape are shorter."""

_LONGEST_OPENING: Final = 200
"""Characters from the brace of an object to the colon behind its first key."""

_DECODER: Final = json.JSONDecoder(parse_int=read_int)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class LineReader:
    """The lines of a file, with a way to give back what was read too far; `number` is that of the last line read."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader
        self._returned = b""
        self._offset = 0
        self._next = 1
        self.number = 0

    @property
    def is_at_start(self) -> bool:
        """Whether the last line read is the first of the file."""
        return self.number == 1

    def read(self) -> bytes:
        """The next line, or its first LONGEST_LINE bytes; empty at the end of the file."""
        end = self._returned.find(b"\n", self._offset) + 1 if self._returned else 0
        if end:
            line = self._returned[self._offset : end]
            self._offset = end
        else:
            line = self._reader.readline(LONGEST_LINE)
            line = self._take(len(self._returned)) + line if self._returned else line
        self.number = self._next
        self._next += line.endswith(b"\n")
        return line.removeprefix(codecs.BOM_UTF8)  # files that begin with one were joined

    def read_block(self, size: int) -> bytes:
        """The next bytes, at most `size`; fewer only at the end of the file."""
        block = self._take(size)
        return block + self._reader.read(size - len(block)) if len(block) < size else block

    def put_back(self, content: bytes, line: int) -> None:
        """Give back bytes, the first of which stands on this line."""
        self._returned = content + self._take(len(self._returned))
        self._offset = 0
        self._next = line

    def _take(self, size: int) -> bytes:
        taken = self._returned[self._offset : self._offset + size]
        self._offset += len(taken)
        if self._offset >= len(self._returned):
            self._returned, self._offset = b"", 0
        return taken


class FoundValue(NamedTuple):
    """A value or a damaged place: the line it starts on, its bytes, its place in a list, and what is wrong with it."""

    line: int
    content: bytes
    element: int | None = None
    problem: str | None = None


class _Text:
    """A window on the text from `position` on, and the line of that position."""

    def __init__(self, lines: LineReader, content: bytes, line: int) -> None:
        self._lines = lines
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = self._decoder.decode(content)
        self.position = 0
        self.line = line
        self.is_at_end = False

    def move(self, position: int) -> None:
        """Go to a later position."""
        self.line += self.text.count("\n", self.position, position)
        self.position = position

    def fill(self) -> bool:
        """Read on, as much again as there is; whether there was more. Positions change: `position` becomes 0."""
        rest = self.text[self.position :]
        block = self._lines.read_block(max(len(rest), _BLOCK))
        self.text = rest + self._decoder.decode(block, final=not block)
        self.position = 0
        self.is_at_end = not block
        return bool(block)

    def skip_blanks(self, pattern: re.Pattern[str] = _BLANKS) -> str:
        """Skip blanks and commas; the character behind them, empty at the end of the text."""
        while True:
            blanks = pattern.match(self.text, self.position)
            self.move(self.position if blanks is None else blanks.end())
            if self.position < len(self.text):
                return self.text[self.position]
            if self.is_at_end or not self.fill():
                return ""

    def put_back(self) -> None:
        """Give all from the position on back to the lines."""
        rest = self.text[self.position :].encode(errors="surrogateescape")
        self._lines.put_back(rest + self._decoder.getstate()[0], self.line)


class _Problem(NamedTuple):
    """What is wrong with the value at a position, and how many characters behind that."""

    said: str
    distance: int

    def line_of(self, text: _Text) -> int:
        """The line of the problem."""
        return text.line + text.text.count("\n", text.position, text.position + self.distance)


def read_values(
    lines: LineReader, line: bytes, number: int, is_record: Callable[[Mapping[str, Any]], bool]
) -> Iterator[FoundValue]:
    """The values that begin on a line, and those behind them up to where a line is a value by itself again.

    Args:
        lines: the lines behind it.
        line: the line.
        number: its number.
        is_record: see `sources.read_items`.
    """
    if lines.is_at_start:
        line += lines.read_block(_LONGEST_DOCUMENT - len(line))
        whole = _read_document(line) if len(line) < _LONGEST_DOCUMENT else None
        if whole is not None:
            yield from whole
            return
    text = _Text(lines, line, number)
    while (character := text.skip_blanks()) in ("{", "["):
        if character == "[":
            yield from _read_list(text, is_record)
            single_line = False
        elif begins_container(text.text, text.position) and isinstance(problem := _end_of_value(text), _Problem):
            yield from _read_container(text, problem)
            single_line = False
        else:
            before = text.line
            yield _read_one(text, None, is_record)
            single_line = text.line == before
        rest = _REST_OF_LINE.match(text.text, text.position)
        if rest is not None and (single_line or rest.end() == len(text.text)):
            text.move(rest.end())
            break
    text.put_back()


def _read_document(content: bytes) -> list[FoundValue] | None:
    """The values of a file that is one value; None if it is not, or is damaged."""
    stripped = content.strip(b" \t\r\n\x00")
    if stripped.startswith(b"["):
        try:
            return [FoundValue(1, bytes(element), n) for n, element in enumerate(_LIST.decode(stripped))]
        except (msgspec.DecodeError, RecursionError):
            return None
    try:
        loads(stripped)
    except DecodeError:
        return None
    return [FoundValue(1, stripped)]


def _read_list(text: _Text, is_record: Callable[[Mapping[str, Any]], bool]) -> Iterator[FoundValue]:
    """The elements of the list at the position, whose places are those of the list's line."""
    line, element, is_torn = text.line, 0, False
    text.move(text.position + 1)
    while character := text.skip_blanks():
        if character == "]":
            text.move(text.position + 1)
            return
        found = _read_one(text, element, is_record)
        is_torn = found.problem is not None
        yield found._replace(line=line)
        element += 1
    if not is_torn:
        problem = "the list has no end: the file was cut off behind this element"
        yield FoundValue(line, problem.encode(), element, problem=problem)


def _read_one(text: _Text, element: int | None, is_record: Callable[[Mapping[str, Any]], bool]) -> FoundValue:
    """The value at the position, or what is left of it; the position moves behind it."""
    line, end = text.line, _end_of_value(text)
    if isinstance(end, _Problem):
        return _skip_damage(text, end, element, is_record)
    content = text.text[text.position : end].encode(errors="surrogateescape")
    text.move(end)
    return FoundValue(line, content, element)


def _end_of_value(text: _Text) -> int | _Problem:
    """The position behind the value at the position, which is read as a whole; or what is wrong with it."""
    while True:
        try:
            _, end = _DECODER.raw_decode(text.text, text.position)
        except RecursionError:
            return _Problem("nested too deeply", 1)
        except json.JSONDecodeError as error:
            if _may_go_on(error, text) and text.fill():
                continue
            is_long = len(text.text) - text.position > LONGEST_VALUE
            limit = f"longer than {LONGEST_VALUE / 1e6:.0f} million characters"
            said = limit if is_long and _is_at_end(error, text) else f"no JSON: {error.msg}"
            return _Problem(said, error.pos - text.position)
        if end == len(text.text) and text.text[end - 1] not in '}]"' and text.fill():
            continue  # a number that may go on
        return end


def _may_go_on(error: json.JSONDecodeError, text: _Text) -> bool:
    """Whether more text may mend an error."""
    if text.is_at_end or len(text.text) - text.position > LONGEST_VALUE:
        return False
    return _is_at_end(error, text)


def _is_at_end(error: json.JSONDecodeError, text: _Text) -> bool:
    """Whether an error may be due to the end of the text."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - _LAST_CHARACTERS


def _read_container(text: _Text, problem: _Problem) -> Iterator[FoundValue]:
    """The records of a damaged object that holds many, up to the end of the file; their places are those of its line.

    The damage is a record of its own, unless it is inside one.
    """
    line, element, is_torn = text.line, 0, False
    place = problem.line_of(text)
    header = _move_to_record(text, None, is_record_of_container)
    while text.skip_blanks(_ENDS):
        found = _read_one(text, element, is_record_of_container)
        is_torn = is_torn or found.problem is not None
        yield found._replace(line=line)
        element += 1
        if text.skip_blanks(_ENDS) not in ("{", ""):
            _move_to_record(text, None, is_record_of_container)
    if not is_torn:
        content = header.encode(errors="surrogateescape")
        yield FoundValue(line, content, element, f"{problem.said} (line {place} of the file)")


def _skip_damage(
    text: _Text, problem: _Problem, element: int | None, is_record: Callable[[Mapping[str, Any]], bool]
) -> FoundValue:
    """Move to the next value that looks like one of a file's top; returns the damaged place before it."""
    line, place = text.line, problem.line_of(text)
    opening = _OBJECT.match(text.text, text.position)
    content = _move_to_record(text, None if opening is None else opening[1], is_record)
    said = f"{problem.said} (line {place} of the file)"
    return FoundValue(line, content.encode(errors="surrogateescape"), element, problem=said)


def _move_to_record(text: _Text, first_key: str | None, is_record: Callable[[Mapping[str, Any]], bool]) -> str:
    """Move to the next record behind the position, or to the end; returns the beginning of what is before it."""
    kept, start = "", text.position + 1
    while True:
        found, searched = _find_record(text, start, first_key, is_record)
        stop = searched if found is None else found
        kept += text.text[text.position : min(stop, text.position + _KEPT_CHARACTERS - len(kept))]
        text.move(stop)
        if found is not None or text.is_at_end:
            return kept
        text.fill()
        start = text.position


def _find_record(
    text: _Text, start: int, first_key: str | None, is_record: Callable[[Mapping[str, Any]], bool]
) -> tuple[int | None, int]:
    """The position of the next whole record or None, and the position up to which the text was searched."""
    for candidate in _OBJECT.finditer(text.text, start):
        position = candidate.start()
        is_likely = first_key in (None, candidate[1]) or text.text.endswith("\n", start, position)
        if not is_likely:
            continue
        try:
            value, _ = _DECODER.raw_decode(text.text, position)
        except json.JSONDecodeError as error:
            unread = len(text.text) - position
            if _may_go_on(error, text) and unread <= LONGEST_VALUE:
                return None, position
        except (ValueError, RecursionError):
            continue
        else:
            if is_record(value):
                return position, position
    # The beginning of an object may be cut in two by the end of the text.
    end = len(text.text)
    return None, end if text.is_at_end else max(start, end - _LONGEST_OPENING)
