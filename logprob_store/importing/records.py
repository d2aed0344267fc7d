"""Records: an answer or a failure from each item of a file, with its prompt's id and its request where these are known.

An item's keys tell its form:

| form | keys |
|---|---|
| fixture of this package | `fixture`, `request` |
| Batch API output | `custom_id` with `response` or `error` |
| Batch API input | `custom_id`, `body` |
| pair | `request` with `response` or `error` |
| piece of a stream | marked as a chunk or an event; consecutive pieces with the same id make one record |
| response | anything else |

What an answer's body holds is read later, in `logprob_store.decode`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import excerpt, loads
from logprob_store.errors import CallError, DecodeError, FixtureError
from logprob_store.importing.known_requests import RecordedRequest, read_request
from logprob_store.importing.raw_json import (
    RawObject,
    begins_stream,
    endpoint_of,
    ends_stream,
    is_piece_of_stream,
    parsed_value,
    prompt_id_of,
    read_object,
    response_id_of_events,
    text_value,
)
from logprob_store.importing.sources import UNKNOWN_FORMAT, SourceItem
from logprob_store.replay.fixtures import read_fixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime


BAD_LINE: Final = "bad_line"
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Record:
    """One answer, or one failure.

    Args:
        place: where it stands in the file: the line, and the element of a list.
        body: the bytes of the response; of a failure, bytes that tell it from other failures.
        source: `batch` or `import`.
        prompt_id: the id that the recording gives the prompt.
        request: the request.
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
    response_id: str | None = None
    endpoint: str = "unknown"
    problem: CallError | None = None
    is_batch_input: bool = False
    recorded_at: datetime | None = None


def read_records(items: Iterable[SourceItem]) -> Iterator[Record]:
    """The records of a file's items, in order; the pieces of a stream, one an item, become one record."""
    pieces: list[tuple[SourceItem, RawObject]] = []
    stream_id: str | None = None
    for item in items:
        raw = None if item.is_events or item.problem else read_object(item.content)
        ends = raw is not None and bool(pieces) and ends_stream(raw, pieces[0][1])
        is_piece = raw is not None and (ends or is_piece_of_stream(raw))
        piece_id = text_value(raw, "id") if raw is not None and is_piece else None
        begins = item.element == 0 or (raw is not None and begins_stream(raw))
        if pieces and (not is_piece or begins or (stream_id and piece_id and piece_id != stream_id)):
            yield _stream_record(pieces, stream_id)
            pieces, stream_id = [], None
        if raw is None or not is_piece:
            yield _record(item, raw)
            continue
        pieces.append((item, raw))
        stream_id = stream_id or piece_id
        if ends:
            yield _stream_record(pieces, stream_id)
            pieces, stream_id = [], None
    if pieces:
        yield _stream_record(pieces, stream_id)


def recorded_error(message: str, *, error_type: str, status: int | None = None) -> CallError:
    """The error of a recorded failure; its number of attempts is 0, because importing makes no calls."""
    error = CallError(message, error_type=error_type, status=status)
    error.attempts = 0
    return error


def _record(item: SourceItem, raw: RawObject | None) -> Record:
    base = Record(item.place, item.content)
    if item.is_events:
        endpoint = "responses" if b'"response.' in item.content else "chat"
        return replace(base, endpoint=endpoint, response_id=response_id_of_events(item.content))
    if raw is None:
        message = item.problem or f"is no JSON object: {excerpt(item.content)}"
        return _bad_line(base, message, UNKNOWN_FORMAT if item.is_unknown_format else BAD_LINE)
    try:
        return _object_record(base, raw)
    except (DecodeError, FixtureError) as error:
        return _bad_line(base, str(error), BAD_LINE)


def _bad_line(base: Record, message: str, error_type: str) -> Record:
    return replace(base, problem=recorded_error(f"line {base.place}: {message}", error_type=error_type))


def _object_record(base: Record, raw: RawObject) -> Record:
    has_outcome = "response" in raw or "error" in raw
    if "fixture" in raw and "request" in raw:
        return _fixture_record(base)
    if "request" in raw and has_outcome:
        request = read_request(parsed_value(raw, "request"))
        return _with_outcome(replace(base, prompt_id=prompt_id_of(raw), request=request), raw)
    if "custom_id" in raw and has_outcome:
        return _with_outcome(replace(base, prompt_id=prompt_id_of(raw), source="batch"), raw)
    if "custom_id" in raw and "body" in raw:
        request = read_request({"url": parsed_value(raw, "url"), "body": parsed_value(raw, "body")})
        return replace(base, prompt_id=prompt_id_of(raw), request=request, is_batch_input=True)
    return _with_body(base, base.body, raw)


def _fixture_record(base: Record) -> Record:
    fixture = read_fixture(base.body, f"line {base.place}")
    request = RecordedRequest(fixture.request, fixture.endpoint, fixture.provider, fixture.key, fixture.sample_index)
    record = replace(base, request=request, recorded_at=fixture.recorded_at)
    if fixture.status not in _SUCCESS:
        return replace(record, problem=_status_error(fixture.status, fixture.body))
    return _with_body(record, fixture.body, read_object(fixture.body))


def _with_outcome(base: Record, raw: RawObject) -> Record:
    """The record with the `response` of a pair or of a Batch API output line, or with the reason why there is none.

    The response is a body, or an object with a status and a `body`.
    """
    body = bytes(raw.get("response", b"null"))
    envelope = read_object(body)
    status = 200
    if envelope is not None and "body" in envelope and "choices" not in envelope:
        value = next((parsed_value(envelope, key) for key in ("status_code", "status") if key in envelope), 200)
        status = value if isinstance(value, int) else 200
        body = bytes(envelope["body"])
    if body.startswith(b'"'):
        body = loads(body).encode(errors="surrogatepass")
    if status not in _SUCCESS:
        return replace(base, problem=_status_error(status, body))
    if body in (b"null", b""):
        return replace(base, problem=_no_response_error(parsed_value(raw, "error")))
    return _with_body(base, body, read_object(body))


def _with_body(base: Record, body: bytes, raw: RawObject | None) -> Record:
    if raw is None:
        return replace(base, body=body, endpoint="chat" if body[:1] == b"[" else "unknown")
    return replace(base, body=body, endpoint=endpoint_of(raw, body), response_id=text_value(raw, "id"))


def _stream_record(pieces: list[tuple[SourceItem, RawObject]], response_id: str | None) -> Record:
    first, _ = pieces[0]
    body = b"[" + b",".join(item.content for item, _ in pieces) + b"]"
    last, raw = pieces[-1]
    return Record(first.place, body, endpoint=endpoint_of(raw, last.content), response_id=response_id)


def _status_error(status: int, body: bytes) -> CallError:
    """The error for a recorded status other than 2xx, with the message and type that a live call would have had."""
    from logprob_store.errors import StopRunError
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
