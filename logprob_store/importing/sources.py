"""The files to import, and their items: one JSON value or one recorded event stream each, with the line it starts on.

The content of a file tells its layout; its name does not:

| layout | recognised by | read |
|---|---|---|
| JSON Lines | the first line is JSON by itself | line by line, in bounded memory |
| document | a value over several lines, several such values in sequence, or a list of values | as a whole |
| events | server-sent events | a stream at a time: it ends with `[DONE]` or with the file |

What an item means is decided in `records`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from logprob_store.decode.formats.body import excerpt, loads
from logprob_store.errors import DecodeError, InputError
from logprob_store.importing.packed_files import DAMAGED, open_file, skip_byte_order_mark

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.importing.packed_files import CountingStream

SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".sse", ".txt")
COMPRESSION_SUFFIXES: Final = ("", ".gz", ".zst")
"""In a folder, names are searched that end in one of SUFFIXES followed by one of these."""

UNKNOWN_FORMAT: Final = "unknown_format"
"""The error_type of a file in no known format."""

_EVENT: Final = re.compile(rb"(?:data|event|id|retry)?:")
_SPACE: Final = re.compile(r"\s*")
_DONE: Final = b"[DONE]"
_EXCERPT_BYTES: Final = 200
_LIST_DECODER: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE_DECODER: Final = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import; `name` stands in the `file` column of its rows."""

    path: Path
    name: str

    def open(self) -> tuple[io.BufferedReader, CountingStream]:
        """Open the file, as `open_file`."""
        return open_file(self.path)


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One JSON value as it stands in a file, one event stream, or what could not be read.

    `line` counts from 1, `element` from 0 in a list that begins on that line. `is_unknown_format` is about the whole
    file.
    """

    line: int
    content: bytes
    element: int | None = None
    is_events: bool = False
    problem: str | None = None
    is_unknown_format: bool = False

    @property
    def place(self) -> str:
        """Line and element, as messages and ids have them.

        >>> SourceItem(3, b"").place, SourceItem(3, b"", 0).place
        ('3', '3[0]')
        """
        return f"{self.line}" if self.element is None else f"{self.line}[{self.element}]"


def find_sources(paths: Sequence[str | Path]) -> list[Source]:
    """The files at these paths; folders are searched to any depth and sorted, and a file named twice counts once.

    Raises:
        InputError: a path does not exist, a folder has nothing to import, or no path was given.
    """
    found: dict[Path, Source] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _has_known_suffix(file.name))
            if not files:
                raise InputError(f"{path} holds nothing to import: no file that ends in {', '.join(SUFFIXES)}")
            sources = [Source(file, f"{path.resolve().name}/{file.relative_to(path).as_posix()}") for file in files]
        elif path.exists():
            sources = [Source(path, path.name)]
        else:
            raise InputError(f"{path} is not there")
        for source in sources:
            found.setdefault(source.path.resolve(), source)
    if not found:
        raise InputError("nothing to import: name a file or a folder")
    return list(found.values())


def is_known_format(head: bytes) -> bool:
    """Whether a file that starts like this may hold something to import.

    >>> [is_known_format(head) for head in (b'{"id": 1}', b"data: {}", b"name,score", b"")]
    [True, True, False, True]
    """
    lines = head.split(b"\n")
    return not head.strip() or any(_EVENT.match(line) or line.lstrip()[:1] in (b"{", b"[") for line in lines)


def read_items(reader: io.BufferedReader) -> Iterator[SourceItem]:
    """The items of an open file, in order; what cannot be read is an item with a `problem`."""
    line = 1
    try:
        skip_byte_order_mark(reader)
        head = reader.peek(1)
        if not is_known_format(head):
            problem = f"is no JSON and no stream of events: {excerpt(head)}"
            yield SourceItem(1, head[:_EXCERPT_BYTES], problem=problem, is_unknown_format=True)
            return
        for item in _layout_reader(head)(reader):
            line = item.line
            yield item
    except DAMAGED as error:
        yield SourceItem(line, b"", problem=f"the file is damaged: {error}")


def _has_known_suffix(name: str) -> bool:
    suffixes = (suffix + compression for suffix in SUFFIXES for compression in COMPRESSION_SUFFIXES)
    return not name.startswith(".") and any(name.lower().endswith(suffix) for suffix in suffixes)


def _layout_reader(head: bytes) -> Callable[[io.BufferedReader], Iterator[SourceItem]]:
    """The reader for the layout of a file that starts like this."""
    lines = [line.strip() for line in head.split(b"\n")]
    complete = lines[:-1] or lines  # the last line may go on beyond the head
    first, *rest = [line for line in complete if line] or [b""]
    if _EVENT.match(first):
        return _read_events
    if first[:1] not in (b"{", b"[") or _is_json(first) or len(lines) == 1:
        is_one_long_list = first[:1] == b"[" and not _is_json(first)
        return _read_document if is_one_long_list else _read_lines
    # The second line of a value printed over several lines starts with a key or a bracket. If it starts with a brace,
    # the first line is a damaged one of JSON Lines.
    return _read_lines if first[:1] == b"{" and rest and rest[0][:1] == b"{" else _read_document


def _read_lines(reader: io.BufferedReader) -> Iterator[SourceItem]:
    for number, line in enumerate(reader, start=1):
        content = line.strip()
        if content.startswith(b"["):
            yield from _list_items(number, content)
        elif content:
            yield SourceItem(number, content)


def _read_events(reader: io.BufferedReader) -> Iterator[SourceItem]:
    stream: list[bytes] = []
    first = 1
    for number, line in enumerate(reader, start=1):
        if not stream and not line.strip():
            continue
        first = first if stream else number
        stream.append(line)
        if line.strip().endswith(_DONE) and line.startswith(b"data:"):
            yield SourceItem(first, b"".join(stream), is_events=True)
            stream = []
    if any(line.startswith(b"data:") for line in stream):
        yield SourceItem(first, b"".join(stream), is_events=True)


def _read_document(reader: io.BufferedReader) -> Iterator[SourceItem]:
    """A value printed over several lines, several such values in sequence, or a list of values."""
    content = reader.read().strip()
    if content.startswith(b"["):
        yield from _list_items(1, content)
    elif _is_json(content):
        yield SourceItem(1, content)
    else:
        yield from _concatenated_items(content)


def _list_items(line: int, content: bytes) -> Iterator[SourceItem]:
    try:
        elements = _LIST_DECODER.decode(content)
    except (msgspec.DecodeError, RecursionError):
        try:
            elements = [msgspec.Raw(json.dumps(element).encode()) for element in loads(content)]
        except DecodeError as error:
            yield SourceItem(line, content, problem=str(error))
            return
    for number, element in enumerate(elements):
        yield SourceItem(line, bytes(element), number)


def _concatenated_items(content: bytes) -> Iterator[SourceItem]:
    """The values of a document that holds several in sequence."""
    text, start, line = content.decode(errors="replace"), 0, 1
    decoder = json.JSONDecoder()
    while start < len(text):
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            error_line = getattr(error, "lineno", line)
            problem = f"no JSON: {error} (line {error_line} of the file)"
            yield SourceItem(line, text[start:].encode(), problem=problem)
            return
        yield SourceItem(line, text[start:end].encode())
        space = _SPACE.match(text, end)
        end = end if space is None else space.end()
        line += text.count("\n", start, end)
        start = end


def _is_json(content: bytes) -> bool:
    try:
        _VALUE_DECODER.decode(content)
    except (msgspec.DecodeError, RecursionError):
        try:
            loads(content)
        except DecodeError:
            return False
    return True
