"""The files to import, and their items: one JSON value or one event of a stream each, with the line it starts on.

The content of a file tells what is in it; its name does not. JSON Lines are read line by line. `json_values` reads the
rest: values printed over several lines or glued together, lists, and what is left of a damaged file. What an item means
is decided in `records`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from logprob_store.decode.formats.body import excerpt
from logprob_store.errors import InputError
from logprob_store.importing.glued_events import holds_record, take_line_apart
from logprob_store.importing.items import DONE, SourceItem
from logprob_store.importing.json_values import LineReader, read_values
from logprob_store.importing.packed_files import DAMAGED, open_file, unify_encoding, unpack
from logprob_store.importing.raw_json import read_object
from logprob_store.importing.readers.registry import FILE_READERS
from logprob_store.mended_json import escape_control_characters, is_json, read_int, unquoted
from logprob_store.sse import EVENT_LINE, Event, EventReader

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from logprob_store.importing.packed_files import CountingStream

YAML_SUFFIXES: Final = (".yaml", ".yml")
SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".sse", ".txt", ".har", ".eval", *YAML_SUFFIXES)
COMPRESSION_SUFFIXES: Final = ("", ".gz", ".zst", ".bz2", ".xz")
"""In a folder, names are searched that end in one of SUFFIXES followed by one of these."""

UNKNOWN_FORMAT: Final = "unknown_format"
"""The error_type of a file in no known format."""

_BLANKS: Final = b" \t\r\n\x00"
"""NUL counts as a blank: after a power cut, file systems leave blocks of it."""

_STARTS: Final = (b"{", b"[", b'"{', b'"data:', b'"\\"')
"""How a line of JSON begins: an object, a list, or a text that holds JSON, an event, or such a text."""

_EXCERPT_BYTES: Final = 200
_DECODER: Final = json.JSONDecoder(parse_int=read_int)
_LIST_DECODER: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import; `name` stands in the `file` column of its rows."""

    path: Path
    name: str

    def open(self) -> tuple[io.BufferedReader, CountingStream]:
        """Open the file, as `open_file`."""
        return open_file(self.path)


def find_sources(paths: Sequence[str | Path]) -> list[Source]:
    """The files at these paths; folders are searched to any depth and sorted, and a file named twice counts once.

    Raises:
        InputError: a path does not exist, a folder has nothing to import, or no path was given.
    """
    found: dict[Path, Source] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _is_wanted(file))
            if not files:
                raise InputError(f"{path} holds nothing to import: no file that ends in {', '.join(SUFFIXES)}")
            folder = path.resolve().name
            sources = [Source(file, _shown(f"{folder}/{file.relative_to(path).as_posix()}")) for file in files]
        elif path.exists():
            sources = [Source(path, _shown(path.name))]
        else:
            raise InputError(f"{path} is not there")
        for source in sources:
            found.setdefault(source.path.resolve(), source)
    if not found:
        raise InputError("nothing to import: name a file or a folder")
    return list(found.values())


def is_known_format(head: bytes) -> bool:
    """Whether a file that starts like this may hold JSON or a stream of events.

    >>> [is_known_format(head) for head in (b'{"id": 1}', b"data: {}", b"name,score", b"")]
    [True, True, False, True]
    """
    lines = head.split(b"\n")
    return not head.strip() or any(EVENT_LINE.match(line) or line.lstrip().startswith(_STARTS) for line in lines)


def read_items(reader: io.BufferedReader, is_record: Callable[[Mapping[str, Any]], bool]) -> Iterator[SourceItem]:
    """The items of an open file, in order; what cannot be read is an item with a `problem`.

    Args:
        reader: the file.
        is_record: whether an object with these keys is one of those that a file has at its top. In a damaged file,
            reading goes on with such an object.
    """
    line = 1
    try:
        content = unify_encoding(unpack(reader))
        head = content.peek(1)
        file_reader = next((one for one in FILE_READERS if one.recognises(head)), None)
        if file_reader is not None:
            yield from file_reader.read(content, lambda member: read_items(member, is_record))
            return
        if not is_known_format(head):
            what = "is a Parquet file" if head.startswith(b"PAR1") else "is no JSON and no stream of events"
            problem = what if b"\0" in head else f"{what}: {excerpt(head)}"
            yield SourceItem(1, head[:_EXCERPT_BYTES], problem=problem, is_unknown_format=True)
            return
        for item in _read_text(LineReader(content), is_record):
            line = item.line
            yield item
    except DAMAGED as error:
        yield SourceItem(line, b"", problem=f"the file is damaged: {error}")


