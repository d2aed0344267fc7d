"""Files and folders as items: one JSON value, or one recorded stream of events, each with the line it starts on.

Holds which files a folder gives, how a file is laid out (seen from its content, never from its name) and taking it
apart. Leaves out what an item is (`records`).

| layout | seen by | read |
|---|---|---|
| JSON Lines | the first line is JSON by itself | line by line, in bounded memory |
| document | a value over several lines, several such after each other, or a list of values | whole |
| events | server-sent events | one stream at a time: it ends with `[DONE]` or the file |
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
from logprob_store.importing.packed_files import DAMAGED, skip_mark

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".sse", ".txt")
PACKED: Final = ("", ".gz", ".zst")
"""What a folder gives: names that end in one of SUFFIXES, and then one of these."""

UNKNOWN_FORMAT: Final = "unknown_format"
"""The error_type of a whole file that is nothing known."""

_EVENT: Final = re.compile(rb"(?:data|event|id|retry)?:")
_SPACE: Final = re.compile(r"\s*")
_DONE: Final = b"[DONE]"
_EXCERPT: Final = 200
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import; `name` is what its rows say they come from."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """One JSON value as it stands in a file, or one stream of events, or what could not be read.

    `line` counts from 1, `element` from 0 in a list that begins on that line; `unknown` says it of the whole file.
    """

    line: int
    content: bytes
    element: int | None = None
    events: bool = False
    problem: str | None = None
    unknown: bool = False

    @property
    def place(self) -> str:
        """Line and element, as they stand in messages and ids.

        >>> Item(3, b"").place, Item(3, b"", 0).place
        ('3', '3[0]')
        """
        return f"{self.line}" if self.element is None else f"{self.line}[{self.element}]"


def find_sources(paths: Sequence[str | Path]) -> list[Source]:
    """The files at these paths, folders searched to the bottom and sorted; a file that is named twice counts once.

    Raises:
        InputError: a path is not there, a folder has nothing to import, or no path was given.
    """
    found: dict[Path, Source] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _is_named_so(file.name))
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


def is_known(head: bytes) -> bool:
    """Whether a file that starts like this is anything that can be imported.

    >>> is_known(b'{"id": 1}'), is_known(b"data: {}"), is_known(b"name,score"), is_known(b"")
    (True, True, False, True)
    """
    lines = head.split(b"\n")
    return not head.strip() or any(_EVENT.match(line) or line.lstrip()[:1] in (b"{", b"[") for line in lines)


def items_of(reader: io.BufferedReader) -> Iterator[Item]:
    """The items of an opened file, in order; what cannot be read is an item with a `problem`."""
    line = 1
    try:
        skip_mark(reader)
        head = reader.peek(1)
        if not is_known(head):
            yield Item(1, head[:_EXCERPT], problem=f"is no JSON and no stream of events: {excerpt(head)}", unknown=True)
            return
        for item in _layout(head)(reader):
            line = item.line
            yield item
    except DAMAGED as error:
        yield Item(line, b"", problem=f"the file is damaged: {error}")


def _is_named_so(name: str) -> bool:
    return not name.startswith(".") and any(name.lower().endswith(one + two) for one in SUFFIXES for two in PACKED)


def _layout(head: bytes) -> Callable[[io.BufferedReader], Iterator[Item]]:
    """How a file that starts like this is to be taken apart."""
    lines = [line.strip() for line in head.split(b"\n")]
    whole = lines[:-1] or lines  # the last may go on beyond the head
    first, *rest = [line for line in whole if line] or [b""]
    if _EVENT.match(first):
        return _events
    if first[:1] not in (b"{", b"[") or _is_json(first) or len(lines) == 1:
        one_long_list = first[:1] == b"[" and not _is_json(first)
        return _documents if one_long_list else _lines
    # A value printed over several lines goes on with a name or a bracket; a damaged first line does not.
    return _lines if first[:1] == b"{" and rest and rest[0][:1] == b"{" else _documents


def _lines(reader: io.BufferedReader) -> Iterator[Item]:
    for number, line in enumerate(reader, start=1):
        content = line.strip()
        if content.startswith(b"["):
            yield from _listed(number, content)
        elif content:
            yield Item(number, content)


def _events(reader: io.BufferedReader) -> Iterator[Item]:
    held: list[bytes] = []
    first = 1
    for number, line in enumerate(reader, start=1):
        if not held and not line.strip():
            continue
        first = first if held else number
        held.append(line)
        if line.strip().endswith(_DONE) and line.startswith(b"data:"):
            yield Item(first, b"".join(held), events=True)
            held = []
    if any(line.startswith(b"data:") for line in held):
        yield Item(first, b"".join(held), events=True)


def _documents(reader: io.BufferedReader) -> Iterator[Item]:
    """A value that is printed over several lines, several of them after each other, or a list of values."""
    content = reader.read().strip()
    if content.startswith(b"["):
        yield from _listed(1, content)
    elif _is_json(content):
        yield Item(1, content)
    else:
        yield from _one_after_the_other(content)


def _listed(line: int, content: bytes) -> Iterator[Item]:
    try:
        elements = _LIST.decode(content)
    except (msgspec.DecodeError, RecursionError):
        try:
            elements = [msgspec.Raw(json.dumps(element).encode()) for element in loads(content)]
        except DecodeError as error:
            yield Item(line, content, problem=str(error))
            return
    for number, element in enumerate(elements):
        yield Item(line, bytes(element), number)


def _one_after_the_other(content: bytes) -> Iterator[Item]:
    text, at, line = content.decode(errors="replace"), 0, 1
    decoder = json.JSONDecoder()
    while at < len(text):
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            place = getattr(error, "lineno", line)
            yield Item(line, text[at:].encode(), problem=f"no JSON: {error} (line {place} of the file)")
            return
        yield Item(line, text[at:end].encode())
        space = _SPACE.match(text, end)
        end = end if space is None else space.end()
        line += text.count("\n", at, end)
        at = end


def _is_json(content: bytes) -> bool:
    try:
        _ONE.decode(content)
    except (msgspec.DecodeError, RecursionError):
        try:
            loads(content)
        except DecodeError:
            return False
    return True
