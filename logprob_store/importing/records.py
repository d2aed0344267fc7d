"""Records: an answer or a failure from each item of a file, with its prompt's id and its request where these are known.

An item is a fixture of this package, an object that one of the `readers` knows, or a response. The pieces of a stream
are one record (`stream_parts`).

What an answer's body holds is read later, in `logprob_store.decode`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import excerpt
from logprob_store.decode.formats.registry import BODIES, STREAMS
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import CallError, DecodeError, FixtureError, StopRunError
from logprob_store.importing.known_requests import RecordedRequest, read_request
from logprob_store.importing.raw_json import RawObject, endpoint_of, read_object, text_value
from logprob_store.importing.readers.langchain_message import as_chunk
from logprob_store.importing.readers.registry import READERS
from logprob_store.importing.sources import UNKNOWN_FORMAT, read_items
from logprob_store.importing.stream_parts import Stream, StreamParts, name_of
from logprob_store.mended_json import unquoted
from logprob_store.replay.fixtures import read_fixture

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from logprob_store.importing.exchanges import Exchange
    from logprob_store.importing.items import SourceItem

BAD_LINE: Final = "bad_line"
_SUCCESS: Final = range(200, 300)
_STATUSES: Final = range(100, 1000)


@dataclass(frozen=True, slots=True)
class Record:
    """One answer, or one failure.

    Args:
        place: where it stands in the file: the line, and the element of a list.
        body: the bytes of the response; of a failure, bytes that tell it from other failures.
        source: `batch` or `import`.
        prompt_id: the id that the recording gives the prompt.
        request: the request.
        prompt: the messages or the text, where they are known though the request is not.
        response_id: the response's own id.
        endpoint: the endpoint, as the body shows it.
        problem: why there is no answer.
        is_batch_input: whether it is a request of a Batch API input file.
        recorded_at: when the answer came.
    """

    place: str
    body: bytes
    source: str = "import"
    prompt_id: str | None = None
    request: RecordedRequest | None = None
    prompt: Any = None
    response_id: str | None = None
    endpoint: str = "unknown"
    problem: CallError | None = None
    is_batch_input: bool = False
    recorded_at: datetime | None = None


def read_records(reader: io.BufferedReader) -> Iterator[Record]:
    """The records of an open file, in order; of mixed streams, in the order of their ends."""
    for item in StreamParts().sort(map(_with_chunk, read_items(reader, is_record))):
        if isinstance(item, Stream):
            yield _stream_record(item)
        else:
            yield from _item_records(item)


def _with_chunk(item: SourceItem) -> SourceItem:
    """The item; a chunk that LangChain dumped as the chunk of chat completions that it was."""
    if item.data is not None or (item.raw is None and b'"AIMessageChunk"' not in item.content):
        return item
    raw = item.raw if item.raw is not None else read_object(item.content)
    chunk = None if raw is None or item.problem is not None else as_chunk(raw)
    return item if chunk is None else item._replace(content=chunk, raw=None)


def is_record(held: Mapping[str, Any]) -> bool:
    """Whether an object with these keys may stand at the top of a file."""
    return (
        ("fixture" in held and "request" in held)
        or any(reader.recognises(held) for reader in READERS)
        or any(form.recognises(held) for form in BODIES)
        or any(form.recognises(held) for form in STREAMS)
    )


def recorded_error(message: str, *, error_type: str, status: int | None = None) -> CallError:
    """The error of a recorded failure; its number of attempts is 0, because importing makes no calls."""
    error = CallError(message, error_type=error_type, status=status)
    error.attempts = 0
    return error


def _item_records(item: SourceItem) -> Iterator[Record]:
    content = item.content if item.data is None else item.data
    base = Record(item.place, content)
    if item.problem is not None:
        yield _bad_line(base, item.problem, UNKNOWN_FORMAT if item.is_unknown_format else BAD_LINE)
        return
    if content.startswith(b"["):  # a list inside a list: a stream, or several samples
        yield replace(base, endpoint="chat")
        return
    raw = item.raw if item.raw is not None else read_object(content)
    if raw is None:
        yield _bad_line(base, f"is no JSON object: {excerpt(content)}", BAD_LINE)
        return
    try:
        yield from _object_records(base, raw)
    except (DecodeError, FixtureError) as error:
        yield _bad_line(base, str(error), BAD_LINE)


def _bad_line(base: Record, message: str, error_type: str) -> Record:
    return replace(base, problem=recorded_error(f"line {base.place}: {message}", error_type=error_type))


def _object_records(base: Record, raw: RawObject) -> Iterator[Record]:
    if "fixture" in raw and "request" in raw:
        yield _fixture_record(base)
        return
    reader = None if "choices" in raw else next((reader for reader in READERS if reader.recognises(raw)), None)
    if reader is None:
        yield _with_body(base, base.body, raw)
        return
    for exchange in reader.read(raw):
        yield _with_exchange(base, exchange)


def _fixture_record(base: Record) -> Record:
    fixture = read_fixture(base.body, f"line {base.place}")
    request = RecordedRequest(fixture.request, fixture.endpoint, fixture.provider, fixture.key, fixture.sample_index)
    record = replace(base, request=request, recorded_at=fixture.recorded_at)
    if fixture.status not in _SUCCESS:
        return replace(record, problem=_status_error(fixture.status, fixture.body))
    return _with_body(record, fixture.body, read_object(fixture.body))


def _with_exchange(base: Record, exchange: Exchange) -> Record:
    """The record of a call: its answer, or the reason why there is none."""
    place = base.place if exchange.element is None else f"{base.place}[{exchange.element}]"
    record = replace(
        base,
        place=place,
        source=exchange.source,
        prompt_id=clean_text(exchange.prompt_id) if exchange.prompt_id else None,
        request=read_request(exchange.request, exchange.url),
        prompt=exchange.prompt,
        is_batch_input=exchange.is_request,
        recorded_at=exchange.recorded_at,
    )
    if exchange.is_request:
        return record
    if exchange.problem is not None:
        error_type, message = exchange.problem
        return replace(record, problem=recorded_error(f"line {place}: {message}", error_type=error_type))
    body = unquoted(exchange.body or b"")
    if exchange.status in _STATUSES and exchange.status not in _SUCCESS:
        words = body if body not in {b"", b"null"} else json.dumps({"error": exchange.error}).encode()
        return replace(record, problem=_status_error(exchange.status, words))
    if not body or body == b"null":
        return replace(record, problem=_no_response_error(exchange.error))
    return _with_body(record, body, read_object(body))


def _with_body(base: Record, body: bytes, raw: RawObject | None) -> Record:
    if raw is None:
        return replace(base, body=body, endpoint="chat" if body[:1] == b"[" else "unknown")
    return replace(base, body=body, endpoint=endpoint_of(raw, body), response_id=text_value(raw, "id"))


def _stream_record(stream: Stream) -> Record:
    raw = next((value for value in reversed(stream.values) if value is not None), {})
    content = stream.items[-1].content if stream.is_done is False else stream.items[0].content
    endpoint = name_of(stream) or endpoint_of(raw, content)
    response_id = None if stream.form is None or name_of(stream) else stream.state.stream_id
    return Record(
        stream.items[0].place,
        stream.body,
        endpoint=endpoint,
        response_id=None if response_id is None else clean_text(response_id),
    )


def _status_error(status: int, body: bytes) -> CallError:
    """The error for a recorded status other than 2xx, with the message and type that a live call would have had."""
    from logprob_store.transport.refusals import error_of_status

    error = error_of_status(status, {}, body)
    error_type = error.reason if isinstance(error, StopRunError) else getattr(error, "error_type", "server_error")
    return recorded_error(str(error), error_type=error_type, status=status)


def _no_response_error(error: Any) -> CallError:
    """The error for a Batch API line without a response: it expired, was cancelled, or failed in the server."""
    fields = error if isinstance(error, dict) else {}
    code = fields.get("code")
    is_name = isinstance(code, str) and code.isascii() and code.isidentifier()
    message = fields.get("message", error)
    return recorded_error(
        f"no response: {message if message is not None else 'and no error says why'}",
        error_type=str(code) if is_name else "no_answer",
    )