def _shown(name: str) -> str:
    """A file's name as text for a column; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _is_wanted(file: Path) -> bool:
    """Whether a file in a folder is imported: by its suffix, and of YAML files only what a reader recognises."""
    name = file.name.lower()
    suffixes = (suffix + compression for suffix in SUFFIXES for compression in COMPRESSION_SUFFIXES)
    suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
    if name.startswith(".") or suffix is None:
        return False
    if not suffix.startswith(YAML_SUFFIXES):
        return True
    with open_file(file)[0] as reader:
        head = reader.peek(1)
    return any(one.recognises(head) for one in FILE_READERS)


def _read_text(lines: LineReader, is_record: Callable[[Mapping[str, Any]], bool]) -> Iterator[SourceItem]:
    """The items of a text, in which each line is a value by itself, belongs to an event, or begins a longer value."""
    events = EventReader()
    while line := lines.read():
        content = line.strip(_BLANKS)
        is_event = EVENT_LINE.match(line) is not None and not _is_torn(content)
        if content[:1] != b"{" and (is_event or (not content and events.is_open)):
            yield from map(_event_item, events.add(lines.number, line))
            continue
        if events.is_open:
            yield from map(_event_item, events.end())
        if content[:1] == b"{" and (raw := read_object(content.rstrip(b", \t"))) is not None:
            yield SourceItem(lines.number, content.rstrip(b", \t"), raw=raw)
        elif content:
            yield from _read_value(lines, line, is_record)
    yield from map(_event_item, events.end())


def _read_value(lines: LineReader, line: bytes, is_record: Callable[[Mapping[str, Any]], bool]) -> Iterator[SourceItem]:
    """The items of a line that is no object by itself: a list, the start of a longer value, or a text."""
    number, content = lines.number, line.strip(_BLANKS)
    is_list = content.startswith(b"[") and content != DONE
    items = _list_items(number, content) if is_list else None
    mended = escape_control_characters(content) if content.startswith(b"{") else None
    if items is not None and not any(map(_may_hold_record, items)):
        yield SourceItem(number, content, problem=f"is a list without any JSON object: {excerpt(content)}")
    elif items is not None:
        yield from (inner for item in items for inner in _unquoted(item))
    elif is_list and _begins_with_torn_list(content):
        for item in take_line_apart(SourceItem(number, content)):
            problem = f"is no JSON object: {excerpt(item.content)}" if item.content.startswith(b"[") else None
            yield item._replace(problem=problem)
    elif mended is not None:
        yield SourceItem(number, mended)
    elif is_list or content.startswith(b"{"):
        for found in read_values(lines, line, number, is_record):
            yield SourceItem(found.line, found.content, found.element, problem=found.problem)
    else:
        whole_line = SourceItem(number, content)
        for item in _unquoted(whole_line):
            yield from take_line_apart(item) if item is whole_line else (item,)


def _is_torn(content: bytes) -> bool:
    """Whether what looks like a comment of a stream is the end of a JSON line that was torn in front of a colon."""
    end = content.rstrip(b", \t")
    return content.startswith(b":") and end.endswith((b"}", b"]")) and not is_json(end[1:])


def _may_hold_record(item: SourceItem) -> bool:
    """Whether the element of a list is an object, or a list or a text that may hold one."""
    inner = unquoted(item.content).lstrip()
    return inner.startswith((b"{", b"[")) or EVENT_LINE.match(inner) is not None


def _begins_with_torn_list(content: bytes) -> bool:
    """Whether a line begins with a list of no records, and goes on behind it: within an object that lost its front."""
    try:
        elements, _ = _DECODER.raw_decode(content.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return not any(isinstance(one, list) or (isinstance(one, dict) and holds_record(one)) for one in elements)


def _event_item(event: Event) -> SourceItem:
    return SourceItem(event.line, event.content, data=event.data)


def _unquoted(item: SourceItem) -> Iterator[SourceItem]:
    """The JSON or the events inside an item that is a JSON text; any other item as it is."""
    if not item.content.startswith(b'"'):
        yield item
        return
    inner = unquoted(item.content).strip()
    if EVENT_LINE.match(inner):
        events = EventReader()
        found = [event for line in inner.splitlines(keepends=True) for event in events.add(item.line, line)]
        for event in (*found, *events.end()):
            yield item._replace(content=event.content + b"\n\n", data=event.data)
    else:
        yield item._replace(content=inner) if inner.startswith(b"{") else item


def _list_items(line: int, content: bytes) -> list[SourceItem] | None:
    """The elements of a list on one line; None if it goes on behind the line, or is damaged."""
    try:
        elements = _LIST_DECODER.decode(content.rstrip(b", \t"))
    except (msgspec.DecodeError, RecursionError):
        return None
    return [SourceItem(line, bytes(element), number) for number, element in enumerate(elements)]
