"""Events and lines that were torn, with a whole answer or a further event glued to them on the same line.

A program that is killed leaves half an event, and what it writes when it is started again goes on behind it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats import bare_choice
from logprob_store.decode.formats.registry import BODIES, STREAMS
from logprob_store.importing.readers.registry import READERS
from logprob_store.sse import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.importing.items import SourceItem

_OBJECT: Final = re.compile(r'\{\s*"')
_EVENT: Final = re.compile(r"\s*data:\s*$")
_DECODER: Final = json.JSONDecoder()


def take_apart(item: SourceItem) -> Iterator[SourceItem]:
    """The torn event, and each whole one or answer behind it; the item alone if nothing is glued to it."""
    text = (item.data or b"").decode(errors="surrogateescape")
    found = None if item.data in (None, DONE) else _first_whole(text)
    if found is None:
        yield item
        return
    start, end, value = found
    mark = _EVENT.search(text, 0, start)
    torn = text[: start if mark is None else mark.start()]
    if torn.strip():
        yield _as_event(item, torn)
    is_piece = mark is not None or any(form.describe(value) for form in STREAMS)
    whole = text[start:end].encode(errors="surrogateescape")
    yield _as_event(item, text[start:end]) if is_piece else item._replace(content=whole, data=None)
    if text[end:].strip():
        yield from take_apart(_as_event(item, text[end:]))


def take_line_apart(item: SourceItem) -> Iterator[SourceItem]:
    """A line that is no JSON, and each whole answer behind it; the item alone if nothing is glued to it."""
    text = item.content.decode(errors="surrogateescape")
    found = _first_whole(text)
    if found is None:
        yield item
        return
    start, end, _ = found
    for part in (text[:start], text[start:end]):
        yield item._replace(content=part.encode(errors="surrogateescape"))
    if text[end:].strip():
        yield from take_line_apart(item._replace(content=text[end:].strip().encode(errors="surrogateescape")))


def _first_whole(text: str) -> tuple[int, int, dict[str, Any]] | None:
    """Start, end and value of the first record behind the start of a text, if nothing but further objects follow it."""
    for candidate in _OBJECT.finditer(text, 1):
        try:
            value, end = _DECODER.raw_decode(text, candidate.start())
        except (ValueError, RecursionError):
            continue
        if text[end:].lstrip()[:1] in ("", "{", "d") and holds_record(value):
            return candidate.start(), end, value
    return None


def holds_record(value: dict[str, Any]) -> bool:
    """Whether an object is an answer, a piece of a stream, or one that a reader knows; a part of an answer is none."""
    if bare_choice.recognises(value):
        return False
    return (
        any(form.recognises(value) for form in BODIES)
        or any(form.describe(value) for form in STREAMS)
        or any(reader.recognises(value) for reader in READERS)
    )


def _as_event(item: SourceItem, text: str) -> SourceItem:
    data = text.strip().encode(errors="surrogateescape")
    return item._replace(content=b"data: %b\n\n" % data.removeprefix(b"data:").lstrip(), data=data)
